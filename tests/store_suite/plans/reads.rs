//! The reads of the history, and the indexes that each may go by.

use baton::domain::*;
use baton::store::*;

use super::NEWEST_EVENTS;
use crate::support::*;

pub(super) type Body = Box<dyn FnOnce(&mut dyn Reader) + Send>;

fn body<T>(read: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static) -> Body {
    Box::new(move |reader| drop(read(reader).unwrap()))
}

fn list(party: Option<WorkspaceId>, statuses: &[Status]) -> Body {
    let filter = DelegationFilter {
        party,
        statuses: statuses.to_vec(),
        before: Some(Position(1)),
        older_than: None,
        limit: 50,
    };
    body(move |reader| reader.delegations(&filter))
}

pub(super) fn feed(
    workspace: WorkspaceId,
    activity_type: Option<&str>,
    after: Option<i64>,
) -> Body {
    let filter = ActivityFilter {
        activity_type: activity_type.map(str::to_owned),
        after_position: after.map(Position),
        limit: 100,
        ..everything(workspace)
    };
    body(move |reader| reader.activity(&filter))
}

/// A read of the history, the indexes that its statements may use, and whether it may sort what it found.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) indexes: &'static [&'static str],
    pub(super) sorts: bool,
    pub(super) body: Body,
}

