//! What the rest of Baton may ask of a database.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{
    Accept, ActivityId, ActivityType, Advance, Attempt, Audited, DelegationId, DelegationKey,
    DeliveryMode, Ending, EventId, FeedEvent, FeedRow, Incarnation, Json, Life, Position, Revision,
    Status, Terms, Timestamp, TokenId, Workspace, WorkspaceId, WorkspaceStatus,
};

/// What can go wrong with a database.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// It is away, full, locked or read-only: the same call may succeed later. Nothing was written.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// It refuses this very statement, today and tomorrow. Nothing was written.
    #[error("the database refused the statement: {0}")]
    Refused(String),
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
    /// Move a delegation.
    Advance(Box<Advance>),
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
    /// To [`Write::Advance`]: committed now, or by an earlier try of the same change.
    Advanced,
    /// To [`Write::Advance`]: the stored delegation has moved on without this actor; nothing was written.
    Stale,
    /// To [`Write::DeliverOwed`], [`Write::Record`], [`Write::CreateWorkspace`], [`Write::RemoveWorkspaces`].
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
    /// To [`Write::MintToken`]: it would be one too many.
    TooManyTokens,
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
    /// Replies that could not be written with their endings and are owed now.
    pub replies_owed: u64,
}

/// The one connection that writes. Blocking. After [`Error::Unavailable`] or a panic it is dropped and opened anew.
pub trait Writer: Send {
    /// Commits all of `writes` in one transaction, or none: but a write that the database refuses is isolated, answered
    /// with [`Written::Failed`], and the rest is committed without it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing could be committed, or when it is not known whether it was. Repeating the
    /// same writes is safe.
    fn commit(&mut self, writes: &[Write]) -> Result<Commit, Error>;
}

/// A delegation as an actor needs it to go on.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is agreed.
    pub terms: Terms,
    /// Where it stands.
    pub life: Life,
    /// The revision of that.
    pub revision: Revision,
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
}

/// A delegation as people and agents see it.
#[derive(Clone, Debug)]
pub struct DelegationView {
    /// Terms, life, revision.
    pub loaded: Loaded,
    /// The first 4,096 bytes of the task.
    pub task_preview: String,
    /// The delegation that this one repeats.
    pub retry_of: Option<DelegationId>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Its past, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The target's reply, byte for byte.
    pub raw_reply: Option<Vec<u8>>,
}

/// One step of a delegation's past.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct HistoryEntry {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// The status it came to.
    pub status: Box<str>,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// What is to be said of it: an error, what it waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<Box<str>>,
}

/// A line of a list of delegations.
#[derive(Clone, Debug)]
pub struct DelegationLine {
    /// Which.
    pub key: DelegationKey,
    /// Who works; unknown for an adopted one.
    pub target: Option<WorkspaceId>,
    /// The first 4,096 bytes of the task.
    pub task_preview: String,
    /// Where it stands.
    pub status: Status,
    /// The first 4,096 bytes of the result.
    pub result_preview: Option<String>,
    /// What went wrong.
    pub error_detail: Option<String>,
    /// For machines.
    pub error_class: Option<String>,
    /// When the target last gave a sign.
    pub last_heartbeat: Option<Timestamp>,
    /// The end of every wait.
    pub deadline: Timestamp,
    /// The number of the latest try.
    pub attempt: Attempt,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Which delegations to list, newest first.
#[derive(Clone, Debug)]
pub struct DelegationFilter {
    /// Only those that this workspace sent or received.
    pub party: Option<WorkspaceId>,
    /// Only these; all when empty.
    pub statuses: Vec<Status>,
    /// Only those accepted before the one that this cursor names: its time and id.
    pub before: Option<(Timestamp, DelegationId)>,
    /// At most this many.
    pub limit: i64,
}

/// A feed row as read back.
#[derive(Clone, Debug)]
pub struct ActivityView {
    /// Its place.
    pub position: Position,
    /// Its id.
    pub id: ActivityId,
    /// Whose feed.
    pub workspace: WorkspaceId,
    /// What it is.
    pub activity_type: String,
    /// From whom.
    pub source: Option<WorkspaceId>,
    /// To whom, or who answered.
    pub target: Option<WorkspaceId>,
    /// What was called.
    pub method: Option<String>,
    /// One line for people.
    pub summary: Option<String>,
    /// What was asked.
    pub request_body: Option<Json>,
    /// What came of it.
    pub response_body: Option<Json>,
    /// Tools used.
    pub tool_trace: Option<Json>,
    /// How long it took.
    pub duration_ms: Option<i32>,
    /// Status; for the `delegate` row of a delegation, where that delegation stands now.
    pub status: String,
    /// What went wrong; for the `delegate` row, with that delegation now.
    pub error_detail: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

/// Who a row is from (contract §8.1 `source`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceFilter {
    /// A person at the canvas.
    Canvas,
    /// An agent.
    Agent,
}

/// Which feed rows to read. All conditions hold together.
#[derive(Clone, Debug)]
pub struct ActivityFilter {
    /// Whose feed.
    pub workspace: WorkspaceId,
    /// Only this `activity_type`; an unknown word finds nothing.
    pub activity_type: Option<String>,
    /// Only from these.
    pub source: Option<SourceFilter>,
    /// Only from or to this workspace.
    pub peer: Option<WorkspaceId>,
    /// Only since this instant, inclusive.
    pub since: Option<Timestamp>,
    /// Only before this instant.
    pub before: Option<Timestamp>,
    /// Only after this place; the oldest come first then, else the newest.
    pub after_position: Option<Position>,
    /// Only before this place.
    pub before_position: Option<Position>,
    /// At most this many.
    pub limit: i64,
}

/// A recorded event as read back.
#[derive(Clone, Debug)]
pub struct EventView {
    /// Its place.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// What happened.
    pub name: String,
    /// To whom it is shown.
    pub workspace: Option<WorkspaceId>,
    /// The particulars.
    pub payload: Option<Json>,
    /// When.
    pub created_at: Timestamp,
}

/// A token as listed.
#[derive(Clone, Debug)]
pub struct TokenView {
    /// Its id.
    pub id: TokenId,
    /// The secret's first eight characters.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, if that is known.
    pub last_used_at: Option<Timestamp>,
}

/// A reply that is owed, with what is needed to write it.
#[derive(Clone, Debug)]
pub struct OwedReply {
    /// What was agreed.
    pub terms: Terms,
    /// How it ended.
    pub ending: Ending,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// Reads. Blocking; each call sees what was committed before it began.
pub trait Reader {
    /// The workspace that a live token of this SHA-256 belongs to; none when revoked, unknown, or the workspace removed.
    fn token_owner(&mut self, hash: &[u8; 32]) -> Result<Option<WorkspaceId>, Error>;
    /// One workspace, removed ones included.
    fn workspace(&mut self, id: WorkspaceId) -> Result<Option<Workspace>, Error>;
    /// All that are not removed, oldest first.
    fn workspaces(&mut self) -> Result<Vec<Workspace>, Error>;
    /// A workspace's line: itself, its parent, … up to its root, at most 32 long; empty when it does not exist.
    fn ancestry(&mut self, id: WorkspaceId) -> Result<Vec<WorkspaceId>, Error>;
    /// All live workspaces below this one, itself not included, nearest first.
    fn descendants(&mut self, id: WorkspaceId) -> Result<Vec<Workspace>, Error>;
    /// Siblings (same parent), then children, then the parent; removed ones left out.
    fn peers(&mut self, id: WorkspaceId) -> Result<Vec<Workspace>, Error>;
    /// Live tokens of a workspace, newest first.
    fn tokens(
        &mut self,
        workspace: WorkspaceId,
        limit: i64,
        offset: i64,
    ) -> Result<Vec<TokenView>, Error>;

