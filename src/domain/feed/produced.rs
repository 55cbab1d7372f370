//! What a target makes while it works, as its caller sees it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{EventName, FeedEvent, Json, event};
use crate::domain::{DelegationId, Product, Terms, Timestamp};

#[derive(Serialize)]
struct Body<'a> {
    delegation_id: &'a DelegationId,
    target_id: Option<String>,
    artifact: Option<&'a RawValue>,
    append: bool,
    last_chunk: bool,
}

/// The `TASK_ARTIFACT` event.
#[must_use]
pub fn produced_event(terms: &Terms, product: &Product, at: Timestamp) -> FeedEvent {
    let payload = Json::of(&Body {
        delegation_id: &terms.key.id,
        target_id: terms.target.map(|target| target.to_string()),
        artifact: serde_json::from_str(&product.artifact.0).ok(),
        append: product.append,
        last_chunk: product.last_chunk,
    });
    FeedEvent {
        course_of: Some(terms.key.id.clone()),
        ..event(terms, EventName::TaskArtifact, payload, at)
    }
}
