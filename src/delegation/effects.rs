//! What delegations do to the world once their state is committed, and what they ask of it before.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::calls::Calls;
use super::lines::Lines;
use super::messages::Task;
use super::speech::{first, further};
use super::{Delegations, Registry};
use crate::clock;
use crate::dispatch::{A2aClient, Call, Called, Credential, Message, PushOffer};
use crate::domain::{
    AskOutcome, Attempt, Card, DelegationKey, DeliveryMode, ErrorClass, Event, Life, Outcome,
    Policy, RemoteTaskId, Said, Seat, State, Terms, Timestamp, Unready,
};
use crate::faults::{Faults, Point};
use crate::persistence::Persistence;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::telemetry::{self, Effect, Progress, count, ended};

/// The wait before the database is asked again for what an actor cannot do without.
pub(super) const READ_RETRY: Duration = Duration::from_millis(500);

/// How long after the deadline an answer is still listened for, to be kept as late (rule 7).
const LATE_ANSWER: Duration = Duration::from_mins(10);

/// How many times a target is told that its work is not wanted any more, when it cannot be reached.
const CANCEL_TRIES: u32 = 3;

/// Where a target listens, and how far it can be trusted with a repeated message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Route {
    pub(super) url: Arc<str>,
    pub(super) credential: Option<Arc<Credential>>,
    deduplicates: bool,
    /// What it was registered with, if that says how it is spoken to.
    pub(super) card: Option<Arc<Card>>,
}

impl Route {
    /// Where a target is to be called, or why it cannot be.
    pub(super) fn to(target: &Seat, secrets: &Secrets) -> Result<Self, Unready> {
        if !target.is_present() {
            return Err(Unready::Removed);
        }
        if target.delivery_mode == DeliveryMode::Poll {
            return Err(Unready::Polls);
        }
        if !target.status.takes_calls() {
            return Err(Unready::Offline);
        }
        let url = target.url.clone().ok_or(Unready::NoAddress)?;
        let credential = target.credentials.as_ref();
        let credential = credential.map(|sealed| Credential::open(sealed, secrets, target.id));
        let credential = credential.transpose().map_err(|error| {
            // Without it the agent would refuse the task for good.
            tracing::error!(workspace.id = %target.id, %error, "a target is not called: its credentials must be set anew");
            Unready::Offline
        })?;
        Ok(Self {
            url,
            credential: credential.map(Arc::new),
            deduplicates: target.deduplicates,
            card: target.card.clone(),
        })
    }
}

/// A place among the outbound calls and the target's present address.
pub(super) type Way = (OwnedSemaphorePermit, Route);

/// What all actors share.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) policy: Policy,
    pub(super) push_replies: bool,
    pub(super) persistence: Persistence,
    pub(super) store: Store,
    pub(super) client: A2aClient,
    /// Opens what targets want to see.
    pub(super) secrets: Secrets,
    /// What targets are offered that tell of their tasks.
    pub(super) push: PushOffer,
    pub(super) outbound: Arc<Semaphore>,
    /// Places of their own for short questions, so that long calls never hold them up.
    pub(super) asking: Arc<Semaphore>,
    pub(super) registry: Arc<Registry>,
    pub(super) lines: Arc<Lines>,
    pub(super) faults: Arc<Faults>,
    /// Set once the supervisor runs.
    pub(super) delegations: OnceLock<Delegations>,
}

impl Runtime {
    /// Whether this process still waits for an answer to that attempt.
    pub(super) fn is_calling(&self, key: &DelegationKey, attempt: Attempt) -> bool {
        self.registry.calls.contains(key, attempt)
    }

    /// The way to the target, the place first: an address that waited for a place would be stale (lesson Q07).
    pub(super) async fn find_way(&self, terms: &Terms) -> Result<Way, Unready> {
        self.find_way_among(&self.outbound, terms).await
    }

