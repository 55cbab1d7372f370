//! One actor for each live delegation: a shell around `transition`. It takes an event, commits, then acts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::effects::{Route, Runtime, observe};
use super::messages::{ActorDown, Finished, Persisted, Retire, Task, Tell};
use super::supervisor::Supervisor;
use super::{ActorNumber, Counted, Error, Told};
use crate::clock;
use crate::domain::{
    Advance, Decision, Effect, Event, Incarnation, Life, Moment, Origin, Phase, Revision, State,
    Step, Terms, Timestamp, WaitingFor, advanced_feed, next_due, transition,
};
use crate::faults::Point;
use crate::persistence::{self, Patience};
use crate::store::{Loaded, Write, Written};
use crate::telemetry::{Effect as Promise, Progress, count};

/// How many messages may wait while a commit is in flight, before reports are refused.
const WAITING_MESSAGES: usize = 256;
/// The first wait before a change that the database refused is handed over again; doubles up to [`RESUBMIT_CAP`].
const RESUBMIT_BASE: Duration = Duration::from_millis(200);
/// The longest such wait.
const RESUBMIT_CAP: Duration = Duration::from_secs(10);

/// How long the actor of an ended delegation waits for what it was rebuilt for.
const ENDED_LINGER: Duration = Duration::from_secs(2);

/// How an actor comes to its delegation.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Start {
    /// It was accepted just now.
    Fresh(Task),
    /// Another actor left it behind.
    Restored,
    /// So many actors died of it that it must end.
    GivenUp(Arc<str>),
}

/// Everything about one live delegation.
#[derive(Debug)]
pub(super) struct DelegationActor {
    runtime: Arc<Runtime>,
    guard: DownGuard,
    terms: Arc<Terms>,
    life: Life,
    counted: Counted,
    revision: Revision,
    incarnation: Incarnation,
    start: Option<Start>,
    /// Until the first call has it, or must wait: what waits for hours is read again.
    task: Option<Task>,
    /// The change that is being committed; until then `life` is the truth.
    committing: Option<Box<Committing>>,
    /// What came meanwhile.
    waiting: VecDeque<Tell>,
    /// The place among the outbound calls and the address, once granted, for the next call.
    way: Option<(OwnedSemaphorePermit, Route)>,
    seeking_way: bool,
    alarm: Option<(Timestamp, SpawnHandle)>,
}

#[derive(Debug)]
struct Committing {
    step: Step,
    advance: Advance,
    reply: Option<oneshot::Sender<Result<Told, Error>>>,
    refusals: u32,
}

/// Tells the supervisor when its actor is gone, by a panic too.
#[derive(Debug)]
struct DownGuard {
    supervisor: Addr<Supervisor>,
    terms: Arc<Terms>,
    number: ActorNumber,
}

impl Drop for DownGuard {
    fn drop(&mut self) {
        self.supervisor.do_send(ActorDown {
            key: self.terms.key.clone(),
            number: self.number,
            panicked: std::thread::panicking(),
        });
    }
}

