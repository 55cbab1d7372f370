//! The tools: what each is called, what it is told, what it does.

use std::sync::LazyLock;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, ErrorData, Tool};
use serde_json::{Map, Value, json};

use super::waiting::{self, Progress};
use super::{Call, Outcome, senseless, tasks, written};
use crate::domain::{DelegationId, Position, Status};
use crate::http::body::Fields;
use crate::http::delegation_views::whole_of;
use crate::http::delegations::hand_over;
use crate::http::error::{ApiError, Fault};
use crate::http::inbox::{acknowledge_up_to, tell_people, unacknowledged};
use crate::http::middleware;
use crate::http::order::Order;
use crate::http::registry::peers_of;
use crate::http::steering::{give_input, withdraw};
use crate::http::traceparent::is_traceparent;
use crate::http::workspaces::shown_to_itself;
use crate::persistence::{Errand, Ticket};
use crate::store::Acceptance;

/// As they are listed. A test reads them.
static TOOLS: LazyLock<Vec<Tool>> =
    LazyLock::new(|| serde_json::from_str(include_str!("tools.json")).unwrap_or_default());

/// The texts under which arguments are refused.
const INVALID: &str = "invalid arguments";
/// How long a call waits for a message that does not say, and at most, in seconds.
const WAIT: i64 = 60;
const WAIT_MAX: i64 = 600;
/// How many messages a call shows that does not say, and at most.
const MESSAGES: i64 = 20;
const MESSAGES_MAX: i64 = 500;

pub(super) fn all() -> &'static [Tool] {
    &TOOLS
}

/// What there is to wait for. Whatever was to be written is committed.
pub(super) enum Wait {
    /// The end of a delegation.
    Ending(DelegationId),
    /// A message, so long, of which at most so many are shown.
    Message(Duration, i64),
}

impl Wait {
    /// The result of the call, once there is one.
    pub(super) async fn result(
        self,
        call: &Call,
        progress: &mut Progress,
    ) -> Result<Value, ErrorData> {
        let done = match self {
            Self::Ending(id) => {
                let view = waiting::ending(call, &id, progress).await;
                view.map(|view| became(&view))
            }
            Self::Message(wait, limit) => {
                let found = waiting::messages(call, wait, limit, progress).await;
                found.map(CallToolResult::structured)
            }
        };
        finished(done)
    }
}

/// That a tool could not do what it was told is its result: the model that called it shall read why.
fn finished(done: Result<CallToolResult, ApiError>) -> Result<Value, ErrorData> {
    written(&done.unwrap_or_else(|error| failed(&error)))
}

/// Calls a tool.
pub(super) async fn call(call: &Call, params: CallToolRequestParams) -> Result<Outcome, ErrorData> {
    let fields = Fields::from(params.arguments.unwrap_or_default());
    let done = match &*params.name {
        "delegate_task" => match delegate(call, &fields).await {
            Ok(id) if call.takes_tasks() => {
                return tasks::begun(call, &id).await.map(Outcome::Done);
            }
            Ok(id) => return Ok(Outcome::Waits(Wait::Ending(id))),
            Err(error) => Err(error),
        },
        "wait_for_message" => match patience(&fields) {
            Ok(wait) => return Ok(Outcome::Waits(wait)),
            Err(error) => Err(error),
        },
        "delegate_task_async" => delegate(call, &fields).await.map(|id| {
            CallToolResult::structured(json!({"task_id": id.to_string(), "status": "delegated"}))
        }),
        "check_task_status" => check(call, &fields).await.map(CallToolResult::structured),
        "cancel_task" => cancel(call, &fields).await.map(CallToolResult::structured),
        "answer_question" => answer(call, &fields).await.map(CallToolResult::structured),
        "list_peers" => peers_of(&call.state, call.member.workspace, "")
            .await
            .map(|peers| CallToolResult::structured(json!({"peers": peers}))),
        "get_workspace_info" => shown_to_itself(&call.state, call.member.workspace)
            .await
            .map(CallToolResult::structured),
        "inbox_peek" => peek(call, &fields).await.map(CallToolResult::structured),
        "inbox_ack" => acknowledge(call, &fields)
            .await
            .map(CallToolResult::structured),
        "send_message_to_user" => notify(call, &fields).await,
        name => return Err(senseless(format!("unknown tool: {name}"))),
    };
    finished(done).map(Outcome::Done)
}

