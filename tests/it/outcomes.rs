//! Whatever an agent does ends, or rests, as product.md's rules 5 to 8 say, after as many deliveries as they allow.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::agent::{Behaviour as B, FakeAgent};
use crate::support::client::{As, Workspace};
use crate::support::database::Database;
use crate::support::history::{Expected, assert_exactly_once, replies, result_rows};
use crate::support::poller::Poller;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    every_behaviour_has_its_outcome,
    what_never_arrived_is_sent_again_and_seen_once,
    what_was_hung_up_on_unread_is_never_seen_twice,
    a_poll_target_completes_nothing_before_it_reports,
    the_deadline_ends_a_silent_agent_and_keeps_its_late_answer,
);

/// A retry soon enough for a test.
const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "50");

/// The card of an agent that drops a repeated messageId.
fn deduplicating() -> Value {
    let uri = "urn:baton:ext:idempotent-message-id:v1";
    json!({"name": "a", "url": "", "capabilities": {"extensions": [{"uri": uri}]}})
}

/// An agent, what a delegation to it comes to, and how often it sees the message.
struct Case {
    name: &'static str,
    first: Vec<B>,
    then: B,
    redelivery: Option<&'static str>,
    deduplicates: bool,
    status: &'static str,
    /// The text of a completed one, the class of a failed one, what a queued one waits for.
    what: &'static str,
    seen: usize,
}

/// A case of an agent that always does the same and is asked once.
fn case(name: &'static str, then: B, status: &'static str, what: &'static str) -> Case {
    Case {
        name,
        first: Vec::new(),
        then,
        redelivery: None,
        deduplicates: false,
        status,
        what,
        seen: 1,
    }
}

fn answers() -> Vec<Case> {
    let text = |text: &str| text.to_owned();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let parts = json!([
        {"kind": "text", "text": "a"}, {"kind": "data", "data": {}}, {"type": "text", "text": "b"},
    ]);
    vec![
        case("a message", B::Answer(text("ok")), "completed", "ok"),
        case("all text parts", B::AnswerParts(parts), "completed", "a\nb"),
        case("type parts", B::TypeParts(text("ok")), "completed", "ok"),
        // The task's status says something too.
        case(
            "a task",
            B::ArtifactTask(text("ok")),
            "completed",
            "ok\nWhich one?",
        ),
        case(
            "an error",
            B::Error(-32603, text("no")),
            "failed",
            "refused",
        ),
        case("HTTP 500", B::Status(500, text("{}")), "failed", "refused"),
        case(
            "HTTP 404",
            B::Status(404, text("<p>no</p>")),
            "failed",
            "refused",
        ),
        case("HTTP 302", B::Status(302, text("")), "failed", "refused"),
        // No proof that the agent did not get it.
        case(
            "HTTP 502",
            B::Status(502, text("")),
            "failed",
            "outcome_unknown",
        ),
        case("empty", B::Empty, "failed", "empty_response"),
        case(
            "HTML",
            B::Raw(bytes("<p>ok</p>")),
            "failed",
            "malformed_response",
        ),
        case(
            "null",
            B::Raw(bytes("null")),
            "failed",
            "malformed_response",
        ),
        case("a foreign id", B::WrongId, "failed", "foreign_response"),
        case(
            "no HTTP",
            B::RawWire(bytes("hello\r\n")),
            "failed",
            "outcome_unknown",
        ),
        case("its own queue", B::Queued202, "queued", "target_queue"),
    ]
}

/// Tasks in states of which some are final, and none is a completion.
fn tasks() -> Vec<Case> {
    let text = |text: &str| text.to_owned();
    vec![
        case(
            "rejected",
            B::NonFinal(text("rejected")),
            "failed",
            "rejected",
        ),
        case(
            "canceled",
            B::NonFinal(text("canceled")),
            "failed",
            "cancelled_by_target",
        ),
        case("failed", B::NonFinal(text("failed")), "failed", "refused"),
        case("submitted", B::NonFinal(text("submitted")), "received", ""),
        case("working", B::NonFinal(text("working")), "in_progress", ""),
        case(
            "a question",
            B::NonFinal(text("input-required")),
            "input_required",
            "",
        ),
        case(
            "unknown state",
            B::NonFinal(text("pondering")),
            "in_progress",
            "",
        ),
    ]
}

/// What may have reached the agent (rule 6), with each `redelivery` and with a card that promises deduplication or none.
fn unknowns() -> Vec<Case> {
    let mut cases = vec![
        Case {
            first: vec![B::CutBody(9)],
            ..case("a cut body", B::Empty, "failed", "truncated")
        },
        Case {
            first: vec![B::Busy, B::Busy],
            seen: 3,
            ..case("busy twice", B::Answer("ok".to_owned()), "completed", "ok")
        },
    ];
    let ok = || B::Answer("ok".to_owned());
    for (redelivery, deduplicates, resent) in [
        (None, false, false),
        (None, true, true),
        (Some("never"), true, false),
        (Some("if_idempotent"), false, false),
        (Some("if_idempotent"), true, true),
        (Some("always"), false, true),
    ] {
        let (status, what, seen) = if resent {
            ("completed", "ok", 2)
        } else {
            ("failed", "outcome_unknown", 1)
        };
        cases.push(Case {
            first: vec![B::CloseAfterReading],
            redelivery,
            deduplicates,
            seen,
            ..case("closed after reading", ok(), status, what)
        });
    }
    cases
}

