//! What is known of a workspace's messages, so that a poll with nothing new needs no database.

use super::{ActivityFilter, ActivityView};
use crate::domain::{ActivityId, ActivityType, Position, Timestamp};

/// How many rows of a feed are remembered: those who poll it with a cursor seldom have more than one.
const KNOWN: usize = 4;

/// What reads found in a feed since it last changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Inbox {
    /// The latest last.
    rows: [Option<(ActivityId, Position)>; KNOWN],
    quiet: Option<Quiet>,
    pub(super) acknowledged: Option<Position>,
}

/// There is no message after this place that is of this instant or later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Quiet {
    after: Position,
    since: Timestamp,
}

impl Quiet {
    fn covers(self, other: Self) -> bool {
        self.after <= other.after && self.since <= other.since
    }

    /// That there is none which this filter would let through, were it not for its other conditions.
    fn asked(filter: &ActivityFilter) -> Self {
        Self {
            after: filter.after_position.unwrap_or(Position(0)),
            since: filter.since.unwrap_or(Timestamp(i64::MIN)),
        }
    }

    /// What an answer says of what it does not hold; none when it says nothing.
    fn told(filter: &ActivityFilter, rows: &[ActivityView]) -> Option<Self> {
        let ActivityFilter {
            source: None,
            peer: None,
            before: None,
            before_position: None,
            ..
        } = filter
        else {
            return None;
        };
        let is_full = usize::try_from(filter.limit).map_or(true, |limit| rows.len() >= limit);
        // Without a place to begin after, the newest come first.
        if is_full && (filter.after_position.is_some() || rows.is_empty()) {
            return None;
        }
        let asked = Self::asked(filter);
        let newest = rows.iter().map(|row| row.position).max();
        Some(Self {
            after: newest.map_or(asked.after, |newest| newest.max(asked.after)),
            ..asked
        })
    }
}

impl Inbox {
    /// The place of a row, if it is known to be one of this feed.
    pub(super) fn place(&self, row: ActivityId) -> Option<Position> {
        let mut known = self.rows.iter().flatten();
        known.find(|(id, _)| *id == row).map(|(_, place)| *place)
    }

    /// A row was found in this feed.
    pub(super) fn found(&mut self, row: ActivityId, place: Position) {
        if self.place(row).is_some() {
            return;
        }
        self.rows.rotate_left(1);
        if let Some(latest) = self.rows.last_mut() {
            *latest = Some((row, place));
        }
    }

    /// Whether it is known that nothing meets this filter.
    pub(super) fn has_nothing_for(&self, filter: &ActivityFilter) -> bool {
        is_for_messages(filter)
            && self
                .quiet
                .is_some_and(|quiet| quiet.covers(Quiet::asked(filter)))
    }

    /// These are all that meet this filter.
    pub(super) fn read(&mut self, filter: &ActivityFilter, rows: &[ActivityView]) {
        if !is_for_messages(filter) {
            return;
        }
        if let Some(newest) = rows.iter().max_by_key(|row| row.position) {
            self.found(newest.id, newest.position);
        }
        let told = Quiet::told(filter, rows);
        let known = self.quiet;
        // What is known already may say more.
        self.quiet = told
            .filter(|told| !known.is_some_and(|known| known.covers(*told)))
            .or(known);
    }
}