const fn case(name: &'static str, indexes: &'static [&'static str], body: Body) -> Case {
    Case {
        name,
        indexes,
        sorts: false,
        body,
    }
}

/// One that may sort.
const fn sorting(name: &'static str, indexes: &'static [&'static str], body: Body) -> Case {
    Case {
        name,
        indexes,
        sorts: true,
        body,
    }
}

pub(super) const BY_KEY: &[&str] = &["delegations_id"];
const BY_NUMBER: &[&str] = &["delegations_numbered_pkey", "INTEGER PRIMARY KEY"];
const LIVE: &[&str] = &["delegations_live"];
const OWED: &[&str] = &["delegations_owed"];
const COUNTS: &[&str] = &["delegations_live", "feed_position"];
// The looks by party or standing, then the lines that they found, by number.
const OF_PARTY: &[&str] = &[
    "delegations_sent",
    "delegations_taken",
    "delegations_live",
    "delegations_ended",
    "delegations_numbered_pkey",
    "INTEGER PRIMARY KEY",
];
const OF_ALL: &[&str] = &[
    "delegations_live",
    "delegations_ended",
    "delegations_numbered_pkey",
    "INTEGER PRIMARY KEY",
];
const BY_TYPE: &[&str] = &["activity_logs_feed_by_type"];
const BY_ID: &[&str] = &["activity_logs_id"];
const BY_PLACE: &[&str] = &["activity_logs_feed_by_type", "INTEGER PRIMARY KEY"];
const EVENTS: &[&str] = &[
    "structure_events_by_seq_pkey",
    "INTEGER PRIMARY KEY",
    NEWEST_EVENTS,
];
const OWN_EVENTS: &[&str] = &["structure_events_feed"];

fn reads_of_delegations(store: &TestStore, terms: &Terms) -> Vec<Case> {
    let node = store.lease.node();
    let limits = AuditLimits::default();
    let [one, two, three, four] = std::array::from_fn(|_| terms.key.clone());
    let (id, after) = (terms.key.id.clone(), Some(Position(-5000)));
    let find = body(move |reader| reader.find_key(WorkspaceId::mint(), &id));
    let live = body(move |reader| reader.live(node, after, 100));
    let waiting = body(|reader| reader.waiting_for_removed(100));
    let owed = body(move |reader| reader.owed_replies(after, 100));
    let audit = body(move |reader| reader.audit(after, 100, limits));
    let newest = body(move |reader| reader.audit_newest(100, limits));
    vec![
        case("load", BY_KEY, body(move |reader| reader.load(&one))),
        case("view", BY_KEY, body(move |reader| reader.view(&two))),
        case("task", BY_KEY, body(move |reader| reader.task(&three))),
        case("number", BY_KEY, body(move |reader| reader.number(&four))),
        sorting("find_key", BY_KEY, find),
        case("live", LIVE, live),
        case("waiting_for_removed", LIVE, waiting),
        sorting("counts", COUNTS, body(|reader| reader.counts())),
        sorting("owed_replies", OWED, owed),
        case("audit", BY_NUMBER, audit),
        case("audit_newest", BY_NUMBER, newest),
    ]
}

fn reads_of_lists(own: WorkspaceId) -> Vec<Case> {
    let (failed, queued) = (&[Status::Failed], &[Status::Queued]);
    vec![
        sorting("list of a party", OF_PARTY, list(Some(own), &[])),
        sorting("its failed ones", OF_PARTY, list(Some(own), failed)),
        sorting("its queued ones", OF_PARTY, list(Some(own), queued)),
        sorting("all", OF_ALL, list(None, &[])),
        sorting("all queued ones", OF_ALL, list(None, queued)),
        sorting("all failed ones", OF_ALL, list(None, failed)),
    ]
}

const ENDING: &[&str] = &["delegations_id", "activity_logs_one_ending"];
const FAMILY: &[&str] = &[
    "delegations_id",
    "delegations_children",
    "delegations_repeats",
];
// Whatever a list goes by, and those of exactly an id.
const OF_LINES: &[&str] = &[
    "delegations_sent",
    "delegations_taken",
    "delegations_live",
    "delegations_ended",
    "delegations_numbered_pkey",
    "INTEGER PRIMARY KEY",
    "delegations_id",
];

fn looking(parties: Parties, statuses: &[Status], text: Option<&str>) -> LineFilter {
    LineFilter {
        parties,
        statuses: statuses.to_vec(),
        search: text.map(Search::new),
        is_first: true,
        repeatable: false,
        before: Some(Position(1)),
        limit: 50,
        look: 500,
    }
}

fn reads_of_lines(own: WorkspaceId) -> Vec<Case> {
    let lines = |filter: LineFilter| body(move |reader| reader.lines(&filter));
    let either = Parties::Either(own);
    let again = LineFilter {
        repeatable: true,
        ..looking(Parties::Any, &[Status::Failed], None)
    };
    let of_id = LineFilter {
        look: 0,
        ..looking(either, &[], Some("nowhere"))
    };
    let (counted, counted_again) = (looking(either, &[Status::Completed], None), again.clone());
    vec![
        sorting("marks", LIVE, body(|reader| reader.live_marks(None, 100))),
        sorting(
            "own marks",
            LIVE,
            body(move |reader| reader.live_marks(Some(own), 100)),
        ),
        sorting("lines", OF_LINES, lines(looking(Parties::Any, &[], None))),
        sorting(
            "lines of a party",
            OF_LINES,
            lines(looking(either, &[], None)),
        ),
        sorting(
            "lines with a text",
            OF_LINES,
            lines(looking(either, &[], Some("nowhere"))),
        ),
        // It looks at none but those of exactly the id.
        case("lines of an id", BY_KEY, lines(of_id)),
        sorting(
            "live lines",
            OF_LINES,
            lines(looking(Parties::Any, &[Status::Queued], None)),
        ),
        sorting(
            "ended lines",
            OF_LINES,
            lines(looking(Parties::Caller(own), &[Status::Failed], None)),
        ),
        sorting("lines to repeat", OF_LINES, lines(again)),
        sorting(
            "tally",
            OF_LINES,
            body(move |reader| reader.tally(&counted)),
        ),
        sorting(
            "tally to repeat",
            OF_LINES,
            body(move |reader| reader.tally(&counted_again)),
        ),
    ]
}

fn reads_of_one(terms: &Terms) -> Vec<Case> {
    let [one, two, three, four, five] = std::array::from_fn(|_| terms.key.clone());
    let id = terms.key.id.clone();
    vec![
        sorting(
            "lines of keys",
            OF_LINES,
            body(move |reader| reader.lines_of(&[one])),
        ),
        sorting(
            "repeatable",
            OF_LINES,
            body(move |reader| reader.repeatable(&[two])),
        ),
        case(
            "family",
            FAMILY,
            body(move |reader| reader.family(&three, 100)),
        ),
        case("told_of", ENDING, body(move |reader| reader.told_of(&four))),
        case("parent", BY_KEY, body(move |reader| reader.parent(&five))),
        sorting(
            "given",
            BY_KEY,
            body(move |reader| reader.given(WorkspaceId::mint(), &id)),
        ),
    ]
}

fn reads_of_the_feed(own: WorkspaceId) -> Vec<Case> {
    let (row, inbox) = (ActivityId::mint(), Some("a2a_receive"));
    let position = body(move |reader| reader.activity_position(own, row));
    let placed = ActivityId::of(Position(7), Timestamp(7));
    let by_place = body(move |reader| reader.activity_position(own, placed));
    let newest = body(|reader| reader.recent_events(None, 50));
    let later = body(|reader| reader.events_after(None, Position(7), 50));
    let own_newest = body(move |reader| reader.recent_events(Some(own), 50));
    let own_later = body(move |reader| reader.events_after(Some(own), Position(7), 50));
    let next = body(move |reader| reader.next_feed(Some(own)));
    vec![
        sorting("feed", BY_TYPE, feed(own, None, None)),
        sorting("feed after a place", BY_TYPE, feed(own, None, Some(7))),
        case("inbox", BY_TYPE, feed(own, inbox, None)),
        case("inbox after a place", BY_TYPE, feed(own, inbox, Some(7))),
        case("activity_position", BY_ID, position),
        case("activity_position by place", BY_PLACE, by_place),
        case("recent_events", EVENTS, newest),
        case("events_after", EVENTS, later),
        case("recent_events of one", OWN_EVENTS, own_newest),
        case("events_after of one", OWN_EVENTS, own_later),
        case("next_feed", BY_TYPE, next),
    ]
}

pub(super) fn all(store: &TestStore, own: WorkspaceId, terms: &Terms) -> Vec<Case> {
    let mut cases = reads_of_delegations(store, terms);
    cases.extend(reads_of_lists(own));
    cases.extend(reads_of_the_feed(own));
    cases.extend(reads_of_lines(own));
    cases.extend(reads_of_one(terms));
    cases
}

/// Those that ask whether something was begun again.
pub(super) fn of_repeats(terms: &Terms) -> Vec<Body> {
    let again = LineFilter {
        repeatable: true,
        ..looking(Parties::Any, &[Status::Failed], None)
    };
    let (key, counted) = (terms.key.clone(), again.clone());
    vec![
        body(move |reader| reader.lines(&again)),
        body(move |reader| reader.tally(&counted)),
        body(move |reader| reader.repeatable(&[key])),
    ]
}
