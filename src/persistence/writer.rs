//! The actor: a buffer, one batch in flight, acknowledgement after the commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::{Notify, oneshot};

use super::{Append, BatchLimits, Drain, Error, FlushReason, Gauges, Patience, Persistence};
use crate::events::{EventHub, Message as HubMessage};
use crate::faults::{Faults, Point, Vital};
use crate::store::{self, Commit, Published, Store, Write, Writer, Written};
use crate::telemetry::{Effect, Progress, count};

/// The first wait after a failed commit; doubles up to [`RETRY_CAP`].
const RETRY_BASE: Duration = Duration::from_millis(50);
/// The longest wait after a failed commit, and so the longest that recovery goes unnoticed.
const RETRY_CAP: Duration = Duration::from_secs(1);

/// How long a commit may take before the database counts as away.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// What the actor works with.
pub struct PersistenceSettings {
    /// Where to write.
    pub store: Store,
    /// Whom to tell what was committed.
    pub hub: EventHub,
    /// When to close a batch.
    pub limits: BatchLimits,
    /// Woken when a reply could not be written with its ending.
    pub reply_owed: Arc<Notify>,
    /// For tests.
    pub faults: Arc<Faults>,
}

/// The one writer of this process.
pub struct PersistenceActor {
    settings: PersistenceSettings,
    gauges: Arc<Gauges>,
    /// The connection, while no commit has it. None after a failure: the next commit opens a new one.
    writer: Option<Box<dyn Writer>>,
    buffer: VecDeque<Append>,
    oldest: Instant,
    in_flight: bool,
    lingering: bool,
    failures: u32,
    draining: Vec<oneshot::Sender<()>>,
    _vital: Vital,
}

/// A batch that came back from the blocking pool.
struct Finished {
    writer: Option<Box<dyn Writer>>,
    result: Result<Commit, store::Error>,
    took: Duration,
}

impl PersistenceActor {
    /// Starts it on an arbiter of its own, writing with `writer`.
    #[must_use]
    pub fn launch(settings: PersistenceSettings, writer: Box<dyn Writer>) -> Persistence {
        let gauges = Arc::new(Gauges::default());
        gauges.writing.store(true, Ordering::Relaxed);
        let actor = Self {
            settings,
            gauges: Arc::clone(&gauges),
            writer: Some(writer),
            buffer: VecDeque::new(),
            oldest: Instant::now(),
            in_flight: false,
            lingering: false,
            failures: 0,
            draining: Vec::new(),
            _vital: Vital,
        };
        let address = Self::start_in_arbiter(&Arbiter::new().handle(), |_| actor);
        Persistence {
            actor: address,
            gauges,
        }
    }

    /// Commits now, or sees to it that it will be done.
    fn proceed(&mut self, context: &mut Context<Self>) {
        if self.in_flight {
            return;
        }
        if self.buffer.is_empty() {
            for waiter in self.draining.drain(..) {
                // Whoever waited may have gone.
                let _gone = waiter.send(());
            }
            if self.failures == 0 {
                return;
            }
            // Nothing to write, but somebody must find out when writing works again.
            return self.commit(Vec::new(), context);
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

    fn show_queue(&self) {
        let waiting = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        metrics::gauge!("baton_write_queue").set(waiting);
    }

    fn flush(&mut self, reason: FlushReason, context: &mut Context<Self>) {
        let size = self.buffer.len().min(self.settings.limits.size);
        let batch: Vec<Append> = self.buffer.drain(..size).collect();
        self.show_queue();
        self.oldest = Instant::now();
        metrics::counter!("baton_batches_total", "reason" => reason.as_str()).increment(1);
        metrics::histogram!("baton_batch_size").record(u32::try_from(size).unwrap_or(u32::MAX));
        self.commit(batch, context);
    }

    fn commit(&mut self, appends: Vec<Append>, context: &mut Context<Self>) {
        let (writes, answers): (Vec<Write>, Vec<_>) = appends
            .into_iter()
            .map(|append| (append.write, (append.patience, append.acknowledge)))
            .unzip();
        let batch = Arc::new(writes);
        let task = tokio::task::spawn_blocking({
            let store = self.settings.store.clone();
            let (connection, batch) = (self.writer.take(), Arc::clone(&batch));
            let faults = Arc::clone(&self.settings.faults);
            move || commit_blocking(&store, connection, &batch, &faults)
        });
        self.in_flight = true;
        let stall = context.run_later(STALLED_AFTER, |actor, _| {
            tracing::error!("a commit does not end; commands are refused until it does");
            actor.gauges.writing.store(false, Ordering::Relaxed);
        });
        let finish = task.into_actor(self).map(move |joined, actor, context| {
            context.cancel_future(stall);
            actor.in_flight = false;
            // A panic costs the connection that it happened on, never the batch.
            let finished = joined.unwrap_or_else(|panic| Finished {
                writer: None,
                result: Err(store::Error::Unavailable(panic.to_string())),
                took: Duration::ZERO,
            });
            match finished.result {
                Ok(commit) => {
                    actor.writer = finished.writer;
                    metrics::histogram!("baton_commit_seconds").record(finished.took);
                    actor.committed(commit, answers);
                    actor.proceed(context);
                }
                Err(error) => {
                    let writes = Arc::try_unwrap(batch).unwrap_or_else(|shared| (*shared).clone());
                    actor.failed(&error, writes, answers, context);
                }
            }
        });
        context.spawn(finish);
    }

    fn committed(&mut self, commit: Commit, answers: Vec<(Patience, super::Acknowledge)>) {
        let moves = |written: &Written| matches!(written, Written::Accepted(_) | Written::Advanced);
        if commit.written.iter().any(moves) {
            self.settings.faults.pass(Point::Committed);
        }
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "the database takes writes again");
            self.failures = 0;
            // What failed may have been committed all the same: its repetition shows nothing.
            self.settings.hub.lag();
            self.settings.reply_owed.notify_one();
        }
        self.gauges.writing.store(true, Ordering::Relaxed);
        for published in commit.published {
            self.settings.hub.publish(show(published));
        }
        count_replies(commit.replies_written, commit.replies_owed);
        if commit.replies_owed > 0 {
            self.settings.reply_owed.notify_one();
        }
        for ((patience, acknowledge), written) in answers.into_iter().zip(commit.written) {
            self.release(patience);
            acknowledge(match written {
                Written::Failed(reason) => {
                    metrics::counter!("baton_writes_refused_total").increment(1);
                    tracing::error!(%reason, "the database refused one write of a batch");
                    Err(Error::Refused(reason))
                }
                other => Ok(other),
            });
        }
    }

