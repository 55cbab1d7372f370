//! What delegations and their supervisor say to each other.

use std::sync::Arc;

use actix::{Addr, Message};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::actor::DelegationActor;
use super::beginning::Beginning;
use super::lines::Held;
use super::{ActorNumber, Error, Told};
use crate::domain::{Accept, DelegationKey, Event, NewDelegation, Said, Unready};
use crate::persistence;
use crate::store::{Acceptance, Loaded, Written};

/// Something happened to a delegation.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub(super) struct Tell {
    pub(super) event: Event,
    /// The target's reply that the event was read from.
    pub(super) raw_reply: Option<Bytes>,
    /// Answered once the event is committed or found to change nothing; dropped if the actor dies first.
    pub(super) reply: Option<oneshot::Sender<Result<Told, Error>>>,
}

/// What a line says to one who stands in it.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub(super) enum FromLine {
    /// It is its turn.
    Granted,
    /// It must wait, and this is why.
    Behind(Unready),
    /// The target gave a sign of life.
    TargetStirred,
}

/// The change that the actor waited for was committed, or not.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Persisted(pub(super) Result<Written, persistence::Error>);

/// The target says that there is news of its task.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Hinted;

/// The actor may go: nobody can reach it any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Retire;

/// Begin a delegation.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Begin {
    pub(super) accept: Box<Accept>,
    pub(super) reply: oneshot::Sender<Result<Acceptance, Error>>,
}

/// The beginning of a delegation was committed, or not.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Begun {
    pub(super) delegation: NewDelegation,
    pub(super) beginning: Beginning,
    pub(super) result: Result<Written, persistence::Error>,
    pub(super) reply: oneshot::Sender<Result<Acceptance, Error>>,
}

/// Find the actor of a delegation, or rebuild it from the store; none when there is no such delegation.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Revive {
    pub(super) key: DelegationKey,
    pub(super) reply: oneshot::Sender<Result<Option<Addr<DelegationActor>>, Error>>,
}

/// Take charge of delegations that another process left behind. The lines are held until the last is there.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Recover(pub(super) Vec<Loaded>, pub(super) Arc<Held>);

/// Take charge of live delegations that seem to have no actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct TakeUp(pub(super) Vec<DelegationKey>);

/// Another node moved these delegations: whoever has them in charge here knows less than the store.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Moved(pub(super) Vec<DelegationKey>);

/// The stored delegation moved on without its actor, which must catch up with it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Reload;

/// A delegation ended and its actor has nothing left to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Finished {
    pub(super) key: DelegationKey,
    pub(super) number: ActorNumber,
}

/// An actor is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct ActorDown {
    pub(super) key: DelegationKey,
    pub(super) number: ActorNumber,
    pub(super) panicked: bool,
}

/// The whole task, shared.
pub(super) type Task = Box<Said>;
