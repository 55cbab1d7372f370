//! The one place where errors become HTTP.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};

use crate::auth::Denied;
use crate::{delegation, persistence, secrets, store};

/// The content type of every JSON answer (contract §1.2).
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// When to ask again for what waits for an agent and not for Baton.
const AGENT_AWAY: Duration = Duration::from_secs(30);

/// What else a refusal says, beside `error`.
pub(crate) type Extra = Map<String, Value>;

/// What is wrong with one field of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// Which field; `body` for the whole.
    pub(crate) field: &'static str,
    /// What is wrong with it, with what is allowed.
    pub(crate) reason: Cow<'static, str>,
}

impl Fault {
    pub(crate) fn new(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        let reason = reason.into();
        Self { field, reason }
    }

    /// A 400 with the route's own text, naming the field.
    pub(crate) fn under(self, error: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::Invalid {
            error: error.into(),
            fault: Some(self),
        }
    }
}

/// Every way in which a request does not get what it asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// 400: the request cannot be understood, or asks for something impossible.
    Invalid {
        error: Cow<'static, str>,
        fault: Option<Fault>,
    },
    /// 401: the credential is missing or does not fit this route.
    Unauthorized(&'static str),
    /// 403: the principal may not.
    Forbidden {
        error: &'static str,
        reason: Option<&'static str>,
    },
    /// 404: there is no such thing, or none that the principal may know of.
    Missing(&'static str),
    /// 413: the body is longer than allowed. `drained` when it was read to its end, so that the connection goes on.
    TooLarge { max_bytes: usize, drained: bool },
    /// 429: too often, or too many.
    TooMany {
        error: &'static str,
        retry_after: Duration,
    },
    /// 503: not now.
    Unavailable {
        error: Cow<'static, str>,
        code: Option<&'static str>,
        retry_after: Duration,
    },
    /// Any other refusal with members of its own.
    With {
        status: StatusCode,
        error: &'static str,
        extra: Extra,
    },
    /// 500: Baton's own fault; it is logged where it was noticed.
    Internal,
}

impl ApiError {
    /// A 400 with nothing but its text.
    pub(crate) fn invalid(error: impl Into<Cow<'static, str>>) -> Self {
        let error = error.into();
        Self::Invalid { error, fault: None }
    }

    /// A refusal with members of its own; `extra` is an object.
    pub(crate) fn with(status: StatusCode, error: &'static str, extra: Value) -> Self {
        let extra = match extra {
            Value::Object(members) => members,
            _ => Extra::new(),
        };
        Self::With {
            status,
            error,
            extra,
        }
    }

    /// The database is away, or refuses: nothing was written, and the same request may succeed later (lesson A04).
    pub(crate) const fn datastore(retry_after: Duration) -> Self {
        Self::Unavailable {
            error: Cow::Borrowed("platform datastore unavailable — retry shortly"),
            code: Some("platform_unavailable"),
            retry_after,
        }
    }

    /// An idempotency key was used before, for something else.
    pub(crate) fn key_mismatch() -> Self {
        Self::with(
            StatusCode::CONFLICT,
            "idempotency key was used for another target or task",
            json!({"field": "idempotency_key", "hint": "send the same target_id and task again, or use a new key"}),
        )
    }

    /// What it says as JSON.
    pub(crate) fn body(&self) -> Extra {
        let mut body = match self {
            Self::Invalid {
                fault: Some(fault), ..
            } => object(json!({"field": fault.field, "reason": fault.reason})),
            Self::Forbidden {
                reason: Some(reason),
                ..
            } => object(json!({"reason": reason})),
            Self::TooLarge { max_bytes, .. } => {
                object(json!({"max_bytes": max_bytes, "truncated": true}))
            }
            Self::TooMany { retry_after, .. } => {
                object(json!({"retry_after": seconds(*retry_after)}))
            }
            Self::Unavailable {
                code, retry_after, ..
            } => {
                let mut members = object(json!({"retry_after": seconds(*retry_after)}));
                if let Some(code) = code {
                    members.insert("code".to_owned(), (*code).into());
                }
                members
            }
            Self::With { extra, .. } => extra.clone(),
            Self::Invalid { .. }
            | Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::Missing(_)
            | Self::Internal => Extra::new(),
        };
        body.insert("error".to_owned(), self.to_string().into());
        body
    }
}

fn object(value: Value) -> Extra {
    match value {
        Value::Object(members) => members,
        _ => Extra::new(),
    }
}

/// Whole seconds, at least one: a client that waits them does not come too early.
fn seconds(duration: Duration) -> u64 {
    let partial = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(partial).max(1)
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { error, .. } | Self::Unavailable { error, .. } => {
                formatter.write_str(error)
            }
            Self::Unauthorized(error)
            | Self::Missing(error)
            | Self::Forbidden { error, .. }
            | Self::TooMany { error, .. }
            | Self::With { error, .. } => formatter.write_str(error),
            Self::TooLarge { max_bytes, .. } => {
                write!(formatter, "request body exceeds {max_bytes} byte limit")
            }
            Self::Internal => formatter.write_str("internal error"),
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::With { status, .. } => *status,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, JSON));
        match self {
            Self::TooMany { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                response.insert_header((RETRY_AFTER, seconds(*retry_after)));
            }
            Self::With {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..
            } => {
                response.insert_header((RETRY_AFTER, seconds(AGENT_AWAY)));
            }
            Self::TooLarge { drained: false, .. } => {
                response.insert_header((CONNECTION, "close"));
            }
            _ => {}
        }
        response.body(Value::Object(self.body()).to_string())
    }
}

