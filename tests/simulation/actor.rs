//! A delegation's actor (`src/delegation/actor.rs` and its parts), on the simulated world: take, decide, commit, act.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use baton::domain::*;
use baton::store::{Write, Written};

use crate::Flaw;
use crate::node::{Ack, Append, Local, Patience};
use crate::people::Claim;
use crate::store::Stored;
use crate::world::World;
use crate::writer::short;

const ASK_CAP: Duration = Duration::from_secs(30);
const HANDOVERS: u32 = 20;
const LINGER: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    Fresh,
    Restored,
    Guest,
}

/// Where a target listens, as it was looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) target: usize,
    pub(crate) deduplicates: bool,
}

/// Who wants to know what became of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// The actor itself.
    Nobody,
    /// The call that it is the outcome of: it is in flight until somebody took it.
    Call(Attempt),
    Person(Claim),
}

#[derive(Clone, Debug)]
pub(crate) struct Tell {
    pub(crate) key: DelegationKey,
    pub(crate) event: Event,
    pub(crate) asker: Asker,
    pub(crate) handovers: u32,
}

/// What came of a message.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Told {
    Committed,
    Settled(Settled),
    Ignored,
    Unavailable,
}

pub(crate) enum Word {
    Started,
    Tell(Tell),
    /// None when the database refused it.
    Persisted(Option<Written>),
    Resubmit,
    Granted,
    Behind(Unready),
    Stirred,
    Alarm(Timestamp),
    Way(Result<Route, Unready>),
    Ask(u64),
    Asked { outcome: AskOutcome, attempt: Attempt, deduplicates: bool, serial: u64 },
    Deduplicates(bool),
    Silence(Option<Timestamp>),
    Linger,
    Reload,
}

pub(crate) struct Place {
    pub(crate) target: WorkspaceId,
    pub(crate) ticket: Ticket,
    granted: bool,
}

struct Committing {
    step: Step,
    advance: Advance,
    asker: Asker,
    tell: Option<Tell>,
    heard: bool,
    refusals: u32,
}

struct Follow {
    task: RemoteTaskId,
    asked: u32,
    serial: u64,
}

pub(crate) struct Actor {
    pub(crate) number: u64,
    pub(crate) guest: bool,
    pub(crate) terms: Terms,
    pub(crate) life: Life,
    revision: Revision,
    incarnation: Incarnation,
    start: Start,
    /// Until it knows whether the target deduplicates.
    held: bool,
    committing: Option<Box<Committing>>,
    waiting: VecDeque<Tell>,
    place: Option<Place>,
    way: Option<Route>,
    seeking: bool,
    alarm: Option<Timestamp>,
    follow: Option<Follow>,
    follows: u64,
    took_over: bool,
    moved: bool,
    end: Option<End>,
}

/// How an actor goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    /// What it knew is out of date: the next one starts over from the store.
    Stale,
}

impl Actor {
    pub(crate) fn new(number: u64, stored: Stored, start: Start) -> Self {
        Self {
            number,
            guest: start == Start::Guest,
            terms: stored.terms,
            life: stored.life,
            revision: stored.revision,
            incarnation: stored.incarnation,
            start,
            held: false,
            committing: None,
            waiting: VecDeque::new(),
            place: None,
            way: None,
            seeking: false,
            alarm: None,
            follow: None,
            follows: 0,
            took_over: start != Start::Fresh,
            moved: false,
            end: None,
        }
    }

    fn key(&self) -> &DelegationKey {
        &self.terms.key
    }
}

impl World {
    // ---- the mailbox

    pub(crate) fn word_soon(&mut self, node: usize, key: &DelegationKey, number: u64, word: Word) {
        let delay = self.soon();
        self.word_after(delay, node, key, number, word);
    }

    fn word_after(
        &mut self,
        delay: Duration,
        node: usize,
        key: &DelegationKey,
        number: u64,
        word: Word,
    ) {
        let key = key.clone();
        self.locally_after(delay, node, Local::ToActor { key, number, word });
    }

