//! The database away: whoever asks is told within a second to come back, and everything goes on by itself afterwards.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::proxy::Proxy;
use crate::support::server::{Family, Server};

crate::on_postgres!(
    a_frozen_database_is_answered_for_within_a_second,
    a_stopped_database_is_answered_for_within_a_second,
);

crate::on_both_databases!(a_database_that_takes_no_writes_is_answered_for_within_a_second);

/// What the service itself takes, beside the second.
const MARGIN: Duration = Duration::from_millis(200);

async fn refused_in_time(api: &Api, method: Method, by: As<'_>, path: &str, body: Option<&Value>) {
    let begun = Instant::now();
    let reply = api.request(method, by, path, body).await;
    let took = begun.elapsed();
    assert!(
        reply.header("retry-after").is_some(),
        "{path}: {}",
        reply.text
    );
    reply.expect(503);
    assert!(took < Duration::from_secs(1) + MARGIN, "{path}: {took:?}");
}

async fn all_are_refused_in_time(api: &Api, caller: &Workspace, target: &Workspace) {
    let order = json!({"target_id": target.id, "task": "go"});
    let report = json!({"status": "completed", "response_preview": "x"});
    let seat = format!("/workspaces/{}", caller.id);
    for _ in 0..3 {
        let requests = [
            (Method::POST, format!("{seat}/delegate"), Some(&order)),
            (
                Method::POST,
                format!("{seat}/delegations/x/update"),
                Some(&report),
            ),
            (Method::GET, format!("{seat}/delegations"), None),
            (Method::GET, format!("{seat}/inbox?wait=30"), None),
        ];
        let asked = requests.iter().map(|(method, path, body)| {
            refused_in_time(api, method.clone(), As::Workspace(caller), path, *body)
        });
        join_all(asked).await;
    }
    eventually("/health says so", async || {
        let health = api.try_get("/health").await?;
        (health.status == 503 && health.header("retry-after").is_some()).then_some(())
    })
    .await;
}

async fn away_and_back(database: &Database, block: impl Fn(&Proxy)) {
    let proxy = Proxy::before(database).await;
    let server = Server::start(database, &[("DATABASE_URL", proxy.url())]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let before = api.delegated(&caller, &target, "before").await;
    agent.wait_for(1).await;
    block(&proxy);
    all_are_refused_in_time(api, &caller, &target).await;
    agent.release();
    proxy.open();
    eventually("/health is well again", async || {
        let health = api.try_get("/health").await?;
        (health.status == 200).then_some(())
    })
    .await;
    api.wait_until_all_ended(&caller).await;
    assert_exactly_once(api, &caller, &before, Expected::Completed("echo: before")).await;
    let after = api.delegated(&caller, &target, "after").await;
    api.wait_until_ended(&caller, &after).await;
    assert_exactly_once(api, &caller, &after, Expected::Completed("echo: after")).await;
    server.assert_invariants().await;
}

async fn a_frozen_database_is_answered_for_within_a_second(database: Database) {
    away_and_back(&database, Proxy::freeze).await;
}

async fn a_stopped_database_is_answered_for_within_a_second(database: Database) {
    away_and_back(&database, Proxy::close).await;
}

/// What can still be read is; the rest is refused in time.
async fn a_database_that_takes_no_writes_is_answered_for_within_a_second(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let block = database.block_writes("feed_position");
    let order = json!({"target_id": target.id, "task": "go"});
    let path = format!("/workspaces/{}/delegate", caller.id);
    for _ in 0..3 {
        let by = As::Workspace(&caller);
        refused_in_time(api, Method::POST, by, &path, Some(&order)).await;
    }
    api.delegations(&caller).await.expect(200);
    drop(block);
    eventually("it takes writes again", async || {
        (api.delegate(&caller, &target, "go").await.status == 202).then_some(())
    })
    .await;
    api.wait_until_all_ended(&caller).await;
    server.assert_invariants().await;
}
