//! The database is away under load: stopped, frozen, full, read-only. Nothing is lost, nothing is promised, and it mends
//! itself (lessons I04, R03).

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::books::{Books, Course};
use crate::support::client::{Api, As};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::server::{Family, Server};
use crate::support::{eventually, sized};

/// How many delegate at once.
const CLIENTS: usize = 4;
/// How long a client thinks between two delegations.
const THOUGHT: Duration = Duration::from_millis(20);
/// How long a refusal may take: a second, and what two busy cores add.
const PROMPT: Duration = Duration::from_secs(3);
/// How many refusals show that the clients met the outage.
const ENOUGH: usize = 10;

/// What the clients were answered.
#[derive(Default, Debug)]
struct Tally {
    accepted: Vec<String>,
    refused: usize,
    slowest: Duration,
}

/// How many refusals there were so far, and whether to go on.
struct Load {
    goes_on: watch::Sender<bool>,
    refused: watch::Sender<usize>,
}

impl Load {
    /// Returns when the clients have met the outage.
    async fn meets_it(&self) {
        let enough = *self.refused.borrow() + ENOUGH;
        let mut refused = self.refused.subscribe();
        let met = refused.wait_for(|refused| *refused >= enough);
        let met = tokio::time::timeout(crate::support::PATIENCE, met).await;
        drop(met.expect("refusals").expect("a load"));
    }
}

/// Delegates from several clients while the outage goes on; then everything accepted has ended once.
async fn load_through(
    server: &Server,
    database: &Database,
    outage: impl AsyncFnOnce(&Load, &Family),
) -> Tally {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let family = server.family(&agent.url()).await;
    let load = Load {
        goes_on: watch::Sender::new(true),
        refused: watch::Sender::new(0),
    };
    let clients = (0..CLIENTS).map(|_| delegate_on(server.api(), &family, &load));
    let outage = async {
        outage(&load, &family).await;
        load.goes_on.send_replace(false);
    };
    let (tallies, ()) = join(join_all(clients), outage).await;
    let mut whole = Tally::default();
    for tally in tallies {
        whole.accepted.extend(tally.accepted);
        whole.refused += tally.refused;
        whole.slowest = whole.slowest.max(tally.slowest);
    }
    let books = Books {
        server,
        database,
        callers: &[family.caller],
        agent: &agent,
        course: Course::Lived,
    };
    let totals = books.assert_settled(&whole.accepted).await;
    println!(
        "{} accepted, {} refused, the slowest answer after {:?}; {totals:?}",
        whole.accepted.len(),
        whole.refused,
        whole.slowest
    );
    whole
}

/// Is answered 202, or 503 with a time to come back, and nothing else.
async fn delegate_on(api: &Api, family: &Family, load: &Load) -> Tally {
    let Family { caller, target, .. } = family;
    let body = json!({"target_id": target.id, "task": "go"});
    let path = format!("/workspaces/{}/delegate", caller.id);
    let mut tally = Tally::default();
    while *load.goes_on.borrow() {
        let begun = Instant::now();
        let reply = api
            .request(Method::POST, As::Workspace(caller), &path, Some(&body))
            .await;
        tally.slowest = tally.slowest.max(begun.elapsed());
        if reply.status == 503 {
            assert!(reply.header("retry-after").is_some(), "{}", reply.text);
            tally.refused += 1;
            load.refused.send_modify(|refused| *refused += 1);
        } else {
            let reply = reply.expect(202);
            tally.accepted.push(reply.str("delegation_id").to_owned());
        }
        tokio::time::sleep(THOUGHT).await;
    }
    tally
}

/// A delegation of before the outage is complete, and one of after it goes through.
async fn goes_well(server: &Server, family: &Family) {
    let Family { caller, target, .. } = family;
    let api = server.api();
    eventually("it accepts", async || {
        let reply = api.delegate(caller, target, "go").await;
        (reply.status == 202).then_some(())
    })
    .await;
    eventually("/health is well", async || {
        let reply = api.try_get("/health").await?;
        (reply.status == 200).then_some(())
    })
    .await;
}

async fn is_degraded(api: &Api) {
    eventually("/health is degraded", async || {
        let reply = api.try_get("/health").await?;
        (reply.status == 503).then_some(())
    })
    .await;
}

/// `None`, said aloud, where there is no PostgreSQL to start.
async fn own_postgres() -> Option<(Cluster, Database)> {
    let cluster = Cluster::start().await;
    if cluster.is_none() {
        println!("SKIPPED: no initdb was found; BATON_TEST_POSTGRES_BIN may name its directory");
    }
    let cluster = cluster?;
    let database = Database::on(cluster.url());
    Some((cluster, database))
}

fn outage_length() -> Duration {
    Duration::from_secs(sized("BATON_OUTAGE_S", 2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stops_twice_under_load() {
    let Some((mut cluster, database)) = own_postgres().await else {
        return;
    };
    let server = Server::start(&database, &[]).await;
    let tally = load_through(&server, &database, async |load, family| {
        for signal in ["INT", "QUIT"] {
            goes_well(&server, family).await;
            cluster.stop(signal);
            tokio::time::sleep(outage_length()).await;
            load.meets_it().await;
            is_degraded(server.api()).await;
            cluster.resume().await;
        }
        goes_well(&server, family).await;
    })
    .await;
    assert!(tally.slowest < PROMPT, "{:?}", tally.slowest);
    drop((server, database));
}
