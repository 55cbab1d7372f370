//! An agent's seat, as far as delegation needs to know it.

use std::fmt;
use std::sync::Arc;

use super::words::words;
use super::{Card, Json, Timestamp, WorkspaceId};

words!(
    /// How a target takes its work (contract §1.5).
    DeliveryMode {
        /// Baton calls its URL.
        Push = "push",
        /// It reads its inbox.
        Poll = "poll",
    }
);

words!(
    /// The presence of a workspace (contract §1.5).
    WorkspaceStatus {
        /// Created, its agent has not registered.
        Provisioning = "provisioning",
        /// Its agent speaks.
        Online = "online",
        /// Its agent fell silent.
        Offline = "offline",
        /// It reports errors.
        Degraded = "degraded",
        /// It could not be started.
        Failed = "failed",
        /// Gone for good; its tokens are void.
        Removed = "removed",
        /// Held by a person.
        Paused = "paused",
        /// Asleep.
        Hibernated = "hibernated",
        /// External, and its agent has yet to register.
        AwaitingAgent = "awaiting_agent",
        /// Falling asleep.
        Hibernating = "hibernating",
    }
);

impl WorkspaceStatus {
    /// Whether an agent in this state may be called. One that never spoke may still listen (lesson Q09).
    #[must_use]
    pub const fn takes_calls(self) -> bool {
        match self {
            Self::Provisioning
            | Self::Online
            | Self::Degraded
            | Self::Failed
            | Self::AwaitingAgent => true,
            Self::Offline | Self::Removed | Self::Paused | Self::Hibernated | Self::Hibernating => {
                false
            }
        }
    }
}

/// What a target wants to see of its callers, as it is stored: the scheme's word, a space, and the rest sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedCredential(pub Arc<str>);

impl SealedCredential {
    /// The scheme's word, which is all that anybody is shown.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Debug for SealedCredential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.scheme())
    }
}

/// A workspace as stored (contract §3, `workspaces`).
#[derive(Clone, PartialEq, Debug)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name; the id's text when an agent registered without one.
    pub name: String,
    /// What it does, in words.
    pub role: Option<String>,
    /// Its tier, 3 unless chosen.
    pub tier: i32,
    /// Its presence.
    pub status: WorkspaceStatus,
    /// The agent's card as it registered it.
    pub agent_card: Option<Json>,
    /// Where its agent listens, for push mode.
    pub url: Option<String>,
    /// The workspace above it; none for the root of an organisation.
    pub parent: Option<WorkspaceId>,
    /// What runs it; `external` when its agent lives elsewhere.
    pub runtime: String,
    /// What its agent wants to see of who calls it.
    pub credentials: Option<SealedCredential>,
    /// How it takes work.
    pub delivery_mode: DeliveryMode,
    /// How many tasks it says it takes at once.
    pub max_concurrent_tasks: i32,
    /// Whether it may delegate at all.
    pub can_delegate: bool,
    /// When its agent last spoke.
    pub last_heartbeat_at: Option<Timestamp>,
    /// From its last heartbeat.
    pub last_error_rate: f64,
    /// From its last heartbeat.
    pub last_sample_error: Option<String>,
    /// From its last heartbeat.
    pub active_tasks: i32,
    /// From its last heartbeat, in seconds.
    pub uptime_seconds: i32,
    /// From its last heartbeat.
    pub current_task: Option<String>,
    /// From its last heartbeat, in cents.
    pub monthly_spend: i64,
    /// Where the canvas draws it, horizontally.
    pub x: f64,
    /// Where the canvas draws it, vertically.
    pub y: f64,
    /// Whether the canvas draws it folded.
    pub collapsed: bool,
    /// When it last delegated.
    pub last_outbound_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What of a workspace decides about others: whether it may delegate, where and how it is reached. A sign of life does
/// not change it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    /// Its id.
    pub id: WorkspaceId,
    /// Its presence.
    pub status: WorkspaceStatus,
    /// The workspace above it; none for the root of an organisation.
    pub parent: Option<WorkspaceId>,
    /// Whether it may delegate at all.
    pub can_delegate: bool,
    /// How it takes work.
    pub delivery_mode: DeliveryMode,
    /// Where its agent listens, for push mode.
    pub url: Option<Arc<str>>,
    /// What its agent wants to see of who calls it.
    pub credentials: Option<SealedCredential>,
    /// How many tasks it says it takes at once.
    pub max_concurrent_tasks: i32,
    /// Whether its card declares that it drops a repeated messageId.
    pub deduplicates: bool,
    /// Its card, when that says how the agent is spoken to.
    pub card: Option<Arc<Card>>,
}

impl Seat {
    /// Whether it is not removed.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.status != WorkspaceStatus::Removed
    }
}

impl From<Workspace> for Seat {
    fn from(workspace: Workspace) -> Self {
        let card = workspace.agent_card.as_ref();
        let card = card.map(|card| Card::read(&card.0)).unwrap_or_default();
        Self {
            id: workspace.id,
            status: workspace.status,
            parent: workspace.parent,
            can_delegate: workspace.can_delegate,
            delivery_mode: workspace.delivery_mode,
            deduplicates: card.deduplicates,
            card: (!card.interfaces.is_empty()).then(|| Arc::new(card)),
            url: workspace.url.map(Into::into),
            credentials: workspace.credentials,
            max_concurrent_tasks: workspace.max_concurrent_tasks,
        }
    }
}