    pub(crate) fn to_actor(&mut self, node: usize, key: &DelegationKey, number: u64, word: Word) {
        let boot = self.nodes[node].boot;
        let found = self.nodes[node].actors.remove(key);
        let Some(mut actor) = found else { return };
        if actor.number != number {
            self.nodes[node].actors.insert(key.clone(), actor);
            return;
        }
        self.hear(node, &mut actor, word);
        if self.nodes[node].boot != boot {
            return;
        }
        match actor.end {
            None => drop(self.nodes[node].actors.insert(key.clone(), actor)),
            Some(end) => self.bury(node, actor, end == End::Stale),
        }
    }

    /// Gives back what the actor had; whoever told it something tells the next one.
    pub(crate) fn bury(&mut self, node: usize, actor: Actor, rebuild: bool) {
        self.leave(node, actor.place);
        if rebuild {
            self.revive(node, &actor.terms.key, None);
        }
        let committing = actor.committing.and_then(|committing| committing.tell);
        for tell in committing.into_iter().chain(actor.waiting) {
            if tell.asker != Asker::Nobody && self.flaw != Flaw::LosesWhatAStaleActorWasTold {
                self.hand_over(node, tell, Duration::from_millis(1));
            }
        }
    }

    pub(crate) fn hand_over(&mut self, node: usize, tell: Tell, delay: Duration) {
        let handovers = tell.handovers + 1;
        if handovers > HANDOVERS {
            return self.answer(node, &tell, Told::Unavailable);
        }
        self.locally_after(delay, node, Local::Tell(Tell { handovers, ..tell }));
    }

    fn hear(&mut self, node: usize, actor: &mut Actor, word: Word) {
        match word {
            Word::Started => self.begin_actor(node, actor),
            Word::Tell(tell) => {
                actor.waiting.push_back(tell);
                self.proceed(node, actor);
            }
            Word::Persisted(Some(Written::Stale)) => actor.end = Some(End::Stale),
            Word::Persisted(Some(_)) => {
                if let Some(committing) = actor.committing.take() {
                    self.committed(node, actor, *committing);
                }
            }
            Word::Persisted(None) => self.refused(node, actor),
            Word::Resubmit => self.resubmit(node, actor),
            Word::Granted => {
                if let Some(place) = &mut actor.place {
                    place.granted = true;
                }
                self.proceed(node, actor);
            }
            Word::Behind(why) => {
                let waits = actor.life.state == State::Pending;
                if waits && actor.place.as_ref().is_some_and(|place| !place.granted) {
                    self.learn(node, actor, Event::TargetUnready(why));
                }
            }
            Word::Stirred if matches!(actor.life.state, State::Stuck(_)) => {
                self.look_at_silence(node, actor);
            }
            Word::Stirred => {}
            Word::Alarm(at) => self.alarmed(node, actor, at),
            Word::Way(found) => self.found_way(node, actor, found),
            Word::Ask(serial) => self.ask(node, actor, serial),
            Word::Asked { outcome, attempt, deduplicates, serial } => {
                if actor.follow.as_ref().is_some_and(|follow| follow.serial == serial) {
                    self.ask_again(node, actor);
                    let target_deduplicates = deduplicates;
                    let event = Event::Asked { attempt, outcome, target_deduplicates };
                    self.learn(node, actor, event);
                }
            }
            Word::Deduplicates(target_deduplicates) => {
                actor.held = false;
                let key = actor.key().clone();
                let attempt = actor.life.attempt;
                let call_in_flight = self.nodes[node].calls.contains(&(key, attempt));
                self.learn(node, actor, Event::Restored { call_in_flight, target_deduplicates });
            }
            Word::Silence(target_heard_at) => {
                self.learn(node, actor, Event::Elapsed { target_heard_at });
            }
            Word::Linger => self.proceed(node, actor),
            Word::Reload => actor.moved = true,
        }
        if actor.moved && actor.committing.is_none() && actor.end.is_none() {
            actor.end = Some(End::Stale);
        }
    }

