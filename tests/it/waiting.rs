//! Targets that are not ready: busy, at their capacity, away, elsewhere, or reading for themselves (issue of the lines).

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once, replies};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    an_agent_that_takes_one_at_a_time_takes_thirty_in_order,
    a_cap_of_its_own_is_never_exceeded_and_keeps_the_order,
    the_higher_priority_goes_first,
    a_target_that_went_elsewhere_is_found_there,
    what_waits_in_line_still_waits_after_a_kill,
    a_target_without_an_address_is_called_once_it_has_one,
    a_target_that_reads_its_inbox_is_waited_for,
);

const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "50");

async fn delegate_many(
    api: &Api,
    caller: &Workspace,
    target: &Workspace,
    count: usize,
) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for number in 0..count {
        ids.push(
            api.delegated(caller, target, &format!("task {number}"))
                .await,
        );
    }
    ids
}

async fn an_agent_that_takes_one_at_a_time_takes_thirty_in_order(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::OneAtATime(Duration::from_millis(100))).await;
    agent.retry_after(None);
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    // The first that it refuses is how it shows that it takes one at a time.
    let mut ids = delegate_many(api, &caller, &target, 2).await;
    api.wait_until_status(&caller, &ids[1], &["queued"]).await;
    for number in 2..30 {
        let task = format!("task {number}");
        ids.push(api.delegated(&caller, &target, &task).await);
    }
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.accepted(), ids, "each once, in the order of asking");
    assert_eq!(agent.peak(), 1);
    for (number, id) in ids.iter().enumerate() {
        let text = format!("echo: task {number}");
        assert_exactly_once(api, &caller, id, Expected::Completed(&text)).await;
    }
    server.assert_invariants().await;
}

async fn capped(api: &Api, parent: &Workspace, agent: &FakeAgent, cap: i32) -> Workspace {
    let target = api
        .create_workspace("capped", Some(parent), Some(&agent.url()))
        .await;
    let path = format!("/workspaces/{}", target.id);
    let change = json!({"max_concurrent_tasks": cap});
    let patched = api
        .request(Method::PATCH, As::Admin, &path, Some(&change))
        .await;
    patched.expect(200);
    target
}

async fn a_cap_of_its_own_is_never_exceeded_and_keeps_the_order(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let slow = Behaviour::after(Duration::from_millis(50), Behaviour::Echo);
    let agent = FakeAgent::start(slow).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let target = capped(api, &root, &agent, 1).await;
    agent.hold();
    let ids = delegate_many(api, &caller, &target, 12).await;
    agent.wait_for(1).await;
    for waiting in &ids[1..] {
        let seen = api.wait_until_status(&caller, waiting, &["queued"]).await;
        assert_eq!(seen["waiting_for"], "capacity", "{seen:#}");
    }
    agent.release();
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.accepted(), ids);
    assert_eq!(agent.peak(), 1);
    assert_eq!(agent.messages().len(), ids.len(), "nobody was turned away");
    server.assert_invariants().await;
}

async fn the_higher_priority_goes_first(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let target = capped(api, &root, &agent, 1).await;
    agent.hold();
    let mut ids = delegate_many(api, &caller, &target, 2).await;
    agent.wait_for(1).await;
    for (priority, place) in [(10, 2), (100, 1)] {
        let body = json!({"target_id": target.id, "task": "x", "priority": priority});
        let accepted = api.delegate_with(&caller, &body).await.expect(202);
        ids.insert(place, accepted.str("delegation_id").to_owned());
    }
    for waiting in &ids[1..] {
        api.wait_until_status(&caller, waiting, &["queued"]).await;
    }
    agent.release();
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.accepted(), ids);
}

async fn a_target_that_went_elsewhere_is_found_there(database: Database) {
    let server = Server::start(&database, &[("BATON_RETRY_BASE_MS", "100")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    agent.stop();
    let ids = delegate_many(api, &caller, &target, 5).await;
    let first = eventually("the first was tried more than once", async || {
        let seen = api.delegation(&caller, &ids[0]).await.expect(200).body;
        let tried = seen["attempts"].as_u64() > Some(2);
        (tried && seen["waiting_for"] == "unreachable").then_some(seen)
    })
    .await;
    assert!(first["next_attempt_at"].is_string(), "{first:#}");
    for behind in &ids[1..] {
        let seen = api.delegation(&caller, behind).await.expect(200).body;
        let fewer = seen["attempts"].as_u64() < first["attempts"].as_u64();
        assert!(fewer, "probed by the first: {seen:#}");
    }
    let elsewhere = agent.reopen_elsewhere().await;
    let begun = Instant::now();
    api.register(&target, &elsewhere, &json!({}))
        .await
        .expect(200);
    api.wait_until_all_ended(&caller).await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "the registration itself wakes the line"
    );
    for (number, id) in ids.iter().enumerate() {
        let text = format!("echo: task {number}");
        assert_exactly_once(api, &caller, id, Expected::Completed(&text)).await;
        assert_eq!(agent.seen(id), 1);
    }
    server.assert_invariants().await;
}

async fn what_waits_in_line_still_waits_after_a_kill(database: Database) {
    let server = Server::start(&database, &[SOON, ("BATON_LEASE_MS", "500")]).await;
    let agent = FakeAgent::start(Behaviour::Busy).await;
    agent.retry_after(Some(1));
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let ids = delegate_many(api, &caller, &target, 8).await;
    for id in &ids {
        let seen = api.wait_until_status(&caller, id, &["queued"]).await;
        assert!(seen["next_attempt_at"].is_string(), "{seen:#}");
    }
    server.kill9();
    agent.behave(Behaviour::OneAtATime(Duration::from_millis(20)));
    server.start_again().await;
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.accepted(), ids);
    for (number, id) in ids.iter().enumerate() {
        let text = format!("echo: task {number}");
        assert_exactly_once(api, &caller, id, Expected::Completed(&text)).await;
    }
    server.assert_invariants().await;
}

async fn a_target_without_an_address_is_called_once_it_has_one(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let target = api.create_workspace("late", Some(&root), None).await;
    let id = api.delegated(&caller, &target, "early").await;
    let seen = api.wait_until_status(&caller, &id, &["queued"]).await;
    assert_eq!(seen["waiting_for"], "address", "{seen:#}");
    let begun = Instant::now();
    api.register(&target, &agent.url(), &json!({}))
        .await
        .expect(200);
    api.wait_until_ended(&caller, &id).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: early")).await;
}

async fn a_target_that_reads_its_inbox_is_waited_for(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let target = api.create_poll_workspace("reader", Some(&root)).await;
    let id = api.delegated(&caller, &target, "read me").await;
    let seen = api.wait_until_status(&caller, &id, &["queued"]).await;
    assert_eq!(seen["waiting_for"], "poll", "{seen:#}");
    let request = eventually("the request is in the inbox", async || {
        let inbox = api.inbox(&target, 10, 0).await.expect(200).body;
        inbox["messages"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(request["method"], "message/send");
    assert_eq!(request["source_id"], json!(caller.id));
    let message = &request["request_body"]["params"]["message"];
    assert_eq!(message["parts"][0]["text"], "read me", "{request:#}");
    assert_eq!(message["messageId"], json!(id));
    assert!(
        replies(api, &caller, &id).await.is_empty(),
        "nothing is complete yet"
    );
    api.report_completed(&target, &id, "read and done")
        .await
        .expect(200);
    assert_exactly_once(api, &caller, &id, Expected::Completed("read and done")).await;
    server.assert_invariants().await;
}
