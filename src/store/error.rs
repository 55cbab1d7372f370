//! What a database's refusal means: try later, or never.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::Error;

/// How both databases begin to say that they are away, full, locked or read-only. Diesel hands on no SQLSTATE, so their
/// words decide; SQLite's are fixed, and PostgreSQL sessions ask for untranslated ones ([`super::connect`]).
const PASSING: &[&str] = &[
    // SQLite
    "database is locked",
    "database table is locked",
    "database or disk is full",
    "attempt to write a readonly database",
    "disk I/O error",
    "unable to open database file",
    "database disk image is malformed",
    "file is not a database",
    "locking protocol",
    "interrupted",
    "out of memory",
    // PostgreSQL
    "deadlock detected",
    "could not serialize access",
    "canceling statement",
    "terminating ",
    "could not extend file",
    "could not write",
    "could not read",
    "could not open file",
    "could not fsync",
    "could not create",
    "could not resize shared memory",
    "out of shared memory",
    "sorry, too many clients",
    "too many connections",
    "remaining connection slots",
    "the database system is",
    "server closed the connection",
    "no connection to the server",
    "connection to server",
    "could not receive data",
    "could not send data",
    "SSL ",
    "cannot execute ",
    "database is not accepting commands",
    "temporary file size exceeds",
];

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        let DieselError::DatabaseError(kind, information) = &error else {
            return match error {
                DieselError::DeserializationError(cause) => Self::Unreadable {
                    column: "(unnamed)",
                    value: cause.to_string(),
                },
                DieselError::SerializationError(_)
                | DieselError::QueryBuilderError(_)
                | DieselError::InvalidCString(_)
                | DieselError::NotFound => Self::Refused(error.to_string()),
                // Everything else says that the transaction, and so the connection, is in an unknown state.
                _ => Self::Unavailable(error.to_string()),
            };
        };
        let message = information.message();
        match kind {
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => Self::Refused(message.to_owned()),
            DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ReadOnlyTransaction
            | DatabaseErrorKind::ClosedConnection => Self::Unavailable(message.to_owned()),
            _ if PASSING.iter().any(|start| message.starts_with(start)) => {
                Self::Unavailable(message.to_owned())
            }
            _ => Self::Refused(message.to_owned()),
        }
    }
}

impl From<diesel::ConnectionError> for Error {
    fn from(error: diesel::ConnectionError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Error {
    /// Whether another transaction was in the way, and this one was given up for it.
    pub(crate) fn is_deadlock(&self) -> bool {
        matches!(self, Self::Unavailable(why) if why.starts_with("deadlock detected"))
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
