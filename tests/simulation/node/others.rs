//! Taking over from other nodes, and the slow sweeps (`src/delegation/recovery.rs`, `src/persistence/owed.rs`).

use std::time::Duration;

use baton::domain::*;
use baton::store::Write;

use super::{Ack, Append, HEARING, Local, Patience, SWEEP};
use crate::Flaw;
use crate::actor::Start;
use crate::store::{Reply, Stored};
use crate::world::{LEASE, World};

impl World {
    pub(super) fn look(&mut self, node: usize) {
        self.locally_after(LEASE / 4, node, Local::Look);
        let id = self.nodes[node].id;
        let hears = self.now.since(self.nodes[node].hearing_since) >= HEARING;
        let holds = self
            .store
            .nodes
            .get(&id)
            .is_some_and(|lease| lease.holder == id);
        if self.away || self.flaw == Flaw::NeverTakesOver {
            return;
        }
        if hears && holds {
            let gone = self.store.take_over(id, self.now, false);
            if !gone.is_empty() {
                self.count("taken over");
                self.note(|| format!("node {node} takes over from {gone:?}"));
            }
            self.gone.extend(gone);
        }
        let held = self.store.held_by(id);
        let novel: Vec<NodeId> = held.difference(&self.nodes[node].owned).copied().collect();
        self.nodes[node].owned.extend(&novel);
        if novel.is_empty() {
            return;
        }
        let live = self.live(|owner| novel.contains(&owner));
        let delay = self.soon();
        self.locally_after(delay, node, Local::Recover(live));
    }

    pub(super) fn live(&self, of: impl Fn(NodeId) -> bool) -> Vec<Stored> {
        let live = self.store.delegations.values();
        live.filter(|stored| of(stored.owner) && !stored.life.status().is_terminal())
            .cloned()
            .collect()
    }

    /// A guest that came before this node took over gives way.
    pub(super) fn recover(&mut self, node: usize, page: Vec<Stored>) {
        for stored in page {
            let key = stored.terms.key.clone();
            match self.nodes[node].actors.get(&key) {
                Some(actor) if !actor.guest => continue,
                Some(_) => self.dismiss(node, &key, false),
                None if self.nodes[node].reviving.contains_key(&key) => continue,
                None => {}
            }
            self.start_actor(node, stored, Start::Restored, None);
        }
    }

    /// Whatever is live, owned, and has no actor.
    pub(super) fn sweep(&mut self, node: usize) {
        self.locally_after(SWEEP, node, Local::Sweep);
        let owned = self.nodes[node].owned.clone();
        for stored in self.live(|owner| owned.contains(&owner)) {
            let key = &stored.terms.key;
            if !self.nodes[node].actors.contains_key(key) {
                self.revive(node, key, None);
            }
        }
    }

    pub(super) fn deliver_owed(&mut self, node: usize) {
        self.locally_after(Duration::from_secs(5), node, Local::DeliverOwed);
        if self.flaw == Flaw::ForgetsOwedReplies || self.away {
            return;
        }
        let owed = self.store.delegations.values();
        let owed: Vec<Write> = owed
            .filter(|stored| stored.reply == Reply::Owed)
            .filter_map(|stored| match &stored.life.state {
                State::Ended(ended) => Some(Write::DeliverOwed {
                    key: stored.terms.key.clone(),
                    reply: Box::new(reply_row(&stored.terms, &ended.ending, ended.at)),
                }),
                _ => None,
            })
            .collect();
        for write in owed {
            self.command(node, write);
        }
    }

    pub(crate) fn command(&mut self, node: usize, write: Write) {
        let append = Append {
            write,
            patience: Patience::Command,
            ack: Ack::Nobody,
        };
        self.submit(node, append);
    }
}
