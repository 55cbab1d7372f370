//! Killed at random instants under load, again and again.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use crate::rig::{Rig, any_wait, chance};
use crate::support::books::Course;
use crate::support::database::Database;
use crate::support::sized;

crate::on_both_databases!(
    within crate::rig::LIMIT;
    careful_agents_complete_everything_however_often_baton_is_killed,
    plain_agents_see_nothing_twice_however_often_baton_is_killed,
);

const CLIENTS: u64 = 6;
/// The longest that a server lives.
const LIFE: Duration = Duration::from_millis(300);
/// The longest that a client thinks between two delegations.
const THOUGHT: Duration = Duration::from_millis(8);

/// What the clients may know of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    Down,
    Over,
}

async fn careful_agents_complete_everything_however_often_baton_is_killed(database: Database) {
    kill_again_and_again(database, Course::KilledWithCarefulAgent).await;
}

async fn plain_agents_see_nothing_twice_however_often_baton_is_killed(database: Database) {
    kill_again_and_again(database, Course::KilledWithPlainAgent).await;
}

async fn kill_again_and_again(database: Database, course: Course) {
    let rounds = sized("BATON_CRASH_ROUNDS", 10);
    let rig = Rig::new(database, course).await;
    let case = format!("{rounds} rounds, {course:?}, {}", rig.name());
    let mut chance = chance(&case);
    let (phase, _) = watch::channel(Phase::Up);
    let clients = (0..CLIENTS).map(|number| {
        let thoughts = StdRng::seed_from_u64(chance.random());
        delegate_until_it_is_over(&rig, number, thoughts, phase.subscribe())
    });
    let clients: Vec<_> = clients.collect();
    let begun = Instant::now();
    let kill = async {
        for _ in 0..rounds {
            tokio::time::sleep(any_wait(&mut chance, LIFE)).await;
            phase.send_replace(Phase::Down);
            rig.server.restart().await;
            phase.send_replace(Phase::Up);
        }
        phase.send_replace(Phase::Over);
    };
    let (acknowledged, ()) = join(join_all(clients), kill).await;
    let took = begun.elapsed();
    let acknowledged = acknowledged.concat();
    let totals = rig.assert_settled(&acknowledged).await;
    println!(
        "{case}: {} acknowledged, {totals:?}; {took:?} under fire, {:?} in all",
        acknowledged.len(),
        begun.elapsed(),
    );
    assert!(!acknowledged.is_empty(), "there was a load");
}

/// Delegates one task after another, each with a key and until it is answered; the ids.
async fn delegate_until_it_is_over(
    rig: &Rig,
    number: u64,
    mut thoughts: StdRng,
    mut phase: watch::Receiver<Phase>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for place in 0.. {
        let task = format!("task {place} of client {number}");
        let id = loop {
            let seen = *phase.wait_for(|phase| *phase != Phase::Down).await.unwrap();
            if seen == Phase::Over {
                return acknowledged;
            }
            match rig.delegate(&task, true).await {
                Some(id) => break id,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        acknowledged.push(id);
        tokio::time::sleep(any_wait(&mut thoughts, THOUGHT)).await;
    }
    acknowledged
}
