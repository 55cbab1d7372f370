//! Ids are types: a caller can never be passed where a token is meant.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{Timestamp, sanitize};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads any of the spellings that the contract accepts (§1.2): hyphenated, plain, braced or `urn:uuid:`, in any case.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }

            /// A new id that sorts by the time of its making, so that index inserts stay local.
            #[must_use]
            pub fn mint() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

uuid_id!(
    /// An agent's seat.
    WorkspaceId
);
uuid_id!(
    /// One row of a feed.
    ActivityId
);
uuid_id!(
    /// One recorded event.
    EventId
);
uuid_id!(
    /// One workspace token (not its secret).
    TokenId
);
uuid_id!(
    /// One receiver of events.
    ReceiverId
);
uuid_id!(
    /// One running Baton process, new at each start.
    NodeId
);

/// What was written at a place, at a time, by its own name: a UUID of version 8 (RFC 9562 §5.8), of the milliseconds, the
/// microseconds beyond them, and the place. It sorts as the places do, unless clocks were put back.
fn name_of(place: Position, at: Timestamp) -> Uuid {
    let micros = u64::try_from(at.0).unwrap_or(0);
    let place = u64::try_from(place.0).unwrap_or(0);
    let time = ((micros / 1000) << 16) | (micros % 1000);
    uuid::Builder::from_custom_bytes((u128::from(time) << 64 | u128::from(place)).to_be_bytes())
        .into_uuid()
}

impl ActivityId {
    /// The id of a row that bears none: there is no other at this place.
    #[must_use]
    pub fn of(place: Position, created_at: Timestamp) -> Self {
        Self(name_of(place, created_at))
    }

    /// Where the row of this id is, and of when; none when the row bears it.
    #[must_use]
    pub fn place(self) -> Option<(Position, Timestamp)> {
        let (time, place) = self.0.as_u64_pair();
        let micros = (time >> 16).checked_mul(1000)?.checked_add(time & 0xfff)?;
        let place = Position(i64::try_from(place & (u64::MAX >> 2)).ok()?);
        let at = Timestamp(i64::try_from(micros).ok()?);
        (Self::of(place, at) == self).then_some((place, at))
    }
}

impl EventId {
    /// The id of the event at a place.
    #[must_use]
    pub fn of(place: Position, created_at: Timestamp) -> Self {
        Self(name_of(place, created_at))
    }
}

/// A delegation's id as its caller knows it: a UUID that Baton minted, or any text that an agent recorded (contract §4.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DelegationId {
    /// Canonical UUID text, kept compact.
    Uuid(Uuid),
    /// Any other text, as [`DelegationId::from_text`] keeps it.
    Text(Box<str>),
}

impl DelegationId {
    /// A new id, which is also the A2A `messageId` of every attempt.
    #[must_use]
    pub fn mint() -> Self {
        Self::Uuid(Uuid::now_v7())
    }

    /// Keeps `text` exactly, but for NUL, which no database can: only the canonical UUID spelling becomes
    /// [`DelegationId::Uuid`].
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        match Uuid::try_parse(text) {
            Ok(uuid) if uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text => {
                Self::Uuid(uuid)
            }
            _ => Self::Text(sanitize(text).into()),
        }
    }
}

impl fmt::Display for DelegationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

impl Serialize for DelegationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uuid(uuid) => uuid.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

/// What identifies a delegation: ids that agents choose are only unique within their caller.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DelegationKey {
    /// The workspace that delegates, in whose feed the result appears.
    pub caller: WorkspaceId,
    /// The id within that caller.
    pub id: DelegationId,
}

/// For logs: an id that an agent chose cannot break out of its line (lesson A06).
impl fmt::Display for DelegationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            DelegationId::Uuid(uuid) => uuid.fmt(formatter),
            DelegationId::Text(text) => text.escape_debug().fmt(formatter),
        }
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

counter!(
    /// The number of the latest try to reach the target; 0 before the first.
    Attempt(u32)
);
counter!(
    /// Which rebuild of a delegation's actor speaks; a stale one is ignored.
    Incarnation(u32)
);
counter!(
    /// Grows by one with each committed change of a delegation; every write is conditional on it.
    Revision(i64)
);
counter!(
    /// A place in the one commit order of feed rows and events: no later row ever appears at or below a place that was read.
    Position(i64)
);

/// The target's own name for the work, of any length (a2a.md §2: 73 characters were seen).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RemoteTaskId(pub Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_id_reads_every_accepted_spelling_as_the_same_id() {
        let id = WorkspaceId::mint();
        let plain = id.0.simple().to_string();
        for spelling in [
            id.to_string(),
            id.to_string().to_uppercase(),
            plain.clone(),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
        ] {
            assert_eq!(WorkspaceId::parse(&spelling), Some(id), "{spelling}");
        }
        assert_eq!(WorkspaceId::parse(""), None);
        assert_eq!(WorkspaceId::parse(&plain[1..]), None);
    }

    #[test]
    fn the_id_of_a_row_says_where_it_is() {
        for (place, at) in [(0, 0), (1, 1_764_325_353_999_999), (i64::MAX >> 1, 1 << 52)] {
            let id = ActivityId::of(Position(place), Timestamp(at));
            assert_eq!(id.place(), Some((Position(place), Timestamp(at))));
            assert_eq!(id.0.get_version_num(), 8);
            assert!(id < ActivityId::of(Position(place), Timestamp(at + 1)));
        }
        assert_eq!(ActivityId::mint().place(), None);
        assert_eq!(ActivityId(Uuid::nil()).place(), None);
    }

    #[test]
    fn a_delegation_id_keeps_the_text_it_was_given() {
        let canonical = Uuid::now_v7().to_string();
        for text in [
            canonical.as_str(),
            &canonical.to_uppercase(),
            "task-1",
            "",
            "{x}",
        ] {
            assert_eq!(DelegationId::from_text(text).to_string(), text);
        }
        assert!(matches!(
            DelegationId::from_text(&canonical),
            DelegationId::Uuid(_)
        ));
    }

    #[test]
    fn an_id_is_one_whether_it_comes_from_a_request_or_from_the_store() {
        let asked = DelegationId::from_text("a\0b");
        assert_eq!(asked, DelegationId::from_text(&asked.to_string()));
    }

    #[test]
    fn a_key_stays_within_its_line_of_the_log() {
        let key = DelegationKey {
            caller: WorkspaceId::mint(),
            id: DelegationId::from_text("a\r\nb\u{1b}[31m"),
        };
        assert_eq!(key.to_string(), "a\\r\\nb\\u{1b}[31m");
    }
}
