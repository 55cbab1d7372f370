//! One actor for each live delegation: a shell around `transition`. It takes an event, commits, then acts.

mod follow;
mod place;
mod refusal;
mod reload;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use follow::Follow;
use place::Place;

use super::beginning::Beginning;
use super::effects::{Runtime, Way, observe};
use super::messages::{ActorDown, Finished, Hinted, Persisted, Retire, Task, Tell};
use super::speech::first;
use super::supervisor::Supervisor;
use super::{ActorNumber, Counted, Error, Told};
use crate::clock;
use crate::dispatch::request_envelope;
use crate::domain::{
    Advance, AskOutcome, Decision, Effect, Event, FeedRow, Incarnation, Life, Moment, Outcome,
    Revision, Said, State, Step, Terms, Timestamp, WaitingFor, advanced_feed, is_news, next_due,
    produced_event, request_row, transition,
};
use crate::faults::Point;
use crate::persistence::Patience;
use crate::store::{Loaded, Write, Written};
use crate::telemetry::{Effect as Promise, Progress, count};

/// How many messages may wait while a commit is in flight, before reports are refused.
const WAITING_MESSAGES: usize = 256;
/// How an actor comes to its delegation.
#[derive(Debug)]
pub(super) enum Start {
    /// It was accepted just now.
    Fresh(Box<Fresh>),
    /// Another actor left it behind.
    Restored,
    /// It was to be sent at once, and was not, for nobody knew that its beginning was committed.
    Unsent,
    /// Another node has it in charge: only what somebody has to say is committed.
    Guest,
    /// So many actors died of it that it must end.
    GivenUp(Arc<str>),
}

/// What a delegation that was accepted just now brings along.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) task: Task,
    pub(super) beginning: Beginning,
}

/// Everything about one live delegation.
#[derive(Debug)]
pub(super) struct DelegationActor {
    runtime: Arc<Runtime>,
    /// The place in the target's line, or with the target. Given back before the guard speaks: the next incarnation
    /// takes the same one.
    place: Option<Place>,
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
    /// The whole task, for the inbox of a target that fetches its work itself.
    poll_task: Option<Task>,
    /// The place among the outbound calls and the address, once granted, for the next call.
    way: Option<Way>,
    seeking_way: bool,
    alarm: Option<(Timestamp, SpawnHandle)>,
    follow: Option<Follow>,
    /// Whether another left this delegation behind, and nothing was learned of it since.
    took_over: bool,
    /// Whether another node has charge of it: this one hands on a message, and does nothing of its own accord.
    is_guest: bool,
}

