//! The targets, and the network between them and the nodes, which loses, delays, doubles and reorders.

mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use baton::domain::*;

use crate::Flaw;
use crate::actor::{Asker, Route, Tell};
use crate::node::Local;
use crate::people::Errand;
use crate::world::{Happening, START, World};
use crate::writer::short;

/// How a target deals with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Answers when it is done.
    Answers,
    /// The same, but takes one at a time and is busy meanwhile.
    Alone,
    /// Gives a task, to be asked for.
    Tasks,
    /// Asks a question first; with a task, or without one.
    Asks { with_task: bool },
    /// Takes it into a queue and reports later.
    Queues,
    /// Says no.
    Refuses,
    /// Says nothing, ever.
    Silent,
    /// Fetches its work itself.
    Polls,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Online,
    Offline,
    NoAddress,
    Removed,
}

/// What a target does for one delegation.
#[derive(Clone)]
struct Work {
    ends_at: Timestamp,
    asking: bool,
    text: String,
    /// How often it took the request.
    taken: u32,
}

pub(crate) struct Target {
    pub(crate) workspace: WorkspaceId,
    kind: Kind,
    deduplicates: bool,
    pub(crate) cap: usize,
    pub(crate) reachable: bool,
    pub(crate) presence: Presence,
    pub(crate) beat: Option<Timestamp>,
    works: BTreeMap<DelegationKey, Work>,
    /// Tasks are forgotten once they are over.
    forgets: bool,
}

impl Target {
    pub(crate) fn polls(&self) -> bool {
        self.kind == Kind::Polls
    }
}

/// An answer that a node got.
pub(crate) struct Heard {
    pub(crate) at: Timestamp,
    pub(crate) node: usize,
    pub(crate) boot: u32,
    pub(crate) attempt: Attempt,
    pub(crate) text: String,
}

/// A request that reaches a target.
pub(crate) struct Delivery {
    node: usize,
    boot: u32,
    key: DelegationKey,
    attempt: Attempt,
    redelivery: Redelivery,
    is_input: bool,
}

impl World {
    pub(crate) fn make_targets(&mut self) {
        let kinds = [
            Kind::Answers,
            Kind::Answers,
            Kind::Alone,
            Kind::Tasks,
            Kind::Tasks,
            Kind::Asks { with_task: true },
            Kind::Asks { with_task: false },
            Kind::Queues,
            Kind::Refuses,
            Kind::Silent,
            Kind::Polls,
        ];
        for number in 0..self.dice.pick(&[1, 1, 2]) {
            let target = Target {
                workspace: WorkspaceId(self.dice.id()),
                kind: self.dice.pick(&kinds),
                deduplicates: self.dice.chance(40),
                cap: self.dice.pick(&[0, 0, 1, 2]),
                reachable: true,
                presence: Presence::Online,
                beat: None,
                works: BTreeMap::new(),
                forgets: self.dice.chance(15),
            };
            self.note(|| {
                let Target {
                    kind,
                    deduplicates,
                    cap,
                    ..
                } = &target;
                format!("target {number}: {kind:?}, deduplicates: {deduplicates}, cap {cap}")
            });
            self.targets.push(target);
            let away = self.dice.pick(&[Presence::NoAddress, Presence::Offline]);
            if self.dice.chance(25) {
                let from = self
                    .dice
                    .instant(START, START.plus(Duration::from_secs(40)));
                let to = self
                    .dice
                    .instant(from, START.plus(Duration::from_secs(110)));
                self.at(from, Happening::WithPeople(Errand::Presence(number, away)));
                self.at(
                    to,
                    Happening::WithPeople(Errand::Presence(number, Presence::Online)),
                );
            }
            if self.dice.chance(4) {
                let at = self
                    .dice
                    .instant(START, START.plus(Duration::from_secs(119)));
                self.at(
                    at,
                    Happening::WithPeople(Errand::Presence(number, Presence::Removed)),
                );
            }
        }
    }

    // ---- what a node looks up

    fn target_of(&self, terms: &Terms) -> Option<(usize, &Target)> {
        let workspace = terms.target?;
        let mut targets = self.targets.iter().enumerate();
        targets.find(|(_, target)| target.workspace == workspace)
    }

    pub(crate) fn find_way(&self, terms: &Terms) -> Result<Route, Unready> {
        let (number, target) = self.target_of(terms).ok_or(Unready::Removed)?;
        match target.presence {
            Presence::Removed => Err(Unready::Removed),
            _ if target.kind == Kind::Polls => Err(Unready::Polls),
            Presence::Offline => Err(Unready::Offline),
            Presence::NoAddress => Err(Unready::NoAddress),
            Presence::Online => Ok(Route {
                target: number,
                deduplicates: target.deduplicates || self.flaw == Flaw::ResendsBlindly,
            }),
        }
    }

    /// How many tasks the target takes at once, as it is looked up with its address.
    pub(crate) fn cap_of(&self, terms: &Terms) -> Option<usize> {
        let (_, target) = self.target_of(terms)?;
        (target.presence != Presence::Removed).then_some(target.cap)
    }

