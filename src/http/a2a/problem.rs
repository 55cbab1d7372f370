//! What A2A says when something goes wrong: one table for both bindings (A2A §3.3.2, §5.4, §9.5, §11.6).

use std::fmt;

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::http::error::{ApiError, Fault};
use crate::{delegation, store};

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const DOMAIN: &str = "a2a-protocol.org";

/// Which of the protocol's errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    TaskNotFound,
    TaskNotCancelable,
    UnsupportedOperation,
    ContentTypeNotSupported,
    VersionNotSupported,
    Parse,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    Conflict,
    Internal,
}

impl Kind {
    /// The code of JSON-RPC, the status of HTTP, and the word for it.
    const fn codes(self) -> (i32, u16, &'static str) {
        match self {
            Self::TaskNotFound => (-32001, 404, "NOT_FOUND"),
            Self::TaskNotCancelable => (-32002, 409, "FAILED_PRECONDITION"),
            Self::UnsupportedOperation => (-32004, 400, "UNIMPLEMENTED"),
            Self::ContentTypeNotSupported => (-32005, 415, "INVALID_ARGUMENT"),
            Self::VersionNotSupported => (-32009, 400, "UNIMPLEMENTED"),
            Self::Parse => (-32700, 400, "INVALID_ARGUMENT"),
            Self::InvalidRequest => (-32600, 400, "INVALID_ARGUMENT"),
            Self::MethodNotFound => (-32601, 404, "NOT_FOUND"),
            Self::InvalidParams => (-32602, 400, "INVALID_ARGUMENT"),
            Self::Conflict => (-32602, 409, "ALREADY_EXISTS"),
            Self::Internal => (-32603, 500, "INTERNAL"),
        }
    }

    /// The reason of `ErrorInfo`.
    const fn reason(self) -> &'static str {
        match self {
            Self::TaskNotFound => "TASK_NOT_FOUND",
            Self::TaskNotCancelable => "TASK_NOT_CANCELABLE",
            Self::UnsupportedOperation => "UNSUPPORTED_OPERATION",
            Self::ContentTypeNotSupported => "CONTENT_TYPE_NOT_SUPPORTED",
            Self::VersionNotSupported => "VERSION_NOT_SUPPORTED",
            Self::Parse => "PARSE_ERROR",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::MethodNotFound => "METHOD_NOT_FOUND",
            Self::InvalidParams => "INVALID_PARAMS",
            Self::Conflict => "IDEMPOTENCY_KEY_MISMATCH",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An error of the protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    message: String,
    /// The parameter at fault, by its path.
    field: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            message,
            field: None,
        }
    }

    /// A parameter that cannot be.
    pub(super) fn of(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        let field = field.into();
        Self {
            kind: Kind::InvalidParams,
            message: format!("{field} {reason}"),
            field: Some(field),
        }
    }

    /// Foreign and unknown tasks look alike.
    pub(super) fn no_such_task(id: &str) -> Self {
        Self::new(Kind::TaskNotFound, format!("task not found: {id}"))
    }

    fn details(&self) -> Value {
        let info = json!({"@type": ERROR_INFO, "reason": self.kind.reason(), "domain": DOMAIN});
        match &self.field {
            None => json!([info]),
            Some(field) => json!([info, {
                "@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": self.message}],
            }]),
        }
    }

    /// The `error` of a JSON-RPC answer.
    pub(super) fn rpc(&self) -> Value {
        let (code, ..) = self.kind.codes();
        json!({"code": code, "message": self.message, "data": self.details()})
    }

    /// The status and the body of an HTTP answer.
    pub(super) fn http(&self) -> (StatusCode, Value) {
        let (_, status, word) = self.kind.codes();
        let body = json!({"error": {
            "code": status, "status": word, "message": self.message, "details": self.details(),
        }});
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, body)
    }
}

/// Why an operation came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The protocol has a word for it.
    Problem(Problem),
    /// It is HTTP's matter: who speaks, to whom, how often, not now.
    Api(ApiError),
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid { error, fault } => Self::Problem(match fault {
                Some(Fault { field, reason }) => Problem::of(field, reason),
                None => Problem::new(Kind::InvalidParams, error),
            }),
            ApiError::Internal => Self::Problem(Problem::new(Kind::Internal, "internal error")),
            other => Self::Api(other),
        }
    }
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Self {
        Self::Api(error.into())
    }
}

impl From<delegation::Error> for Trouble {
    fn from(error: delegation::Error) -> Self {
        Self::Api(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_the_same_in_both_bindings() {
        let problem = Problem::of("message.parts", "must not be empty");
        let rpc = problem.rpc();
        assert_eq!(rpc["code"], -32602);
        assert_eq!(rpc["message"], "message.parts must not be empty");
        let (status, body) = problem.http();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"]["details"], rpc["data"]);
        assert_eq!(
            rpc["data"][1]["fieldViolations"][0]["field"],
            "message.parts"
        );
        let (status, body) = Problem::no_such_task("x").http();
        assert_eq!(
            (status.as_u16(), &body["error"]["code"]),
            (404, &json!(404))
        );
    }
}
