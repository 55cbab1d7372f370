//! The lease protocol (docs/adr/0006): who may write to one delegation, over every order of steps of three nodes.
//!
//! A transaction proves that its node holds its own row, holds that row locked until it is committed, and changes the
//! delegation only from the revision that it read. A takeover leaves a locked row alone. The clock is the database's. A
//! node that is frozen and thaws is one that makes no step for a while, in some of the orders.

use crate::checker::{Model, Move};

const NODES: usize = 3;
const LENGTH: u8 = 1;
const CLOCK_END: u8 = 3;
/// The node that accepted the delegation.
const OWNER: usize = 0;
/// As many changes as anybody makes before the ending.
const CHANGES: u8 = 2;

/// A rule that is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    Nothing,
    /// Nobody proves anything.
    Proof,
    /// The proof does not last until the commit.
    Lock,
    /// A change is applied whatever was read.
    Revision,
    /// Takes over from those that live.
    Expiry,
    /// Nobody takes over.
    Takeover,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Node {
    /// Whose delegations its row says they are.
    holder: usize,
    expires: u8,
    dead: bool,
    /// The revision that it read of the delegation.
    read: Option<u8>,
    /// What it is committing: the revision read, and whether on behalf of the owner.
    open: Option<(u8, bool)>,
    locked: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leases {
    clock: u8,
    nodes: [Node; NODES],
    revision: u8,
    endings: u8,
    /// Who committed last, and whether it was its own.
    writer: Option<(usize, bool)>,
    /// Whether somebody was taken over from that lived and was heard of in time.
    usurped: bool,
}

pub(crate) struct Protocol(pub(crate) Broken);

impl Protocol {
    fn take_over(&self, state: &Leases, by: usize) -> Option<Leases> {
        let own = state.nodes[by];
        let gone: Vec<usize> = (0..NODES)
            .filter(|node| {
                let row = state.nodes[*node];
                let expired = row.expires < state.clock || self.0 == Broken::Expiry;
                let free = !row.locked || self.0 == Broken::Lock;
                *node != by && row.holder == *node && expired && free
            })
            .collect();
        if own.holder != by || gone.is_empty() || self.0 == Broken::Takeover {
            return None;
        }
        let mut to = state.clone();
        to.usurped |= gone
            .iter()
            .any(|node| state.nodes[*node].expires >= state.clock);
        for node in &mut to.nodes {
            if gone.contains(&node.holder) {
                node.holder = by;
            }
        }
        // It reads afresh what it has in charge now.
        to.nodes[by].read = None;
        Some(to)
    }

    /// The transaction begins: it proves that its node may write, and locks the proof.
    fn begin(&self, state: &Leases, by: usize, as_owner: bool) -> Option<Leases> {
        let node = state.nodes[by];
        let read = node.read?;
        let in_charge = state.nodes[OWNER].holder == by;
        let believes = in_charge || (by == OWNER && node.holder != by);
        if node.open.is_some() || as_owner != believes || read >= CHANGES {
            return None;
        }
        let mut to = state.clone();
        let proved = node.holder == by || matches!(self.0, Broken::Proof);
        if proved {
            to.nodes[by].open = Some((read, as_owner));
            to.nodes[by].locked = self.0 != Broken::Lock && node.holder == by;
        } else {
            // Fenced: the process ends.
            to.nodes[by].dead = true;
        }
        Some(to)
    }

    fn commit(&self, state: &Leases, by: usize) -> Option<Leases> {
        let (read, as_owner) = state.nodes[by].open?;
        let mut to = state.clone();
        to.nodes[by].open = None;
        to.nodes[by].locked = false;
        to.nodes[by].read = None;
        if read == state.revision || self.0 == Broken::Revision {
            to.endings += u8::from(read >= CHANGES - 1);
            to.revision = state.revision + 1;
            to.writer = Some((by, as_owner));
        }
        Some(to)
    }
}

impl Model for Protocol {
    type State = Leases;
    type Key = Leases;

    fn key(&self, state: &Leases) -> Leases {
        state.clone()
    }

    fn initial(&self) -> Leases {
        let node = |holder| Node {
            holder,
            expires: LENGTH,
            dead: false,
            read: None,
            open: None,
            locked: false,
        };
        Leases {
            clock: 0,
            nodes: std::array::from_fn(node),
            revision: 0,
            endings: 0,
            writer: None,
            usurped: false,
        }
    }

    fn moves(&self, state: &Leases) -> Vec<Move<Leases>> {
        let mut moves = Vec::new();
        let mut push = |name: &str, by: usize, to: Option<Leases>, inevitable: bool| {
            let name = format!("{name} {by}");
            moves.extend(to.map(|to| Move {
                name,
                to,
                inevitable,
            }));
        };
        let change = |change: &dyn Fn(&mut Leases)| {
            let mut to = state.clone();
            change(&mut to);
            to
        };
        if state.clock < CLOCK_END {
            push("tick", 0, Some(change(&|to| to.clock += 1)), true);
        }
        for by in 0..NODES {
            let node = state.nodes[by];
            // What was sent is committed, whatever became of the sender.
            push("commit", by, self.commit(state, by), true);
            if node.dead {
                continue;
            }
            // One node stays awake: with nobody there nothing can end.
            if by != NODES - 1 {
                push(
                    "die",
                    by,
                    Some(change(&|to| to.nodes[by].dead = true)),
                    false,
                );
            }
            // Time ends here; a lease ends before it, so that somebody can still take over.
            let renewable = state.clock + LENGTH < CLOCK_END;
            if renewable && node.holder == by && node.expires < state.clock + LENGTH {
                let renewed = |to: &mut Leases| to.nodes[by].expires = to.clock + LENGTH;
                push("renew", by, Some(change(&renewed)), false);
            }
            push("take over", by, self.take_over(state, by), true);
            if node.read.is_none() && node.open.is_none() {
                let read = Some(state.revision);
                push(
                    "read",
                    by,
                    Some(change(&|to| to.nodes[by].read = read)),
                    true,
                );
            }
            push("begin", by, self.begin(state, by, true), true);
            push("begin as a guest", by, self.begin(state, by, false), false);
        }
        moves
    }

    fn check(&self, from: &Leases, by: &Move<Leases>) -> Result<(), String> {
        let to = &by.to;
        if to.usurped {
            return Err("taken over from a node whose lease had not run out".to_owned());
        }
        if to.endings > 1 {
            return Err("two endings".to_owned());
        }
        let wrote = (to.revision != from.revision)
            .then_some(to.writer)
            .flatten();
        if let Some((writer, as_owner)) = wrote {
            if as_owner && from.nodes[OWNER].holder != writer {
                return Err("an owner wrote after another had taken over".to_owned());
            }
            if from.nodes[writer].holder != writer {
                return Err("a node wrote that had lost its lease".to_owned());
            }
        }
        Ok(())
    }

    /// It has ended; or nobody is left, and the next process that starts finds only leases that run out.
    fn is_goal(&self, state: &Leases) -> bool {
        let mut nodes = state.nodes.iter().enumerate();
        state.endings > 0 || nodes.all(|(by, node)| node.dead || node.holder != by)
    }
}
