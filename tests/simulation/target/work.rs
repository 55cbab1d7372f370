//! What a target makes of a request, and of a question after its task.

use std::time::Duration;

use baton::domain::*;

use super::{Delivery, Kind, Work};
use crate::Flaw;
use crate::world::World;
use crate::writer::short;

impl World {
    pub(crate) fn at_target(&mut self, target: usize, delivery: Delivery) {
        let Some((at, outcome)) = self.respond(target, &delivery) else {
            return;
        };
        let deduplicates = self.targets[target].deduplicates || self.flaw == Flaw::ResendsBlindly;
        let delay = at.since(self.now) + self.latency();
        let Delivery {
            node,
            boot,
            key,
            attempt,
            ..
        } = delivery;
        if self.nodes[node].boot != boot {
            return;
        }
        if self.dice.chance(self.faults.lost) {
            return self.unknown(node, key, attempt, delay, deduplicates);
        }
        self.bring_back(node, key, attempt, outcome, delay);
    }

    /// What the target says, and when.
    pub(super) fn respond(
        &mut self,
        target: usize,
        delivery: &Delivery,
    ) -> Option<(Timestamp, Outcome)> {
        let now = self.now;
        let key = &delivery.key;
        if delivery.is_input {
            return Some(self.respond_to_input(target, key));
        }
        let kind = self.targets[target].kind;
        let works = &self.targets[target].works;
        let known = works.get(key).cloned();
        let busy = works.values().any(|work| work.ends_at > now);
        if kind == Kind::Alone && busy && known.is_none() {
            let asks = self.dice.chance(50);
            let retry_after = asks.then(|| self.dice.millis(1_000, 20_000));
            return Some((now, Outcome::Busy { retry_after }));
        }
        let mut work = known.unwrap_or_else(|| self.new_work(kind, key));
        work.taken += 1;
        let promised_once = match delivery.redelivery {
            Redelivery::Never => true,
            Redelivery::IfIdempotent => !self.targets[target].deduplicates,
            Redelivery::Always => false,
        };
        if work.taken > 1 {
            self.count("given again");
        }
        if promised_once && work.taken > 1 {
            self.violation(format!("the target was given {} twice", short(key)));
        }
        if kind == Kind::Queues && work.taken == 1 {
            self.report_later(key, work.ends_at, work.text.clone());
        }
        self.targets[target].works.insert(key.clone(), work.clone());
        let task = Some(RemoteTaskId(format!("task-{}", short(key)).into()));
        let non_final = |task, phase| Some((now, Outcome::NonFinal { task, phase }));
        let answered = Outcome::Answered {
            text: work.text.as_str().into(),
        };
        let over = work.ends_at <= now && !work.asking;
        match kind {
            Kind::Tasks | Kind::Asks { .. } if over => Some((now, answered)),
            Kind::Tasks => non_final(task, self.dice_phase()),
            Kind::Asks { with_task } if work.asking => {
                let text = "which one?".into();
                non_final(
                    task.filter(|_| with_task),
                    WorkPhase::InputRequired { text },
                )
            }
            Kind::Asks { with_task: true } => non_final(task, WorkPhase::Working),
            Kind::Answers | Kind::Alone | Kind::Asks { with_task: false } => {
                Some((work.ends_at.max(now), answered))
            }
            Kind::Queues => Some((now, Outcome::TargetQueued)),
            Kind::Refuses => {
                let (class, detail) = (ErrorClass::Refused, "no".into());
                Some((now, Outcome::Refused { class, detail }))
            }
            Kind::Silent | Kind::Polls => None,
        }
    }

    pub(super) fn dice_phase(&mut self) -> WorkPhase {
        if self.dice.chance(50) {
            WorkPhase::Submitted
        } else {
            WorkPhase::Working
        }
    }

    pub(super) fn new_work(&mut self, kind: Kind, key: &DelegationKey) -> Work {
        let long = self.dice.chance(15);
        let lasts = self.dice.millis(50, if long { 200_000 } else { 30_000 });
        let text = format!("the answer to {}", key.id);
        if !matches!(kind, Kind::Refuses | Kind::Silent) {
            self.given.insert((key.clone(), text.clone()));
        }
        Work {
            ends_at: self.now.plus(lasts),
            asking: matches!(kind, Kind::Asks { .. }),
            text,
            taken: 0,
        }
    }

    pub(super) fn respond_to_input(
        &mut self,
        target: usize,
        key: &DelegationKey,
    ) -> (Timestamp, Outcome) {
        let (now, lasts) = (self.now, self.dice.millis(50, 20_000));
        let with_task = self.targets[target].kind == (Kind::Asks { with_task: true });
        let Some(work) = self.targets[target].works.get_mut(key) else {
            let (class, detail) = (ErrorClass::Refused, "no such task".into());
            return (now, Outcome::Refused { class, detail });
        };
        if std::mem::take(&mut work.asking) {
            work.ends_at = now.plus(lasts);
        }
        if with_task {
            let (task, phase) = (None, WorkPhase::Working);
            return (now, Outcome::NonFinal { task, phase });
        }
        let text = work.text.as_str().into();
        (work.ends_at.max(now), Outcome::Answered { text })
    }

    /// Asks for a task: how long that takes, and what is learned.
    pub(crate) fn ask_target(&mut self, terms: &Terms) -> (Duration, AskOutcome, bool) {
        let (delay, lost) = (self.latency(), self.dice.chance(self.faults.lost));
        let found = self.find_way(terms);
        let reachable = found.is_ok_and(|route| self.targets[route.target].reachable);
        let Some(route) = found.ok().filter(|_| reachable && !lost) else {
            let later = AskOutcome::Later {
                retry_after: None,
                detail: "away".into(),
            };
            return (delay, later, false);
        };
        let target = &self.targets[route.target];
        let outcome = match target.works.get(&terms.key) {
            Some(work) if work.asking => {
                let (task, text) = (None, "which one?".into());
                let phase = WorkPhase::InputRequired { text };
                AskOutcome::Told(Outcome::NonFinal { task, phase })
            }
            Some(work) if work.ends_at > self.now => {
                let (task, phase) = (None, WorkPhase::Working);
                AskOutcome::Told(Outcome::NonFinal { task, phase })
            }
            Some(work) if !target.forgets => {
                let text = work.text.as_str().into();
                AskOutcome::Told(Outcome::Answered { text })
            }
            _ => AskOutcome::NoSuchTask {
                detail: "forgotten".into(),
            },
        };
        (delay, outcome, route.deduplicates)
    }

    /// Best effort: it stops, or it does not.
    pub(crate) fn cancel_remote(&mut self, terms: &Terms) {
        let stops = self.dice.chance(50);
        if let Ok(route) = self.find_way(terms)
            && let Some(work) = self.targets[route.target].works.get_mut(&terms.key)
            && stops
        {
            work.ends_at = self.now;
        }
    }
}
