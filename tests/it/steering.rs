//! What the parties say of a delegation under way: that work goes on, that it is withdrawn, answered, to be done again.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::agent::{Behaviour as B, FakeAgent, LongWork};
use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once, replies, result_rows};
use crate::support::replies::task_id;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_sign_of_life_brings_back_from_stuck,
    signs_of_life_keep_from_stuck,
    a_cancelled_delegation_ends_once_and_its_target_is_told,
    what_ended_can_be_done_again,
    what_cannot_be_done_again_says_why,
    a_question_is_answered_by_its_caller,
    what_makes_no_sense_is_refused_and_changes_nothing,
    a_report_after_the_pruning_is_still_a_repeat,
);

/// Silence soon enough for a test.
const SOON_STUCK: (&str, &str) = ("DELEGATION_STUCK_THRESHOLD_S", "1");

/// `POST …/delegations/:id/<what>` with any payload.
async fn say(api: &Api, by: As<'_>, of: &Workspace, id: &str, what: &str, body: &Value) -> Reply {
    let path = format!("/workspaces/{}/delegations/{id}/{what}", of.id);
    api.post(by, &path, body).await
}

fn statuses(whole: &Value) -> Vec<&str> {
    let history = whole["history"].as_array().expect("a history");
    let statuses = history.iter().filter_map(|step| step["status"].as_str());
    statuses.collect()
}

async fn a_sign_of_life_brings_back_from_stuck(database: Database) {
    let server = Server::start(&database, &[SOON_STUCK]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "long").await;
    api.wait_until_status(&caller, &id, &["stuck"]).await;
    assert!(result_rows(api, &caller, &id).await.is_empty());
    let progress = json!({"message": "iteration 14/90", "percent": 15});
    let beat = api.delegation_heartbeat(&target, &id, &progress).await;
    assert_eq!(
        beat.expect(200).body,
        json!({"delegation_id": id, "status": "in_progress"})
    );
    let whole = api.delegation(&caller, &id).await.expect(200).body;
    assert_eq!(whole["progress"], progress);
    // The workspace's own heartbeat does too, and what was said of the work stays.
    api.wait_until_status(&caller, &id, &["stuck"]).await;
    api.heartbeat(&target, 1).await.expect(200);
    let whole = api.wait_until_status(&caller, &id, &["in_progress"]).await;
    assert_eq!(whole["progress"], progress);

    agent.release();
    api.wait_until_ended(&caller, &id).await;
    let late = api.delegation_heartbeat(&target, &id, &json!({})).await;
    assert_eq!(late.expect(409).body["status"], "completed");
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: long")).await;
    assert_eq!(agent.seen(&id), 1);
    server.assert_invariants().await;
}

async fn signs_of_life_keep_from_stuck(database: Database) {
    let server = Server::start(&database, &[SOON_STUCK]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "long").await;
    let until = Instant::now() + Duration::from_secs(2);
    for beat in 0.. {
        match beat % 3 {
            0 => api.heartbeat(&target, 1).await,
            1 => api.delegation_heartbeat(&caller, &id, &json!({})).await,
            _ => api.delegation_heartbeat(&target, &id, &json!({})).await,
        }
        .expect(200);
        if Instant::now() > until {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    agent.release();
    let whole = api.wait_until_ended(&caller, &id).await;
    assert!(!statuses(&whole).contains(&"stuck"), "{whole:#}");
    assert_eq!(agent.seen(&id), 1);
    server.assert_invariants().await;
}

async fn a_cancelled_delegation_ends_once_and_its_target_is_told(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Work(LongWork::until_finished("late"))).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "work").await;
    api.wait_until_status(&caller, &id, &["in_progress"]).await;
    let refused = api.cancel(&target, &id, "no").await.expect(403);
    assert!(refused.body["reason"].is_string(), "{}", refused.text);

    let cancelled = api.cancel(&caller, &id, "not needed").await.expect(200);
    assert_eq!(
        cancelled.body,
        json!({"delegation_id": id, "status": "cancelled"})
    );
    eventually("the target is told", async || {
        (!agent.named_by("tasks/cancel").is_empty()).then_some(())
    })
    .await;
    assert_eq!(agent.named_by("tasks/cancel"), [task_id(&id)]);
    let again = api.cancel(&caller, &id, "really").await.expect(200);
    assert_eq!(again.body["reason"], "not needed");
    let late = api.report_completed(&target, &id, "done").await;
    assert_eq!(late.expect(409).body["status"], "cancelled");
    let answered = api.input(&caller, &id, "blue").await;
    assert_eq!(answered.expect(409).body["status"], "cancelled");
    assert_exactly_once(api, &caller, &id, Expected::Cancelled).await;

    // The admin acts for the caller; without a body there is no reason.
    let other = api.delegated(&caller, &target, "more").await;
    let path = format!("/workspaces/{}/delegations/{other}/cancel", caller.id);
    let reply = api.try_request(Method::POST, As::Admin, &path, None).await;
    reply.expect("an answer").expect(200);
    assert_exactly_once(api, &caller, &other, Expected::Cancelled).await;
    server.assert_invariants().await;
}

