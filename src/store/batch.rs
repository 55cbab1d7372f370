//! A commit in the making: outcomes so far, and what is to be shown once positions are taken.

use std::collections::{HashMap, HashSet};

use crate::domain::{
    Accept, Advance, DelegationKey, Ending, Feed, FeedEvent, FeedRow, METHOD_DELEGATE_RESULT,
    NodeId, Position, State, WorkspaceId,
};

use super::{Acceptance, Commit, Published, Write, Written};

/// The most that is stored in one statement: `PostgreSQL` takes less than 1 GB, and what is refused is tried again.
const RUN_BYTES: usize = 64 << 20;

impl Write {
    /// About how many bytes it carries, where that can be many.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Accept(accept) => accept.delegation.task.len() + bytes_of_feed(&accept.feed),
            Self::Advance(advance) | Self::Visit(advance) => {
                advance.raw_reply.as_ref().map_or(0, bytes::Bytes::len)
                    + bytes_of_feed(&advance.feed)
            }
            Self::Log(row) => bytes_of_row(row),
            _ => 0,
        }
    }
}

fn bytes_of_feed(feed: &Feed) -> usize {
    feed.rows.iter().chain(&feed.reply).map(bytes_of_row).sum()
}

fn bytes_of_row(row: &FeedRow) -> usize {
    let bodies = [&row.request_body, &row.response_body];
    bodies.into_iter().flatten().map(|body| body.0.len()).sum()
}

