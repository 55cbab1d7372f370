//! The lines before the targets, with the actors that stand in them. What a line decides is [`Line`]'s; here is who is
//! told, and the timer that wakes it. Nothing is awaited under a lock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::Addr;
use dashmap::DashMap;
use tokio::runtime::Handle;

use super::actor::DelegationActor;
use super::messages::FromLine;
use crate::clock;
use crate::domain::{
    Hindrance, Line, LineView, RetryPolicy, Ticket, Timestamp, Unready, WorkspaceId,
};

/// All lines of this node.
#[derive(Debug)]
pub(super) struct Lines {
    by_target: DashMap<WorkspaceId, Staffed>,
    retry: RetryPolicy,
    /// How many say that nobody is to be given a turn now.
    holders: AtomicUsize,
    /// For timers: a place may be given back by a thread that is ending.
    runtime: Handle,
}

/// A line with those who stand in it.
#[derive(Debug, Default)]
struct Staffed {
    line: Line,
    actors: HashMap<Ticket, Addr<DelegationActor>>,
    /// Those whose turn came before they had an address.
    early: HashSet<Ticket>,
    /// The instant that a task sleeps for.
    alarm: Option<Timestamp>,
}

impl Lines {
    pub(super) fn new(retry: RetryPolicy) -> Arc<Self> {
        Arc::new(Self {
            by_target: DashMap::new(),
            retry,
            holders: AtomicUsize::new(0),
            runtime: Handle::current(),
        })
    }

    /// Nobody is given a turn as long as this is held, so that those who come from the store stand in their old order.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.holders.fetch_add(1, Ordering::AcqRel);
        Held(Arc::clone(self))
    }

    /// Changes a line, then tells those whose turn it is, and those who must wait.
    fn change(self: &Arc<Self>, target: WorkspaceId, change: impl FnOnce(&mut Staffed, Timestamp)) {
        let now = clock::now();
        let mut staffed = self.by_target.entry(target).or_default();
        change(&mut staffed, now);
        if self.holders.load(Ordering::Acquire) == 0 {
            staffed.serve(now, &self.retry);
            self.set_alarm(target, &mut staffed);
        }
        let idle = staffed.line.is_idle();
        drop(staffed);
        if idle {
            let still = |_: &_, staffed: &Staffed| staffed.line.is_idle();
            self.by_target.remove_if(&target, still);
        }
    }

    /// One task sleeps for each line that waits for an instant; one that wakes to find an earlier one gone ends.
    fn set_alarm(self: &Arc<Self>, target: WorkspaceId, staffed: &mut Staffed) {
        let due = staffed.line.next_due(clock::now());
        let earlier = match (staffed.alarm, due) {
            (Some(alarm), Some(due)) => due < alarm,
            (None, due) => due.is_some(),
            (Some(_), None) => false,
        };
        let Some(due) = due.filter(|_| earlier) else {
            return;
        };
        staffed.alarm = Some(due);
        let lines = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(due.since(clock::now())).await;
            lines.ring(target, due);
        });
    }

    fn ring(self: &Arc<Self>, target: WorkspaceId, due: Timestamp) {
        let mine = self
            .by_target
            .get(&target)
            .is_some_and(|staffed| staffed.alarm == Some(due));
        if mine {
            self.change(target, |staffed, _| staffed.alarm = None);
        }
    }

    /// The target was looked up: how many tasks it takes at once, 0 for no limit of its own.
    pub(super) fn set_cap(self: &Arc<Self>, target: WorkspaceId, cap: i32) {
        let cap = usize::try_from(cap).unwrap_or(0);
        self.change(target, |staffed, _| staffed.line.set_cap(cap));
    }

    /// The target registered, gave a sign of life, was changed or removed: one of those who wait goes and looks, and
    /// those who think it silent look again.
    pub(super) fn wake(self: &Arc<Self>, target: WorkspaceId) {
        if !self.by_target.contains_key(&target) {
            return;
        }
        self.change(target, |staffed, now| {
            staffed.line.wake(now, &self.retry, rand::random());
            for actor in staffed.actors.values() {
                actor.do_send(FromLine::TargetStirred);
            }
        });
    }

    /// Forgets what went wrong with a target. Whether there was a line.
    pub(super) fn reset(self: &Arc<Self>, target: WorkspaceId) -> bool {
        let known = self.by_target.contains_key(&target);
        if known {
            self.change(target, |staffed, _| staffed.line.reset());
        }
        known
    }

    /// Every line of this node.
    pub(super) fn views(&self) -> Vec<(WorkspaceId, LineView)> {
        let lines = self.by_target.iter();
        lines
            .map(|entry| (*entry.key(), entry.value().line.view()))
            .collect()
    }
}

impl Staffed {
    /// Tells those whose turn it is, and those who must wait and do not know why.
    fn serve(&mut self, now: Timestamp, retry: &RetryPolicy) {
        for ticket in self.line.grants(now, retry, rand::random()) {
            match self.actors.get(&ticket) {
                Some(actor) => actor.do_send(FromLine::Granted),
                None => drop(self.early.insert(ticket)),
            }
        }
        if let Some((why, tickets)) = self.line.take_untold() {
            for actor in tickets.iter().filter_map(|ticket| self.actors.get(ticket)) {
                actor.do_send(FromLine::Behind(why));
            }
        }
    }
}

