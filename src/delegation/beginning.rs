//! What a delegation holds while its beginning is committed, so that it can be sent as soon as it is.
//!
//! Where nothing stands in the way, the beginning and the first change, that it is sent, are one commit instead of two.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::calls::{Calls, Expected};
use super::effects::{Route, Runtime, Way};
use super::lines::Seat;
use crate::clock;
use crate::domain::{
    Accept, Advance, Decision, Effect, Event, Incarnation, Life, Origin, Revision, State, Step,
    Ticket, WorkspaceId, advanced_feed, is_news, transition,
};

/// All of it is given back when it is dropped: the beginning may be refused, or turn out to have happened before.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// Its place with the target or, when it is not sent at once, before it; none when Baton does not send it.
    pub(super) seat: Option<Seat>,
    /// How it is sent, when that is part of its beginning.
    pub(super) sending: Option<Sending>,
}

/// What is done once it is durable.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) step: Step,
    pub(super) way: Way,
    /// Until it is called.
    pub(super) expected: Expected,
}

impl Beginning {
    /// The revision of what was sent at once, and was not changed since.
    pub(super) const SENT: Revision = Revision(2);

    /// What is stored of a delegation that began in `state`.
    pub(super) fn stored(&self, state: State) -> (Life, Revision) {
        match &self.sending {
            Some(sending) => (sending.step.life.clone(), Self::SENT),
            None => (Life::new(state), Revision(1)),
        }
    }
}

impl Runtime {
    /// Takes the place of a delegation that begins, and makes its first change part of its beginning when it can be sent
    /// at once: its target is known and can be called, nobody is before it, and a place among the outbound calls is free.
    pub(super) fn prepare(&self, accept: &mut Accept) -> Beginning {
        let terms = &accept.delegation.terms;
        let Some(target) = terms.target.filter(|_| terms.origin == Origin::Delegated) else {
            return Beginning::default();
        };
        // Before it is looked at whether calls are still made: whoever waits for the last one waits for this.
        let expected = Calls::expect(&self.registry);
        let way = self.way_at_once(target);
        let ready = way.and_then(|way| Some((way, self.first_step(accept)?)));
        let cap = ready.as_ref().map(|((_, cap), _)| *cap);
        let (seat, goes) = Seat::beginning(&self.lines, target, Ticket::of(terms), cap);
        let sending = ready.filter(|_| goes).map(|((way, _), (step, change))| {
            accept.sent = Some(change);
            Sending {
                step,
                way,
                expected,
            }
        });
        Beginning {
            seat: Some(seat),
            sending,
        }
    }

    /// The way to a target, and how many tasks it takes at once, unless anything must be waited for.
    fn way_at_once(&self, target: WorkspaceId) -> Option<(Way, i32)> {
        let sends = !self.registry.sends_no_more.load(Ordering::Acquire);
        if !sends || !self.persistence.is_writing() {
            return None;
        }
        let target = self.store.known_seat(target)?;
        let route = Route::to(&target, &self.secrets).ok()?;
        let permit = Arc::clone(&self.outbound).try_acquire_owned().ok()?;
        Some(((permit, route), target.max_concurrent_tasks))
    }

    /// What becomes of a delegation as it begins, once its turn has come.
    fn first_step(&self, accept: &Accept) -> Option<(Step, Advance)> {
        let terms = &accept.delegation.terms;
        let pending = Life::new(accept.delegation.state.clone());
        let moment = clock::moment(self.hearing_since());
        let event = Event::SlotGranted;
        let decision = transition(&self.policy, terms, &pending, &event, moment);
        let Decision::Advance(step) = decision else {
            return None;
        };
        if !matches!(step.effect, Some(Effect::Send { .. })) {
            return None;
        }
        let sent = Advance {
            key: terms.key.clone(),
            revision: Beginning::SENT,
            incarnation: Incarnation::default(),
            told: is_news(&pending, &step.life),
            feed: advanced_feed(terms, &pending, &step.life, self.push_replies, moment.now),
            life: step.life.clone(),
            at: moment.now,
            raw_reply: None,
        };
        Some((step, sent))
    }
}
