//! What the rest of Baton may ask of a database.

mod canvas;
mod read;

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{
    Accept, ActivityType, Advance, Course, DelegationId, DelegationKey, DeliveryMode, FeedEvent,
    FeedRow, Json, Position, Receiver, ReceiverId, ReceiverState, SealedCredential, Status,
    Timestamp, TokenId, Workspace, WorkspaceId, WorkspaceStatus,
};

pub use canvas::*;
pub use read::*;

/// What can go wrong with a database.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// It is away, full, locked or read-only: the same call may succeed later. Nothing was written.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// It refuses this very statement, today and tomorrow. Nothing was written.
    #[error("the database refused the statement: {0}")]
    Refused(String),
    /// This process is a node no more: another took over what it had. Nothing was written, and never will be again.
    #[error("another node took over from this one")]
    Fenced,
    /// Another process has the database to itself.
    #[error(
        "another Baton is running on this database; stop it first, or give this one a database of its own"
    )]
    Claimed,
    /// A stored value has no meaning for this version.
    #[error("column {column} holds {value:?}, which this version cannot read")]
    Unreadable {
        /// Where.
        column: &'static str,
        /// What.
        value: String,
    },
}

/// One change to commit.
#[derive(Clone, Debug)]
pub enum Write {
    /// Begin a delegation.
    Accept(Box<Accept>),
    /// Move a delegation that this node has in charge.
    Advance(Arc<Advance>),
    /// Move a delegation that another node may have in charge, which is told of it.
    Visit(Arc<Advance>),
    /// Write a reply that is owed (rule 4). Does nothing when it is not owed any more.
    DeliverOwed {
        /// Whose.
        key: DelegationKey,
        /// The reply.
        reply: Box<FeedRow>,
    },
    /// Append rows that belong to no delegation. Nothing is written when the workspace does not exist.
    Log(Box<FeedRow>),
    /// Record an event that belongs to no delegation.
    Record(Box<FeedEvent>),
    /// Move the acknowledged position of a workspace's inbox up to `upto`, clamped to what its feed holds.
    Acknowledge {
        /// Whose inbox.
        workspace: WorkspaceId,
        /// Up to here, inclusive.
        upto: Position,
    },
    /// Create a workspace, with its first token and the events that tell of it.
    CreateWorkspace {
        /// The workspace.
        workspace: Box<Workspace>,
        /// Its first token, if it gets one.
        token: Option<NewToken>,
        /// What is shown.
        events: Vec<FeedEvent>,
    },
    /// Change some fields of a workspace that exists and is not removed.
    PatchWorkspace {
        /// Which.
        id: WorkspaceId,
        /// What.
        patch: Box<WorkspacePatch>,
        /// What is shown.
        events: Vec<FeedEvent>,
        /// When.
        at: Timestamp,
    },
    /// Mark workspaces as removed, revoke their tokens; with `purge`, delete them and their feeds.
    RemoveWorkspaces {
        /// Which.
        ids: Vec<WorkspaceId>,
        /// Whether to forget them.
        purge: bool,
        /// What is shown.
        events: Vec<FeedEvent>,
        /// When.
        at: Timestamp,
    },
    /// An agent registers (contract §9.1): the workspace is made or updated, never when removed.
    Register(Box<Registration>),
    /// Mint a token, unless the workspace has `limit` live ones.
    MintToken {
        /// The token.
        token: NewToken,
        /// How many live ones are allowed, this one included.
        limit: i64,
    },
    /// Revoke a token of a workspace.
    RevokeToken {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        token: TokenId,
        /// When.
        at: Timestamp,
    },
    /// Note when tokens were last used.
    TokensUsed(Vec<TokenUse>),
    /// Take over what other nodes had that are gone.
    TakeOver(Gone),
    /// Give up the lease: whoever comes next takes over at once.
    Leave,
    /// Forget the nodes that were taken over and have nothing live any more.
    ForgetNodes,
    /// Change who is told by HTTP.
    Receiver(Box<ReceiverChange>),
    /// Forget old rows of one feed.
    Prune(Prune),
    /// Forget old recorded events.
    PruneEvents {
        /// Only events after this place are looked at,
        after: Position,
        /// and of those the oldest, this many.
        limit: i64,
        /// Those from before this instant go.
        before: Timestamp,
    },
}

