//! A delegation's actor (`src/delegation/actor.rs` and its parts), on the simulated world: take, decide, commit, act.

mod commit;
mod follow;
mod place;

use std::collections::VecDeque;
use std::time::Duration;

use baton::domain::*;
use baton::store::Written;

use crate::Flaw;
use crate::node::Local;
use crate::node::beginning::Beginning;
use crate::people::Claim;
use crate::store::Stored;
use crate::world::World;

const HANDOVERS: u32 = 20;
const LINGER: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    Fresh,
    Restored,
    /// It was to be sent at once, and was not.
    Unsent,
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
    Asked {
        outcome: AskOutcome,
        attempt: Attempt,
        deduplicates: bool,
        serial: u64,
    },
    Deduplicates(bool),
    Silence(Option<Timestamp>),
    Linger,
    /// Another node moved it on.
    Reload,
    Reloaded(Box<Stored>),
}

#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) target: WorkspaceId,
    pub(crate) ticket: Ticket,
    pub(crate) granted: bool,
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

#[expect(clippy::struct_excessive_bools, reason = "as many as the real one has")]
pub(crate) struct Actor {
    pub(crate) number: u64,
    pub(crate) guest: bool,
    pub(crate) terms: Terms,
    pub(crate) life: Life,
    revision: Revision,
    incarnation: Incarnation,
    start: Start,
    /// What it brings along that was accepted just now.
    pub(crate) beginning: Option<Beginning>,
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
            beginning: None,
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

    /// Whether it has yet to be sent, and that is not being committed.
    pub(crate) fn is_unsent(&self) -> bool {
        let waits = |life: &Life| match &life.state {
            State::Pending => true,
            State::Queued(wait) => !wait.is_handed_over(),
            _ => false,
        };
        let committing = self.committing.as_ref();
        let next = committing.map_or(&self.life, |committing| &committing.step.life);
        waits(&self.life) && waits(next) && !self.guest
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

    pub(crate) fn deliver(&mut self, node: usize, key: &DelegationKey, number: u64, word: Word) {
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
            self.count("stale");
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
            return self.answer(node, &tell, &Told::Unavailable);
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
            Word::Granted | Word::Behind(_) | Word::Stirred => self.hear_line(node, actor, &word),
            Word::Alarm(at) => self.alarmed(node, actor, at),
            Word::Way(found) => self.found_way(node, actor, found),
            Word::Ask(serial) => self.ask(node, actor, serial),
            Word::Asked {
                outcome,
                attempt,
                deduplicates,
                serial,
            } => {
                if actor
                    .follow
                    .as_ref()
                    .is_some_and(|follow| follow.serial == serial)
                {
                    self.ask_again(node, actor);
                    let target_deduplicates = deduplicates;
                    let event = Event::Asked {
                        attempt,
                        outcome,
                        target_deduplicates,
                    };
                    self.learn(node, actor, event);
                }
            }
            Word::Deduplicates(target_deduplicates) => {
                actor.held = false;
                let key = actor.key().clone();
                let attempt = actor.life.attempt;
                let call_in_flight = self.nodes[node].calls.contains(&(key, attempt));
                self.learn(
                    node,
                    actor,
                    Event::Restored {
                        call_in_flight,
                        target_deduplicates,
                    },
                );
            }
            Word::Silence(target_heard_at) => {
                self.learn(node, actor, Event::Elapsed { target_heard_at });
            }
            Word::Linger => self.proceed(node, actor),
            Word::Reload => actor.moved = true,
            Word::Reloaded(stored) => self.reloaded(node, actor, stored),
        }
        if actor.moved && !actor.held && actor.committing.is_none() && actor.end.is_none() {
            self.reload(node, actor);
        }
    }

    /// Word from the line.
    fn hear_line(&mut self, node: usize, actor: &mut Actor, word: &Word) {
        match word {
            Word::Granted => {
                if let Some(place) = &mut actor.place {
                    place.granted = true;
                }
                self.proceed(node, actor);
            }
            Word::Behind(why) => {
                let waits = actor.life.state == State::Pending;
                if waits && actor.place.as_ref().is_some_and(|place| !place.granted) {
                    self.learn(node, actor, Event::TargetUnready(*why));
                }
            }
            Word::Stirred if matches!(actor.life.state, State::Stuck(_)) => {
                self.look_at_silence(node, actor);
            }
            _ => {}
        }
    }

    /// Goes on from what is stored, once that is read; until then nothing else is heard.
    fn reload(&mut self, node: usize, actor: &mut Actor) {
        actor.moved = false;
        if let Some(stored) = self.store.delegations.get(actor.key()) {
            actor.held = true;
            let word = Word::Reloaded(Box::new(stored.clone()));
            self.word_soon(node, &actor.terms.key, actor.number, word);
        }
    }

    fn reloaded(&mut self, node: usize, actor: &mut Actor, stored: Box<Stored>) {
        actor.held = false;
        if stored.revision > actor.revision {
            self.count("reloaded");
            actor.life = stored.life;
            actor.revision = stored.revision;
            actor.incarnation = stored.incarnation.next();
            actor.way = None;
            self.take_place(node, actor, false);
        }
        self.proceed(node, actor);
    }

    fn begin_actor(&mut self, node: usize, actor: &mut Actor) {
        let ended = matches!(actor.life.state, State::Ended(_));
        let (key, number) = (actor.key().clone(), actor.number);
        if actor.start == Start::Guest || (actor.start == Start::Restored && ended) {
            return self.word_after(LINGER, node, &key, number, Word::Linger);
        }
        if let Some(beginning) = actor.beginning.take() {
            return self.begin_fresh(node, actor, beginning);
        }
        if actor.start == Start::Unsent {
            let attempt = actor.life.attempt;
            let detail = "the database broke off".into();
            let outcome = Outcome::NotDelivered { detail };
            return self.learn(node, actor, Event::Called { attempt, outcome });
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

    fn begin_fresh(&mut self, node: usize, actor: &mut Actor, beginning: Beginning) {
        let number = actor.number;
        match (beginning.place, beginning.sending) {
            (Some(place), Some((step, route))) => {
                self.attach(node, number, &place);
                actor.place = Some(place);
                actor.way = Some(route);
                if self.flaw != Flaw::SendsEarly {
                    self.act(node, actor, step.effect);
                }
            }
            (Some(place), None) => {
                self.wait_in_line(node, number, &place, None);
                actor.place = Some(place);
            }
            (None, _) => {}
        }
        self.proceed(node, actor);
    }
}