    /// The same, for a question after a task, or word that it is not wanted any more.
    async fn find_way_to_ask(&self, terms: &Terms) -> Result<Way, Unready> {
        self.find_way_among(&self.asking, terms).await
    }

    async fn find_way_among(&self, places: &Arc<Semaphore>, terms: &Terms) -> Result<Way, Unready> {
        let Ok(permit) = Arc::clone(places).acquire_owned().await else {
            return Err(Unready::AtCapacity);
        };
        let route = self.route(terms).await?;
        if self.registry.sends_no_more.load(Ordering::Acquire) {
            // What is sent now would only be cut off: it stays `pending`, or due, for the next start.
            std::future::pending::<()>().await;
        }
        Ok((permit, route))
    }

    /// Where the target is to be called now, or why it cannot be. Its line learns how many tasks it takes at once.
    async fn route(&self, terms: &Terms) -> Result<Route, Unready> {
        let target = self.target(terms).await.ok_or(Unready::Removed)?;
        let route = Route::to(&target, &self.secrets);
        match &route {
            Ok(_) => self.lines.set_cap(target.id, target.max_concurrent_tasks),
            Err(Unready::Polls) => self.lines.set_cap(target.id, 0),
            Err(_) => {}
        }
        route
    }

    /// Since when this process hears without a break.
    pub(super) fn hearing_since(&self) -> Timestamp {
        self.persistence.hearing_since()
    }

    /// When the target's workspace last gave a sign of life.
    pub(super) async fn target_heard_at(&self, terms: &Terms) -> Option<Timestamp> {
        let target = terms.target?;
        let found = self.read(move |reader| reader.workspace(target)).await;
        found?.last_heartbeat_at
    }

    /// The whole task.
    pub(super) async fn task(&self, terms: &Terms) -> Task {
        let key = terms.key.clone();
        let task = self.read(move |reader| reader.said(&key)).await;
        task.map_or_else(|| Said::words(""), Box::new)
    }

    pub(super) async fn target(&self, terms: &Terms) -> Option<Arc<Seat>> {
        let target = terms.target?;
        self.patiently(|| self.store.seat(target)).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl Fn(&mut dyn crate::store::Reader) -> Result<T, crate::store::Error>
        + Clone
        + Send
        + 'static,
    ) -> T {
        self.patiently(|| self.store.read(query.clone())).await
    }

