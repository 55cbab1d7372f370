//! What can be read.

use std::sync::Arc;

use super::{Error, Faces, Family, Line, LineFilter, LinePage, LiveMarks, Tally, ToldOf};
use crate::domain::{
    ActivityId, ActivityType, Attempt, Audited, DelegationId, DelegationKey, Ending, Envelope,
    EventId, Incarnation, Json, Life, NodeId, Position, Receiver, ReceiverId, ReceiverState,
    Revision, Said, Status, Terms, Timestamp, TokenId, Workspace, WorkspaceId,
};

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
    /// The node that accepted it; whoever holds that node's row has it in charge.
    pub owner: NodeId,
}

/// Some of many delegations, in the order of their acceptance.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What can be read.
    pub rows: Vec<T>,
    /// The number of the last one, readable or not: the next page comes after it. None when there was nothing any more.
    pub last: Option<Position>,
}

/// A node as the others see it, by the database's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Which.
    pub id: NodeId,
    /// Who has its delegations in charge: itself, or who took over.
    pub holder: NodeId,
    /// Whether its lease has expired.
    pub expired: bool,
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
    /// The delegation in whose course it was handed on.
    pub parent: Option<DelegationKey>,
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
    /// Its number: the higher, the later it was accepted.
    pub number: Position,
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
    /// Only those accepted before the one of this number.
    pub before: Option<Position>,
    /// Only those whose time of acceptance lies before this instant.
    pub older_than: Option<Timestamp>,
    /// At most this many.
    pub limit: i64,
}

/// The newest delegations between two workspaces that a list looks at.
pub(crate) const HANDED_MAX: i64 = 10_000;

/// Which of the delegations between two workspaces to list. Only the newest ten thousand are looked at.
#[derive(Clone, Debug)]
pub struct HandedFilter {
    /// Who handed them over.
    pub caller: WorkspaceId,
    /// To whom.
    pub target: WorkspaceId,
    /// Only those of this context.
    pub context: Option<String>,
    /// Only those that stand so; all with none.
    pub standings: Option<Vec<(Status, Classes)>>,
    /// Only those that have changed at this instant or later.
    pub changed_after: Option<Timestamp>,
    /// Only those after this place of the list.
    pub after: Option<(Timestamp, Position)>,
    /// At most this many.
    pub limit: i64,
}

/// Why those failed that are meant, by the classes of errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Classes {
    /// For any reason, or for none.
    Any,
    /// For this one.
    Only(&'static str),
    /// For any but these.
    But(&'static [&'static str]),
}

impl Classes {
    /// Whether this one is meant.
    pub(crate) fn mean(self, class: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(one) => class == one,
            Self::But(others) => !others.contains(&class),
        }
    }
}

/// A page of the delegations between two workspaces, the last changed first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handed {
    /// Which, each with its place in the list.
    pub keys: Vec<((Timestamp, Position), DelegationKey)>,
    /// Whether more follow.
    pub more: bool,
    /// How many there are on all pages.
    pub total: i64,
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
    /// The delegation whose request this row is, as long as it waits for its target to read it.
    pub unfetched: Option<DelegationKey>,
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