/// The most places that these writes can need.
pub(crate) fn places(writes: &[Write]) -> i64 {
    let number: usize = writes.iter().map(places_of).sum();
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The most places that a write can need.
fn places_of(write: &Write) -> usize {
    match write {
        // The last one is the delegation's number.
        Write::Accept(accept) => {
            let sent = accept.sent.as_ref();
            let sent = sent.map_or(0, |sent| places_of_feed(&sent.feed));
            (places_of_feed(&accept.feed) + sent).max(1)
        }
        Write::Advance(advance) | Write::Visit(advance) => places_of_feed(&advance.feed),
        Write::DeliverOwed { .. } | Write::Log(_) | Write::Record(_) => 1,
        Write::CreateWorkspace { events, .. }
        | Write::PatchWorkspace { events, .. }
        | Write::RemoveWorkspaces { events, .. } => events.len(),
        Write::Register(registration) => registration.events.len(),
        Write::Acknowledge { .. }
        | Write::MintToken { .. }
        | Write::RevokeToken { .. }
        | Write::TokensUsed(_)
        | Write::Receiver(_)
        | Write::TakeOver(_)
        | Write::Leave
        | Write::ForgetNodes
        | Write::Prune(_)
        | Write::PruneEvents { .. } => 0,
    }
}

fn places_of_feed(feed: &Feed) -> usize {
    feed.rows.len() + usize::from(feed.reply.is_some()) + feed.events.len()
}

/// Something that gets a position; what tells of a delegation comes with that one's number, unless the statement that
/// stores it finds that out itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<'a> {
    /// A row that stands or falls with its write.
    Row(&'a FeedRow, Option<Position>),
    /// A reply that may fail alone; then it is owed (rule 4).
    Reply(&'a FeedRow, &'a DelegationKey, Option<Position>),
    /// A reply that was owed; if it fails, it still is.
    Owed(&'a FeedRow, &'a DelegationKey, Option<Position>),
    /// An event.
    Event(&'a FeedEvent),
}

impl Item<'_> {
    /// Whose feed it belongs to.
    pub(crate) const fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Row(row, _) | Self::Reply(row, ..) | Self::Owed(row, ..) => row.workspace,
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

/// How the writes of a batch are put into a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// All together, which the database takes or refuses as a whole.
    Whole,
    /// One after the other, replies apart, so that one that is refused undoes nothing else.
    Guarded,
    /// Each in a transaction of its own. An earlier try may have been committed, so that ids may exist already.
    Alone,
}

/// A batch with beginnings and changes of delegations, no two of the same one, and what else there is in it. Each write
/// comes with its number in the batch.
#[derive(Debug, Default)]
pub(crate) struct Run<'a> {
    keys: HashSet<&'a DelegationKey>,
    pub(crate) accepts: Vec<(usize, &'a Accept)>,
    pub(crate) advances: Vec<(usize, &'a Advance)>,
    /// Those that another node may have in charge.
    moved: Vec<&'a DelegationKey>,
    /// Acknowledgements, no two of the same inbox.
    pub(crate) acks: Vec<(usize, WorkspaceId, Position)>,
    pub(crate) rest: Vec<(usize, &'a Write)>,
}

impl<'a> Run<'a> {
    /// None when these writes are not to be stored together. Beginnings with a key may go apart, so that each finds out
    /// what its key means.
    pub(crate) fn of(writes: &'a [Write], keys_apart: bool) -> Option<Self> {
        let bytes: usize = writes.iter().map(Write::bytes).sum();
        if bytes > RUN_BYTES {
            return None;
        }
        let mut run = Self::default();
        for (number, write) in writes.iter().enumerate() {
            let new = match write {
                Write::Accept(accept) => {
                    if keys_apart && has_key(write) {
                        run.rest.push((number, write));
                    } else {
                        run.accepts.push((number, accept));
                    }
                    begins_plainly(accept) && run.keys.insert(&accept.delegation.terms.key)
                }
                Write::Advance(advance) => {
                    run.advances.push((number, advance));
                    run.keys.insert(&advance.key)
                }
                Write::Visit(advance) => {
                    run.advances.push((number, advance));
                    run.moved.push(&advance.key);
                    run.keys.insert(&advance.key)
                }
                Write::Acknowledge { workspace, upto }
                    if run.acks.iter().all(|(_, other, _)| other != workspace) =>
                {
                    run.acks.push((number, *workspace, *upto));
                    true
                }
                Write::DeliverOwed { .. } => false,
                other => {
                    run.rest.push((number, other));
                    true
                }
            };
            if !new {
                return None;
            }
        }
        (run.rest.len() < writes.len()).then_some(run)
    }

    /// Whether one of those that begin has a key.
    pub(crate) fn has_keys(&self) -> bool {
        let mut accepts = self.accepts.iter();
        accepts.any(|(_, accept)| accept.delegation.idempotency.is_some())
    }

    /// The place among the changes of the one with this number.
    pub(crate) fn place_of(&self, write: usize) -> Option<usize> {
        self.advances
            .binary_search_by_key(&write, |(number, _)| *number)
            .ok()
    }
}

/// Whether it begins a delegation under a key of its caller.
pub(crate) fn has_key(write: &Write) -> bool {
    matches!(write, Write::Accept(accept) if accept.delegation.idempotency.is_some())
}

/// Whether its row says nothing in the columns that only later changes fill in.
const fn begins_plainly(accept: &Accept) -> bool {
    match &accept.delegation.state {
        State::Pending | State::Working(_) | State::Queued(_) => true,
        State::Stuck(_) | State::InputRequired(_) | State::Ended(_) => false,
    }
}

/// How many delegations ended, by how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Endings {
    pub(crate) completed: i64,
    pub(crate) failed: i64,
    pub(crate) cancelled: i64,
}

impl Endings {
    /// However they ended.
    pub(crate) const fn all(self) -> i64 {
        self.completed
            .saturating_add(self.failed)
            .saturating_add(self.cancelled)
    }

    const fn count(&mut self, ending: &Ending) {
        let number = match ending {
            Ending::Completed { .. } => &mut self.completed,
            Ending::Failed { .. } => &mut self.failed,
            Ending::Cancelled { .. } => &mut self.cancelled,
        };
        *number = number.saturating_add(1);
    }
}

/// How this change ends its delegation. Each ending has one result row; what is only learnt of an ended one has none.
pub(crate) fn ending_of(advance: &Advance) -> Option<&Ending> {
    let result = |row: &FeedRow| row.method.as_deref() == Some(METHOD_DELEGATE_RESULT);
    match &advance.life.state {
        State::Ended(ended) if advance.feed.rows.iter().any(result) => Some(&ended.ending),
        _ => None,
    }
}

/// One transaction's worth of writes.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// How they are written.
    pub(crate) manner: Manner,
    /// The node that writes.
    pub(crate) node: NodeId,
    /// Its places come after this one.
    before: Position,
    /// The last of the places that were taken for each write.
    last: Vec<Position>,
    /// Outcomes, in the order of the writes; none for those that are yet to be applied.
    pub(crate) written: Vec<Option<Written>>,
    /// The number of the write that is being applied.
    pub(crate) current: usize,
    /// What is to be shown, each with the number of its write.
    pub(crate) items: Vec<(usize, Item<'a>)>,
    /// Delegations that were moved although another node may have them in charge.
    pub(crate) moved: Vec<&'a DelegationKey>,
    /// How many ended, by how.
    pub(crate) endings: Endings,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(writes: &[Write], manner: Manner, node: NodeId, before: Position) -> Self {
        let taken = |last: &mut Position, write| {
            let places = i64::try_from(places_of(write)).unwrap_or(i64::MAX);
            last.0 = last.0.saturating_add(places);
            Some(*last)
        };
        Self {
            manner,
            node,
            before,
            last: writes.iter().scan(before, taken).collect(),
            written: vec![None; writes.len()],
            current: 0,
            items: Vec::with_capacity(writes.len()),
            moved: Vec::new(),
            endings: Endings::default(),
        }
    }

    pub(crate) fn show(&mut self, item: Item<'a>) {
        self.items.push((self.current, item));
    }

    /// Notes what the current write came to.
    pub(crate) fn note(&mut self, written: Written) {
        if let Some(place) = self.written.get_mut(self.current) {
            *place = Some(written);
        }
    }

    /// The number of the delegation that this write begins.
    pub(crate) fn number_of(&self, write: usize) -> Position {
        self.last.get(write).copied().unwrap_or(self.before)
    }

    /// Takes a run up that is to be stored in one statement, all of it or nothing.
    pub(crate) fn take_run(&mut self, run: &Run<'a>) {
        for (write, accept) in &run.accepts {
            self.current = *write;
            self.began(accept, self.number_of(*write));
            let retry_of = accept.delegation.retry_of.clone();
            self.note(Written::Accepted(Acceptance::Created { retry_of }));
        }
        for (write, advance) in &run.advances {
            self.current = *write;
            self.advanced(advance, None);
            self.note(Written::Advanced);
        }
        self.moved.extend(&run.moved);
        self.items.sort_by_key(|(write, _)| *write);
    }

    /// Notes how far the inboxes of a run are acknowledged now.
    pub(crate) fn note_acks(&mut self, run: &Run<'_>, acked: &HashMap<WorkspaceId, Position>) {
        for (write, workspace, _) in &run.acks {
            self.current = *write;
            let acked = acked.get(workspace).copied().unwrap_or(Position(0));
            self.note(Written::Acknowledged(acked));
        }
    }

    /// Its places came after this one, it turned out.
    pub(crate) fn move_behind(&mut self, before: Position) {
        self.before = before;
    }

    /// What the current write began is to be shown.
    pub(crate) fn began(&mut self, accept: &'a Accept, number: Position) {
        let delegation = &accept.delegation;
        let feeds = accept.sent.iter().map(|sent| &sent.feed);
        for feed in std::iter::once(&accept.feed).chain(feeds) {
            self.show_feed(feed, &delegation.terms.key, Some(number));
        }
        if let State::Ended(ended) = &delegation.state {
            self.endings.count(&ended.ending);
        }
    }

    /// What the current write changed is to be shown, and counted when it ended.
    pub(crate) fn advanced(&mut self, advance: &'a Advance, number: Option<Position>) {
        self.show_feed(&advance.feed, &advance.key, number);
        if let Some(ending) = ending_of(advance) {
            self.endings.count(ending);
        }
    }

    /// Rows, then the reply, then events.
    fn show_feed(&mut self, feed: &'a Feed, key: &'a DelegationKey, number: Option<Position>) {
        for row in &feed.rows {
            self.show(Item::Row(row, number));
        }
        if let Some(reply) = &feed.reply {
            self.show(Item::Reply(reply, key, number));
        }
        self.show_events(&feed.events);
    }

    pub(crate) fn show_events(&mut self, events: &'a [FeedEvent]) {
        for event in events {
            self.show(Item::Event(event));
        }
    }

    /// Whether an earlier try of these writes may have been committed.
    pub(crate) fn is_careful(&self) -> bool {
        self.manner == Manner::Alone
    }

    /// Each item with the number of its write and its place.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (usize, Position, Item<'a>)> {
        (self.before.0.saturating_add(1)..)
            .map(Position)
            .zip(&self.items)
            .map(|(position, (write, item))| (*write, position, *item))
    }

    /// The commit's answer, once everything is stored; `refused` are the replies that were not.
    pub(crate) fn finish(mut self, refused: &[(Position, Refusal)]) -> Commit {
        let mut published = Vec::with_capacity(self.items.len());
        let (mut replies_owed, mut replies_written) = (0, 0);
        let places: Vec<(usize, Position, Item<'a>)> = self.placed().collect();
        for (write, position, item) in places {
            let refusal = refused.iter().find(|(place, _)| *place == position);
            match (item, refusal) {
                (Item::Reply(..), Some((_, Refusal::Owed(_)))) => replies_owed += 1,
                (Item::Owed(..), Some((_, Refusal::Owed(why)))) => {
                    if let Some(written) = self.written.get_mut(write) {
                        *written = Some(Written::Failed(why.as_str().into()));
                    }
                }
                (_, Some((_, Refusal::AlreadyThere))) => {}
                (Item::Event(event), _) => {
                    published.push(Published::Event {
                        position,
                        event: event.clone(),
                    });
                }
                (Item::Row(row, _) | Item::Reply(row, ..) | Item::Owed(row, ..), _) => {
                    replies_written += u64::from(!matches!(item, Item::Row(..)));
                    if let Some(Some(Written::Logged(place))) = self.written.get_mut(write) {
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
            // Each was applied, or the transaction failed as a whole.
            written: self.written.into_iter().flatten().collect(),
            published,
            replies_owed,
            replies_written,
            // Known once the transaction is committed.
            span: None,
        }
    }
}
