//! Deciding, committing, and doing what was decided once it is committed (`src/delegation/actor.rs`, `refusal.rs`).

use std::sync::Arc;
use std::time::Duration;

use baton::domain::*;
use baton::store::Write;

use super::{Actor, Asker, Committing, End, Tell, Told, Word};
use crate::Flaw;
use crate::node::{Ack, Append, Patience};
use crate::world::World;

impl World {
    pub(super) fn take(&mut self, node: usize, actor: &mut Actor, tell: Tell) {
        let moment = self.moment(node);
        let elapsed = Event::Elapsed {
            target_heard_at: None,
        };
        if moment.now >= actor.terms.deadline
            && tell.event != elapsed
            && let Decision::Advance(step) = self.decide(actor, &elapsed, moment)
        {
            actor.waiting.push_front(tell);
            return self.commit_step(node, actor, step, None);
        }
        match self.decide(actor, &tell.event, moment) {
            Decision::Advance(Step {
                effect: Some(Effect::Send { .. }),
                ..
            }) if actor.way.is_none() => {}
            Decision::Advance(step) => self.commit_step(node, actor, step, Some(tell)),
            Decision::Settled(settled) => self.answer(node, &tell, &Told::Settled(settled)),
            Decision::Ignored(_) => {
                if tell.event == Event::SlotGranted {
                    actor.way = None;
                }
                self.answer(node, &tell, &Told::Ignored);
            }
        }
    }

    pub(super) fn decide(&self, actor: &Actor, event: &Event, moment: Moment) -> Decision {
        transition(&self.policy, &actor.terms, &actor.life, event, moment)
    }

    pub(super) fn commit_step(
        &mut self,
        node: usize,
        actor: &mut Actor,
        step: Step,
        tell: Option<Tell>,
    ) {
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
        let asker = tell
            .as_ref()
            .map_or(Asker::Nobody, |tell| tell.asker.clone());
        let refusals = 0;
        let committing = Committing {
            step,
            advance,
            asker,
            tell,
            heard,
            refusals,
        };
        let waits = |life: &Life| matches!(life.state, State::Pending | State::Queued(_));
        let leaves = waits(&actor.life) && !waits(&committing.step.life);
        actor.committing = Some(Box::new(committing));
        self.resubmit(node, actor);
        if let Some(place) = actor.place.as_ref().filter(|_| leaves) {
            self.sent(node, place);
        }
    }

    pub(super) fn resubmit(&mut self, node: usize, actor: &mut Actor) {
        let Some(committing) = &actor.committing else {
            return;
        };
        let advance = Arc::new(committing.advance.clone());
        let append = Append {
            write: if actor.guest {
                Write::Visit(advance)
            } else {
                Write::Advance(advance)
            },
            patience: Patience::Change,
            ack: Ack::Actor {
                key: actor.key().clone(),
                number: actor.number,
            },
        };
        self.submit(node, append);
    }

    pub(super) fn committed(&mut self, node: usize, actor: &mut Actor, committing: Committing) {
        let before = std::mem::replace(&mut actor.life, committing.step.life);
        actor.revision = committing.advance.revision;
        actor.took_over = false;
        if let Some(tell) = committing
            .tell
            .filter(|_| committing.asker != Asker::Nobody)
        {
            self.answer(node, &tell, &Told::Committed);
        }
        if self.flaw != Flaw::SendsEarly {
            self.act(node, actor, committing.step.effect);
        }
        if let Some(place) = actor.place.as_ref().filter(|_| committing.heard) {
            self.target_spoke(node, place);
        }
        let tried = matches!(
            before.state,
            State::Working(_) | State::Stuck(_) | State::InputRequired(_)
        );
        self.take_place(node, actor, tried);
        self.proceed(node, actor);
    }

    /// The database refused this very change.
    pub(super) fn refused(&mut self, node: usize, actor: &mut Actor) {
        let Some(mut committing) = actor.committing.take() else {
            return;
        };
        if let Some(tell) = committing
            .tell
            .take()
            .filter(|_| committing.asker != Asker::Nobody)
        {
            committing.asker = Asker::Nobody;
            self.answer(node, &tell, &Told::Unavailable);
        }
        self.give_up_at_deadline(node, actor, &mut committing);
        committing.refusals += 1;
        let delay = Duration::from_millis(200) * (1 << committing.refusals.min(5));
        actor.committing = Some(committing);
        let key = actor.key().clone();
        self.word_after(delay, node, &key, actor.number, Word::Resubmit);
    }

    pub(super) fn give_up_at_deadline(
        &mut self,
        node: usize,
        actor: &Actor,
        committing: &mut Committing,
    ) {
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
    pub(super) fn act(&mut self, node: usize, actor: &mut Actor, effect: Option<Effect>) {
        let way = actor.way.take();
        let Some(effect) = effect else { return };
        if self.dice.chance(self.faults.crash) {
            return self.crash(node);
        }
        match effect {
            Effect::Send { attempt } => {
                if let Some(route) = way {
                    self.call(node, &actor.terms, attempt, route, false);
                }
            }
            Effect::Continue { attempt, .. } => self.go_on(node, &actor.terms, attempt),
            Effect::CancelRemote { .. } => self.cancel_remote(&actor.terms),
        }
        if self.dice.chance(self.faults.crash) {
            self.crash(node);
        }
    }

    pub(super) fn learn(&mut self, node: usize, actor: &mut Actor, event: Event) {
        let key = actor.key().clone();
        actor.waiting.push_back(Tell {
            key,
            event,
            asker: Asker::Nobody,
            handovers: 0,
        });
        self.proceed(node, actor);
    }

    pub(super) fn proceed(&mut self, node: usize, actor: &mut Actor) {
        if actor.held || !self.nodes[node].up {
            return;
        }
        while actor.committing.is_none() {
            let Some(tell) = actor.waiting.pop_front() else {
                break;
            };
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
