//! The world: virtual time, one queue of what will happen, and the record of what must not.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use baton::domain::*;

use crate::Flaw;
use crate::dice::Dice;
use crate::node::{Batch, Local, Node};
use crate::people::{Errand, Order, Reader};
use crate::store::ModelStore;
use crate::target::{Delivery, Heard, Target};

pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000_000);
/// How long faults go on.
pub(crate) const TROUBLED: Duration = Duration::from_mins(2);
pub(crate) const LEASE: Duration = Duration::from_secs(40);
/// How long everything is watched on, once all has ended.
const AFTERMATH: Duration = Duration::from_secs(90);
/// More happenings than any honest run has: something runs in a circle.
const HAPPENINGS_MAX: u32 = 60_000;

/// What may go wrong, each in hundredths, drawn once for a seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) commit_fails: u64,
    pub(crate) commit_slow: u64,
    pub(crate) crash: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) slow: u64,
}

/// Something that is done to the world from outside.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Crash(usize),
    Restart(usize),
    Freeze(usize),
    Thaw(usize),
    DatabaseAway,
    DatabaseBack,
    Refuse(ActivityType),
    Permit,
    TargetDown(usize),
    TargetUp(usize),
    /// All of it ends.
    Calm,
}

pub(crate) enum Happening {
    AtNode {
        node: usize,
        boot: u32,
        what: Local,
    },
    AtDatabase {
        node: usize,
        boot: u32,
        batch: Rc<Batch>,
    },
    AtTarget {
        target: usize,
        delivery: Delivery,
    },
    WithPeople(Errand),
    Fault(Fault),
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) dice: Dice,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    serial: u64,
    pub(crate) calm: bool,
    pub(crate) flaw: Flaw,
    pub(crate) faults: Faults,
    pub(crate) policy: Policy,
    pub(crate) push_replies: bool,
    pub(crate) store: ModelStore,
    pub(crate) away: bool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) targets: Vec<Target>,
    pub(crate) orders: Vec<Order>,
    pub(crate) readers: Vec<Reader>,
    /// Nodes that others took over from.
    pub(crate) gone: BTreeSet<NodeId>,
    /// What was answered with 2xx.
    pub(crate) promised: BTreeSet<DelegationKey>,
    /// The answers that somebody really gave.
    pub(crate) given: BTreeSet<(DelegationKey, String)>,
    /// The answers that arrived.
    pub(crate) heard: Vec<(DelegationKey, Heard)>,
    pub(crate) violations: Vec<String>,
    /// What came about, by name: a rule that nothing ever tried is not proved.
    census: BTreeMap<&'static str, u64>,
    trace: Option<Vec<String>>,
}