async fn what_ended_can_be_done_again(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.first([B::Error(-32603, "no".to_owned())]);
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let order =
        json!({"target_id": target.id, "task": "go", "redelivery": "never", "priority": 80});
    let reply = api.delegate_with(&caller, &order).await.expect(202);
    let first = reply.str("delegation_id").to_owned();
    api.wait_until_ended(&caller, &first).await;
    api.retry(&target, &first).await.expect(403);

    let again = api.retry(&caller, &first).await.expect(202);
    assert_eq!(
        (again.str("retry_of"), again.str("target_id")),
        (&*first, &*target.id)
    );
    let second = again.str("delegation_id").to_owned();
    let whole = api.wait_until_ended(&caller, &second).await;
    assert_eq!(
        (&whole["retry_of"], &whole["redelivery"], &whole["priority"]),
        (&json!(first), &json!("never"), &json!(80))
    );
    assert_exactly_once(api, &caller, &first, Expected::Failed("refused")).await;
    assert_exactly_once(api, &caller, &second, Expected::Completed("echo: go")).await;

    let keyed = json!({"idempotency_key": "k"});
    let keyed = async || say(api, As::Admin, &caller, &first, "retry", &keyed).await;
    let third = keyed().await.expect(202).str("delegation_id").to_owned();
    let keyed = keyed().await.expect(200);
    assert_eq!(
        (keyed.str("delegation_id"), &keyed.body["idempotent_hit"]),
        (&*third, &json!(true))
    );
    api.wait_until_all_ended(&caller).await;
    assert_exactly_once(api, &caller, &third, Expected::Completed("echo: go")).await;
    server.assert_invariants().await;
}

async fn what_cannot_be_done_again_says_why(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "go").await;
    let live = api.retry(&caller, &id).await.expect(409);
    assert!(live.body["hint"].is_string() && live.body["status"].is_string());
    agent.release();
    api.wait_until_ended(&caller, &id).await;

    api.report_completed(&caller, "own", "42").await.expect(200);
    let adopted = api.retry(&caller, "own").await.expect(409);
    assert!(adopted.body["hint"].is_string(), "{}", adopted.text);
    let path = format!("/workspaces/{}", target.id);
    let gone = api.request(Method::DELETE, As::Admin, &path, None).await;
    gone.expect(200);
    api.retry(&caller, &id).await.expect(404);
    assert_eq!(database.count("SELECT count(*) FROM delegations"), 2);
    server.assert_invariants().await;
}

async fn a_question_is_answered_by_its_caller(database: Database) {
    let server = Server::start(&database, &[]).await;
    let work = LongWork::asking("Which colour?", LongWork::at_once("$INPUT it is"));
    let agent = FakeAgent::start(B::Work(work)).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "paint").await;
    let whole = api
        .wait_until_status(&caller, &id, &["input_required"])
        .await;
    assert_eq!(whole["question"], "Which colour?");
    api.input(&target, &id, "red").await.expect(403);
    let empty = api.input(&caller, &id, "").await.expect(400);
    assert_eq!(empty.body["field"], "text");
    // A heartbeat does not answer it.
    let beat = api.delegation_heartbeat(&target, &id, &json!({})).await;
    assert_eq!(beat.expect(200).body["status"], "input_required");

    let given = api.input(&caller, &id, "blue").await.expect(200);
    assert_eq!(given.body["status"], "in_progress");
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("blue it is")).await;

    agent.behave(B::Work(LongWork::until_finished("done")));
    let other = api.delegated(&caller, &target, "work").await;
    api.wait_until_status(&caller, &other, &["in_progress"])
        .await;
    let unasked = api.input(&caller, &other, "blue").await.expect(409);
    assert_eq!(unasked.body["status"], "in_progress");
    assert!(unasked.body["hint"].is_string(), "{}", unasked.text);
    api.cancel(&caller, &other, "").await.expect(200);
    server.assert_invariants().await;
}

