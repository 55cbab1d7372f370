//! The life of a delegation: one pure function, total over states and events.
//!
//! Here is what Baton itself does and what time does; `target` holds what the target's answers mean, `underway` what it
//! tells before them, and `parties` what the caller, the target and an operator say of their own accord.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Attempt, Decision, Effect, Ended, Ending, ErrorClass, Event, Ignored, Life, Moment, Origin,
    Phase, Redelivery, RetryPolicy, State, Step, Terms, Timestamp, Trouble, Unready, Wait,
    WaitingFor, Working,
};

mod parties;
mod target;
mod underway;

/// What is the same for every delegation of a process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Policy {
    /// How to wait between tries.
    pub retry: RetryPolicy,
    /// How long a target that cannot be reached is tried, counted from the first failure.
    pub give_up_after: Duration,
    /// Silence before `stuck`.
    pub stuck_after: Duration,
}

/// Decides what `event` means for the delegation of `terms` that stands at `life`.
#[must_use]
pub fn transition(
    policy: &Policy,
    terms: &Terms,
    life: &Life,
    event: &Event,
    moment: Moment,
) -> Decision {
    let context = Context {
        policy,
        terms,
        life,
        moment,
    };
    match event {
        Event::SlotGranted => context.slot_granted(),
        Event::TargetUnready(unready) => context.target_unready(*unready),
        Event::Called { attempt, outcome } => context.called(*attempt, outcome),
        Event::Progressed { attempt, message } => context.progressed(*attempt, message.as_ref()),
        Event::Produced { attempt, .. } => context.produced(*attempt),
        Event::Asked {
            attempt,
            outcome,
            target_deduplicates,
        } => context.asked(*attempt, outcome, *target_deduplicates),
        Event::Restored {
            call_in_flight,
            target_deduplicates,
        } => context.restored(*call_in_flight, *target_deduplicates),
        Event::Reported(report) => context.reported(report),
        Event::Heard {
            by_target,
            progress,
        } => context.heard(*by_target, progress),
        Event::Fetched => context.fetched(),
        Event::InputGiven { answer } => context.input_given(answer),
        Event::Cancelled { reason } => context.cancelled(reason),
        Event::Dropped { detail } => context.dropped(detail),
        Event::Elapsed { target_heard_at } => context.elapsed(*target_heard_at),
        Event::Abandoned { detail } => context.abandoned(detail),
    }
}

/// When [`Event::Elapsed`] will next mean something; never, once ended. `hearing_since` as in [`Moment`].
#[must_use]
pub fn next_due(
    policy: &Policy,
    terms: &Terms,
    life: &Life,
    hearing_since: Timestamp,
) -> Option<Timestamp> {
    let due = match &life.state {
        State::Ended(_) => return None,
        State::Working(working) => working.heard_at.max(hearing_since).plus(policy.stuck_after),
        State::Pending | State::Queued(_) | State::InputRequired(_) | State::Stuck(_) => {
            terms.deadline
        }
    };
    Some(due.min(terms.deadline))
}

struct Context<'a> {
    policy: &'a Policy,
    terms: &'a Terms,
    life: &'a Life,
    moment: Moment,
}

