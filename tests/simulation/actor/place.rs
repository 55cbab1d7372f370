//! Where a delegation stands towards its target (`src/delegation/actor/place.rs`).

use baton::domain::*;

use super::{Actor, Place, Route, Word};
use crate::line::Setback;
use crate::world::World;

impl World {
    /// Takes the place that the state asks for. `tried`: the delegation comes from the target.
    pub(super) fn take_place(&mut self, node: usize, actor: &mut Actor, tried: bool) {
        let Some(target) = actor.terms.target else {
            return;
        };
        if actor.terms.origin != Origin::Delegated || actor.guest {
            return;
        }
        let new = |granted| Place {
            target,
            ticket: Ticket::of(&actor.terms),
            granted,
        };
        match (&actor.life.state, &mut actor.place) {
            (State::Pending, Some(_)) => {}
            (State::Pending, None) => {
                let place = new(false);
                self.wait_in_line(node, actor.number, &place, None);
                actor.place = Some(place);
            }
            (State::Queued(wait), Some(place)) if !wait.is_handed_over() => {
                if tried {
                    place.granted = false;
                    let setback = setback(*wait).unwrap_or(Setback::Own(wait.until));
                    self.step_back(node, place, setback);
                }
            }
            (State::Queued(wait), None) if !wait.is_handed_over() => {
                let place = new(false);
                self.wait_in_line(node, actor.number, &place, setback(*wait));
                actor.place = Some(place);
            }
            (State::Working(_) | State::Stuck(_) | State::InputRequired(_), place) => {
                if !place.as_ref().is_some_and(|place| place.granted) {
                    let place = new(true);
                    let before = actor.place.take();
                    self.leave(node, before);
                    self.occupy(node, actor.number, &place);
                    actor.place = Some(place);
                }
            }
            (State::Queued(_) | State::Ended(_), place) => {
                let place = place.take();
                self.leave(node, place);
            }
        }
    }

    pub(super) fn seek_way(&mut self, node: usize, actor: &mut Actor) {
        let turn = actor.place.as_ref().is_some_and(|place| place.granted);
        let sends = match &actor.life.state {
            State::Pending => true,
            State::Queued(wait) => !wait.is_handed_over(),
            _ => false,
        };
        if !turn || !sends || actor.seeking || actor.way.is_some() {
            return;
        }
        actor.seeking = true;
        let found = self.find_way(&actor.terms);
        if let (Some(cap), Some(target)) = (self.cap_of(&actor.terms), actor.terms.target) {
            self.set_cap(node, target, cap);
        }
        let key = actor.key().clone();
        self.word_soon(node, &key, actor.number, Word::Way(found));
    }

    pub(super) fn found_way(
        &mut self,
        node: usize,
        actor: &mut Actor,
        found: Result<Route, Unready>,
    ) {
        actor.seeking = false;
        let event = match found {
            Ok(route) => {
                actor.way = Some(route);
                Event::SlotGranted
            }
            Err(unready) => {
                let why = match unready {
                    Unready::NoAddress => Some(Hindrance::NoAddress),
                    Unready::Offline => Some(Hindrance::Offline),
                    _ => None,
                };
                if let (Some(place), Some(why)) = (&mut actor.place, why) {
                    place.granted = false;
                    let dice = self.dice.fraction();
                    let until = self.now.plus(self.policy.retry.slow_delay(dice));
                    self.step_back(node, place, Setback::All(why, until));
                }
                Event::TargetUnready(unready)
            }
        };
        self.learn(node, actor, event);
    }
}

/// What waiting after a try means for the others in the line; none when it does not follow from a try.
fn setback(wait: Wait) -> Option<Setback> {
    match wait.waiting_for {
        _ if wait.trouble.is_none() => None,
        WaitingFor::Busy => Some(Setback::All(Hindrance::Busy, wait.until)),
        WaitingFor::Unreachable => Some(Setback::All(Hindrance::Unreachable, wait.until)),
        WaitingFor::Redelivery => Some(Setback::Own(wait.until)),
        _ => None,
    }
}