async fn every_behaviour_has_its_outcome(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let root = server.api().create_workspace("root", None, None).await;
    let caller = server
        .api()
        .create_workspace("caller", Some(&root), None)
        .await;
    let cases = answers().into_iter().chain(tasks()).chain(unknowns());
    join_all(cases.map(|case| check(&server, &root, &caller, case))).await;
    server.assert_invariants().await;
}

async fn check(server: &Server, root: &Workspace, caller: &Workspace, case: Case) {
    let api = server.api();
    let agent = FakeAgent::start(case.then).await;
    agent.first(case.first);
    let target = api
        .create_workspace(case.name, Some(root), Some(&agent.url()))
        .await;
    if case.deduplicates {
        api.register(&target, &agent.url(), &deduplicating())
            .await
            .expect(200);
    }
    let mut body = json!({"target_id": target.id, "task": case.name});
    if let Some(redelivery) = case.redelivery {
        body["redelivery"] = redelivery.into();
    }
    let reply = api.delegate_with(caller, &body).await.expect(202);
    let id = reply.str("delegation_id");
    let known = (case.name, case.redelivery, case.deduplicates);
    let statuses = [case.status, "completed", "failed"];
    let whole = if case.what == "target_queue" {
        agent.wait_for(1).await;
        api.wait_until_status(caller, id, &["queued", "completed", "failed"])
            .await
    } else {
        api.wait_until_status(caller, id, &statuses).await
    };
    assert_eq!(whole["status"], case.status, "{known:?}: {whole:#}");
    match case.status {
        "completed" => assert_exactly_once(api, caller, id, Expected::Completed(case.what)).await,
        "failed" => assert_exactly_once(api, caller, id, Expected::Failed(case.what)).await,
        _ => {
            assert_eq!(whole["waiting_for"].as_str().unwrap_or(""), case.what);
            assert!(result_rows(api, caller, id).await.is_empty());
            assert!(replies(api, caller, id).await.is_empty());
            // Whoever took it may still report.
            let reported = api.report_completed(&target, id, "at last").await;
            reported.expect(200);
            assert_exactly_once(api, caller, id, Expected::Completed("at last")).await;
        }
    }
    assert_eq!(agent.seen(id), case.seen, "{known:?}");
}

async fn what_never_arrived_is_sent_again_and_seen_once(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(B::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    agent.stop();
    let id = api.delegated(&caller, &target, "hello").await;
    let whole = api.wait_until_status(&caller, &id, &["queued"]).await;
    assert_eq!(whole["waiting_for"], "unreachable");
    assert!(whole["next_attempt_at"].is_string(), "{whole:#}");
    agent.resume().await;
    let whole = api.wait_until_ended(&caller, &id).await;
    assert!(whole["attempts"].as_i64().unwrap() > 1, "{whole:#}");
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: hello")).await;
    assert_eq!((agent.seen(&id), agent.messages().len()), (1, 1));
    server.assert_invariants().await;
}

async fn what_was_hung_up_on_unread_is_never_seen_twice(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.first([B::CloseBeforeReading]);
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "hello").await;
    api.wait_until_ended(&caller, &id).await;
    // Whether the body had begun to leave when the agent hung up is chance; to send again is right only if it had not.
    let expected = match agent.seen(&id) {
        0 => Expected::Failed("outcome_unknown"),
        _ => Expected::Completed("echo: hello"),
    };
    assert_exactly_once(api, &caller, &id, expected).await;
    assert!(agent.seen(&id) <= 1);
    server.assert_invariants().await;
}

async fn a_poll_target_completes_nothing_before_it_reports(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let api = server.api();
    let caller = api.create_workspace("caller", None, None).await;
    let target = api.create_poll_workspace("poller", Some(&caller)).await;
    let id = api.delegated(&caller, &target, "fetch me").await;
    let whole = api.wait_until_status(&caller, &id, &["queued"]).await;
    assert_eq!(whole["waiting_for"], "poll");
    let seen = api.delegation(&target, &id).await.expect(200);
    assert_eq!(seen.body["direction"], "received");
    assert!(api.feed(&caller, "a2a_receive").await.is_empty());
    api.report_completed(&target, &id, "fetched")
        .await
        .expect(200);
    assert_exactly_once(api, &caller, &id, Expected::Completed("fetched")).await;
    let row = &replies(api, &caller, &id).await[0];
    assert_eq!(row["target_id"], *target.id, "who answered");
    server.assert_invariants().await;
}

async fn the_deadline_ends_a_silent_agent_and_keeps_its_late_answer(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let body = json!({"target_id": target.id, "task": "hello", "deadline_seconds": 1});
    let begun = Instant::now();
    let reply = api.delegate_with(&caller, &body).await.expect(202);
    let id = reply.str("delegation_id");
    let inbox = api.inbox(&caller, 10, 30).await.expect(200);
    let took = begun.elapsed();
    assert_eq!(inbox.body["messages"][0]["status"], "error");
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
    assert_exactly_once(api, &caller, id, Expected::Failed("deadline_exceeded")).await;
    agent.release();
    let path = format!("/workspaces/{}/delegations/{id}", caller.id);
    let late = crate::support::eventually("the late answer is kept", async || {
        let whole = api.get(As::Workspace(&caller), &path).await.body;
        let text = whole["late_result"]["text"].as_str()?;
        Some(text.to_owned())
    })
    .await;
    assert_eq!(late, "echo: hello");
    assert_exactly_once(api, &caller, id, Expected::Failed("deadline_exceeded")).await;
    let mut poller = Poller::default();
    assert_eq!(poller.drain(api, &caller).await.len(), 1);
    assert_eq!(agent.seen(id), 1);
    server.assert_invariants().await;
}