/// A change of who is told by HTTP.
#[derive(Clone, Debug)]
pub enum ReceiverChange {
    /// Tell one more, from this node, unless there are `limit` of its workspace and delegation. One of the same name makes
    /// room for it, and it is told on from where that one was.
    Put {
        /// Whom.
        receiver: Receiver,
        /// How many are allowed, this one included.
        limit: usize,
    },
    /// Tell one no more.
    Drop {
        /// Whose.
        workspace: WorkspaceId,
        /// Of which delegation.
        delegation: Option<DelegationId>,
        /// By which name.
        config: Box<str>,
    },
    /// Note how far one was told, which this node tells.
    Note {
        /// Which.
        id: ReceiverId,
        /// How far.
        course: Course,
    },
    /// Tell one on that is dead, from this node.
    Replay(ReceiverId),
    /// Forget some of those that were told everything, or died.
    Prune {
        /// Those that were done, and made before this instant;
        done_before: Timestamp,
        /// those that began to fail before this one.
        dead_before: Timestamp,
        /// At most this many.
        limit: i64,
    },
}

/// Which nodes count as gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// Only those that said so.
    Left,
    /// Those whose lease has expired, too.
    Expired,
}

/// Which rows of a feed are to be forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prune {
    /// Whose feed.
    pub workspace: WorkspaceId,
    /// Only rows after this place are looked at,
    pub after: Position,
    /// and of those the oldest, this many.
    pub limit: i64,
    /// Rows from before this instant go, unless they are messages that nobody has acknowledged.
    pub before: Timestamp,
    /// Rows from before this instant go in any case; not later than `before`.
    pub hard_before: Timestamp,
}

/// A token to store: never the secret, only its hash.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The secret's first eight characters, to recognise it by.
    pub prefix: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// That a token was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenUse {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// When.
    pub at: Timestamp,
}

/// Fields to change; `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct WorkspacePatch {
    /// New name.
    pub name: Option<String>,
    /// New role.
    pub role: Option<Option<String>>,
    /// New tier.
    pub tier: Option<i32>,
    /// New parent.
    pub parent: Option<Option<WorkspaceId>>,
    /// New runtime.
    pub runtime: Option<String>,
    /// Folded or not.
    pub collapsed: Option<bool>,
    /// New place on the canvas.
    pub place: Option<(f64, f64)>,
    /// May it delegate.
    pub can_delegate: Option<bool>,
    /// How many tasks at once.
    pub max_concurrent_tasks: Option<i32>,
    /// New presence.
    pub status: Option<WorkspaceStatus>,
    /// New card.
    pub agent_card: Option<Json>,
    /// New credentials.
    pub credentials: Option<Option<SealedCredential>>,
    /// A heartbeat's figures.
    pub heartbeat: Option<Heartbeat>,
}

/// What an agent says of itself (contract §9.2).
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// When.
    pub at: Timestamp,
    /// Errors per request.
    pub error_rate: f64,
    /// One of them.
    pub sample_error: String,
    /// What it works on.
    pub active_tasks: i32,
    /// How long it has been up.
    pub uptime_seconds: i32,
    /// In words.
    pub current_task: String,
    /// In cents; none for no change.
    pub monthly_spend: Option<i64>,
}

/// An agent's registration (contract §9.1).
#[derive(Clone, Debug)]
pub struct Registration {
    /// Which workspace.
    pub id: WorkspaceId,
    /// Where it listens; none for poll mode without an address.
    pub url: Option<String>,
    /// Its card.
    pub agent_card: Json,
    /// What it wants to see of its callers; `None` for what it wanted before.
    pub credentials: Option<Option<SealedCredential>>,
    /// How it takes work.
    pub delivery_mode: DeliveryMode,
    /// A token for it, stored only if it has no live one.
    pub token: NewToken,
    /// What is shown.
    pub events: Vec<FeedEvent>,
    /// When.
    pub at: Timestamp,
}

