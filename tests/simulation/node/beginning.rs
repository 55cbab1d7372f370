//! Beginnings (`src/delegation/beginning.rs`, and what the supervisor makes of them).

use std::time::Duration;

use baton::domain::*;
use baton::store::{Acceptance, Write, Written};

use super::{Ack, Append, Patience};
use crate::Flaw;
use crate::actor::{Place, Route, Start};
use crate::store::{Reply, Stored};
use crate::world::World;
use crate::writer::short;

/// What a delegation holds while its beginning is committed.
#[derive(Clone, Default)]
pub(crate) struct Beginning {
    pub(crate) place: Option<Place>,
    /// How it is sent, when that is part of its beginning.
    pub(crate) sending: Option<(Step, Route)>,
}

impl World {
    pub(super) fn begin(&mut self, node: usize, order: usize) {
        let delegation = self.new_delegation(order);
        let feed = accepted_feed(&delegation, "target");
        self.note(|| {
            format!(
                "node {node}: order {order} as {}",
                short(&delegation.terms.key)
            )
        });
        let mut accept = Accept {
            delegation: delegation.clone(),
            feed,
            sent: None,
        };
        let beginning = self.prepare(node, &mut accept);
        if let Some((step, route)) = &beginning.sending {
            self.count("sent at once");
            self.check_order(node, &delegation.terms);
            let key = delegation.terms.key.clone();
            self.nodes[node].unsent.insert(key);
            if self.flaw == Flaw::SendsEarly {
                self.call(node, &delegation.terms, step.life.attempt, *route, false);
            }
        }
        let append = Append {
            write: Write::Accept(Box::new(accept)),
            patience: Patience::Command,
            ack: Ack::Begin {
                order,
                delegation: Box::new(delegation),
                beginning: Box::new(beginning),
            },
        };
        self.submit(node, append);
    }

    /// Nobody is overtaken who began before.
    fn check_order(&mut self, node: usize, terms: &Terms) {
        let host = &self.nodes[node];
        let others = host.actors.values().filter(|actor| actor.is_unsent());
        let others = others.map(|actor| &actor.terms);
        let beginning = host
            .writer
            .buffer
            .iter()
            .filter_map(|append| match &append.ack {
                Ack::Begin {
                    delegation,
                    beginning,
                    ..
                } if beginning.sending.is_none() => Some(&delegation.terms),
                _ => None,
            });
        let overtaken = others
            .chain(beginning)
            .find(|other| other.target == terms.target && other.origin == Origin::Delegated)
            .map(|other| format!("{} was overtaken", short(&other.key)));
        if let Some(what) = overtaken {
            self.violation(what);
        }
    }

    /// Takes its place, and makes its first change part of its beginning when it can be sent at once.
    fn prepare(&mut self, node: usize, accept: &mut Accept) -> Beginning {
        let terms = accept.delegation.terms.clone();
        if terms.origin != Origin::Delegated {
            return Beginning::default();
        }
        let Some(target) = terms.target else {
            return Beginning::default();
        };
        // The target may have to be looked up, or no place be free among the outbound calls.
        let ready = self.nodes[node].writer.failures == 0 && !self.dice.chance(20);
        let route = self.find_way(&terms).ok().filter(|_| ready);
        let cap = self.cap_of(&terms).filter(|_| route.is_some());
        let (place, goes) = self.announce(node, target, Ticket::of(&terms), cap);
        let goes = goes || (cap.is_some() && self.flaw == Flaw::Overtakes);
        let sending = route.filter(|_| goes).and_then(|route| {
            let (step, sent) = self.first_step(node, accept)?;
            accept.sent = Some(sent);
            Some((step, route))
        });
        Beginning {
            place: Some(place),
            sending,
        }
    }

    fn first_step(&mut self, node: usize, accept: &Accept) -> Option<(Step, Advance)> {
        let terms = &accept.delegation.terms;
        let pending = Life::new(accept.delegation.state.clone());
        let moment = self.moment(node);
        let decision = transition(&self.policy, terms, &pending, &Event::SlotGranted, moment);
        let Decision::Advance(step) = decision else {
            return None;
        };
        let sent = Advance {
            key: terms.key.clone(),
            revision: Revision(2),
            incarnation: Incarnation(0),
            told: is_news(&pending, &step.life),
            feed: advanced_feed(terms, &pending, &step.life, self.push_replies, self.now),
            life: step.life.clone(),
            at: self.now,
            raw_reply: None,
        };
        Some((step, sent))
    }

    pub(crate) fn begun(
        &mut self,
        node: usize,
        order: usize,
        delegation: &NewDelegation,
        beginning: Beginning,
        written: &Written,
    ) {
        let key = delegation.terms.key.clone();
        let unsent = self.nodes[node].unsent.remove(&key);
        self.begun_as(node, order, delegation, beginning, written);
        if unsent {
            self.catch_up(node, &key);
        }
    }

    fn begun_as(
        &mut self,
        node: usize,
        order: usize,
        delegation: &NewDelegation,
        beginning: Beginning,
        written: &Written,
    ) {
        let key = delegation.terms.key.clone();
        let Written::Accepted(acceptance) = written else {
            self.leave(node, beginning.place);
            return self.order_failed(order);
        };
        match acceptance {
            Acceptance::Created { retry_of } => {
                if self.nodes[node].actors.contains_key(&key) {
                    self.leave(node, beginning.place);
                } else {
                    let (life, revision) = match &beginning.sending {
                        Some((step, _)) => (step.life.clone(), Revision(2)),
                        None => (Life::new(delegation.state.clone()), Revision(1)),
                    };
                    let stored = Stored {
                        terms: delegation.terms.clone(),
                        life,
                        revision,
                        incarnation: Incarnation(0),
                        updated_at: delegation.terms.created_at,
                        idempotency: None,
                        retry_of: retry_of.clone(),
                        reply: Reply::None,
                        owner: self.nodes[node].id,
                    };
                    self.start_actor(node, stored, Start::Fresh, Some(beginning));
                }
                self.acknowledge_order(order, &key);
            }
            Acceptance::Replayed { id, status } => {
                self.leave(node, beginning.place);
                let key = DelegationKey {
                    id: id.clone(),
                    ..key
                };
                let owner = self.store.delegations.get(&key).map(|stored| stored.owner);
                let ours = owner.is_some_and(|owner| self.nodes[node].owned.contains(&owner));
                if ours && !status.is_terminal() && !self.nodes[node].actors.contains_key(&key) {
                    self.revive(node, &key, None);
                }
                self.acknowledge_order(order, &key);
            }
            Acceptance::KeyMismatch | Acceptance::IdTaken => {
                self.leave(node, beginning.place);
                self.order_over(order);
            }
        }
    }

    /// It was not committed, as far as anybody knows.
    pub(crate) fn not_begun(
        &mut self,
        node: usize,
        order: usize,
        key: &DelegationKey,
        beginning: Beginning,
    ) {
        self.leave(node, beginning.place);
        self.order_failed(order);
        if self.nodes[node].unsent.remove(key) {
            self.nodes[node].in_doubt.insert(key.clone());
            self.catch_up(node, key);
        }
    }

    /// Whoever asked for it while its beginning was committed is answered.
    fn catch_up(&mut self, node: usize, key: &DelegationKey) {
        let Some(waiting) = self.nodes[node].reviving.remove(key) else {
            return;
        };
        if self.number_of(node, key).is_none() {
            self.revive(node, key, None);
        }
        for tell in waiting {
            self.hand_over(node, tell, Duration::ZERO);
        }
    }
}
