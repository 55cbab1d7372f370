//! The actor: a buffer, a batch in flight on each connection, acknowledgement after the commit. It keeps the node's lease,
//! and ends the process when that is lost.

mod answers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use metrics::Gauge;
use tokio::sync::{Notify, oneshot, watch};

use super::order::{Flight, Ordered};
use super::{
    Acknowledge, Append, BatchLimits, Drain, Error, FlushReason, Gate, GateLimits, Gauges, Hearing,
    Patience, Persistence,
};
use crate::clock;
use crate::events::EventHub;
use crate::faults::{Faults, Point, Vital};
use crate::store::{self, Commit, Lease, Store, Write, Writer, Written};
use crate::telemetry::committed;

/// The first wait after a failed commit; doubles up to [`RETRY_CAP`].
const RETRY_BASE: Duration = Duration::from_millis(50);
/// The longest wait after a failed commit, and so the longest that recovery goes unnoticed.
const RETRY_CAP: Duration = Duration::from_secs(1);

/// As many writes must wait before they are committed beside a commit that is under way: fewer share its successor. What a
/// commit costs whatever it carries is as much as five endings, and a second one at a time saves none of it.
const BESIDE: usize = 40;

/// How long the database may leave a statement of a commit unanswered before it counts as away.
const STALLED_AFTER: Duration = Duration::from_millis(700);
/// How much longer for each MiB of the largest write.
const STALLED_AFTER_MIB: Duration = Duration::from_millis(250);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Failures in a row before a smaller batch is tried: one write that always fails must not hold up the others.
const TRIES: u32 = 3;
/// Signs of life that are no further apart than this have no break between them, however short the lease is.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The status of a process that another took over from: started again, it is a new node.
const FENCED: i32 = 75;

/// What the actor works with.
pub struct PersistenceSettings {
    /// Where to write.
    pub store: Store,
    /// As which node.
    pub lease: Lease,
    /// Whom to tell what was committed.
    pub hub: EventHub,
    /// When to close a batch.
    pub limits: BatchLimits,
    /// How much is let in.
    pub gate: GateLimits,
    /// Woken when a reply could not be written with its ending.
    pub reply_owed: Arc<Notify>,
    /// For tests.
    pub faults: Arc<Faults>,
}

/// The one writer of this process.
pub struct PersistenceActor {
    settings: PersistenceSettings,
    gauges: Arc<Gauges>,
    /// The connections that no commit has. None after a failure: the next commits open new ones.
    writers: Vec<Box<dyn Writer>>,
    buffer: VecDeque<Append>,
    /// How long the buffer is.
    queue_shown: Gauge,
    oldest: Instant,
    /// The commits under way, and the newest of all.
    flights: Vec<Flight>,
    newest: Flight,
    /// What is committed, until it is its turn to be told.
    ordered: Ordered<(Commit, Vec<Answer>)>,
    lingering: bool,
    /// After a failure nothing is committed for a moment.
    pausing: bool,
    failures: u32,
    /// Most writes in the next batch; fewer than usual while batches fail.
    portion: usize,
    /// When the last commit began.
    began: Instant,
    draining: Vec<oneshot::Sender<()>>,
    membership: Membership,
    _vital: Vital,
}

/// Whom to answer.
type Answer = (Patience, Acknowledge);

/// Whether this process is still a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Membership {
    Node,
    /// It gives up its lease as soon as nothing waits any more.
    Leaving,
    /// The lease is given up: nothing is committed any more.
    Left,
}

/// A batch that came back from the blocking pool.
struct Finished {
    writer: Option<Box<dyn Writer>>,
    result: Result<Commit, store::Error>,
    took: Duration,
}

