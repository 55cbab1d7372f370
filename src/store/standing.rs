//! Whether a delegation is live, or how it ended: what lists, indexes and totals go by.

#![expect(
    clippy::ref_option_ref,
    reason = "Diesel's derives borrow each field as it is"
)]

use std::borrow::Cow;
use std::collections::BTreeSet;

use diesel::prelude::{AsChangeset, Insertable};

use super::schema::delegations;
use super::types::Ts;
use crate::domain::{Ending, Life, State, Status, sanitize};

/// The `standing` of what has not ended.
pub(crate) const LIVE: &str = "live";

/// The standings that delegations of these statuses have, that of live ones first: what ends while one after the other is
/// read is found twice, and not missed.
pub(crate) fn standings(statuses: &[Status]) -> Vec<&'static str> {
    let standing = |status: &Status| {
        if status.is_terminal() {
            status.as_str()
        } else {
            LIVE
        }
    };
    let standings: BTreeSet<&str> = statuses.iter().map(standing).collect();
    let mut standings: Vec<&str> = standings.into_iter().collect();
    standings.sort_by_key(|standing| *standing != LIVE);
    standings
}

/// The columns that say how a delegation ended. A change of a live one leaves them alone.
#[derive(AsChangeset, Insertable, Clone, Debug)]
#[diesel(table_name = delegations, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(crate) struct EndColumns<'a> {
    pub(crate) standing: &'a str,
    pub(crate) result_text: Option<Cow<'a, str>>,
    pub(crate) error_class: Option<&'a str>,
    pub(crate) error_detail: Option<Cow<'a, str>>,
    pub(crate) late_result: Option<Cow<'a, str>>,
    pub(crate) late_result_at: Option<Ts>,
    pub(crate) ended_at: Option<Ts>,
}

impl<'a> EndColumns<'a> {
    /// Those of an ended life; all but the standing are NULL in a live one.
    pub(crate) fn of(life: &'a Life) -> Self {
        let (ended, standing) = match &life.state {
            State::Ended(ended) => (Some(ended), life.status().as_str()),
            _ => (None, LIVE),
        };
        let ending = ended.map(|ended| &ended.ending);
        let (result_text, error_class, error_detail) = match ending {
            None => (None, None, None),
            Some(Ending::Completed { text }) => (Some(sanitize(text)), None, None),
            Some(Ending::Failed { class, detail }) => {
                (None, Some(class.as_str()), Some(sanitize(detail)))
            }
            Some(Ending::Cancelled { reason }) => (None, None, Some(sanitize(reason))),
        };
        let late = ended.and_then(|ended| ended.late.as_ref());
        Self {
            standing,
            result_text,
            error_class,
            error_detail,
            late_result: late.map(|late| sanitize(&late.text)),
            late_result_at: late.map(|late| late.at.into()),
            ended_at: ended.map(|ended| ended.at.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_stands_somewhere() {
        let all = ["live", "cancelled", "completed", "failed"];
        assert_eq!(standings(Status::ALL), all);
        let some = [Status::Pending, Status::Queued, Status::Failed];
        assert_eq!(standings(&some), ["live", "failed"]);
    }
}
