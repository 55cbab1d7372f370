//! What must be true of every stored delegation, for tests and for `GET /admin/invariants` alike.

use super::{DelegationKey, Status};

/// A stored delegation with what the feed holds for it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent findings, each named"
)]
pub struct Audited {
    /// Which.
    pub key: DelegationKey,
    /// Its status.
    pub status: Status,
    /// Whether its row says when it ended.
    pub has_end_time: bool,
    /// Whether lists find it as what it is: among those that live, or by how it ended.
    pub is_listed: bool,
    /// How many result rows its caller's feed holds.
    pub result_rows: i64,
    /// How many replies its caller's feed holds.
    pub replies: i64,
    /// Whether a reply was promised when it ended (the flag was on).
    pub reply_promised: bool,
    /// Whether that reply is still to be written.
    pub reply_owed: bool,
    /// Whether its deadline lies further back than the sweep would ever leave it.
    pub overdue: bool,
    /// Whether it ended so long ago that its rows may have been pruned.
    pub prunable: bool,
}

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Of which delegation.
    pub key: DelegationKey,
    /// Which rule of product.md.
    pub rule: &'static str,
    /// What was found.
    pub found: String,
}

/// Checks one delegation against the rules.
#[must_use]
pub fn audit(audited: &Audited) -> Vec<Violation> {
    let Audited {
        status,
        result_rows,
        replies,
        reply_owed,
        ..
    } = audited;
    let ended = status.is_terminal();
    let promised = i64::from(ended && audited.reply_promised && !reply_owed);
    let kept = |found: i64, written: i64| {
        found == written || (audited.prunable && (0..=written).contains(&found))
    };
    let checks = [
        (
            "an ended delegation has an end time, a live one has none",
            audited.has_end_time == ended,
        ),
        (
            "one result row for each ending (rule 2)",
            kept(*result_rows, i64::from(ended)),
        ),
        (
            "one reply for each ending with the flag on, none otherwise (rules 2-4)",
            kept(*replies, promised),
        ),
        ("lists find each delegation as it stands", audited.is_listed),
        ("every wait has an end (rule 8)", ended || !audited.overdue),
    ];
    checks
        .into_iter()
        .filter(|(_, holds)| !holds)
        .map(|(rule, _)| Violation {
            key: audited.key.clone(),
            rule,
            found: format!("{audited:?}"),
        })
        .collect()
}