impl Context<'_> {
    fn slot_granted(&self) -> Decision {
        match &self.life.state {
            State::Pending => self.send(None),
            State::Queued(wait) if !wait.is_handed_over() => self.send(wait.trouble),
            State::Queued(_)
            | State::Working(_)
            | State::InputRequired(_)
            | State::Stuck(_)
            | State::Ended(_) => self.not_applicable(),
        }
    }

    fn send(&self, trouble: Option<Trouble>) -> Decision {
        let attempt = self.life.attempt.next();
        let working = Working::new(Phase::Dispatched { trouble }, self.moment.now);
        let effect = Some(Effect::Send { attempt });
        advance(attempt, State::Working(working), effect)
    }

    fn target_unready(&self, unready: Unready) -> Decision {
        let trouble = match &self.life.state {
            State::Pending => None,
            // What only changes the reason of waiting is not worth a commit.
            State::Queued(wait) if !wait.is_handed_over() => wait.trouble,
            // Whoever has it may be gone; the work itself cannot be asked for any more.
            State::Queued(_) if unready == Unready::Removed => None,
            State::Queued(_)
            | State::Working(_)
            | State::InputRequired(_)
            | State::Stuck(_)
            | State::Ended(_) => return self.not_applicable(),
        };
        let waiting_for = match unready {
            Unready::Removed => {
                return self.fail(
                    ErrorClass::TargetRemoved,
                    "the target workspace was removed",
                );
            }
            // It is put into the target's inbox by this very commit: a try of its own.
            Unready::Polls => {
                let state = self.waiting(WaitingFor::Poll, Duration::MAX, None);
                return advance(self.life.attempt.next(), state, None);
            }
            Unready::NoAddress => WaitingFor::Address,
            Unready::AtCapacity => WaitingFor::Capacity,
            Unready::Busy => WaitingFor::Busy,
            Unready::Unreachable => WaitingFor::Unreachable,
            Unready::BreakerOpen => WaitingFor::Breaker,
            Unready::Offline => WaitingFor::Offline,
        };
        if matches!(&self.life.state, State::Queued(wait) if wait.waiting_for == waiting_for) {
            return Decision::Ignored(Ignored::NothingNew);
        }
        self.rest(self.waiting(waiting_for, Duration::MAX, trouble))
    }

    /// Rule 6: what may have reached the target is never blindly sent twice.
    fn unknown(&self, class: ErrorClass, detail: &Arc<str>, target_deduplicates: bool) -> Decision {
        let trouble = self.another_failure();
        if self.may_resend(target_deduplicates) && !self.is_exhausted(trouble) {
            let delay = self.policy.retry.delay(trouble.failures, self.moment.dice);
            self.try_again(WaitingFor::Redelivery, delay, trouble)
        } else {
            self.fail(class, detail)
        }
    }

    const fn may_resend(&self, target_deduplicates: bool) -> bool {
        match self.terms.redelivery {
            Redelivery::Never => false,
            Redelivery::IfIdempotent => target_deduplicates,
            Redelivery::Always => true,
        }
    }

    fn restored(&self, call_in_flight: bool, target_deduplicates: bool) -> Decision {
        let (State::Working(working) | State::Stuck(working)) = &self.life.state else {
            return self.not_applicable();
        };
        let unanswered = match working.phase {
            Phase::Dispatched { .. } => self.terms.origin == Origin::Delegated,
            Phase::Received { .. } | Phase::InProgress { .. } => {
                working.input.is_some() && working.phase.task().is_none()
            }
        };
        if call_in_flight || !unanswered {
            return self.not_applicable();
        }
        // To begin the task once more would not answer a question.
        if working.input.is_none() && self.may_resend(target_deduplicates) {
            // Baton failed, not the target: that counts against nobody.
            let trouble = self.trouble();
            let delay = self.policy.retry.delay(1, self.moment.dice);
            return self.rest(self.waiting(WaitingFor::Redelivery, delay, trouble));
        }
        self.fail(
            ErrorClass::OutcomeUnknown,
            "the service restarted while the target was working, and the target gave no task to ask for",
        )
    }

    fn elapsed(&self, target_heard_at: Option<Timestamp>) -> Decision {
        let now = self.moment.now;
        if let State::Ended(_) = &self.life.state {
            return Decision::Ignored(Ignored::AlreadyEnded);
        }
        if now >= self.terms.deadline {
            return self.fail(
                ErrorClass::Deadline,
                "the deadline passed before the target answered",
            );
        }
        let (State::Working(working) | State::Stuck(working)) = &self.life.state else {
            return Decision::Ignored(Ignored::NotDue);
        };
        let heard_at = working.heard_at.max(target_heard_at.unwrap_or_default());
        let silent_since = heard_at.max(self.moment.hearing_since);
        let is_silent = now >= silent_since.plus(self.policy.stuck_after);
        let was_stuck = matches!(self.life.state, State::Stuck(_));
        if !is_silent && heard_at > working.heard_at {
            let heard = Working {
                heard_at,
                ..working.clone()
            };
            self.rest(State::Working(heard))
        } else if is_silent && !was_stuck {
            self.rest(State::Stuck(working.clone()))
        } else {
            Decision::Ignored(Ignored::NotDue)
        }
    }

    fn abandoned(&self, detail: &Arc<str>) -> Decision {
        if let State::Ended(_) = &self.life.state {
            return Decision::Ignored(Ignored::AlreadyEnded);
        }
        self.fail(ErrorClass::Internal, detail)
    }

    /// The trouble so far with one failure more. Before the first, and while Baton itself could not hear, no time counts.
    fn another_failure(&self) -> Trouble {
        let Moment {
            now, hearing_since, ..
        } = self.moment;
        let before = self.trouble();
        Trouble {
            failures: before
                .map_or(0, |trouble| trouble.failures)
                .saturating_add(1),
            since: before.map_or(now, |trouble| trouble.since.max(hearing_since).min(now)),
        }
    }

    const fn trouble(&self) -> Option<Trouble> {
        match &self.life.state {
            State::Working(working) | State::Stuck(working) => match working.phase {
                Phase::Dispatched { trouble } => trouble,
                Phase::Received { .. } | Phase::InProgress { .. } => None,
            },
            State::Queued(wait) => wait.trouble,
            State::Pending | State::InputRequired(_) | State::Ended(_) => None,
        }
    }

    fn is_exhausted(&self, trouble: Trouble) -> bool {
        self.moment.now >= trouble.since.plus(self.policy.give_up_after)
    }

    /// Waits after a try that came to nothing; the last try is made when trying ends.
    fn try_again(&self, waiting_for: WaitingFor, delay: Duration, trouble: Trouble) -> Decision {
        let end = trouble.since.plus(self.policy.give_up_after);
        let left = end.since(self.moment.now);
        self.rest(self.waiting(waiting_for, delay.min(left), Some(trouble)))
    }

    fn waiting(&self, waiting_for: WaitingFor, delay: Duration, trouble: Option<Trouble>) -> State {
        let until = self.moment.now.plus(delay).min(self.terms.deadline);
        State::Queued(Wait {
            waiting_for,
            until,
            trouble,
        })
    }

    fn fail(&self, class: ErrorClass, detail: &str) -> Decision {
        self.end(Ending::Failed {
            class,
            detail: detail.into(),
        })
    }

    /// Ends it. What the target goes on with, unless it ended the work itself, it is told to leave.
    fn end(&self, ending: Ending) -> Decision {
        let unwanted = match &ending {
            Ending::Cancelled { .. } => true,
            Ending::Failed { class, .. } => {
                matches!(class, ErrorClass::Deadline | ErrorClass::Internal)
            }
            Ending::Completed { .. } => false,
        };
        let task = self.life.task().filter(|_| unwanted).cloned();
        let ended = State::Ended(Box::new(Ended {
            ending,
            at: self.moment.now,
            late: None,
        }));
        let effect = task.map(|task| Effect::CancelRemote { task });
        advance(self.life.attempt, ended, effect)
    }

    fn rest(&self, state: State) -> Decision {
        advance(self.life.attempt, state, None)
    }

    fn not_applicable(&self) -> Decision {
        Decision::Ignored(match &self.life.state {
            State::Ended(_) => Ignored::AlreadyEnded,
            State::Pending
            | State::Working(_)
            | State::Queued(_)
            | State::InputRequired(_)
            | State::Stuck(_) => Ignored::NotApplicable,
        })
    }
}

fn advance(attempt: Attempt, state: State, effect: Option<Effect>) -> Decision {
    let life = Life { attempt, state };
    Decision::Advance(Step { life, effect })
}