    pub(crate) fn deduplicates(&self, terms: &Terms) -> bool {
        let declared = self
            .target_of(terms)
            .is_some_and(|(_, target)| target.deduplicates);
        declared || self.flaw == Flaw::ResendsBlindly
    }

    pub(crate) fn target_heard_at(&self, terms: &Terms) -> Option<Timestamp> {
        self.target_of(terms)?.1.beat
    }

    /// It can be reached again, or changed: the lines go and look.
    pub(crate) fn stir(&mut self, target: usize) {
        self.targets[target].reachable = true;
        let workspace = self.targets[target].workspace;
        for node in 0..self.nodes.len() {
            if self.nodes[node].up && !self.nodes[node].frozen {
                self.wake(node, workspace);
            }
        }
    }

    // ---- calls

    pub(crate) fn call(
        &mut self,
        node: usize,
        terms: &Terms,
        attempt: Attempt,
        route: Route,
        is_input: bool,
    ) {
        let key = terms.key.clone();
        self.note(|| format!("node {node} sends {} attempt {attempt}", short(&key)));
        let durable = self.store.delegations.get(&key);
        if durable.is_none_or(|stored| stored.life.attempt < attempt) {
            self.violation(format!("{} was sent before that was durable", short(&key)));
        }
        self.nodes[node].calls.push((key.clone(), attempt));
        let refused = !self.targets[route.target].reachable || self.dice.chance(self.faults.lost);
        if refused {
            let delay = self.dice.millis(1, 3_000);
            return self.not_delivered(node, key, attempt, delay);
        }
        if self.dice.chance(self.faults.lost / 2) {
            let delay = self.dice.millis(1, 30_000);
            return self.unknown(node, key, attempt, delay, route.deduplicates);
        }
        let delivery = Delivery {
            node,
            boot: self.nodes[node].boot,
            key,
            attempt,
            redelivery: terms.redelivery,
            is_input,
        };
        let delay = self.latency();
        let target = route.target;
        self.after(delay, Happening::AtTarget { target, delivery });
    }

    /// Sends the caller's answer to the target's question.
    pub(crate) fn go_on(&mut self, node: usize, terms: &Terms, attempt: Attempt) {
        if let Ok(route) = self.find_way(terms) {
            self.call(node, terms, attempt, route, true);
        } else {
            self.nodes[node].calls.push((terms.key.clone(), attempt));
            let delay = Duration::from_millis(1);
            self.not_delivered(node, terms.key.clone(), attempt, delay);
        }
    }

    fn latency(&mut self) -> Duration {
        let slow = self.dice.chance(self.faults.slow);
        self.dice.millis(1, if slow { 15_000 } else { 50 })
    }

    fn not_delivered(
        &mut self,
        node: usize,
        key: DelegationKey,
        attempt: Attempt,
        delay: Duration,
    ) {
        let outcome = Outcome::NotDelivered {
            detail: "refused".into(),
        };
        self.bring_back(node, key, attempt, outcome, delay);
    }

    fn unknown(
        &mut self,
        node: usize,
        key: DelegationKey,
        attempt: Attempt,
        delay: Duration,
        target_deduplicates: bool,
    ) {
        let class = self
            .dice
            .pick(&[ErrorClass::OutcomeUnknown, ErrorClass::Truncated]);
        let detail = "broken off".into();
        let outcome = Outcome::DeliveredUnknown {
            class,
            detail,
            target_deduplicates,
        };
        self.bring_back(node, key, attempt, outcome, delay);
    }

    /// The outcome goes to whichever incarnation is alive then.
    fn bring_back(
        &mut self,
        node: usize,
        key: DelegationKey,
        attempt: Attempt,
        outcome: Outcome,
        delay: Duration,
    ) {
        let outcome = match outcome {
            Outcome::Busy { .. } | Outcome::TargetQueued | Outcome::NonFinal { .. }
                if self.flaw == Flaw::CompletesOnAcknowledgement =>
            {
                Outcome::Answered {
                    text: "queued".into(),
                }
            }
            outcome => outcome,
        };
        if let Outcome::Answered { text } = &outcome {
            let (boot, text) = (self.nodes[node].boot, text.to_string());
            let heard = Heard {
                at: self.now.plus(delay),
                node,
                boot,
                attempt,
                text,
            };
            self.heard.push((key.clone(), heard));
        }
        let event = Event::Called { attempt, outcome };
        let asker = Asker::Call(attempt);
        let tell = Tell {
            key,
            event,
            asker,
            handovers: 0,
        };
        if self.dice.chance(self.faults.doubled) {
            let again = self.dice.millis(0, 20_000);
            let echo = Tell {
                asker: Asker::Nobody,
                ..tell.clone()
            };
            self.locally_after(delay + again, node, Local::Tell(echo));
        }
        self.locally_after(delay, node, Local::Tell(tell));
    }
}
