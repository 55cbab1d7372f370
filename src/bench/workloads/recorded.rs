//! Delegations that agents tell of, and their endings.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::bench::http::{Answer, Call};
use crate::bench::load::{Extent, Load, Pace, Source, Tally, Task, drive};
use crate::bench::rig::Rig;
use crate::bench::sight::Sight;

/// The clients that do what is not measured.
const HELPERS: u32 = 128;

/// Delegations that were recorded and have not ended.
pub(in crate::bench) struct Recorded {
    rig: Rc<Rig>,
    /// Whoever waits for the replies.
    pub(super) sight: Option<Rc<Sight>>,
    turn: Cell<usize>,
    live: RefCell<VecDeque<(usize, Uuid)>>,
    /// The most endings that a run has taken.
    taken: Cell<u64>,
    task: String,
    ending: Bytes,
}

impl Recorded {
    pub(super) fn new(rig: Rc<Rig>, sight: Option<Rc<Sight>>) -> Self {
        let text = "x".repeat(200);
        let ending = json!({"status": "completed", "response_preview": text}).to_string();
        Self {
            task: format!(
                r#"{{"target_id":"{}","task":"{text}","delegation_id":""#,
                rig.bystander
            ),
            rig,
            sight,
            turn: Cell::new(0),
            live: RefCell::default(),
            taken: Cell::new(0),
            ending: ending.into(),
        }
    }

    /// Records what a run of updates will need: of a run of a given length only that can be told which takes no longer
    /// than recording does, and half as long again is enough for that.
    pub(super) async fn stock_up(&self, load: Load) -> anyhow::Result<()> {
        let taken = self.taken.get();
        let needed = match (load.extent, load.pace) {
            (Extent::Count(count), _) => Extent::Count(count),
            (Extent::For(length), Pace::Open(rate)) => {
                Extent::Count(length.as_secs().saturating_add(1) * u64::from(rate))
            }
            (Extent::For(length), Pace::Closed) if taken == 0 => Extent::For(length * 3 / 2),
            (Extent::For(_), Pace::Closed) => Extent::Count(taken + taken / 4),
        };
        let left = self.live.borrow().len();
        let needed = match needed {
            Extent::Count(count) => {
                Extent::Count(count.saturating_sub(u64::try_from(left).unwrap_or(u64::MAX)))
            }
            length @ Extent::For(_) => length,
        };
        let tally = drive(&Records(self), unmeasured(load, needed)).await?;
        flawless(&tally, "recording beforehand")
    }

    pub(super) async fn end_all(&self) -> anyhow::Result<()> {
        let Some(load) = self.load_to_end() else {
            return Ok(());
        };
        let taken = self.taken.get();
        let tally = drive(&Updates(self), load).await?;
        self.taken.set(taken);
        if let Some(sight) = &self.sight {
            sight.settled().await?;
        }
        flawless(&tally, "ending what was recorded")
    }

    fn load_to_end(&self) -> Option<Load> {
        let left = u64::try_from(self.live.borrow().len()).ok()?;
        (left > 0).then_some(Load {
            address: self.rig.server.address,
            clients: HELPERS,
            pace: Pace::Closed,
            extent: Extent::Count(left),
        })
    }
}

fn unmeasured(load: Load, extent: Extent) -> Load {
    Load {
        clients: HELPERS,
        pace: Pace::Closed,
        extent,
        ..load
    }
}

fn flawless(tally: &Tally, what: &str) -> anyhow::Result<()> {
    let complaint = tally.complaint.as_deref();
    anyhow::ensure!(
        complaint.is_none() && tally.shed == 0,
        "{what}: {}",
        complaint.unwrap_or("the server was overloaded")
    );
    Ok(())
}

pub(super) struct Records<'a>(pub(super) &'a Recorded);

impl Source for Records<'_> {
    type Tag = (usize, Uuid);

    fn next(&self) -> anyhow::Result<Option<Task<Self::Tag>>> {
        let Recorded {
            rig, turn, task, ..
        } = self.0;
        let (number, seat) = rig.seat(turn.replace(turn.get() + 1))?;
        let id = Uuid::new_v4();
        let path = format!("/workspaces/{}/delegations/record", seat.id);
        Ok(Some(Task {
            call: Call::post(path, &seat.token, format!("{task}{id}\"}}"))?,
            tag: (number, id),
        }))
    }

    fn answered(&self, tag: Self::Tag, _begun: Instant, answer: Option<&Answer>) {
        if answer.is_some_and(Answer::is_success) {
            self.0.live.borrow_mut().push_back(tag);
        }
    }
}

pub(super) struct Updates<'a>(pub(super) &'a Recorded);

impl Source for Updates<'_> {
    type Tag = (usize, Uuid);

    fn next(&self) -> anyhow::Result<Option<Task<Self::Tag>>> {
        let Some((number, id)) = self.0.live.borrow_mut().pop_front() else {
            return Ok(None);
        };
        let (_, seat) = self.0.rig.seat(number)?;
        let path = format!("/workspaces/{}/delegations/{id}/update", seat.id);
        Ok(Some(Task {
            call: Call::post(path, &seat.token, self.0.ending.clone())?,
            tag: (number, id),
        }))
    }

    fn answered(&self, (seat, id): Self::Tag, begun: Instant, answer: Option<&Answer>) {
        self.0.rig.enter(seat, answer);
        self.0.taken.set(self.0.taken.get() + 1);
        if let Some(sight) = &self.0.sight
            && answer.is_some_and(Answer::is_success)
        {
            sight.begun(id, begun);
        }
    }
}
