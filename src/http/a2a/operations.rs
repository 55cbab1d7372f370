//! What a client may ask for, whichever binding it asks by (A2A §3.1).

use std::time::Duration;

use serde_json::{Value, json};

use super::call::Call;
use super::card;
use super::message::{Message, Wishes, history_length, must_be_taken};
use super::problem::{Kind, Problem, Trouble};
use super::push::Inline;
use super::stream::Following;
use super::task::{Extent, Seen, standings};
use crate::delegation::Applied;
use crate::domain::{Envelope, Event, Json, Position, Said, Status, Timestamp, sanitize};
use crate::http::delegations::hand_over;
use crate::http::error::ApiError;
use crate::http::extract::NO_WORKSPACE;
use crate::http::order::{Order, idempotency};
use crate::persistence::Errand;
use crate::store::{Acceptance, HandedFilter};

/// How many tasks a page of a list has.
const PAGE: i64 = 50;
/// The most that it may have.
const PAGE_MAX: i64 = 100;
/// After how many bytes of answers it ends before.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// When to come back if an id was taken.
const AGAIN: Duration = Duration::from_secs(1);

/// The operations of A2A 1.0 that Baton knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Send,
    SendStreaming,
    Get,
    List,
    Cancel,
    Subscribe,
    ExtendedCard,
}

/// What an operation came to, in the form of 1.0.
pub(super) enum Done {
    /// `SendMessageResponse`.
    Response(Value),
    Task(Value),
    Other(Value),
    Card(Value),
    Stream(Box<Following>),
}

/// Does what is asked for; `old`: by a client of 0.3. A subscription may go on `after` a place.
pub(super) async fn run(
    call: Call,
    operation: Operation,
    params: Value,
    old: bool,
    after: Option<Position>,
) -> Result<Done, Trouble> {
    match operation {
        Operation::Send => return Ok(Done::Response(send(&call, params, old).await?)),
        Operation::SendStreaming => return stream(call, params, old).await,
        _ => {}
    }
    let params = &params;
    Ok(match operation {
        Operation::Subscribe => {
            let id = id(params)?;
            let tail = call.tail(after).await?;
            let following = Following::of(call, id, tail, Extent::whole(None)).await?;
            Done::Stream(Box::new(following.of_a_live_task()?))
        }
        Operation::Get => {
            let seen = call.seen(&id(params)?).await?;
            Done::Task(seen.task(Extent::whole(history_length(params)?)))
        }
        Operation::List => Done::Other(list(&call, params).await?),
        Operation::Cancel => Done::Task(cancel(&call, &id(params)?).await?),
        Operation::ExtendedCard | Operation::Send | Operation::SendStreaming => {
            Done::Card(card::extended(&call).await?)
        }
    })
}

/// Hands a message over, and follows what becomes of it.
async fn stream(call: Call, params: Value, old: bool) -> Result<Done, Trouble> {
    let message = Message::read(&params)?;
    let wishes = Wishes::read(&params)?;
    drop(params);
    let push = Inline::of(&call, wishes.push.as_ref(), old).await?;
    let tail = call.tail(None).await?;
    let id = hand(&call, message, push).await?;
    let extent = Extent::whole(wishes.history);
    Ok(Done::Stream(Box::new(
        Following::of(call, id, tail, extent).await?,
    )))
}

/// The id of the task that is spoken of.
fn id(params: &Value) -> Result<String, Problem> {
    match params.get("id").and_then(Value::as_str) {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(Problem::of("id", "is required and must be a string")),
    }
}

/// Hands a message over and waits, unless asked not to, until the task rests. A client that hangs up loses nothing: the
/// task goes on, and its result is in the caller's inbox.
async fn send(call: &Call, params: Value, old: bool) -> Result<Value, Trouble> {
    let message = Message::read(&params)?;
    let wishes = Wishes::read(&params)?;
    // What waits may wait for hours.
    drop(params);
    let push = Inline::of(call, wishes.push.as_ref(), old).await?;
    // Interest comes before the message, so that no news falls between the two.
    let mut tail = call.tail(None).await?;
    let id = hand(call, message, push).await?;
    if !wishes.at_once {
        while !rests(call.status(&id).await?) && call.news(&id, &mut tail).await? {}
    }
    let seen = call.seen(&id).await?;
    let message = seen.message().filter(|_| !wishes.at_once);
    Ok(match message {
        Some(message) => json!({"message": message}),
        None => json!({"task": seen.task(Extent::whole(wishes.history))}),
    })
}

