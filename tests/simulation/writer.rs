//! The one writer of a node (`src/persistence/writer.rs`): a buffer, one batch in flight, word of it after the commit.

use std::rc::Rc;
use std::time::Duration;

use baton::domain::*;
use baton::store::{Write, Written};

use crate::Flaw;
use crate::actor::Word;
use crate::node::{Ack, Append, Batch, Local, Patience};
use crate::world::{Happening, LEASE, World};

const BATCH: usize = 4;
const RETRY_BASE: Duration = Duration::from_millis(50);

impl World {
    pub(crate) fn submit(&mut self, node: usize, append: Append) {
        if self.flaw == Flaw::AcknowledgesEarly
            && let (Write::Accept(accept), Ack::Begin { order, .. }) = (&append.write, &append.ack)
        {
            let key = accept.delegation.terms.key.clone();
            self.acknowledge_order(*order, &key);
        }
        let writer = &mut self.nodes[node].writer;
        if writer.failures > 0 && append.patience == Patience::Command {
            return self.refuse(node, append);
        }
        writer.buffer.push_back(append);
        self.write_on(node);
    }

    /// Commits now, unless a commit is in flight.
    pub(crate) fn write_on(&mut self, node: usize) {
        let writer = &mut self.nodes[node].writer;
        if writer.in_flight || (writer.buffer.is_empty() && writer.failures == 0) {
            return;
        }
        let size = writer.buffer.len().min(BATCH);
        let appends = writer.buffer.drain(..size).collect();
        self.commit(node, appends);
    }

    /// Nothing was written for a while: the lease is renewed all the same.
    pub(crate) fn renew(&mut self, node: usize) {
        if !self.nodes[node].writer.in_flight {
            self.commit(node, Vec::new());
        }
        self.locally_after(LEASE / 4, node, Local::Renew);
    }

    fn commit(&mut self, node: usize, appends: Vec<Append>) {
        let due = self.now.since(self.nodes[node].writer.renewed) >= LEASE / 4;
        let writer = &mut self.nodes[node].writer;
        writer.in_flight = true;
        let early = self.flaw == Flaw::TakesPositionsEarly;
        let batch = Rc::new(Batch {
            node: self.nodes[node].id,
            renewal: (due || appends.is_empty()).then_some(LEASE),
            reserved: early.then(|| self.store.reserve()),
            began: self.now,
            appends,
        });
        let slow = self.dice.chance(self.faults.commit_slow);
        let delay = self.dice.millis(1, if slow { 6_000 } else { 8 });
        let boot = self.nodes[node].boot;
        self.after(delay, Happening::AtDatabase { node, boot, batch });
    }

    /// The transaction, and what can happen around it: it fails before or after, the node dies before or after.
    pub(crate) fn at_database(&mut self, node: usize, boot: u32, batch: &Rc<Batch>) {
        let lives = self.nodes[node].boot == boot;
        if lives && self.nodes[node].frozen && self.dice.chance(50) {
            // It had not even been sent.
            let batch = Rc::clone(batch);
            return self.nodes[node].parked.push(Local::Commit(batch));
        }
        if !lives && self.dice.chance(50) {
            return;
        }
        let fails = self.away || self.dice.chance(self.faults.commit_fails);
        let silently = !self.away && self.dice.chance(50);
        if lives && self.dice.chance(self.faults.crash) {
            return self.crash(node);
        }
        let result = if fails && !silently {
            Err(())
        } else {
            match self.transact(batch) {
                Some(written) if !fails => Ok(written),
                Some(_) => Err(()),
                None => return self.locally_soon(node, boot, Local::Fenced),
            }
        };
        if lives && self.dice.chance(self.faults.crash) {
            return self.crash(node);
        }
        let took = self.dice.millis(0, 3);
        let what = Local::Written(Rc::clone(batch), result);
        self.after(took, Happening::AtNode { node, boot, what });
    }

