//! What a delegation's history keeps of each change.

use super::life::{head, unreadable};
use super::{Error, HistoryEntry};
use crate::domain::{Advance, Ending, Life, State, Timestamp, preview, sanitize};

/// How much of a text a history entry keeps, in bytes.
const DETAIL_BYTES: usize = 512;

/// The line of history that a life adds.
pub(crate) fn history_entry(life: &Life, at: Timestamp) -> HistoryEntry {
    let short = |text: &str| -> Option<Box<str>> {
        (!text.is_empty()).then(|| preview(&sanitize(text), DETAIL_BYTES).into())
    };
    let detail = match &life.state {
        State::Pending | State::Stuck(_) => None,
        State::Working(working) => {
            let progress = working.progress.as_ref();
            progress.and_then(|progress| short(progress.message.as_deref()?))
        }
        State::Queued(wait) => short(wait.waiting_for.as_str()),
        State::InputRequired(question) => short(&question.text),
        State::Ended(ended) if ended.late.is_some() => short("a late result was kept"),
        State::Ended(ended) => match &ended.ending {
            Ending::Completed { .. } => None,
            Ending::Failed { detail: text, .. } | Ending::Cancelled { reason: text } => short(text),
        },
    };
    HistoryEntry {
        at: at.0,
        status: life.status().as_str().into(),
        attempt: life.attempt.0,
        detail,
    }
}

/// An entry as JSON text. A `HistoryEntry` holds nothing that JSON cannot say, so the fallback is never taken.
pub(crate) fn history_json(entry: &HistoryEntry) -> String {
    serde_json::to_string(entry).unwrap_or_else(|_| "{}".to_owned())
}

/// What a change puts behind the history that is stored: another element of an array that is kept without its brackets.
pub(crate) fn more_history(advance: &Advance) -> String {
    if is_kept(advance) {
        format!(
            ",{}",
            history_json(&history_entry(&advance.life, advance.at))
        )
    } else {
        String::new()
    }
}

/// The history that is stored.
pub(crate) fn read_history(stored: &str) -> Result<Vec<HistoryEntry>, Error> {
    serde_json::from_str(&format!("[{}]", stored.trim_start_matches(',')))
        .map_err(|error| unreadable("history", format!("{error}: {}", head(stored))))
}

/// Whether this change adds to the history: a delegation that is retried for days must not grow without bound.
fn is_kept(advance: &Advance) -> bool {
    advance.told && (advance.revision.0 <= 200 || advance.life.status().is_terminal())
}
