//! What the gate knows, and decides: without a clock.

use std::collections::HashMap;
use std::time::Duration;

use super::pace::{Pace, TICKETS_MIN};
use super::{Errand, GateLimits, Reason};
use crate::domain::WorkspaceId;

/// Tickets beyond those, for workspaces that hold few: whoever asks for little gets in while others ask for all.
pub(super) const TICKETS_FOR_NEWCOMERS: u64 = 64;
/// Whoever holds fewer than this is a newcomer.
const FEW: u64 = 4;
/// A workspace may hold this many times what would be left for the others.
const GREED: u64 = 4;
/// New work may hold four fifths of the tickets; the rest is for what brings work to its end.
const NEW_WORK: (u64, u64) = (4, 5);
/// The longest wait that the queue alone advises; with jitter, twice that.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the log says that requests are refused.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Whoever knocks: for which workspace (none for the admin, who has no share but counts), to do what, with how many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) workspace: Option<WorkspaceId>,
    pub(super) errand: Errand,
    pub(super) bytes: u64,
}

/// Something that is limited, and who holds how much of it.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) taken: u64,
    pub(super) held: HashMap<WorkspaceId, u64>,
}

impl Pool {
    fn held(&self, workspace: WorkspaceId) -> u64 {
        self.held.get(&workspace).copied().unwrap_or_default()
    }

    /// Whether there is room. The more one workspace holds, the more it must leave to others: so there is always room
    /// for whoever holds little.
    fn room(&self, free: u64, amount: u64, workspace: Option<WorkspaceId>) -> Result<(), Room> {
        let left = free.checked_sub(amount).ok_or(Room::None)?;
        let held = workspace.map_or(0, |workspace| self.held(workspace));
        if held > left.saturating_mul(GREED) {
            return Err(Room::ForOthers);
        }
        Ok(())
    }

    fn take(&mut self, amount: u64, workspace: Option<WorkspaceId>) {
        self.taken = self.taken.saturating_add(amount);
        if let (Some(workspace), 1..) = (workspace, amount) {
            let held = self.held.entry(workspace).or_default();
            *held = held.saturating_add(amount);
        }
    }

    fn give_back(&mut self, amount: u64, workspace: Option<WorkspaceId>) {
        self.taken = self.taken.saturating_sub(amount);
        if let Some(workspace) = workspace
            && let Some(held) = self.held.get_mut(&workspace)
        {
            *held = held.saturating_sub(amount);
            if *held == 0 {
                self.held.remove(&workspace);
            }
        }
    }
}

/// Why a pool gives nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    None,
    ForOthers,
}

/// What the gate knows; without a clock.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) limits: GateLimits,
    pub(super) pace: Pace,
    pub(super) tickets: Pool,
    pub(super) bodies: Pool,
    pub(super) beginning: u64,
    pub(super) newcomers: u64,
    /// When everybody who was refused could have been served.
    caught_up: Duration,
    said: Option<Duration>,
    refused: u64,
}

impl Books {
    pub(super) fn new(limits: GateLimits, batch: usize) -> Self {
        Self {
            limits,
            pace: Pace::new(batch),
            tickets: Pool::default(),
            bodies: Pool::default(),
            beginning: 0,
            newcomers: 0,
            caught_up: Duration::ZERO,
            said: None,
            refused: 0,
        }
    }

    /// How many tickets there may be while so many writes wait: those that no ticket stands for take up time too.
    pub(super) fn allowed(&self, waiting: u64, now: Duration) -> u64 {
        let others = waiting.saturating_sub(self.tickets.taken);
        let fit = self.pace.within(self.limits.wait, now);
        fit.saturating_sub(others).max(TICKETS_MIN)
    }

    /// Lets somebody in, perhaps on a newcomer's ticket.
    pub(super) fn enter(
        &mut self,
        visit: &Visit,
        waiting: u64,
        now: Duration,
    ) -> Result<bool, Reason> {
        let bodies = self.limits.bodies.saturating_sub(self.bodies.taken);
        let body = self.bodies.room(bodies, visit.bytes, visit.workspace);
        body.map_err(|_whose| Reason::Bodies)?;
        let newcomer = visit.errand != Errand::Look && self.ticket(visit, waiting, now)?;
        self.bodies.take(visit.bytes, visit.workspace);
        Ok(newcomer)
    }

    fn ticket(&mut self, visit: &Visit, waiting: u64, now: Duration) -> Result<bool, Reason> {
        let allowed = self.allowed(waiting, now);
        let regular = self.tickets.taken.saturating_sub(self.newcomers);
        let mut free = allowed.saturating_sub(regular);
        if visit.errand == Errand::Begin {
            let (part, whole) = NEW_WORK;
            let most = allowed.saturating_mul(part) / whole;
            free = free.min(most.saturating_sub(self.beginning));
        }
        let few = visit
            .workspace
            .is_some_and(|workspace| self.tickets.held(workspace) < FEW);
        let newcomer = match self.tickets.room(free, 1, visit.workspace) {
            Ok(()) => false,
            Err(_) if few && self.newcomers < TICKETS_FOR_NEWCOMERS => true,
            Err(Room::None) => return Err(Reason::Full),
            Err(Room::ForOthers) => return Err(Reason::Share),
        };
        self.tickets.take(1, visit.workspace);
        self.newcomers = self.newcomers.saturating_add(u64::from(newcomer));
        let begins = u64::from(visit.errand == Errand::Begin && !newcomer);
        self.beginning = self.beginning.saturating_add(begins);
        Ok(newcomer)
    }

    pub(super) fn leave(&mut self, visit: &Visit, newcomer: bool) {
        self.bodies.give_back(visit.bytes, visit.workspace);
        if visit.errand == Errand::Look {
            return;
        }
        self.tickets.give_back(1, visit.workspace);
        if newcomer {
            self.newcomers = self.newcomers.saturating_sub(1);
        } else if visit.errand == Errand::Begin {
            self.beginning = self.beginning.saturating_sub(1);
        }
    }

    /// How long what waits now will wait.
    pub(super) fn wait(&self, waiting: u64, now: Duration) -> Duration {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        self.pace
            .each(now)
            .map_or(Duration::ZERO, |each| each.saturating_mul(waiting))
    }

    /// When to come again: after what waits and after all who were refused before, and not all of them at once.
    pub(super) fn retry_after(&mut self, waiting: u64, dice: u32, now: Duration) -> Duration {
        let begin = now.saturating_add(self.wait(waiting, now));
        let each = self.pace.each(now).unwrap_or_default();
        let caught_up = self.caught_up.max(begin).saturating_add(each);
        self.caught_up = caught_up.min(now.saturating_add(RETRY_MAX));
        let wait = self
            .caught_up
            .saturating_sub(now)
            .max(Duration::from_secs(1));
        let jitter = wait.as_secs().saturating_add(1).saturating_mul(dice.into()) >> u32::BITS;
        wait.saturating_add(Duration::from_secs(jitter))
    }

    /// How many were refused since it was last said, if it is time to say it.
    pub(super) fn worth_saying(&mut self, now: Duration) -> Option<u64> {
        self.refused = self.refused.saturating_add(1);
        if self
            .said
            .is_some_and(|said| now.saturating_sub(said) < SAID_EVERY)
        {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}