#[derive(Debug)]
struct Committing {
    step: Step,
    advance: Arc<Advance>,
    reply: Option<oneshot::Sender<Result<Told, Error>>>,
    /// Whether the target said this.
    heard: bool,
    refusals: u32,
    /// Whether another node moved the delegation on meanwhile.
    moved: bool,
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
            owner: _,
        } = loaded;
        let terms = Arc::new(terms);
        let took_over = !matches!(start, Start::Fresh(_));
        let restored = matches!(start, Start::Restored);
        let mut actor = Self {
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
            is_guest: matches!(start, Start::Guest),
            start: Some(start),
            task: None,
            committing: None,
            waiting: VecDeque::new(),
            poll_task: None,
            place: None,
            way: None,
            seeking_way: false,
            alarm: None,
            follow: None,
            took_over,
        };
        // Before anybody runs: the order in a line must not depend on which of many starts first.
        if restored {
            actor.take_place(false, None);
        }
        actor
    }

    fn decide(&self, event: &Event, moment: Moment) -> Decision {
        transition(&self.runtime.policy, &self.terms, &self.life, event, moment)
    }

    fn next_due(&self) -> Option<Timestamp> {
        let hearing_since = self.runtime.hearing_since();
        next_due(&self.runtime.policy, &self.terms, &self.life, hearing_since)
    }

    /// Takes one message. The deadline comes first, so that no answer slips in behind one that a busy mailbox kept the
    /// alarm from telling.
    fn take(&mut self, tell: Tell, context: &mut Context<Self>) {
        let moment = clock::moment(self.runtime.hearing_since());
        let target_heard_at = None;
        let elapsed = Event::Elapsed { target_heard_at };
        if moment.now >= self.terms.deadline
            && tell.event != elapsed
            && let Decision::Advance(step) = self.decide(&elapsed, moment)
        {
            self.waiting.push_front(tell);
            return self.commit(step, None, moment.now, context);
        }
        match self.decide(&tell.event, moment) {
            // A change that came between gave the way back: it is sought again.
            Decision::Advance(Step {
                effect: Some(Effect::Send { .. }),
                ..
            }) if self.way.is_none() => {}
            Decision::Advance(step) => self.commit(step, Some(tell), moment.now, context),
            Decision::Settled(settled) => answer(tell.reply, Ok(Told::Settled(settled))),
            Decision::Ignored(ignored) => {
                match &tell.event {
                    Event::SlotGranted => self.way = None,
                    Event::Called { .. } => self.follow_anew(context),
                    _ => {}
                }
                metrics::counter!("baton_events_ignored_total", "reason" => format!("{ignored:?}"))
                    .increment(1);
                answer(tell.reply, Ok(Told::Ignored(self.life.status())));
            }
        }
    }

    /// Commits a step: what `tell` said, or what time did.
    fn commit(
        &mut self,
        step: Step,
        tell: Option<Tell>,
        at: Timestamp,
        context: &mut Context<Self>,
    ) {
        let heard = tell.as_ref().is_some_and(|tell| is_word(&tell.event));
        let made = tell.as_ref().and_then(|tell| match &tell.event {
            Event::Produced { artifact, .. } => Some(produced_event(&self.terms, artifact, at)),
            _ => None,
        });
        let (raw_reply, reply) = tell.map_or((None, None), |tell| (tell.raw_reply, tell.reply));
        let mut feed = advanced_feed(
            &self.terms,
            &self.life,
            &step.life,
            self.runtime.push_replies,
            at,
        );
        feed.rows.extend(self.request_for_poller(&step.life, at));
        feed.events.extend(made);
        let waited = matches!(self.life.state, State::Pending | State::Queued(_));
        let waits = matches!(step.life.state, State::Pending | State::Queued(_));
        let advance = Arc::new(Advance {
            key: self.terms.key.clone(),
            revision: self.revision.next(),
            incarnation: self.incarnation,
            told: is_news(&self.life, &step.life),
            life: step.life.clone(),
            at,
            raw_reply,
            feed,
        });
        self.committing = Some(Box::new(Committing {
            step,
            advance,
            reply,
            heard,
            refusals: 0,
            moved: false,
        }));
        self.submit(context);
        // Not before: what begins from now on is committed after this.
        if let Some(place) = self.place.as_ref().filter(|_| waited && !waits) {
            place.sent();
        }
    }

    /// The row in the inbox of a target that fetches its work itself, when this step puts it there.
    fn request_for_poller(&self, after: &Life, at: Timestamp) -> Option<FeedRow> {
        let polled = |life: &Life| matches!(&life.state, State::Queued(wait) if wait.waiting_for == WaitingFor::Poll);
        if polled(&self.life) || !polled(after) {
            return None;
        }
        let task = self.poll_task.clone().unwrap_or_else(|| Said::words(""));
        let envelope = request_envelope(&self.terms.key.id.to_string(), &first(*task));
        Some(request_row(&self.terms, envelope, self.terms.target?, at))
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
        let advance = Arc::clone(&committing.advance);
        let write = if self.is_guest {
            Write::Visit(advance)
        } else {
            Write::Advance(advance)
        };
        self.runtime
            .persistence
            .submit(write, Patience::Change, Box::new(acknowledge));
    }

    fn committed(&mut self, committing: Committing, context: &mut Context<Self>) {
        let Committing {
            step,
            advance,
            reply,
            heard,
            ..
        } = committing;
        let before = std::mem::replace(&mut self.life, step.life);
        self.revision = advance.revision;
        self.took_over = false;
        self.counted.move_to(self.life.status());
        observe(&self.terms, &before, &self.life, advance.at);
        answer(reply, Ok(Told::Committed(self.life.status())));
        self.act(step.effect);
        if let Some(place) = self.place.as_ref().filter(|_| heard) {
            place.spoke();
        }
        let tried = matches!(
            before.state,
            State::Working(_) | State::Stuck(_) | State::InputRequired(_)
        );
        self.take_place(tried, Some(context.address()));
        self.proceed(context);
    }

    /// Does what the committed step asks for.
    fn act(&mut self, effect: Option<Effect>) {
        let way = self.way.take();
        let task = self.task.take();
        self.poll_task = None;
        match effect {
            Some(Effect::Send { attempt }) => {
                if let Some((permit, route)) = way {
                    self.runtime.call(&self.terms, attempt, route, task, permit);
                }
            }
            Some(Effect::Continue {
                attempt,
                task,
                answer,
            }) => self.runtime.go_on(&self.terms, attempt, task, answer),
            Some(Effect::CancelRemote { task }) => self.runtime.cancel(&self.terms, task),
            None => {}
        }
    }

    /// Takes what this actor found out by itself. It is never refused: nobody would say it again, and there is at most
    /// one of each kind.
    fn learn(&mut self, event: Event, context: &mut Context<Self>) {
        self.learn_from(event, None, context);
    }

    /// The same, with the target's reply that it was read from.
    fn learn_from(&mut self, event: Event, raw_reply: Option<Bytes>, context: &mut Context<Self>) {
        self.runtime.faults.pass(Point::ActorTold);
        self.waiting.push_back(Tell {
            event,
            raw_reply,
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
        // It may rest for hours, and keeps no room meanwhile for what may come.
        self.waiting.shrink_to_fit();
        if self.is_guest || matches!(self.life.state, State::Ended(_)) {
            self.way = None;
            return self.guard.supervisor.do_send(Finished {
                key: self.terms.key.clone(),
                number: self.guard.number,
            });
        }
        self.seek_way(context);
        self.follow(context);
        self.arm(context);
    }
}

/// Whether the event is the target's own word, which shows that it can be reached.
const fn is_word(event: &Event) -> bool {
    match event {
        Event::Called { outcome, .. } => !matches!(
            outcome,
            Outcome::NotDelivered { .. } | Outcome::DeliveredUnknown { .. }
        ),
        Event::Asked { outcome, .. } => !matches!(outcome, AskOutcome::Later { .. }),
        Event::Heard { by_target, .. } => *by_target,
        Event::Progressed { .. } | Event::Produced { .. } => true,
        Event::SlotGranted
        | Event::TargetUnready(_)
        | Event::Restored { .. }
        | Event::Reported(_)
        | Event::Fetched
        | Event::InputGiven { .. }
        | Event::Cancelled { .. }
        | Event::Dropped { .. }
        | Event::Elapsed { .. }
        | Event::Abandoned { .. } => false,
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
        if let Some(place) = &self.place {
            place.attach(context.address());
        }
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
        let moved = committing.moved;
        match result {
            Ok(Written::Stale) => {
                tracing::warn!(delegation.id = %self.terms.key, "another owner moved this delegation on; starting over from the store");
                context.stop();
            }
            Ok(_) => self.committed(*committing, context),
            Err(error) => self.refused(committing, error, context),
        }
        if moved && self.committing.is_none() {
            self.reload(context);
        }
    }
}

impl Handler<Hinted> for DelegationActor {
    type Result = ();

    fn handle(&mut self, _: Hinted, context: &mut Self::Context) {
        self.hinted(context);
    }
}

impl Handler<Retire> for DelegationActor {
    type Result = ();

    fn handle(&mut self, _: Retire, context: &mut Self::Context) {
        context.stop();
    }
}