impl From<store::Error> for ApiError {
    /// What a peer sent never makes a statement fail, so a refusal too is the database's trouble.
    fn from(error: store::Error) -> Self {
        tracing::warn!(%error, "a read failed");
        Self::datastore(Duration::from_secs(1))
    }
}

impl From<secrets::Error> for ApiError {
    fn from(error: secrets::Error) -> Self {
        Self::Unavailable {
            error: Cow::Owned(error.to_string()),
            code: Some("secret_key_missing"),
            retry_after: AGENT_AWAY,
        }
    }
}

impl From<persistence::Error> for ApiError {
    fn from(error: persistence::Error) -> Self {
        match error {
            persistence::Error::Unavailable { retry_after } => Self::datastore(retry_after),
            persistence::Error::Overloaded { retry_after } => Self::Unavailable {
                error: Cow::Borrowed("too many writes are waiting"),
                code: Some("overloaded"),
                retry_after,
            },
            persistence::Error::Refused(detail) => {
                tracing::error!(%detail, "the database refused a write");
                Self::datastore(Duration::from_secs(5))
            }
        }
    }
}

impl From<delegation::Error> for ApiError {
    fn from(error: delegation::Error) -> Self {
        match error {
            delegation::Error::Unavailable { retry_after } => Self::datastore(retry_after),
            delegation::Error::Overloaded { limit, retry_after } => Self::Unavailable {
                error: Cow::Owned(format!("{limit} is reached — retry shortly")),
                code: Some("overloaded"),
                retry_after,
            },
        }
    }
}

/// The texts of the two kinds of route (contract §2.3, §2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// A workspace's own.
    Workspace,
    /// The admin's.
    Admin,
}

impl Door {
    pub(crate) fn refuse(self, denied: Denied) -> ApiError {
        match denied {
            Denied::Missing => self.missing(),
            Denied::Invalid => self.invalid(),
            Denied::Undecided(error) => error.into(),
        }
    }

    const fn missing(self) -> ApiError {
        ApiError::Unauthorized(match self {
            Self::Workspace => "missing workspace auth token",
            Self::Admin => "admin auth required",
        })
    }

    pub(crate) const fn invalid(self) -> ApiError {
        ApiError::Unauthorized(match self {
            Self::Workspace => "invalid workspace auth token",
            Self::Admin => "invalid admin auth token",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_and_never_zero() {
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
        assert_eq!(seconds(Duration::from_secs(30)), 30);
    }

    #[test]
    fn every_refusal_for_now_says_when_to_come_back() {
        for error in [
            ApiError::datastore(Duration::from_secs(2)),
            ApiError::TooMany {
                error: "rate limit exceeded",
                retry_after: Duration::from_secs(2),
            },
            delegation::Error::Overloaded {
                limit: "BATON_MAX_LIVE",
                retry_after: Duration::from_secs(2),
            }
            .into(),
        ] {
            let response = error.error_response();
            assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "2");
            assert!(!error.to_string().is_empty());
        }
        let away = ApiError::with(StatusCode::SERVICE_UNAVAILABLE, "away", json!({}));
        assert!(away.error_response().headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_fault_names_its_field_beside_the_text_of_the_contract() {
        let error = Fault::new("task", "must not be empty").under("invalid delegation request");
        assert_eq!(
            Value::Object(error.body()),
            json!({"error": "invalid delegation request", "field": "task", "reason": "must not be empty"})
        );
    }
}
