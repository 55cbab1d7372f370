//! Where a delegation stands towards its target: in its line, on the way to it, or with it.

use std::sync::Arc;

use actix::prelude::*;

use super::DelegationActor;
use crate::clock;
use crate::delegation::lines::{Seat, Setback, hindrance};
use crate::delegation::messages::FromLine;
use crate::domain::{Event, Hindrance, Origin, State, Ticket, Unready, Wait, WaitingFor};

/// A held place.
#[derive(Debug)]
pub(super) struct Place {
    seat: Seat,
    /// Whether it is this delegation's turn, or it is with the target.
    granted: bool,
}

impl DelegationActor {
    /// Takes the place that the state asks for. `tried`: the delegation comes from the target. Without an address the
    /// place is only reserved.
    pub(super) fn take_place(&mut self, tried: bool, actor: Option<Addr<Self>>) {
        let Some(target) = self
            .terms
            .target
            .filter(|_| self.terms.origin == Origin::Delegated && !self.is_guest)
        else {
            return;
        };
        let lines = &self.runtime.lines;
        let ticket = || Ticket::of(&self.terms);
        match &self.life.state {
            State::Pending => {
                if self.place.is_none() {
                    let seat = Seat::waiting(lines, target, ticket(), actor, None);
                    self.place = Some(Place::in_line(seat));
                }
            }
            State::Queued(wait) if !wait.is_handed_over() => match &mut self.place {
                // It may have been given its turn while it was committed that it waits.
                Some(_) if !tried => {}
                Some(place) => {
                    place.step_back(setback(*wait).unwrap_or(Setback::Own(wait.until)));
                }
                None => {
                    let seat = Seat::waiting(lines, target, ticket(), actor, setback(*wait));
                    self.place = Some(Place::in_line(seat));
                }
            },
            State::Working(_) | State::Stuck(_) | State::InputRequired(_) => {
                if !self.place.as_ref().is_some_and(|place| place.granted) {
                    // What stood in line leaves it first.
                    self.place = None;
                    let seat = Seat::working(lines, target, ticket(), actor);
                    self.place = Some(Place::with_target(seat));
                }
            }
            State::Queued(_) | State::Ended(_) => self.place = None,
        }
    }

    /// Asks for a place among the outbound calls and for the target's address, once it is this delegation's turn.
    pub(super) fn seek_way(&mut self, context: &mut Context<Self>) {
        let turn = self.place.as_ref().is_some_and(|place| place.granted);
        let sends = match &self.life.state {
            State::Pending => true,
            State::Queued(wait) => !wait.is_handed_over(),
            State::Working(_) | State::InputRequired(_) | State::Stuck(_) | State::Ended(_) => {
                false
            }
        };
        if !turn || !sends || self.seeking_way || self.way.is_some() {
            return;
        }
        self.seeking_way = true;
        let (runtime, terms) = (Arc::clone(&self.runtime), Arc::clone(&self.terms));
        let seek = async move {
            let found = runtime.find_way(&terms).await;
            let polled = matches!(found, Err(Unready::Polls));
            let task = if polled {
                Some(runtime.task(&terms).await)
            } else {
                None
            };
            (found, task)
        };
        context.spawn(seek.into_actor(self).map(|(found, task), actor, context| {
            actor.seeking_way = false;
            actor.poll_task = task;
            let event = match found {
                Ok(way) => {
                    actor.way = Some(way);
                    Event::SlotGranted
                }
                Err(unready) => {
                    actor.turn_back(unready);
                    Event::TargetUnready(unready)
                }
            };
            actor.learn(event, context);
        }));
    }

    /// The turn came to nothing: what hinders this one hinders all.
    fn turn_back(&mut self, unready: Unready) {
        let (Some(place), Some(why)) = (&mut self.place, hindrance(unready)) else {
            return;
        };
        let delay = self.runtime.policy.retry.slow_delay(rand::random());
        place.step_back(Setback::All(why, clock::now().plus(delay)));
    }
}

impl Place {
    /// Whoever reserved it has an address now.
    pub(super) fn attach(&self, actor: Addr<DelegationActor>) {
        self.seat.attach(actor);
    }

    /// It is on its way to the target.
    pub(super) fn sent(&self) {
        self.seat.sent();
    }

    /// The target said something.
    pub(super) fn spoke(&self) {
        self.seat.spoke();
    }

    pub(super) const fn in_line(seat: Seat) -> Self {
        let granted = false;
        Self { seat, granted }
    }

    pub(super) const fn with_target(seat: Seat) -> Self {
        let granted = true;
        Self { seat, granted }
    }

    /// Goes back into the line after a try that came to nothing.
    fn step_back(&mut self, setback: Setback) {
        self.granted = false;
        self.seat.step_back(setback);
    }
}

/// What waiting after a try means for the others in the line; none when it does not follow from a try.
const fn setback(wait: Wait) -> Option<Setback> {
    match wait.waiting_for {
        _ if wait.trouble.is_none() => None,
        WaitingFor::Busy => Some(Setback::All(Hindrance::Busy, wait.until)),
        WaitingFor::Unreachable => Some(Setback::All(Hindrance::Unreachable, wait.until)),
        WaitingFor::Redelivery => Some(Setback::Own(wait.until)),
        WaitingFor::Address
        | WaitingFor::Capacity
        | WaitingFor::Offline
        | WaitingFor::Breaker
        | WaitingFor::TargetQueue
        | WaitingFor::Poll => None,
    }
}

impl Handler<FromLine> for DelegationActor {
    type Result = ();

    fn handle(&mut self, word: FromLine, context: &mut Self::Context) {
        match word {
            FromLine::Granted => {
                if let Some(place) = &mut self.place {
                    place.granted = true;
                }
                self.proceed(context);
            }
            FromLine::Behind(why) => {
                let waits = matches!(self.life.state, State::Pending);
                if waits && self.place.as_ref().is_some_and(|place| !place.granted) {
                    self.learn(Event::TargetUnready(why), context);
                }
            }
            FromLine::TargetStirred => {
                if matches!(self.life.state, State::Stuck(_)) {
                    self.look_at_silence(context);
                }
            }
        }
    }
}
