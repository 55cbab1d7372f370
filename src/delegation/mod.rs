//! Delegations as supervised actors.
//!
//! A [`Supervisor`] admits and rebuilds; one actor for each live delegation is a shell around
//! [`crate::domain::transition`]: it takes an event, commits the new state, and only then acts. What it does comes back
//! as an event with its attempt number, routed by key, so that it finds whichever incarnation is alive.

mod actor;
mod beginning;
mod calls;
mod effects;
mod lines;
mod messages;
mod rebuild;
mod recovery;
mod speech;
mod supervisor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use actix::Addr;
use bytes::Bytes;
use dashmap::{DashMap, DashSet};
use metrics::Gauge;
use tokio::sync::oneshot;

use crate::clock;
use crate::domain::{
    Accept, DelegationId, DelegationKey, Ending, Event, LineView, NewDelegation, NodeId, Origin,
    Priority, Redelivery, Report, Settled, State, Status, Terms, Working, WorkspaceId,
    accepted_feed,
};
use crate::persistence::{self, Persistence};
use crate::store::{Acceptance, Store};
use crate::telemetry::TOTALS;

use actor::DelegationActor;
use calls::Calls;
use lines::Lines;
use messages::{Begin, Hinted, Moved, Revive, Tell};
pub use recovery::{sweep, take_over};
pub use supervisor::{Supervisor, SupervisorSettings};

/// How often a message is handed to a new incarnation before giving up: an actor may die on each of them.
const HANDOVERS: u32 = 20;

/// Why a command could not be carried out.
#[derive(thiserror::Error, Clone, Debug)]
pub enum Error {
    /// The database is away, or refuses; try again.
    #[error("the database is unavailable")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// A limit of this node is reached.
    #[error("{limit} is reached")]
    Overloaded {
        /// Which limit.
        limit: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
}

impl Error {
    pub(crate) const UNAVAILABLE: Self = Self::Unavailable {
        retry_after: Duration::from_secs(1),
    };
}

impl From<persistence::Error> for Error {
    fn from(error: persistence::Error) -> Self {
        match error {
            persistence::Error::Unavailable { retry_after } => Self::Unavailable { retry_after },
            persistence::Error::Overloaded { retry_after } => Self::Overloaded {
                limit: "the queue of writes",
                retry_after,
            },
            persistence::Error::Refused(_) => Self::UNAVAILABLE,
        }
    }
}

/// What became of a report.
#[derive(Clone, Debug)]
pub enum Reported {
    /// It ended the delegation.
    Ended,
    /// The same ending was recorded before.
    Repeat(Ending),
    /// Another ending was recorded before.
    Contradiction(Ending),
}

/// What became of something else that a party said of a delegation.
#[derive(Clone, Debug)]
pub enum Applied {
    /// It moved the delegation to here, and that is committed.
    Moved(Status),
    /// Where the delegation stands, this changes nothing.
    NoUse(Status),
    /// It had been withdrawn before, as this asks for.
    Repeat(Ending),
    /// It had ended before.
    Ended(Ending),
    /// There is no such delegation.
    Unknown,
}

/// What a message came to.
#[derive(Clone, Debug)]
enum Told {
    /// It moved the delegation to here, and that is committed.
    Committed(Status),
    /// The delegation had ended before.
    Settled(Settled),
    /// It changed nothing; this is where it stands.
    Ignored(Status),
}

/// An actor that can be reached.
#[derive(Clone, Debug)]
struct Live {
    actor: Addr<DelegationActor>,
    number: ActorNumber,
    /// Whether another node has the delegation in charge.
    guest: bool,
}

/// Tells one actor of this process from every other. Incarnations do not: they count from what is stored, and so may
/// two that were rebuilt from the same row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct ActorNumber(u64);

/// Who is live here, by key and in numbers.
#[derive(Debug, Default)]
struct Registry {
    actors: DashMap<DelegationKey, Live>,
    /// The nodes whose delegations this one has in charge: itself, and those that it took over from.
    owned: DashSet<NodeId>,
    by_status: StatusGauge,
    calls: Calls,
    /// The process is about to end.
    sends_no_more: AtomicBool,
}

/// How many live delegations stand where, and where that is shown.
#[derive(Debug)]
struct StatusGauge(Box<[(AtomicI64, Gauge)]>);

impl Default for StatusGauge {
    fn default() -> Self {
        let standings = Status::ALL.iter().map(|status| {
            let shown = metrics::gauge!("baton_delegations_live", "status" => status.as_str());
            (AtomicI64::default(), shown)
        });
        Self(standings.collect())
    }
}

impl StatusGauge {
    fn add(&self, status: Status, change: i64) {
        let place = Status::ALL.iter().position(|other| *other == status);
        if change != 0
            && let Some((count, shown)) = place.and_then(|place| self.0.get(place))
        {
            let now = count
                .fetch_add(change, Ordering::Relaxed)
                .saturating_add(change);
            shown.set(i32::try_from(now).unwrap_or(i32::MAX));
        }
    }