fn is_for_messages(filter: &ActivityFilter) -> bool {
    filter.activity_type.as_deref() == Some(ActivityType::A2aReceive.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WorkspaceId;

    fn messages(after: Option<i64>, since: Option<i64>) -> ActivityFilter {
        ActivityFilter {
            workspace: WorkspaceId(uuid::Uuid::nil()),
            activity_type: Some("a2a_receive".to_owned()),
            source: None,
            peer: None,
            since: since.map(Timestamp),
            before: None,
            after_position: after.map(Position),
            before_position: None,
            limit: 2,
        }
    }

    fn row(place: i64) -> ActivityView {
        ActivityView {
            position: Position(place),
            id: ActivityId::mint(),
            workspace: WorkspaceId(uuid::Uuid::nil()),
            activity_type: "a2a_receive".to_owned(),
            source: None,
            target: None,
            method: None,
            summary: None,
            request_body: None,
            response_body: None,
            tool_trace: None,
            duration_ms: None,
            status: "ok".to_owned(),
            error_detail: None,
            created_at: Timestamp(0),
            unfetched: None,
        }
    }

    /// What is known after one read: which of these polls need not be asked.
    fn known(filter: &ActivityFilter, rows: &[ActivityView]) -> Inbox {
        let mut inbox = Inbox::default();
        inbox.read(filter, rows);
        inbox
    }

    #[test]
    fn only_what_a_read_proves_absent_is_answered() {
        let knows = |inbox: Inbox, after, since| inbox.has_nothing_for(&messages(after, since));
        let empty = known(&messages(Some(5), None), &[]);
        assert!(knows(empty, Some(5), None) && knows(empty, Some(6), Some(1)));
        assert!(!knows(empty, Some(4), None) && !knows(empty, None, Some(1)));
        // The answer was not cut off: nothing lies behind it.
        let whole = known(&messages(Some(5), None), &[row(7)]);
        assert!(knows(whole, Some(7), None) && !knows(whole, Some(6), None));
        let cut = known(&messages(Some(5), None), &[row(7), row(8)]);
        assert!(
            !knows(cut, Some(8), None),
            "more may lie behind a full page"
        );
        // Newest first, nothing lies before it.
        let newest = known(&messages(None, None), &[row(8), row(7)]);
        assert!(knows(newest, Some(8), None) && !knows(newest, None, None));
        let none = known(&messages(None, None), &[]);
        assert!(knows(none, None, None) && knows(none, None, Some(3)));
        let young = known(&messages(None, Some(50)), &[]);
        assert!(knows(young, None, Some(50)) && knows(young, Some(1), Some(51)));
        assert!(!knows(young, None, Some(49)) && !knows(young, Some(1), None));
    }

    #[test]
    fn a_narrower_or_another_question_proves_nothing() {
        let narrow: [fn(&mut ActivityFilter); 4] = [
            |filter| filter.peer = Some(WorkspaceId::mint()),
            |filter| filter.before = Some(Timestamp(9)),
            |filter| filter.before_position = Some(Position(9)),
            |filter| filter.source = Some(crate::store::SourceFilter::Agent),
        ];
        for narrowed in narrow {
            let mut filter = messages(Some(5), None);
            narrowed(&mut filter);
            let inbox = known(&filter, &[]);
            assert!(!inbox.has_nothing_for(&messages(Some(5), None)));
            let wide = known(&messages(Some(5), None), &[]);
            assert!(wide.has_nothing_for(&filter), "it finds no more than that");
        }
        for word in [None, Some("agent_log".to_owned())] {
            let mut filter = messages(Some(5), None);
            filter.activity_type = word;
            assert_eq!(known(&filter, &[row(6)]), Inbox::default());
            let wide = known(&messages(Some(5), None), &[]);
            assert!(!wide.has_nothing_for(&filter));
        }
    }

    #[test]
    fn what_says_less_does_not_displace_what_says_more() {
        let mut inbox = known(&messages(Some(5), None), &[]);
        inbox.read(&messages(Some(9), Some(3)), &[]);
        assert!(inbox.has_nothing_for(&messages(Some(5), None)));
        inbox.read(&messages(Some(1), None), &[]);
        assert!(inbox.has_nothing_for(&messages(Some(1), None)));
    }

    #[test]
    fn the_latest_cursors_are_known_and_no_others() {
        let mut inbox = Inbox::default();
        let rows: Vec<ActivityView> = (1..=6).map(row).collect();
        for row in &rows {
            inbox.found(row.id, row.position);
            inbox.found(row.id, row.position);
        }
        let known: Vec<_> = rows.iter().map(|row| inbox.place(row.id)).collect();
        let expected = [None, None, Some(3), Some(4), Some(5), Some(6)];
        assert_eq!(known, expected.map(|place| place.map(Position)));
        assert_eq!(inbox.place(ActivityId::mint()), None);
    }
}
