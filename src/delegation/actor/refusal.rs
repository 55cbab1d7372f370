//! What the database will not take.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::{Committing, DelegationActor, answer};
use crate::clock;
use crate::domain::{Decision, Ending, ErrorClass, Event, State, advanced_feed};
use crate::persistence;
use crate::telemetry::{Effect as Promise, Progress, count};

/// The first wait before a change that the database refused is handed over again; doubles up to [`RESUBMIT_CAP`].
const RESUBMIT_BASE: Duration = Duration::from_millis(200);
/// The longest such wait.
const RESUBMIT_CAP: Duration = Duration::from_secs(10);

impl DelegationActor {
    /// The database refused this very change: it is handed over again until it is taken, for an ending must not get
    /// lost; whoever waits for it is told to come back.
    pub(super) fn refused(
        &mut self,
        mut committing: Box<Committing>,
        error: persistence::Error,
        context: &mut Context<Self>,
    ) {
        if committing.step.life.status().is_terminal() {
            count(Promise::Ending, Progress::Failed, 1);
        }
        answer(committing.reply.take(), Err(error.into()));
        self.give_up_at_deadline(&mut committing);
        committing.refusals = committing.refusals.saturating_add(1);
        let delay = RESUBMIT_BASE
            .saturating_mul(1 << committing.refusals.min(10))
            .min(RESUBMIT_CAP);
        self.committing = Some(committing);
        context.run_later(delay, |actor, context| actor.submit(context));
    }

    /// Rule 8: what the database will not take must not keep a delegation alive beyond its deadline. An ending of
    /// Baton's own words takes its place.
    fn give_up_at_deadline(&self, committing: &mut Committing) {
        let now = clock::now();
        let own = matches!(&committing.step.life.state, State::Ended(ended)
            if matches!(&ended.ending, Ending::Failed { class: ErrorClass::Internal, .. }));
        if now < self.terms.deadline || own || matches!(self.life.state, State::Ended(_)) {
            return;
        }
        let detail = "the database refused what was to be recorded, until the deadline passed";
        let moment = clock::moment(self.runtime.hearing_since());
        let abandoned = Event::Abandoned {
            detail: detail.into(),
        };
        if let Decision::Advance(step) = self.decide(&abandoned, moment) {
            let (life, push) = (&step.life, self.runtime.push_replies);
            let advance = Arc::make_mut(&mut committing.advance);
            advance.feed = advanced_feed(&self.terms, &self.life, life, push, now);
            advance.life = life.clone();
            advance.told = true;
            advance.raw_reply = None;
            advance.at = now;
            committing.step = step;
        }
    }
}
