//! The model of the store: exactly the rules of the real one, which `twin` holds it to, on maps.

mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton::domain::*;
use baton::store::{Acceptance, Write, Written};

use crate::Flaw;
use places::places_of;

/// A delegation's row.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) terms: Terms,
    pub(crate) life: Life,
    pub(crate) revision: Revision,
    pub(crate) incarnation: Incarnation,
    pub(crate) updated_at: Timestamp,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) retry_of: Option<DelegationId>,
    pub(crate) reply: Reply,
    /// The node that accepted it.
    pub(crate) owner: NodeId,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    None,
    Owed,
    Written,
}

/// A node's row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) holder: NodeId,
    pub(crate) expires_at: Timestamp,
}

/// Another node took over; nothing was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fenced;

/// What makes an ending unique.
type EndingKey = (WorkspaceId, DelegationId, ActivityType);

pub(crate) struct ModelStore {
    pub(crate) delegations: BTreeMap<DelegationKey, Stored>,
    pub(crate) feed: BTreeMap<Position, FeedRow>,
    endings: BTreeSet<EndingKey>,
    pub(crate) last: Position,
    pub(crate) acknowledged: BTreeMap<WorkspaceId, Position>,
    pub(crate) nodes: BTreeMap<NodeId, Lease>,
    /// Rows of this kind are refused, as by a trigger that raises.
    pub(crate) refuses: Option<ActivityType>,
    /// What must never be written, and was.
    pub(crate) broken: Vec<String>,
    flaw: Flaw,
}

/// Something that gets a position.
enum Item {
    Row(FeedRow),
    Reply(FeedRow, DelegationKey),
    Owed(FeedRow, DelegationKey),
    Event,
}

/// A transaction in the making.
#[derive(Default)]
struct Stage {
    changed: BTreeMap<DelegationKey, Stored>,
    acknowledged: BTreeMap<WorkspaceId, Position>,
    written: Vec<Written>,
    items: Vec<(usize, Item)>,
}

impl Stage {
    fn show(&mut self, feed: &Feed, key: &DelegationKey) {
        let write = self.written.len();
        let rows = feed.rows.iter().cloned().map(Item::Row);
        let reply = feed.reply.iter().cloned();
        let reply = reply.map(|reply| Item::Reply(reply, key.clone()));
        let events = feed.events.iter().map(|_| Item::Event);
        let items = rows.chain(reply).chain(events);
        self.items.extend(items.map(|item| (write, item)));
    }
}

