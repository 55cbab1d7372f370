//! Killed at each named point of `BATON_FAULTS`, with what is to become of the delegation and how often its agent sees it.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use crate::rig::Rig;
use crate::support::agent::FakeAgent;
use crate::support::books::Course;
use crate::support::database::Database;
use crate::support::eventually;

crate::on_both_databases!(
    within crate::rig::LIMIT;
    a_plain_agent_at_each_point,
    a_careful_agent_at_each_point,
    a_plain_agent_at_each_point_when_it_is_sent_at_once,
    a_careful_agent_at_each_point_when_it_is_sent_at_once,
);

/// What the books say in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It was never accepted.
    Nothing,
    Completed,
    /// Failed, class `outcome_unknown`.
    Unknown,
}

use End::{Completed, Nothing, Unknown};

/// A point, and for either kind of agent the end and how often it sees the message. A delegation that nothing disturbs
/// takes three commits: it is accepted, it is about to be sent, it ended.
type Cell = (
    &'static str,
    (End, RangeInclusive<usize>),
    (End, RangeInclusive<usize>),
);

/// The agent has the request, and does not answer.
const WITH_THE_AGENT: &str = "with the agent";

/// In the order of a delegation's life.
const CELLS: [Cell; 10] = [
    ("during_commit:abort:1", (Nothing, 0..=0), (Nothing, 0..=0)),
    ("committed:abort:1", (Completed, 1..=1), (Completed, 1..=1)),
    (
        "during_commit:abort:2",
        (Completed, 1..=1),
        (Completed, 1..=1),
    ),
    ("committed:abort:2", (Unknown, 0..=0), (Completed, 1..=1)),
    ("before_send:abort", (Unknown, 0..=0), (Completed, 1..=1)),
    // The bytes are with the operating system or are not: nobody can tell, which is the point.
    ("after_send:abort", (Unknown, 0..=1), (Completed, 1..=2)),
    (WITH_THE_AGENT, (Unknown, 1..=1), (Completed, 2..=2)),
    (
        "answer_received:abort",
        (Unknown, 1..=1),
        (Completed, 2..=2),
    ),
    (
        "during_commit:abort:3",
        (Unknown, 1..=1),
        (Completed, 2..=2),
    ),
    ("committed:abort:3", (Completed, 1..=1), (Completed, 1..=1)),
];

/// With nothing in its way it takes two: it is accepted and about to be sent, it ended.
const AT_ONCE: [Cell; 8] = [
    ("during_commit:abort:1", (Nothing, 0..=0), (Nothing, 0..=0)),
    ("committed:abort:1", (Unknown, 0..=0), (Completed, 1..=1)),
    ("before_send:abort", (Unknown, 0..=0), (Completed, 1..=1)),
    ("after_send:abort", (Unknown, 0..=1), (Completed, 1..=2)),
    (WITH_THE_AGENT, (Unknown, 1..=1), (Completed, 2..=2)),
    (
        "answer_received:abort",
        (Unknown, 1..=1),
        (Completed, 2..=2),
    ),
    (
        "during_commit:abort:2",
        (Unknown, 1..=1),
        (Completed, 2..=2),
    ),
    ("committed:abort:2", (Completed, 1..=1), (Completed, 1..=1)),
];

async fn a_plain_agent_at_each_point(database: Database) {
    let rig = Rig::with_address(database, Course::KilledWithPlainAgent, FakeAgent::long_url).await;
    kill_at_each(rig, CELLS.map(|(point, plain, _)| (point, plain))).await;
}

async fn a_careful_agent_at_each_point(database: Database) {
    let course = Course::KilledWithCarefulAgent;
    let rig = Rig::with_address(database, course, FakeAgent::long_url).await;
    kill_at_each(rig, CELLS.map(|(point, _, careful)| (point, careful))).await;
}

async fn a_plain_agent_at_each_point_when_it_is_sent_at_once(database: Database) {
    let rig = Rig::new(database, Course::KilledWithPlainAgent).await;
    kill_at_each(rig, AT_ONCE.map(|(point, plain, _)| (point, plain))).await;
}

async fn a_careful_agent_at_each_point_when_it_is_sent_at_once(database: Database) {
    let rig = Rig::new(database, Course::KilledWithCarefulAgent).await;
    kill_at_each(rig, AT_ONCE.map(|(point, _, careful)| (point, careful))).await;
}

async fn kill_at_each<const N: usize>(
    mut rig: Rig,
    cells: [(&'static str, (End, RangeInclusive<usize>)); N],
) {
    for (point, expected) in cells {
        kill_at(&mut rig, point, expected).await;
    }
    rig.assert_settled(&[]).await;
}

async fn kill_at(rig: &mut Rig, point: &str, expected: (End, RangeInclusive<usize>)) {
    let task = format!("killed at {point}");
    let answered = if point == WITH_THE_AGENT {
        kill_over_a_held_agent(rig, &task).await
    } else {
        rig.server.restart_with(&[("BATON_FAULTS", point)]).await;
        nothing_stands_in_the_way(rig).await;
        let answered = rig.delegate(&task, false).await;
        let status = rig.server.ended().await;
        assert!(!status.success(), "{point}");
        rig.server.set("BATON_FAULTS", "");
        answered
    };
    rig.server.start_again().await;
    let stored = format!("SELECT delegation_id FROM delegations WHERE task = '{task}'");
    let stored = rig.database.texts(&stored).pop().flatten();
    if answered.is_some() {
        assert_eq!(stored, answered, "{point}");
    }
    let whole = match &stored {
        Some(id) => rig.server.api().wait_until_ended(&rig.caller, id).await,
        None => Value::Null,
    };
    let end = match (whole["status"].as_str(), whole["error_class"].as_str()) {
        (None, _) => Nothing,
        (Some("completed"), _) => Completed,
        (Some("failed"), Some("outcome_unknown")) => Unknown,
        _ => panic!("{point}: {whole:#}"),
    };
    let messages = rig.agent.messages();
    let seen = messages.iter().filter(|message| message.text() == task);
    let (wanted, often) = expected;
    let seen = seen.count();
    assert_eq!(end, wanted, "{point}, seen {seen} times: {whole:#}");
    assert!(
        often.contains(&seen),
        "{point}, seen {seen} times: {whole:#}"
    );
}

/// After a kill nobody is given a turn until what the killed one had is taken over.
async fn nothing_stands_in_the_way(rig: &Rig) {
    rig.server.knows_by_heart(&rig.caller).await;
    let left = "SELECT count(*) FROM nodes WHERE holder = id";
    eventually("what was left is taken over", async || {
        (rig.database.count(left) == 1).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn kill_over_a_held_agent(rig: &Rig, task: &str) -> Option<String> {
    let before = rig.agent.messages().len();
    rig.agent.hold();
    let answered = rig.delegate(task, false).await;
    rig.agent.wait_for(before + 1).await;
    rig.server.kill9();
    rig.agent.release();
    answered
}
