//! How answers are written.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{ApiError, JSON};
use crate::domain::{Json, Timestamp};

/// A JSON answer with any status.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<HttpResponse, ApiError> {
    let text = serde_json::to_string(body).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ApiError::Internal
    })?;
    let mut response = HttpResponse::build(status);
    Ok(response.insert_header((CONTENT_TYPE, JSON)).body(text))
}

/// 200 with JSON.
pub(crate) fn ok(body: &impl Serialize) -> Result<HttpResponse, ApiError> {
    json(StatusCode::OK, body)
}

/// Stored JSON, to be put into an answer as it is. What is no JSON after all is shown as `null`.
pub(crate) fn inline(json: Option<&Json>) -> Option<&RawValue> {
    json.map(|json| serde_json::from_str(&json.0).unwrap_or(RawValue::NULL))
}

/// An instant as the contract shows it.
pub(crate) fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(Timestamp::to_rfc3339)
}

/// An id's text, or none.
pub(crate) fn text(id: Option<impl ToString>) -> Option<String> {
    id.map(|id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_json_is_passed_through_byte_for_byte() {
        let stored = Json(r#"{"b": 1.50, "a":null}"#.into());
        let shown = serde_json::to_string(&inline(Some(&stored))).unwrap();
        assert_eq!(shown, &*stored.0);
        assert_eq!(inline(None).map(RawValue::get), None);
        let broken = Json("{".into());
        assert_eq!(inline(Some(&broken)).map(RawValue::get), Some("null"));
    }
}
