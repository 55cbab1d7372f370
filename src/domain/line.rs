//! The line before one target: who is tried next, and when. Pure, like [`super::transition()`].
//!
//! First in, first out by priority. A target that says that it is busy shows by that how much it takes at once: as many
//! as it had then. Room for one more is tried when one of those ends, else when the time that it asked for is over, and
//! then for twice as many at growing intervals. A target that cannot be reached is probed by one at a time, until it says
//! anything at all. The waits themselves come from [`super::transition()`], which counts each delegation's failures.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::{DelegationKey, Priority, RetryPolicy, Terms, Timestamp, Unready};

/// How many failures in a row open the breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// From how many at once on a target counts as one without a limit of its own.
const WIDE: usize = 1_024;

/// How long a busy target's refusals may be on their way. Until they are here nobody else is tried, for the one that it
/// refuses would be overtaken.
const SETTLE: Duration = Duration::from_millis(250);

/// A call to a target that could not be reached has surely come through when it has not failed for so long: it takes
/// less to connect, unless `BATON_CONNECT_TIMEOUT_S` says otherwise.
const CONNECTED: Duration = Duration::from_secs(15);

/// A delegation's place in a line: the smaller is first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    /// The higher priority goes first,
    pub priority: Reverse<Priority>,
    /// then the older,
    pub since: Timestamp,
    /// and this keeps them apart.
    pub key: DelegationKey,
}

impl Ticket {
    /// The place of a delegation in the line before its target.
    #[must_use]
    pub fn of(terms: &Terms) -> Self {
        Self {
            priority: Reverse(terms.priority),
            since: terms.created_at,
            key: terms.key.clone(),
        }
    }
}

/// Why nobody is tried for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hindrance {
    /// The target said that it is busy.
    Busy,
    /// It could not be reached.
    Unreachable,
    /// It has no address.
    NoAddress,
    /// It is offline by its own word.
    Offline,
}

/// How many the target takes at once by its own setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cap {
    /// Nobody has looked yet.
    Unknown,
    /// As many as there are.
    None,
    /// So many.
    At(usize),
}

/// Whether calls to a target are held back because it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breaker {
    /// They are not.
    Closed,
    /// None is let through.
    Open,
    /// One is, to find out.
    HalfOpen,
}

/// What is to be seen of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineView {
    /// Whether it fails.
    pub breaker: Breaker,
    /// Failures in a row.
    pub failures: u32,
    /// When the first of them happened.
    pub failing_since: Option<Timestamp>,
    /// When the next is tried, while nobody is.
    pub next_attempt_at: Option<Timestamp>,
    /// Why nobody is tried.
    pub hindrance: Option<Hindrance>,
    /// How many wait.
    pub waiting: usize,
    /// How many the target works on.
    pub working: usize,
    /// How many it takes at once, by its own setting or as it has shown; none when no limit is known.
    pub limit: Option<usize>,
}

/// One target's line.
#[derive(Debug)]
pub struct Line {
    /// Those whose turn may come now.
    waiting: BTreeSet<Ticket>,
    /// Those who wait for an instant of their own.
    resting: BTreeSet<(Timestamp, Ticket)>,
    /// Those who wait and have not been told why.
    untold: BTreeSet<Ticket>,
    /// Those who are being tried, or whom the target works for.
    seated: HashSet<Ticket>,
    /// Those who were there before whoever comes now, and wait for nothing but Baton: their beginning is being committed,
    /// or it is their turn and they have not been sent.
    on_the_way: HashSet<Ticket>,
    cap: Cap,
    /// Who went ahead to look the target up.
    scout: Option<Ticket>,
    /// How many may be seated, as the target has shown, or is being tried.
    window: Option<usize>,
    /// How many a busy target was seen to take.
    proven: usize,
    /// Until then refusals may come in.
    unsettled_until: Timestamp,
    /// When the last was given its turn.
    granted_at: Timestamp,
    closed: Option<(Timestamp, Hindrance)>,
    /// What last went wrong between Baton and the target, until that is over.
    fault: Option<Hindrance>,
    failures: u32,
    failing_since: Option<Timestamp>,
    /// When the window may grow.
    grow_at: Option<Timestamp>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            waiting: BTreeSet::new(),
            resting: BTreeSet::new(),
            untold: BTreeSet::new(),
            seated: HashSet::new(),
            on_the_way: HashSet::new(),
            cap: Cap::Unknown,
            scout: None,
            window: None,
            proven: 0,
            unsettled_until: Timestamp::default(),
            granted_at: Timestamp::default(),
            closed: None,
            fault: None,
            failures: 0,
            failing_since: None,
            grow_at: None,
        }
    }
}

