//! What takes delegations out of a target's line: its reading, its room, an operator, its removal, too long a wait.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::agent::{Behaviour as B, FakeAgent};
use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_poll_target_has_received_what_it_reads,
    what_has_waited_too_long_is_dropped_by_an_operator,
    a_senseless_drop_is_refused,
    who_waits_for_a_removed_target_is_told_at_once,
    whom_nobody_told_of_a_removal_is_told_after_the_next_start,
    a_cap_is_checked_shown_and_lifted,
    a_breaker_is_seen_and_reset,
    a_target_that_stays_away_exhausts_the_budget,
);

/// A retry soon enough for a test.
const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "50");

/// A caller, and a target of its own that fetches its work.
async fn poller(api: &Api) -> (Workspace, Workspace) {
    let caller = api.create_workspace("caller", None, None).await;
    let target = api.create_poll_workspace("poller", Some(&caller)).await;
    (caller, target)
}

async fn queued(api: &Api, caller: &Workspace, target: &Workspace, task: &str) -> String {
    let id = api.delegated(caller, target, task).await;
    api.wait_until_status(caller, &id, &["queued"]).await;
    id
}

async fn a_poll_target_has_received_what_it_reads(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let (caller, target) = poller(api).await;
    let id = queued(api, &caller, &target, "fetch me").await;
    let other = queued(api, &caller, &target, "fetch me too").await;
    // Nobody but the target takes it.
    let rest = format!("/workspaces/{}/activity?type=a2a_receive", target.id);
    let seen = api.admin_get(&rest).await.expect(200);
    assert_eq!(seen.rows().len(), 2);

    let inbox = api.inbox(&target, 1, 0).await.expect(200);
    let row = &inbox.body["messages"][0];
    assert_eq!(
        (&row["method"], &row["source_id"], &row["status"]),
        (&json!("message/send"), &json!(caller.id), &json!("ok"))
    );
    let message = &row["request_body"]["params"]["message"];
    assert_eq!(message["parts"][0]["text"], "fetch me");
    assert_eq!(message["messageId"], *id);
    let whole = api.wait_until_status(&caller, &id, &["received"]).await;
    // Reading it again changes nothing, and what was not among the rows waits on.
    api.inbox(&target, 1, 0).await.expect(200);
    let unread = api.delegation(&caller, &other).await.expect(200);
    assert_eq!(
        (unread.str("status"), unread.str("waiting_for")),
        ("queued", "poll")
    );
    let again = api.delegation(&caller, &id).await.expect(200);
    assert_eq!(again.body["revision"], whole["revision"]);

    api.activity(&target, "type=a2a_receive").await.expect(200);
    api.wait_until_status(&caller, &other, &["received"]).await;
    for (id, text) in [(&id, "one"), (&other, "two")] {
        api.report_completed(&target, id, text).await.expect(200);
        assert_exactly_once(api, &caller, id, Expected::Completed(text)).await;
    }
    server.assert_invariants().await;
}

async fn drop_stale(api: &Api, by: As<'_>, query: &str) -> Reply {
    let path = format!("/admin/a2a-queue/drop-stale{query}");
    api.request(Method::POST, by, &path, None).await
}

/// How many it dropped.
async fn dropped(api: &Api, query: &str) -> i64 {
    let reply = drop_stale(api, As::Admin, query).await.expect(200);
    reply.body["dropped"].as_i64().expect("a number")
}

async fn a_senseless_drop_is_refused(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let (caller, target) = poller(api).await;
    let id = queued(api, &caller, &target, "wait").await;
    for (query, field) in [
        ("?max_age_minutes=0", "max_age_minutes"),
        ("?max_age_minutes=-5", "max_age_minutes"),
        ("?max_age_minutes=1.5", "max_age_minutes"),
        ("?workspace_id=x", "workspace_id"),
    ] {
        let refused = drop_stale(api, As::Admin, query).await.expect(400);
        assert_eq!(refused.body["field"], field, "{query}");
    }
    let own = drop_stale(api, As::Workspace(&caller), "").await;
    own.expect(401);
    assert_eq!(api.delegation(&caller, &id).await.body["status"], "queued");
    server.assert_invariants().await;
}