/// What a write came to.
#[derive(Clone, Debug)]
pub enum Written {
    /// To [`Write::Accept`].
    Accepted(Acceptance),
    /// To [`Write::Advance`] and [`Write::Visit`]: committed now, or by an earlier try of the same change.
    Advanced,
    /// To the same: the stored delegation has moved on without this actor; nothing was written.
    Stale,
    /// To [`Write::DeliverOwed`], [`Write::Record`], [`Write::CreateWorkspace`], [`Write::RemoveWorkspaces`],
    /// [`Write::Receiver`], [`Write::TokensUsed`], [`Write::TakeOver`], [`Write::Leave`], [`Write::ForgetNodes`].
    Done,
    /// To [`Write::Log`].
    Logged(Position),
    /// To [`Write::Acknowledge`]: the position acknowledged now.
    Acknowledged(Position),
    /// To [`Write::Register`]: whether the given token was stored.
    Registered {
        /// Whether it was.
        token_stored: bool,
    },
    /// To [`ReceiverChange::Put`].
    Put {
        /// From where it is told.
        position: Position,
        /// Whether there is anything to tell it.
        state: ReceiverState,
        /// Who made room for it.
        before: Option<ReceiverId>,
    },
    /// To [`Write::Prune`], [`Write::PruneEvents`], [`ReceiverChange::Prune`].
    Pruned {
        /// How many rows went.
        deleted: usize,
        /// Where to look on; none when everything else is too young.
        next: Option<Position>,
    },
    /// To [`Write::MintToken`], [`ReceiverChange::Put`]: it would be one too many.
    TooMany,
    /// What was to be changed does not exist (or is removed, or revoked); nothing was written.
    Missing,
    /// This write alone was refused; the rest of its batch was committed.
    Failed(Arc<str>),
}

/// What became of a delegation that was to begin.
#[derive(Clone, Debug)]
pub enum Acceptance {
    /// It began.
    Created {
        /// The failed delegation whose key it took over, if any.
        retry_of: Option<DelegationId>,
    },
    /// The caller's key was used before for the same target and task.
    Replayed {
        /// That delegation.
        id: DelegationId,
        /// Where it stands.
        status: Status,
    },
    /// The caller's key was used before for something else.
    KeyMismatch,
    /// The caller has a delegation of this id.
    IdTaken,
}

/// What a commit made visible, in the order of its positions.
#[derive(Clone, Debug)]
pub enum Published {
    /// A recorded event.
    Event {
        /// Its place.
        position: Position,
        /// The event.
        event: FeedEvent,
    },
    /// A feed row.
    Row {
        /// Its place.
        position: Position,
        /// Whose feed.
        workspace: WorkspaceId,
        /// What it is.
        activity_type: ActivityType,
    },
}

/// The result of a commit: one [`Written`] for each [`Write`], in order, and what is to be shown now.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Outcomes, in the order of the writes.
    pub written: Vec<Written>,
    /// What became visible.
    pub published: Vec<Published>,
    /// The places that it took; none when it wrote nothing.
    pub span: Option<Span>,
    /// Replies that could not be written with their endings and are owed now.
    pub replies_owed: u64,
    /// Replies that were written, with their endings or later.
    pub replies_written: u64,
}

/// The places that a commit took: all after `before`, up to `last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The last place of what was committed before.
    pub before: Position,
    /// The last of its own.
    pub last: Position,
    /// No other commit took a place between this one and the last.
    pub unbroken_since: Position,
}

impl Span {
    /// That of one transaction with this many places.
    pub(crate) const fn of(before: Position, number: i64) -> Self {
        Self {
            before,
            last: Position(before.0.saturating_add(number)),
            unbroken_since: before,
        }
    }

    /// What two commits took, one after the other.
    #[must_use]
    pub fn joined(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        let (Some(first), Some(second)) = (first, second) else {
            return first.or(second);
        };
        Some(Self {
            before: first.before,
            last: second.last,
            unbroken_since: if second.before == first.last {
                first.unbroken_since
            } else {
                second.unbroken_since
            },
        })
    }
}

/// A connection that writes, under this node's lease. Blocking. After [`Error::Unavailable`] or a panic it is
/// dropped and opened anew.
pub trait Writer: Send {
    /// Commits all of `writes` in one transaction, or none: but a write that the database refuses is isolated, answered
    /// with [`Written::Failed`], and the rest is committed without it. Each transaction first proves that this node
    /// still holds its lease, and renews it when a quarter of it has passed; no writes at all always renew it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing could be committed, or when it is not known whether it was. Repeating the
    /// same writes is safe, but that an event that belongs to no delegation may be recorded twice. [`Error::Fenced`]
    /// when another node took over from this one.
    fn commit(&mut self, writes: &[Write]) -> Result<Commit, Error> {
        self.commit_watched(writes, None)
    }

    /// [`Writer::commit`], which calls `written`, if given, in each of its transactions when all is written and nothing
    /// committed.
    ///
    /// # Errors
    /// Those of [`Writer::commit`].
    fn commit_watched(
        &mut self,
        writes: &[Write],
        written: Option<&dyn Fn()>,
    ) -> Result<Commit, Error>;
}

/// How to reach a database.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `sqlite://PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reads.
    pub read_connections: u32,
    /// How long the database may answer nobody before a read is not waited for any more: [`Error::Unavailable`].
    pub read_budget: Duration,
}
