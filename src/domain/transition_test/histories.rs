//! What holds in every history, however odd.

use proptest::prelude::*;

use super::*;

fn any_event() -> impl Strategy<Value = Event> {
    let attempt = 0u32..5;
    let any_outcome = proptest::sample::select(outcomes());
    prop_oneof![
        3 => Just(Event::SlotGranted),
        4 => (attempt, any_outcome).prop_map(|(attempt, (_, outcome))| called(attempt, outcome)),
        2 => proptest::sample::select(events()).prop_map(|(_, event)| event),
        2 => Just(Event::Elapsed { target_heard_at: None }),
    ]
}

/// Nothing leaves but what is durable, under a number of its own.
fn check_effect(before: &Life, event: &Event, life: &Life, effect: Option<&Effect>, terms: &Terms) {
    if let Some(Effect::CancelRemote { task }) = effect {
        assert_eq!(before.task(), Some(task), "only what it named itself");
        assert!(life.status().is_terminal());
    }
    if let Some(Effect::Continue { answer, .. }) = effect {
        let State::Working(working) = &life.state else {
            panic!("{life:?}")
        };
        let kept = working.input.as_ref().map(|input| &input.answer);
        assert_eq!(kept, Some(answer), "an input is durable before it leaves");
        assert_eq!(terms.origin, Origin::Delegated);
    } else if let Some(Effect::Send { attempt }) = effect {
        assert_eq!(
            *attempt,
            before.attempt.next(),
            "each call has a number of its own"
        );
        assert_eq!(
            life.status(),
            Status::Dispatched,
            "nothing is sent but from a durable dispatched"
        );
        assert_eq!(terms.origin, Origin::Delegated);
        assert_eq!(*event, Event::SlotGranted);
    } else {
        let polled = matches!(event, Event::TargetUnready(Unready::Polls));
        let attempt = if polled {
            before.attempt.next()
        } else {
            before.attempt
        };
        assert_eq!(life.attempt, attempt);
    }
}

/// What must hold between any two lives, whatever happened.
fn check_step(before: &Life, event: &Event, decision: &Decision, terms: &Terms) {
    match decision {
        Decision::Advance(Step { life, effect }) => {
            assert!(
                !before.status().is_terminal() || life.status() == before.status(),
                "the first ending wins"
            );
            assert!(life.attempt >= before.attempt, "attempts only grow");
            check_effect(before, event, life, effect.as_ref(), terms);
            if life.status() == Status::Completed && before.status() != Status::Completed {
                let positive = matches!(
                    event,
                    Event::Called {
                        outcome: Outcome::Answered { .. },
                        ..
                    } | Event::Asked {
                        outcome: AskOutcome::Told(Outcome::Answered { .. }),
                        ..
                    } | Event::Reported(Report::Completed { .. })
                );
                assert!(positive, "only an answer completes, not {event:?}");
            }
            if let Event::Called { attempt, .. }
            | Event::Asked { attempt, .. }
            | Event::Progressed { attempt, .. }
            | Event::Produced { attempt, .. } = event
            {
                assert!(
                    *attempt == before.attempt || before.status().is_terminal(),
                    "a stale attempt moves nothing"
                );
            }
        }
        Decision::Settled(_) => {
            let by_a_party = matches!(
                event,
                Event::Reported(_)
                    | Event::Heard { .. }
                    | Event::InputGiven { .. }
                    | Event::Cancelled { .. }
            );
            assert!(before.status().is_terminal() && by_a_party);
        }
        Decision::Ignored(Ignored::AlreadyEnded) => assert!(before.status().is_terminal()),
        Decision::Ignored(_) => assert!(!before.status().is_terminal()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Any sequence of events, each possibly repeated, in any order, at any time: the rules hold at every step, at most
    /// one ending is reached, and what is told of it does not depend on what comes after.
    #[test]
    fn no_sequence_of_events_breaks_a_rule(
        sequence in proptest::collection::vec((any_event(), 0u64..500, 1usize..3), 1..40),
        redelivery in proptest::sample::select(Redelivery::ALL),
    ) {
        let terms = terms(redelivery, Origin::Delegated);
        let mut life = Life::new(State::Pending);
        let mut seconds = 0;
        let mut replies = 0;
        for (event, pause, repeats) in sequence {
            seconds += pause;
            for _ in 0..repeats {
                let moment = at(seconds);
                let decision = transition(&policy(), &terms, &life, &event, moment);
                check_step(&life, &event, &decision, &terms);
                if let Decision::Advance(step) = decision {
                    let feed = advanced_feed(&terms, &life, &step.life, true, moment.now);
                    let ends = step.life.status().is_terminal() && !life.status().is_terminal();
                    prop_assert_eq!(feed.rows.len(), usize::from(ends));
                    prop_assert_eq!(feed.reply.is_some(), ends);
                    replies += usize::from(feed.reply.is_some());
                    life = step.life;
                }
                match next_due(&policy(), &terms, &life, START) {
                    Some(due) => prop_assert!(due <= terms.deadline, "every wait has an end"),
                    None => prop_assert!(life.status().is_terminal()),
                }
            }
        }
        let decision = transition(&policy(), &terms, &life, &Event::Elapsed { target_heard_at: None }, at(3600));
        if let Decision::Advance(step) = decision {
            prop_assert!(step.life.status().is_terminal());
            replies += 1;
        }
        prop_assert_eq!(replies, 1, "exactly one ending by the deadline");
    }
}