/// Why a tool could not do what it was told, with the remedy.
pub(super) fn failed(error: &ApiError) -> CallToolResult {
    let body = error.body();
    let mut text = error.to_string();
    for name in ["field", "reason", "hint"] {
        if let Some(more) = body.get(name).and_then(Value::as_str) {
            text = format!("{text}; {name}: {more}");
        }
    }
    let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
    result.structured_content = Some(Value::Object(body));
    result
}

/// What became of a delegation that was waited for, if it has ended, or where to ask.
fn became(view: &Value) -> CallToolResult {
    let text = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
    if Status::parse(text("status")).is_some_and(Status::is_terminal) {
        return ended(view);
    }
    CallToolResult::structured(json!({
        "task_id": text("delegation_id"), "status": text("status"),
        "note": "not ended yet: ask with check_task_status, or wait for the result with wait_for_message",
    }))
}

/// What became of a delegation that has ended: its result, or why there is none.
pub(super) fn ended(view: &Value) -> CallToolResult {
    let text = |name: &str| view.get(name).and_then(Value::as_str);
    let mut result = match (text("status"), text("result")) {
        (Some("completed"), found) => {
            CallToolResult::success(vec![ContentBlock::text(found.unwrap_or_default())])
        }
        (status, _) => {
            let class = text("error_class").map(|class| format!(" ({class})"));
            let why = format!(
                "{}{}: {}",
                status.unwrap_or("failed"),
                class.unwrap_or_default(),
                text("error").unwrap_or_default()
            );
            CallToolResult::error(vec![ContentBlock::text(why)])
        }
    };
    let kept = [
        "delegation_id",
        "target_id",
        "status",
        "result",
        "error",
        "error_class",
    ];
    let kept = kept.into_iter().filter_map(|name| {
        let value = view.get(name)?.clone();
        Some((name.to_owned(), value))
    });
    result.structured_content = Some(Value::Object(kept.collect()));
    result
}

fn invalid(fault: Fault) -> ApiError {
    fault.under(INVALID)
}

/// What is written waits its turn like all that is; what only reads does not.
fn turn(call: &Call, errand: Errand) -> Result<Ticket, ApiError> {
    middleware::turn(&call.state, call.member.principal, errand)
}

async fn delegate(call: &Call, fields: &Fields) -> Result<DelegationId, ApiError> {
    let mut order = Map::new();
    for (argument, field) in [
        ("workspace_id", "target_id"),
        ("task", "task"),
        ("idempotency_key", "idempotency_key"),
        ("deadline_seconds", "deadline_seconds"),
        ("parent_delegation_id", "parent_delegation_id"),
    ] {
        order.extend(
            fields
                .value(argument)
                .map(|value| (field.to_owned(), value.clone())),
        );
    }
    // So that a fault names what the tool calls it.
    fields.required_text("workspace_id").map_err(invalid)?;
    let order = Order::of(&Fields::from(order))?;
    let _turn = turn(call, Errand::Begin)?;
    let traceparent = call.meta.get_traceparent();
    let traceparent = traceparent
        .filter(|text| is_traceparent(text))
        .map(Into::into);
    match hand_over(&call.state, call.member.workspace, order, traceparent).await? {
        (id, Acceptance::Created { .. }) | (_, Acceptance::Replayed { id, .. }) => Ok(id),
        (_, Acceptance::KeyMismatch) => Err(ApiError::key_mismatch()),
        (_, Acceptance::IdTaken) => Err(ApiError::datastore(Duration::from_secs(1))),
    }
}

fn id(fields: &Fields) -> Result<DelegationId, ApiError> {
    let text = fields.required_text("task_id").map_err(invalid)?;
    Ok(DelegationId::from_text(&text))
}

