//! Where a delegation stands. Each variant holds only what is true in it.

use std::sync::Arc;

use super::words::words;
use super::{Attempt, RemoteTaskId, Said, Timestamp};

words!(
    /// The ten words of product.md, "The life of a delegation".
    Status {
        /// Durably accepted, not yet sent.
        Pending = "pending",
        /// The request left, or may have left, for the target.
        Dispatched = "dispatched",
        /// The target took it.
        Received = "received",
        /// The target reports work.
        InProgress = "in_progress",
        /// It waits for the target.
        Queued = "queued",
        /// The target asked a question.
        InputRequired = "input_required",
        /// Silence beyond the threshold: a warning, not an end.
        Stuck = "stuck",
        /// Ended with an answer.
        Completed = "completed",
        /// Ended without one.
        Failed = "failed",
        /// Withdrawn.
        Cancelled = "cancelled",
    }
);

impl Status {
    /// Whether nobody is waited for any more. The one place that says so (lesson S05).
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Pending
            | Self::Dispatched
            | Self::Received
            | Self::InProgress
            | Self::Queued
            | Self::InputRequired
            | Self::Stuck => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

words!(
    /// What a queued delegation waits for.
    WaitingFor {
        /// The target said that it is busy.
        Busy = "busy",
        /// The target took the request into a queue of its own and will report.
        TargetQueue = "target_queue",
        /// The target could not be reached.
        Unreachable = "unreachable",
        /// The same message may be sent again, because the target drops duplicates.
        Redelivery = "redelivery",
        /// The target has no address yet.
        Address = "address",
        /// The target fetches its work itself.
        Poll = "poll",
        /// The target works on as many tasks as it allows, or others are before it in the line.
        Capacity = "capacity",
        /// The target is asleep, paused or offline by its own word.
        Offline = "offline",
        /// So many tries came to nothing that the target is only probed.
        Breaker = "breaker",
    }
);

words!(
    /// Why a delegation failed, for machines (lesson O02). The detail beside it is for people.
    ErrorClass {
        /// A party reported the failure.
        Reported = "reported",
        /// The agent answered with an error.
        Refused = "refused",
        /// The agent ended its task as rejected.
        Rejected = "rejected",
        /// The agent ended its task as cancelled.
        CancelledByTarget = "cancelled_by_target",
        /// The request may have been taken and nobody can say (rule 6).
        OutcomeUnknown = "outcome_unknown",
        /// The answer's body broke off in the middle.
        Truncated = "truncated",
        /// The answer had no body.
        EmptyResponse = "empty_response",
        /// The answer is not one that the protocol knows.
        MalformedResponse = "malformed_response",
        /// The answer was for another request.
        ForeignResponse = "foreign_response",
        /// The answer was larger than allowed.
        ReplyTooLarge = "reply_too_large",
        /// The target's address may not be called.
        BlockedAddress = "blocked_address",
        /// The target was removed.
        TargetRemoved = "target_removed",
        /// The target could not be reached for as long as Baton keeps trying.
        Exhausted = "retries_exhausted",
        /// An operator dropped it from the target's line.
        Dropped = "dropped",
        /// The deadline passed.
        Deadline = "deadline_exceeded",
        /// Baton's own fault.
        Internal = "internal",
    }
);

/// Tries in a row that came to nothing; back-off and the end of trying are counted from here (lesson Q04).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// How many.
    pub failures: u32,
    /// When the first of them failed, or the target last showed that it lives.
    pub since: Timestamp,
}

/// How far the target has come with an attempt, as far as it said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has said nothing yet.
    Dispatched {
        /// What the tries before came to.
        trouble: Option<Trouble>,
    },
    /// It took the work.
    Received {
        /// Its own name for it, if it gave one.
        task: Option<RemoteTaskId>,
    },
    /// It reports work.
    InProgress {
        /// Its own name for it, if it gave one.
        task: Option<RemoteTaskId>,
    },
}

impl Phase {
    /// The target's name for the work.
    #[must_use]
    pub const fn task(&self) -> Option<&RemoteTaskId> {
        match self {
            Self::Dispatched { .. } => None,
            Self::Received { task } | Self::InProgress { task } => task.as_ref(),
        }
    }
}

/// What a party says of work under way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// In words.
    pub message: Option<Arc<str>>,
    /// In hundredths.
    pub percent: Option<u8>,
}

