//! Push notifications of a task (A2A §3.1.7 to §3.1.10).

use serde_json::Value;

use super::call::Call;
use super::problem::{Kind, Problem, Trouble};

/// What may be asked of the configurations of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Push {
    Create,
    Get,
    List,
    Delete,
}

/// Does it; `old`: in the form of 0.3.
pub(super) async fn run(
    call: &Call,
    _: Push,
    params: &Value,
    _old: bool,
) -> Result<Value, Trouble> {
    let id = params
        .get("taskId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    call.seen(id).await?;
    Err(Problem::new(
        Kind::UnsupportedOperation,
        "push notifications are not supported",
    )
    .into())
}
