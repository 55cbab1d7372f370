//! What can happen to a delegation, and what [`super::transition()`] makes of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Attempt, Ending, ErrorClass, Json, Life, Progress, RemoteTaskId, Said, Timestamp};

/// The present, passed in: the pure part has no clock and no dice.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// A random number in `0.0..1.0`, for jitter.
    pub dice: f64,
    /// Since when this process could hear without a break: nobody is blamed for silence before that (lesson R04).
    pub hearing_since: Timestamp,
}

/// What can happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A place among the outbound calls is held and the target's address is known.
    SlotGranted,
    /// The target cannot be called now.
    TargetUnready(Unready),
    /// A call came back.
    Called {
        /// The try that it belongs to; word of an older one moves nothing.
        attempt: Attempt,
        /// What it came to.
        outcome: Outcome,
    },
    /// The target says something of its work while a call goes on.
    Progressed {
        /// The try that the call belongs to.
        attempt: Attempt,
        /// In words; none: it only gave a sign of life.
        message: Option<Arc<str>>,
    },
    /// The target made something while a call goes on.
    Produced {
        /// The try that the call belongs to.
        attempt: Attempt,
        /// What it made.
        artifact: Product,
    },
    /// The target was asked how far it is.
    Asked {
        /// The try that the task belongs to.
        attempt: Attempt,
        /// What it said.
        outcome: AskOutcome,
        /// Whether the target declared that it drops a repeated messageId.
        target_deduplicates: bool,
    },
    /// An actor took charge of a delegation that another left behind.
    Restored {
        /// Whether this process still waits for the answer to the latest attempt.
        call_in_flight: bool,
        /// Whether the target declared that it drops a repeated messageId.
        target_deduplicates: bool,
    },
    /// The caller or the target reported the ending.
    Reported(Report),
    /// The caller or the target says that work goes on.
    Heard {
        /// Whether it was the target: its word also takes a delegation out of a line.
        by_target: bool,
        /// How far the work is.
        progress: Progress,
    },
    /// A poll-mode target read the request in its inbox.
    Fetched,
    /// The caller answers the target's question.
    InputGiven {
        /// The answer.
        answer: Box<Said>,
    },
    /// The caller, or an admin, withdraws it.
    Cancelled {
        /// Why; may be empty.
        reason: Arc<str>,
    },
    /// An operator drops it from the target's line.
    Dropped {
        /// Why.
        detail: Arc<str>,
    },
    /// Something may be due.
    Elapsed {
        /// When the target's workspace last gave a sign of life, if that was looked up.
        target_heard_at: Option<Timestamp>,
    },
    /// The supervisor gave up rebuilding its actor.
    Abandoned {
        /// What went wrong.
        detail: Arc<str>,
    },
}

/// Something that a target made, or more of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// An A2A 1.0 `Artifact`.
    pub artifact: Json,
    /// Whether its parts come behind those of the artifact of the same id that were told before.
    pub append: bool,
    /// Whether nothing more of it comes.
    pub last_chunk: bool,
}

/// Why a target cannot be called now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unready {
    /// It has not registered an address.
    NoAddress,
    /// It fetches its work itself.
    Polls,
    /// It works on as many tasks as it allows, or others are before this one.
    AtCapacity,
    /// It said lately that it is busy.
    Busy,
    /// It could not be reached lately.
    Unreachable,
    /// So many tries came to nothing that it is only probed.
    BreakerOpen,
    /// It is asleep, paused or offline by its own word.
    Offline,
    /// It was removed.
    Removed,
}

