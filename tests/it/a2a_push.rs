//! Push notifications of A2A tasks: in order, at least once, through a kill, with nothing secret shown again; and what the page
//! about A2A says, done.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::a2a::{FLAG, done, endpoint, message, official, refused};
use crate::support::agent::{Behaviour, FakeAgent, LongWork};
use crate::support::database::Database;
use crate::support::hook::Hook;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_task_is_told_in_order_through_a_kill,
    configurations_are_kept_and_their_secrets_are_not_shown,
    clients_of_0_3_are_told_in_their_form,
    the_page_about_a2a_does_what_it_says,
);

const PAGE: &str = include_str!("../../docs/A2A.md");

async fn a_task_is_told_in_order_through_a_kill(database: Database) {
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("the end"))).await;
    let variables = [
        FLAG,
        ("BATON_RETRY_BASE_MS", "50"),
        ("BATON_LEASE_MS", "500"),
    ];
    let server = Server::start(&database, &variables).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let at = &(&server, &caller, &target);
    let hook = Hook::start().await;
    hook.first([500, 503]);
    let push = json!({"id": "mine", "url": hook.url(), "token": "t-1",
        "authentication": {"scheme": "Bearer", "credentials": "c-1"}});
    let configuration = json!({"returnImmediately": true, "taskPushNotificationConfig": push});
    let params = json!({"message": message("m", "long"), "configuration": configuration});
    let task = done(at, "SendMessage", &params).await["task"]["id"].clone();
    hook.wait_for(1).await;
    server.kill9();
    agent.finish_work();
    server.start_again().await;
    let ended = async || {
        let last = hook.taken().last()?.body.clone();
        (last["task"]["status"]["state"] == "TASK_STATE_COMPLETED").then_some(last)
    };
    let last = crate::support::eventually("the end is told", ended).await;
    assert_eq!(last["task"]["id"], task);
    assert_eq!(last["task"]["artifacts"][0]["parts"][0]["text"], "the end");
    let taken = hook.taken();
    for told in &taken {
        official::<::a2a::StreamResponse>(&told.body);
    }
    let first = taken.first().expect("a notification");
    assert_eq!(first.header("authorization"), Some("Bearer c-1"));
    assert_eq!(first.header("x-a2a-notification-token"), Some("t-1"));
    let ends = taken.iter().filter(|told| told.body.get("task").is_some());
    assert_eq!(
        ends.count(),
        1,
        "what was taken is not told again, and the end comes last"
    );
    server.assert_invariants().await;
}

async fn configurations_are_kept_and_their_secrets_are_not_shown(database: Database) {
    let agent = FakeAgent::start(Behaviour::NonFinal("input-required".to_owned())).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let at = &(&server, &caller, &target);
    let hook = Hook::start().await;
    let sent = done(at, "SendMessage", &json!({"message": message("m", "?")})).await;
    let task = sent["task"]["id"].clone();
    let config = json!({"taskId": task, "url": hook.url(), "token": "t-1",
        "authentication": {"scheme": "Bearer", "credentials": "c-1"}});
    let made = done(at, "CreateTaskPushNotificationConfig", &config).await;
    let id = made["id"].clone();
    let shown = json!({"taskId": task, "id": id, "url": hook.url(), "authentication": {"scheme": "Bearer"}});
    assert_eq!(made, shown);
    let named = json!({"taskId": task, "id": id});
    assert_eq!(
        done(at, "GetTaskPushNotificationConfig", &named).await,
        shown
    );
    let listed = done(
        at,
        "ListTaskPushNotificationConfigs",
        &json!({"taskId": task}),
    )
    .await;
    assert_eq!(listed["configs"], json!([shown]));
    assert_eq!(
        done(at, "DeleteTaskPushNotificationConfig", &named).await,
        json!({})
    );
    done(at, "DeleteTaskPushNotificationConfig", &named).await;
    assert_eq!(
        refused(at, "GetTaskPushNotificationConfig", &named).await.0,
        -32001
    );
    for (name, value) in [
        ("url", json!("http://10.0.0.1/")),
        ("url", json!("ftp://x/")),
        ("url", Value::Null),
    ] {
        let mut wrong = config.clone();
        wrong[name] = value;
        assert_eq!(
            refused(at, "CreateTaskPushNotificationConfig", &wrong)
                .await
                .0,
            -32602,
            "{wrong}"
        );
    }
    let params = json!({"message": message("n", "?"), "configuration": {"taskPushNotificationConfig": {"url": 7}}});
    assert_eq!(refused(at, "SendMessage", &params).await.0, -32602);
    assert_eq!(agent.seen("n"), 0, "nothing was handed over");
}

async fn clients_of_0_3_are_told_in_their_form(database: Database) {
    let agent = FakeAgent::start(Behaviour::ArtifactTask("pong".to_owned())).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let at = &(&server, &caller, &target);
    let hook = Hook::start().await;
    let sent = json!({"kind": "message", "role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "ping"}]});
    let push = json!({"url": hook.url(), "token": "t"});
    let params = json!({"message": sent, "configuration": {"pushNotificationConfig": push, "blocking": false}});
    let task = done(at, "message/send", &params).await;
    let ended = async || {
        let last = hook.taken().last()?.body.clone();
        (last["status"]["state"] == "completed").then_some(last)
    };
    let last = crate::support::eventually("the end is told", ended).await;
    assert_eq!((&last["kind"], &last["id"]), (&json!("task"), &task["id"]));
}

async fn the_page_about_a2a_does_what_it_says(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let (_, script) = PAGE.split_once("```sh\n").expect("commands");
    let (script, _) = script.split_once("```").expect("their end");
    let output = Command::new("sh")
        .args(["-eu", "-c", script])
        .env("BATON_URL", server.api().base())
        .env("TARGET", &target.id)
        .env("TOKEN", &caller.token)
        .output()
        .await
        .expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for word in [
        "supportedInterfaces",
        "echo: count to three",
        "totalSize",
        "TASK_STATE_COMPLETED",
        &endpoint(&target),
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