    /// Commands are told at once; changes go back to the head of the queue, in order.
    fn failed(
        &mut self,
        error: &store::Error,
        writes: Vec<Write>,
        answers: Vec<(Patience, super::Acknowledge)>,
        context: &mut Context<Self>,
    ) {
        self.failures = self.failures.saturating_add(1);
        self.gauges.writing.store(false, Ordering::Relaxed);
        metrics::counter!("baton_commit_failures_total").increment(1);
        if self.failures == 1 {
            tracing::error!(%error, "a commit failed; writes wait until the database is back");
        }
        let batch = writes
            .into_iter()
            .zip(answers)
            .map(|(write, (patience, acknowledge))| Append {
                write,
                patience,
                acknowledge,
            });
        let waiting: Vec<Append> = batch.chain(self.buffer.drain(..)).collect();
        for append in waiting {
            match append.patience {
                Patience::Change => self.buffer.push_back(append),
                Patience::Command => {
                    self.release(append.patience);
                    (append.acknowledge)(Err(Error::UNAVAILABLE));
                }
            }
        }
        let delay = RETRY_BASE
            .saturating_mul(1 << self.failures.min(6))
            .min(RETRY_CAP);
        self.in_flight = true;
        context.run_later(delay, |actor, context| {
            actor.in_flight = false;
            actor.proceed(context);
        });
    }

    fn release(&self, patience: Patience) {
        if patience == Patience::Command {
            self.gauges.commands.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn count_replies(written: u64, owed: u64) {
    count(
        Effect::Reply,
        Progress::Attempted,
        written.saturating_add(owed),
    );
    count(Effect::Reply, Progress::Succeeded, written);
    count(Effect::Reply, Progress::Failed, owed);
}

fn commit_blocking(
    store: &Store,
    connection: Option<Box<dyn Writer>>,
    batch: &[Write],
    faults: &Faults,
) -> Finished {
    let started = Instant::now();
    let moves = |write: &Write| matches!(write, Write::Accept(_) | Write::Advance(_));
    let written = || {
        if batch.iter().any(moves) {
            faults.pass(Point::DuringCommit);
        }
    };
    let opened = connection.map_or_else(|| store.writer(), Ok);
    let (writer, result) = match opened {
        Ok(mut writer) => match writer.commit_watched(batch, &written) {
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

fn show(published: Published) -> HubMessage {
    match published {
        Published::Event { position, event } => HubMessage::Event {
            position: Some(position),
            name: event.name,
            workspace: event.workspace,
            payload: event.payload,
            at: event.created_at,
        },
        Published::Row {
            position,
            workspace,
            activity_type,
        } => HubMessage::Feed {
            position,
            workspace,
            activity_type,
        },
    }
}

impl Actor for PersistenceActor {
    type Context = Context<Self>;
}

impl Handler<Append> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, append: Append, context: &mut Self::Context) {
        if self.buffer.is_empty() {
            self.oldest = Instant::now();
        }
        if self.failures > 0 && append.patience == Patience::Command {
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
        self.draining.push(drain.0);
        self.proceed(context);
    }
}
