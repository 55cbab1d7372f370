//! Callers, targets that speak of their own accord, operators and readers. They lose answers, ask again, and ask anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use baton::domain::*;
use baton::store::Write;

use crate::actor::{Asker, Tell, Told};
use crate::node::Local;
use crate::store::Stored;
use crate::target::Presence;
use crate::world::{Happening, START, World};
use crate::writer::short;

/// What somebody is about to do.
pub(crate) enum Errand {
    Order(usize),
    /// Somebody says something of some delegation.
    Meddle,
    Report {
        key: DelegationKey,
        text: String,
        tries: u32,
    },
    Fetch(usize, Position),
    Beat(usize),
    Presence(usize, Presence),
    Read(usize),
    /// Reads once, because something is said to be there.
    Look(usize),
}

/// A delegation that a caller wants.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    caller: WorkspaceId,
    target: usize,
    redelivery: Redelivery,
    origin: Origin,
    lasts: Duration,
    priority: u8,
    key: Option<(String, u8)>,
    tries: u32,
    over: bool,
}

impl Order {
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }
}

/// What must be true of the store once it is answered with yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    Ended,
    Nothing,
}

/// Reads an inbox in two ways: from the last position that it saw, and from the last that it acknowledged.
pub(crate) struct Reader {
    pub(crate) workspace: WorkspaceId,
    pub(crate) cursor: Position,
    /// How often the cursor met each reply.
    pub(crate) seen: BTreeMap<DelegationId, u32>,
    /// How often the inbox showed each.
    pub(crate) shown: BTreeMap<DelegationId, u32>,
}

impl World {
    pub(crate) fn make_people(&mut self) {
        let first = WorkspaceId(self.dice.id());
        let second = WorkspaceId(self.dice.id());
        for workspace in [first, second] {
            let reader = Reader {
                workspace,
                cursor: Position(0),
                seen: BTreeMap::new(),
                shown: BTreeMap::new(),
            };
            self.readers.push(reader);
        }
        for order in 0..self.dice.place(5) + 2 {
            let shared = self.dice.chance(30);
            let keyed = self.dice.chance(60);
            let number = if shared { 0 } else { order };
            let fingerprint = u8::try_from(self.dice.below(2)).unwrap_or(0);
            let recorded = self.dice.chance(10);
            self.orders.push(Order {
                caller: if self.dice.chance(70) { first } else { second },
                target: self.dice.place(self.targets.len()),
                redelivery: self.dice.pick(&[
                    Redelivery::IfIdempotent,
                    Redelivery::IfIdempotent,
                    Redelivery::Never,
                    Redelivery::Always,
                ]),
                origin: if recorded {
                    Origin::Recorded
                } else {
                    Origin::Delegated
                },
                lasts: self.dice.millis(20_000, 400_000),
                priority: self.dice.pick(&[10, 50, 50, 100]),
                key: keyed.then(|| (format!("key {number}"), fingerprint)),
                tries: 0,
                over: false,
            });
            let at = self.dice.instant(START, START.plus(Duration::from_mins(1)));
            self.at(at, Happening::WithPeople(Errand::Order(order)));
        }
        for _ in 0..self.dice.below(3) {
            self.later(15_000, Errand::Meddle);
        }
        for target in 0..self.targets.len() {
            if self.targets[target].polls() {
                self.later(10_000, Errand::Fetch(target, Position(0)));
            }
            if self.dice.chance(30) {
                self.later(20_000, Errand::Beat(target));
            }
        }
        for reader in 0..self.readers.len() {
            self.later(5_000, Errand::Read(reader));
        }
    }

    /// Within so many milliseconds.
    fn later(&mut self, most: u64, errand: Errand) {
        let delay = self.dice.millis(1, most);
        self.after(delay, Happening::WithPeople(errand));
    }

    pub(crate) fn with_people(&mut self, errand: Errand) {
        match errand {
            Errand::Order(order) => self.order(order),
            Errand::Meddle => self.meddle(),
            Errand::Report { key, text, tries } => self.report(key, text, tries),
            Errand::Fetch(target, after) => self.fetch(target, after),
            Errand::Beat(target) => {
                self.targets[target].beat = Some(self.now);
                self.stir_line(target);
                self.later(40_000, Errand::Beat(target));
            }
            Errand::Presence(target, presence) => {
                if self.targets[target].presence != Presence::Removed {
                    self.targets[target].presence = presence;
                }
                self.stir_line(target);
            }
            Errand::Read(reader) => {
                self.read(reader);
                self.later(8_000, Errand::Read(reader));
            }
            Errand::Look(reader) => self.read(reader),
        }
    }

    fn stir_line(&mut self, target: usize) {
        let reachable = self.targets[target].reachable;
        self.stir(target);
        self.targets[target].reachable = reachable;
    }

    // ---- orders

