//! What Baton knows, without how it is done: ids, the life of a delegation, the rows and events that tell of it.
//!
//! Pure: no clock, no randomness, no I/O, no actix. Time and randomness come in as values ([`Moment`]).

mod card;
mod conversation;
mod delegation;
mod event;
mod feed;
mod hierarchy;
mod ids;
mod invariants;
mod line;
mod receiver;
mod retry;
mod state;
mod text;
mod time;
mod transition;
mod words;
mod workspace;

pub use card::{Binding, Card, IDEMPOTENT_MESSAGE_ID, Interface, Protocol};
pub use delegation::{
    Accept, Advance, Envelope, Idempotency, NewDelegation, Origin, Priority, Redelivery, Said,
    Terms,
};
pub use event::{
    AskOutcome, Decision, Effect, Event, Ignored, Moment, Outcome, Product, Report, Settled, Step,
    Unready, WorkPhase,
};
pub use feed::{
    ActivityType, EventName, Feed, FeedEvent, FeedRow, Json, METHOD_DELEGATE,
    METHOD_DELEGATE_RESULT, METHOD_SEND, accepted_feed, advanced_feed, is_news, produced_event,
    reply_row, request_row,
};
pub use hierarchy::{Kinship, kinship};
pub use ids::{
    ActivityId, Attempt, DelegationId, DelegationKey, EventId, Incarnation, NodeId, Position,
    ReceiverId, RemoteTaskId, Revision, TokenId, WorkspaceId,
};
pub use invariants::{Audited, Violation, audit};
pub use line::{BREAKER_FAILURES, Breaker, Hindrance, Line, LineView, Ticket};
pub use receiver::{Course, Receiver, ReceiverState};
pub use retry::RetryPolicy;
pub use state::{
    Ended, Ending, ErrorClass, Input, LateResult, Life, Phase, Progress, Question, State, Status,
    Trouble, Wait, WaitingFor, Working,
};
pub use text::{preview, repair_json, sanitize};
pub use time::Timestamp;
pub use transition::{Policy, next_due, transition};
pub use workspace::{DeliveryMode, SealedCredential, Seat, Workspace, WorkspaceStatus};

#[cfg(test)]
mod transition_test;
