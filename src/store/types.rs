//! Three SQL types that mean the same on both databases, and the values that are bound to them.
//!
//! | type | PostgreSQL | SQLite |
//! |---|---|---|
//! | [`DbUuid`] | `uuid` | `TEXT`, hyphenated, lower case |
//! | [`DbJson`] | `text` | `TEXT` |
//! | [`DbTs`] | `timestamptz` | `INTEGER`, microseconds since 1970 |

use std::io::Write as _;
use std::sync::Arc;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::SqlType;
use diesel::sqlite::{Sqlite, SqliteValue};
use uuid::Uuid;

use crate::domain::{Json, Timestamp};

// PostgreSQL's own type numbers are given, so that nothing is looked up at run time.

/// A UUID.
#[derive(SqlType, QueryId, Clone, Copy, Debug)]
#[diesel(
    postgres_type(oid = 2950, array_oid = 2951),
    sqlite_type(name = "Text")
)]
pub struct DbUuid;

/// JSON, which no database looks into: it is written and read as it is.
#[derive(SqlType, QueryId, Clone, Copy, Debug)]
#[diesel(postgres_type(oid = 25, array_oid = 1009), sqlite_type(name = "Text"))]
pub struct DbJson;

/// An instant.
#[derive(SqlType, QueryId, Clone, Copy, Debug)]
#[diesel(
    postgres_type(oid = 1184, array_oid = 1185),
    sqlite_type(name = "Long")
)]
pub struct DbTs;

/// A value of [`DbUuid`].
#[derive(AsExpression, FromSqlRow, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[diesel(sql_type = DbUuid)]
pub(crate) struct Id(pub(crate) Uuid);

/// A value of [`DbJson`].
#[derive(AsExpression, FromSqlRow, Clone, Debug)]
#[diesel(sql_type = DbJson)]
pub(crate) struct J(pub(crate) Arc<str>);

/// A value of [`DbTs`].
#[derive(AsExpression, FromSqlRow, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[diesel(sql_type = DbTs)]
pub(crate) struct Ts(pub(crate) i64);

impl From<Timestamp> for Ts {
    fn from(instant: Timestamp) -> Self {
        Self(instant.0)
    }
}

impl From<Ts> for Timestamp {
    fn from(instant: Ts) -> Self {
        Self(instant.0)
    }
}

impl From<&Json> for J {
    fn from(json: &Json) -> Self {
        Self(Arc::clone(&json.0))
    }
}

impl From<J> for Json {
    fn from(json: J) -> Self {
        Self(json.0)
    }
}

impl ToSql<DbUuid, Pg> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<DbUuid, Pg> for Id {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::from_slice(value.as_bytes())?))
    }
}

impl ToSql<DbUuid, Sqlite> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.hyphenated().to_string());
        Ok(IsNull::No)
    }
}

impl FromSql<DbUuid, Sqlite> for Id {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::try_parse(value.read_text())?))
    }
}

impl ToSql<DbJson, Pg> for J {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<DbJson, Pg> for J {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(std::str::from_utf8(value.as_bytes())?.into()))
    }
}

impl ToSql<DbJson, Sqlite> for J {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(&*self.0);
        Ok(IsNull::No)
    }
}

impl FromSql<DbJson, Sqlite> for J {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_text().into()))
    }
}

/// PostgreSQL counts from 2000-01-01, Baton from 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// The years that a `timestamptz` can hold, in PostgreSQL's own count: 4713 BC up to, exclusively, 294277 AD.
const POSTGRES_FIRST: i64 = -211_813_488_000_000_000;
const POSTGRES_LAST: i64 = 9_223_371_331_199_999_999;

impl ToSql<DbTs, Pg> for Ts {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let micros = self
            .0
            .saturating_sub(POSTGRES_EPOCH)
            .clamp(POSTGRES_FIRST, POSTGRES_LAST);
        out.write_all(&micros.to_be_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<DbTs, Pg> for Ts {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let micros = i64::from_be_bytes(value.as_bytes().try_into()?);
        Ok(Self(micros.saturating_add(POSTGRES_EPOCH)))
    }
}

impl ToSql<DbTs, Sqlite> for Ts {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0);
        Ok(IsNull::No)
    }
}

impl FromSql<DbTs, Sqlite> for Ts {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_long()))
    }
}