    /// Sends it, perhaps twice; the network may lose it. Without a key nobody can tell whether it was accepted: then it
    /// is not sent for ever.
    fn order(&mut self, order: usize) {
        let Order {
            over, tries, key, ..
        } = &mut self.orders[order];
        *tries += 1;
        *over |= *tries > if key.is_some() { 12 } else { 2 };
        if *over {
            return;
        }
        let copies = if self.dice.chance(self.faults.doubled) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let node = self.dice.place(self.nodes.len());
            let delay = self.dice.millis(0, 20);
            if !self.dice.chance(self.faults.lost) {
                self.locally_after(delay, node, Local::Begin(order));
            }
        }
        let again = self.dice.millis(2_000, 20_000);
        self.after(again, Happening::WithPeople(Errand::Order(order)));
    }

    pub(crate) fn new_delegation(&mut self, order: usize) -> NewDelegation {
        let id = DelegationId::Uuid(self.dice.id());
        let order = &self.orders[order];
        let created_at = self.now;
        let state = match order.origin {
            Origin::Delegated => State::Pending,
            Origin::Recorded | Origin::Adopted => State::Working(Working::dispatched(created_at)),
        };
        NewDelegation {
            terms: Terms {
                key: DelegationKey {
                    caller: order.caller,
                    id,
                },
                target: Some(self.targets[order.target].workspace),
                origin: order.origin,
                redelivery: order.redelivery,
                priority: Priority(order.priority),
                deadline: created_at.plus(order.lasts),
                created_at,
                traceparent: None,
            },
            task: "the task".into(),
            idempotency: order.key.as_ref().map(|(key, fingerprint)| Idempotency {
                key: key.as_str().into(),
                fingerprint: [*fingerprint; 32],
            }),
            state,
            retry_of: None,
            parent: None,
            envelope: None,
        }
    }

    /// 2xx leaves for the caller: from now on it is a promise.
    pub(crate) fn acknowledge_order(&mut self, order: usize, key: &DelegationKey) {
        self.note(|| format!("order {order}: yes, {}", short(key)));
        if !self.store.delegations.contains_key(key) {
            self.violation(format!(
                "{} was acknowledged before it was stored",
                short(key)
            ));
        }
        self.promised.insert(key.clone());
        if !self.dice.chance(self.faults.lost) {
            self.orders[order].over = true;
        }
    }

    pub(crate) fn order_over(&mut self, order: usize) {
        self.orders[order].over = true;
    }

    pub(crate) fn order_failed(&mut self, order: usize) {
        self.note(|| format!("order {order}: 503"));
    }

    // ---- words from outside

    fn meddle(&mut self) {
        if self.calm {
            return;
        }
        self.later(15_000, Errand::Meddle);
        if self.store.delegations.is_empty() {
            return;
        }
        let place = self.dice.place(self.store.delegations.len());
        let Some((key, stored)) = self.store.delegations.iter().nth(place) else {
            return;
        };
        let (key, asks) = (
            key.clone(),
            matches!(stored.life.state, State::InputRequired(_)),
        );
        let (event, claim) = self.some_word(&key, asks);
        self.note(|| format!("somebody says of {}: {event:?}", short(&key)));
        let copies = if self.dice.chance(self.faults.doubled) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            self.say(&key, event.clone(), claim.clone());
        }
    }

    fn some_word(&mut self, key: &DelegationKey, asks: bool) -> (Event, Claim) {
        let choice = self.dice.below(20);
        if asks && choice > 4 {
            return (
                Event::InputGiven {
                    answer: Said::words("that one"),
                },
                Claim::Nothing,
            );
        }
        match choice {
            0 => {
                let text = format!("reported for {}", key.id);
                self.given.insert((key.clone(), text.clone()));
                let report = Report::Completed { text: text.into() };
                (Event::Reported(report), Claim::Ended)
            }
            1 => {
                let report = Report::Failed {
                    detail: "it broke".into(),
                };
                (Event::Reported(report), Claim::Ended)
            }
            2 => (
                Event::Cancelled {
                    reason: "enough".into(),
                },
                Claim::Ended,
            ),
            3 => (
                Event::Dropped {
                    detail: "stale".into(),
                },
                Claim::Nothing,
            ),
            4 => (
                Event::InputGiven {
                    answer: Said::words("that one"),
                },
                Claim::Nothing,
            ),
            5 => (Event::Fetched, Claim::Nothing),
            _ => {
                let progress = Progress {
                    message: Some("at it".into()),
                    percent: Some(50),
                };
                let by_target = self.dice.chance(70);
                (
                    Event::Heard {
                        by_target,
                        progress,
                    },
                    Claim::Nothing,
                )
            }
        }
    }

    /// Tells any node.
    fn say(&mut self, key: &DelegationKey, event: Event, claim: Claim) {
        let node = self.dice.place(self.nodes.len());
        if self.dice.chance(self.faults.lost) {
            return;
        }
        let (key, asker) = (key.clone(), Asker::Person(claim));
        let delay = self.dice.millis(0, 30);
        let tell = Tell {
            key,
            event,
            asker,
            handovers: 0,
        };
        self.locally_after(delay, node, Local::Tell(tell));
    }

    pub(crate) fn report_later(&mut self, key: &DelegationKey, at: Timestamp, text: String) {
        let (key, tries) = (key.clone(), 0);
        self.at(
            at,
            Happening::WithPeople(Errand::Report { key, text, tries }),
        );
    }

    /// A target reports, and again until it is over.
    fn report(&mut self, key: DelegationKey, text: String, tries: u32) {
        let live = self.store.delegations.get(&key);
        if live.is_none_or(|stored| stored.life.status().is_terminal()) || tries > 20 {
            return;
        }
        let report = Report::Completed {
            text: text.as_str().into(),
        };
        self.say(&key, Event::Reported(report), Claim::Ended);
        self.later(
            20_000,
            Errand::Report {
                key,
                text,
                tries: tries + 1,
            },
        );
    }

    /// A poll-mode target reads its inbox.
    fn fetch(&mut self, target: usize, after: Position) {
        let workspace = self.targets[target].workspace;
        let found = self.store.feed_of(workspace, after);
        let found = found.filter(|(_, row)| row.method.as_deref() == Some(METHOD_SEND));
        let found: Vec<(Position, Option<DelegationId>, Option<WorkspaceId>)> = found
            .map(|(position, row)| (position, row.delegation.clone(), row.source))
            .collect();
        let mut last = after;
        for (position, id, caller) in found {
            last = position;
            let (Some(id), Some(caller)) = (id, caller) else {
                continue;
            };
            let key = DelegationKey { caller, id };
            let text = format!("fetched and answered {}", key.id);
            self.given.insert((key.clone(), text.clone()));
            self.say(&key, Event::Fetched, Claim::Nothing);
            let at = self.now.plus(self.dice.millis(50, 30_000));
            self.report_later(&key, at, text);
        }
        self.later(20_000, Errand::Fetch(target, last));
    }

    /// A node answers. What it says must be so in the store at this very moment.
    pub(crate) fn answer(&mut self, node: usize, tell: &Tell, told: &Told) {
        match &tell.asker {
            Asker::Nobody => {}
            Asker::Call(_) if *told == Told::Unavailable => {
                let again = Tell {
                    handovers: 0,
                    ..tell.clone()
                };
                let delay = Duration::from_millis(500);
                self.locally_after(delay, node, Local::Tell(again));
            }
            Asker::Call(attempt) => {
                self.note(|| format!("the outcome of {} {attempt} was taken", short(&tell.key)));
                let call = (tell.key.clone(), *attempt);
                let calls = &mut self.nodes[node].calls;
                if let Some(place) = calls.iter().position(|other| *other == call) {
                    calls.remove(place);
                }
            }
            Asker::Person(claim) => {
                if let Some(wrong) = self.contradicts(&tell.key, claim, told) {
                    self.violation(wrong);
                }
            }
        }
    }

    fn contradicts(&self, key: &DelegationKey, claim: &Claim, told: &Told) -> Option<String> {
        let stored: Option<&Stored> = self.store.delegations.get(key);
        let ending = stored.and_then(|stored| match &stored.life.state {
            State::Ended(ended) => Some(&ended.ending),
            _ => None,
        });
        match told {
            Told::Committed if *claim == Claim::Ended && ending.is_none() => {
                Some(format!("{} was said to have ended", short(key)))
            }
            Told::Settled(Settled::Repeat(said) | Settled::Contradiction(said))
                if Some(said) != ending =>
            {
                Some(format!("{} was said to have ended otherwise", short(key)))
            }
            _ => None,
        }
    }

    // ---- readers

    /// Something was committed: who waits for it reads at once, mostly.
    pub(crate) fn wake_readers(&mut self) {
        for reader in 0..self.readers.len() {
            if self.dice.chance(50) {
                self.later(20, Errand::Look(reader));
            }
        }
    }

    fn read(&mut self, reader: usize) {
        let workspace = self.readers[reader].workspace;
        let replies = |world: &Self, after: Position| -> Vec<(Position, DelegationId)> {
            let rows = world.store.feed_of(workspace, after);
            let rows = rows.filter(|(_, row)| row.activity_type == ActivityType::A2aReceive);
            rows.filter_map(|(position, row)| Some((position, row.delegation.clone()?)))
                .collect()
        };
        let cursor = self.readers[reader].cursor;
        for (position, id) in replies(self, cursor) {
            self.readers[reader].cursor = position;
            *self.readers[reader].seen.entry(id).or_default() += 1;
        }
        let acknowledged = self
            .store
            .acknowledged
            .get(&workspace)
            .copied()
            .unwrap_or_default();
        let inbox = replies(self, acknowledged);
        let upto = inbox.last().map(|(position, _)| *position);
        for (_, id) in inbox {
            *self.readers[reader].shown.entry(id).or_default() += 1;
        }
        if let Some(upto) = upto.filter(|_| self.dice.chance(60)) {
            let node = self.dice.place(self.nodes.len());
            if self.nodes[node].up && !self.nodes[node].frozen {
                self.command(node, Write::Acknowledge { workspace, upto });
            }
        }
    }
}