    fn begin_actor(&mut self, node: usize, actor: &mut Actor) {
        let ended = matches!(actor.life.state, State::Ended(_));
        let (key, number) = (actor.key().clone(), actor.number);
        if actor.start == Start::Guest || (actor.start == Start::Restored && ended) {
            return self.word_after(LINGER, node, &key, number, Word::Linger);
        }
        self.take_place(node, actor, false);
        let works = matches!(actor.life.state, State::Working(_) | State::Stuck(_));
        let unclear = works
            && actor.life.task().is_none()
            && actor.terms.origin == Origin::Delegated
            && actor.start == Start::Restored;
        if !unclear {
            return self.proceed(node, actor);
        }
        actor.held = true;
        let deduplicates = self.deduplicates(&actor.terms);
        self.word_soon(node, &key, number, Word::Deduplicates(deduplicates));
    }

    // ---- deciding and committing

    fn take(&mut self, node: usize, actor: &mut Actor, tell: Tell) {
        let moment = self.moment(node);
        let elapsed = Event::Elapsed { target_heard_at: None };
        if moment.now >= actor.terms.deadline
            && tell.event != elapsed
            && let Decision::Advance(step) = self.decide(actor, &elapsed, moment)
        {
            actor.waiting.push_front(tell);
            return self.commit_step(node, actor, step, None);
        }
        match self.decide(actor, &tell.event, moment) {
            Decision::Advance(Step { effect: Some(Effect::Send { .. }), .. })
                if actor.way.is_none() => {}
            Decision::Advance(step) => self.commit_step(node, actor, step, Some(tell)),
            Decision::Settled(settled) => self.answer(node, &tell, Told::Settled(settled)),
            Decision::Ignored(_) => {
                if tell.event == Event::SlotGranted {
                    actor.way = None;
                }
                self.answer(node, &tell, Told::Ignored);
            }
        }
    }

    fn decide(&self, actor: &Actor, event: &Event, moment: Moment) -> Decision {
        transition(&self.policy, &actor.terms, &actor.life, event, moment)
    }

    fn commit_step(&mut self, node: usize, actor: &mut Actor, step: Step, tell: Option<Tell>) {
        let heard = tell.as_ref().is_some_and(|tell| is_word(&tell.event));
        let (terms, at) = (&actor.terms, self.now);
        let mut feed = advanced_feed(terms, &actor.life, &step.life, self.push_replies, at);
        if polled(&step.life) && !polled(&actor.life) {
            let target = terms.target.into_iter();
            let rows = target.map(|target| request_row(terms, Json("{}".into()), target, at));
            feed.rows.extend(rows);
        }
        let advance = Advance {
            key: terms.key.clone(),
            revision: actor.revision.next(),
            incarnation: actor.incarnation,
            told: is_news(&actor.life, &step.life),
            life: step.life.clone(),
            at,
            raw_reply: None,
            feed,
        };
        if self.flaw == Flaw::SendsEarly {
            let early = step.effect.clone();
            self.act(node, actor, early);
        }
        let asker = tell.as_ref().map_or(Asker::Nobody, |tell| tell.asker.clone());
        let refusals = 0;
        let committing = Committing { step, advance, asker, tell, heard, refusals };
        actor.committing = Some(Box::new(committing));
        self.resubmit(node, actor);
    }

    fn resubmit(&mut self, node: usize, actor: &mut Actor) {
        let Some(committing) = &actor.committing else { return };
        let append = Append {
            write: Write::Advance(Box::new(committing.advance.clone())),
            patience: Patience::Change,
            ack: Ack::Actor { key: actor.key().clone(), number: actor.number },
            guest: actor.guest,
        };
        self.submit(node, append);
    }

