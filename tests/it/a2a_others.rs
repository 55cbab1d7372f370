//! A2A of version 0.3, the original's proxy, and the cards: who comes to a workspace's endpoint otherwise.

use reqwest::Method;
use serde_json::json;

use crate::a2a::{FLAG, done, endpoint, official, own, refused, request, rest};
use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::As;
use crate::support::database::Database;
use crate::support::raw::{Raw, post};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    clients_of_0_3_are_understood,
    the_originals_clients_are_answered_as_they_are_used_to,
    a_card_says_how_to_speak,
);

async fn clients_of_0_3_are_understood(database: Database) {
    let agent = FakeAgent::start(Behaviour::ArtifactTask("pong".to_owned())).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let at = &(&server, &caller, &target);
    let sent = json!({"kind": "message", "role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "ping"}]});
    let task = done(at, "message/send", &json!({"message": sent})).await;
    assert_eq!(
        (&task["kind"], &task["status"]["state"]),
        (&json!("task"), &json!("completed"))
    );
    assert_eq!(
        task["artifacts"][0]["parts"][0],
        json!({"kind": "text", "text": "pong"})
    );
    assert_eq!(task["history"][0]["role"], "user");
    let got = done(at, "tasks/get", &json!({"id": task["id"]})).await;
    assert_eq!(got["id"], task["id"]);
    // What has ended before it is looked at comes as the task alone.
    agent.hold();
    let body = request("message/stream", &json!({"message": sent}));
    let mut stream = Raw::connect(server.api()).await;
    stream
        .send(&post(
            &caller,
            &endpoint(&target),
            body.to_string().as_bytes(),
        ))
        .await;
    let first = stream.read_until("\"kind\":\"task\"").await;
    agent.release();
    let whole = first + &stream.read_until("\"final\":true").await;
    let kinds = [
        "\"kind\":\"task\"",
        "\"kind\":\"artifact-update\"",
        "\"kind\":\"status-update\"",
    ];
    assert!(kinds.iter().all(|kind| whole.contains(kind)), "{whole}");
    let refusal = refused(at, "tasks/cancel", &json!({"id": task["id"]})).await;
    assert_eq!(refusal.0, -32002);
    server.assert_invariants().await;
}

async fn the_originals_clients_are_answered_as_they_are_used_to(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let by = own(&caller);
    let names = [("x-workspace-id", &*caller.id)];
    let body =
        json!({"method": "message/send", "params": {"message": {"role": "user", "content": "hi"}}});
    let said = api
        .post_with(by, &endpoint(&target), &body, &names)
        .await
        .expect(200);
    assert_eq!(said.body["result"]["parts"][0]["text"], "echo: hi");
    let wrong = [("x-workspace-id", &*target.id)];
    let refusal = api
        .post_with(by, &endpoint(&target), &body, &wrong)
        .await
        .expect(401);
    assert_eq!(refusal.str("error"), "invalid caller auth token");
    let system = [("x-workspace-id", "system:x")];
    api.post_with(As::Admin, &endpoint(&target), &body, &system)
        .await
        .expect(403);
    let empty = json!({"method": "message/send", "params": {"message": {"role": "user"}}});
    let refusal = api
        .post_with(by, &endpoint(&target), &empty, &names)
        .await
        .expect(400);
    assert!(
        refusal.str("hint").starts_with("v0.3 example"),
        "{}",
        refusal.text
    );

    agent.behave(Behaviour::Status(500, json!({"error": "no"}).to_string()));
    let failed = api
        .post_with(by, &endpoint(&target), &body, &names)
        .await
        .expect(500);
    assert_eq!(failed.str("error"), "no");
    agent.behave(Behaviour::Busy);
    let queued = api
        .post_with(by, &endpoint(&target), &body, &names)
        .await
        .expect(202);
    assert_eq!(queued.body["queued"], true);
    let id = queued.str("queue_id").to_owned();
    agent.behave(Behaviour::Echo);
    api.wait_until_ended(&caller, &id).await;
    server.assert_invariants().await;
}

async fn a_card_says_how_to_speak(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, target, .. } = server.family("http://127.0.0.1:1/").await;
    let at = &(&server, &caller, &target);
    let path = format!("{}/.well-known/agent-card.json", endpoint(&target));
    let card = server.api().get(As::Nobody, &path).await.expect(200);
    official::<::a2a::AgentCard>(&card.body);
    let url = format!("{}{}", server.api().base(), endpoint(&target));
    assert_eq!(card.body["supportedInterfaces"][0]["url"], url);
    assert!(card.body.get("url").is_none(), "nothing of 0.3");
    let tag = card.header("etag").expect("a tag").to_owned();
    let known = [("if-none-match", &*tag)];
    let again = server
        .api()
        .try_request_with(Method::GET, As::Nobody, &path, None, &known)
        .await;
    let again = again.expect("an answer");
    assert_eq!(again.status, 304);
    let old = format!("{}/v0.3/.well-known/agent-card.json", endpoint(&target));
    let old = server.api().get(As::Nobody, &old).await.expect(200);
    assert_eq!(
        (old.str("url"), old.str("protocolVersion")),
        (&*format!("{url}/v0.3"), "0.3.0")
    );
    let extended = done(at, "GetExtendedAgentCard", &json!({})).await;
    assert_eq!(extended["name"], card.body["name"]);
    rest(at, "extendedAgentCard", None).await.expect(200);
}
