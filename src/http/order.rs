//! What a caller asks for when it delegates (contract §4.1; `deadline_seconds` and `redelivery` are Baton's).

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::body::Fields;
use super::error::{ApiError, Fault};
use crate::config::MAX_DEADLINE_S;
use crate::domain::{DelegationId, Envelope, Idempotency, Priority, Redelivery, WorkspaceId};

const INVALID_DELEGATION: &str = "invalid delegation request";

/// What the caller asks for.
pub(crate) struct Order {
    pub(crate) target: WorkspaceId,
    pub(crate) target_as_sent: String,
    pub(crate) task: Arc<str>,
    pub(crate) key: Option<Idempotency>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) redelivery: Redelivery,
    pub(crate) priority: Priority,
    pub(crate) envelope: Option<Envelope>,
    /// The delegation that the caller was given, and hands a part of on.
    pub(crate) parent: Option<DelegationId>,
}

impl Order {
    pub(crate) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::parse(body).map_err(|fault| fault.under(INVALID_DELEGATION))?;
        Self::of(&fields)
    }

    pub(crate) fn of(fields: &Fields) -> Result<Self, ApiError> {
        let invalid = |fault: Fault| fault.under(INVALID_DELEGATION);
        let target_as_sent = fields.required_text("target_id").map_err(invalid)?;
        let task = fields.required_text("task").map_err(invalid)?;
        let key = fields.text("idempotency_key").map_err(invalid)?;
        let deadline = deadline(fields).map_err(invalid)?;
        let redelivery = redelivery(fields).map_err(invalid)?;
        let priority = priority(fields).map_err(invalid)?;
        let parent = fields.text("parent_delegation_id").map_err(invalid)?;
        let target = target(&target_as_sent)?;
        Ok(Self {
            target,
            key: key.map(|key| idempotency(&key, target, &task)),
            target_as_sent,
            task: task.into(),
            deadline,
            redelivery,
            priority,
            envelope: None,
            parent: parent.as_deref().map(DelegationId::from_text),
        })
    }

    /// An A2A message; `text` is what it says in words.
    pub(crate) fn message(
        target: WorkspaceId,
        text: String,
        key: Option<Idempotency>,
        envelope: Envelope,
    ) -> Self {
        Self {
            target,
            target_as_sent: target.to_string(),
            task: text.into(),
            key,
            deadline: None,
            redelivery: Redelivery::default(),
            priority: Priority::default(),
            envelope: Some(envelope),
            parent: None,
        }
    }
}

/// A caller's key, with what it is used for.
pub(crate) fn idempotency(key: &str, target: WorkspaceId, task: &str) -> Idempotency {
    Idempotency {
        key: key.into(),
        fingerprint: fingerprint(target, task),
    }
}

pub(crate) fn target(as_sent: &str) -> Result<WorkspaceId, ApiError> {
    WorkspaceId::parse(as_sent).ok_or_else(|| {
        Fault::new("target_id", "is not a UUID").under("target_id must be a valid UUID")
    })
}

/// How long a delegation may take, if the caller says so.
pub(crate) fn deadline(fields: &Fields) -> Result<Option<Duration>, Fault> {
    let Some(seconds) = fields.integer("deadline_seconds")? else {
        return Ok(None);
    };
    match u64::try_from(seconds) {
        Ok(seconds @ 1..=MAX_DEADLINE_S) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Fault::new(
            "deadline_seconds",
            format!("must be a whole number from 1 to {MAX_DEADLINE_S}"),
        )),
    }
}

/// The order names as its parent what its caller was not given.
pub(crate) fn foreign_parent() -> ApiError {
    let reason =
        "is not a delegation that this workspace was given by one that it may communicate with";
    Fault::new("parent_delegation_id", reason).under(INVALID_DELEGATION)
}

fn redelivery(fields: &Fields) -> Result<Redelivery, Fault> {
    let Some(word) = fields.text("redelivery")? else {
        return Ok(Redelivery::default());
    };
    Redelivery::parse(&word).ok_or(Fault::new(
        "redelivery",
        "must be 'never', 'if_idempotent' or 'always'",
    ))
}

fn priority(fields: &Fields) -> Result<Priority, Fault> {
    let Some(number) = fields.integer("priority")? else {
        return Ok(Priority::default());
    };
    match u8::try_from(number) {
        Ok(number @ 0..=100) => Ok(Priority(number)),
        _ => Err(Fault::new(
            "priority",
            "must be a whole number from 0 to 100",
        )),
    }
}

/// What a key was used for: the target and the task, nothing else (product.md).
fn fingerprint(target: WorkspaceId, task: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(target.0.as_bytes())
        .chain_update(task.as_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError as _;
    use actix_web::http::StatusCode;
    use serde_json::json;

    #[test]
    fn an_order_is_read_and_its_faults_are_named() {
        let id = WorkspaceId::mint();
        let braced = format!("{{{}}}", id.to_string().to_uppercase());
        let order = Order::read(
            json!({"target_id": braced, "task": "do", "deadline_seconds": 5, "redelivery": "always"})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        assert_eq!((order.target, order.target_as_sent), (id, braced));
        assert_eq!(order.deadline, Some(Duration::from_secs(5)));
        assert_eq!(order.redelivery, Redelivery::Always);
        for (body, error) in [
            (json!({"target_id": id.to_string()}), INVALID_DELEGATION),
            (json!({"target_id": "", "task": "x"}), INVALID_DELEGATION),
            (
                json!({"target_id": "x", "task": "x"}),
                "target_id must be a valid UUID",
            ),
            (
                json!({"target_id": id.to_string(), "task": "x", "deadline_seconds": 0}),
                INVALID_DELEGATION,
            ),
            (
                json!({"target_id": id.to_string(), "task": "x", "redelivery": "maybe"}),
                INVALID_DELEGATION,
            ),
        ] {
            let refusal = Order::read(body.to_string().as_bytes())
                .map(drop)
                .unwrap_err();
            assert_eq!(refusal.to_string(), error, "{body}");
            assert_eq!(refusal.status_code(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn a_fingerprint_is_of_target_and_task() {
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        assert_eq!(fingerprint(one, "task"), fingerprint(one, "task"));
        assert_ne!(fingerprint(one, "task"), fingerprint(other, "task"));
        assert_ne!(fingerprint(one, "task"), fingerprint(one, "tusk"));
    }
}