impl PersistenceActor {
    /// Starts it on this arbiter, writing with `writer` on the blocking pool.
    #[must_use]
    pub fn launch(
        settings: PersistenceSettings,
        writer: Box<dyn Writer>,
        arbiter: &ArbiterHandle,
    ) -> Persistence {
        let lease = settings.lease.clone();
        let longest_pause = (lease.length() / 2).max(PAUSE_MIN);
        let gauges = Arc::new(Gauges {
            writing: watch::Sender::new(true),
            commands: AtomicUsize::new(0),
            gate: Arc::new(Gate::new(settings.gate, settings.limits.size)),
            hearing: Hearing::begin(clock::now(), longest_pause),
        });
        let actor = Self {
            portion: settings.limits.size,
            began: Instant::now(),
            membership: Membership::Node,
            settings,
            gauges: Arc::clone(&gauges),
            writers: vec![writer],
            buffer: VecDeque::new(),
            queue_shown: metrics::gauge!("baton_write_queue"),
            oldest: Instant::now(),
            flights: Vec::new(),
            newest: Flight::default(),
            ordered: Ordered::default(),
            lingering: false,
            pausing: false,
            failures: 0,
            draining: Vec::new(),
            _vital: Vital,
        };
        let address = Self::start_in_arbiter(arbiter, |_| actor);
        Persistence {
            actor: address,
            gauges,
            lease,
        }
    }

    /// Commits now, or sees to it that it will be done.
    fn proceed(&mut self, context: &mut Context<Self>) {
        if self.pausing {
            return;
        }
        if self.buffer.is_empty() || self.has_left() {
            if self.flights.is_empty() {
                self.rest(context);
            }
            return;
        }
        if !self.flights.is_empty() {
            let others = self.flights.len() < self.settings.store.writers() && self.failures == 0;
            if others && self.buffer.len() >= BESIDE {
                self.flush(FlushReason::Beside, context);
            }
            return;
        }
        let waited = self.oldest.elapsed();
        match self
            .settings
            .limits
            .flush(self.buffer.len(), waited, !self.draining.is_empty())
        {
            Some(reason) => self.flush(reason, context),
            None if self.lingering => {}
            None => {
                self.lingering = true;
                context.run_later(
                    self.settings.limits.linger.saturating_sub(waited),
                    |actor, context| {
                        actor.lingering = false;
                        actor.proceed(context);
                    },
                );
            }
        }
    }

    /// Nothing waits, nothing is under way.
    fn rest(&mut self, context: &mut Context<Self>) {
        if self.membership == Membership::Leaving {
            self.membership = Membership::Left;
            self.gauges.gate.submitted();
            return self.commit(vec![Append::unheard(Write::Leave)], context);
        }
        for waiter in self.draining.drain(..) {
            // Whoever waited may have gone.
            let _gone = waiter.send(());
        }
        // Somebody must find out when writing works again.
        if self.failures > 0 && !self.has_left() {
            self.commit(Vec::new(), context);
        }
    }

    fn has_left(&self) -> bool {
        self.membership == Membership::Left
    }

    fn show_queue(&self) {
        let waiting = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        self.queue_shown.set(waiting);
    }

    fn flush(&mut self, reason: FlushReason, context: &mut Context<Self>) {
        let size = self.buffer.len().min(self.portion);
        let batch: Vec<Append> = self.buffer.drain(..size).collect();
        self.show_queue();
        self.oldest = Instant::now();
        metrics::counter!("baton_batches_total", "reason" => reason.as_str()).increment(1);
        metrics::histogram!("baton_batch_size").record(u32::try_from(size).unwrap_or(u32::MAX));
        self.commit(batch, context);
    }

