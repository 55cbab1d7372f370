//! What of a delegation was delivered to whom: the task to its target, the outcome to whoever wants to know it.

use serde::Serialize;
use serde_json::Value;

use crate::domain::{
    ActivityType, DelegationKey, DeliveryMode, Ended, Ending, ErrorClass, Position, Receiver,
    ReceiverState, State, Status, Timestamp, Workspace,
};
use crate::http::answer::{text, time};
use crate::store::{self, DelegationView, Reader, ReplyState, ToldOf};

/// What is known of who was told.
pub(super) struct Told {
    of: Option<ToldOf>,
    acknowledged: Position,
    /// Webhooks of the caller, then receivers of this delegation.
    receivers: [Vec<Receiver>; 2],
}

impl Told {
    pub(super) fn read(reader: &mut dyn Reader, key: &DelegationKey) -> Result<Self, store::Error> {
        Ok(Self {
            of: reader.told_of(key)?,
            acknowledged: reader.acknowledged(key.caller)?,
            receivers: [
                reader.receivers_of(key.caller, None)?,
                reader.receivers_of(key.caller, Some(&key.id))?,
            ],
        })
    }

    /// The place that everything of the ending comes after: its result row comes first, its event last.
    fn ending(&self) -> Option<Position> {
        let (place, _) = self.of.as_ref()?.row(ActivityType::Delegation)?;
        Some(place)
    }
}

/// To whom, and how that stands.
#[derive(Serialize, Debug)]
pub(super) struct Delivery {
    to: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

const DELIVERED: &str = "delivered";
const OWED: &str = "owed";
const WAITING: &str = "waiting";
const DEAD: &str = "dead";
const NONE: &str = "none";

impl From<Delivery> for Value {
    fn from(delivery: Delivery) -> Self {
        serde_json::to_value(delivery).unwrap_or_default()
    }
}

impl Delivery {
    const fn new(to: &'static str, state: &'static str) -> Self {
        Self {
            to,
            state,
            workspace_id: None,
            name: None,
            address: None,
            at: None,
            acknowledged: None,
            attempts: None,
            last_error: None,
        }
    }

