//! A node: its life and death, and what its supervisor does (`src/delegation/supervisor.rs`).

pub(crate) mod beginning;
mod others;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use baton::domain::*;
use baton::store::{Write, Written};

use crate::Flaw;
use crate::actor::{Actor, Start, Tell, Word};
use crate::line::Staffed;
use crate::node::beginning::Beginning;
use crate::store::Stored;
use crate::world::{Happening, LEASE, World};
use crate::writer::short;

/// How long a node must hear without a break before it holds another's silence against it.
const HEARING: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_mins(1);
const RELOAD: Duration = Duration::from_millis(500);

/// What happens within a node. All of it is lost with the process.
pub(crate) enum Local {
    /// A batch that was about to be sent when the process froze.
    Commit(Rc<Batch>),
    Written(Rc<Batch>, Result<Vec<Written>, ()>),
    TryWriting,
    Renew,
    Fenced,
    /// Looks at the other nodes.
    Look,
    Recover(Vec<Stored>),
    Sweep,
    DeliverOwed,
    /// It could not be read before.
    Revive(DelegationKey),
    Moved(Vec<DelegationKey>),
    /// A caller's request comes in.
    Begin(usize),
    Tell(Tell),
    Rebuilt {
        key: DelegationKey,
        loaded: Option<Box<Stored>>,
    },
    ToActor {
        key: DelegationKey,
        number: u64,
        word: Word,
    },
    /// A line has something to do.
    Ring {
        target: WorkspaceId,
        due: Timestamp,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    Command,
    Change,
}

/// Whom to tell what became of a write.
#[derive(Clone)]
pub(crate) enum Ack {
    Actor {
        key: DelegationKey,
        number: u64,
    },
    Begin {
        order: usize,
        delegation: Box<NewDelegation>,
        beginning: Box<Beginning>,
    },
    Nobody,
}

#[derive(Clone)]
pub(crate) struct Append {
    pub(crate) write: Write,
    pub(crate) patience: Patience,
    pub(crate) ack: Ack,
}

/// A transaction on its way.
pub(crate) struct Batch {
    pub(crate) node: NodeId,
    pub(crate) renewal: Option<Duration>,
    pub(crate) reserved: Option<Position>,
    pub(crate) began: Timestamp,
    pub(crate) appends: Vec<Append>,
}

#[derive(Default)]
pub(crate) struct WriteQueue {
    pub(crate) buffer: VecDeque<Append>,
    pub(crate) in_flight: bool,
    pub(crate) failures: u32,
    pub(crate) renewed: Timestamp,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// Counts the starts: what belongs to an earlier one is gone.
    pub(crate) boot: u32,
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    /// What happened while it was frozen.
    pub(crate) parked: Vec<Local>,
    pub(crate) hearing_since: Timestamp,
    pub(crate) committed_at: Timestamp,
    /// The nodes whose delegations this one has in charge, itself included.
    pub(crate) owned: BTreeSet<NodeId>,
    pub(crate) actors: BTreeMap<DelegationKey, Actor>,
    pub(crate) newest: u64,
    pub(crate) reviving: BTreeMap<DelegationKey, Vec<Tell>>,
    /// Those whose beginning is being committed, and which are sent then.
    pub(crate) unsent: BTreeSet<DelegationKey>,
    /// Those of which nobody knows whether it was: they were not sent.
    pub(crate) in_doubt: BTreeSet<DelegationKey>,
    /// Calls in flight, until their outcome was taken.
    pub(crate) calls: Vec<(DelegationKey, Attempt)>,
    pub(crate) lines: BTreeMap<WorkspaceId, Staffed>,
    pub(crate) writer: WriteQueue,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: NodeId(uuid::Uuid::nil()),
            boot: 0,
            up: false,
            frozen: false,
            parked: Vec::new(),
            hearing_since: Timestamp(0),
            committed_at: Timestamp(0),
            owned: BTreeSet::new(),
            actors: BTreeMap::new(),
            newest: 0,
            reviving: BTreeMap::new(),
            unsent: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            calls: Vec::new(),
            lines: BTreeMap::new(),
            writer: WriteQueue::default(),
        }
    }
}

