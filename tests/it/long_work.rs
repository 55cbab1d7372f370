//! Work that outlives a request: followed, asked about, answered, cancelled, late.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::agent::{Behaviour, FakeAgent, LongWork};
use crate::support::client::As;
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once, replies};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_task_that_works_for_a_while_is_followed_to_its_end,
    a_task_is_followed_across_a_kill,
    a_task_that_was_forgotten_is_not_sent_again,
    silence_is_shown_and_an_answer_ends_it,
    a_first_byte_after_long_is_waited_for,
    an_answer_after_the_deadline_is_kept_and_changes_nothing,
    an_agent_that_says_there_is_news_is_asked_and_not_believed,
);

const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "50");

async fn a_task_that_works_for_a_while_is_followed_to_its_end(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    for (state, expected) in [
        ("completed", Expected::Completed("the end")),
        ("failed", Expected::Failed("refused")),
        ("rejected", Expected::Failed("rejected")),
        ("canceled", Expected::Failed("cancelled_by_target")),
    ] {
        agent.behave(Behaviour::Work(LongWork::after(3, state, "the end")));
        let id = api.delegated(&caller, &target, "long").await;
        api.wait_until_ended(&caller, &id).await;
        assert_exactly_once(api, &caller, &id, expected).await;
        assert_eq!(agent.seen(&id), 1);
    }
    assert!(
        agent.named_by("tasks/cancel").is_empty(),
        "nobody cancels what ended by itself"
    );
    server.assert_invariants().await;
}

async fn a_task_is_followed_across_a_kill(database: Database) {
    let server = Server::start(&database, &[SOON, ("BATON_LEASE_MS", "500")]).await;
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("after all"))).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "long").await;
    api.wait_until_status(&caller, &id, &["in_progress"]).await;
    server.kill9();
    agent.finish_work();
    server.start_again().await;
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("after all")).await;
    assert_eq!(agent.seen(&id), 1);
    server.assert_invariants().await;
}

async fn a_task_that_was_forgotten_is_not_sent_again(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("never"))).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "long").await;
    api.wait_until_status(&caller, &id, &["in_progress"]).await;
    agent.forget_work();
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Failed("outcome_unknown")).await;
    assert_eq!(agent.seen(&id), 1);
}

async fn silence_is_shown_and_an_answer_ends_it(database: Database) {
    let server = Server::start(&database, &[("DELEGATION_STUCK_THRESHOLD_S", "1")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "slow").await;
    api.wait_until_status(&caller, &id, &["stuck"]).await;
    assert!(
        replies(api, &caller, &id).await.is_empty(),
        "a warning, not an end"
    );
    agent.release();
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: slow")).await;
    assert_eq!(agent.seen(&id), 1);
}

/// Ten minutes, scaled: longer than every limit but the deadline that a test sets small.
async fn a_first_byte_after_long_is_waited_for(database: Database) {
    let limits = [
        ("DELEGATION_STUCK_THRESHOLD_S", "1"),
        ("A2A_IDLE_TIMEOUT_SECONDS", "1"),
        ("BATON_CONNECT_TIMEOUT_S", "1"),
        ("BATON_RETRY_BUDGET_S", "1"),
    ];
    let server = Server::start(&database, &limits).await;
    let late = Behaviour::after(Duration::from_secs(4), Behaviour::Echo);
    let agent = FakeAgent::start(late).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "late").await;
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: late")).await;
    assert_eq!(agent.seen(&id), 1);
}

async fn an_answer_after_the_deadline_is_kept_and_changes_nothing(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("too late"))).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let body = json!({"target_id": target.id, "task": "long", "deadline_seconds": 1});
    let begun = Instant::now();
    let accepted = api.delegate_with(&caller, &body).await.expect(202);
    let with_task = accepted.str("delegation_id");
    api.wait_until_ended(&caller, with_task).await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "within a second of it"
    );
    assert_exactly_once(
        api,
        &caller,
        with_task,
        Expected::Failed("deadline_exceeded"),
    )
    .await;
    eventually("the target is told to leave it", async || {
        (!agent.named_by("tasks/cancel").is_empty()).then_some(())
    })
    .await;
    agent.behave(Behaviour::Echo);
    agent.hold();
    let accepted = api.delegate_with(&caller, &body).await.expect(202);
    let held = accepted.str("delegation_id");
    api.wait_until_ended(&caller, held).await;
    agent.release();
    let path = format!("/workspaces/{}/delegations/{held}", caller.id);
    eventually("the late answer is kept", async || {
        let whole = api
            .get(As::Workspace(&caller), &path)
            .await
            .expect(200)
            .body;
        (whole["late_result"]["text"] == "echo: long" || whole["late_result"] == "echo: long")
            .then_some(())
    })
    .await;
    assert_exactly_once(api, &caller, held, Expected::Failed("deadline_exceeded")).await;
    server.assert_invariants().await;
}

/// Tells where it was offered to, and what is answered.
async fn tell(url: &str, name: &str, token: &str) -> u16 {
    let lie = r#"{"statusUpdate":{"status":{"state":"TASK_STATE_FAILED"}}}"#;
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let http = http.build().expect("a client");
    let answer = http.post(url).body(lie).header(name, token).send().await;
    answer.expect("an answer").status().as_u16()
}

/// A server that agents are offered to tell, at its own address.
async fn server_that_is_told(database: &Database) -> Server {
    // Nobody would be asked again for half a minute.
    let mut server = Server::start(database, &[("BATON_RETRY_BASE_MS", "3600000")]).await;
    let base = server.api().base();
    let (_, port) = base.rsplit_once(':').expect("a port");
    let variables = [("PORT", port), ("BATON_PUBLIC_URL", &*base)];
    server.restart_with(&variables).await;
    server
}

async fn an_agent_that_says_there_is_news_is_asked_and_not_believed(database: Database) {
    let server = server_that_is_told(&database).await;
    let api = server.api();
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("the end"))).await;
    agent.show_card(json!({
        "name": "tells", "url": agent.url(), "protocolVersion": "0.3.0",
        "preferredTransport": "JSONRPC", "capabilities": {"pushNotifications": true},
    }));
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_status(&caller, &id, &["in_progress", "received"])
        .await;
    let offer = &agent.messages()[0].body["params"]["configuration"]["pushNotificationConfig"];
    let [url, token] = ["url", "token"].map(|name| offer[name].as_str().expect("an offer"));
    let elsewhere = url.replace(&caller.id, &target.id);
    for (url, name, token) in [
        (url, "X-A2A-Notification-Token", "wrong"),
        (&elsewhere, "X-A2A-Notification-Token", token),
        (url, "Authorization", token),
    ] {
        assert_eq!(tell(url, name, token).await, 404);
    }
    assert_eq!(agent.named_by("tasks/get").len(), 0);
    assert_eq!(tell(url, "X-A2A-Notification-Token", token).await, 204);
    eventually("it is asked", async || {
        (!agent.named_by("tasks/get").is_empty()).then_some(())
    })
    .await;
    let whole = api.delegation(&caller, &id).await.expect(200);
    assert_ne!(whole.str("status"), "failed", "{}", whole.text);
    agent.finish_work();
    assert_eq!(tell(url, "A2A-Notification-Token", token).await, 204);
    let ended = api.wait_until_ended(&caller, &id).await;
    assert_eq!(ended["result"], "the end");
    assert_eq!(tell(url, "A2A-Notification-Token", token).await, 204);
    assert_eq!(agent.messages().len(), 1);
}
