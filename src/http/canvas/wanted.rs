//! Which delegations a person looks for, from a query or a body.

use std::fmt;

use serde_json::Value;

use crate::auth::Principal;
use crate::domain::{DelegationId, DelegationKey, Position, Status, WorkspaceId};
use crate::http::body::Fields;
use crate::http::error::{ApiError, Fault};
use crate::store::{LineFilter, Parties, Search};

const INVALID: &str = "invalid filter";

/// The longest text to look for, in characters.
const SEARCH_CHARACTERS: usize = 200;
/// How many are looked at for one page.
const LOOK: usize = 5_000;

/// Where a page begins. Its text means nothing to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    /// Only those accepted before the one of this number.
    pub(super) before: Position,
    /// Whether nothing was given out yet.
    pub(super) is_first: bool,
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_first { "top" } else { "next" };
        write!(formatter, "{word}-{}", self.before.0)
    }
}

impl Cursor {
    /// The page after those before this place.
    pub(super) const fn next(before: Position) -> Self {
        Self {
            before,
            is_first: false,
        }
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let read = || {
            let (word, number) = text.split_once('-')?;
            let is_first = match word {
                "top" => true,
                "next" => false,
                _ => return None,
            };
            let before = Position(number.parse().ok()?);
            Some(Self { before, is_first })
        };
        read().ok_or_else(|| {
            Fault::new(
                "before",
                "is no cursor; give the one that was answered, or none",
            )
            .under(INVALID)
        })
    }
}

/// What is asked for, in the words of the request.
#[derive(Debug, Default)]
pub(super) struct Asked {
    status: Option<String>,
    workspace: Option<String>,
    text: Option<String>,
    before: Option<String>,
}

