//! What the caller, the target and an operator say of their own accord.

use std::sync::Arc;

use super::{Context, advance};
use crate::domain::{
    Decision, Effect, Ending, ErrorClass, Input, Origin, Phase, Progress, Report, Said, Settled,
    State, Working,
};

impl Context<'_> {
    pub(super) fn reported(&self, report: &Report) -> Decision {
        if let State::Ended(ended) = &self.life.state {
            return Decision::Settled(settle(&ended.ending, report));
        }
        match report {
            Report::Completed { text } => self.end(Ending::Completed {
                text: Arc::clone(text),
            }),
            Report::Failed { detail } if detail.trim().is_empty() => {
                self.fail(ErrorClass::Reported, "reported as failed, without a reason")
            }
            Report::Failed { detail } => self.fail(ErrorClass::Reported, detail),
        }
    }

    /// A heartbeat (product.md). The target's own word also shows that it has what Baton believes to be waiting, so
    /// that it is not sent once more; a caller can only know of work that was sent.
    pub(super) fn heard(&self, by_target: bool, progress: &Progress) -> Decision {
        let (phase, before) = match &self.life.state {
            State::Ended(ended) => {
                return Decision::Settled(Settled::Contradiction(ended.ending.clone()));
            }
            // Only the target's own word shows that it has the work.
            State::Working(working) | State::Stuck(working) => {
                let silent = matches!(working.phase, Phase::Dispatched { .. });
                let works = by_target || !silent || self.terms.origin != Origin::Delegated;
                let task = working.phase.task().cloned();
                let in_progress = Phase::InProgress { task };
                let phase = if works {
                    in_progress
                } else {
                    working.phase.clone()
                };
                (phase, Some(working))
            }
            State::Queued(_) if by_target && self.life.attempt.0 > 0 => {
                (Phase::InProgress { task: None }, None)
            }
            State::Pending | State::Queued(_) | State::InputRequired(_) => {
                return self.not_applicable();
            }
        };
        let said = progress.message.is_some() || progress.percent.is_some();
        let kept = before.and_then(|working| working.progress.clone());
        self.rest(State::Working(Working {
            phase,
            heard_at: self.moment.now,
            progress: if said { Some(progress.clone()) } else { kept },
            input: before.and_then(|working| working.input.clone()),
        }))
    }

    pub(super) fn fetched(&self) -> Decision {
        match &self.life.state {
            State::Queued(wait) if wait.is_handed_over() => {
                let phase = Phase::Received { task: None };
                self.rest(State::Working(Working::new(phase, self.moment.now)))
            }
            State::Pending
            | State::Queued(_)
            | State::Working(_)
            | State::InputRequired(_)
            | State::Stuck(_)
            | State::Ended(_) => self.not_applicable(),
        }
    }

    pub(super) fn input_given(&self, answer: &Said) -> Decision {
        let question = match &self.life.state {
            State::InputRequired(question) => question,
            State::Ended(ended) => {
                return Decision::Settled(Settled::Contradiction(ended.ending.clone()));
            }
            State::Pending | State::Queued(_) | State::Working(_) | State::Stuck(_) => {
                return self.not_applicable();
            }
        };
        let attempt = self.life.attempt.next();
        let task = question.task.clone();
        let effect = Effect::Continue {
            attempt,
            task: task.clone(),
            answer: Box::new(answer.clone()),
        };
        let working = Working {
            input: Some(Input {
                question: Arc::clone(&question.text),
                answer: Box::new(answer.clone()),
            }),
            ..Working::new(Phase::InProgress { task }, self.moment.now)
        };
        advance(attempt, State::Working(working), Some(effect))
    }

    pub(super) fn cancelled(&self, reason: &Arc<str>) -> Decision {
        let State::Ended(ended) = &self.life.state else {
            return self.end(Ending::Cancelled {
                reason: Arc::clone(reason),
            });
        };
        let recorded = ended.ending.clone();
        Decision::Settled(match recorded {
            Ending::Cancelled { .. } => Settled::Repeat(recorded),
            Ending::Completed { .. } | Ending::Failed { .. } => Settled::Contradiction(recorded),
        })
    }

    pub(super) fn dropped(&self, detail: &Arc<str>) -> Decision {
        match &self.life.state {
            State::Pending | State::Queued(_) => self.fail(ErrorClass::Dropped, detail),
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) | State::Ended(_) => {
                self.not_applicable()
            }
        }
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