    fn committed(&mut self, node: usize, actor: &mut Actor, committing: Committing) {
        actor.life = committing.step.life;
        actor.revision = committing.advance.revision;
        actor.took_over = false;
        if let Some(tell) = committing.tell.filter(|_| committing.asker != Asker::Nobody) {
            self.answer(node, &tell, Told::Committed);
        }
        if self.flaw != Flaw::SendsEarly {
            self.act(node, actor, committing.step.effect);
        }
        self.take_place(node, actor, committing.heard);
        self.proceed(node, actor);
    }

    /// The database refused this very change.
    fn refused(&mut self, node: usize, actor: &mut Actor) {
        let Some(mut committing) = actor.committing.take() else { return };
        if let Some(tell) = committing.tell.take().filter(|_| committing.asker != Asker::Nobody) {
            committing.asker = Asker::Nobody;
            self.answer(node, &tell, Told::Unavailable);
        }
        self.give_up_at_deadline(node, actor, &mut committing);
        committing.refusals += 1;
        let delay = Duration::from_millis(200) * (1 << committing.refusals.min(5));
        actor.committing = Some(committing);
        let key = actor.key().clone();
        self.word_after(delay, node, &key, actor.number, Word::Resubmit);
    }

    fn give_up_at_deadline(&mut self, node: usize, actor: &Actor, committing: &mut Committing) {
        let own = matches!(&committing.step.life.state, State::Ended(ended)
            if matches!(&ended.ending, Ending::Failed { class: ErrorClass::Internal, .. }));
        let over = matches!(actor.life.state, State::Ended(_));
        if self.now < actor.terms.deadline || own || over {
            return;
        }
        let detail = "the database refused it".into();
        let moment = self.moment(node);
        if let Decision::Advance(step) = self.decide(actor, &Event::Abandoned { detail }, moment) {
            let (terms, push) = (&actor.terms, self.push_replies);
            committing.advance.feed = advanced_feed(terms, &actor.life, &step.life, push, self.now);
            committing.advance.life = step.life.clone();
            committing.advance.at = self.now;
            committing.step = step;
        }
    }

    /// Does what the committed step asks for; the process may die before, and after.
    fn act(&mut self, node: usize, actor: &mut Actor, effect: Option<Effect>) {
        let way = actor.way.take();
        let Some(effect) = effect else { return };
        if self.dice.chance(self.faults.crash) {
            return self.crash(node);
        }
        match effect {
            Effect::Send { attempt } => {
                if let Some(route) = way {
                    self.call(node, &actor.terms, attempt, route, None);
                }
            }
            Effect::Continue { attempt, task, .. } => {
                let found = self.find_way(&actor.terms);
                self.go_on(node, &actor.terms, attempt, task, found);
            }
            Effect::CancelRemote { .. } => self.cancel_remote(&actor.terms),
        }
        if self.dice.chance(self.faults.crash) {
            self.crash(node);
        }
    }

    fn learn(&mut self, node: usize, actor: &mut Actor, event: Event) {
        let key = actor.key().clone();
        actor.waiting.push_back(Tell { key, event, asker: Asker::Nobody, handovers: 0 });
        self.proceed(node, actor);
    }

    fn proceed(&mut self, node: usize, actor: &mut Actor) {
        if actor.held || actor.moved || !self.nodes[node].up {
            return;
        }
        while actor.committing.is_none() {
            let Some(tell) = actor.waiting.pop_front() else { break };
            self.take(node, actor, tell);
        }
        if actor.committing.is_some() {
            return;
        }
        if actor.guest || matches!(actor.life.state, State::Ended(_)) {
            actor.end = Some(End::Finished);
            return;
        }
        self.seek_way(node, actor);
        self.follow(node, actor);
        self.arm(node, actor);
    }

    // ---- its place

