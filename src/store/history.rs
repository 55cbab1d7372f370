//! What a delegation's history keeps of each change.

use super::HistoryEntry;
use super::types::J;
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

/// History as JSON text. A `HistoryEntry` holds nothing that JSON cannot say, so the fallback is never taken.
pub(crate) fn history_json(value: &impl serde::Serialize) -> J {
    J(serde_json::to_string(value)
        .unwrap_or_else(|_| "[]".to_owned())
        .into())
}

/// Whether this change adds to the history: a delegation that is retried for days must not grow without bound.
pub(crate) fn is_kept(advance: &Advance) -> bool {
    advance.told && (advance.revision.0 <= 200 || advance.life.status().is_terminal())
}