    /// None when fenced.
    fn transact(&mut self, batch: &Batch) -> Option<Vec<Written>> {
        let writes: Vec<Write> = batch
            .appends
            .iter()
            .map(|append| append.write.clone())
            .collect();
        let written = self
            .store
            .commit(batch.node, self.now, batch.renewal, &writes, batch.reserved)
            .ok()?;
        if self.gone.contains(&batch.node) {
            self.violation("a node wrote after another had taken over from it".to_owned());
        }
        for broken in std::mem::take(&mut self.store.broken) {
            self.violation(broken);
        }
        for (append, written) in batch.appends.iter().zip(&written) {
            self.note(|| format!("committed {}: {written:?}", told(&append.write)));
            if let Write::DeliverOwed { .. } = append.write {
                self.count("owed");
            }
            if let (Write::Advance(advance) | Write::Visit(advance), Written::Advanced) =
                (&append.write, written)
            {
                self.watch(advance);
            }
        }
        let moved = batch
            .appends
            .iter()
            .filter_map(|append| match &append.write {
                Write::Visit(advance) => Some(advance.key.clone()),
                _ => None,
            });
        let moved: Vec<DelegationKey> = moved.collect();
        if !moved.is_empty() {
            self.notify(batch.node, &moved);
        }
        if !written.is_empty() {
            self.wake_readers();
        }
        Some(written)
    }

    /// Tells the other nodes; it may get lost.
    fn notify(&mut self, from: NodeId, moved: &[DelegationKey]) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].id != from && !self.dice.chance(20) {
                let delay = self.dice.millis(1, 100);
                self.locally_after(delay, node, Local::Moved(moved.to_vec()));
            }
        }
    }

    pub(crate) fn written(&mut self, node: usize, batch: &Batch, result: Result<Vec<Written>, ()>) {
        self.nodes[node].writer.in_flight = false;
        let Ok(written) = result else {
            return self.write_failed(node, batch);
        };
        let now = self.now;
        let host = &mut self.nodes[node];
        if now.since(host.committed_at) > LEASE / 2 {
            host.hearing_since = now;
        }
        host.committed_at = now;
        host.writer.failures = 0;
        if batch.renewal.is_some() {
            host.writer.renewed = batch.began;
        }
        for (append, written) in batch.appends.iter().zip(written) {
            match written {
                Written::Failed(_) => self.refuse(node, append.clone()),
                written => self.acknowledge(node, append, written),
            }
        }
        self.write_on(node);
    }

    /// Commands are refused; changes go back to the head of the queue, in order.
    fn write_failed(&mut self, node: usize, batch: &Batch) {
        let writer = &mut self.nodes[node].writer;
        writer.failures += 1;
        let delay = RETRY_BASE * (1 << writer.failures.min(4));
        let waiting: Vec<Append> = batch
            .appends
            .iter()
            .cloned()
            .chain(writer.buffer.drain(..))
            .collect();
        let (changes, commands): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|append| append.patience == Patience::Change);
        writer.buffer.extend(changes);
        writer.in_flight = true;
        for command in commands {
            self.refuse(node, command);
        }
        self.locally_after(delay, node, Local::TryWriting);
    }

    fn acknowledge(&mut self, node: usize, append: &Append, written: Written) {
        match &append.ack {
            Ack::Actor { key, number } => {
                self.word_soon(node, key, *number, Word::Persisted(Some(written)));
            }
            Ack::Begin {
                order,
                delegation,
                beginning,
            } => self.begun(node, *order, delegation, (**beginning).clone(), &written),
            Ack::Nobody => {}
        }
    }

    fn refuse(&mut self, node: usize, append: Append) {
        match append.ack {
            Ack::Actor { key, number } => {
                self.word_soon(node, &key, number, Word::Persisted(None));
            }
            Ack::Begin {
                order,
                delegation,
                beginning,
            } => self.not_begun(node, order, &delegation.terms.key, *beginning),
            Ack::Nobody => {}
        }
    }
}

fn told(write: &Write) -> String {
    match write {
        Write::Accept(accept) => format!("accept {}", short(&accept.delegation.terms.key)),
        Write::Advance(advance) | Write::Visit(advance) => format!(
            "advance {} to {} {} r{} i{}",
            short(&advance.key),
            advance.life.attempt,
            advance.life.status().as_str(),
            advance.revision,
            advance.incarnation
        ),
        Write::DeliverOwed { key, .. } => format!("owed {}", short(key)),
        _ => "other".to_owned(),
    }
}

/// Enough of an id to tell it from others.
pub(crate) fn short(key: &DelegationKey) -> String {
    key.id.to_string().chars().take(6).collect()
}
