//! The event hub: every listener has a bounded queue; a slow one is told that it lagged and is never waited for.

mod tail;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::domain::{ActivityType, EventName, Json, Position, Timestamp, WorkspaceId};

pub use tail::Shown;
pub(crate) use tail::{ShowMessage, Tail, Told};

/// How many messages wait for one listener before it lags (contract §12.3).
pub const LISTENER_QUEUE: usize = 256;

/// Where a recorded event is, as the node knows that recorded it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its place.
    pub position: Position,
    /// From this place up to its own no other node recorded anything. Whoever was told less must read the store first,
    /// or it would miss what another node recorded in between.
    pub unbroken_since: Position,
}

/// What listeners are told.
#[derive(Clone, Debug)]
pub enum Message {
    /// An event; without a position it is shown once and not recorded (contract §12.1 "broadcast-only").
    Event {
        /// Its place, when recorded.
        place: Option<Place>,
        /// What happened.
        name: EventName,
        /// To whom it is shown.
        workspace: WorkspaceId,
        /// The particulars.
        payload: Json,
        /// When.
        at: Timestamp,
    },
    /// A feed grew; for readers that wait.
    Feed {
        /// The place of the new row.
        position: Position,
        /// Whose feed.
        workspace: WorkspaceId,
        /// What the row is.
        activity_type: ActivityType,
    },
}

impl Message {
    /// Whom it concerns.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Event { workspace, .. } | Self::Feed { workspace, .. } => *workspace,
        }
    }

    const fn topic(&self) -> Topic {
        match self {
            Self::Event { .. } => Topic::Events,
            Self::Feed { .. } => Topic::Feed,
        }
    }
}

/// What a listener listens for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// [`Message::Event`].
    Events,
    /// [`Message::Feed`].
    Feed,
}

/// What a listener gets next.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A message.
    Message(Arc<Message>),
    /// Messages were dropped since the last notice: read the store from the last known position.
    Lagged,
    /// Another node may have recorded something: read the store from the last known position. Nothing was dropped.
    Grown,
}

/// The queue between the hub and one listener.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    /// Once a message was dropped, so are all later ones until the listener has been told: no message overtakes the gap.
    lagged: bool,
    /// Another node may have recorded something.
    grown: bool,
}

impl Queue {
    fn push(&self, message: &Arc<Message>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lagged || waiting.messages.len() >= LISTENER_QUEUE {
            waiting.lagged = true;
            metrics::counter!("baton_listener_dropped_total").increment(1);
        } else {
            waiting.messages.push_back(Arc::clone(message));
        }
        drop(waiting);
        self.woken.notify_one();
    }

    fn lag(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.lagged = true;
        drop(waiting);
        self.woken.notify_one();
    }

    fn grow(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.grown = true;
        drop(waiting);
        self.woken.notify_one();
    }

    fn pop(&self) -> Option<Notice> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = waiting.messages.pop_front() {
            return Some(Notice::Message(message));
        }
        if std::mem::take(&mut waiting.lagged) {
            return Some(Notice::Lagged);
        }
        std::mem::take(&mut waiting.grown).then_some(Notice::Grown)
    }
}

/// Hands messages to listeners. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EventHub {
    inner: Arc<Hub>,
}

/// What is followed, of one workspace, or of all with `None`.
pub type Scope = (Topic, Option<WorkspaceId>);

#[derive(Debug, Default)]
struct Hub {
    /// Those that follow one workspace, and under `None` those that follow all.
    listeners: DashMap<Scope, Vec<(u64, Arc<Queue>)>>,
    next_id: AtomicU64,
    count: AtomicUsize,
}

impl EventHub {
    /// Follows one workspace, or all with `None`, from now on.
    #[must_use]
    pub fn subscribe(&self, topic: Topic, workspace: Option<WorkspaceId>) -> Subscription {
        self.subscribe_to(vec![(topic, workspace)])
    }

    /// Follows several at once, through one queue: what comes of one keeps its order with what comes of the other.
    #[must_use]
    pub fn subscribe_to(&self, scopes: Vec<Scope>) -> Subscription {
        let queue = Arc::new(Queue::default());
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        for scope in &scopes {
            let mut listeners = self.inner.listeners.entry(*scope).or_default();
            listeners.push((id, Arc::clone(&queue)));
        }
        self.inner.count.fetch_add(1, Ordering::Relaxed);
        Subscription {
            hub: self.clone(),
            scopes,
            id,
            queue,
        }
    }

    /// Tells everyone whom it concerns. Never waits.
    pub fn publish(&self, message: Message) {
        if self.inner.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let (topic, workspace) = (message.topic(), message.workspace());
        let message = Arc::new(message);
        for scope in [Some(workspace), None] {
            let Some(listeners) = self.inner.listeners.get(&(topic, scope)) else {
                continue;
            };
            for (_, queue) in listeners.iter() {
                queue.push(&message);
            }
        }
    }

    /// Tells everyone to read the store from where they are: something may have been committed and never published.
    pub fn lag(&self) {
        for listeners in &self.inner.listeners {
            for (_, queue) in listeners.value() {
                queue.lag();
            }
        }
    }

