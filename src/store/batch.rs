//! A commit in the making: outcomes so far, and what is to be shown once positions are taken.

use crate::domain::{DelegationKey, Feed, FeedEvent, FeedRow, NodeId, Position, WorkspaceId};

use super::{Commit, Published, Written};

/// Something that gets a position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<'a> {
    /// A row that stands or falls with its write.
    Row(&'a FeedRow),
    /// A reply that may fail alone; then it is owed (rule 4).
    Reply(&'a FeedRow, &'a DelegationKey),
    /// A reply that was owed; if it fails, it still is.
    Owed(&'a FeedRow, &'a DelegationKey),
    /// An event.
    Event(&'a FeedEvent),
}

impl Item<'_> {
    /// Whose feed it belongs to.
    pub(crate) const fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Row(row) | Self::Reply(row, _) | Self::Owed(row, _) => row.workspace,
            Self::Event(event) => event.workspace,
        }
    }
}

/// What became of a reply that the database did not take.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// It was there before: nothing is owed, nothing is shown.
    AlreadyThere,
    /// It is owed now.
    Owed(String),
}

/// One transaction's worth of writes.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// Whether an earlier try of these writes may have been committed, so that ids may exist already.
    pub(crate) careful: bool,
    /// The node that writes.
    pub(crate) node: NodeId,
    /// Outcomes, in the order of the writes.
    pub(crate) written: Vec<Written>,
    /// What is to be shown, in order, each with the number of its write.
    pub(crate) items: Vec<(usize, Item<'a>)>,
    /// Delegations that were moved although another node may have them in charge.
    pub(crate) moved: Vec<&'a DelegationKey>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(writes: usize, careful: bool, node: NodeId) -> Self {
        Self {
            careful,
            node,
            written: Vec::with_capacity(writes),
            items: Vec::with_capacity(writes),
            moved: Vec::new(),
        }
    }

    pub(crate) fn show(&mut self, item: Item<'a>) {
        self.items.push((self.written.len(), item));
    }

    /// Rows, then the reply, then events.
    pub(crate) fn show_feed(&mut self, feed: &'a Feed, key: &'a DelegationKey) {
        for row in &feed.rows {
            self.show(Item::Row(row));
        }
        if let Some(reply) = &feed.reply {
            self.show(Item::Reply(reply, key));
        }
        for event in &feed.events {
            self.show(Item::Event(event));
        }
    }

    /// Each item with its place, the first after `before`.
    pub(crate) fn placed(&self, before: Position) -> impl Iterator<Item = (Position, Item<'a>)> {
        (before.0.saturating_add(1)..)
            .map(Position)
            .zip(self.items.iter().map(|(_, item)| *item))
    }

    /// The commit's answer, once everything is stored; `refused` are the replies that were not.
    pub(crate) fn finish(mut self, before: Position, refused: &[(Position, Refusal)]) -> Commit {
        let mut published = Vec::with_capacity(self.items.len());
        let (mut replies_owed, mut replies_written) = (0, 0);
        let places: Vec<(Position, Item<'a>)> = self.placed(before).collect();
        for ((write, _), (position, item)) in self.items.iter().zip(places) {
            let refusal = refused.iter().find(|(place, _)| *place == position);
            match (item, refusal) {
                (Item::Reply(..), Some((_, Refusal::Owed(_)))) => replies_owed += 1,
                (Item::Owed(..), Some((_, Refusal::Owed(why)))) => {
                    if let Some(written) = self.written.get_mut(*write) {
                        *written = Written::Failed(why.as_str().into());
                    }
                }
                (_, Some((_, Refusal::AlreadyThere))) => {}
                (Item::Event(event), _) => {
                    published.push(Published::Event {
                        position,
                        event: event.clone(),
                    });
                }
                (Item::Row(row) | Item::Reply(row, _) | Item::Owed(row, _), _) => {
                    replies_written += u64::from(!matches!(item, Item::Row(_)));
                    if let Some(Written::Logged(place)) = self.written.get_mut(*write) {
                        *place = position;
                    }
                    published.push(Published::Row {
                        position,
                        workspace: row.workspace,
                        activity_type: row.activity_type,
                    });
                }
            }
        }
        Commit {
            written: self.written,
            published,
            replies_owed,
            replies_written,
            // Known once the transaction is committed.
            unbroken_since: Position(0),
        }
    }
}