/// Whether nothing more happens before the client does something, if anything at all.
pub(super) const fn rests(status: Status) -> bool {
    status.is_terminal() || matches!(status, Status::InputRequired)
}

/// A task that a message was handed to.
struct Handed {
    id: String,
    /// It was handed over before.
    before: bool,
}

/// Begins a task with a message, or goes on with the one that it names. Durable when it returns (rule 1).
pub(super) async fn hand(
    call: &Call,
    message: Message,
    push: Option<Inline>,
) -> Result<String, Trouble> {
    let handed = match message.task() {
        Some(id) => go_on(call, id, &message).await?,
        None => begin(call, &message).await?,
    };
    drop(message);
    if let Some(push) = push {
        push.follow(call, &handed.id, handed.before).await?;
    }
    call.entered.take();
    Ok(handed.id)
}

async fn begin(call: &Call, message: &Message) -> Result<Handed, Trouble> {
    must_be_taken(message, &card::input_modes(call).await?)?;
    let minted = uuid::Uuid::new_v4().to_string();
    let context = message.context().unwrap_or(&minted);
    let envelope = Envelope {
        message: Json::from(&message.within(context)),
        context: context.into(),
    };
    let key = call.key.as_deref();
    let key = key.map(|key| idempotency(key, call.target, &message.said()));
    let order = Order::message(call.target, message.text(), key, envelope);
    let _turn = call.turn(Errand::Begin)?;
    let traceparent = call.traceparent.clone();
    let handed = hand_over(&call.state, call.member.workspace, order, traceparent).await?;
    let (id, before) = match handed {
        (id, Acceptance::Created { .. }) => (id, false),
        (_, Acceptance::Replayed { id, .. }) => (id, true),
        (_, Acceptance::KeyMismatch) => {
            let message = "this Idempotency-Key was used before for another message; use a new one";
            return Err(Problem::new(Kind::Conflict, message).into());
        }
        (_, Acceptance::IdTaken) => return Err(ApiError::datastore(AGAIN).into()),
    };
    let id = id.to_string();
    Ok(Handed { id, before })
}

/// Answers the question that a task waits with.
async fn go_on(call: &Call, id: &str, message: &Message) -> Result<Handed, Trouble> {
    let seen = call.seen(id).await?;
    let context = seen.context();
    if message.context().is_some_and(|named| named != context) {
        let reason = format!("is not the context of task {id}");
        return Err(Problem::of("message.contextId", reason).into());
    }
    let handed = |before| Handed {
        id: seen.id(),
        before,
    };
    if call.key.is_some() && message.message_id().is_some_and(|id| seen.was_said(id)) {
        return Ok(handed(true));
    }
    if seen.status().is_terminal() {
        return Err(not_taken(id, seen.status()).into());
    }
    let answer = Box::new(Said {
        text: message.text().into(),
        message: Some(Json::from(&message.within(&context))),
    });
    let _turn = call.turn(Errand::Report)?;
    let event = Event::InputGiven { answer };
    match call.state.delegations.apply(call.key_of(id), event).await? {
        Applied::Moved(_) => Ok(handed(false)),
        Applied::NoUse(status) => Err(not_taken(id, status).into()),
        Applied::Repeat(_) | Applied::Ended(_) => Err(not_taken(id, Status::Completed).into()),
        Applied::Unknown => Err(Problem::no_such_task(id).into()),
    }
}

fn not_taken(id: &str, status: Status) -> Problem {
    let message = if status.is_terminal() {
        format!("task {id} has ended; send a new message in its context without a taskId")
    } else {
        format!("task {id} asks for nothing: a message is taken while its state is INPUT_REQUIRED")
    };
    Problem::new(Kind::UnsupportedOperation, message)
}

