//! Every shape of a life, and everything that can happen to it.

use super::*;

/// One of each shape that a life can have; attempt 2 where there was one.
pub(super) fn lives() -> Vec<(&'static str, Life)> {
    let working = |phase| Working::new(phase, START);
    let silent = || Phase::Dispatched { trouble: None };
    let second = |state| Life {
        attempt: Attempt(2),
        state,
    };
    vec![
        ("pending", Life::new(State::Pending)),
        ("dispatched", second(State::Working(working(silent())))),
        (
            "received",
            second(State::Working(working(Phase::Received {
                task: Some(task()),
            }))),
        ),
        (
            "in_progress",
            second(State::Working(working(Phase::InProgress {
                task: Some(task()),
            }))),
        ),
        (
            "queued",
            second(State::Queued(Wait {
                waiting_for: WaitingFor::Unreachable,
                until: at(30).now,
                trouble: Some(Trouble {
                    failures: 1,
                    since: START,
                }),
            })),
        ),
        (
            "queued at target",
            second(State::Queued(Wait {
                waiting_for: WaitingFor::Poll,
                until: delegated().deadline,
                trouble: None,
            })),
        ),
        (
            "input_required",
            second(State::InputRequired(Box::new(Question {
                task: Some(task()),
                text: text("?"),
            }))),
        ),
        ("stuck", second(State::Stuck(working(silent())))),
        (
            "completed",
            second(ended(Ending::Completed { text: text("done") })),
        ),
        (
            "failed",
            second(ended(Ending::Failed {
                class: ErrorClass::Refused,
                detail: text("no"),
            })),
        ),
        (
            "cancelled",
            second(ended(Ending::Cancelled {
                reason: text("enough"),
            })),
        ),
    ]
}

pub(super) fn called(attempt: u32, outcome: Outcome) -> Event {
    Event::Called {
        attempt: Attempt(attempt),
        outcome,
    }
}

pub(super) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let unknown = |target_deduplicates| Outcome::DeliveredUnknown {
        class: ErrorClass::OutcomeUnknown,
        detail: text("cut"),
        target_deduplicates,
    };
    let non_final = |phase| Outcome::NonFinal {
        task: Some(task()),
        phase,
    };
    vec![
        (
            "answered",
            Outcome::Answered {
                text: text("answer"),
            },
        ),
        (
            "refused",
            Outcome::Refused {
                class: ErrorClass::Refused,
                detail: text("no"),
            },
        ),
        (
            "not delivered",
            Outcome::NotDelivered {
                detail: text("refused"),
            },
        ),
        ("unknown", unknown(false)),
        ("unknown, deduplicates", unknown(true)),
        ("busy", Outcome::Busy { retry_after: None }),
        (
            "busy for 30 s",
            Outcome::Busy {
                retry_after: Some(Duration::from_secs(30)),
            },
        ),
        ("target queued", Outcome::TargetQueued),
        ("submitted", non_final(WorkPhase::Submitted)),
        ("working", non_final(WorkPhase::Working)),
        (
            "asks",
            non_final(WorkPhase::InputRequired { text: text("?") }),
        ),
        (
            "malformed",
            Outcome::Malformed {
                class: ErrorClass::MalformedResponse,
                detail: text("html"),
            },
        ),
    ]
}

/// What a target may say of its task.
fn asked() -> Vec<(&'static str, Event)> {
    let event = |outcome| Event::Asked {
        attempt: Attempt(2),
        outcome,
        target_deduplicates: false,
    };
    let detail = || text("?");
    let told = |name: &str| {
        let outcome = outcomes().into_iter().find(|(other, _)| *other == name);
        event(AskOutcome::Told(outcome.unwrap().1))
    };
    vec![
        ("answered", told("answered")),
        ("refused", told("refused")),
        ("submitted", told("submitted")),
        ("working", told("working")),
        ("asks", told("asks")),
        (
            "no such task",
            event(AskOutcome::NoSuchTask { detail: detail() }),
        ),
        (
            "unsupported",
            event(AskOutcome::Unsupported { detail: detail() }),
        ),
        (
            "later",
            event(AskOutcome::Later {
                retry_after: None,
                detail: detail(),
            }),
        ),
    ]
}

