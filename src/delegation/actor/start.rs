//! How an actor comes to its delegation.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::place::Place;
use super::{DelegationActor, Fresh, Start};
use crate::delegation::beginning::{Beginning, Sending};
use crate::domain::{Event, Origin, Outcome, State};

/// How long the actor of an ended delegation waits for what it was rebuilt for.
const ENDED_LINGER: Duration = Duration::from_secs(2);

impl DelegationActor {
    /// What an actor must find out that comes to a delegation which another left behind.
    pub(super) fn begin(&mut self, start: Start, context: &mut Context<Self>) {
        let event = match start {
            Start::Fresh(fresh) => return self.begin_fresh(*fresh, context),
            Start::Unsent => Event::Called {
                attempt: self.life.attempt,
                outcome: Outcome::NotDelivered {
                    detail: "the database broke off before it could be sent".into(),
                },
            },
            Start::GivenUp(detail) => Event::Abandoned { detail },
            Start::Restored | Start::Guest
                if self.is_guest || matches!(self.life.state, State::Ended(_)) =>
            {
                // Somebody has something to tell: be there for it.
                context.run_later(ENDED_LINGER, Self::proceed);
                return;
            }
            Start::Restored | Start::Guest => {
                let (runtime, terms) = (Arc::clone(&self.runtime), Arc::clone(&self.terms));
                let works = matches!(self.life.state, State::Working(_) | State::Stuck(_));
                if !works || self.life.task().is_some() || terms.origin != Origin::Delegated {
                    return self.proceed(context);
                }
                let call_in_flight = self.runtime.is_calling(&terms.key, self.life.attempt);
                let look = async move { runtime.target_deduplicates(&terms).await };
                context.wait(look.into_actor(self).map(
                    move |target_deduplicates, actor, context| {
                        let event = Event::Restored {
                            call_in_flight,
                            target_deduplicates,
                        };
                        actor.learn(event, context);
                    },
                ));
                return;
            }
        };
        self.learn(event, context);
    }

    fn begin_fresh(&mut self, fresh: Fresh, context: &mut Context<Self>) {
        let Fresh { task, beginning } = fresh;
        if self.terms.origin == Origin::Delegated {
            self.task = Some(task);
        }
        match beginning {
            Beginning {
                seat: Some(seat),
                sending: Some(sending),
            } => {
                seat.attach(context.address());
                self.place = Some(Place::with_target(seat));
                let Sending {
                    step,
                    way,
                    expected,
                } = sending;
                self.way = Some(way);
                self.act(step.effect);
                drop(expected);
            }
            Beginning {
                seat: Some(seat), ..
            } => {
                seat.enter(context.address());
                self.place = Some(Place::in_line(seat));
            }
            Beginning { seat: None, .. } => {}
        }
        self.proceed(context);
    }
}