/// Keeps everybody waiting; see [`Lines::hold`].
#[derive(Debug)]
pub(super) struct Held(Arc<Lines>);

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let targets: Vec<WorkspaceId> =
                self.0.by_target.iter().map(|line| *line.key()).collect();
            for target in targets {
                self.0.change(target, |_, _| {});
            }
        }
    }
}

/// What a try that came to nothing means for the line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setback {
    /// This delegation waits until then.
    Own(Timestamp),
    /// So do all.
    All(Hindrance, Timestamp),
}

/// A delegation's place in its target's line, or with the target, for as long as it is held.
#[derive(Debug)]
pub(super) struct Seat {
    lines: Arc<Lines>,
    target: WorkspaceId,
    ticket: Ticket,
}

impl Seat {
    /// For one that begins: with the target, if its line lets it go at once, else announced to the line. `cap`: how many
    /// tasks the target takes at once, when it was looked up and can be called. Whether it goes at once.
    pub(super) fn beginning(
        lines: &Arc<Lines>,
        target: WorkspaceId,
        ticket: Ticket,
        cap: Option<i32>,
    ) -> (Self, bool) {
        let mut goes = false;
        lines.change(target, |staffed, now| {
            let held = lines.holders.load(Ordering::Acquire) > 0;
            match cap.filter(|_| !held) {
                Some(cap) => {
                    staffed.line.set_cap(usize::try_from(cap).unwrap_or(0));
                    let dice = rand::random();
                    goes = staffed.line.begin(&ticket, now, &lines.retry, dice);
                }
                None => staffed.line.announce(ticket.clone()),
            }
        });
        let lines = Arc::clone(lines);
        let seat = Self {
            lines,
            target,
            ticket,
        };
        (seat, goes)
    }

    /// Its beginning is committed: it waits in line.
    pub(super) fn enter(&self, actor: Addr<DelegationActor>) {
        self.lines.change(self.target, |staffed, now| {
            staffed.actors.insert(self.ticket.clone(), actor);
            staffed.line.enter(self.ticket.clone(), now, now);
        });
    }

    /// Waits in line. `setback`: what its last try came to, if it comes from one.
    pub(super) fn waiting(
        lines: &Arc<Lines>,
        target: WorkspaceId,
        ticket: Ticket,
        actor: Option<Addr<DelegationActor>>,
        setback: Option<Setback>,
    ) -> Self {
        lines.change(target, |staffed, now| {
            staffed
                .actors
                .extend(actor.map(|actor| (ticket.clone(), actor)));
            match setback {
                None => staffed.line.enter(ticket.clone(), now, now),
                Some(Setback::Own(until)) => staffed.line.enter(ticket.clone(), until, now),
                Some(Setback::All(why, until)) => {
                    staffed.line.enter(ticket.clone(), now, now);
                    staffed.line.hold(why, until, now);
                }
            }
        });
        Self {
            lines: Arc::clone(lines),
            target,
            ticket,
        }
    }

    /// The target already works for it.
    pub(super) fn working(
        lines: &Arc<Lines>,
        target: WorkspaceId,
        ticket: Ticket,
        actor: Option<Addr<DelegationActor>>,
    ) -> Self {
        lines.change(target, |staffed, _| {
            staffed
                .actors
                .extend(actor.map(|actor| (ticket.clone(), actor)));
            staffed.line.occupy(ticket.clone());
        });
        Self {
            lines: Arc::clone(lines),
            target,
            ticket,
        }
    }

    /// Whoever reserved it has an address now.
    pub(super) fn attach(&self, actor: Addr<DelegationActor>) {
        self.lines.change(self.target, |staffed, _| {
            if staffed.early.remove(&self.ticket) {
                actor.do_send(FromLine::Granted);
            }
            staffed.actors.insert(self.ticket.clone(), actor);
        });
    }

    /// Its try came to nothing: it waits again.
    pub(super) fn step_back(&self, setback: Setback) {
        self.lines
            .change(self.target, |staffed, now| match setback {
                Setback::Own(until) => staffed.line.rest(&self.ticket, until, now),
                Setback::All(why, until) => staffed.line.failed(&self.ticket, why, until, now),
            });
    }

    /// It is on its way to the target.
    pub(super) fn sent(&self) {
        if let Some(mut staffed) = self.lines.by_target.get_mut(&self.target) {
            staffed.line.sent(&self.ticket);
        }
    }

    /// The target said something.
    pub(super) fn spoke(&self) {
        self.lines
            .change(self.target, |staffed, _| staffed.line.spoke());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let lines = Arc::clone(&self.lines);
        lines.change(self.target, |staffed, now| {
            staffed.actors.remove(&self.ticket);
            staffed.early.remove(&self.ticket);
            staffed
                .line
                .leave(&self.ticket, now, &self.lines.retry, rand::random());
        });
    }
}

/// Why a target that cannot be called now holds up everybody, if it does.
pub(super) const fn hindrance(unready: Unready) -> Option<Hindrance> {
    match unready {
        Unready::NoAddress => Some(Hindrance::NoAddress),
        Unready::Offline => Some(Hindrance::Offline),
        Unready::Busy => Some(Hindrance::Busy),
        Unready::Unreachable | Unready::BreakerOpen => Some(Hindrance::Unreachable),
        Unready::Polls | Unready::AtCapacity | Unready::Removed => None,
    }
}