impl Line {
    /// One begins: if it would overtake nobody, and nothing is known to be wrong with the target, it is given its turn,
    /// and counts as sent. Otherwise it will [`Line::enter`] once its beginning is committed. The target was looked up.
    pub fn begin(
        &mut self,
        ticket: &Ticket,
        now: Timestamp,
        retry: &RetryPolicy,
        dice: f64,
    ) -> bool {
        let behind = !(self.waiting.is_empty() && self.resting.is_empty());
        let troubled = self.closed.is_some() || self.fault.is_some();
        if behind || troubled || !self.on_the_way.is_empty() {
            self.announce(ticket.clone());
            return false;
        }
        self.waiting.insert(ticket.clone());
        let granted = !self.grants(now, retry, dice).is_empty();
        if granted {
            self.sent(ticket);
        } else {
            self.waiting.remove(ticket);
            self.announce(ticket.clone());
        }
        granted
    }

    /// One begins, and cannot be sent before it has entered.
    pub fn announce(&mut self, ticket: Ticket) {
        self.on_the_way.insert(ticket);
    }

    /// One whose turn it was is on its way to the target: who comes now overtakes it no more.
    pub fn sent(&mut self, ticket: &Ticket) {
        self.on_the_way.remove(ticket);
    }

    /// One more waits, from `not_before` on.
    pub fn enter(&mut self, ticket: Ticket, not_before: Timestamp, now: Timestamp) {
        self.on_the_way.remove(&ticket);
        self.untold.insert(ticket.clone());
        self.wait(ticket, not_before, now);
    }

    fn wait(&mut self, ticket: Ticket, not_before: Timestamp, now: Timestamp) {
        if not_before > now {
            self.resting.insert((not_before, ticket));
        } else {
            self.waiting.insert(ticket);
        }
    }

    /// One whom the target already works for.
    pub fn occupy(&mut self, ticket: Ticket) {
        self.seated.insert(ticket);
    }

    /// It needs the target no more.
    pub fn leave(&mut self, ticket: &Ticket, now: Timestamp, retry: &RetryPolicy, dice: f64) {
        self.on_the_way.remove(ticket);
        self.waiting.remove(ticket);
        self.resting.retain(|(_, other)| other != ticket);
        self.untold.remove(ticket);
        // A busy target that ended something has room for one.
        if self.seated.remove(ticket) && matches!(self.closed, Some((_, Hindrance::Busy))) {
            self.reopen(now, retry, dice);
        }
    }

    /// The target was looked up: how many it takes at once, 0 for no limit of its own.
    pub fn set_cap(&mut self, cap: usize) {
        self.cap = if cap == 0 { Cap::None } else { Cap::At(cap) };
    }

    /// A try came to nothing. Its delegation waits again, in its old place, and everybody until `until`.
    pub fn failed(&mut self, ticket: &Ticket, why: Hindrance, until: Timestamp, now: Timestamp) {
        self.on_the_way.remove(ticket);
        self.seated.remove(ticket);
        self.waiting.insert(ticket.clone());
        self.hold(why, until, now);
    }

