//! What people look at: what lives, lists of delegations, and what belongs to one.

use super::DelegationLine;
use crate::domain::{
    ActivityType, DelegationId, DelegationKey, DeliveryMode, Position, Progress, Status, Timestamp,
    WaitingFor, Workspace, WorkspaceId, WorkspaceStatus,
};

/// Whose delegations are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parties {
    /// Anybody's.
    Any,
    /// Those that this workspace sent or received.
    Either(WorkspaceId),
    /// Those that it sent.
    Caller(WorkspaceId),
}

/// A workspace as a picture of everything shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Face {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// What it does, in words.
    pub role: Option<String>,
    /// The workspace above it; none for the root of an organisation.
    pub parent: Option<WorkspaceId>,
    /// Its presence.
    pub status: WorkspaceStatus,
    /// How it takes work.
    pub delivery_mode: DeliveryMode,
    /// From its last heartbeat.
    pub active_tasks: i32,
    /// How many tasks it says it takes at once.
    pub max_concurrent_tasks: i32,
    /// From its last heartbeat.
    pub current_task: Option<String>,
    /// When its agent last spoke.
    pub last_heartbeat_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<Workspace> for Face {
    fn from(workspace: Workspace) -> Self {
        Self {
            id: workspace.id,
            name: workspace.name,
            role: workspace.role,
            parent: workspace.parent,
            status: workspace.status,
            delivery_mode: workspace.delivery_mode,
            active_tasks: workspace.active_tasks,
            max_concurrent_tasks: workspace.max_concurrent_tasks,
            current_task: workspace.current_task,
            last_heartbeat_at: workspace.last_heartbeat_at,
            created_at: workspace.created_at,
        }
    }
}

/// Workspaces that were not removed.
#[derive(Clone, Debug)]
pub struct Faces {
    /// The newest, newest first.
    pub newest: Vec<Face>,
    /// How many there are.
    pub total: i64,
}

/// A live delegation as a picture of everything shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveMark {
    /// Which.
    pub key: DelegationKey,
    /// Who works; unknown for an adopted one.
    pub target: Option<WorkspaceId>,
    /// Where it stands.
    pub status: Status,
    /// What a queued one waits for.
    pub waiting_for: Option<WaitingFor>,
}

/// What lives.
#[derive(Clone, Debug)]
pub struct LiveMarks {
    /// The newest.
    pub newest: Vec<LiveMark>,
    /// How many there are.
    pub total: i64,
}

/// A line of a list, with all that says why it stands where it does.
#[derive(Clone, Debug)]
pub struct Line {
    /// What every list shows.
    pub line: DelegationLine,
    /// What a queued one waits for.
    pub waiting_for: Option<WaitingFor>,
    /// When that is looked at again.
    pub next_attempt_at: Option<Timestamp>,
    /// Tries in a row that came to nothing.
    pub failures: Option<u32>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What the target asks, as long as nobody answered.
    pub question: Option<String>,
    /// The last that was said of the work.
    pub progress: Option<Progress>,
    /// The delegation that it repeats.
    pub retry_of: Option<DelegationId>,
    /// The delegation in whose course it was handed on.
    pub parent: Option<DelegationKey>,
}

/// A text that is looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Search {
    /// The delegations of exactly this id come first.
    pub id: DelegationId,
    lower: Box<str>,
}

impl Search {
    /// Looks for this text, in any case.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            id: DelegationId::from_text(text),
            lower: text.to_lowercase().into(),
        }
    }

    /// Whether the id, the beginning of the task or of the result, or the error holds the text.
    pub(crate) fn finds(&self, line: &DelegationLine) -> bool {
        let holds = |text: &str| text.to_lowercase().contains(&*self.lower);
        let said = [&line.result_preview, &line.error_detail, &line.error_class];
        holds(&line.task_preview)
            || said.into_iter().flatten().any(|text| holds(text))
            || holds(&line.key.id.to_string())
    }
}

/// Which delegations a person looks for, newest first.
#[derive(Clone, Debug)]
pub struct LineFilter {
    /// Whose.
    pub parties: Parties,
    /// Only these; all when empty.
    pub statuses: Vec<Status>,
    /// Only those that hold this text.
    pub search: Option<Search>,
    /// Whether those of exactly the id that is looked for come first, up to 500 of them; later pages leave them out.
    pub is_first: bool,
    /// Only those that have a known target and that nobody began again yet.
    pub repeatable: bool,
    /// Only those accepted before the one of this number.
    pub before: Option<Position>,
    /// At most this many.
    pub limit: usize,
    /// At most this many are looked at.
    pub look: usize,
}

impl LineFilter {
    /// Whether one is meant, whatever it says.
    pub(crate) fn means(&self, line: &DelegationLine) -> bool {
        let caller = line.key.caller;
        let is_party = match self.parties {
            Parties::Any => true,
            Parties::Either(id) => caller == id || line.target == Some(id),
            Parties::Caller(id) => caller == id,
        };
        is_party && (self.statuses.is_empty() || self.statuses.contains(&line.status))
    }

    /// Whether one is meant that does not come first: it may have moved on since its number was found.
    pub(crate) fn finds(&self, line: &DelegationLine) -> bool {
        let finds = |search: &Search| search.id != line.key.id && search.finds(line);
        self.means(line) && self.search.as_ref().is_none_or(finds)
    }
}

/// A page of what was found.
#[derive(Clone, Debug)]
pub struct LinePage {
    /// What was found.
    pub lines: Vec<Line>,
    /// The next page has those accepted before the one of this number; none at the end.
    pub next: Option<Position>,
    /// How many were looked at.
    pub searched: usize,
}

/// How many were found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// At least so many.
    pub matched: usize,
    /// Whether there may be more.
    pub more: bool,
}

/// A delegation that belongs to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relative {
    /// Which.
    pub key: DelegationKey,
    /// Who works; unknown for an adopted one.
    pub target: Option<WorkspaceId>,
    /// Where it stands.
    pub status: Status,
    /// The first 4,096 bytes of the task.
    pub task_preview: String,
    /// When it was accepted.
    pub created_at: Timestamp,
}

/// Whatever belongs to a delegation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Family {
    /// The delegation in whose course it was handed on, by name.
    pub parent_key: Option<DelegationKey>,
    /// The same, if it is still known.
    pub parent: Option<Relative>,
    /// Those that were handed on in its course, oldest first.
    pub children: Vec<Relative>,
    /// The one that it repeats.
    pub retried_from: Option<Relative>,
    /// Those that repeat it, oldest first.
    pub retried_as: Vec<Relative>,
}

/// Where the reply of a delegation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyState {
    /// There is none: the flag is off, or it has not ended.
    None,
    /// It is yet to be written.
    Owed,
    /// It was written into the inbox.
    Written,
}

/// What a caller's feed holds of an ending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToldOf {
    /// Where the reply is.
    pub reply: ReplyState,
    /// The rows that tell of it: of which type, at which place, since when. What was pruned is not among them.
    pub rows: Vec<(ActivityType, Position, Timestamp)>,
}

impl ToldOf {
    /// The place and the time of the row of this type.
    #[must_use]
    pub fn row(&self, of: ActivityType) -> Option<(Position, Timestamp)> {
        let found = self.rows.iter().find(|(kind, ..)| *kind == of);
        found.map(|(_, place, at)| (*place, *at))
    }
}