    fn counts(&self) -> BTreeMap<Status, i64> {
        Status::ALL
            .iter()
            .copied()
            .zip(
                self.0
                    .iter()
                    .map(|(count, _)| count.load(Ordering::Relaxed)),
            )
            .collect()
    }
}

/// One delegation's place in the counts, given back when its actor is gone, however it went.
#[derive(Debug)]
struct Counted {
    registry: Arc<Registry>,
    status: Status,
}

impl Counted {
    fn new(registry: Arc<Registry>, status: Status) -> Self {
        registry
            .by_status
            .add(status, i64::from(!status.is_terminal()));
        Self { registry, status }
    }

    fn move_to(&mut self, status: Status) {
        *self = Self::new(Arc::clone(&self.registry), status);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.registry
            .by_status
            .add(self.status, -i64::from(!self.status.is_terminal()));
    }
}

/// The way to the delegations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delegations {
    registry: Arc<Registry>,
    supervisor: Addr<Supervisor>,
    lines: Arc<Lines>,
    store: Store,
    persistence: Persistence,
    /// Of a delegation that nobody told of before its result came.
    default_deadline: Duration,
}

impl Delegations {
    /// Begins a delegation. `target_as_sent` is the target in the caller's spelling. Goes on when the caller hangs up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn begin(
        &self,
        delegation: NewDelegation,
        target_as_sent: &str,
    ) -> Result<Acceptance, Error> {
        let asked = Instant::now();
        let (reply, answer) = oneshot::channel();
        let feed = accepted_feed(&delegation, target_as_sent);
        let accept = Box::new(Accept {
            delegation,
            feed,
            sent: None,
        });
        self.supervisor.do_send(Begin { accept, reply });
        let begun = match self.persistence.unless_away(answer).await {
            Some(Ok(begun)) => begun,
            Some(Err(_)) | None => Err(Error::UNAVAILABLE),
        };
        if let Ok(Acceptance::Created { .. }) = begun {
            TOTALS.acceptance.record(asked.elapsed());
        }
        begun
    }

    /// Reports an ending on behalf of `reporter`, who is the caller or the target; an id that it does not know is
    /// adopted as its own. Goes on when the caller hangs up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn report(
        &self,
        reporter: WorkspaceId,
        id: DelegationId,
        report: Report,
    ) -> Result<Reported, Error> {
        if !self.persistence.is_writing() {
            return Err(Error::UNAVAILABLE);
        }
        let own = DelegationKey {
            caller: reporter,
            id,
        };
        let event = Event::Reported(report);
        let live = self.registry.actors.get(&own);
        let handed = live.map(|live| hand(&live.actor, &event, None));
        if let Some(answer) = handed {
            // What is in a mailbox goes on by itself.
            match self.persistence.unless_away(answer).await {
                Some(Ok(told)) => return told.and_then(reported),
                None => return Err(Error::UNAVAILABLE),
                // It died, or was about to go: whoever comes next is told.
                Some(Err(_gone)) => {}
            }
        }
        let delegations = self.clone();
        let work = async move { delegations.report_attached(own, event).await };
        // A task of its own: a handler's future is dropped when its client hangs up.
        match self.persistence.unless_away(tokio::spawn(work)).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) | None => Err(Error::UNAVAILABLE),
        }
    }

    async fn report_attached(&self, own: DelegationKey, event: Event) -> Result<Reported, Error> {
        let mut key = own.clone();
        if !self.registry.actors.contains_key(&own) {
            let wanted = own.clone();
            let found = self
                .store
                .read(move |reader| reader.find_key(wanted.caller, &wanted.id))
                .await;
            match found.map_err(|_unavailable| Error::UNAVAILABLE)? {
                Some(found) => key = found,
                None => self.adopt(&own).await?,
            }
        }
        let told = self.tell(&key, &event, None).await?;
        told.map_or(Err(Error::UNAVAILABLE), reported)
    }

    /// Tells a delegation what somebody said of it, other than a result. Goes on when the caller hangs up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apply(&self, key: DelegationKey, event: Event) -> Result<Applied, Error> {
        if !self.persistence.is_writing() {
            return Err(Error::UNAVAILABLE);
        }
        let delegations = self.clone();
        let work = async move { delegations.tell(&key, &event, None).await };
        let told = match self.persistence.unless_away(tokio::spawn(work)).await {
            Some(Ok(told)) => told?,
            Some(Err(_)) | None => return Err(Error::UNAVAILABLE),
        };
        Ok(match told {
            Some(Told::Committed(status)) => Applied::Moved(status),
            Some(Told::Ignored(status)) => Applied::NoUse(status),
            Some(Told::Settled(Settled::Repeat(ending))) => Applied::Repeat(ending),
            Some(Told::Settled(Settled::Contradiction(ending))) => Applied::Ended(ending),
            None => Applied::Unknown,
        })
    }

    /// A workspace registered, gave a sign of life, was changed or removed: those who wait for it look again.
    pub fn target_stirred(&self, target: WorkspaceId) {
        self.lines.wake(target);
    }

    /// A target says that there is news of its task: if this node has the delegation in charge, it asks at once. What there
    /// is nothing to ask about stays as it is.
    pub fn hint(&self, key: &DelegationKey) {
        if let Some(live) = self.registry.actors.get(key) {
            live.actor.do_send(Hinted);
        }
    }

    /// Every line of this node, with its target.
    #[must_use]
    pub fn lines(&self) -> Vec<(WorkspaceId, LineView)> {
        self.lines.views()
    }

    /// Forgets what went wrong with a target, so that it is tried at once. Whether this node has a line for it.
    #[must_use]
    pub fn reset_line(&self, target: WorkspaceId) -> bool {
        self.lines.reset(target)
    }

    /// A result is never refused for want of a record (product.md): its delegation begins here.
    async fn adopt(&self, key: &DelegationKey) -> Result<(), Error> {
        let now = clock::now();
        let terms = Terms {
            key: key.clone(),
            target: None,
            origin: Origin::Adopted,
            redelivery: Redelivery::Never,
            priority: Priority::default(),
            deadline: now.plus(self.default_deadline),
            created_at: now,
            traceparent: None,
        };
        let state = State::Working(Working::dispatched(now));
        let delegation = NewDelegation {
            terms,
            task: "".into(),
            idempotency: None,
            state,
            retry_of: None,
            parent: None,
            envelope: None,
        };
        // Somebody else may have been faster: then that one is told.
        self.begin(delegation, "").await.map(drop)
    }

    /// Tells a delegation, whichever incarnation is alive; rebuilds one if none is. None when there is no such delegation.
    async fn tell(
        &self,
        key: &DelegationKey,
        event: &Event,
        raw_reply: Option<Bytes>,
    ) -> Result<Option<Told>, Error> {
        for _ in 0..HANDOVERS {
            let Some(actor) = self.find(key).await? else {
                return Ok(None);
            };
            if let Ok(told) = hand(&actor, event, raw_reply.clone()).await {
                return told.map(Some);
            }
        }
        Err(Error::UNAVAILABLE)
    }

    async fn find(&self, key: &DelegationKey) -> Result<Option<Addr<DelegationActor>>, Error> {
        let live = self.registry.actors.get(key).map(|live| live.actor.clone());
        if let Some(actor) = live.filter(Addr::connected) {
            return Ok(Some(actor));
        }
        let (reply, answer) = oneshot::channel();
        self.supervisor.do_send(Revive {
            key: key.clone(),
            reply,
        });
        answer.await.unwrap_or(Err(Error::UNAVAILABLE))
    }

    /// Sends nothing more, and waits until no call to a target is in flight.
    pub async fn calls_answered(&self) {
        self.registry.sends_no_more.store(true, Ordering::Release);
        self.registry.calls.idle().await;
    }

    /// Another node moved these delegations: their actors start over from the store.
    pub fn moved_elsewhere(&self, keys: Vec<DelegationKey>) {
        self.supervisor.do_send(Moved(keys));
    }

    /// How many are live on this node, by status.
    #[must_use]
    pub fn live(&self) -> BTreeMap<Status, i64> {
        self.registry.by_status.counts()
    }

    /// How many calls to targets are in flight.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.registry.calls.in_flight()
    }
}

/// Hands a message to an actor. The answer is an error when the actor is gone without having taken it.
fn hand(
    actor: &Addr<DelegationActor>,
    event: &Event,
    raw_reply: Option<Bytes>,
) -> oneshot::Receiver<Result<Told, Error>> {
    let (reply, answer) = oneshot::channel();
    actor.do_send(Tell {
        event: event.clone(),
        raw_reply,
        reply: Some(reply),
    });
    answer
}

/// What a report came to.
fn reported(told: Told) -> Result<Reported, Error> {
    match told {
        Told::Committed(_) => Ok(Reported::Ended),
        Told::Settled(Settled::Repeat(ending)) => Ok(Reported::Repeat(ending)),
        Told::Settled(Settled::Contradiction(ending)) => Ok(Reported::Contradiction(ending)),
        Told::Ignored(_) => Err(Error::UNAVAILABLE),
    }
}

#[cfg(test)]
mod tests;
