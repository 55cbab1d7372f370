//! Request bodies: read up to a limit, made readable, and taken apart as leniently as the contract says (§1.2).

use std::time::Duration;

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::error::{ApiError, Fault};
use crate::domain::{Json, repair_json, sanitize};

/// How much of a body that is too long is read and thrown away, so that its sender gets to read the refusal.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;
/// For how long.
const DRAINED_FOR: Duration = Duration::from_secs(10);
/// Up to which length the body of a request that was not let in is read over.
const PASSED_OVER_BYTES: usize = 64 * 1024;
/// For how long.
const PASSED_OVER_FOR: Duration = Duration::from_secs(1);
/// How long a body may keep silent.
const SILENCE: Duration = Duration::from_mins(1);
/// How long a body may take.
const WHOLE: Duration = Duration::from_mins(5);

/// Reads a body of at most `max_bytes`.
pub(crate) async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    max_bytes: usize,
) -> Result<Bytes, ApiError> {
    let declared = declared_length(request);
    if declared.is_some_and(|length| length > max_bytes) {
        return Err(refuse(payload, max_bytes, declared).await);
    }
    let mut body = BytesMut::with_capacity(declared.unwrap_or(0).min(64 * 1024));
    let end = Instant::now() + WHOLE;
    loop {
        let patience = end.min(Instant::now() + SILENCE);
        let Ok(chunk) = tokio::time::timeout_at(patience, payload.next()).await else {
            return Err(ApiError::invalid("failed to read request body"));
        };
        match chunk {
            None => return Ok(body.freeze()),
            Some(Err(_broken)) => return Err(ApiError::invalid("failed to read request body")),
            Some(Ok(chunk)) if chunk.len() > max_bytes.saturating_sub(body.len()) => {
                return Err(refuse(payload, max_bytes, declared).await);
            }
            Some(Ok(chunk)) => body.extend_from_slice(&chunk),
        }
    }
}

pub(crate) fn declared_length(request: &HttpRequest) -> Option<usize> {
    let header = request.headers().get(CONTENT_LENGTH)?;
    header.to_str().ok()?.parse().ok()
}

/// Throws the rest away, within limits. The server has said `100 Continue` before any handler runs, so a sender that
/// asked for it is sending by now like any other.
async fn refuse(payload: web::Payload, max_bytes: usize, declared: Option<usize>) -> ApiError {
    let hopeless = declared.is_some_and(|length| length > max_bytes.saturating_add(DRAINED_BYTES));
    let drained = !hopeless
        && tokio::time::timeout(DRAINED_FOR, drain(payload))
            .await
            .unwrap_or(false);
    ApiError::TooLarge { max_bytes, drained }
}

/// Reads over the body of a request that is refused, if it is short: the connection then goes on, which costs both
/// sides less than a new one.
pub(crate) async fn pass_over(request: &HttpRequest, payload: web::Payload) {
    if declared_length(request).is_some_and(|length| length <= PASSED_OVER_BYTES) {
        // One that does not come loses its connection.
        drop(tokio::time::timeout(PASSED_OVER_FOR, drain(payload)).await);
    }
}

/// Whether the end was reached.
async fn drain(mut payload: web::Payload) -> bool {
    let mut thrown_away = 0_usize;
    while let Some(chunk) = payload.next().await {
        let Ok(chunk) = chunk else { return false };
        thrown_away = thrown_away.saturating_add(chunk.len());
        if thrown_away > DRAINED_BYTES {
            return false;
        }
    }
    true
}

