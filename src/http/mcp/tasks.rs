//! A delegation as an MCP task (the extension `io.modelcontextprotocol/tasks`), for clients that know of it.

use rmcp::model::{
    CallToolResult, CancelTaskParams, CreateTaskResult, DetailedTask, ErrorData, GetTaskParams,
    GetTaskResult, Task, TaskAckResult, TaskPayload, TaskStatus, UpdateTaskParams,
};
use serde_json::{Map, Value};

use super::tools::{ended, failed};
use super::{Call, senseless, written};
use crate::domain::{DelegationId, Status};
use crate::http::delegation_views::whole_of;
use crate::http::error::ApiError;
use crate::http::steering::withdraw;

/// How often a client should ask, in milliseconds.
const ASK_AGAIN: u64 = 1000;

/// The task that stands for a delegation that began.
pub(super) async fn begun(call: &Call, id: &DelegationId) -> Result<Value, ErrorData> {
    let view = view(call, id).await?;
    written(&CreateTaskResult::new(task(&view)))
}

pub(super) async fn get(call: &Call, params: &GetTaskParams) -> Result<Value, ErrorData> {
    let view = view(call, &DelegationId::from_text(&params.task_id)).await?;
    written(&GetTaskResult::new(DetailedTask::new(
        task(&view),
        payload(&view)?,
    )))
}

/// Nothing is ever asked of the client within a task: a target's question is answered with the tool for it.
pub(super) async fn update(call: &Call, params: &UpdateTaskParams) -> Result<Value, ErrorData> {
    view(call, &DelegationId::from_text(&params.task_id)).await?;
    written(&TaskAckResult::default())
}

pub(super) async fn cancel(call: &Call, params: &CancelTaskParams) -> Result<Value, ErrorData> {
    let id = DelegationId::from_text(&params.task_id);
    match withdraw(&call.state, &call.member, id, String::new()).await {
        // It may have ended before, which `tasks/get` shows.
        Ok(_) | Err(ApiError::With { .. }) => written(&TaskAckResult::default()),
        Err(error) => Err(trouble(&error)),
    }
}

fn trouble(error: &ApiError) -> ErrorData {
    match error {
        ApiError::Missing(_) => senseless("task not found"),
        error => ErrorData::internal_error(error.to_string(), None),
    }
}

async fn view(call: &Call, id: &DelegationId) -> Result<Value, ErrorData> {
    let view = whole_of(&call.state, call.member.workspace, id.clone(), false, false);
    view.await.map_err(|error| trouble(&error))
}

fn text<'a>(view: &'a Value, name: &str) -> &'a str {
    view.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn task(view: &Value) -> Task {
    let status = match Status::parse(text(view, "status")) {
        Some(Status::Completed | Status::Failed) => TaskStatus::Completed,
        Some(Status::Cancelled) => TaskStatus::Cancelled,
        _ => TaskStatus::Working,
    };
    let said = match text(view, "question") {
        "" => text(view, "status").to_owned(),
        question => format!("answer with answer_question: {question}"),
    };
    Task::new(
        text(view, "delegation_id"),
        status,
        text(view, "created_at"),
        text(view, "updated_at"),
    )
    .with_status_message(said)
    .with_poll_interval_ms(ASK_AGAIN)
}

fn payload(view: &Value) -> Result<TaskPayload, ErrorData> {
    let result = |result: &CallToolResult| -> Result<TaskPayload, ErrorData> {
        let result = match written(result)? {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Ok(TaskPayload::Completed { result })
    };
    match Status::parse(text(view, "status")) {
        Some(Status::Completed | Status::Failed) => result(&ended(view)),
        Some(Status::Cancelled) => Ok(TaskPayload::Cancelled),
        Some(_) => Ok(TaskPayload::Working),
        None => result(&failed(&ApiError::Internal)),
    }
}