impl ActivityFilter {
    /// The messages of a workspace after a place.
    #[must_use]
    pub fn messages_after(workspace: WorkspaceId, place: Position, limit: i64) -> Self {
        Self {
            workspace,
            activity_type: Some(ActivityType::A2aReceive.as_str().to_owned()),
            source: None,
            peer: None,
            since: None,
            before: None,
            after_position: Some(place),
            before_position: None,
            limit,
        }
    }
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

/// What an audit judges a delegation by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuditLimits {
    /// No live delegation's deadline may lie before this instant.
    pub overdue_before: Timestamp,
    /// What was written before this instant may have been pruned.
    pub pruned_before: Timestamp,
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
    /// The delegation that `party` knows by `id`: its own, else of those that it was given a live one before an ended
    /// one, then the newest. The key says whose.
    fn find_key(
        &mut self,
        party: WorkspaceId,
        id: &DelegationId,
    ) -> Result<Option<DelegationKey>, Error>;
    /// The whole of a delegation.
    fn view(&mut self, key: &DelegationKey) -> Result<Option<DelegationView>, Error>;
    /// The whole task.
    fn task(&mut self, key: &DelegationKey) -> Result<Option<Arc<str>>, Error>;
    /// What the target is to be told.
    fn said(&mut self, key: &DelegationKey) -> Result<Option<Said>, Error>;
    /// What the delegation came as, if it was an A2A message.
    fn envelope(&mut self, key: &DelegationKey) -> Result<Option<Envelope>, Error>;
    /// The delegation in whose course it was handed on, if it was.
    fn parent(&mut self, key: &DelegationKey) -> Result<Option<DelegationKey>, Error>;
    /// What was said and made in the course of a delegation, oldest first, at most `limit`.
    fn course(&mut self, key: &DelegationKey, limit: i64) -> Result<Vec<EventView>, Error>;
    /// What one workspace handed to another, the last changed first.
    fn handed(&mut self, filter: &HandedFilter) -> Result<Handed, Error>;
    /// The number of a delegation.
    fn number(&mut self, key: &DelegationKey) -> Result<Option<Position>, Error>;
    /// Live delegations that `owner` accepted, in that order, after the number `after`, at most `limit`.
    fn live(
        &mut self,
        owner: NodeId,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Page<Loaded>, Error>;
    /// Delegations that wait for a workspace that was removed, at most `limit`.
    fn waiting_for_removed(&mut self, limit: i64) -> Result<Vec<DelegationKey>, Error>;
    /// All nodes that are not forgotten.
    fn nodes(&mut self) -> Result<Vec<NodeView>, Error>;
    /// A list, newest first.
    fn delegations(&mut self, filter: &DelegationFilter) -> Result<Vec<DelegationLine>, Error>;
    /// The workspaces that were not removed, the newest first, at most `limit`; and how many there are.
    fn faces(&mut self, limit: i64) -> Result<Faces, Error>;
    /// What lives, of one party or of all, the newest first, at most `limit`; and how many there are.
    fn live_marks(&mut self, party: Option<WorkspaceId>, limit: i64) -> Result<LiveMarks, Error>;
    /// A page of what a person looks for, newest first.
    fn lines(&mut self, filter: &LineFilter) -> Result<LinePage, Error>;
    /// The lines of these, newest first.
    fn lines_of(&mut self, keys: &[DelegationKey]) -> Result<Vec<Line>, Error>;
    /// Those of these that have a known target and that nobody began again yet.
    fn repeatable(&mut self, keys: &[DelegationKey]) -> Result<Vec<DelegationKey>, Error>;
    /// How many there are of what a person looks for; `limit` is how many are counted.
    fn tally(&mut self, filter: &LineFilter) -> Result<Tally, Error>;
    /// Whatever belongs to a delegation, at most `limit` of each kind.
    fn family(&mut self, key: &DelegationKey, limit: i64) -> Result<Family, Error>;
    /// What its caller's feed holds of its ending.
    fn told_of(&mut self, key: &DelegationKey) -> Result<Option<ToldOf>, Error>;
    /// The delegation that a workspace was given under this id: a live one before an ended one, then the newest.
    fn given(
        &mut self,
        target: WorkspaceId,
        id: &DelegationId,
    ) -> Result<Option<DelegationKey>, Error>;
    /// How many there are of each status; absent ones are zero.
    fn counts(&mut self) -> Result<Vec<(Status, i64)>, Error>;
    /// Replies that are owed, in the order of acceptance, after the number `after`.
    fn owed_replies(
        &mut self,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Page<OwedReply>, Error>;
    /// Delegations with what the feed holds for them, in the order of acceptance, after the number `after`. Of `limit`
    /// that are looked at, those whose caller is gone are left out: its feed went with it.
    fn audit(
        &mut self,
        after: Option<Position>,
        limit: i64,
        limits: AuditLimits,
    ) -> Result<Page<Audited>, Error>;
    /// The same of the newest `limit`, the newest first.
    fn audit_newest(&mut self, limit: i64, limits: AuditLimits) -> Result<Vec<Audited>, Error>;

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
    /// One receiver of events.
    fn receiver(&mut self, id: ReceiverId) -> Result<Option<Receiver>, Error>;
    /// Those of one delegation, or with `None` those of the workspace as a whole, oldest first.
    fn receivers_of(
        &mut self,
        workspace: WorkspaceId,
        delegation: Option<&DelegationId>,
    ) -> Result<Vec<Receiver>, Error>;
    /// Live ones that `node` tells, after the id `after`, at most `limit`.
    fn receivers_told_by(
        &mut self,
        node: NodeId,
        after: Option<ReceiverId>,
        limit: i64,
    ) -> Result<Vec<Receiver>, Error>;
    /// Those in this state, or all, newest first, at most `limit`.
    fn receivers(
        &mut self,
        state: Option<ReceiverState>,
        limit: i64,
    ) -> Result<Vec<Receiver>, Error>;
    /// The workspace after `after`, in the order of ids, whose feed holds anything; also one that is gone.
    fn next_feed(&mut self, after: Option<WorkspaceId>) -> Result<Option<WorkspaceId>, Error>;
}
