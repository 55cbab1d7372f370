//! The whole table; [`histories`] goes through sequences of events.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::*;

mod alphabet;
mod histories;

use alphabet::{called, events, lives, outcomes};

const HOUR: Duration = Duration::from_hours(1);
const START: Timestamp = Timestamp(1_000_000_000);

fn policy() -> Policy {
    Policy {
        retry: RetryPolicy::default(),
        give_up_after: Duration::from_mins(20),
        stuck_after: Duration::from_mins(10),
    }
}

fn terms(redelivery: Redelivery, origin: Origin) -> Terms {
    let (caller, id) = (WorkspaceId::mint(), DelegationId::mint());
    Terms {
        key: DelegationKey { caller, id },
        target: Some(WorkspaceId::mint()),
        origin,
        redelivery,
        priority: Priority::default(),
        deadline: START.plus(HOUR),
        created_at: START,
        traceparent: None,
    }
}

fn delegated() -> Terms {
    terms(Redelivery::IfIdempotent, Origin::Delegated)
}

fn at(seconds: u64) -> Moment {
    let now = START.plus(Duration::from_secs(seconds));
    Moment {
        now,
        dice: 0.5,
        hearing_since: START,
    }
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

fn task() -> RemoteTaskId {
    RemoteTaskId("t".into())
}

fn ended(ending: Ending) -> State {
    let (at, late) = (START, None);
    State::Ended(Box::new(Ended { ending, at, late }))
}

/// A cell of the table in `docs/STATE_MACHINE.md`, which explains the signs.
fn cell(decision: &Decision) -> String {
    let step = match decision {
        Decision::Ignored(Ignored::AlreadyEnded) => return "ended".to_owned(),
        Decision::Ignored(Ignored::NotApplicable) => return "–".to_owned(),
        Decision::Ignored(Ignored::NotDue) => return "not due".to_owned(),
        Decision::Ignored(Ignored::NothingNew) => return "known".to_owned(),
        Decision::Ignored(Ignored::StaleAttempt) => return "stale".to_owned(),
        Decision::Settled(Settled::Repeat(_)) => return "= 200".to_owned(),
        Decision::Settled(Settled::Contradiction(_)) => return "≠ 409".to_owned(),
        Decision::Advance(step) => step,
    };
    let word = step.life.status().as_str();
    let mut cell = match &step.life.state {
        State::Queued(wait) => {
            let seconds = wait.until.since(at(10).now).as_secs();
            format!("**{word}** {} {seconds} s", wait.waiting_for.as_str())
        }
        State::Ended(ended) => match (&ended.late, &ended.ending) {
            (Some(_), _) => "late result".to_owned(),
            (None, Ending::Failed { class, .. }) => format!("**{word}** {}", class.as_str()),
            (None, Ending::Completed { .. } | Ending::Cancelled { .. }) => format!("**{word}**"),
        },
        State::Pending | State::Working(_) | State::InputRequired(_) | State::Stuck(_) => {
            format!("**{word}**")
        }
    };
    match &step.effect {
        Some(Effect::Send { attempt }) => write!(cell, " #{attempt}, send").unwrap(),
        Some(Effect::Continue { attempt, .. }) => write!(cell, " #{attempt}, send input").unwrap(),
        Some(Effect::CancelRemote { .. }) => cell.push_str(", cancel there"),
        None => {}
    }
    cell
}

/// Every event in every state, as the table of `docs/STATE_MACHINE.md`.
fn table() -> String {
    let lives = lives();
    let heads: Vec<&str> = lives.iter().map(|(state, _)| *state).collect();
    let mut table = format!(
        "| event | {} |\n|---|{}\n",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for (when, moment) in [
        ("", at(10)),
        (" after 11 min", at(660)),
        (" at the deadline", at(3600)),
    ] {
        for (name, event) in events() {
            let looks_at_time = matches!(event, Event::Elapsed { .. } | Event::SlotGranted);
            if looks_at_time || when.is_empty() {
                let decide = |(_, life): &(_, Life)| {
                    cell(&transition(&policy(), &delegated(), life, &event, moment))
                };
                let cells: Vec<String> = lives.iter().map(decide).collect();
                writeln!(table, "| {name}{when} | {} |", cells.join(" | ")).unwrap();
            }
        }
    }
    table
}

/// A change of the life of a delegation is a change of its documentation, seen in review. To take it over, run this
/// test with `UPDATE_DOCS=1`.
#[test]
fn the_whole_table_is_as_documented() {
    const START: &str = "<!-- table -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/STATE_MACHINE.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (head, documented) = document.split_once(START).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{START}{}", table())).unwrap();
    } else {
        assert_eq!(documented, table());
    }
}

#[test]
fn redelivery_decides_what_an_unknown_outcome_means() {
    let life = Life {
        attempt: Attempt(1),
        state: State::Working(Working::dispatched(START)),
    };
    for (redelivery, target_deduplicates, resent) in [
        (Redelivery::Never, true, false),
        (Redelivery::IfIdempotent, false, false),
        (Redelivery::IfIdempotent, true, true),
        (Redelivery::Always, false, true),
    ] {
        let class = ErrorClass::Truncated;
        let cut = called(
            1,
            Outcome::DeliveredUnknown {
                class,
                detail: text("cut"),
                target_deduplicates,
            },
        );
        let restored = Event::Restored {
            call_in_flight: false,
            target_deduplicates,
        };
        for event in [cut, restored] {
            let decision = transition(
                &policy(),
                &terms(redelivery, Origin::Delegated),
                &life,
                &event,
                at(1),
            );
            let Decision::Advance(step) = decision else {
                panic!("an unknown outcome always moves")
            };
            assert_eq!(
                matches!(step.life.state, State::Queued(_)),
                resent,
                "{redelivery:?} {event:?}"
            );
            assert_eq!(step.life.status() == Status::Failed, !resent);
        }
    }
}

#[test]
fn what_the_agent_sent_itself_is_never_sent_by_baton() {
    let life = Life::new(State::Working(Working::dispatched(START)));
    for origin in [Origin::Recorded, Origin::Adopted] {
        let event = Event::Restored {
            call_in_flight: false,
            target_deduplicates: true,
        };
        let decision = transition(
            &policy(),
            &terms(Redelivery::Always, origin),
            &life,
            &event,
            at(1),
        );
        assert_eq!(decision, Decision::Ignored(Ignored::NotApplicable));
    }
}

#[test]
fn a_wait_never_reaches_beyond_the_deadline() {
    let life = Life {
        attempt: Attempt(1),
        state: State::Working(Working::dispatched(START)),
    };
    let busy = called(
        1,
        Outcome::Busy {
            retry_after: Some(HOUR),
        },
    );
    let Decision::Advance(step) = transition(&policy(), &delegated(), &life, &busy, at(3500))
    else {
        panic!()
    };
    assert_eq!(
        next_due(&policy(), &delegated(), &step.life, START),
        Some(START.plus(HOUR))
    );
}