    fn commit(&mut self, appends: Vec<Append>, context: &mut Context<Self>) {
        let (writes, answers): (Vec<Write>, Vec<Answer>) = appends
            .into_iter()
            .map(|append| (append.write, (append.patience, append.acknowledge)))
            .unzip();
        let batch = Arc::new(writes);
        let task = tokio::task::spawn_blocking({
            let (store, lease) = (self.settings.store.clone(), self.settings.lease.clone());
            let (connection, batch) = (self.writers.pop(), Arc::clone(&batch));
            let faults = Arc::clone(&self.settings.faults);
            move || commit_blocking(&store, &lease, connection, &batch, &faults)
        });
        self.newest = Flight(self.newest.0.saturating_add(1));
        let (flight, failures) = (self.newest, self.failures);
        self.began = Instant::now();
        self.gauges.gate.commit_began(!self.flights.is_empty());
        self.flights.push(flight);
        let stall = self.look_after(&batch, context);
        let finish = task.into_actor(self).map(move |joined, actor, context| {
            context.cancel_future(stall);
            actor.flights.retain(|other| *other != flight);
            actor.ordered.landed(flight);
            let behind = actor.flights.clone();
            // A panic costs the connection that it happened on, never the batch.
            let finished = joined.unwrap_or_else(|panic| Finished {
                writer: None,
                result: Err(store::Error::Unavailable(panic.to_string())),
                took: Duration::ZERO,
            });
            match finished.result {
                Ok(commit) => {
                    let writes = commit.written.len();
                    let others = !actor.flights.is_empty();
                    actor.gauges.gate.committed(writes, others);
                    committed(writes, finished.took);
                    actor.pass_committed(&commit);
                    // One that began before another failed says nothing of that.
                    if failures == actor.failures {
                        actor.writers.extend(finished.writer);
                        actor.succeeded();
                    }
                    if !actor.buffer.is_empty() {
                        // Before the answers, so that the database need not wait for them.
                        actor.proceed(context);
                    }
                    actor.came_back(commit, answers, behind);
                    actor.proceed(context);
                }
                Err(store::Error::Fenced) => actor.end(),
                Err(error) => {
                    let writes = Arc::try_unwrap(batch).unwrap_or_else(|shared| (*shared).clone());
                    actor.failed(&error, writes, answers, context);
                    actor.tell();
                }
            }
        });
        context.spawn(finish);
    }

    /// Sees to it that a commit that gets no answer keeps nobody waiting.
    fn look_after(&self, batch: &[Write], context: &mut Context<Self>) -> SpawnHandle {
        let mebibytes = batch.iter().map(Write::bytes).max().unwrap_or(0) >> 20;
        let mebibytes = u32::try_from(mebibytes).unwrap_or(u32::MAX);
        let limit = STALLED_AFTER.saturating_add(STALLED_AFTER_MIB.saturating_mul(mebibytes));
        let began = self.began;
        context.run_interval(LOOK, move |actor, _| {
            let stalled = actor.settings.lease.progress_since(began).elapsed() >= limit;
            if stalled && *actor.gauges.writing.borrow() {
                tracing::error!("a commit does not end; commands are refused until it does");
                actor.settings.store.seems_away();
                actor.away();
            }
        })
    }

    /// Another node has everything in charge that this one had. Nothing half-done is lost: what was not acknowledged
    /// stays so.
    fn end(&self) -> ! {
        tracing::error!(
            node = %self.settings.lease.node(),
            "another node took over from this one, which gave no sign for too long; this process ends, so that it \
             starts over from the store"
        );
        std::process::exit(FENCED)
    }

    /// The database does not take writes: whoever waits for one to begin is told so.
    fn away(&mut self) {
        self.gauges.writing.send_replace(false);
        for append in std::mem::take(&mut self.buffer) {
            match append.patience {
                Patience::Change => self.buffer.push_back(append),
                Patience::Command => {
                    self.release(append.patience);
                    (append.acknowledge)(Err(Error::UNAVAILABLE));
                }
            }
        }
    }