impl Asked {
    /// `text` says what a member holds.
    pub(super) fn of(
        text: impl Fn(&'static str) -> Result<Option<String>, Fault>,
    ) -> Result<Self, ApiError> {
        let text = |name| text(name).map_err(|fault| fault.under(INVALID));
        Ok(Self {
            status: text("status")?,
            workspace: text("workspace_id")?,
            text: text("q")?,
            before: text("before")?,
        })
    }

    /// Whether it says which ones are meant.
    pub(super) const fn is_filter(&self) -> bool {
        self.status.is_some() || self.workspace.is_some() || self.text.is_some()
    }

    pub(super) const fn has_status(&self) -> bool {
        self.status.is_some()
    }

    pub(super) fn cursor(&self) -> Result<Option<Cursor>, ApiError> {
        self.before.as_deref().map(Cursor::parse).transpose()
    }

    /// What it means for this principal, who sees what it sent and received.
    pub(super) fn filter(
        &self,
        principal: Principal,
        limit: usize,
    ) -> Result<LineFilter, ApiError> {
        let workspace = self.workspace.as_deref().map(workspace).transpose()?;
        let cursor = self.cursor()?;
        Ok(LineFilter {
            parties: parties(principal, workspace)?,
            statuses: statuses(self.status.as_deref())?,
            search: search(self.text.as_deref())?,
            is_first: cursor.is_none_or(|cursor| cursor.is_first),
            repeatable: false,
            before: cursor.map(|cursor| cursor.before),
            limit,
            look: LOOK,
        })
    }
}

fn workspace(text: &str) -> Result<WorkspaceId, ApiError> {
    WorkspaceId::parse(text)
        .ok_or_else(|| Fault::new("workspace_id", "is not a UUID").under(INVALID))
}

fn parties(principal: Principal, wanted: Option<WorkspaceId>) -> Result<Parties, ApiError> {
    match (principal, wanted) {
        (Principal::Admin, None) => Ok(Parties::Any),
        (Principal::Admin, Some(id)) => Ok(Parties::Either(id)),
        (Principal::Workspace(own), None) => Ok(Parties::Either(own)),
        (Principal::Workspace(own), Some(id)) if own == id => Ok(Parties::Either(own)),
        (Principal::Workspace(_), Some(_)) => Err(ApiError::Forbidden {
            error: "not this workspace's delegations",
            reason: Some("workspace_id may only be the workspace's own; the admin sees all"),
        }),
    }
}

/// Words, separated by commas; two of them stand for many.
fn statuses(words: Option<&str>) -> Result<Vec<Status>, ApiError> {
    let all = || Status::ALL.iter().copied();
    let mut wanted = Vec::new();
    for word in words.into_iter().flat_map(|words| words.split(',')) {
        match word.trim() {
            "in_flight" => wanted.extend(all().filter(|status| !status.is_terminal())),
            "ended" => wanted.extend(all().filter(|status| status.is_terminal())),
            word => wanted.push(Status::parse(word).ok_or_else(unknown_status)?),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

fn unknown_status() -> ApiError {
    let words: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let allowed = format!(
        "is unknown; separate by commas of: in_flight, ended, {}",
        words.join(", ")
    );
    Fault::new("status", allowed).under(INVALID)
}

fn search(text: Option<&str>) -> Result<Option<Search>, ApiError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.chars().count() > SEARCH_CHARACTERS {
        let reason = format!("must have at most {SEARCH_CHARACTERS} characters");
        return Err(Fault::new("q", reason).under(INVALID));
    }
    Ok(Some(Search::new(text)))
}

/// The delegations that a body names, at most `most`; none when it names none.
pub(super) fn keys(fields: &Fields, most: usize) -> Result<Option<Vec<DelegationKey>>, ApiError> {
    let fault = |reason: String| Fault::new("ids", reason).under("invalid request body");
    let ids = match fields.value("ids") {
        None => return Ok(None),
        Some(Value::Array(ids)) if ids.len() <= most => ids,
        Some(Value::Array(_)) => return Err(fault(format!("must be at most {most} entries"))),
        Some(_) => return Err(fault("must be an array".to_owned())),
    };
    let key = |id: &Value| {
        let text = |name| id.get(name).and_then(Value::as_str);
        let caller = WorkspaceId::parse(text("caller_id")?)?;
        let id = DelegationId::from_text(text("delegation_id")?);
        Some(DelegationKey { caller, id })
    };
    let read: Option<Vec<DelegationKey>> = ids.iter().map(key).collect();
    let wrong =
        || fault("must each have a caller_id, which is a UUID, and a delegation_id".to_owned());
    read.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::Query;

    fn filter(query: &str, principal: Principal) -> Result<LineFilter, ApiError> {
        let query = Query::parse(query);
        Asked::of(|name| Ok(query.get(name).map(ToOwned::to_owned)))?.filter(principal, 50)
    }

    #[test]
    fn groups_stand_for_their_statuses() {
        let statuses = |query: &str| filter(query, Principal::Admin).map(|found| found.statuses);
        assert_eq!(statuses("").unwrap(), []);
        assert_eq!(statuses("status=ended,failed").unwrap().len(), 3);
        assert_eq!(statuses("status=in_flight").unwrap().len(), 7);
        assert_eq!(
            statuses("status=stuck,%20queued").unwrap(),
            [Status::Queued, Status::Stuck]
        );
        for bad in ["lost", "failed,", "Ended"] {
            let body = statuses(&format!("status={bad}")).unwrap_err().body();
            assert_eq!(body["field"], "status");
        }
    }

    #[test]
    fn a_workspace_sees_its_own() {
        let (own, other) = (WorkspaceId::mint(), WorkspaceId::mint());
        let of = |principal, wanted: WorkspaceId| {
            filter(&format!("workspace_id={wanted}"), principal).map(|found| found.parties)
        };
        let workspace = Principal::Workspace(own);
        assert_eq!(of(workspace, own).unwrap(), Parties::Either(own));
        assert!(matches!(
            of(workspace, other),
            Err(ApiError::Forbidden { .. })
        ));
        assert_eq!(of(Principal::Admin, other).unwrap(), Parties::Either(other));
        assert_eq!(filter("", workspace).unwrap().parties, Parties::Either(own));
        assert!(filter("workspace_id=x", Principal::Admin).is_err());
    }

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        for number in [0, 7, -3, i64::MAX] {
            let cursor = Cursor::next(Position(number));
            assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
        }
        assert!(Cursor::parse("top-9").unwrap().is_first);
        for bad in ["9", "next-", "later-9", "next-x"] {
            assert!(Cursor::parse(bad).is_err());
        }
        let long = format!("q={}", "x".repeat(201));
        assert!(filter(&long, Principal::Admin).is_err());
        assert!(
            filter("q=%20%20", Principal::Admin)
                .unwrap()
                .search
                .is_none()
        );
    }
}