impl DelegationActor {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        supervisor: Addr<Supervisor>,
        number: ActorNumber,
        loaded: Loaded,
        start: Start,
    ) -> Self {
        let Loaded {
            terms,
            life,
            revision,
            incarnation,
        } = loaded;
        let terms = Arc::new(terms);
        let task = match &start {
            Start::Fresh(task) if terms.origin == Origin::Delegated => Some(Arc::clone(task)),
            Start::Fresh(_) | Start::Restored | Start::GivenUp(_) => None,
        };
        Self {
            counted: Counted::new(Arc::clone(&runtime.registry), life.status()),
            guard: DownGuard {
                supervisor,
                terms: Arc::clone(&terms),
                number,
            },
            runtime,
            terms,
            life,
            revision,
            incarnation,
            start: Some(start),
            task,
            committing: None,
            waiting: VecDeque::new(),
            way: None,
            seeking_way: false,
            alarm: None,
        }
    }

    fn decide(&self, event: &Event, moment: Moment) -> Decision {
        transition(&self.runtime.policy, &self.terms, &self.life, event, moment)
    }

    /// Takes one message. What is due is done first, so that no answer slips in behind a deadline that a busy mailbox
    /// kept the alarm from telling.
    fn take(&mut self, tell: Tell, context: &mut Context<Self>) {
        let moment = clock::moment();
        let due = next_due(&self.runtime.policy, &self.terms, &self.life)
            .is_some_and(|due| due <= moment.now);
        if due
            && tell.event != Event::Elapsed
            && let Decision::Advance(step) = self.decide(&Event::Elapsed, moment)
        {
            self.waiting.push_front(tell);
            return self.commit(step, None, None, moment.now, context);
        }
        match self.decide(&tell.event, moment) {
            // A change that came between gave the way back: it is sought again.
            Decision::Advance(Step {
                effect: Some(Effect::Send { .. }),
                ..
            }) if self.way.is_none() => {}
            Decision::Advance(step) => {
                self.commit(step, tell.raw_reply, tell.reply, moment.now, context);
            }
            Decision::Settled(settled) => answer(tell.reply, Ok(Told::Settled(settled))),
            Decision::Ignored(ignored) => {
                if tell.event == Event::SlotGranted {
                    self.way = None;
                }
                metrics::counter!("baton_events_ignored_total", "reason" => format!("{ignored:?}"))
                    .increment(1);
                answer(tell.reply, Ok(Told::Ignored));
            }
        }
    }

    fn commit(
        &mut self,
        step: Step,
        raw_reply: Option<Bytes>,
        reply: Option<oneshot::Sender<Result<Told, Error>>>,
        at: Timestamp,
        context: &mut Context<Self>,
    ) {
        let advance = Advance {
            key: self.terms.key.clone(),
            revision: self.revision.next(),
            incarnation: self.incarnation,
            life: step.life.clone(),
            at,
            raw_reply,
            feed: advanced_feed(
                &self.terms,
                &self.life,
                &step.life,
                self.runtime.push_replies,
                at,
            ),
        };
        self.committing = Some(Box::new(Committing {
            step,
            advance,
            reply,
            refusals: 0,
        }));
        self.submit(context);
    }

    fn submit(&self, context: &mut Context<Self>) {
        let Some(committing) = &self.committing else {
            return;
        };
        let actor = context.address();
        let acknowledge = move |result| actor.do_send(Persisted(result));
        if committing.step.life.status().is_terminal() && !self.life.status().is_terminal() {
            count(Promise::Ending, Progress::Attempted, 1);
        }
        let write = Write::Advance(Box::new(committing.advance.clone()));
        self.runtime
            .persistence
            .submit(write, Patience::Change, Box::new(acknowledge));
    }

    fn committed(&mut self, committing: Committing, context: &mut Context<Self>) {
        let Committing {
            step,
            advance,
            reply,
            ..
        } = committing;
        let before = std::mem::replace(&mut self.life, step.life);
        self.revision = advance.revision;
        self.counted.move_to(self.life.status());
        observe(&self.terms, &before, &self.life, advance.at);
        answer(reply, Ok(Told::Committed));
        match step.effect {
            Some(Effect::Send { attempt }) => {
                if let Some((permit, route)) = self.way.take() {
                    self.runtime
                        .call(&self.terms, attempt, route, self.task.take(), permit);
                }
            }
            None => {
                self.way = None;
                self.task = None;
            }
        }
        self.proceed(context);
    }

    /// The database refused this very change: it is handed over again until it is taken, for an ending must not get
    /// lost; whoever waits for it is told to come back.
    fn refused(
        &mut self,
        mut committing: Box<Committing>,
        error: persistence::Error,
        context: &mut Context<Self>,
    ) {
        if committing.step.life.status().is_terminal() {
            count(Promise::Ending, Progress::Failed, 1);
        }
        answer(committing.reply.take(), Err(error.into()));
        committing.refusals = committing.refusals.saturating_add(1);
        let delay = RESUBMIT_BASE
            .saturating_mul(1 << committing.refusals.min(10))
            .min(RESUBMIT_CAP);
        self.committing = Some(committing);
        context.run_later(delay, |actor, context| actor.submit(context));
    }

    /// Takes what this actor found out by itself. It is never refused: nobody would say it again, and there is at most
    /// one of each kind.
    fn learn(&mut self, event: Event, context: &mut Context<Self>) {
        self.runtime.faults.pass(Point::ActorTold);
        self.waiting.push_back(Tell {
            event,
            raw_reply: None,
            reply: None,
        });
        self.proceed(context);
    }

    /// Sees to whatever comes next: a waiting message, a way to the target, the alarm, or the end.
    fn proceed(&mut self, context: &mut Context<Self>) {
        while self.committing.is_none() {
            let Some(tell) = self.waiting.pop_front() else {
                break;
            };
            self.take(tell, context);
        }
        if self.committing.is_some() {
            return;
        }
        if let State::Ended(_) = self.life.state {
            self.way = None;
            return self.guard.supervisor.do_send(Finished {
                key: self.terms.key.clone(),
                number: self.guard.number,
            });
        }
        self.seek_way(context);
        self.arm(context);
    }

    /// Asks for a place among the outbound calls and for the target's address, when it is time to send.
    fn seek_way(&mut self, context: &mut Context<Self>) {
        let wanted = self.terms.origin == Origin::Delegated
            && match &self.life.state {
                State::Pending => true,
                State::Queued(wait) => {
                    wait.waiting_for != WaitingFor::TargetQueue && wait.until <= clock::now()
                }
                State::Working(_) | State::InputRequired(_) | State::Stuck(_) | State::Ended(_) => {
                    false
                }
            };
        if !wanted || self.seeking_way || self.way.is_some() {
            return;
        }
        self.seeking_way = true;
        let (runtime, terms) = (Arc::clone(&self.runtime), Arc::clone(&self.terms));
        let seek = async move { runtime.find_way(&terms).await };
        context.spawn(seek.into_actor(self).map(|found, actor, context| {
            actor.seeking_way = false;
            let event = match found {
                Ok(way) => {
                    actor.way = Some(way);
                    Event::SlotGranted
                }
                Err(unready) => Event::TargetUnready(unready),
            };
            actor.learn(event, context);
        }));
    }

    /// One alarm for whatever is due next.
    fn arm(&mut self, context: &mut Context<Self>) {
        // While it waits for a place there is nothing to wake up for but the end.
        let due = if self.seeking_way {
            Some(self.terms.deadline)
        } else {
            next_due(&self.runtime.policy, &self.terms, &self.life)
        };
        if self.alarm.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            context.cancel_future(alarm);
        }
        let Some(at) = due else { return };
        let alarm = context.run_later(at.since(clock::now()), |actor, context| {
            actor.alarm = None;
            actor.learn(Event::Elapsed, context);
        });
        self.alarm = Some((at, alarm));
    }

    /// What an actor must find out that comes to a delegation which another left behind.
    fn begin(&mut self, start: Start, context: &mut Context<Self>) {
        let event = match start {
            Start::Fresh(_) => return self.proceed(context),
            Start::GivenUp(detail) => Event::Abandoned { detail },
            Start::Restored if matches!(self.life.state, State::Ended(_)) => {
                // Somebody has something to tell: be there for it.
                context.run_later(ENDED_LINGER, Self::proceed);
                return;
            }
            Start::Restored => {
                let (runtime, terms) = (Arc::clone(&self.runtime), Arc::clone(&self.terms));
                let unanswered = match &self.life.state {
                    State::Working(working) | State::Stuck(working) => {
                        working.phase == Phase::Dispatched
                    }
                    State::Pending
                    | State::Queued(_)
                    | State::InputRequired(_)
                    | State::Ended(_) => false,
                };
                if !unanswered || terms.origin != Origin::Delegated {
                    return self.proceed(context);
                }
                let call_in_flight = self.runtime.is_calling(&terms.key, self.life.attempt);
                let look = async move { runtime.target_deduplicates(&terms).await };
                context.wait(look.into_actor(self).map(
                    move |target_deduplicates, actor, context| {
                        let event = Event::Restored {
                            call_in_flight,
                            target_deduplicates,
                        };
                        actor.learn(event, context);
                    },
                ));
                return;
            }
        };
        self.learn(event, context);
    }
}