    /// Nobody is tried before `until`.
    pub fn hold(&mut self, why: Hindrance, until: Timestamp, now: Timestamp) {
        let closed_until = self.closed.map_or(now, |(until, _)| until);
        if matches!(why, Hindrance::Busy | Hindrance::Unreachable) {
            // Those who were tried together failed together.
            if closed_until <= now {
                self.failures = self.failures.saturating_add(1);
                self.failing_since.get_or_insert(now);
            }
            // A target takes one at a time, if nobody else has it.
            self.proven = self.seated.len().max(1);
            self.window = Some(self.seated.len());
            self.unsettled_until = now.plus(SETTLE);
            self.fault = Some(why);
            self.grow_at = None;
        } else {
            // One goes and looks whether that has changed.
            self.cap = Cap::Unknown;
        }
        self.closed = Some((until.max(closed_until), why));
    }

    /// One may have been taken and is tried again from `until` on; that says nothing of the others.
    pub fn rest(&mut self, ticket: &Ticket, until: Timestamp, now: Timestamp) {
        self.on_the_way.remove(ticket);
        self.seated.remove(ticket);
        self.wait(ticket.clone(), until, now);
    }

    /// The target said something, whatever it was: it can be reached.
    pub fn spoke(&mut self) {
        if self.fault == Some(Hindrance::Unreachable) {
            self.reset();
        }
    }

    /// It gave a sign of life of its own accord, or changed: one is tried now.
    pub fn wake(&mut self, now: Timestamp, retry: &RetryPolicy, dice: f64) {
        if self.closed.is_some() {
            self.reopen(now, retry, dice);
        }
    }

    /// Forgets what went wrong.
    pub fn reset(&mut self) {
        self.closed = None;
        self.window = None;
        self.fault = None;
        self.failures = 0;
        self.failing_since = None;
        self.grow_at = None;
    }

    fn reopen(&mut self, now: Timestamp, retry: &RetryPolicy, dice: f64) {
        let was = self.closed.take();
        if was.is_some() && self.window.is_some() {
            self.window = Some(self.seated.len().saturating_add(1));
            self.grow_at = Some(self.next_growth(now, retry, dice));
        }
    }

    fn next_growth(&self, now: Timestamp, retry: &RetryPolicy, dice: f64) -> Timestamp {
        let delay = retry.delay(self.failures.max(1), dice);
        now.plus(match self.fault {
            Some(Hindrance::Unreachable) => delay.max(CONNECTED),
            Some(Hindrance::Busy | Hindrance::NoAddress | Hindrance::Offline) | None => delay,
        })
    }

    /// Does what is due, and takes out those whose turn it is.
    pub fn grants(&mut self, now: Timestamp, retry: &RetryPolicy, dice: f64) -> Vec<Ticket> {
        while let Some((at, _)) = self.resting.first()
            && *at <= now
            && let Some((_, ticket)) = self.resting.pop_first()
        {
            self.waiting.insert(ticket);
        }
        if self.closed.is_some_and(|(until, _)| until <= now) {
            self.reopen(now, retry, dice);
        }
        self.grow(now, retry, dice);
        // So many at once, and none was refused.
        if self.unsettled_until <= now && self.seated.len() > self.proven {
            self.proven = self.seated.len();
            self.failures = 0;
            self.failing_since = None;
        }
        let mut granted = Vec::new();
        while self.closed.is_none()
            && self.settled_at() <= now
            && self.limit().is_none_or(|limit| self.seated.len() < limit)
            && let Some(ticket) = self.waiting.pop_first()
        {
            self.untold.remove(&ticket);
            self.seated.insert(ticket.clone());
            self.on_the_way.insert(ticket.clone());
            self.granted_at = now;
            if self.cap == Cap::Unknown {
                self.scout = Some(ticket.clone());
            }
            if self.seated.len() > self.proven {
                self.unsettled_until = now.plus(SETTLE);
            }
            granted.push(ticket);
        }
        granted
    }