    fn take_place(&mut self, node: usize, actor: &mut Actor, heard: bool) {
        if let Some(place) = actor.place.as_ref().filter(|_| heard) {
            self.target_spoke(node, place);
        }
        let Some(target) = actor.terms.target else { return };
        if actor.terms.origin != Origin::Delegated || actor.guest {
            return;
        }
        let new = |granted| Place {
            target,
            ticket: Ticket {
                priority: Reverse(actor.terms.priority),
                since: actor.terms.created_at,
                key: actor.terms.key.clone(),
            },
            granted,
        };
        match (&actor.life.state, &mut actor.place) {
            (State::Pending, Some(_)) => {}
            (State::Pending, None) => {
                let place = new(false);
                self.wait_in_line(node, actor.number, &place, self.now);
                actor.place = Some(place);
            }
            (State::Queued(wait), Some(place)) if !wait.is_handed_over() => {
                if !std::mem::take(&mut place.granted) {
                    return;
                }
                match wait.waiting_for {
                    WaitingFor::Busy => {
                        self.place_failed(node, place, Hindrance::Busy, wait.until);
                    }
                    WaitingFor::Unreachable => {
                        self.place_failed(node, place, Hindrance::Unreachable, wait.until);
                    }
                    _ => self.place_rests(node, place, wait.until),
                }
            }
            (State::Queued(wait), None) if !wait.is_handed_over() => {
                let place = new(false);
                let tried = matches!(
                    wait.waiting_for,
                    WaitingFor::Busy | WaitingFor::Unreachable | WaitingFor::Redelivery
                );
                let own = tried && wait.trouble.is_some();
                let until = if own { wait.until } else { self.now };
                self.wait_in_line(node, actor.number, &place, until);
                actor.place = Some(place);
            }
            (State::Working(_) | State::Stuck(_) | State::InputRequired(_), place) => {
                if !place.as_ref().is_some_and(|place| place.granted) {
                    let place = new(true);
                    let before = actor.place.take();
                    self.leave(node, before);
                    self.occupy(node, actor.number, &place);
                    actor.place = Some(place);
                }
            }
            (State::Queued(_) | State::Ended(_), place) => {
                let place = place.take();
                self.leave(node, place);
            }
        }
    }

    fn seek_way(&mut self, node: usize, actor: &mut Actor) {
        let turn = actor.place.as_ref().is_some_and(|place| place.granted);
        let sends = match &actor.life.state {
            State::Pending => true,
            State::Queued(wait) => !wait.is_handed_over(),
            _ => false,
        };
        if !turn || !sends || actor.seeking || actor.way.is_some() {
            return;
        }
        actor.seeking = true;
        let found = self.find_way(&actor.terms);
        if let (Some(cap), Some(target)) = (self.cap_of(&actor.terms), actor.terms.target) {
            self.set_cap(node, target, cap);
        }
        let key = actor.key().clone();
        self.word_soon(node, &key, actor.number, Word::Way(found));
    }

    fn found_way(&mut self, node: usize, actor: &mut Actor, found: Result<Route, Unready>) {
        actor.seeking = false;
        let event = match found {
            Ok(route) => {
                actor.way = Some(route);
                Event::SlotGranted
            }
            Err(unready) => {
                let why = match unready {
                    Unready::NoAddress => Some(Hindrance::NoAddress),
                    Unready::Offline => Some(Hindrance::Offline),
                    _ => None,
                };
                if let (Some(place), Some(why)) = (&mut actor.place, why) {
                    place.granted = false;
                    let dice = self.dice.fraction();
                    let until = self.now.plus(self.policy.retry.slow_delay(dice));
                    self.place_failed(node, place, why, until);
                }
                Event::TargetUnready(unready)
            }
        };
        self.learn(node, actor, event);
    }

    // ---- time, and questions after tasks