async fn what_has_waited_too_long_is_dropped_by_an_operator(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let (caller, target) = poller(api).await;
    let elsewhere = api.create_poll_workspace("other", Some(&caller)).await;
    let stale = queued(api, &caller, &target, "stale").await;
    let kept = queued(api, &caller, &elsewhere, "stale elsewhere").await;
    let two_hours_ago = if database.is_sqlite() {
        "created_at - 7200000000"
    } else {
        "created_at - interval '2 hours'"
    };
    database.execute(&format!(
        "UPDATE delegations SET created_at = {two_hours_ago}"
    ));
    let fresh = queued(api, &caller, &target, "fresh").await;
    for query in [
        "?max_age_minutes=121",
        "?max_age_minutes=18446744073709551615",
    ] {
        assert_eq!(dropped(api, query).await, 0);
    }
    let of_target = format!("?max_age_minutes=119&workspace_id={}", target.id);
    assert_eq!(dropped(api, &of_target).await, 1);
    assert_eq!(dropped(api, &of_target).await, 0);
    let whole = api.wait_until_ended(&caller, &stale).await;
    assert_eq!(
        whole["error"],
        "dropped by an operator after 120 minutes in line"
    );
    assert_exactly_once(api, &caller, &stale, Expected::Failed("dropped")).await;
    for id in [&kept, &fresh] {
        assert_eq!(api.delegation(&caller, id).await.body["status"], "queued");
    }
    // An hour when nothing is said.
    assert_eq!(dropped(api, "").await, 1);
    assert_exactly_once(api, &caller, &kept, Expected::Failed("dropped")).await;
    server.assert_invariants().await;
}

async fn who_waits_for_a_removed_target_is_told_at_once(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let (caller, target) = poller(api).await;
    let silent = api.create_workspace("silent", Some(&caller), None).await;
    let waits = [
        queued(api, &caller, &target, "to fetch").await,
        queued(api, &caller, &silent, "for an address").await,
    ];
    // What the removed one asked for itself is not its target's business.
    let own = queued(api, &target, &silent, "own").await;
    for gone in [&target, &silent] {
        let path = format!("/workspaces/{}", gone.id);
        let removed = api.request(Method::DELETE, As::Admin, &path, None).await;
        removed.expect(200);
    }
    let begun = Instant::now();
    for id in &waits {
        api.wait_until_ended(&caller, id).await;
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    for id in &waits {
        assert_exactly_once(api, &caller, id, Expected::Failed("target_removed")).await;
    }
    let path = format!("/workspaces/{}/delegations/{own}", target.id);
    eventually("its own ended as its target did", async || {
        let whole = api.admin_get(&path).await.expect(200).body;
        (whole["error_class"] == "target_removed").then_some(())
    })
    .await;
    server.assert_invariants().await;
}

/// As if the process had died between the removal and what follows from it.
async fn whom_nobody_told_of_a_removal_is_told_after_the_next_start(database: Database) {
    let server = Server::start(&database, &[("BATON_LEASE_MS", "500")]).await;
    let api = server.api();
    let (caller, target) = poller(api).await;
    let id = queued(api, &caller, &target, "to fetch").await;
    server.kill9();
    let removal = format!(
        "UPDATE workspaces SET status = 'removed' WHERE id = '{}'",
        target.id
    );
    database.execute(&removal);
    server.start_again().await;
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Failed("target_removed")).await;
}

/// A caller, and a target at `url` that takes so many tasks at once.
async fn capped(api: &Api, url: &str, cap: i64) -> (Workspace, Workspace) {
    let caller = api.create_workspace("caller", None, None).await;
    let body = json!({
        "name": "target", "external": true, "parent_id": caller.id, "url": url, "max_concurrent_tasks": cap,
    });
    let target = api.create_workspace_with(&body).await;
    (caller, target)
}

