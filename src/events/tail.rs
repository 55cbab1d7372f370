//! Recorded and broadcast events as one stream without a gap and without a repetition.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{EventHub, Message, Notice, Subscription, Topic};
use crate::domain::{ActivityType, Json, Position, Timestamp, WorkspaceId};
use crate::store::{ActivityFilter, ActivityView, Error, EventView, Reader, Store};

/// How many recorded events are read at once while catching up.
const PAGE: usize = 256;
/// What a message in the inbox is called among events.
const INBOX_MESSAGE: &str = "INBOX_MESSAGE";

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
pub(crate) struct Tail {
    store: Store,
    subscription: Subscription,
    scope: Option<WorkspaceId>,
    /// Whose inbox is told, too.
    inbox: Option<Inbox>,
    /// Everything recorded up to here was told.
    told: Position,
    /// Read from the store, not yet told.
    backlog: VecDeque<Shown>,
    /// With the backlog everything is told up to here.
    read: Position,
    catching_up: bool,
}

/// What a message is to its reader.
pub(crate) type ShowMessage = Box<dyn Fn(&ActivityView) -> Json + Send + Sync>;

/// An inbox, and how its messages are shown.
struct Inbox {
    workspace: WorkspaceId,
    show: ShowMessage,
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
            inbox: None,
            told,
            backlog: VecDeque::new(),
            read: told,
            catching_up: true,
        })
    }

    /// From the same place on, with the messages in a workspace's inbox, each at its own place: so a reader may come from
    /// a poll, and go back to one.
    pub(crate) fn with_messages(
        mut self,
        hub: &EventHub,
        workspace: WorkspaceId,
        show: ShowMessage,
    ) -> Self {
        let feed = (Topic::Feed, Some(workspace));
        self.subscription = hub.subscribe_to(vec![(Topic::Events, self.scope), feed]);
        self.inbox = Some(Inbox { workspace, show });
        self
    }

    /// Everything recorded up to here was told.
    pub(crate) const fn told(&self) -> Position {
        self.told
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Told, Error> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.told = event.position.unwrap_or(self.told).max(self.told);
                return Ok(Told::Event(event));
            }
            self.told = self.told.max(self.read);
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
        let own = self.inbox.as_ref().map(|inbox| inbox.workspace);
        let read = self
            .store
            .read(move |reader| Portion::read(reader, scope, own, told));
        let portion = read.await?;
        self.read = portion.upto;
        self.catching_up = portion.more;
        self.backlog = portion.in_order(self.inbox.as_ref().map(|inbox| &inbox.show));
        Ok(())
    }

    /// The event of a message, unless it was told already, or is to be read from the store in its turn.
    fn fresh(&mut self, message: &Message) -> Option<Shown> {
        let (place, name, workspace, payload, at) = match message {
            Message::Event {
                place,
                name,
                workspace,
                payload,
                at,
            } => (place, name, workspace, payload, at),
            Message::Feed {
                position,
                activity_type,
                ..
            } => {
                let is_message = *activity_type == ActivityType::A2aReceive;
                self.catching_up |= is_message && *position > self.told;
                return None;
            }
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

/// What was recorded after a place, up to another.
struct Portion {
    events: Vec<EventView>,
    messages: Vec<ActivityView>,
    upto: Position,
    /// Whether there is more to be read.
    more: bool,
}

impl Portion {
    fn read(
        reader: &mut dyn Reader,
        scope: Option<WorkspaceId>,
        own: Option<WorkspaceId>,
        told: Position,
    ) -> Result<Self, Error> {
        let page = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let Some(own) = own else {
            let events = reader.events_after(scope, told, page)?;
            let newest = events.last().map_or(told, |event| event.position);
            return Ok(Self::of(events, Vec::new(), newest));
        };
        // What is committed from here on is left for the next time: one of the two reads might miss it.
        let newest = reader.last_position()?;
        let messages = ActivityFilter::messages_after(own, told, page);
        let messages = reader.activity(&messages)?;
        let events = reader.events_after(scope, told, page)?;
        Ok(Self::of(events, messages, newest))
    }

    /// Of these only what lies before the end of a page that is full.
    fn of(mut events: Vec<EventView>, mut messages: Vec<ActivityView>, newest: Position) -> Self {
        let ends = [
            events.get(PAGE - 1).map(|event| event.position),
            messages.get(PAGE - 1).map(|row| row.position),
        ];
        let end = ends.into_iter().flatten().min();
        let upto = end.map_or(newest, |end| end.min(newest));
        events.retain(|event| event.position <= upto);
        messages.retain(|row| row.position <= upto);
        Self {
            events,
            messages,
            upto,
            more: end.is_some(),
        }
    }

    fn in_order(self, show: Option<&ShowMessage>) -> VecDeque<Shown> {
        let shown = |message: &ActivityView| Shown {
            position: Some(message.position),
            name: INBOX_MESSAGE.into(),
            workspace: Some(message.workspace),
            payload: show.map(|show| show(message)),
            at: message.created_at,
        };
        let mut all: Vec<Shown> = self.events.into_iter().map(Shown::from).collect();
        all.extend(self.messages.iter().map(shown));
        all.sort_by_key(|shown| shown.position);
        all.into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ActivityId, EventId};

    fn event(place: i64) -> EventView {
        EventView {
            position: Position(place),
            id: EventId::of(Position(place), Timestamp(0)),
            name: "DELEGATION_COMPLETE".to_owned(),
            workspace: None,
            payload: None,
            created_at: Timestamp(0),
        }
    }

    fn message(place: i64) -> ActivityView {
        ActivityView {
            position: Position(place),
            id: ActivityId::mint(),
            workspace: WorkspaceId::mint(),
            activity_type: "a2a_receive".to_owned(),
            source: None,
            target: None,
            method: None,
            summary: None,
            request_body: None,
            response_body: None,
            tool_trace: None,
            duration_ms: None,
            status: "ok".to_owned(),
            error_detail: None,
            created_at: Timestamp(0),
            unfetched: None,
        }
    }

    fn portion(events: &[i64], messages: &[i64], newest: i64) -> (Vec<i64>, i64, bool) {
        let events = events.iter().map(|place| event(*place)).collect();
        let messages = messages.iter().map(|place| message(*place)).collect();
        let portion = Portion::of(events, messages, Position(newest));
        let (upto, more) = (portion.upto.0, portion.more);
        let shown = portion.in_order(None).into_iter();
        let places = shown.filter_map(|shown| Some(shown.position?.0)).collect();
        (places, upto, more)
    }

    #[test]
    fn events_and_messages_come_in_one_order_up_to_where_both_are_known() {
        let mixed = portion(&[3, 6, 9], &[2, 5, 8], 10);
        assert_eq!(mixed, (vec![2, 3, 5, 6, 8, 9], 10, false));
        let ahead = portion(&[3, 6, 12], &[2, 5, 11], 10);
        assert_eq!(ahead, (vec![2, 3, 5, 6], 10, false), "committed meanwhile");
        let full: Vec<i64> = (1..).step_by(2).take(PAGE).collect();
        let end = *full.last().unwrap();
        let (places, upto, more) = portion(&full, &[2, end + 1], end + 9);
        assert_eq!((places.len(), upto, more), (PAGE + 1, end, true));
        let (places, upto, more) = portion(&[2, end + 1], &full, 7);
        assert_eq!((places, upto, more), (vec![1, 2, 3, 5, 7], 7, true));
    }
}