async fn cancel(call: &Call, id: &str) -> Result<Value, Trouble> {
    call.seen(id).await?;
    let turn = call.turn(Errand::Report)?;
    let event = Event::Cancelled { reason: "".into() };
    match call.state.delegations.apply(call.key_of(id), event).await? {
        Applied::Moved(_) => {}
        Applied::NoUse(_) | Applied::Repeat(_) | Applied::Ended(_) => {
            let message = format!("task {id} has ended and cannot be cancelled");
            return Err(Problem::new(Kind::TaskNotCancelable, message).into());
        }
        Applied::Unknown => return Err(Problem::no_such_task(id).into()),
    }
    drop(turn);
    Ok(call.seen(id).await?.task(Extent::whole(None)))
}

/// The tasks that the caller handed to this workspace, the last changed first (A2A §3.1.4).
async fn list(call: &Call, params: &Value) -> Result<Value, Trouble> {
    call.state
        .store
        .seat(call.target)
        .await?
        .ok_or(NO_WORKSPACE)?;
    let filter = filter(call, params)?;
    let extent = Extent {
        history: Some(history_length(params)?.unwrap_or(0)),
        artifacts: params.get("includeArtifacts").is_some_and(is_yes),
    };
    let size = filter.limit;
    let read = call.state.store.read(move |reader| {
        let page = reader.handed(&filter)?;
        let (mut tasks, mut bytes, mut last) = (Vec::new(), 0_usize, None);
        let mut more = page.more;
        for (place, key) in &page.keys {
            // Answers may be large: who wants more of them asks for the next page.
            if bytes > PAGE_BYTES {
                more = true;
                break;
            }
            let seen = Seen::read(reader, key)?;
            bytes += seen.as_ref().map_or(0, Seen::bytes);
            tasks.extend(seen.map(|seen| seen.task(extent)));
            last = Some(*place);
        }
        Ok((page.total, tasks, last.filter(|_| more)))
    });
    let (total, tasks, next) = read.await?;
    let token = next.map(|(at, number)| format!("{}:{number}", at.0));
    Ok(json!({
        "tasks": tasks, "nextPageToken": token.unwrap_or_default(), "pageSize": size, "totalSize": total,
    }))
}

fn is_yes(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

fn filter(call: &Call, params: &Value) -> Result<HandedFilter, Problem> {
    let text = |name: &str| {
        let text = params.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    let standings = match text("status") {
        None | Some("TASK_STATE_UNSPECIFIED") => None,
        Some(word) => {
            let found = standings(word);
            Some(found.ok_or_else(|| Problem::of("status", "is not a state of tasks"))?)
        }
    };
    let after = text("pageToken").map(|token| {
        let place = token.split_once(':').and_then(|(at, number)| {
            Some((Timestamp(at.parse().ok()?), Position(number.parse().ok()?)))
        });
        place.ok_or_else(|| Problem::of("pageToken", "is not one that this list gave"))
    });
    let changed = text("statusTimestampAfter").map(|at| {
        Timestamp::parse_rfc3339(at)
            .ok_or_else(|| Problem::of("statusTimestampAfter", "is not a time (RFC 3339)"))
    });
    Ok(HandedFilter {
        caller: call.member.workspace,
        target: call.target,
        context: text("contextId").map(|context| sanitize(context).into_owned()),
        standings,
        changed_after: changed.transpose()?,
        after: after.transpose()?,
        limit: page_size(params)?,
    })
}

fn page_size(params: &Value) -> Result<i64, Problem> {
    let Some(said) = params.get("pageSize").filter(|said| !said.is_null()) else {
        return Ok(PAGE);
    };
    let size = said.as_i64().or_else(|| said.as_str()?.parse().ok());
    match size {
        Some(0) => Ok(PAGE),
        Some(size @ 1..=PAGE_MAX) => Ok(size),
        _ => {
            let reason = format!("must be a whole number from 1 to {PAGE_MAX}");
            Err(Problem::of("pageSize", reason))
        }
    }
}
