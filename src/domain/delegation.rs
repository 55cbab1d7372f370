//! What is agreed when a delegation is accepted, and what is handed to the store when it begins and when it moves.

use std::sync::Arc;

use bytes::Bytes;

use super::words::words;
use super::{
    Attempt, DelegationId, DelegationKey, Feed, Incarnation, Json, Life, Revision, State,
    Timestamp, WorkspaceId,
};

words!(
    /// Who does the sending.
    Origin {
        /// Baton (`POST …/delegate`).
        Delegated = "delegated",
        /// The agent itself, which told Baton (`POST …/delegations/record`).
        Recorded = "recorded",
        /// Nobody told Baton before its result came (`POST …/update` of an unknown id).
        Adopted = "adopted",
    }
);

words!(
    /// What to do when a request may have reached the target and no answer came (rule 6).
    #[derive(Default)]
    Redelivery {
        /// End it.
        Never = "never",
        /// Send it again if the target declared that it drops a repeated messageId.
        #[default]
        IfIdempotent = "if_idempotent",
        /// Send it again.
        Always = "always",
    }
);

/// Who goes first among those that wait for one target; the higher (contract §7: 100 critical, 50 task, 10 info).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Priority(pub u8);

impl Default for Priority {
    fn default() -> Self {
        Self(50)
    }
}

/// The part of a delegation that never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Which delegation.
    pub key: DelegationKey,
    /// Who does the work; unknown only for an adopted one.
    pub target: Option<WorkspaceId>,
    /// Who sends.
    pub origin: Origin,
    /// What rule 6 may do.
    pub redelivery: Redelivery,
    /// Its place among those that wait for the target.
    pub priority: Priority,
    /// The end of every wait (rule 8).
    pub deadline: Timestamp,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The W3C trace context that came with the request, passed on to the target.
    pub traceparent: Option<Box<str>>,
}

/// A caller's key against sending one task twice, with what it was used for (lesson I03).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Idempotency {
    /// The caller's key.
    pub key: Box<str>,
    /// SHA-256 over target and task.
    pub fingerprint: [u8; 32],
}

/// What is said to a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// In words.
    pub text: Arc<str>,
    /// The A2A 1.0 message that it came as, to be passed on as it is (A2A §4.1.4).
    pub message: Option<Json>,
}

impl Said {
    /// What came as words alone.
    #[must_use]
    pub fn words(text: impl Into<Arc<str>>) -> Box<Self> {
        let text = text.into();
        Box::new(Self {
            text,
            message: None,
        })
    }
}

/// What a delegation is besides its task when it came as an A2A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The message, in the form of A2A 1.0.
    pub message: Json,
    /// The context that it belongs to (A2A §3.4).
    pub context: Box<str>,
}

/// A delegation to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewDelegation {
    /// What is agreed.
    pub terms: Terms,
    /// The whole task.
    pub task: Arc<str>,
    /// What it came as, if it was an A2A message.
    pub envelope: Option<Envelope>,
    /// The key, if the caller gave one.
    pub idempotency: Option<Idempotency>,
    /// Where it begins: `pending`, or `dispatched` when an agent sent it itself.
    pub state: State,
    /// The delegation that it repeats, when its caller asked for that.
    pub retry_of: Option<DelegationId>,
    /// The delegation in whose course its caller, who works on that one, hands it on.
    pub parent: Option<DelegationKey>,
}

/// A beginning to commit: the delegation with the rows and events that tell of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Accept {
    /// The delegation.
    pub delegation: NewDelegation,
    /// What appears with it. Events only for `delegate` and `record`; nothing for an adopted one.
    pub feed: Feed,
    /// Its first change, when nothing stands in the way of sending it: one commit stores what both would leave.
    pub sent: Option<Advance>,
}

impl NewDelegation {
    /// What the target is to be told.
    #[must_use]
    pub fn said(&self) -> Said {
        let message = self.envelope.as_ref();
        Said {
            text: Arc::clone(&self.task),
            message: message.map(|envelope| envelope.message.clone()),
        }
    }
}

impl Accept {
    /// Where the delegation stands once this is committed.
    #[must_use]
    pub fn life(&self) -> Life {
        match &self.sent {
            Some(sent) => sent.life.clone(),
            None => Life::new(self.delegation.state.clone()),
        }
    }

    /// Its revision then.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let first = Revision(1);
        self.sent.as_ref().map_or(first, |sent| sent.revision)
    }
}

/// A change to commit. It is applied only to the revision before its own, so that repeating it changes nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Advance {
    /// Which delegation.
    pub key: DelegationKey,
    /// The revision after this change.
    pub revision: Revision,
    /// The incarnation of the actor that decided it; a newer one in the store makes this one stale.
    pub incarnation: Incarnation,
    /// The life after this change.
    pub life: Life,
    /// When it was decided.
    pub at: Timestamp,
    /// The target's reply, byte for byte, when this change comes from one.
    pub raw_reply: Option<Bytes>,
    /// What appears with it.
    pub feed: Feed,
    /// Whether the delegation's history tells of it.
    pub told: bool,
}

impl Advance {
    /// The number of the try this change belongs to.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.life.attempt
    }

    /// The id within the caller.
    #[must_use]
    pub const fn id(&self) -> &DelegationId {
        &self.key.id
    }
}