async fn a_cap_is_checked_shown_and_lifted(database: Database) {
    let server = Server::start(&database, &[]).await;
    let slowly = B::after(Duration::from_millis(50), B::Echo);
    let agent = FakeAgent::start(slowly).await;
    let api = server.api();
    let (caller, target) = capped(api, &agent.url(), 2).await;
    let ids = join_all((0..6).map(|_| api.delegated(&caller, &target, "go"))).await;
    api.wait_until_all_ended(&caller).await;
    for id in &ids {
        assert_eq!(agent.seen(id), 1);
    }
    assert_eq!(agent.peak(), 2);

    let path = format!("/workspaces/{}", target.id);
    let shown =
        async || api.admin_get(&path).await.expect(200).body["max_concurrent_tasks"].clone();
    assert_eq!(shown().await, 2);
    for wrong in [json!(-1), json!(100_001), json!(1.5), json!("2")] {
        let body = json!({"name": "x", "external": true, "max_concurrent_tasks": wrong});
        for (method, path) in [(Method::POST, "/workspaces"), (Method::PATCH, &*path)] {
            let refused = api.request(method, As::Admin, path, Some(&body)).await;
            assert_eq!(refused.expect(400).body["field"], "max_concurrent_tasks");
        }
    }
    assert_eq!(shown().await, 2);
    // No cap is shown as the contract's default.
    let body = json!({"max_concurrent_tasks": 0});
    let changed = api
        .request(Method::PATCH, As::Admin, &path, Some(&body))
        .await;
    changed.expect(200);
    assert_eq!(shown().await, 1);
    join_all((0..6).map(|_| api.delegated(&caller, &target, "go"))).await;
    api.wait_until_all_ended(&caller).await;
    assert!(agent.peak() > 2);
    server.assert_invariants().await;
}

async fn a_breaker_is_seen_and_reset(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.stop();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let reset = async |id: &str| {
        let path = format!("/admin/breakers/{id}/reset");
        api.admin_post(&path, &json!({})).await
    };
    for nobody in [&*target.id, &Uuid::new_v4().to_string(), "x"] {
        reset(nobody).await.expect(404);
    }
    let id = api.delegated(&caller, &target, "hello").await;
    let line = eventually("the breaker opens", async || {
        let lines = api.admin_get("/admin/breakers").await.expect(200);
        let line = lines.rows().first()?.clone();
        (line["breaker"] == "open").then_some(line)
    })
    .await;
    assert_eq!(line["workspace_id"], *target.id);
    assert_eq!(
        (&line["waiting_for"], &line["waiting"], &line["working"]),
        (&json!("unreachable"), &json!(1), &json!(0))
    );
    assert!(line["failures"].as_i64().unwrap() >= 5 && line["failing_since"].is_string());
    assert!(line["next_attempt_at"].is_string(), "{line:#}");
    let whole = api.delegation(&caller, &id).await.expect(200).body;
    assert!(whole["failures"].as_i64().unwrap() >= 5 && whole["failing_since"].is_string());

    agent.resume().await;
    assert_eq!(
        reset(&target.id).await.expect(200).body,
        json!({"status": "reset"})
    );
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: hello")).await;
    eventually("nobody waits", async || {
        let lines = api.admin_get("/admin/breakers").await.expect(200);
        lines.rows().is_empty().then_some(())
    })
    .await;
    server.assert_invariants().await;
}

async fn a_target_that_stays_away_exhausts_the_budget(database: Database) {
    let server = Server::start(&database, &[SOON, ("BATON_RETRY_BUDGET_S", "1")]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.stop();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let ids = join_all((0..3).map(|_| api.delegated(&caller, &target, "go"))).await;
    for id in &ids {
        api.wait_until_ended(&caller, id).await;
        assert_exactly_once(api, &caller, id, Expected::Failed("retries_exhausted")).await;
        assert_eq!(agent.seen(id), 0);
    }
    server.assert_invariants().await;
}
