//! The lines of a node (`src/delegation/lines.rs`): who stands in them, and who is told.

use std::collections::BTreeMap;

use baton::domain::*;

use crate::actor::{Place, Word};
use crate::node::Local;
use crate::world::World;

/// A line, with the numbers of the actors that stand in it.
#[derive(Default)]
pub(crate) struct Staffed {
    line: Line,
    actors: BTreeMap<Ticket, u64>,
    alarm: Option<Timestamp>,
}

/// What a try that came to nothing means for the line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Setback {
    /// This delegation waits until then.
    Own(Timestamp),
    /// So do all.
    All(Hindrance, Timestamp),
}

impl World {
    /// Changes a line, then tells those whose turn it is, and those who must wait.
    pub(crate) fn change(
        &mut self,
        node: usize,
        target: WorkspaceId,
        change: impl FnOnce(&mut Staffed, Timestamp, &RetryPolicy, f64),
    ) {
        let (now, dice, retry) = (self.now, self.dice.fraction(), self.policy.retry);
        let staffed = self.nodes[node].lines.entry(target).or_default();
        change(staffed, now, &retry, dice);
        let mut words = Vec::new();
        let mut tell = |actors: &BTreeMap<Ticket, u64>, ticket: &Ticket, word: Word| {
            if let Some(number) = actors.get(ticket) {
                words.push((ticket.key.clone(), *number, word));
            }
        };
        for ticket in staffed.line.grants(now, &retry, dice) {
            tell(&staffed.actors, &ticket, Word::Granted);
        }
        if let Some((why, tickets)) = staffed.line.take_untold() {
            for ticket in tickets {
                tell(&staffed.actors, &ticket, Word::Behind(why));
            }
        }
        let due = staffed.line.next_due(now);
        let earlier = due.filter(|due| staffed.alarm.is_none_or(|alarm| *due < alarm));
        if let Some(due) = earlier {
            staffed.alarm = Some(due);
        }
        if staffed.line.is_idle() {
            self.nodes[node].lines.remove(&target);
        } else if let Some(due) = earlier {
            let ring = Local::Ring { target, due };
            self.locally_after(due.since(now), node, ring);
        }
        for (key, number, word) in words {
            self.word_soon(node, &key, number, word);
        }
    }

    pub(crate) fn ring(&mut self, node: usize, target: WorkspaceId, due: Timestamp) {
        let staffed = self.nodes[node].lines.get(&target);
        if staffed.is_some_and(|staffed| staffed.alarm == Some(due)) {
            self.change(node, target, |staffed, _, _, _| staffed.alarm = None);
        }
    }

    pub(crate) fn set_cap(&mut self, node: usize, target: WorkspaceId, cap: usize) {
        self.change(node, target, |staffed, _, _, _| staffed.line.set_cap(cap));
    }

    /// The target gave a sign of life of its own accord.
    pub(crate) fn wake(&mut self, node: usize, target: WorkspaceId) {
        if !self.nodes[node].lines.contains_key(&target) {
            return;
        }
        let mut stirred = Vec::new();
        self.change(node, target, |staffed, now, retry, dice| {
            staffed.line.wake(now, retry, dice);
            let actors = staffed.actors.iter();
            stirred.extend(actors.map(|(ticket, number)| (ticket.key.clone(), *number)));
        });
        for (key, number) in stirred {
            self.word_soon(node, &key, number, Word::Stirred);
        }
    }

    // ---- seats

    /// For one that begins: with the target if its line lets it go at once, else announced.
    pub(crate) fn announce(
        &mut self,
        node: usize,
        target: WorkspaceId,
        ticket: Ticket,
        cap: Option<usize>,
    ) -> (Place, bool) {
        let mut goes = false;
        self.change(node, target, |staffed, now, retry, dice| match cap {
            Some(cap) => {
                staffed.line.set_cap(cap);
                goes = staffed.line.begin(&ticket, now, retry, dice);
            }
            None => staffed.line.announce(ticket.clone()),
        });
        let granted = goes;
        let place = Place {
            target,
            ticket,
            granted,
        };
        (place, goes)
    }

    pub(crate) fn attach(&mut self, node: usize, number: u64, place: &Place) {
        if let Some(staffed) = self.nodes[node].lines.get_mut(&place.target) {
            staffed.actors.insert(place.ticket.clone(), number);
        }
    }

    /// It is on its way to the target.
    pub(crate) fn sent(&mut self, node: usize, place: &Place) {
        if let Some(staffed) = self.nodes[node].lines.get_mut(&place.target) {
            staffed.line.sent(&place.ticket);
        }
    }

    pub(crate) fn wait_in_line(
        &mut self,
        node: usize,
        number: u64,
        place: &Place,
        setback: Option<Setback>,
    ) {
        let ticket = place.ticket.clone();
        self.change(node, place.target, |staffed, now, _, _| {
            staffed.actors.insert(ticket.clone(), number);
            match setback {
                None => staffed.line.enter(ticket, now, now),
                Some(Setback::Own(until)) => staffed.line.enter(ticket, until, now),
                Some(Setback::All(why, until)) => {
                    staffed.line.enter(ticket, now, now);
                    staffed.line.hold(why, until, now);
                }
            }
        });
    }

    pub(crate) fn occupy(&mut self, node: usize, number: u64, place: &Place) {
        let ticket = place.ticket.clone();
        self.change(node, place.target, |staffed, _, _, _| {
            staffed.actors.insert(ticket.clone(), number);
            staffed.line.occupy(ticket);
        });
    }

    /// Its try came to nothing: it waits again.
    pub(crate) fn step_back(&mut self, node: usize, place: &Place, setback: Setback) {
        self.change(node, place.target, |staffed, now, _, _| match setback {
            Setback::Own(until) => staffed.line.rest(&place.ticket, until, now),
            Setback::All(why, until) => staffed.line.failed(&place.ticket, why, until, now),
        });
    }

    pub(crate) fn target_spoke(&mut self, node: usize, place: &Place) {
        self.change(node, place.target, |staffed, _, _, _| staffed.line.spoke());
    }

    pub(crate) fn leave(&mut self, node: usize, place: Option<Place>) {
        let Some(place) = place else { return };
        self.change(node, place.target, |staffed, now, retry, dice| {
            staffed.actors.remove(&place.ticket);
            staffed.line.leave(&place.ticket, now, retry, dice);
        });
    }
}