    /// Whether it is the one of the task.
    pub(super) fn is_to_target(&self) -> bool {
        self.to == "target"
    }
}

/// The task first, then the outcome. `near` is whether whoever looks may communicate with the target.
pub(super) fn deliveries(
    view: &DelegationView,
    caller: Option<&Workspace>,
    target: Option<&Workspace>,
    near: bool,
    told: &Told,
    push: bool,
) -> Vec<Delivery> {
    let mut task = to_target(view, target);
    task.address = task.address.filter(|_| near);
    let mut all = vec![task, to_inbox(view, caller, told, push)];
    let [webhooks, receivers] = &told.receivers;
    let ended = match &view.loaded.life.state {
        State::Ended(ended) => Some(ended.at),
        _ => None,
    };
    for (to, some) in [("webhook", webhooks), ("push", receivers)] {
        let some = some.iter().filter(|one| !is_too_late(one, view));
        all.extend(some.map(|one| to_receiver(to, one, ended, told.ending())));
    }
    all
}

/// One that was made after the end is told of others.
fn is_too_late(receiver: &Receiver, view: &DelegationView) -> bool {
    match &view.loaded.life.state {
        State::Ended(ended) => receiver.delegation.is_none() && receiver.created_at > ended.at,
        _ => false,
    }
}

fn to_target(view: &DelegationView, target: Option<&Workspace>) -> Delivery {
    let (life, terms) = (&view.loaded.life, &view.loaded.terms);
    let reached = reached_at(view);
    let state = match (reached, terms.target) {
        (Some(_), _) => DELIVERED,
        (None, Some(_)) if !life.status().is_terminal() => WAITING,
        (None, _) => NONE,
    };
    let address = target.filter(|target| target.delivery_mode == DeliveryMode::Push);
    Delivery {
        workspace_id: text(terms.target),
        name: target.map(|target| target.name.clone()),
        address: address
            .and_then(|target| target.url.as_deref())
            .and_then(origin),
        at: time(reached),
        attempts: Some(life.attempt.0),
        ..Delivery::new("target", state)
    }
}

/// When the target first showed that it has the task: it took it, asked, or answered in whatever way.
fn reached_at(view: &DelegationView) -> Option<Timestamp> {
    let shows = [
        Status::Received,
        Status::InProgress,
        Status::InputRequired,
        Status::Completed,
    ];
    let mut steps = view.history.iter();
    let took = steps.find(|step| shows.iter().any(|status| status.as_str() == &*step.status));
    if let Some(step) = took {
        return Some(Timestamp(step.at));
    }
    match &view.loaded.life.state {
        State::Ended(ended) if is_answer(ended) => Some(ended.at),
        _ => None,
    }
}

/// Whether the target itself ended it.
fn is_answer(ended: &Ended) -> bool {
    match &ended.ending {
        Ending::Completed { .. } => true,
        Ending::Cancelled { .. } => false,
        Ending::Failed { class, .. } => match class {
            ErrorClass::Reported
            | ErrorClass::Refused
            | ErrorClass::Rejected
            | ErrorClass::CancelledByTarget
            | ErrorClass::Truncated
            | ErrorClass::EmptyResponse
            | ErrorClass::MalformedResponse
            | ErrorClass::ForeignResponse
            | ErrorClass::ReplyTooLarge => true,
            ErrorClass::OutcomeUnknown
            | ErrorClass::BlockedAddress
            | ErrorClass::TargetRemoved
            | ErrorClass::Exhausted
            | ErrorClass::Dropped
            | ErrorClass::Deadline
            | ErrorClass::Internal => false,
        },
    }
}

fn to_inbox(
    view: &DelegationView,
    caller: Option<&Workspace>,
    told: &Told,
    push: bool,
) -> Delivery {
    let row = told
        .of
        .as_ref()
        .and_then(|of| of.row(ActivityType::A2aReceive));
    let state = match told.of.as_ref().map(|of| of.reply) {
        Some(ReplyState::Written) => DELIVERED,
        Some(ReplyState::Owed) => OWED,
        Some(ReplyState::None) | None if push && !view.loaded.life.status().is_terminal() => {
            WAITING
        }
        Some(ReplyState::None) | None => NONE,
    };
    Delivery {
        workspace_id: Some(view.loaded.terms.key.caller.to_string()),
        name: caller.map(|caller| caller.name.clone()),
        at: time(row.map(|(_, at)| at)),
        acknowledged: row.map(|(place, _)| place <= told.acknowledged),
        ..Delivery::new("inbox", state)
    }
}

/// Whether a receiver was told of the ending: it was told of what comes after its first row. An ending whose rows were
/// pruned was long ago: it was told unless it could not be since then.
fn to_receiver(
    to: &'static str,
    receiver: &Receiver,
    ended: Option<Timestamp>,
    ending: Option<Position>,
) -> Delivery {
    let course = &receiver.course;
    let failed_then = course
        .failing_since
        .is_some_and(|since| ended.is_some_and(|ended| since <= ended));
    let is_past = match (ending, course.state) {
        (Some(place), _) => course.position > place,
        (None, ReceiverState::Dead) => false,
        (None, _) => !failed_then,
    };
    let state = match course.state {
        ReceiverState::Done => DELIVERED,
        _ if ended.is_some() && is_past => DELIVERED,
        ReceiverState::Dead => DEAD,
        ReceiverState::Live if ended.is_some() => OWED,
        ReceiverState::Live => WAITING,
    };
    Delivery {
        workspace_id: Some(receiver.workspace.to_string()),
        address: Some(bare(&receiver.url)),
        attempts: Some(course.failures).filter(|failures| *failures > 0),
        last_error: course.last_error.as_deref().map(ToOwned::to_owned),
        ..Delivery::new(to, state)
    }
}

/// Where an address leads, and nothing of what is asked there.
fn origin(address: &str) -> Option<String> {
    let origin = url::Url::parse(address).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// An address without what may be a secret in it.
fn bare(address: &str) -> String {
    let Ok(mut url) = url::Url::parse(address) else {
        return String::new();
    };
    url.set_query(None);
    url.set_fragment(None);
    // What has no host has no name or password either.
    let _unnamed = url.set_username("").and_then(|()| url.set_password(None));
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Course, NodeId, ReceiverId, WorkspaceId};

    fn receiver(course: Course) -> Receiver {
        Receiver {
            id: ReceiverId::mint(),
            workspace: WorkspaceId::mint(),
            delegation: None,
            config: "one".into(),
            url: "https://host/".into(),
            scheme: None,
            old_form: false,
            sealed: None,
            course,
            node: NodeId::mint(),
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn a_receiver_was_told_of_what_comes_before_its_place() {
        let (live, dead) = (ReceiverState::Live, ReceiverState::Dead);
        let (ended, place) = (Some(Timestamp(100)), Some(Position(7)));
        for (state, position, since, ended, ending, shown) in [
            (live, 9, None, None, None, WAITING),
            (dead, 9, Some(50), None, None, DEAD),
            (live, 9, None, ended, place, DELIVERED),
            (live, 7, None, ended, place, OWED),
            (dead, 9, Some(150), ended, place, DELIVERED),
            (dead, 7, Some(150), ended, place, DEAD),
            // Its rows were pruned.
            (live, 9, None, ended, None, DELIVERED),
            (live, 9, Some(150), ended, None, DELIVERED),
            (live, 9, Some(50), ended, None, OWED),
            (dead, 9, Some(150), ended, None, DEAD),
            (ReceiverState::Done, 0, None, ended, None, DELIVERED),
        ] {
            let receiver = receiver(Course {
                state,
                failing_since: since.map(Timestamp),
                ..Course::from(Position(position))
            });
            let told = to_receiver("webhook", &receiver, ended, ending);
            assert_eq!(told.state, shown, "{receiver:?} {ended:?} {ending:?}");
        }
    }

    #[test]
    fn an_address_shows_no_secret() {
        let shown = bare("https://name:word@host/path?token=secret#part");
        assert_eq!(shown, "https://host/path");
        assert_eq!(bare("no address"), "");
        let shown = origin("https://name:word@host:8443/path?token=secret");
        assert_eq!(shown.as_deref(), Some("https://host:8443"));
        assert_eq!(origin("no address"), None);
    }
}
