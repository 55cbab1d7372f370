//! Several nodes on one `PostgreSQL`: through whichever one comes, and whichever dies, each delegation ends once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::Database;
use crate::support::history::{Expected, Ledger, assert_exactly_once};
use crate::support::poller::Poller;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};
use crate::support::{eventually, eventually_within};

crate::on_postgres!(
    what_one_node_has_in_charge_is_reported_through_the_other,
    a_reader_on_one_node_sees_what_the_other_commits_in_order,
    what_a_killed_node_had_ends_with_one_reply_each,
    a_frozen_node_is_fenced_when_it_thaws,
    a_node_that_stops_leaves_its_work_at_once,
);

const USUAL_LEASE: (&str, &str) = ("BATON_LEASE_MS", "5000");
const SHORT_LEASE: (&str, &str) = ("BATON_LEASE_MS", "1000");

async fn two(database: &Database, variables: &[(&str, &str)]) -> [Server; 2] {
    [
        Server::start(database, variables).await,
        Server::start(database, variables).await,
    ]
}

/// How many delegations have an actor on a node.
async fn live(api: &Api) -> f64 {
    let metrics = api.get(As::Admin, "/metrics").await.expect(200);
    let lines = metrics.text.lines();
    lines
        .filter(|line| line.starts_with("baton_delegations_live{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Makes the target one that drops repeated messages.
async fn deduplicates(api: &Api, target: &Workspace, url: &str) {
    let card = json!({"name": "target", "url": "", "capabilities": {"extensions": [
        {"uri": "urn:baton:ext:idempotent-message-id:v1"},
    ]}});
    api.register(target, url, &card).await.expect(200);
}

async fn what_one_node_has_in_charge_is_reported_through_the_other(database: Database) {
    let [one, other] = two(&database, &[USUAL_LEASE]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = one.family(&agent.url()).await;
    let sent = one.api().delegated(&caller, &target, "go").await;
    agent.wait_for(1).await;
    one.api()
        .record(&caller, &target, "recorded", "go")
        .await
        .expect(202);
    for id in [&*sent, "recorded"] {
        let report = other.api().report_completed(&target, id, "done").await;
        report.expect(200);
        for api in [one.api(), other.api()] {
            assert_exactly_once(api, &caller, id, Expected::Completed("done")).await;
            api.report_completed(&target, id, "done").await.expect(200);
            api.report_failed(&target, id, "no").await.expect(409);
        }
    }
    // Whoever had them in charge was told.
    eventually_within(
        Duration::from_secs(5),
        "nobody waits any more",
        async || (live(one.api()).await + live(other.api()).await == 0.0).then_some(()),
    )
    .await;
    agent.release();
    eventually("the late answer is kept", async || {
        let whole = other.api().delegation(&caller, &sent).await.expect(200);
        whole.body.get("late_result").map(drop)
    })
    .await;
    for server in [&one, &other] {
        server.assert_invariants().await;
    }
}

/// The ids of the whole events in a stream's text.
fn event_ids(text: &str) -> Vec<i64> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter_map(|line| line.strip_prefix("id: "));
    lines.filter_map(|id| id.trim().parse().ok()).collect()
}

async fn a_reader_on_one_node_sees_what_the_other_commits_in_order(database: Database) {
    let [one, other] = two(&database, &[USUAL_LEASE]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = one.family(&agent.url()).await;
    let (id, took) = {
        let waits = other.api().inbox(&caller, 10, 30);
        let begins = async {
            let id = one.api().delegated(&caller, &target, "go").await;
            one.api().wait_until_ended(&caller, &id).await;
            (id, Instant::now())
        };
        let (inbox, (id, ended)) = tokio::join!(waits, begins);
        assert_eq!(
            inbox.expect(200).body["messages"][0]["request_body"]["delegation_id"],
            id
        );
        (id, ended.elapsed())
    };
    assert!(
        took < Duration::from_secs(1),
        "{id} was seen after {took:?}"
    );

    let mut stream = Raw::connect(other.api()).await;
    let path = format!("/workspaces/{}/events/stream", caller.id);
    stream.send(&raw::get(&caller, &path)).await;
    stream.read_until(": ping").await;
    let apis = [one.api(), other.api()];
    let begin = (0..40).map(|number: usize| apis[number % 2].delegated(&caller, &target, "go"));
    join_all(begin).await;
    let ended = |text: &str| text.matches("DELEGATION_COMPLETE").count();
    let text = stream.read_while(|text| ended(text) < 40).await;
    let ids = event_ids(&text);
    assert!(
        ids.is_sorted_by(|earlier, later| earlier < later),
        "{ids:?}"
    );
    for (name, count) in [("DELEGATION_SENT", 40), ("DELEGATION_COMPLETE", 40)] {
        assert_eq!(text.matches(name).count(), count, "{name}");
    }
    one.assert_invariants().await;
}

async fn what_a_killed_node_had_ends_with_one_reply_each(database: Database) {
    let [one, other] = two(&database, &[USUAL_LEASE, ("BATON_RETRY_BASE_MS", "50")]).await;
    let slow = Behaviour::after(Duration::from_millis(300), Behaviour::Echo);
    let agent = FakeAgent::start(slow).await;
    let Family { caller, target, .. } = one.family(&agent.url()).await;
    deduplicates(one.api(), &target, &agent.url()).await;
    let mut ids = Vec::new();
    let mut poller = Poller::default();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let begin = (0..10).map(|number: usize| {
            let api = [one.api(), other.api()][number % 2];
            api.delegated(&caller, &target, "go")
        });
        ids.extend(join_all(begin).await);
        seen.extend(poller.poll(other.api(), &caller).await);
    }
    one.kill9();
    let killed = Instant::now();
    other.api().wait_until_all_ended(&caller).await;
    let took = killed.elapsed();
    println!("everything had ended {took:?} after the kill");
    assert!(took < Duration::from_secs(10), "{took:?}");
    seen.extend(poller.drain(other.api(), &caller).await);
    let ledger = Ledger::read(other.api(), &caller).await;
    for id in &ids {
        assert_eq!(ledger.only_ending(id), ("completed", "echo: go"));
    }
    assert_eq!(
        (seen.len(), ledger.replied()),
        (100, 100),
        "each reply once"
    );
    other.assert_invariants().await;
}

async fn a_frozen_node_is_fenced_when_it_thaws(database: Database) {
    let [one, other] = two(&database, &[SHORT_LEASE]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = one.family(&agent.url()).await;
    let ids = join_all((0..5).map(|_| one.api().delegated(&caller, &target, "go"))).await;
    agent.wait_for(5).await;
    one.signal("STOP");
    let api = other.api();
    // They were sent, and the agent may have taken them: nobody can ask it (rule 6).
    api.wait_until_all_ended(&caller).await;
    agent.release();
    one.signal("CONT");
    assert_eq!(one.ended().await.code(), Some(75));
    assert!(
        one.log().contains("another node took over"),
        "{}",
        one.log()
    );
    for id in &ids {
        assert_exactly_once(api, &caller, id, Expected::Failed("outcome_unknown")).await;
        assert_eq!(agent.seen(id), 1);
    }
    one.start_again().await;
    let id = one.api().delegated(&caller, &target, "go").await;
    one.api().wait_until_ended(&caller, &id).await;
    other.assert_invariants().await;
}

async fn a_node_that_stops_leaves_its_work_at_once(database: Database) {
    // Nobody could wait for this lease to expire.
    let [one, other] = two(&database, &[("BATON_LEASE_MS", "600000")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.stop();
    let Family { caller, target, .. } = one.family(&agent.url()).await;
    let id = one.api().delegated(&caller, &target, "go").await;
    one.api().wait_until_status(&caller, &id, &["queued"]).await;
    assert_eq!(one.terminate().await.code(), Some(0));
    agent.resume().await;
    let api = other.api();
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: go")).await;
    other.assert_invariants().await;
}