    /// A delegation as an actor needs it.
    fn load(&mut self, key: &DelegationKey) -> Result<Option<Loaded>, Error>;
    /// The delegation that `party` knows by `id`: its own, else the earliest that it was given. The key says whose.
    fn find_key(
        &mut self,
        party: WorkspaceId,
        id: &DelegationId,
    ) -> Result<Option<DelegationKey>, Error>;
    /// The whole of a delegation.
    fn view(&mut self, key: &DelegationKey) -> Result<Option<DelegationView>, Error>;
    /// The whole task.
    fn task(&mut self, key: &DelegationKey) -> Result<Option<Arc<str>>, Error>;
    /// Live delegations in the order of their keys, after `after`, at most `limit`.
    fn live(&mut self, after: Option<&DelegationKey>, limit: i64) -> Result<Vec<Loaded>, Error>;
    /// A list, newest first.
    fn delegations(&mut self, filter: &DelegationFilter) -> Result<Vec<DelegationLine>, Error>;
    /// How many there are of each status; absent ones are zero.
    fn counts(&mut self) -> Result<Vec<(Status, i64)>, Error>;
    /// Replies that are owed, oldest first.
    fn owed_replies(&mut self, limit: i64) -> Result<Vec<OwedReply>, Error>;
    /// Delegations with what the feed holds for them, in the order of their keys, after `after`. `overdue_before` is
    /// the instant before which no live delegation's deadline may lie.
    fn audit(
        &mut self,
        after: Option<&DelegationKey>,
        limit: i64,
        overdue_before: Timestamp,
    ) -> Result<Vec<Audited>, Error>;

    /// Feed rows.
    fn activity(&mut self, filter: &ActivityFilter) -> Result<Vec<ActivityView>, Error>;
    /// The place of a row in a workspace's feed; none when it is not in that feed.
    fn activity_position(
        &mut self,
        workspace: WorkspaceId,
        id: ActivityId,
    ) -> Result<Option<Position>, Error>;
    /// The acknowledged place of a workspace's inbox; zero before the first acknowledgement.
    fn acknowledged(&mut self, workspace: WorkspaceId) -> Result<Position, Error>;
    /// The newest recorded events, newest first, of one workspace or of all.
    fn recent_events(
        &mut self,
        workspace: Option<WorkspaceId>,
        limit: i64,
    ) -> Result<Vec<EventView>, Error>;
    /// Recorded events after a place, oldest first, of one workspace or of all.
    fn events_after(
        &mut self,
        workspace: Option<WorkspaceId>,
        after: Position,
        limit: i64,
    ) -> Result<Vec<EventView>, Error>;
    /// The newest place of all, zero before the first.
    fn last_position(&mut self) -> Result<Position, Error>;
}

/// How to reach a database.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `sqlite://PATH` or `postgres://…`.
    pub url: String,
    /// Connections for reads.
    pub read_connections: u32,
    /// How long a read waits for one of them before [`Error::Unavailable`].
    pub read_wait: Duration,
}