    /// Tells those who follow these workspaces that another node may have recorded something for them.
    pub fn grown(&self, workspaces: &[WorkspaceId]) {
        for scope in workspaces.iter().copied().map(Some).chain([None]) {
            for topic in [Topic::Events, Topic::Feed] {
                if let Some(listeners) = self.inner.listeners.get(&(topic, scope)) {
                    listeners.iter().for_each(|(_, queue)| queue.grow());
                }
            }
        }
    }

    /// [`EventHub::grown`] for everyone.
    pub fn all_grown(&self) {
        for listeners in &self.inner.listeners {
            listeners.iter().for_each(|(_, queue)| queue.grow());
        }
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.inner.count.load(Ordering::Relaxed)
    }
}

/// One listener's end; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    hub: EventHub,
    scopes: Vec<Scope>,
    id: u64,
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next notice. A lag is told after what was queued before it, so that order is kept.
    pub async fn next(&mut self) -> Notice {
        loop {
            if let Some(notice) = self.queue.pop() {
                return notice;
            }
            self.queue.woken.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let inner = &self.hub.inner;
        for scope in &self.scopes {
            if let Some(mut listeners) = inner.listeners.get_mut(scope) {
                listeners.retain(|(id, _)| *id != self.id);
            }
            inner
                .listeners
                .remove_if(scope, |_, listeners| listeners.is_empty());
        }
        inner.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(workspace: WorkspaceId, place: i64) -> Message {
        Message::Feed {
            position: Position(place),
            workspace,
            activity_type: ActivityType::A2aReceive,
        }
    }

    fn place(notice: &Notice) -> Option<i64> {
        match notice {
            Notice::Message(message) => match &**message {
                Message::Feed { position, .. } => Some(position.0),
                Message::Event { .. } => None,
            },
            Notice::Lagged | Notice::Grown => None,
        }
    }

    #[actix::test]
    async fn a_listener_hears_its_own_workspace_and_one_that_follows_all_hears_everything() {
        let hub = EventHub::default();
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        let (mut own, mut all) = (
            hub.subscribe(Topic::Feed, Some(one)),
            hub.subscribe(Topic::Feed, None),
        );
        hub.publish(message(other, 1));
        hub.publish(message(one, 2));
        assert_eq!(place(&own.next().await), Some(2));
        assert_eq!(
            (place(&all.next().await), place(&all.next().await)),
            (Some(1), Some(2))
        );
        drop((own, all));
        assert_eq!(hub.listeners(), 0);
        assert!(hub.inner.listeners.is_empty());
    }

    #[actix::test]
    async fn what_is_followed_together_comes_in_one_order_and_is_left_together() {
        let hub = EventHub::default();
        let workspace = WorkspaceId::mint();
        let scopes = [(Topic::Events, None), (Topic::Feed, Some(workspace))];
        let mut both = hub.subscribe_to(scopes.to_vec());
        let event = |position| Message::Event {
            place: Some(Place {
                position: Position(position),
                unbroken_since: Position(0),
            }),
            name: EventName::DelegationComplete,
            workspace: WorkspaceId::mint(),
            payload: Json("{}".into()),
            at: Timestamp(0),
        };
        hub.publish(message(workspace, 1));
        hub.publish(event(2));
        hub.publish(message(WorkspaceId::mint(), 3));
        hub.publish(message(workspace, 4));
        assert_eq!(place(&both.next().await), Some(1));
        assert!(matches!(both.next().await, Notice::Message(_)));
        assert_eq!(place(&both.next().await), Some(4));
        drop(both);
        assert!(hub.inner.listeners.is_empty() && hub.listeners() == 0);
    }

    #[actix::test]
    async fn only_those_concerned_hear_that_another_node_recorded_something() {
        let hub = EventHub::default();
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        let mut concerned = [
            hub.subscribe(Topic::Feed, Some(one)),
            hub.subscribe(Topic::Feed, None),
        ];
        let mut unconcerned = hub.subscribe(Topic::Feed, Some(other));
        hub.grown(&[one]);
        hub.publish(message(other, 1));
        assert_eq!(place(&unconcerned.next().await), Some(1));
        assert_eq!(place(&concerned[1].next().await), Some(1), "in its turn");
        for listener in &mut concerned {
            assert!(matches!(listener.next().await, Notice::Grown));
        }
        hub.all_grown();
        assert!(matches!(unconcerned.next().await, Notice::Grown));
    }

    #[actix::test]
    async fn a_slow_listener_is_told_where_the_gap_is() {
        let hub = EventHub::default();
        let workspace = WorkspaceId::mint();
        let mut slow = hub.subscribe(Topic::Feed, Some(workspace));
        let queued = i64::try_from(LISTENER_QUEUE).unwrap();
        (0..queued + 5).for_each(|place| hub.publish(message(workspace, place)));
        for expected in 0..queued {
            assert_eq!(place(&slow.next().await), Some(expected));
        }
        assert!(matches!(slow.next().await, Notice::Lagged));
        hub.publish(message(workspace, 999));
        assert_eq!(place(&slow.next().await), Some(999));
    }
}