impl World {
    // ---- life and death

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        let id = NodeId(self.dice.id());
        let boot = self.nodes[node].boot + 1;
        self.nodes[node] = Node {
            id,
            boot,
            up: true,
            hearing_since: self.now,
            committed_at: self.now,
            owned: BTreeSet::from([id]),
            ..Node::default()
        };
        self.store.join(id, self.now, LEASE);
        if self.nodes.len() == 1 && self.flaw != Flaw::NeverTakesOver {
            // The sole process of this database, as its claim proves: all others are dead.
            let gone = self.store.take_over(id, self.now, true);
            self.gone.extend(gone);
        }
        self.note(|| format!("node {node} starts as {id}"));
        self.locally_after(LEASE / 4, node, Local::Renew);
        self.locally_after(Duration::ZERO, node, Local::Look);
        self.locally_after(SWEEP, node, Local::Sweep);
        self.locally_after(RELOAD, node, Local::DeliverOwed);
    }

    pub(crate) fn crash(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        if !host.up {
            return;
        }
        *host = Node {
            boot: host.boot + 1,
            ..Node::default()
        };
        self.note(|| format!("node {node} is dead"));
        let delay = self.dice.millis(100, 70_000);
        self.after(delay, Happening::Fault(crate::world::Fault::Restart(node)));
    }

    /// Goes on where it stood, with everything that came meanwhile.
    pub(crate) fn thaw(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        for what in std::mem::take(&mut self.nodes[node].parked) {
            let delay = self.dice.millis(0, 1);
            self.locally_after(delay, node, what);
        }
    }

    // ---- its own queue

    pub(crate) fn locally_after(&mut self, delay: Duration, node: usize, what: Local) {
        let boot = self.nodes[node].boot;
        if self.nodes[node].up {
            self.after(delay, Happening::AtNode { node, boot, what });
        }
    }

    pub(crate) fn locally_soon(&mut self, node: usize, boot: u32, what: Local) {
        let delay = self.soon();
        self.after(delay, Happening::AtNode { node, boot, what });
    }

    pub(crate) fn at_node(&mut self, node: usize, boot: u32, what: Local) {
        let host = &mut self.nodes[node];
        if host.boot != boot || !host.up {
            return;
        }
        if host.frozen {
            return host.parked.push(what);
        }
        match what {
            Local::Commit(batch) => {
                let delay = self.soon();
                self.after(delay, Happening::AtDatabase { node, boot, batch });
            }
            Local::Written(batch, result) => self.written(node, &batch, result),
            Local::TryWriting => {
                self.nodes[node].writer.in_flight = false;
                if self.nodes[node].writer.buffer.is_empty() {
                    self.renew_now(node);
                }
                self.write_on(node);
            }
            Local::Renew => self.renew(node),
            Local::Fenced => {
                self.count("fenced");
                self.note(|| format!("node {node} is fenced"));
                self.crash(node);
            }
            Local::Look => self.look(node),
            Local::Recover(page) => self.recover(node, page),
            Local::Sweep => self.sweep(node),
            Local::DeliverOwed => self.deliver_owed(node),
            Local::Revive(key) if self.number_of(node, &key).is_none() => {
                self.revive(node, &key, None);
            }
            Local::Revive(_) => {}
            Local::Moved(keys) => {
                for key in keys {
                    if let Some(number) = self.number_of(node, &key) {
                        self.word_soon(node, &key, number, Word::Reload);
                    }
                }
            }
            Local::Begin(order) => self.begin(node, order),
            Local::Tell(tell) => self.tell(node, tell),
            Local::Rebuilt { key, loaded } => self.rebuilt(node, &key, loaded),
            Local::ToActor { key, number, word } => self.deliver(node, &key, number, word),
            Local::Ring { target, due } => self.ring(node, target, due),
        }
    }

    fn renew_now(&mut self, node: usize) {
        if self.nodes[node].writer.failures > 0 {
            self.write_on(node);
        }
    }

    // ---- actors

    pub(crate) fn number_of(&self, node: usize, key: &DelegationKey) -> Option<u64> {
        self.nodes[node].actors.get(key).map(|actor| actor.number)
    }

    /// Tells a delegation, whichever incarnation is alive; rebuilds one if none is.
    fn tell(&mut self, node: usize, tell: Tell) {
        let key = tell.key.clone();
        self.note(|| format!("node {node} hears of {}: {:?}", short(&key), tell.event));
        match self.number_of(node, &key) {
            Some(number) => self.deliver(node, &key, number, Word::Tell(tell)),
            None => self.revive(node, &key, Some(tell)),
        }
    }

    /// Reads the delegation, for whoever waits for it.
    pub(crate) fn revive(&mut self, node: usize, key: &DelegationKey, tell: Option<Tell>) {
        let under_way = self.nodes[node].reviving.contains_key(key);
        let waiting = self.nodes[node].reviving.entry(key.clone()).or_default();
        waiting.extend(tell);
        if under_way || self.nodes[node].unsent.contains(key) {
            return;
        }
        let loaded = self.store.delegations.get(key).cloned().map(Box::new);
        let key = key.clone();
        if self.away {
            for tell in self.nodes[node].reviving.remove(&key).unwrap_or_default() {
                self.hand_over(node, tell, RELOAD);
            }
            return self.locally_after(RELOAD * 4, node, Local::Revive(key));
        }
        let delay = self.soon();
        self.locally_after(delay, node, Local::Rebuilt { key, loaded });
    }

    fn rebuilt(&mut self, node: usize, key: &DelegationKey, loaded: Option<Box<Stored>>) {
        let waiting = self.nodes[node].reviving.remove(key).unwrap_or_default();
        if let (None, Some(stored)) = (self.number_of(node, key), loaded) {
            let owned = self.nodes[node].owned.contains(&stored.owner);
            let over = stored.life.status().is_terminal();
            if waiting.is_empty() && (over || !owned) {
                return;
            }
            let in_doubt = self.nodes[node].in_doubt.remove(key);
            let start = if !owned {
                Start::Guest
            } else if in_doubt && stored.revision == Revision(2) {
                Start::Unsent
            } else {
                Start::Restored
            };
            self.start_actor(node, *stored, start, None);
        }
        let stored = self.number_of(node, key).is_some();
        for tell in waiting.into_iter().filter(|_| stored) {
            self.tell(node, tell);
        }
    }

    fn start_actor(
        &mut self,
        node: usize,
        mut stored: Stored,
        start: Start,
        beginning: Option<Beginning>,
    ) {
        let host = &mut self.nodes[node];
        host.newest += 1;
        if start != Start::Fresh {
            stored.incarnation = stored.incarnation.next();
        }
        let number = host.newest;
        let key = stored.terms.key.clone();
        self.note(|| format!("node {node}: {start:?} actor {number} for {}", short(&key)));
        self.count(match start {
            Start::Fresh => "fresh",
            Start::Restored => "restored",
            Start::Unsent => "unsent",
            Start::Guest => "guest",
        });
        let mut actor = Actor::new(number, stored, start);
        actor.beginning = beginning;
        self.nodes[node].actors.insert(key.clone(), actor);
        self.deliver(node, &key, number, Word::Started);
    }

    /// The actor is gone; what it was told is told to the next one.
    pub(crate) fn dismiss(&mut self, node: usize, key: &DelegationKey, rebuild: bool) {
        if let Some(actor) = self.nodes[node].actors.remove(key) {
            self.bury(node, actor, rebuild);
        }
    }
}
