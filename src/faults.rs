//! What must not go on after a panic, and faults for tests of the real binary: `BATON_FAULTS=point:action[:number][,…]`
//! makes the given passage (the first when left out) of a named point panic, or end the process as `kill -9` would, or
//! makes every passage take so many milliseconds (`delay`). Empty in any other use, and then free.

use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Where a fault can be injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// A delegation's actor took a message.
    ActorTold,
    /// The intent to send is committed, the request has not left.
    BeforeSend,
    /// A request begins to leave: whether its target gets it is open.
    AfterSend,
    /// The answer is here, nothing of it is committed.
    AnswerReceived,
    /// A transaction that moves a delegation is written, and open still.
    DuringCommit,
    /// A batch that moves a delegation was committed, nobody has been told.
    Committed,
}

impl Point {
    const ALL: [(Self, &'static str); 6] = [
        (Self::ActorTold, "actor_told"),
        (Self::BeforeSend, "before_send"),
        (Self::AfterSend, "after_send"),
        (Self::AnswerReceived, "answer_received"),
        (Self::DuringCommit, "during_commit"),
        (Self::Committed, "committed"),
    ];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Panic,
    Abort,
    Delay(Duration),
}

#[derive(Debug)]
struct Fault {
    point: Point,
    action: Action,
    passages_left: AtomicI64,
}

/// The faults of this process.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Whether anything is to happen there.
    #[must_use]
    pub fn are_set_at(&self, point: Point) -> bool {
        self.0.iter().any(|fault| fault.point == point)
    }

    /// Passes a point.
    ///
    /// # Panics
    /// When a fault says so.
    #[expect(clippy::panic, reason = "that is what it is for")]
    pub fn pass(&self, point: Point) {
        for fault in self.0.iter().filter(|fault| fault.point == point) {
            if let Action::Delay(time) = fault.action {
                std::thread::sleep(time);
            } else if fault.passages_left.fetch_sub(1, Ordering::Relaxed) == 1 {
                match fault.action {
                    Action::Abort => std::process::abort(),
                    _ => panic!("injected fault at {point:?}"),
                }
            }
        }
    }
}

/// Held by what the process cannot do without. If its holder panics the process ends: it would otherwise accept, wait
/// and look healthy for ever; started again, it takes up what is stored.
#[derive(Debug)]
pub struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a vital part panicked; the process ends");
            std::process::abort();
        }
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |fault: &str| -> Option<Fault> {
            let mut words = fault.trim().split(':');
            let name = words.next()?;
            let (point, _) = Point::ALL.into_iter().find(|(_, word)| *word == name)?;
            let action = words.next()?;
            let number: u32 = words.next().map_or(Some(1), |word| word.parse().ok())?;
            let action = match action {
                "panic" => Action::Panic,
                "abort" => Action::Abort,
                "delay" => Action::Delay(Duration::from_millis(number.into())),
                _ => return None,
            };
            Some(Fault {
                point,
                action,
                passages_left: AtomicI64::new(number.into()),
            })
        };
        let faults = text.split(',').filter(|fault| !fault.trim().is_empty());
        faults
            .map(|fault| {
                parse(fault).ok_or_else(|| {
                    format!("BATON_FAULTS holds {fault:?}, but must be point:panic|abort[:passage] or point:delay:milliseconds")
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_passage_fails_and_no_other() {
        let faults: Faults = "actor_told:panic:2".parse().unwrap();
        faults.pass(Point::ActorTold);
        faults.pass(Point::BeforeSend);
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(
                || faults.pass(Point::ActorTold)
            ))
            .is_err()
        );
        faults.pass(Point::ActorTold);
        assert!("nowhere:panic".parse::<Faults>().is_err());
        assert!("".parse::<Faults>().is_ok());
    }
}