/// What Baton does, and time.
fn own_events() -> Vec<(String, Event)> {
    vec![
        ("slot granted".to_owned(), Event::SlotGranted),
        (
            "restored".to_owned(),
            Event::Restored {
                call_in_flight: false,
                target_deduplicates: false,
            },
        ),
        (
            "restored, deduplicates".to_owned(),
            Event::Restored {
                call_in_flight: false,
                target_deduplicates: true,
            },
        ),
        (
            "restored, call in flight".to_owned(),
            Event::Restored {
                call_in_flight: true,
                target_deduplicates: false,
            },
        ),
        (
            "reported completed".to_owned(),
            Event::Reported(Report::Completed {
                text: text("report"),
            }),
        ),
        (
            "reported failed".to_owned(),
            Event::Reported(Report::Failed {
                detail: text("broke"),
            }),
        ),
        (
            "reported failed, no reason".to_owned(),
            Event::Reported(Report::Failed { detail: text(" ") }),
        ),
        (
            "elapsed".to_owned(),
            Event::Elapsed {
                target_heard_at: None,
            },
        ),
        (
            "elapsed, target alive".to_owned(),
            Event::Elapsed {
                target_heard_at: Some(at(100).now),
            },
        ),
        (
            "abandoned".to_owned(),
            Event::Abandoned {
                detail: text("died"),
            },
        ),
    ]
}

/// What a party says of its own accord.
fn said() -> Vec<(String, Event)> {
    vec![
        (
            "target heartbeat".to_owned(),
            Event::Heard {
                by_target: true,
                progress: Progress::default(),
            },
        ),
        (
            "caller heartbeat".to_owned(),
            Event::Heard {
                by_target: false,
                progress: Progress::default(),
            },
        ),
        ("fetched".to_owned(), Event::Fetched),
        (
            "input".to_owned(),
            Event::InputGiven {
                answer: Said::words("!"),
            },
        ),
        (
            "cancel".to_owned(),
            Event::Cancelled {
                reason: text("enough"),
            },
        ),
        (
            "drop".to_owned(),
            Event::Dropped {
                detail: text("stale"),
            },
        ),
    ]
}

/// What a target tells while a call goes on.
fn underway(attempt: u32) -> [(&'static str, Event); 3] {
    let attempt = Attempt(attempt);
    let progressed = |message| Event::Progressed { attempt, message };
    let artifact = Product {
        artifact: Json::from_text("{}"),
        append: false,
        last_chunk: false,
    };
    [
        ("lives", progressed(None)),
        ("says", progressed(Some(text("half way")))),
        ("produced", Event::Produced { attempt, artifact }),
    ]
}

/// Every event, the calls of the present attempt and of an older one.
pub(super) fn events() -> Vec<(String, Event)> {
    let mut events = own_events();
    events.extend(said());
    for (name, event) in underway(2) {
        events.push((format!("call goes on: {name}"), event));
    }
    for (name, event) in underway(1) {
        events.push((format!("call before goes on: {name}"), event));
    }
    for unready in [
        Unready::NoAddress,
        Unready::Polls,
        Unready::AtCapacity,
        Unready::Busy,
        Unready::Unreachable,
        Unready::BreakerOpen,
        Unready::Offline,
        Unready::Removed,
    ] {
        events.push((
            format!("target unready: {unready:?}"),
            Event::TargetUnready(unready),
        ));
    }
    for (name, outcome) in outcomes() {
        events.push((format!("called: {name}"), called(2, outcome.clone())));
        events.push((format!("called before: {name}"), called(1, outcome)));
    }
    for (name, outcome) in asked() {
        events.push((format!("asked: {name}"), outcome));
    }
    events
}