async fn what_makes_no_sense_is_refused_and_changes_nothing(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let stranger = server.family(&agent.url()).await;
    let id = api.delegated(&caller, &target, "go").await;
    agent.wait_for(1).await;
    let before = api.delegation(&caller, &id).await.expect(200).body;
    for (what, body, field) in [
        ("heartbeat", json!({"percent": 101}), "percent"),
        ("heartbeat", json!({"percent": -1}), "percent"),
        ("heartbeat", json!({"percent": 1.5}), "percent"),
        ("heartbeat", json!({"percent": "50"}), "percent"),
        ("heartbeat", json!({"message": 7}), "message"),
        ("heartbeat", json!([]), "body"),
        ("cancel", json!({"reason": {}}), "reason"),
        ("cancel", json!("no"), "body"),
        ("input", json!({"text": ["t"]}), "text"),
        ("input", json!({}), "text"),
        ("retry", json!({"deadline_seconds": 0}), "deadline_seconds"),
        (
            "retry",
            json!({"deadline_seconds": i64::MAX}),
            "deadline_seconds",
        ),
        ("retry", json!({"idempotency_key": 1}), "idempotency_key"),
    ] {
        let refused = say(api, As::Workspace(&caller), &caller, &id, what, &body).await;
        let refused = refused.expect(400);
        assert_eq!(refused.body["field"], field, "{what} {body}");
        assert!(refused.body["reason"].is_string(), "{}", refused.text);
    }
    for what in ["heartbeat", "cancel", "input", "retry"] {
        let body = json!({"text": "t"});
        for (by, of, id) in [
            (As::Workspace(&caller), &caller, "unknown"),
            (As::Workspace(&stranger.caller), &stranger.caller, &*id),
            (As::Admin, &stranger.target, &*id),
            (As::Workspace(&caller), &caller, "%00%F0%9F%A6%80"),
        ] {
            let refused = say(api, by, of, id, what, &body).await.expect(404);
            assert_eq!(refused.body, json!({"error": "delegation not found"}));
        }
    }
    let after = api.delegation(&caller, &id).await.expect(200).body;
    assert_eq!(before, after);
    for priority in [json!(-1), json!(101), json!(1.5), json!("high")] {
        let order = json!({"target_id": target.id, "task": "go", "priority": priority});
        let refused = api.delegate_with(&caller, &order).await.expect(400);
        assert_eq!(refused.body["field"], "priority");
    }
    assert_eq!(database.count("SELECT count(*) FROM delegations"), 1);
    agent.release();
    api.wait_until_ended(&caller, &id).await;
    server.assert_invariants().await;
}

async fn a_report_after_the_pruning_is_still_a_repeat(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &id).await;
    // As the pruning leaves it, eight days later.
    database.execute("DELETE FROM activity_logs");
    let eight_days_ago = if database.is_sqlite() {
        "ended_at - 8 * 86400000000"
    } else {
        "ended_at - interval '8 days'"
    };
    database.execute(&format!(
        "UPDATE delegations SET ended_at = {eight_days_ago}"
    ));
    server.assert_invariants().await;

    let repeat = api.report_completed(&target, &id, "again").await;
    assert_eq!(repeat.expect(200).body["result"], "echo: go");
    let other = api.report_failed(&target, &id, "no").await;
    assert_eq!(other.expect(409).body["result"], "echo: go");
    assert!(result_rows(api, &caller, &id).await.is_empty());
    assert!(replies(api, &caller, &id).await.is_empty());
    server.assert_invariants().await;
}