impl ModelStore {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self {
            delegations: BTreeMap::new(),
            feed: BTreeMap::new(),
            endings: BTreeSet::new(),
            last: Position(0),
            acknowledged: BTreeMap::new(),
            nodes: BTreeMap::new(),
            refuses: None,
            broken: Vec::new(),
            flaw,
        }
    }

    // ---- nodes

    pub(crate) fn join(&mut self, node: NodeId, now: Timestamp, length: Duration) {
        let lease = Lease {
            holder: node,
            expires_at: now.plus(length),
        };
        self.nodes.insert(node, lease);
    }

    fn prove(
        &mut self,
        node: NodeId,
        now: Timestamp,
        renewal: Option<Duration>,
    ) -> Result<(), Fenced> {
        match self.nodes.get_mut(&node) {
            Some(lease) if lease.holder == node => {
                if let Some(length) = renewal {
                    lease.expires_at = now.plus(length);
                }
                Ok(())
            }
            Some(_) if self.flaw == Flaw::NoFencing => Ok(()),
            Some(_) | None => Err(Fenced),
        }
    }

    /// Takes over everything that nodes held whose lease has expired; with `all`, of all other nodes.
    pub(crate) fn take_over(&mut self, node: NodeId, now: Timestamp, all: bool) -> Vec<NodeId> {
        let gone = |(id, lease): (&NodeId, &Lease)| {
            let expired = all || lease.expires_at < now;
            (*id != node && lease.holder == *id && expired).then_some(*id)
        };
        let gone: Vec<NodeId> = self.nodes.iter().filter_map(gone).collect();
        for lease in self.nodes.values_mut() {
            if gone.contains(&lease.holder) {
                lease.holder = node;
            }
        }
        gone
    }

    pub(crate) fn held_by(&self, node: NodeId) -> BTreeSet<NodeId> {
        let held = self.nodes.iter().filter(|(_, lease)| lease.holder == node);
        held.map(|(id, _)| *id).collect()
    }

    // ---- commits

    /// Takes places for a commit that is to come: what only the flaw does.
    pub(crate) fn reserve(&mut self) -> Position {
        let before = self.last;
        self.last = Position(before.0 + 1000);
        before
    }

    /// One batch, as the real writer commits it: together, or one by one when something is refused.
    pub(crate) fn commit(
        &mut self,
        node: NodeId,
        now: Timestamp,
        renewal: Option<Duration>,
        writes: &[Write],
        reserved: Option<Position>,
    ) -> Result<Vec<Written>, Fenced> {
        self.prove(node, now, renewal)?;
        if let Ok(written) = self.attempt(node, writes, reserved) {
            return Ok(written);
        }
        let one_by_one = writes.iter().map(|write| {
            match self.attempt(node, std::slice::from_ref(write), None) {
                Ok(mut written) => written.remove(0),
                Err(refusal) => Written::Failed(refusal.into()),
            }
        });
        Ok(one_by_one.collect())
    }

    fn attempt(
        &mut self,
        node: NodeId,
        writes: &[Write],
        reserved: Option<Position>,
    ) -> Result<Vec<Written>, &'static str> {
        let mut stage = Stage::default();
        for write in writes {
            let written = self.apply(node, write, &mut stage)?;
            stage.written.push(written);
        }
        let taken: usize = writes.iter().map(places_of).sum();
        let last = Position(self.last.0 + i64::try_from(taken).unwrap());
        let written = self.store(stage, reserved)?;
        self.last = self.last.max(last);
        Ok(written)
    }

    fn apply(
        &self,
        node: NodeId,
        write: &Write,
        stage: &mut Stage,
    ) -> Result<Written, &'static str> {
        Ok(match write {
            Write::Accept(accept) => Written::Accepted(self.accept(node, accept, stage)),
            Write::Advance(advance) | Write::Visit(advance) => self.advance(advance, stage)?,
            Write::DeliverOwed { key, reply } => {
                if let Some(mut stored) = self.find(stage, key).cloned()
                    && stored.reply == Reply::Owed
                {
                    stored.reply = Reply::Written;
                    stage.changed.insert(key.clone(), stored);
                    let item = Item::Owed((**reply).clone(), key.clone());
                    stage.items.push((stage.written.len(), item));
                }
                Written::Done
            }
            Write::Acknowledge { workspace, upto } => {
                let newest = self.feed.iter().rev();
                let newest = newest
                    .filter(|(_, row)| row.workspace == *workspace)
                    .map(|(position, _)| *position)
                    .next();
                let before = stage.acknowledged.get(workspace);
                let before = before.or(self.acknowledged.get(workspace)).copied();
                let acked = before
                    .unwrap_or_default()
                    .max((*upto).min(newest.unwrap_or_default()));
                stage.acknowledged.insert(*workspace, acked);
                Written::Acknowledged(acked)
            }
            other => panic!("the model does not know {other:?}"),
        })
    }

    fn find<'a>(&'a self, stage: &'a Stage, key: &DelegationKey) -> Option<&'a Stored> {
        stage.changed.get(key).or_else(|| self.delegations.get(key))
    }

    /// The delegation that holds the caller's key, else the newest that gave it back.
    fn holder<'a>(
        &'a self,
        stage: &'a Stage,
        caller: WorkspaceId,
        key: &Idempotency,
    ) -> Option<&'a Stored> {
        let unchanged = self.delegations.iter();
        let unchanged = unchanged.filter(|(key, _)| !stage.changed.contains_key(key));
        let of_key: Vec<&Stored> = unchanged
            .chain(&stage.changed)
            .map(|(_, stored)| stored)
            .filter(|stored| stored.terms.key.caller == caller)
            .filter(|stored| {
                let other = stored.idempotency.as_ref();
                other.is_some_and(|other| other.key == key.key)
            })
            .collect();
        let failed = |stored: &&&Stored| stored.life.status() == Status::Failed;
        let holds = of_key.iter().find(|stored| !failed(stored));
        let newest = of_key.iter().filter(failed);
        let newest = newest.max_by_key(|stored| stored.terms.created_at);
        holds.or(newest).copied()
    }

    fn accept(&self, node: NodeId, accept: &Accept, stage: &mut Stage) -> Acceptance {
        let NewDelegation {
            terms,
            idempotency,
            retry_of: asked_for,
            ..
        } = &accept.delegation;
        let sent = accept.sent.as_ref();
        let mut retry_of = asked_for.clone();
        if let Some(key) = idempotency
            && let Some(holder) = self.holder(stage, terms.key.caller, key)
        {
            let id = holder.terms.key.id.clone();
            if id == terms.key.id && holder.terms.created_at == terms.created_at {
                let retry_of = holder.retry_of.clone();
                return Acceptance::Created { retry_of };
            }
            let known = holder.idempotency.as_ref();
            if known.is_none_or(|known| known.fingerprint != key.fingerprint) {
                return Acceptance::KeyMismatch;
            }
            let status = holder.life.status();
            if status != Status::Failed {
                return Acceptance::Replayed { id, status };
            }
            retry_of = retry_of.or(Some(id));
        }
        if let Some(known) = self.find(stage, &terms.key) {
            let same = known.terms.target == terms.target
                && known.terms.created_at == terms.created_at
                && known.terms.deadline == terms.deadline;
            let retry_of = known.retry_of.clone();
            return if same {
                Acceptance::Created { retry_of }
            } else {
                Acceptance::IdTaken
            };
        }
        let stored = Stored {
            terms: terms.clone(),
            life: accept.life(),
            revision: accept.revision(),
            incarnation: Incarnation(0),
            updated_at: sent.map_or(terms.created_at, |sent| sent.at),
            idempotency: idempotency.clone(),
            retry_of: retry_of.clone(),
            reply: reply_of(&accept.feed, Reply::None),
            owner: node,
        };
        let feeds = sent.iter().map(|sent| &sent.feed);
        std::iter::once(&accept.feed)
            .chain(feeds)
            .for_each(|feed| stage.show(feed, &terms.key));
        stage.changed.insert(terms.key.clone(), stored);
        Acceptance::Created { retry_of }
    }

    fn advance(&self, advance: &Advance, stage: &mut Stage) -> Result<Written, &'static str> {
        let Some(stored) = self.find(stage, &advance.key) else {
            return Ok(Written::Stale);
        };
        let unguarded = self.flaw == Flaw::NoRevisionCheck;
        let ended = stored.life.status().is_terminal();
        let revives = ended && !advance.life.status().is_terminal();
        let next = stored.revision.next() == advance.revision && !revives;
        if unguarded || (next && stored.incarnation <= advance.incarnation) {
            // Only what had failed and lives again, which nobody but the twin tries, can meet another holder.
            if let Some(key) = &stored.idempotency
                && advance.life.status() != Status::Failed
                && let Some(holder) = self.holder(stage, advance.key.caller, key)
                && holder.life.status() != Status::Failed
                && holder.terms.key != advance.key
            {
                return Err("the caller's key is held by another");
            }
            let stored = Stored {
                life: advance.life.clone(),
                revision: advance.revision,
                incarnation: advance.incarnation,
                updated_at: advance.at,
                reply: reply_of(&advance.feed, stored.reply),
                ..stored.clone()
            };
            stage.show(&advance.feed, &advance.key);
            stage.changed.insert(advance.key.clone(), stored);
            return Ok(Written::Advanced);
        }
        let repeated = stored.revision == advance.revision
            && stored.incarnation == advance.incarnation
            && stored.life.status() == advance.life.status()
            && stored.updated_at == advance.at;
        Ok(if repeated {
            Written::Advanced
        } else {
            Written::Stale
        })
    }

    /// Takes positions, and stores what the stage holds, or refuses all of it.
    fn store(
        &mut self,
        mut stage: Stage,
        reserved: Option<Position>,
    ) -> Result<Vec<Written>, &'static str> {
        let mut ended = BTreeSet::new();
        for (_, item) in &stage.items {
            let Item::Row(row) = item else { continue };
            if self.refuses == Some(row.activity_type) {
                return Err("a trigger said no");
            }
            if let Some(ending) = ending_key(row)
                && (self.endings.contains(&ending) || !ended.insert(ending))
            {
                return Err("a second ending");
            }
        }
        let mut position = reserved.unwrap_or(self.last);
        for (write, item) in stage.items {
            position = position.next();
            match item {
                Item::Event => {}
                Item::Row(row) => self.insert(position, row),
                Item::Reply(row, key) | Item::Owed(row, key) if self.takes(&row) => {
                    drop(key);
                    self.insert(position, row);
                }
                Item::Reply(row, key) => {
                    let there = self.has(&row);
                    if let Some(stored) = stage.changed.get_mut(&key).filter(|_| !there) {
                        stored.reply = Reply::Owed;
                    }
                }
                Item::Owed(row, key) => {
                    if self.has(&row) {
                        continue;
                    }
                    if let Some(stored) = stage.changed.get_mut(&key) {
                        stored.reply = Reply::Owed;
                    }
                    stage.written[write] = Written::Failed("still owed".into());
                }
            }
        }
        self.last = self.last.max(position);
        for (key, after) in &stage.changed {
            let before = self.delegations.get(key).map(|stored| &stored.life.state);
            if let Some(State::Ended(ended)) = before
                && !matches!(&after.life.state, State::Ended(now) if now.ending == ended.ending)
            {
                self.broken
                    .push(format!("{} had ended, and was changed", key.id));
            }
        }
        self.delegations.extend(stage.changed);
        self.acknowledged.extend(stage.acknowledged);
        Ok(stage.written)
    }

    fn has(&self, row: &FeedRow) -> bool {
        ending_key(row).is_some_and(|ending| self.endings.contains(&ending))
    }

    fn takes(&self, row: &FeedRow) -> bool {
        self.refuses != Some(row.activity_type) && !self.has(row)
    }

    fn insert(&mut self, position: Position, row: FeedRow) {
        self.endings.extend(ending_key(&row));
        self.feed.insert(position, row);
    }

    // ---- reads

    /// A workspace's rows after a place, oldest first.
    pub(crate) fn feed_of(
        &self,
        workspace: WorkspaceId,
        after: Position,
    ) -> impl Iterator<Item = (Position, &FeedRow)> {
        self.feed
            .range(after.next()..)
            .filter(move |(_, row)| row.workspace == workspace)
            .map(|(position, row)| (*position, row))
    }

    /// Every delegation as the audit of the real store finds it.
    pub(crate) fn audited(&self, overdue_before: Timestamp) -> Vec<Audited> {
        let count = |key: &DelegationKey, kind: ActivityType| {
            let rows = self.feed.values().filter(|row| {
                row.workspace == key.caller
                    && row.delegation.as_ref() == Some(&key.id)
                    && row.activity_type == kind
                    && row.method.as_deref() == Some(METHOD_DELEGATE_RESULT)
            });
            i64::try_from(rows.count()).unwrap_or(i64::MAX)
        };
        let audited = self.delegations.iter().map(|(key, stored)| Audited {
            key: key.clone(),
            status: stored.life.status(),
            has_end_time: matches!(stored.life.state, State::Ended(_)),
            is_listed: true,
            result_rows: count(key, ActivityType::Delegation),
            replies: count(key, ActivityType::A2aReceive),
            reply_promised: stored.reply != Reply::None,
            reply_owed: stored.reply == Reply::Owed,
            overdue: stored.terms.deadline < overdue_before,
            prunable: false,
        });
        audited.collect()
    }
}

fn reply_of(feed: &Feed, before: Reply) -> Reply {
    if feed.reply.is_some() {
        Reply::Written
    } else {
        before
    }
}

fn ending_key(row: &FeedRow) -> Option<EndingKey> {
    let id = row.delegation.clone()?;
    (row.method.as_deref() == Some(METHOD_DELEGATE_RESULT)).then_some((
        row.workspace,
        id,
        row.activity_type,
    ))
}