    fn pass_committed(&self, commit: &Commit) {
        let moves = |written: &Written| matches!(written, Written::Accepted(_) | Written::Advanced);
        if commit.written.iter().any(moves) {
            self.settings.faults.pass(Point::Committed);
        }
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "the database takes writes again");
            self.failures = 0;
            // What failed may have been committed all the same: its repetition shows nothing.
            self.settings.hub.lag();
            self.settings.reply_owed.notify_one();
        }
        self.portion = self
            .portion
            .saturating_mul(2)
            .min(self.settings.limits.size);
        self.gauges.hearing.sign(clock::now());
        self.settings.store.answers();
        // Whoever waits for a commit watches this, and is woken only by a change.
        self.gauges
            .writing
            .send_if_modified(|writing| !std::mem::replace(writing, true));
    }

    /// Commands are told at once; changes go back to the head of the queue, in order.
    fn failed(
        &mut self,
        error: &store::Error,
        writes: Vec<Write>,
        answers: Vec<Answer>,
        context: &mut Context<Self>,
    ) {
        self.failures = self.failures.saturating_add(1);
        self.writers.clear();
        metrics::counter!("baton_commit_failures_total").increment(1);
        if self.failures == 1 {
            tracing::error!(%error, "a commit failed; writes wait until the database is back");
            self.settings.store.seems_away();
        }
        let batch = writes
            .into_iter()
            .zip(answers)
            .map(|(write, (patience, acknowledge))| Append {
                write,
                patience,
                acknowledge,
            });
        let size = batch.len();
        if self.failures.is_multiple_of(TRIES) && size == 1 {
            self.buffer.extend(batch);
        } else {
            let behind = std::mem::take(&mut self.buffer);
            self.buffer = batch.chain(behind).collect();
        }
        if self.failures.is_multiple_of(TRIES) && size > 0 {
            self.portion = (size / 2).max(1);
        }
        self.away();
        if self.pausing {
            return;
        }
        let delay = RETRY_BASE
            .saturating_mul(1 << self.failures.min(6))
            .min(RETRY_CAP);
        self.pausing = true;
        context.run_later(delay, |actor, context| {
            actor.pausing = false;
            actor.proceed(context);
        });
    }

    fn release(&self, patience: Patience) {
        self.gauges.gate.answered();
        if patience == Patience::Command {
            self.gauges.commands.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn commit_blocking(
    store: &Store,
    lease: &Lease,
    connection: Option<Box<dyn Writer>>,
    batch: &[Write],
    faults: &Faults,
) -> Finished {
    let started = Instant::now();
    let moves = |write: &Write| {
        matches!(
            write,
            Write::Accept(_) | Write::Advance(_) | Write::Visit(_)
        )
    };
    let written = || {
        if batch.iter().any(moves) {
            faults.pass(Point::DuringCommit);
        }
    };
    let written: Option<&dyn Fn()> = faults.are_set_at(Point::DuringCommit).then_some(&written);
    let opened = connection.map_or_else(|| store.writer(lease), Ok);
    let (writer, result) = match opened {
        Ok(mut writer) => match writer.commit_watched(batch, written) {
            Ok(commit) => (Some(writer), Ok(commit)),
            Err(error) => (None, Err(error)),
        },
        Err(error) => (None, Err(error)),
    };
    Finished {
        writer,
        result,
        took: started.elapsed(),
    }
}

impl Actor for PersistenceActor {
    type Context = Context<Self>;

    /// With nothing to write, the lease is renewed all the same.
    fn started(&mut self, context: &mut Self::Context) {
        let pause = self.settings.lease.renewal() / 2;
        context.run_interval(pause, move |actor, context| {
            let idle = actor.flights.is_empty()
                && actor.buffer.is_empty()
                && !actor.pausing
                && !actor.has_left();
            if idle && actor.began.elapsed() >= pause {
                actor.commit(Vec::new(), context);
            }
        });
    }
}

impl Handler<Append> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, append: Append, context: &mut Self::Context) {
        if self.buffer.is_empty() {
            self.oldest = Instant::now();
        }
        let away = self.has_left() || !*self.gauges.writing.borrow();
        if away && append.patience == Patience::Command {
            self.release(append.patience);
            return (append.acknowledge)(Err(Error::UNAVAILABLE));
        }
        self.buffer.push_back(append);
        self.show_queue();
        self.proceed(context);
    }
}

impl Handler<Drain> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, drain: Drain, context: &mut Self::Context) {
        self.draining.push(drain.done);
        if drain.for_good && !self.has_left() {
            self.membership = Membership::Leaving;
        }
        self.proceed(context);
    }
}