    fn arm(&mut self, node: usize, actor: &mut Actor) {
        let hearing_since = self.nodes[node].hearing_since;
        let due = next_due(&self.policy, &actor.terms, &actor.life, hearing_since);
        if due.is_none() {
            let key = short(actor.key());
            self.violation(format!("{key} is live and waits for nothing"));
        }
        if actor.alarm == due || self.flaw == Flaw::NoAlarms {
            return;
        }
        actor.alarm = due;
        if let Some(at) = due {
            let key = actor.key().clone();
            self.word_after(at.since(self.now), node, &key, actor.number, Word::Alarm(at));
        }
    }

    fn alarmed(&mut self, node: usize, actor: &mut Actor, at: Timestamp) {
        if actor.alarm != Some(at) {
            return;
        }
        actor.alarm = None;
        if self.now < actor.terms.deadline && actor.terms.target.is_some() {
            return self.look_at_silence(node, actor);
        }
        self.learn(node, actor, Event::Elapsed { target_heard_at: None });
    }

    fn look_at_silence(&mut self, node: usize, actor: &Actor) {
        let heard_at = self.target_heard_at(&actor.terms);
        self.word_soon(node, actor.key(), actor.number, Word::Silence(heard_at));
    }

    fn follow(&mut self, node: usize, actor: &mut Actor) {
        let follows = matches!(
            actor.life.state,
            State::Working(_) | State::Stuck(_) | State::InputRequired(_)
        ) && actor.terms.origin == Origin::Delegated;
        let wanted = actor.life.task().filter(|_| follows).cloned();
        if actor.follow.as_ref().map(|follow| &follow.task) == wanted.as_ref() {
            return;
        }
        actor.follow = None;
        let Some(task) = wanted else { return };
        actor.follows += 1;
        let serial = actor.follows;
        actor.follow = Some(Follow { task, asked: 0, serial });
        let delay = if actor.took_over {
            self.policy.retry.base.mul_f64(self.dice.fraction())
        } else {
            self.ask_delay(actor, 1)
        };
        let key = actor.key().clone();
        self.word_after(delay, node, &key, actor.number, Word::Ask(serial));
    }

    fn ask_delay(&mut self, actor: &Actor, asked: u32) -> Duration {
        if let State::InputRequired(_) = actor.life.state {
            return ASK_CAP;
        }
        let dice = self.dice.fraction();
        self.policy.retry.delay(asked, dice).min(ASK_CAP)
    }

    fn ask(&mut self, node: usize, actor: &mut Actor, serial: u64) {
        let Some(follow) = &mut actor.follow else { return };
        if follow.serial != serial {
            return;
        }
        follow.asked += 1;
        let (key, attempt) = (actor.terms.key.clone(), actor.life.attempt);
        if self.nodes[node].calls.contains(&(key.clone(), attempt)) {
            return self.ask_again(node, actor);
        }
        let (delay, outcome, deduplicates) = self.ask_target(&actor.terms);
        let word = Word::Asked { outcome, attempt, deduplicates, serial };
        self.word_after(delay, node, &key, actor.number, word);
    }

    fn ask_again(&mut self, node: usize, actor: &Actor) {
        let Some(follow) = &actor.follow else { return };
        let serial = follow.serial;
        let delay = self.ask_delay(actor, follow.asked + 1);
        self.word_after(delay, node, actor.key(), actor.number, Word::Ask(serial));
    }
}

fn polled(life: &Life) -> bool {
    matches!(&life.state, State::Queued(wait) if wait.waiting_for == WaitingFor::Poll)
}

/// Whether the event is the target's own word, which shows that it can be reached.
fn is_word(event: &Event) -> bool {
    match event {
        Event::Called { outcome, .. } => !matches!(
            outcome,
            Outcome::NotDelivered { .. } | Outcome::DeliveredUnknown { .. }
        ),
        Event::Asked { outcome, .. } => !matches!(outcome, AskOutcome::Later { .. }),
        Event::Heard { by_target, .. } => *by_target,
        _ => false,
    }
}
