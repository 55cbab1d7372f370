//! What the target's answers mean, to a call and to a question after its task.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, advance};
use crate::domain::{
    AskOutcome, Attempt, Decision, Effect, Ended, Ending, ErrorClass, Ignored, LateResult, Outcome,
    Phase, Question, RemoteTaskId, State, Trouble, WaitingFor, WorkPhase, Working, sanitize,
};

/// How long the target may go on asking, as if it had not got the caller's answer, before that is sent again.
const INPUT_AGAIN_AFTER: Duration = Duration::from_secs(30);

impl Context<'_> {
    pub(super) fn called(&self, attempt: Attempt, outcome: &Outcome) -> Decision {
        match &self.life.state {
            State::Ended(ended) => self.called_late(ended, outcome),
            State::Pending | State::Queued(_) => Decision::Ignored(Ignored::StaleAttempt),
            State::Working(_) | State::InputRequired(_) | State::Stuck(_)
                if attempt != self.life.attempt =>
            {
                Decision::Ignored(Ignored::StaleAttempt)
            }
            // The target has the task: that a call failed is an echo, or says nothing that asking after it will not.
            State::InputRequired(_) if leaves_open(outcome) => {
                Decision::Ignored(Ignored::NothingNew)
            }
            State::Working(working) | State::Stuck(working)
                if has_spoken(working) && leaves_open(outcome) =>
            {
                Decision::Ignored(Ignored::NothingNew)
            }
            State::Working(working) | State::Stuck(working) if working.input.is_some() => {
                self.continued(working, outcome)
            }
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) => self.told(outcome),
        }
    }

    fn told(&self, outcome: &Outcome) -> Decision {
        let retry = &self.policy.retry;
        let dice = self.moment.dice;
        match outcome {
            Outcome::Answered { text } => self.end(Ending::Completed {
                text: Arc::clone(text),
            }),
            Outcome::Refused { class, detail } | Outcome::Malformed { class, detail } => {
                self.fail(*class, detail)
            }
            Outcome::NotDelivered { detail } => self.not_delivered(detail),
            Outcome::DeliveredUnknown {
                class,
                detail,
                target_deduplicates,
            } => self.unknown(*class, detail, *target_deduplicates),
            Outcome::Busy { retry_after } => {
                let failures = self.another_failure().failures;
                let delay = retry.delay_after(*retry_after, failures, dice);
                // Busy is a sign of life: the time of trying begins anew, the back-off does not.
                let since = self.moment.now;
                let trouble = Some(Trouble { failures, since });
                self.rest(self.waiting(WaitingFor::Busy, delay, trouble))
            }
            Outcome::TargetQueued => {
                self.rest(self.waiting(WaitingFor::TargetQueue, Duration::MAX, None))
            }
            Outcome::NonFinal { task, phase } => self.under_way(task.as_ref(), phase),
        }
    }

    fn not_delivered(&self, detail: &Arc<str>) -> Decision {
        let trouble = self.another_failure();
        if self.is_exhausted(trouble) {
            let failures = trouble.failures;
            let detail = format!("gave up after {failures} tries in a row: {detail}");
            return self.fail(ErrorClass::Exhausted, &detail);
        }
        let delay = self.policy.retry.delay(trouble.failures, self.moment.dice);
        self.try_again(WaitingFor::Unreachable, delay, trouble)
    }

    /// The target works. It never goes back from working to merely having it, and keeps the name that it gave.
    fn under_way(&self, task: Option<&RemoteTaskId>, phase: &WorkPhase) -> Decision {
        let task = task.or(self.life.task()).cloned();
        let works = matches!(
            &self.life.state,
            State::Working(Working {
                phase: Phase::InProgress { .. },
                ..
            })
        );
        let phase = match phase {
            WorkPhase::Submitted if !works => Phase::Received { task },
            WorkPhase::Submitted | WorkPhase::Working => Phase::InProgress { task },
            WorkPhase::InputRequired { text } => {
                let text = Arc::clone(text);
                return self.rest(State::InputRequired(Box::new(Question { task, text })));
            }
        };
        let working = Working::new(phase, self.moment.now);
        self.rest(State::Working(working))
    }

    /// What came of sending the caller's answer for a question without a task: only a try that never arrived may be
    /// repeated, and by the caller.
    fn continued(&self, working: &Working, outcome: &Outcome) -> Decision {
        match (&working.input, outcome) {
            // To begin the task once more would not answer the question.
            (Some(_), Outcome::DeliveredUnknown { class, detail, .. }) => self.fail(*class, detail),
            (Some(input), Outcome::NotDelivered { .. } | Outcome::Busy { .. }) => {
                let text = Arc::clone(&input.question);
                self.rest(State::InputRequired(Box::new(Question {
                    task: None,
                    text,
                })))
            }
            _ => self.told(outcome),
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

    pub(super) fn asked(
        &self,
        attempt: Attempt,
        outcome: &AskOutcome,
        target_deduplicates: bool,
    ) -> Decision {
        let working = match &self.life.state {
            State::Ended(ended) => {
                return match outcome {
                    AskOutcome::Told(outcome) => self.called_late(ended, outcome),
                    AskOutcome::NoSuchTask { .. }
                    | AskOutcome::Unsupported { .. }
                    | AskOutcome::Later { .. } => Decision::Ignored(Ignored::AlreadyEnded),
                };
            }
            State::Pending | State::Queued(_) => {
                return Decision::Ignored(Ignored::StaleAttempt);
            }
            State::Working(_) | State::Stuck(_) | State::InputRequired(_)
                if attempt != self.life.attempt =>
            {
                return Decision::Ignored(Ignored::StaleAttempt);
            }
            State::InputRequired(_) => None,
            State::Working(working) | State::Stuck(working) => Some(working),
        };
        match (outcome, working) {
            (AskOutcome::Told(Outcome::NonFinal { phase, .. }), Some(working)) => {
                self.still_working(working, phase)
            }
            // It asks; that it asks the same again is no news, and no reason to ask the caller again.
            (AskOutcome::Told(Outcome::NonFinal { phase, .. }), None) => match phase {
                WorkPhase::InputRequired { .. } => Decision::Ignored(Ignored::NothingNew),
                WorkPhase::Submitted | WorkPhase::Working => self.under_way(None, phase),
            },
            (AskOutcome::Told(outcome), _) => self.told(outcome),
            (AskOutcome::NoSuchTask { detail }, _) => {
                let detail = format!("the target does not know its task any more: {detail}");
                self.unknown(
                    ErrorClass::OutcomeUnknown,
                    &detail.into(),
                    target_deduplicates,
                )
            }
            (AskOutcome::Unsupported { .. } | AskOutcome::Later { .. }, _) => {
                Decision::Ignored(Ignored::NothingNew)
            }
        }
    }

    /// That it works on is worth a commit only when silence would soon be counted, or when something else changes.
    fn still_working(&self, working: &Working, phase: &WorkPhase) -> Decision {
        let now = self.moment.now;
        if let (WorkPhase::InputRequired { text }, Some(input)) = (phase, &working.input)
            && sanitize(text) == sanitize(&input.question)
        {
            if now < working.heard_at.plus(INPUT_AGAIN_AFTER) {
                return Decision::Ignored(Ignored::NothingNew);
            }
            let effect = Effect::Continue {
                attempt: self.life.attempt,
                task: working.phase.task().cloned(),
                answer: input.answer.clone(),
            };
            let heard = Working {
                heard_at: now,
                ..working.clone()
            };
            return advance(self.life.attempt, State::Working(heard), Some(effect));
        }
        let same = working.input.is_none()
            && matches!(self.life.state, State::Working(_))
            && matches!(
                (&working.phase, phase),
                (
                    Phase::InProgress { .. },
                    WorkPhase::Submitted | WorkPhase::Working
                ) | (Phase::Received { .. }, WorkPhase::Submitted)
            );
        if same && now < working.heard_at.plus(self.policy.stuck_after / 4) {
            return Decision::Ignored(Ignored::NothingNew);
        }
        match self.under_way(None, phase) {
            Decision::Advance(mut step) => {
                if let State::Working(heard) = &mut step.life.state {
                    heard.progress.clone_from(&working.progress);
                }
                Decision::Advance(step)
            }
            other => other,
        }
    }
}

/// Whether the target showed that it has the work: it named a task, or spoke of its own accord, and so will again.
const fn has_spoken(working: &Working) -> bool {
    match &working.phase {
        Phase::Dispatched { .. } => false,
        Phase::Received { task } | Phase::InProgress { task } => {
            task.is_some() || working.input.is_none()
        }
    }
}

/// Whether a call left open what became of the request.
const fn leaves_open(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::NotDelivered { .. }
            | Outcome::DeliveredUnknown { .. }
            | Outcome::Busy { .. }
            | Outcome::TargetQueued
    )
}
