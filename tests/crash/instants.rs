//! Killed right behind a 202: what was acknowledged exists.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;

use crate::rig::{Rig, any_wait, chance};
use crate::support::books::Course;
use crate::support::database::Database;
use crate::support::sized;

crate::on_both_databases!(
    within crate::rig::LIMIT;
    killed_within_5_ms_of_a_202_it_has_what_it_acknowledged,
);

/// How many delegations are on their way when it is killed.
const AT_ONCE: usize = 6;
/// How long after the first 202 it lives at most: one less than promised, for timers round up.
const BREATH: Duration = Duration::from_millis(4);

async fn killed_within_5_ms_of_a_202_it_has_what_it_acknowledged(database: Database) {
    let kills = sized("BATON_CRASH_KILLS", 20);
    let rig = Rig::new(database, Course::KilledWithPlainAgent).await;
    let case = format!("{kills} kills behind a 202, {}", rig.name());
    let mut chance = chance(&case);
    let begun = Instant::now();
    let mut acknowledged = Vec::new();
    for kill in 0..kills {
        let rig = &rig;
        let tasks = (0..AT_ONCE).map(|place| format!("task {place} of kill {kill}"));
        let mut under_way: FuturesUnordered<_> = tasks
            .map(async |task| rig.delegate(&task, false).await)
            .collect();
        let first = under_way.next().await.flatten();
        acknowledged.push(first.expect("a server that lives answers"));
        let breath = any_wait(&mut chance, BREATH);
        let kill = async {
            tokio::time::sleep(breath).await;
            rig.server.kill9();
        };
        let (others, ()) = join(under_way.collect::<Vec<_>>(), kill).await;
        acknowledged.extend(others.into_iter().flatten());
        rig.server.start_again().await;
    }
    let took = begun.elapsed();
    let totals = rig.assert_settled(&acknowledged).await;
    println!(
        "{case}: {} acknowledged, {totals:?}; {took:?} under fire, {:?} in all",
        acknowledged.len(),
        begun.elapsed(),
    );
}