impl World {
    /// A world as the seed will have it.
    pub(crate) fn new(seed: u64, flaw: Flaw, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut some = |most: u64| if dice.chance(40) { 0 } else { dice.below(most) };
        let faults = Faults {
            commit_fails: some(12),
            commit_slow: some(12),
            crash: some(3),
            lost: some(15),
            doubled: some(25),
            slow: some(15),
        };
        let mut world = Self {
            now: START,
            queue: BTreeMap::new(),
            serial: 0,
            calm: false,
            flaw,
            faults,
            policy: Policy {
                retry: RetryPolicy::default(),
                give_up_after: Duration::from_secs(50),
                stuck_after: Duration::from_secs(45),
            },
            push_replies: !dice.chance(10),
            store: ModelStore::new(flaw),
            away: false,
            nodes: (0..dice.pick(&[1, 2, 2]))
                .map(|_| Node::default())
                .collect(),
            targets: Vec::new(),
            orders: Vec::new(),
            readers: Vec::new(),
            gone: BTreeSet::new(),
            promised: BTreeSet::new(),
            given: BTreeSet::new(),
            heard: Vec::new(),
            violations: Vec::new(),
            census: BTreeMap::new(),
            trace: traced.then(Vec::new),
            dice,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.make_targets();
        self.make_people();
        self.make_faults();
    }

    fn make_faults(&mut self) {
        let calm = START.plus(TROUBLED);
        self.at(calm, Happening::Fault(Fault::Calm));
        for node in 0..self.nodes.len() {
            if self.dice.chance(30) {
                let at = self.dice.instant(START, calm);
                self.at(at, Happening::Fault(Fault::Crash(node)));
            }
            if self.dice.chance(30) {
                let at = self.dice.instant(START, calm);
                let until = at.plus(self.dice.millis(100, 120_000));
                self.at(at, Happening::Fault(Fault::Freeze(node)));
                self.at(until, Happening::Fault(Fault::Thaw(node)));
            }
        }
        let refused = self
            .dice
            .pick(&[ActivityType::A2aReceive, ActivityType::Delegation]);
        for (percent, bad, good, most) in [
            (30, Fault::DatabaseAway, Fault::DatabaseBack, 40_000),
            (30, Fault::Refuse(refused), Fault::Permit, 40_000),
            (50, Fault::TargetDown(0), Fault::TargetUp(0), 90_000),
        ] {
            if self.dice.chance(percent) {
                let at = self.dice.instant(START, calm);
                let until = at.plus(self.dice.millis(100, most));
                self.at(at, Happening::Fault(bad));
                self.at(until, Happening::Fault(good));
            }
        }
    }

    // ---- time

    pub(crate) fn at(&mut self, at: Timestamp, what: Happening) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), what);
    }

    pub(crate) fn after(&mut self, delay: Duration, what: Happening) {
        self.at(self.now.plus(delay), what);
    }

    /// Does what happens, in order, until nothing is left that matters. What was broken, if anything was.
    pub(crate) fn run(mut self) -> Verdict {
        let mut happenings = 0;
        let mut end: Option<Timestamp> = None;
        while let Some(((at, _), what)) = self.queue.pop_first() {
            if end.is_some_and(|end| at > end) || !self.violations.is_empty() {
                break;
            }
            self.now = at;
            self.happen(what);
            happenings += 1;
            if happenings > HAPPENINGS_MAX {
                self.violations.push("it does not come to rest".to_owned());
            }
            if end.is_none() && self.calm && self.is_settled() {
                end = Some(self.now.plus(AFTERMATH));
            } else if end.is_none() && self.now > self.last_deadline().plus(LEASE * 4) {
                end = Some(self.now);
            }
        }
        if self.violations.is_empty() {
            self.judge();
        }
        let ends: Vec<&'static str> = self
            .store
            .delegations
            .values()
            .map(|stored| outcome(&stored.life))
            .collect();
        for end in ends {
            self.count(end);
        }
        Verdict {
            violations: self.violations,
            trace: self.trace.unwrap_or_default(),
            happenings,
            census: self.census,
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::AtNode { node, boot, what } => self.at_node(node, boot, what),
            Happening::AtDatabase { node, boot, batch } => self.at_database(node, boot, &batch),
            Happening::AtTarget { target, delivery } => self.at_target(target, delivery),
            Happening::WithPeople(errand) => self.with_people(errand),
            Happening::Fault(fault) => self.befall(&fault),
        }
    }

    fn befall(&mut self, fault: &Fault) {
        self.note(|| format!("== {fault:?}"));
        match *fault {
            Fault::Crash(node) if !self.calm => self.crash(node),
            Fault::Crash(_) => {}
            Fault::Restart(node) => self.start(node),
            Fault::Freeze(node) => self.nodes[node].frozen = !self.calm,
            Fault::Thaw(node) => self.thaw(node),
            Fault::DatabaseAway => self.away = !self.calm,
            Fault::DatabaseBack => self.away = false,
            Fault::Refuse(kind) => self.store.refuses = (!self.calm).then_some(kind),
            Fault::Permit => self.store.refuses = None,
            Fault::TargetDown(target) => self.targets[target].reachable = self.calm,
            Fault::TargetUp(target) => self.stir(target),
            Fault::Calm => {
                self.calm = true;
                self.faults = Faults::default();
                self.away = false;
                self.store.refuses = None;
                for node in 0..self.nodes.len() {
                    self.thaw(node);
                }
                for target in 0..self.targets.len() {
                    self.stir(target);
                }
            }
        }
    }

    /// Whether everything has ended, and everybody was told.
    fn is_settled(&self) -> bool {
        let ended = |stored: &crate::store::Stored| {
            stored.life.status().is_terminal() && stored.reply != crate::store::Reply::Owed
        };
        self.store.delegations.values().all(ended) && self.orders.iter().all(Order::is_over)
    }

    fn last_deadline(&self) -> Timestamp {
        let deadlines = self.store.delegations.values();
        let last = deadlines.map(|stored| stored.terms.deadline).max();
        last.unwrap_or(START).max(START.plus(TROUBLED))
    }

    // ---- record

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.census.entry(what).or_default() += 1;
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let millis = now.since(START).as_millis();
            trace.push(format!(
                "{:>7}.{:03} {}",
                millis / 1000,
                millis % 1000,
                what()
            ));
        }
    }

    // ---- chance

    /// The way to another thread, or over a fast network.
    pub(crate) fn soon(&mut self) -> Duration {
        if self.dice.chance(self.faults.slow) {
            self.dice.millis(0, 3_000)
        } else {
            self.dice.millis(0, 3)
        }
    }

    pub(crate) fn moment(&mut self, node: usize) -> Moment {
        Moment {
            now: self.now,
            dice: self.dice.fraction(),
            hearing_since: self.nodes[node].hearing_since,
        }
    }
}

/// What a seed came to.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) happenings: u32,
    pub(crate) census: BTreeMap<&'static str, u64>,
}

fn outcome(life: &Life) -> &'static str {
    match &life.state {
        State::Ended(ended) => match &ended.ending {
            Ending::Failed { class, .. } => class.as_str(),
            Ending::Completed { .. } | Ending::Cancelled { .. } => life.status().as_str(),
        },
        _ => life.status().as_str(),
    }
}