/// The caller's answer to a question, until the target has shown that it has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// What was asked.
    pub question: Arc<str>,
    /// What the caller answered.
    pub answer: Box<Said>,
}

/// The target has the move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Working {
    /// How far it has come.
    pub phase: Phase,
    /// When it last gave a sign; silence is counted from here.
    pub heard_at: Timestamp,
    /// The last that was said of it.
    pub progress: Option<Progress>,
    /// The answer on its way to the target.
    pub input: Option<Input>,
}

impl Working {
    /// Work at `phase`, heard of at `heard_at`, of which nothing else is known.
    #[must_use]
    pub const fn new(phase: Phase, heard_at: Timestamp) -> Self {
        Self {
            phase,
            heard_at,
            progress: None,
            input: None,
        }
    }

    /// A request that leaves, or left, at `at`.
    #[must_use]
    pub const fn dispatched(at: Timestamp) -> Self {
        Self::new(Phase::Dispatched { trouble: None }, at)
    }
}

/// Why and until when a queued delegation waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// What for.
    pub waiting_for: WaitingFor,
    /// The next look, never after the deadline; it may come earlier.
    pub until: Timestamp,
    /// What the tries before came to.
    pub trouble: Option<Trouble>,
}

impl Wait {
    /// Whether the target has the request, so that it is not sent again: it queues it, or finds it in its inbox.
    #[must_use]
    pub const fn is_handed_over(&self) -> bool {
        match self.waiting_for {
            WaitingFor::TargetQueue | WaitingFor::Poll => true,
            WaitingFor::Busy
            | WaitingFor::Unreachable
            | WaitingFor::Redelivery
            | WaitingFor::Address
            | WaitingFor::Capacity
            | WaitingFor::Offline
            | WaitingFor::Breaker => false,
        }
    }
}

/// The target asked, and waits for the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The target's name for the work.
    pub task: Option<RemoteTaskId>,
    /// What it asks.
    pub text: Arc<str>,
}

/// How a delegation ended. The first ending wins (rule 2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With an answer.
    Completed {
        /// The whole of it.
        text: Arc<str>,
    },
    /// Without one.
    Failed {
        /// For machines.
        class: ErrorClass,
        /// For people; never empty.
        detail: Arc<str>,
    },
    /// Withdrawn.
    Cancelled {
        /// Why, if somebody said.
        reason: Arc<str>,
    },
}

/// An answer that came after the ending (rule 7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateResult {
    /// Its text.
    pub text: Arc<str>,
    /// When it came.
    pub at: Timestamp,
}

/// An ended delegation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// When.
    pub at: Timestamp,
    /// The first answer that came too late, if one did.
    pub late: Option<LateResult>,
}

/// Where a delegation stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Durable, not sent, nobody has said anything.
    Pending,
    /// The target has the move.
    Working(Working),
    /// Baton waits before it tries again.
    Queued(Wait),
    /// The caller has the move.
    InputRequired(Box<Question>),
    /// The target has been silent too long; whatever it was at, it may still be.
    Stuck(Working),
    /// Over.
    Ended(Box<Ended>),
}

/// The part of a delegation that changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    /// The number of the latest try.
    pub attempt: Attempt,
    /// Where it stands.
    pub state: State,
}

impl Life {
    /// How every delegation begins.
    #[must_use]
    pub const fn new(state: State) -> Self {
        Self {
            attempt: Attempt(0),
            state,
        }
    }

    /// The target's name for the work, while it is under way.
    #[must_use]
    pub fn task(&self) -> Option<&RemoteTaskId> {
        match &self.state {
            State::Working(working) | State::Stuck(working) => working.phase.task(),
            State::InputRequired(question) => question.task.as_ref(),
            State::Pending | State::Queued(_) | State::Ended(_) => None,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.state {
            State::Pending => Status::Pending,
            State::Working(working) => match working.phase {
                Phase::Dispatched { .. } => Status::Dispatched,
                Phase::Received { .. } => Status::Received,
                Phase::InProgress { .. } => Status::InProgress,
            },
            State::Queued(_) => Status::Queued,
            State::InputRequired(_) => Status::InputRequired,
            State::Stuck(_) => Status::Stuck,
            State::Ended(ended) => match ended.ending {
                Ending::Completed { .. } => Status::Completed,
                Ending::Failed { .. } => Status::Failed,
                Ending::Cancelled { .. } => Status::Cancelled,
            },
        }
    }
}
