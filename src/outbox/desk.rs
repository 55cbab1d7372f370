//! From the event log to the receivers of this node. One task follows each workspace that has any, and lays each event on
//! the desks of those whom it concerns; a desk with anything on it is attended to by a task of its own.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{AGAIN, Inner, OF_ONE_WORKSPACE};
use crate::domain::{DelegationId, EventName, Position, Receiver, ReceiverId, WorkspaceId};
use crate::events::{Shown, Tail, Told};

/// How many events lie on one desk; those that find no room are read from the log when the desk is empty.
const ON_DESK: usize = 64;

/// What has to be known of a receiver to hand events out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) id: ReceiverId,
    pub(super) workspace: WorkspaceId,
    pub(super) delegation: Option<DelegationId>,
    position: Position,
}

impl Head {
    pub(super) fn of(receiver: &Receiver) -> Self {
        Self {
            id: receiver.id,
            workspace: receiver.workspace,
            delegation: receiver.delegation.clone(),
            position: receiver.course.position,
        }
    }

    /// Another one beside it.
    pub(super) fn named(self, id: ReceiverId) -> Self {
        Self { id, ..self }
    }

    /// Whether it is to be told of this event.
    pub(super) fn is_told_of(&self, event: &Shown) -> bool {
        match &self.delegation {
            None => EventName::is_ending(&event.name),
            Some(id) => about(event).as_ref() == Some(id),
        }
    }
}

/// The delegation that an event tells of.
pub(super) fn about(event: &Shown) -> Option<DelegationId> {
    #[derive(Deserialize)]
    struct About<'a> {
        #[serde(borrow)]
        delegation_id: Cow<'a, str>,
    }
    let payload = event.payload.as_ref()?;
    let about: About<'_> = serde_json::from_str(&payload.0).ok()?;
    Some(DelegationId::from_text(&about.delegation_id))
}

/// Whoever is told by this node.
#[derive(Default)]
pub(super) struct Desks(Mutex<HashMap<WorkspaceId, Followed>>);

/// A workspace that is followed for its receivers: of each delegation, and under `None` of all endings.
struct Followed {
    desks: HashMap<Option<DelegationId>, Vec<Arc<Desk>>>,
    /// Its share of the places to tell somebody.
    places: Arc<Semaphore>,
    follower: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// What one receiver is to be told.
pub(super) struct Desk {
    head: Head,
    /// Its workspace's.
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Shown>>,
    /// More is in the log than lies here.
    is_behind: bool,
    is_attended: bool,
    /// Its receiver was deleted or replaced: after what is under way, nothing more is told.
    is_shut: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Lays an event down.
    fn push(self: &Arc<Self>, event: &Arc<Shown>) -> Option<Attended> {
        let mut waiting = lock(&self.waiting);
        if waiting.events.len() >= ON_DESK {
            waiting.is_behind = true;
        }
        if !waiting.is_behind {
            waiting.events.push_back(Arc::clone(event));
        }
        self.attended(&mut waiting)
    }

    /// Sees to it that the log is looked at.
    fn fall_behind(self: &Arc<Self>) -> Option<Attended> {
        let mut waiting = lock(&self.waiting);
        waiting.is_behind = true;
        self.attended(&mut waiting)
    }

    fn shut(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.is_shut = true;
        waiting.events.clear();
    }

    fn attended(self: &Arc<Self>, waiting: &mut Waiting) -> Option<Attended> {
        let alone = !std::mem::replace(&mut waiting.is_attended, true);
        alone.then(|| Attended {
            desk: Arc::clone(self),
            is_over: false,
        })
    }
}

/// The right to attend to a desk. Whoever loses it without a word leaves the desk to be looked at anew.
pub(super) struct Attended {
    desk: Arc<Desk>,
    is_over: bool,
}

impl Drop for Attended {
    fn drop(&mut self) {
        if !self.is_over {
            self.fall_behind();
            lock(&self.desk.waiting).is_attended = false;
        }
    }
}

impl Attended {
    pub(super) fn head(&self) -> &Head {
        &self.desk.head
    }