fn answer(reply: Option<oneshot::Sender<Result<Told, Error>>>, told: Result<Told, Error>) {
    if let Some(reply) = reply {
        // Whoever asked may have gone; what was committed stands all the same.
        drop(reply.send(told));
    }
}

impl Actor for DelegationActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(start) = self.start.take() {
            self.begin(start, context);
        }
    }
}

impl Handler<Tell> for DelegationActor {
    type Result = ();

    fn handle(&mut self, tell: Tell, context: &mut Self::Context) {
        self.runtime.faults.pass(Point::ActorTold);
        if self.waiting.len() >= WAITING_MESSAGES {
            let retry_after = Duration::from_secs(1);
            return answer(
                tell.reply,
                Err(Error::Overloaded {
                    limit: "the queue of this delegation",
                    retry_after,
                }),
            );
        }
        self.waiting.push_back(tell);
        self.proceed(context);
    }
}

impl Handler<Persisted> for DelegationActor {
    type Result = ();

    fn handle(&mut self, Persisted(result): Persisted, context: &mut Self::Context) {
        let Some(committing) = self.committing.take() else {
            return;
        };
        match result {
            Ok(Written::Stale) => {
                tracing::warn!(delegation.id = %self.terms.key, "another owner moved this delegation on; starting over from the store");
                context.stop();
            }
            Ok(_) => self.committed(*committing, context),
            Err(error) => self.refused(committing, error, context),
        }
    }
}

impl Handler<Retire> for DelegationActor {
    type Result = ();

    fn handle(&mut self, _: Retire, context: &mut Self::Context) {
        context.stop();
    }
}
