//! Which feed rows a reader asks for (contract §8.1; positions instead of time stamps, product.md).

use super::error::{ApiError, Fault};
use super::extract::Query;
use crate::domain::{ActivityId, Position, Timestamp, WorkspaceId};
use crate::store::{ActivityFilter, SourceFilter};

/// The longest look back, in seconds: 30 days.
const MAX_SINCE_S: i64 = 2_592_000;

/// A query in the order in which the contract validates it; `since_id` needs the feed to be resolved.
#[derive(Debug)]
pub(crate) struct ActivityQuery {
    pub(crate) filter: ActivityFilter,
    pub(crate) since_id: Option<Cursor>,
    pub(crate) source: Result<Option<SourceFilter>, &'static str>,
}

/// A row that a reader has seen. What is no UUID is no row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cursor(pub(crate) Option<ActivityId>);

impl ActivityQuery {
    pub(crate) fn read(
        query: &Query,
        workspace: WorkspaceId,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let peer = query.get("peer_id").map(peer).transpose()?;
        let before = query.get("before_ts").map(before_ts).transpose()?;
        let since = query
            .get("since_secs")
            .map(|text| since_secs(text, now))
            .transpose()?;
        let after_position = position(query, "after_seq")?;
        let before_position = position(query, "before_seq")?;
        Ok(Self {
            filter: ActivityFilter {
                workspace,
                activity_type: query.get("type").map(ToOwned::to_owned),
                source: None,
                peer,
                since,
                before,
                after_position,
                before_position,
                limit: query.limit(100, 500),
            },
            since_id: query
                .get("since_id")
                .map(|id| Cursor(ActivityId::parse(id))),
            source: match query.get("source") {
                None => Ok(None),
                Some("canvas") => Ok(Some(SourceFilter::Canvas)),
                Some("agent") => Ok(Some(SourceFilter::Agent)),
                Some(_) => Err("source must be 'canvas' or 'agent'"),
            },
        })
    }

    /// The filter, once it is known where the cursor's row lies.
    pub(crate) fn into_filter(self, cursor: Option<Position>) -> Result<ActivityFilter, ApiError> {
        let source = self.source.map_err(|error| {
            Fault::new("source", "is neither 'canvas' nor 'agent'").under(error)
        })?;
        let after_position = self.filter.after_position.max(cursor);
        Ok(ActivityFilter {
            source,
            after_position,
            ..self.filter
        })
    }
}

fn peer(text: &str) -> Result<WorkspaceId, ApiError> {
    WorkspaceId::parse(text)
        .ok_or_else(|| Fault::new("peer_id", "is not a UUID").under("peer_id must be a UUID"))
}

fn before_ts(text: &str) -> Result<Timestamp, ApiError> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| {
        Fault::new("before_ts", "is not RFC 3339; write + as %2B in a URL")
            .under("before_ts must be an RFC3339 timestamp (e.g. 2026-05-01T00:00:00Z)")
    })
}

fn since_secs(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    match text.parse::<i64>() {
        Ok(seconds) if seconds > 0 => {
            let micros = seconds.min(MAX_SINCE_S).saturating_mul(1_000_000);
            Ok(Timestamp(now.0.saturating_sub(micros)))
        }
        _ => Err(Fault::new("since_secs", "is not a whole number above 0")
            .under("since_secs must be a positive integer")),
    }
}

fn position(query: &Query, name: &'static str) -> Result<Option<Position>, ApiError> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    match text.parse::<i64>() {
        Ok(place) if place >= 0 => Ok(Some(Position(place))),
        _ => Err(Fault::new(name, "is not a whole number of at least 0")
            .under(format!("{name} must be a non-negative integer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<ActivityQuery, ApiError> {
        ActivityQuery::read(
            &Query::parse(query),
            WorkspaceId::mint(),
            Timestamp(10_000_000_000_000),
        )
    }

    #[test]
    fn faults_are_told_in_the_order_of_the_contract() {
        let all = "peer_id=x&before_ts=x&since_secs=x&since_id=x&source=x";
        let mut rest = all;
        for expected in ["peer_id", "before_ts", "since_secs"] {
            let error = read(rest).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            rest = rest.split_once('&').unwrap().1;
        }
        let read = read(rest).unwrap();
        assert_eq!(read.since_id, Some(Cursor(None)));
        assert!(read.into_filter(None).is_err());
    }

    #[test]
    fn a_look_back_is_bounded_and_a_cursor_only_moves_on() {
        let far = read("since_secs=99999999").unwrap().filter.since;
        assert_eq!(far, Some(Timestamp(10_000_000_000_000 - 2_592_000_000_000)));
        for bad in ["0", "-1", "1.5", "99999999999999999999"] {
            assert!(read(&format!("since_secs={bad}")).is_err());
        }
        let query = read("after_seq=5&before_seq=9&type=a2a_receive").unwrap();
        let filter = query.into_filter(Some(Position(7))).unwrap();
        assert_eq!(filter.after_position, Some(Position(7)));
        assert_eq!(filter.before_position, Some(Position(9)));
        assert!(read("after_seq=-1").is_err() && read("before_seq=x").is_err());
    }
}