    /// Its workspace's places to tell somebody.
    pub(super) fn places(&self) -> &Semaphore {
        &self.desk.places
    }

    /// Whether its receiver is to be told no more.
    pub(super) fn is_shut(&self) -> bool {
        lock(&self.desk.waiting).is_shut
    }

    /// The next event on the desk.
    pub(super) fn next(&self) -> Option<Arc<Shown>> {
        lock(&self.desk.waiting).events.pop_front()
    }

    /// Whether the log is to be read on, now that the desk is empty: what is recorded from now on is laid down again.
    pub(super) fn catches_up(&self) -> bool {
        std::mem::take(&mut lock(&self.desk.waiting).is_behind)
    }

    /// More is in the log than was read, or what was read is to be read once more.
    pub(super) fn fall_behind(&self) {
        let mut waiting = lock(&self.desk.waiting);
        waiting.is_behind = true;
        waiting.events.clear();
    }

    /// Gives the desk up, unless something was laid down meanwhile.
    pub(super) fn rest(mut self) -> Option<Self> {
        let mut waiting = lock(&self.desk.waiting);
        if !waiting.events.is_empty() || waiting.is_behind {
            drop(waiting);
            return Some(self);
        }
        waiting.is_attended = false;
        drop(waiting);
        self.is_over = true;
        None
    }
}

impl Desks {
    /// Nothing is laid down any more for this one, and nothing that lies there is told.
    pub(super) fn forget(&self, head: &Head) {
        let mut all = lock(&self.0);
        let Some(followed) = all.get_mut(&head.workspace) else {
            return;
        };
        if let Some(desks) = followed.desks.get_mut(&head.delegation) {
            for desk in desks.extract_if(.., |desk| desk.head.id == head.id) {
                desk.shut();
            }
            if desks.is_empty() {
                followed.desks.remove(&head.delegation);
            }
        }
        if followed.desks.is_empty() {
            all.remove(&head.workspace);
        }
    }

    /// The same for all of a workspace.
    pub(super) fn forget_all(&self, workspace: WorkspaceId) {
        if let Some(followed) = lock(&self.0).remove(&workspace) {
            for desk in followed.desks.values().flatten() {
                desk.shut();
            }
        }
    }

    /// The desks of those whom an event concerns.
    fn concerned(&self, workspace: WorkspaceId, event: &Shown) -> Vec<Arc<Desk>> {
        let delegation = about(event);
        let all = lock(&self.0);
        let Some(followed) = all.get(&workspace) else {
            return Vec::new();
        };
        let of_one = delegation.and_then(|id| followed.desks.get(&Some(id)));
        let of_all = followed.desks.get(&None);
        let of_all = of_all.filter(|_| EventName::is_ending(&event.name));
        of_one
            .into_iter()
            .chain(of_all)
            .flatten()
            .cloned()
            .collect()
    }
}

impl Followed {
    fn has(&self, head: &Head) -> bool {
        let desks = self.desks.get(&head.delegation);
        desks.is_some_and(|desks| desks.iter().any(|desk| desk.head.id == head.id))
    }

    fn add(&mut self, head: Head) -> Arc<Desk> {
        let desk = Arc::new(Desk {
            waiting: Mutex::default(),
            places: Arc::clone(&self.places),
            head,
        });
        let beside = self.desks.entry(desk.head.delegation.clone());
        beside.or_default().push(Arc::clone(&desk));
        desk
    }
}

impl Inner {
    /// Tells these from now on, unless it does already. Those of a workspace that nobody followed yet share one way
    /// through the log; who comes later looks for what it missed by itself.
    pub(super) fn take_on(self: &Arc<Self>, heads: Vec<Head>) {
        let mut by_workspace: HashMap<WorkspaceId, Vec<Head>> = HashMap::new();
        for head in heads {
            by_workspace.entry(head.workspace).or_default().push(head);
        }
        for (workspace, mut heads) in by_workspace {
            let mut all = lock(&self.desks.0);
            if let Some(followed) = all.get_mut(&workspace) {
                heads.retain(|head| !followed.has(head));
                for head in heads {
                    self.start(followed.add(head).fall_behind());
                }
                continue;
            }
            let places = heads.iter().map(|head| head.position);
            let after = places.min().unwrap_or_default();
            let following = Arc::clone(self).follow(workspace, after);
            let mut followed = Followed {
                desks: HashMap::new(),
                places: Arc::new(Semaphore::new(OF_ONE_WORKSPACE)),
                follower: self.runtime.spawn(following),
            };
            for head in heads {
                followed.add(head);
            }
            all.insert(workspace, followed);
        }
    }

