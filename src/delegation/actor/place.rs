//! Where a delegation stands towards its target: in its line, on the way to it, or with it.

use std::cmp::Reverse;
use std::sync::Arc;

use actix::prelude::*;

use super::DelegationActor;
use crate::clock;
use crate::delegation::lines::{Seat, hindrance};
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
    /// Takes the place that the state asks for. `heard`: the target just said something.
    pub(super) fn take_place(&mut self, heard: bool, context: &mut Context<Self>) {
        if let Some(place) = &self.place
            && heard
        {
            place.seat.spoke();
        }
        let Some(target) = self
            .terms
            .target
            .filter(|_| self.terms.origin == Origin::Delegated && !self.is_guest)
        else {
            return;
        };
        let lines = &self.runtime.lines;
        let ticket = || Ticket {
            priority: Reverse(self.terms.priority),
            since: self.terms.created_at,
            key: self.terms.key.clone(),
        };
        match &self.life.state {
            State::Pending => {
                if self.place.is_none() {
                    let (actor, now) = (context.address(), clock::now());
                    let seat = Seat::waiting(lines, target, ticket(), actor, now);
                    let granted = false;
                    self.place = Some(Place { seat, granted });
                }
            }
            State::Queued(wait) if !wait.is_handed_over() => {
                let wait = *wait;
                if let Some(place) = &mut self.place {
                    place.step_back(wait);
                } else {
                    let until = if is_own(wait) {
                        wait.until
                    } else {
                        clock::now()
                    };
                    let seat = Seat::waiting(lines, target, ticket(), context.address(), until);
                    let granted = false;
                    self.place = Some(Place { seat, granted });
                }
            }
            State::Working(_) | State::Stuck(_) | State::InputRequired(_) => {
                if !self.place.as_ref().is_some_and(|place| place.granted) {
                    // What stood in line leaves it first.
                    self.place = None;
                    let seat = Seat::working(lines, target, ticket(), context.address());
                    let granted = true;
                    self.place = Some(Place { seat, granted });
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
        place.granted = false;
        place.seat.failed(why, clock::now().plus(delay));
    }
}

impl Place {
    /// Goes back into the line after a try that came to nothing, unless it stands there already.
    fn step_back(&mut self, wait: Wait) {
        if !self.granted {
            return;
        }
        self.granted = false;
        match wait.waiting_for {
            WaitingFor::Busy => self.seat.failed(Hindrance::Busy, wait.until),
            WaitingFor::Unreachable => self.seat.failed(Hindrance::Unreachable, wait.until),
            WaitingFor::Redelivery
            | WaitingFor::Address
            | WaitingFor::Capacity
            | WaitingFor::Offline
            | WaitingFor::Breaker
            | WaitingFor::TargetQueue
            | WaitingFor::Poll => self.seat.rest(wait.until),
        }
    }
}

/// Whether the instant follows from this delegation's own tries, and is not the end of every wait.
const fn is_own(wait: Wait) -> bool {
    let tried = matches!(
        wait.waiting_for,
        WaitingFor::Busy | WaitingFor::Unreachable | WaitingFor::Redelivery
    );
    tried && wait.trouble.is_some()
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
