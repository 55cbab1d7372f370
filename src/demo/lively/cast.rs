//! Who plays: read from `cast.json`.

use std::time::Duration;

use serde::Deserialize;

/// How an agent takes its work.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Temper {
    /// Has no agent: it asks others.
    Calm,
    /// Answers at once.
    Quick,
    /// Answers after a while.
    Thoughtful,
    /// Takes a task, and tells how far it is.
    Diligent,
    /// Asks something first.
    Inquisitive,
    /// Wants one task at a time, and says so beforehand.
    Single,
    /// Refuses a third task at once.
    Busy,
    /// Answers late, and gives no sign of life.
    Silent,
    /// Fetches its work.
    Polling,
    /// Cannot be reached for some time, again and again.
    Nightly,
    /// Fails more often than not.
    Unlucky,
    /// Has others do parts of it.
    Leading,
}

impl Temper {
    /// How many tasks it is given in a row, and how long nobody gives it any then; none when nobody ever does.
    pub(super) const fn appetite(self) -> Option<(u32, Duration)> {
        let (tasks, pause) = match self {
            Self::Calm => return None,
            Self::Quick => (1, 1_800),
            Self::Thoughtful => (1, 3_000),
            Self::Diligent | Self::Nightly => (1, 4_000),
            Self::Inquisitive => (1, 7_000),
            Self::Single => (4, 16_000),
            Self::Busy => (4, 14_000),
            Self::Silent | Self::Leading => (1, 9_000),
            Self::Polling => (2, 7_000),
            Self::Unlucky => (1, 5_000),
        };
        Some((tasks, Duration::from_millis(pause)))
    }

    /// Whether it is called; otherwise it has no address.
    pub(super) fn is_called(self) -> bool {
        !matches!(self, Self::Calm | Self::Polling)
    }
}

/// A workspace, and those below it.
#[derive(Deserialize, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) temper: Temper,
    #[serde(default)]
    pub(super) tasks: Vec<Task>,
    #[serde(default)]
    pub(super) below: Vec<Self>,
}

/// What may be asked of it.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct Task {
    #[serde(rename = "task")]
    pub(super) words: String,
    pub(super) answer: String,
    /// What it asks first.
    #[serde(default)]
    pub(super) question: String,
    /// What it is told then.
    #[serde(default)]
    pub(super) reply: String,
}

/// The organisations.
pub(super) fn organisations() -> serde_json::Result<Vec<Part>> {
    serde_json::from_str(include_str!("cast.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(part: &Part, names: &mut Vec<String>) {
        assert_eq!(part.tasks.is_empty(), part.temper.appetite().is_none());
        let asks = part.temper == Temper::Inquisitive;
        for task in &part.tasks {
            assert!(!task.words.is_empty() && !task.answer.is_empty());
            assert_eq!(
                (task.question.is_empty(), task.reply.is_empty()),
                (!asks, !asks)
            );
        }
        names.push(part.name.clone());
        for part in &part.below {
            check(part, names);
        }
    }

    #[test]
    fn everybody_has_a_name_and_something_to_do() {
        let organisations = organisations().unwrap();
        let mut names = Vec::new();
        for part in &organisations {
            check(part, &mut names);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((organisations.len(), names.len()), (3, all));
    }
}
