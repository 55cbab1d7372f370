//! What the target tells of its work while a call goes on. Where it stands, it says as in an answer: see `target`.

use std::sync::Arc;

use super::Context;
use crate::domain::{Attempt, Decision, Ignored, Progress, State, Working};

impl Context<'_> {
    /// It says something, or only shows that it lives: which is worth a commit when silence would soon be counted.
    pub(super) fn progressed(&self, attempt: Attempt, message: Option<&Arc<str>>) -> Decision {
        if let Some(ignored) = self.ignored(attempt) {
            return Decision::Ignored(ignored);
        }
        let (State::Working(working) | State::Stuck(working)) = &self.life.state else {
            return Decision::Ignored(Ignored::NothingNew);
        };
        let known = working.progress.as_ref();
        let says_new = message
            .is_some_and(|message| known.and_then(|known| known.message.as_ref()) != Some(message));
        let soon = working.heard_at.plus(self.policy.stuck_after / 4);
        let was_stuck = matches!(self.life.state, State::Stuck(_));
        if !says_new && !was_stuck && self.moment.now < soon {
            return Decision::Ignored(Ignored::NothingNew);
        }
        let progress = message.map(|message| Progress {
            message: Some(Arc::clone(message)),
            percent: known.and_then(|known| known.percent),
        });
        self.rest(State::Working(Working {
            heard_at: self.moment.now,
            progress: progress.or_else(|| known.cloned()),
            ..working.clone()
        }))
    }

    /// It made something: that is always worth a commit, which carries what it made.
    pub(super) fn produced(&self, attempt: Attempt) -> Decision {
        if let Some(ignored) = self.ignored(attempt) {
            return Decision::Ignored(ignored);
        }
        self.rest(match &self.life.state {
            State::Working(working) | State::Stuck(working) => State::Working(Working {
                heard_at: self.moment.now,
                ..working.clone()
            }),
            // The question stays.
            other => other.clone(),
        })
    }

    /// Why word of a call that goes on means nothing, if it does.
    fn ignored(&self, attempt: Attempt) -> Option<Ignored> {
        match &self.life.state {
            State::Ended(_) => Some(Ignored::AlreadyEnded),
            State::Pending | State::Queued(_) => Some(Ignored::StaleAttempt),
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) => {
                (attempt != self.life.attempt).then_some(Ignored::StaleAttempt)
            }
        }
    }
}