    fn start(self: &Arc<Self>, attended: Option<Attended>) {
        if let Some(attended) = attended {
            self.runtime.spawn(Arc::clone(self).attend(attended));
        }
    }

    /// Hands out the events of a workspace that come after this place.
    async fn follow(self: Arc<Self>, workspace: WorkspaceId, mut after: Position) {
        loop {
            let (store, hub) = (&self.settings.store, &self.settings.hub);
            if let Ok(mut tail) = Tail::follow(store, hub, Some(workspace), Some(after)).await {
                while let Ok(told) = tail.next().await {
                    if let Told::Event(event) = told
                        && event.position.is_some()
                    {
                        let event = Arc::new(event);
                        for desk in self.desks.concerned(workspace, &event) {
                            self.start(desk.push(&event));
                        }
                    }
                    after = tail.told();
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Timestamp};

    fn desk() -> Arc<Desk> {
        let head = Head {
            id: ReceiverId::mint(),
            workspace: WorkspaceId::mint(),
            delegation: None,
            position: Position(0),
        };
        Arc::new(Desk {
            head,
            places: Arc::new(Semaphore::new(1)),
            waiting: Mutex::default(),
        })
    }

    fn event(name: &'static str, payload: &str) -> Arc<Shown> {
        Arc::new(Shown {
            position: Some(Position(1)),
            name: name.into(),
            workspace: None,
            payload: Some(Json(payload.into())),
            at: Timestamp(0),
        })
    }

    #[test]
    fn a_desk_has_one_who_attends_and_is_left_only_when_nothing_lies_on_it() {
        let (desk, event) = (desk(), event("X", "{}"));
        let attended = desk.push(&event).unwrap();
        assert!(desk.push(&event).is_none(), "somebody attends already");
        assert!(attended.next().is_some());
        let attended = attended.rest().unwrap();
        assert!(attended.next().is_some() && attended.next().is_none());
        assert!(!attended.catches_up());
        assert!(attended.rest().is_none());
        // Whoever breaks off leaves it to be looked at.
        drop(desk.push(&event).unwrap());
        let attended = desk.push(&event).unwrap();
        assert!(attended.catches_up() && attended.next().is_none());
    }

    #[test]
    fn what_finds_no_room_is_read_from_the_log() {
        let (desk, event) = (desk(), event("X", "{}"));
        let attended = desk.push(&event).unwrap();
        (0..ON_DESK + 5).for_each(|_| drop(desk.push(&event)));
        let lay = std::iter::from_fn(|| attended.next()).count();
        assert_eq!(lay, ON_DESK);
        assert!(attended.catches_up());
        assert!(desk.push(&event).is_none());
        assert!(attended.next().is_some(), "laid down again");
    }

    #[test]
    fn an_event_names_its_delegation_and_endings_concern_the_workspace() {
        let told = event(
            "DELEGATION_STATUS",
            r#"{"delegation_id":"a\"b","status":"x"}"#,
        );
        assert_eq!(about(&told), Some(DelegationId::from_text("a\"b")));
        for payload in ["{}", "null", "[1]", r#"{"delegation_id":1}"#] {
            assert_eq!(about(&event("X", payload)), None);
        }
        let mut head = desk().head.clone();
        assert!(!head.is_told_of(&told));
        assert!(head.is_told_of(&event("DELEGATION_FAILED", "{}")));
        head.delegation = Some(DelegationId::from_text("a\"b"));
        assert!(head.is_told_of(&told) && !head.is_told_of(&event("DELEGATION_FAILED", "{}")));
    }
}