async fn check(call: &Call, fields: &Fields) -> Result<Value, ApiError> {
    let id = id(fields)?;
    let mut view = whole_of(&call.state, call.member.workspace, id, false, false).await?;
    if let Some(members) = view.as_object_mut() {
        let id = members.get("delegation_id").cloned().unwrap_or_default();
        members.insert("task_id".to_owned(), id);
    }
    Ok(view)
}

async fn cancel(call: &Call, fields: &Fields) -> Result<Value, ApiError> {
    let reason = fields.text("reason").map_err(invalid)?;
    let _turn = turn(call, Errand::Report)?;
    withdraw(
        &call.state,
        &call.member,
        id(fields)?,
        reason.unwrap_or_default(),
    )
    .await
}

async fn answer(call: &Call, fields: &Fields) -> Result<Value, ApiError> {
    let text = fields.required_text("text").map_err(invalid)?;
    let _turn = turn(call, Errand::Report)?;
    give_input(&call.state, &call.member, id(fields)?, text).await
}

/// A number from `least` to `most`, or what it is when nothing is said.
fn between(
    fields: &Fields,
    name: &'static str,
    unsaid: i64,
    (least, most): (i64, i64),
) -> Result<i64, ApiError> {
    match fields.integer(name).map_err(invalid)? {
        None => Ok(unsaid),
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(_) => Err(invalid(Fault::new(
            name,
            format!("must be a whole number from {least} to {most}"),
        ))),
    }
}

fn limit(fields: &Fields) -> Result<i64, ApiError> {
    between(fields, "limit", MESSAGES, (1, MESSAGES_MAX))
}

fn patience(fields: &Fields) -> Result<Wait, ApiError> {
    let seconds = between(fields, "timeout_seconds", WAIT, (0, WAIT_MAX))?;
    let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(Wait::Message(wait, limit(fields)?))
}

async fn peek(call: &Call, fields: &Fields) -> Result<Value, ApiError> {
    unacknowledged(&call.state, &call.member, limit(fields)?).await
}

async fn acknowledge(call: &Call, fields: &Fields) -> Result<Value, ApiError> {
    let place = fields.integer("acked_seq").map_err(invalid)?;
    let place = place.filter(|place| *place >= 0).ok_or_else(|| {
        invalid(Fault::new(
            "acked_seq",
            "must be a whole number of at least 0",
        ))
    })?;
    let _turn = turn(call, Errand::Report)?;
    acknowledge_up_to(&call.state, &call.member, Position(place)).await
}

async fn notify(call: &Call, fields: &Fields) -> Result<CallToolResult, ApiError> {
    let message = fields.required_text("message").map_err(invalid)?;
    let _turn = turn(call, Errand::Report)?;
    tell_people(&call.state, call.member.workspace, &message, Vec::new()).await?;
    Ok(CallToolResult::success(vec![ContentBlock::text(
        "Message sent.",
    )]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_tools_can_be_read() {
        let names: Vec<&str> = all().iter().map(|tool| &*tool.name).collect();
        assert_eq!(
            names,
            [
                "delegate_task",
                "delegate_task_async",
                "check_task_status",
                "cancel_task",
                "answer_question",
                "list_peers",
                "get_workspace_info",
                "wait_for_message",
                "inbox_peek",
                "inbox_ack",
                "send_message_to_user",
            ]
        );
        for tool in all() {
            assert_eq!(tool.input_schema.get("type"), Some(&json!("object")));
        }
    }

    #[test]
    fn an_ending_is_a_result_or_an_error_that_a_model_can_read() {
        let done = ended(&json!({"status": "completed", "result": "42", "delegation_id": "a"}));
        assert_eq!(done.is_error, Some(false));
        assert_eq!(done.content, [ContentBlock::text("42")]);
        let lost = ended(&json!({"status": "failed", "error_class": "timeout", "error": "late"}));
        assert_eq!(lost.is_error, Some(true));
        assert_eq!(lost.content, [ContentBlock::text("failed (timeout): late")]);
        let refused = failed(&Fault::new("task", "is absent").under(INVALID));
        let said = [ContentBlock::text(
            "invalid arguments; field: task; reason: is absent",
        )];
        assert_eq!(refused.content, said);
    }
}