    /// Asks until the database answers: an actor has nothing better to do.
    async fn patiently<T, Asked>(&self, ask: impl Fn() -> Asked) -> T
    where
        Asked: Future<Output = Result<T, crate::store::Error>>,
    {
        loop {
            match ask().await {
                Ok(value) => return value,
                Err(error) => {
                    tracing::debug!(%error, "a read failed; trying again");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
        }
    }

    /// Calls the target. The call belongs to nobody: it outlives its actor, and its outcome goes to whichever
    /// incarnation is alive then.
    pub(super) fn call(
        self: &Arc<Self>,
        terms: &Arc<Terms>,
        attempt: Attempt,
        route: Route,
        task: Option<Task>,
        permit: OwnedSemaphorePermit,
    ) {
        self.faults.pass(Point::BeforeSend);
        let runtime = Arc::clone(self);
        let deduplicates = route.deduplicates;
        let calling = {
            let terms = Arc::clone(terms);
            async move {
                let task = match task {
                    Some(task) => task,
                    None => Box::pin(runtime.task(&terms)).await,
                };
                let called = runtime.call_now(&terms, route, attempt, first(*task));
                let called = holding(permit, terms.deadline, called).await;
                runtime.faults.pass(Point::AnswerReceived);
                called
            }
        };
        self.bring_back(terms, attempt, deduplicates, calling);
    }

    /// Sends the caller's answer to the target's question.
    pub(super) fn go_on(
        self: &Arc<Self>,
        terms: &Arc<Terms>,
        attempt: Attempt,
        task: Option<RemoteTaskId>,
        answer: Box<Said>,
    ) {
        let calling = {
            let (runtime, terms) = (Arc::clone(self), Arc::clone(terms));
            async move {
                let way = runtime.find_way(&terms).await;
                let Ok((permit, route)) = way else {
                    let detail = "the target cannot be called now".into();
                    let outcome = Outcome::NotDelivered { detail };
                    return Called { outcome, raw: None };
                };
                let message = further(&terms, attempt, task, *answer);
                let called = runtime.call_now(&terms, route, attempt, message);
                holding(permit, terms.deadline, called).await
            }
        };
        self.bring_back(terms, attempt, false, calling);
    }

    /// Waits for a call, and hands its outcome to whichever incarnation is alive then.
    fn bring_back(
        self: &Arc<Self>,
        terms: &Arc<Terms>,
        attempt: Attempt,
        deduplicates: bool,
        calling: impl Future<Output = Called> + 'static,
    ) {
        let (runtime, terms) = (Arc::clone(self), Arc::clone(terms));
        let under_way = Calls::begin(&self.registry, &terms.key, attempt);
        count(Effect::Call, Progress::Attempted, 1);
        // In a box: a future that is handed on by value takes its room at each hand that it passes.
        let calling = AssertUnwindSafe(Box::pin(calling)).catch_unwind();
        // Among the actors of this thread: to wake them from outside of their set would be a system call.
        actix::spawn(async move {
            let (outcome, raw_reply) = match calling.await {
                Ok(called) => (called.outcome, called.raw),
                // Whatever broke, somebody must be told that the call is over.
                Err(_panic) => (lost(deduplicates), None),
            };
            let heard = !matches!(
                outcome,
                Outcome::NotDelivered { .. } | Outcome::DeliveredUnknown { .. }
            );
            let result = if heard {
                Progress::Succeeded
            } else {
                Progress::Failed
            };
            count(Effect::Call, result, 1);
            let event = Event::Called { attempt, outcome };
            if let Some(delegations) = runtime.delegations.get() {
                while let Err(error) = delegations
                    .tell(&terms.key, &event, raw_reply.clone())
                    .await
                {
                    tracing::warn!(delegation.id = %terms.key, attempt = attempt.0, %error, "an outcome could not be handed over yet");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
            drop(under_way);
        });
    }

    async fn call_now(
        &self,
        terms: &Terms,
        route: Route,
        attempt: Attempt,
        message: Message,
    ) -> Called {
        let manner = self.manner(&route).await;
        let deduplicates = route.deduplicates || manner.deduplicates;
        let push = manner.push.then(|| self.push.config_for(&terms.key));
        let push = push.flatten().map(Box::new);
        let started = clock::now();
        let call = Call {
            url: route.url,
            manner,
            credential: route.credential,
            message_id: terms.key.id.clone(),
            message,
            push,
            traceparent: terms.traceparent.clone(),
            deadline_in: terms.deadline.since(started).saturating_add(LATE_ANSWER),
        };
        let mut ended = false;
        let hear = async |news| self.hear(terms, attempt, news, &mut ended).await;
        let mut called = Box::pin(self.client.send(call, hear)).await;
        if let Outcome::DeliveredUnknown {
            target_deduplicates,
            ..
        } = &mut called.outcome
        {
            *target_deduplicates = deduplicates;
        }
        let duration = clock::now().since(started);
        let result = outcome_name(&called.outcome);
        telemetry::called(result, duration);
        tracing::info!(
            delegation.id = %terms.key, attempt = attempt.0, duration_ms = duration.as_millis(), outcome = result,
            "called the target"
        );
        called
    }
}

/// Holds a place until the call is over or the deadline has passed: what only listens for a late answer takes no place
/// from anybody.
async fn holding(
    place: OwnedSemaphorePermit,
    deadline: Timestamp,
    call: impl Future<Output = Called>,
) -> Called {
    tokio::pin!(call);
    tokio::select! {
        called = &mut call => return called,
        () = tokio::time::sleep(deadline.since(clock::now())) => drop(place),
    }
    call.await
}

/// What came of a question after a task.
pub(super) struct Asked {
    pub(super) outcome: AskOutcome,
    pub(super) raw: Option<Bytes>,
    pub(super) target_deduplicates: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Runtime {
    /// Asks the target how far its task is.
    pub(super) async fn ask(&self, terms: &Terms, task: RemoteTaskId) -> Asked {
        let later = |detail: &str| AskOutcome::Later {
            retry_after: None,
            detail: detail.into(),
        };
        let way = self.find_way_to_ask(terms).await;
        let (outcome, raw, target_deduplicates) = match way {
            Ok((_permit, route)) => {
                let about = self.about(terms, &route, task).await;
                let deduplicates = route.deduplicates || about.manner.deduplicates;
                let asked = self.client.ask(about).await;
                (asked.outcome, asked.raw, deduplicates)
            }
            Err(_unready) => (later("the target cannot be called now"), None, false),
        };
        let result = match &outcome {
            AskOutcome::Told(_) => "told",
            AskOutcome::NoSuchTask { .. } => "no_such_task",
            AskOutcome::Unsupported { .. } => "unsupported",
            AskOutcome::Later { .. } => "later",
        };
        metrics::counter!("baton_asks_total", "result" => result).increment(1);
        let retry_after = match &outcome {
            AskOutcome::Later { retry_after, .. } => *retry_after,
            AskOutcome::Told(_)
            | AskOutcome::NoSuchTask { .. }
            | AskOutcome::Unsupported { .. } => None,
        };
        Asked {
            outcome,
            raw,
            target_deduplicates,
            retry_after,
        }
    }

    /// Tells the target that nobody waits for its task any more. Best effort: the ending stands whatever it says.
    pub(super) fn cancel(self: &Arc<Self>, terms: &Arc<Terms>, task: RemoteTaskId) {
        let (runtime, terms) = (Arc::clone(self), Arc::clone(terms));
        tokio::spawn(async move {
            for tried in 1..=CANCEL_TRIES {
                if let Ok((_permit, route)) = runtime.find_way_to_ask(&terms).await {
                    let about = runtime.about(&terms, &route, task.clone()).await;
                    if runtime.client.cancel(about).await {
                        return;
                    }
                }
                let delay = runtime.policy.retry.delay(tried, rand::random());
                tokio::time::sleep(delay).await;
            }
            tracing::warn!(delegation.id = %terms.key, "the target could not be told that its task is not wanted");
        });
    }
}

/// Counts a committed change, and logs an ending.
pub(super) fn observe(terms: &Terms, before: &Life, after: &Life, at: Timestamp) {
    if before.status().is_terminal() {
        metrics::counter!("baton_late_results_total").increment(1);
    } else if let State::Ended(end) = &after.state {
        let lasted = at.since(terms.created_at);
        ended(&end.ending, lasted);
        count(Effect::Ending, Progress::Succeeded, 1);
        tracing::info!(
            delegation.id = %terms.key, attempt = after.attempt.0, duration_ms = lasted.as_millis(),
            status = after.status().as_str(), "delegation ended"
        );
    }
}

/// The outcome of a call that Baton itself broke off.
fn lost(target_deduplicates: bool) -> Outcome {
    metrics::counter!("baton_call_panics_total").increment(1);
    tracing::error!("a call broke off by a panic");
    Outcome::DeliveredUnknown {
        class: ErrorClass::OutcomeUnknown,
        detail: "Baton failed while it waited for the answer".into(),
        target_deduplicates,
    }
}

const fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { .. } => "answered",
        Outcome::Refused { .. } => "refused",
        Outcome::NotDelivered { .. } => "not_delivered",
        Outcome::DeliveredUnknown { .. } => "delivered_unknown",
        Outcome::Busy { .. } => "busy",
        Outcome::TargetQueued => "queued",
        Outcome::NonFinal { .. } => "non_final",
        Outcome::Malformed { .. } => "malformed",
    }
}
