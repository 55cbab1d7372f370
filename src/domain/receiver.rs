//! Who is told by HTTP of what happens.

use super::words::words;
use super::{DelegationId, EventName, NodeId, Position, ReceiverId, Timestamp, WorkspaceId};

words!(
    /// Whether a receiver is told.
    ReceiverState {
        /// It is.
        Live = "live",
        /// It failed for too long, or said that it is gone. It may be told on from where that was.
        Dead = "dead",
        /// It was told the last thing that there is to tell.
        Done = "done",
    }
);

/// A receiver of events. What it may be recognised by, or what it shows, is sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receiver {
    /// Its id.
    pub id: ReceiverId,
    /// Whose events.
    pub workspace: WorkspaceId,
    /// Only those of this delegation; none for the endings of all.
    pub delegation: Option<DelegationId>,
    /// Its name within these.
    pub config: Box<str>,
    /// Where it listens.
    pub url: Box<str>,
    /// The scheme of what is shown to it in `Authorization`.
    pub scheme: Option<Box<str>>,
    /// Whether it understands A2A 0.3 alone.
    pub old_form: bool,
    /// Its secrets.
    pub sealed: Option<Box<[u8]>>,
    /// How far it was told.
    pub course: Course,
    /// The node that tells it.
    pub node: NodeId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How far a receiver was told, and how that goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Course {
    /// Whether it is told on.
    pub state: ReceiverState,
    /// Everything up to here it was told.
    pub position: Position,
    /// How many tries in a row failed.
    pub failures: u32,
    /// When the first of them did.
    pub failing_since: Option<Timestamp>,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// What went wrong last, as long as nothing went well.
    pub last_error: Option<Box<str>>,
}

impl Course {
    /// From this place on.
    #[must_use]
    pub const fn from(position: Position) -> Self {
        Self {
            state: ReceiverState::Live,
            position,
            failures: 0,
            failing_since: None,
            next_attempt_at: None,
            last_error: None,
        }
    }
}

impl EventName {
    /// Whether an event of this name is the last of its delegation.
    #[must_use]
    pub fn is_ending(name: &str) -> bool {
        [
            Self::DelegationComplete,
            Self::DelegationFailed,
            Self::DelegationCancelled,
        ]
        .iter()
        .any(|ending| ending.as_str() == name)
    }
}
