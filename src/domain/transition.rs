//! The life of a delegation: one pure function, total over states and events.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Attempt, Decision, Effect, Ended, Ending, ErrorClass, Event, Ignored, LateResult, Life, Moment,
    Origin, Outcome, Phase, Question, Redelivery, Report, RetryPolicy, Settled, State, Step, Terms,
    Timestamp, Unready, Wait, WaitingFor, WorkPhase, Working,
};

/// What is the same for every delegation of a process.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Policy {
    /// How to wait between tries.
    pub retry: RetryPolicy,
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
        Event::Restored {
            call_in_flight,
            target_deduplicates,
        } => context.restored(*call_in_flight, *target_deduplicates),
        Event::Reported(report) => context.reported(report),
        Event::Elapsed => context.elapsed(),
        Event::Abandoned { detail } => context.abandoned(detail),
    }
}

/// When [`Event::Elapsed`] will next mean something; never, once ended.
#[must_use]
pub fn next_due(policy: &Policy, terms: &Terms, life: &Life) -> Option<Timestamp> {
    let due = match &life.state {
        State::Ended(_) => return None,
        State::Working(working) => working.heard_at.plus(policy.stuck_after),
        State::Queued(wait) => wait.until,
        State::Pending | State::InputRequired(_) | State::Stuck(_) => terms.deadline,
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
            State::Pending => self.send(),
            State::Queued(wait) if wait.until <= self.moment.now => self.send(),
            State::Queued(_) => Decision::Ignored(Ignored::NotDue),
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) => {
                Decision::Ignored(Ignored::NotApplicable)
            }
            State::Ended(_) => Decision::Ignored(Ignored::AlreadyEnded),
        }
    }

    fn send(&self) -> Decision {
        let attempt = self.life.attempt.next();
        let working = Working {
            phase: Phase::Dispatched,
            heard_at: self.moment.now,
        };
        Decision::Advance(Step {
            life: Life {
                attempt,
                state: State::Working(working),
            },
            effect: Some(Effect::Send { attempt }),
        })
    }

    fn target_unready(&self, unready: Unready) -> Decision {
        let waiting_for = match unready {
            Unready::NoAddress => WaitingFor::Address,
            Unready::Polls => WaitingFor::Poll,
            Unready::AtCapacity => WaitingFor::Capacity,
            Unready::Removed => {
                return match &self.life.state {
                    State::Pending | State::Queued(_) => self.fail(
                        ErrorClass::TargetRemoved,
                        "the target workspace was removed",
                    ),
                    State::Working(_) | State::InputRequired(_) | State::Stuck(_) => {
                        Decision::Ignored(Ignored::NotApplicable)
                    }
                    State::Ended(_) => Decision::Ignored(Ignored::AlreadyEnded),
                };
            }
        };
        match &self.life.state {
            State::Pending | State::Queued(_) => {
                self.wait(waiting_for, self.policy.retry.slow_delay(self.moment.dice))
            }
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) => {
                Decision::Ignored(Ignored::NotApplicable)
            }
            State::Ended(_) => Decision::Ignored(Ignored::AlreadyEnded),
        }
    }

    fn called(&self, attempt: Attempt, outcome: &Outcome) -> Decision {
        match &self.life.state {
            State::Ended(ended) => self.called_late(ended, outcome),
            State::Pending | State::Queued(_) => Decision::Ignored(Ignored::StaleAttempt),
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) => {
                if attempt == self.life.attempt {
                    self.called_in_time(outcome)
                } else {
                    Decision::Ignored(Ignored::StaleAttempt)
                }
            }
        }
    }

    fn called_in_time(&self, outcome: &Outcome) -> Decision {
        let retry = &self.policy.retry;
        let dice = self.moment.dice;
        match outcome {
            Outcome::Answered { text } => self.end(Ending::Completed {
                text: Arc::clone(text),
            }),
            Outcome::Refused { class, detail } | Outcome::Malformed { class, detail } => {
                self.fail(*class, detail)
            }
            Outcome::NotDelivered { .. } => self.wait(
                WaitingFor::Unreachable,
                retry.delay(self.life.attempt.0, dice),
            ),
            Outcome::DeliveredUnknown {
                class,
                detail,
                target_deduplicates,
            } => self.unknown(*class, detail, *target_deduplicates),
            Outcome::Busy { retry_after } => self.wait(
                WaitingFor::Busy,
                retry.delay_after(*retry_after, self.life.attempt.0, dice),
            ),
            Outcome::TargetQueued => self.wait(WaitingFor::TargetQueue, Duration::MAX),
            Outcome::NonFinal { task, phase } => {
                let task = task.clone();
                let state = match phase {
                    WorkPhase::Submitted => self.working(Phase::Received { task }),
                    WorkPhase::Working => self.working(Phase::InProgress { task }),
                    WorkPhase::InputRequired { text } => State::InputRequired(Box::new(Question {
                        task,
                        text: Arc::clone(text),
                    })),
                };
                self.rest(state)
            }
        }
    }

    /// Rule 7: the first answer that comes too late is kept, unless it only repeats the recorded one.
    fn called_late(&self, ended: &Ended, outcome: &Outcome) -> Decision {
        let Outcome::Answered { text } = outcome else {
            return Decision::Ignored(Ignored::AlreadyEnded);
        };
        let repeats =
            matches!(&ended.ending, Ending::Completed { text: recorded } if recorded == text);
        if repeats || ended.late.is_some() {
            return Decision::Ignored(Ignored::AlreadyEnded);
        }
        let late = Some(LateResult {
            text: Arc::clone(text),
            at: self.moment.now,
        });
        self.rest(State::Ended(Box::new(Ended {
            late,
            ..ended.clone()
        })))
    }

    /// Rule 6: what may have reached the target is never blindly sent twice.
    fn unknown(&self, class: ErrorClass, detail: &Arc<str>, target_deduplicates: bool) -> Decision {
        let resend = match self.terms.redelivery {
            Redelivery::Never => false,
            Redelivery::IfIdempotent => target_deduplicates,
            Redelivery::Always => true,
        };
        if resend {
            let delay = self
                .policy
                .retry
                .delay(self.life.attempt.0, self.moment.dice);
            self.wait(WaitingFor::Redelivery, delay)
        } else {
            self.fail(class, detail)
        }
    }

    fn restored(&self, call_in_flight: bool, target_deduplicates: bool) -> Decision {
        match &self.life.state {
            State::Working(working) | State::Stuck(working) => {
                let unanswered =
                    working.phase == Phase::Dispatched && self.terms.origin == Origin::Delegated;
                if call_in_flight || !unanswered {
                    return Decision::Ignored(Ignored::NotApplicable);
                }
                let detail: Arc<str> = "the service restarted while the target was working, and the target gave no task to ask for".into();
                self.unknown(ErrorClass::OutcomeUnknown, &detail, target_deduplicates)
            }
            State::Pending | State::Queued(_) | State::InputRequired(_) => {
                Decision::Ignored(Ignored::NotApplicable)
            }
            State::Ended(_) => Decision::Ignored(Ignored::AlreadyEnded),
        }
    }

    fn reported(&self, report: &Report) -> Decision {
        match &self.life.state {
            State::Ended(ended) => Decision::Settled(settle(&ended.ending, report)),
            State::Pending
            | State::Working(_)
            | State::Queued(_)
            | State::InputRequired(_)
            | State::Stuck(_) => match report {
                Report::Completed { text } => self.end(Ending::Completed {
                    text: Arc::clone(text),
                }),
                Report::Failed { detail } if detail.trim().is_empty() => {
                    self.fail(ErrorClass::Reported, "reported as failed, without a reason")
                }
                Report::Failed { detail } => self.fail(ErrorClass::Reported, detail),
            },
        }
    }

    fn elapsed(&self) -> Decision {
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
        match &self.life.state {
            State::Working(working) if now >= working.heard_at.plus(self.policy.stuck_after) => {
                self.rest(State::Stuck(working.clone()))
            }
            State::Pending
            | State::Working(_)
            | State::Queued(_)
            | State::InputRequired(_)
            | State::Stuck(_)
            | State::Ended(_) => Decision::Ignored(Ignored::NotDue),
        }
    }

    fn abandoned(&self, detail: &Arc<str>) -> Decision {
        match &self.life.state {
            State::Ended(_) => Decision::Ignored(Ignored::AlreadyEnded),
            State::Pending
            | State::Working(_)
            | State::Queued(_)
            | State::InputRequired(_)
            | State::Stuck(_) => self.fail(ErrorClass::Internal, detail),
        }
    }

    const fn working(&self, phase: Phase) -> State {
        State::Working(Working {
            phase,
            heard_at: self.moment.now,
        })
    }

    fn wait(&self, waiting_for: WaitingFor, delay: Duration) -> Decision {
        let until = self.moment.now.plus(delay).min(self.terms.deadline);
        self.rest(State::Queued(Wait { waiting_for, until }))
    }

    fn fail(&self, class: ErrorClass, detail: &str) -> Decision {
        self.end(Ending::Failed {
            class,
            detail: detail.into(),
        })
    }

    fn end(&self, ending: Ending) -> Decision {
        self.rest(State::Ended(Box::new(Ended {
            ending,
            at: self.moment.now,
            late: None,
        })))
    }

    const fn rest(&self, state: State) -> Decision {
        Decision::Advance(Step {
            life: Life {
                attempt: self.life.attempt,
                state,
            },
            effect: None,
        })
    }
}

fn settle(recorded: &Ending, report: &Report) -> Settled {
    let same = match (recorded, report) {
        (Ending::Completed { .. }, Report::Completed { .. })
        | (Ending::Failed { .. }, Report::Failed { .. }) => true,
        (Ending::Completed { .. }, Report::Failed { .. })
        | (Ending::Failed { .. }, Report::Completed { .. })
        | (Ending::Cancelled { .. }, Report::Completed { .. } | Report::Failed { .. }) => false,
    };
    if same {
        Settled::Repeat(recorded.clone())
    } else {
        Settled::Contradiction(recorded.clone())
    }
}
