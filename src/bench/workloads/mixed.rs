//! Everything at once.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;
use uuid::Uuid;

use super::recorded::{Recorded, Records, Updates};
use super::{Asking, Delegating};
use crate::bench::http::Answer;
use crate::bench::load::{Source, Task};
use crate::bench::rig::Rig;
use crate::bench::sight::Sight;

/// What an organisation of agents does all day.
pub(in crate::bench) struct Mixed {
    pub(super) delegating: Delegating,
    pub(super) recorded: Recorded,
    inboxes: Asking,
    lists: Asking,
    turn: Cell<usize>,
}

/// Whose answer it is.
pub(in crate::bench) enum MixedTag {
    Delegated(usize),
    Recorded((usize, Uuid)),
    Ended((usize, Uuid)),
    Asked,
}

impl Mixed {
    pub(super) async fn new(
        rig: &Rc<Rig>,
        sight: &Rc<Sight>,
        answers: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            delegating: Delegating::new(Rc::clone(rig), Rc::clone(sight), answers),
            recorded: Recorded::new(Rc::clone(rig), None),
            inboxes: Asking::of_inboxes(Rc::clone(rig)).await?,
            lists: Asking::of_lists(rig)?,
            turn: Cell::new(0),
        })
    }
}

impl Source for Mixed {
    type Tag = MixedTag;

    fn next(&self) -> anyhow::Result<Option<Task<MixedTag>>> {
        let turn = self.turn.replace(self.turn.get() + 1);
        let task = match turn % 10 {
            0 | 2 | 4 | 6 => tagged(self.delegating.next()?, MixedTag::Delegated),
            1 | 3 | 5 => tagged(self.inboxes.next()?, |()| MixedTag::Asked),
            7 => tagged(Records(&self.recorded).next()?, MixedTag::Recorded),
            8 => tagged(Updates(&self.recorded).next()?, MixedTag::Ended),
            _ => None,
        };
        // Nothing may have been recorded yet that could end.
        match task {
            Some(task) => Ok(Some(task)),
            None => Ok(tagged(self.lists.next()?, |()| MixedTag::Asked)),
        }
    }

    fn answered(&self, tag: MixedTag, begun: Instant, answer: Option<&Answer>) {
        match tag {
            MixedTag::Delegated(seat) => self.delegating.answered(seat, begun, answer),
            MixedTag::Recorded(tag) => Records(&self.recorded).answered(tag, begun, answer),
            MixedTag::Ended(tag) => Updates(&self.recorded).answered(tag, begun, answer),
            MixedTag::Asked => {}
        }
    }
}

fn tagged<T, U>(task: Option<Task<T>>, tag: impl Fn(T) -> U) -> Option<Task<U>> {
    task.map(|task| Task {
        call: task.call,
        tag: tag(task.tag),
    })
}