/// The members of a JSON object. Unknown ones are ignored, names are compared without case, `null` is absent.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the first JSON value of a body and ignores what follows it.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let text = repair_json(body);
        let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        match values.next() {
            None => Err(Fault::new("body", "is empty; send a JSON object")),
            Some(Err(error)) => Err(Fault::new(
                "body",
                format!("is not JSON that can be read: {error}"),
            )),
            Some(Ok(Value::Object(members))) => Ok(Self(members)),
            Some(Ok(_)) => Err(Fault::new("body", "must be a JSON object")),
        }
    }

    /// [`Fields::parse`] for a request that may say nothing at all.
    pub(crate) fn parse_optional(body: &[u8]) -> Result<Self, Fault> {
        if body.trim_ascii().is_empty() {
            Ok(Self::default())
        } else {
            Self::parse(body)
        }
    }

    /// The first member that is none of these.
    pub(crate) fn unknown(&self, known: &[&str]) -> Option<&str> {
        let is_known = |name: &str| known.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.0
            .keys()
            .map(|name| &**name)
            .find(|name| !is_known(name))
    }

    /// The member as it is, `null` included.
    pub(crate) fn raw(&self, name: &'static str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let mut members = self.0.iter();
            members
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        })
    }

    /// The member, unless `null`.
    pub(crate) fn value(&self, name: &'static str) -> Option<&Value> {
        self.raw(name).filter(|value| !value.is_null())
    }

    /// The member as JSON to store, unless `null`.
    pub(crate) fn json(&self, name: &'static str) -> Option<Json> {
        self.value(name).map(Json::from)
    }

    /// A text; an empty one is absent. NUL, which cannot be stored, becomes U+FFFD.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(sanitize(text).into_owned())),
            Some(_) => Err(Fault::new(name, "must be a string")),
        }
    }

    /// A text that must be there and not empty.
    pub(crate) fn required_text(&self, name: &'static str) -> Result<String, Fault> {
        self.text(name)?
            .ok_or_else(|| Fault::new(name, "is required and must not be empty"))
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &'static str) -> Result<Option<i64>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(Fault::new(name, "must be a whole number of 64 bits")),
            },
        }
    }

    /// A whole number that fits the database's smaller integers.
    pub(crate) fn small_integer(&self, name: &'static str) -> Result<Option<i32>, Fault> {
        self.integer(name)?
            .map(i32::try_from)
            .transpose()
            .map_err(|_range| Fault::new(name, "must be a whole number of 32 bits"))
    }

    /// Any number.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<f64>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(Fault::new(name, "must be a number")),
            },
        }
    }

    /// True or false.
    pub(crate) fn flag(&self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Fault::new(name, "must be true or false")),
        }
    }

    /// An object within.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<Self>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self(members.clone()))),
            Some(_) => Err(Fault::new(name, "must be an object")),
        }
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &[u8]) -> Fields {
        Fields::parse(body).unwrap()
    }

    #[test]
    fn names_are_read_without_case_and_the_rest_of_the_body_is_ignored() {
        let fields = parse(br#"{"TASK":"do","task_":1,"other":[{}]} trailing {"#);
        assert_eq!(fields.required_text("task").unwrap(), "do");
        let both = parse(br#"{"TASK":"loud","task":"exact"}"#);
        assert_eq!(both.required_text("task").unwrap(), "exact");
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_a_reason() {
        let deep = "[".repeat(100_000);
        let bodies: [&[u8]; 7] = [
            b"",
            b"  ",
            b"null",
            b"[]",
            b"\"text\"",
            b"{\"task\":",
            deep.as_bytes(),
        ];
        for body in bodies {
            let fault = Fields::parse(body).unwrap_err();
            assert_eq!(fault.field, "body");
            assert!(!fault.reason.is_empty());
        }
        let nested = format!("{{\"task\":{deep}");
        assert!(Fields::parse(nested.as_bytes()).is_err());
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let fields = parse(br#"{"text":1,"number":"1","flag":0,"object":[]}"#);
        let beyond = Fields::parse(br#"{"big":1e400}"#).unwrap_err();
        assert_eq!(beyond.field, "body");
        for fault in [
            fields.text("text").unwrap_err(),
            fields.integer("number").unwrap_err(),
            fields.flag("flag").unwrap_err(),
            fields.object("object").unwrap_err(),
        ] {
            assert!(["text", "number", "flag", "object"].contains(&fault.field));
        }
    }

    #[test]
    fn null_and_empty_are_absent() {
        let fields = parse(br#"{"a":null,"b":""}"#);
        assert_eq!(fields.text("a"), Ok(None));
        assert_eq!(fields.text("b"), Ok(None));
        assert!(fields.required_text("b").is_err());
        assert_eq!(fields.raw("a"), Some(&json!(null)));
        assert_eq!(fields.json("a"), None);
    }

    #[test]
    fn bytes_that_cannot_be_stored_become_replacement_characters() {
        let fields = parse(b"{\"a\":\"x\\u0000\\ud800\xff\"}");
        assert_eq!(
            fields.required_text("a").unwrap(),
            "x\u{fffd}\u{fffd}\u{fffd}"
        );
    }
}
