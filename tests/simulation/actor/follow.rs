//! Following what the target works on (`src/delegation/actor/follow.rs`).

use std::time::Duration;

use baton::domain::*;

use super::{Actor, Follow, Word};
use crate::Flaw;
use crate::world::World;
use crate::writer::short;

/// The longest wait between two questions after a task.
const ASK_CAP: Duration = Duration::from_secs(30);

impl World {
    pub(super) fn arm(&mut self, node: usize, actor: &mut Actor) {
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
            self.word_after(
                at.since(self.now),
                node,
                &key,
                actor.number,
                Word::Alarm(at),
            );
        }
    }

    pub(super) fn alarmed(&mut self, node: usize, actor: &mut Actor, at: Timestamp) {
        if actor.alarm != Some(at) {
            return;
        }
        actor.alarm = None;
        if self.now < actor.terms.deadline && actor.terms.target.is_some() {
            return self.look_at_silence(node, actor);
        }
        self.learn(
            node,
            actor,
            Event::Elapsed {
                target_heard_at: None,
            },
        );
    }

    pub(super) fn look_at_silence(&mut self, node: usize, actor: &Actor) {
        let heard_at = self.target_heard_at(&actor.terms);
        self.word_soon(node, actor.key(), actor.number, Word::Silence(heard_at));
    }

    pub(super) fn follow(&mut self, node: usize, actor: &mut Actor) {
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
        actor.follow = Some(Follow {
            task,
            asked: 0,
            serial,
        });
        let delay = if actor.took_over {
            self.policy.retry.base.mul_f64(self.dice.fraction())
        } else {
            self.ask_delay(actor, 1)
        };
        let key = actor.key().clone();
        self.word_after(delay, node, &key, actor.number, Word::Ask(serial));
    }

    pub(super) fn ask_delay(&mut self, actor: &Actor, asked: u32) -> Duration {
        if let State::InputRequired(_) = actor.life.state {
            return ASK_CAP;
        }
        let dice = self.dice.fraction();
        self.policy.retry.delay(asked, dice).min(ASK_CAP)
    }

    pub(super) fn ask(&mut self, node: usize, actor: &mut Actor, serial: u64) {
        let Some(follow) = &mut actor.follow else {
            return;
        };
        if follow.serial != serial {
            return;
        }
        follow.asked += 1;
        let (key, attempt) = (actor.terms.key.clone(), actor.life.attempt);
        if self.nodes[node].calls.contains(&(key.clone(), attempt)) {
            return self.ask_again(node, actor);
        }
        let (delay, outcome, deduplicates) = self.ask_target(&actor.terms);
        let word = Word::Asked {
            outcome,
            attempt,
            deduplicates,
            serial,
        };
        self.word_after(delay, node, &key, actor.number, word);
    }

    pub(super) fn ask_again(&mut self, node: usize, actor: &Actor) {
        let Some(follow) = &actor.follow else { return };
        let serial = follow.serial;
        let delay = self.ask_delay(actor, follow.asked + 1);
        self.word_after(delay, node, actor.key(), actor.number, Word::Ask(serial));
    }
}