    /// From when on the next may be tried: by one that is known to be busy, not while a refusal may be on its way, and
    /// more than it was seen to take not beside another that is on its way.
    fn settled_at(&self) -> Timestamp {
        if self.fault != Some(Hindrance::Busy) {
            Timestamp::default()
        } else if self.seated.len() < self.proven {
            self.unsettled_until
        } else {
            self.unsettled_until.max(self.granted_at.plus(SETTLE))
        }
    }

    /// Twice as many are tried as it was seen to take.
    fn grow(&mut self, now: Timestamp, retry: &RetryPolicy, dice: f64) {
        let Some(window) = self.window else { return };
        if self.grow_at.is_none_or(|at| at > now) || self.closed.is_some() {
            return;
        }
        let wider = self.proven.max(1).saturating_mul(2);
        if wider >= WIDE || self.fault == Some(Hindrance::Unreachable) {
            return self.reset();
        }
        self.window = Some(wider.max(window));
        self.grow_at = Some(self.next_growth(now, retry, dice));
    }

    fn limit(&self) -> Option<usize> {
        let cap = match self.cap {
            // One goes ahead and looks.
            Cap::Unknown => {
                let looking = self
                    .scout
                    .as_ref()
                    .filter(|scout| self.seated.contains(scout));
                let places = usize::from(looking.is_none());
                Some(self.seated.len().saturating_add(places))
            }
            Cap::None => None,
            Cap::At(cap) => Some(cap),
        };
        match (cap, self.window) {
            (Some(cap), Some(window)) => Some(cap.min(window)),
            (cap, window) => cap.or(window),
        }
    }

    /// Those who wait, have not been told why, and what to tell them.
    pub fn take_untold(&mut self) -> Option<(Unready, BTreeSet<Ticket>)> {
        let why = match self.closed {
            Some((_, Hindrance::Unreachable)) if self.failures >= BREAKER_FAILURES => {
                Unready::BreakerOpen
            }
            Some((_, Hindrance::Unreachable)) => Unready::Unreachable,
            Some((_, Hindrance::Busy)) => Unready::Busy,
            Some((_, Hindrance::NoAddress)) => Unready::NoAddress,
            Some((_, Hindrance::Offline)) => Unready::Offline,
            // In a moment somebody knows more.
            None if self.cap == Cap::Unknown => return None,
            None => Unready::AtCapacity,
        };
        if self.untold.is_empty() {
            return None;
        }
        Some((why, std::mem::take(&mut self.untold)))
    }

    /// When [`Line::grants`] will next have something to do without anything else happening.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let rested = self.resting.first().map(|(at, _)| *at);
        let for_waiting = if self.waiting.is_empty() {
            None
        } else if let Some((until, _)) = self.closed {
            Some(until)
        } else if self.settled_at() <= now {
            self.grow_at
        } else {
            Some(self.settled_at())
        };
        rested.into_iter().chain(for_waiting).min()
    }

    /// Whether there is nobody, and nothing to remember: what a busy target showed is worth knowing when the next comes.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let empty = self.waiting.is_empty() && self.resting.is_empty() && self.seated.is_empty();
        empty && self.on_the_way.is_empty() && self.fault.is_none()
    }

    /// What is to be seen of it.
    #[must_use]
    pub fn view(&self) -> LineView {
        let failing =
            self.fault == Some(Hindrance::Unreachable) && self.failures >= BREAKER_FAILURES;
        LineView {
            breaker: match (failing, self.closed) {
                (false, _) => Breaker::Closed,
                (true, Some(_)) => Breaker::Open,
                (true, None) => Breaker::HalfOpen,
            },
            failures: self.failures,
            failing_since: self.failing_since,
            next_attempt_at: self.closed.map(|(until, _)| until),
            hindrance: self.closed.map(|(_, why)| why),
            waiting: self.waiting.len().saturating_add(self.resting.len()),
            working: self.seated.len(),
            limit: self.limit().filter(|_| self.cap != Cap::Unknown),
        }
    }
}

#[cfg(test)]
mod tests;
