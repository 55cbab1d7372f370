//! Recorded and broadcast events as one stream without a gap and without a repetition.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{EventHub, Message, Notice, Subscription, Topic};
use crate::domain::{Json, Position, Timestamp, WorkspaceId};
use crate::store::{Error, EventView, Store};

/// How many recorded events are read at once while catching up.
const PAGE: usize = 256;

/// An event to show.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its place, when recorded.
    pub position: Option<Position>,
    /// What happened.
    pub name: Cow<'static, str>,
    /// To whom it is shown.
    pub workspace: Option<WorkspaceId>,
    /// The particulars.
    pub payload: Option<Json>,
    /// When.
    pub at: Timestamp,
}

/// What comes next.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Event(Shown),
    /// The listener was too slow: events that were not recorded are lost, recorded ones follow from the store.
    Lagged,
}

/// The end of the event log, from a place on. Cancelling [`Tail::next`] loses nothing.
#[derive(Debug)]
pub(crate) struct Tail {
    store: Store,
    subscription: Subscription,
    scope: Option<WorkspaceId>,
    /// Everything recorded up to here was told.
    told: Position,
    /// Read from the store, not yet told.
    backlog: VecDeque<EventView>,
    catching_up: bool,
}

impl Tail {
    /// Follows one workspace, or all with `None`, from after `after`, or from now on.
    pub(crate) async fn follow(
        store: &Store,
        hub: &EventHub,
        scope: Option<WorkspaceId>,
        after: Option<Position>,
    ) -> Result<Self, Error> {
        // The place comes before the subscription: what is committed between the two is read from the store.
        let told = match after {
            Some(place) => place,
            None => store.read(|reader| reader.last_position()).await?,
        };
        Ok(Self {
            store: store.clone(),
            subscription: hub.subscribe(Topic::Events, scope),
            scope,
            told,
            backlog: VecDeque::new(),
            catching_up: true,
        })
    }

    /// Everything recorded up to here was told.
    pub(crate) const fn told(&self) -> Position {
        self.told
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Told, Error> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.told = self.told.max(event.position);
                return Ok(Told::Event(event.into()));
            }
            if self.catching_up {
                self.read_on().await?;
                continue;
            }
            match self.subscription.next().await {
                Notice::Lagged => {
                    self.catching_up = true;
                    return Ok(Told::Lagged);
                }
                Notice::Grown => self.catching_up = true,
                Notice::Message(message) => {
                    if let Some(shown) = self.fresh(&message) {
                        return Ok(Told::Event(shown));
                    }
                }
            }
        }
    }

    async fn read_on(&mut self) -> Result<(), Error> {
        let (scope, told) = (self.scope, self.told);
        let page = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let read = self
            .store
            .read(move |reader| reader.events_after(scope, told, page));
        let events = read.await?;
        self.catching_up = events.len() >= PAGE;
        self.backlog = events.into();
        Ok(())
    }

    /// The event of a message, unless it was told already, or is to be read from the store in its turn.
    fn fresh(&mut self, message: &Message) -> Option<Shown> {
        let Message::Event {
            place,
            name,
            workspace,
            payload,
            at,
        } = message
        else {
            return None;
        };
        if let Some(place) = place {
            if place.position <= self.told {
                return None;
            }
            if self.told < place.unbroken_since {
                // What another node may have recorded before it comes first.
                self.catching_up = true;
                return None;
            }
            self.told = place.position;
        }
        Some(Shown {
            position: place.map(|place| place.position),
            name: name.as_str().into(),
            workspace: Some(*workspace),
            payload: Some(payload.clone()),
            at: *at,
        })
    }
}

impl From<EventView> for Shown {
    fn from(event: EventView) -> Self {
        Self {
            position: Some(event.position),
            name: event.name.into(),
            workspace: event.workspace,
            payload: event.payload,
            at: event.created_at,
        }
    }
}