/// What a call came to (lesson O02: each fault has its own class). Only `Answered` completes; only `NotDelivered` is
/// tried again freely.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// A JSON-RPC result for our own request: a message, or a task that completed.
    Answered {
        /// All text parts in order.
        text: Arc<str>,
    },
    /// The agent said no: an error object, an HTTP error, or a task that ended without completing.
    Refused {
        /// Which.
        class: ErrorClass,
        /// What it said.
        detail: Arc<str>,
    },
    /// The request provably never reached the target: refused, DNS, TLS, no connection in time.
    NotDelivered {
        /// What failed.
        detail: Arc<str>,
    },
    /// The request may have been taken and no answer came.
    DeliveredUnknown {
        /// [`ErrorClass::OutcomeUnknown`], or [`ErrorClass::Truncated`] when the answer broke off.
        class: ErrorClass,
        /// What happened.
        detail: Arc<str>,
        /// Whether the target declared that it drops a repeated messageId.
        target_deduplicates: bool,
    },
    /// The agent said that it did not take the request because it is busy.
    Busy {
        /// Its `Retry-After`, if it gave one.
        retry_after: Option<Duration>,
    },
    /// The agent took the request into a queue.
    TargetQueued,
    /// A task that is not over.
    NonFinal {
        /// The agent's name for it.
        task: Option<RemoteTaskId>,
        /// How far it is.
        phase: WorkPhase,
    },
    /// The answer is unusable: empty, foreign, no JSON-RPC, too large, or the address may not be called.
    Malformed {
        /// Which.
        class: ErrorClass,
        /// What is wrong with it.
        detail: Arc<str>,
    },
}

/// How far a task is that is not over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkPhase {
    /// Taken.
    Submitted,
    /// Being worked on.
    Working,
    /// Waiting for an answer to a question.
    InputRequired {
        /// The question.
        text: Arc<str>,
    },
}

/// An ending as a party reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// With this answer.
    Completed {
        /// The whole of it.
        text: Arc<str>,
    },
    /// With this error.
    Failed {
        /// What it says; may be empty.
        detail: Arc<str>,
    },
}

/// What is to be done after the new state is committed, and never before (rule 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Call the target with the task.
    Send {
        /// Under this number.
        attempt: Attempt,
    },
    /// Call the target with the caller's answer to its question. Sent again under the same number, it is the same message.
    Continue {
        /// Under this number.
        attempt: Attempt,
        /// The target's name for the work.
        task: Option<RemoteTaskId>,
        /// The answer.
        answer: Box<Said>,
    },
    /// Tell the target that nobody waits for its work any more.
    CancelRemote {
        /// Its name for the work.
        task: RemoteTaskId,
    },
}

/// A change to commit. Everything else that follows from it (rows, events, timers) is derived from the two lives.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The new life.
    pub life: Life,
    /// What to do once it is committed.
    pub effect: Option<Effect>,
}

/// What an event means for a delegation.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// It moves.
    Advance(Step),
    /// It had ended before this report; nothing is written (rule 2).
    Settled(Settled),
    /// Nothing changes.
    Ignored(Ignored),
}

/// A report on what had already ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The same ending again.
    Repeat(Ending),
    /// Another ending than the one recorded.
    Contradiction(Ending),
}

/// Why an event changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ignored {
    /// It speaks of an attempt that is over.
    StaleAttempt,
    /// Its time has not come.
    NotDue,
    /// The state has no use for it.
    NotApplicable,
    /// It says what is known.
    NothingNew,
    /// The delegation had ended.
    AlreadyEnded,
}

/// What a target said when it was asked for a task (A2A `tasks/get`).
#[derive(Clone, PartialEq, Debug)]
pub enum AskOutcome {
    /// How the task stands; or that its answer exists and cannot be taken.
    Told(Outcome),
    /// The target knows no such task.
    NoSuchTask {
        /// What it said.
        detail: Arc<str>,
    },
    /// The target cannot be asked.
    Unsupported {
        /// What it said.
        detail: Arc<str>,
    },
    /// Nothing was learned: it is asked again.
    Later {
        /// Its `Retry-After`, if it gave one.
        retry_after: Option<Duration>,
        /// What happened.
        detail: Arc<str>,
    },
}
