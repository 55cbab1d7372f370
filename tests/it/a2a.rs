//! A workspace as an A2A agent: a message is a delegation, its task tells how it goes, in both versions and bindings.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent, LongWork};
use crate::support::client::{As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::raw::{Raw, post};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_message_is_a_delegation_and_its_answer_comes_back,
    a_task_is_got_listed_and_cancelled,
    a_question_is_answered_in_the_same_task,
    a_task_is_streamed_and_subscribed_to,
    a_client_that_hangs_up_finds_its_task_again,
    clients_of_0_3_are_understood,
    one_key_hands_one_message_over,
    what_makes_no_sense_is_refused_in_the_protocols_words,
    tasks_of_others_look_like_none,
    the_originals_clients_are_answered_as_they_are_used_to,
    a_card_says_how_to_speak,
);

const FLAG: (&str, &str) = ("DELEGATION_RESULT_INBOX_PUSH", "1");

/// By nothing but its token: a workspace that names itself is one of the original's clients.
fn own(workspace: &Workspace) -> As<'_> {
    As::Bearer(&workspace.token)
}

fn endpoint(target: &Workspace) -> String {
    format!("/workspaces/{}/a2a", target.id)
}

fn message(id: &str, text: &str) -> Value {
    json!({"messageId": id, "role": "ROLE_USER", "parts": [{"text": text}]})
}

fn request(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

/// Asks by JSON-RPC: the whole answer.
async fn ask(
    server: &Server,
    by: &Workspace,
    target: &Workspace,
    method: &str,
    params: &Value,
) -> Value {
    let body = request(method, params);
    let reply = server
        .api()
        .post(own(by), &endpoint(target), &body)
        .await
        .expect(200);
    assert_eq!(reply.body["id"], 7, "{}", reply.text);
    reply.body
}

/// Asks, and requires a result.
async fn done(
    server: &Server,
    by: &Workspace,
    target: &Workspace,
    method: &str,
    params: &Value,
) -> Value {
    let answer = ask(server, by, target, method, params).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

/// Asks, and requires an error: its code, and the reason in its details.
async fn refused(
    server: &Server,
    by: &Workspace,
    target: &Workspace,
    method: &str,
    params: &Value,
) -> (i64, String) {
    let answer = ask(server, by, target, method, params).await;
    let error = &answer["error"];
    assert_eq!(error["data"][0]["domain"], "a2a-protocol.org", "{answer}");
    let reason = error["data"][0]["reason"].as_str().unwrap_or_default();
    (
        error["code"].as_i64().unwrap_or_default(),
        reason.to_owned(),
    )
}

/// Asks by HTTP+JSON.
async fn rest(
    server: &Server,
    by: &Workspace,
    target: &Workspace,
    path: &str,
    body: Option<&Value>,
) -> Reply {
    let path = format!("{}/{path}", endpoint(target));
    match body {
        Some(body) => server.api().post(own(by), &path, body).await,
        None => server.api().get(own(by), &path).await,
    }
}

/// A task that has ended with this.
fn done_with(text: &str) -> Behaviour {
    Behaviour::Task {
        id: "theirs".to_owned(),
        state: "completed".to_owned(),
        text: text.to_owned(),
    }
}

fn id(task: &Value) -> String {
    task["id"].as_str().expect("a task's id").to_owned()
}

async fn a_message_is_a_delegation_and_its_answer_comes_back(database: Database) {
    let agent = FakeAgent::start(done_with("pong")).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let sent = json!({"messageId": "mine", "role": "ROLE_USER", "parts": [{"text": "ping"}, {"data": {"n": 1}}]});
    let params = json!({"message": sent});
    let task = done(&server, &caller, &target, "SendMessage", &params).await["task"].clone();
    assert_eq!(task["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(task["artifacts"][0]["parts"][0]["text"], "pong");
    assert_eq!(task["history"][0]["messageId"], "mine");
    assert_eq!(task["history"][0]["parts"][1]["data"]["n"], 1);
    let [received] = &*agent.messages() else {
        panic!("one message")
    };
    assert_eq!(received.message_id, "mine", "forwarded unchanged");
    assert_eq!(
        received.body["params"]["message"]["parts"][1]["data"]["n"],
        1
    );
    assert_eq!(
        received.body["params"]["message"]["contextId"],
        task["contextId"]
    );
    assert_exactly_once(
        server.api(),
        &caller,
        &id(&task),
        Expected::Completed("pong"),
    )
    .await;

    agent.behave(Behaviour::Answer("plain".to_owned()));
    let body = json!({"message": message("two", "ping")});
    let answer = rest(&server, &caller, &target, "message:send", Some(&body))
        .await
        .expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let said = &answer.body["message"];
    assert_eq!(
        (&said["role"], &said["parts"][0]["text"]),
        (&json!("ROLE_AGENT"), &json!("plain"))
    );
    assert!(said["taskId"].is_string());
    server.assert_invariants().await;
}

async fn a_task_is_got_listed_and_cancelled(database: Database) {
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("late"))).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let mut said = message("m", "long");
    said["contextId"] = "thread".into();
    let params = json!({"message": said, "configuration": {"returnImmediately": true}});
    let task = done(&server, &caller, &target, "SendMessage", &params).await["task"].clone();
    assert_eq!(task["contextId"], "thread");
    assert!(
        ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"]
            .contains(&task["status"]["state"].as_str().expect("a state"))
    );
    let other =
        json!({"message": message("n", "long"), "configuration": {"returnImmediately": true}});
    done(&server, &caller, &target, "SendMessage", &other).await;

    let got = rest(
        &server,
        &caller,
        &target,
        &format!("tasks/{}?historyLength=0", id(&task)),
        None,
    )
    .await
    .expect(200);
    assert_eq!(
        (&got.body["id"], got.body.get("history")),
        (&task["id"], None)
    );
    let listed = done(
        &server,
        &caller,
        &target,
        "ListTasks",
        &json!({"contextId": "thread"}),
    )
    .await;
    assert_eq!(
        (&listed["totalSize"], &listed["nextPageToken"]),
        (&json!(1), &json!(""))
    );
    assert_eq!(listed["tasks"][0]["id"], task["id"]);
    let page = rest(&server, &caller, &target, "tasks?pageSize=1", None)
        .await
        .expect(200);
    assert_eq!(
        (&page.body["totalSize"], &page.body["pageSize"]),
        (&json!(2), &json!(1))
    );
    let token = page.str("nextPageToken");
    let last = rest(
        &server,
        &caller,
        &target,
        &format!("tasks?pageSize=1&pageToken={token}"),
        None,
    )
    .await
    .expect(200);
    assert_ne!(last.body["tasks"][0]["id"], page.body["tasks"][0]["id"]);
    assert_eq!(last.str("nextPageToken"), "");

    let path = format!("tasks/{}:cancel", id(&task));
    let cancelled = rest(&server, &caller, &target, &path, Some(&json!({})))
        .await
        .expect(200);
    assert_eq!(cancelled.body["status"]["state"], "TASK_STATE_CANCELED");
    let again = rest(&server, &caller, &target, &path, Some(&json!({})))
        .await
        .expect(409);
    assert_eq!(
        again.body["error"]["details"][0]["reason"],
        "TASK_NOT_CANCELABLE"
    );
    server.assert_invariants().await;
}

async fn a_question_is_answered_in_the_same_task(database: Database) {
    let agent = FakeAgent::start(Behaviour::NonFinal("input-required".to_owned())).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let asked = done(
        &server,
        &caller,
        &target,
        "SendMessage",
        &json!({"message": message("one", "which?")}),
    )
    .await;
    let task = asked["task"].clone();
    assert_eq!(task["status"]["state"], "TASK_STATE_INPUT_REQUIRED");
    agent.behave(Behaviour::ArtifactTask("that one".to_owned()));
    let mut answer = message("two", "that");
    answer["taskId"] = task["id"].clone();
    let mut wrong = answer.clone();
    wrong["contextId"] = "another".into();
    let refusal = refused(
        &server,
        &caller,
        &target,
        "SendMessage",
        &json!({"message": wrong}),
    )
    .await;
    assert_eq!(refusal, (-32602, "INVALID_PARAMS".to_owned()));
    let ended = done(
        &server,
        &caller,
        &target,
        "SendMessage",
        &json!({"message": answer}),
    )
    .await["task"]
        .clone();
    assert_eq!(
        (&ended["id"], &ended["status"]["state"]),
        (&task["id"], &json!("TASK_STATE_COMPLETED"))
    );
    let said = ended["history"].as_array().expect("a history");
    let said: Vec<_> = said
        .iter()
        .map(|one| one["role"].as_str().expect("a role"))
        .collect();
    assert_eq!(said, ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"]);
    assert_eq!(
        agent.messages().last().expect("an answer").message_id,
        "two"
    );
    let refusal = refused(
        &server,
        &caller,
        &target,
        "SendMessage",
        &json!({"message": answer}),
    )
    .await;
    assert_eq!(refusal, (-32004, "UNSUPPORTED_OPERATION".to_owned()));
    server.assert_invariants().await;
}

/// What came in a stream, up to a word.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

async fn a_task_is_streamed_and_subscribed_to(database: Database) {
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("the end"))).await;
    let server = Server::start(&database, &[FLAG, ("BATON_RETRY_BASE_MS", "50")]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let body = request(
        "SendStreamingMessage",
        &json!({"message": message("m", "long")}),
    );
    let mut stream = Raw::connect(server.api()).await;
    stream
        .send(&post(
            &caller,
            &endpoint(&target),
            body.to_string().as_bytes(),
        ))
        .await;
    let begun = stream.read_until("TASK_STATE_WORKING").await;
    let first = events(&begun).remove(0);
    let task = id(&first["result"]["task"]);

    let path = format!("{}/tasks/{task}:subscribe", endpoint(&target));
    let mut second = Raw::connect(server.api()).await;
    second.send(&post(&caller, &path, b"")).await;
    second.read_until("\"task\"").await;
    agent.finish_work();
    let rest_of_it = stream.read_until("TASK_STATE_COMPLETED").await;
    assert!(
        rest_of_it.contains("artifactUpdate") && rest_of_it.contains("the end"),
        "{rest_of_it}"
    );
    let also = second.read_until("TASK_STATE_COMPLETED").await;
    assert!(
        also.contains("artifactUpdate") && !also.contains("jsonrpc"),
        "{also}"
    );
    let refusal = refused(
        &server,
        &caller,
        &target,
        "SubscribeToTask",
        &json!({"id": task}),
    )
    .await;
    assert_eq!(refusal.0, -32004);
    server.assert_invariants().await;
}

async fn a_client_that_hangs_up_finds_its_task_again(database: Database) {
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("kept"))).await;
    let server = Server::start(
        &database,
        &[
            FLAG,
            ("BATON_RETRY_BASE_MS", "50"),
            ("BATON_LEASE_MS", "500"),
        ],
    )
    .await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let mut said = message("m", "long");
    said["contextId"] = "thread".into();
    let body = request("SendMessage", &json!({"message": said}));
    let mut client = Raw::connect(server.api()).await;
    client
        .send(&post(
            &caller,
            &endpoint(&target),
            body.to_string().as_bytes(),
        ))
        .await;
    agent.wait_for(1).await;
    let listed = done(
        &server,
        &caller,
        &target,
        "ListTasks",
        &json!({"contextId": "thread"}),
    )
    .await;
    let task = id(&listed["tasks"][0]);
    server
        .api()
        .wait_until_status(&caller, &task, &["in_progress"])
        .await;
    drop(client);
    server.kill9();
    server.start_again().await;
    agent.finish_work();
    server.api().wait_until_ended(&caller, &task).await;
    let got = done(&server, &caller, &target, "GetTask", &json!({"id": task})).await;
    assert_eq!(got["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(got["artifacts"][0]["parts"][0]["text"], "kept");
    assert_exactly_once(server.api(), &caller, &task, Expected::Completed("kept")).await;
    server.assert_invariants().await;
}

async fn clients_of_0_3_are_understood(database: Database) {
    let agent = FakeAgent::start(Behaviour::ArtifactTask("pong".to_owned())).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let sent = json!({"kind": "message", "role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "ping"}]});
    let task = done(
        &server,
        &caller,
        &target,
        "message/send",
        &json!({"message": sent}),
    )
    .await;
    assert_eq!(
        (&task["kind"], &task["status"]["state"]),
        (&json!("task"), &json!("completed"))
    );
    assert_eq!(
        task["artifacts"][0]["parts"][0],
        json!({"kind": "text", "text": "pong"})
    );
    assert_eq!(task["history"][0]["role"], "user");
    let got = done(
        &server,
        &caller,
        &target,
        "tasks/get",
        &json!({"id": task["id"]}),
    )
    .await;
    assert_eq!(got["id"], task["id"]);
    let body = request("message/stream", &json!({"message": sent}));
    let mut stream = Raw::connect(server.api()).await;
    stream
        .send(&post(
            &caller,
            &endpoint(&target),
            body.to_string().as_bytes(),
        ))
        .await;
    let whole = stream.read_until("\"final\":true").await;
    let kinds = [
        "\"kind\":\"task\"",
        "\"kind\":\"artifact-update\"",
        "\"kind\":\"status-update\"",
    ];
    assert!(kinds.iter().all(|kind| whole.contains(kind)), "{whole}");
    let refusal = refused(
        &server,
        &caller,
        &target,
        "tasks/cancel",
        &json!({"id": task["id"]}),
    )
    .await;
    assert_eq!(refusal.0, -32002);
    server.assert_invariants().await;
}

async fn one_key_hands_one_message_over(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let path = endpoint(&target);
    let send = async |key: &str, text: &str| {
        let body = request("SendMessage", &json!({"message": message("m", text)}));
        let headers = [("idempotency-key", key)];
        server
            .api()
            .post_with(own(&caller), &path, &body, &headers)
            .await
            .expect(200)
            .body
    };
    let first = send("k", "one").await;
    let again = send("k", "one").await;
    assert_eq!(
        first["result"]["message"]["taskId"],
        again["result"]["message"]["taskId"]
    );
    assert_eq!(agent.seen("m"), 1);
    let other = send("k", "two").await;
    assert_eq!(
        other["error"]["data"][0]["reason"],
        "IDEMPOTENCY_KEY_MISMATCH"
    );
    let without = async || {
        done(
            &server,
            &caller,
            &target,
            "SendMessage",
            &json!({"message": message("m", "one")}),
        )
        .await["message"]["taskId"]
            .clone()
    };
    assert_ne!(without().await, without().await, "a messageId is no key");
    server.assert_invariants().await;
}

async fn what_makes_no_sense_is_refused_in_the_protocols_words(database: Database) {
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family("http://127.0.0.1:1/").await;
    let unknown = json!({"id": "nobody's"});
    for (method, params, code) in [
        ("NoSuchMethod", json!({}), -32601),
        ("SendMessage", json!({}), -32602),
        (
            "SendMessage",
            json!({"message": {"messageId": "m", "parts": []}}),
            -32602,
        ),
        ("SendStreamingMessage", json!({"message": 7}), -32602),
        ("GetTask", unknown.clone(), -32001),
        ("GetTask", json!({}), -32602),
        ("GetTask", json!({"id": "x", "historyLength": -1}), -32001),
        ("CancelTask", unknown.clone(), -32001),
        ("SubscribeToTask", unknown.clone(), -32001),
        ("ListTasks", json!({"pageSize": 1000}), -32602),
        ("ListTasks", json!({"pageToken": "odd"}), -32602),
        ("ListTasks", json!({"status": "odd"}), -32602),
        ("tasks/get", unknown, -32001),
    ] {
        let (found, _) = refused(&server, &caller, &target, method, &params).await;
        assert_eq!(found, code, "{method} {params}");
    }
    let by = own(&caller);
    let body = request("GetTask", &json!({"id": "x"}));
    let versions = server
        .api()
        .post_with(by, &endpoint(&target), &body, &[("a2a-version", "99.0")])
        .await
        .expect(200);
    assert_eq!(versions.body["error"]["code"], -32009);
    let kinds = server
        .api()
        .post_with(
            by,
            &endpoint(&target),
            &body,
            &[("content-type", "text/plain")],
        )
        .await
        .expect(200);
    assert_eq!(kinds.body["error"]["code"], -32005);
    let missing = rest(&server, &caller, &target, "tasks/none", None)
        .await
        .expect(404);
    assert_eq!(
        missing.body["error"]["details"][0]["reason"],
        "TASK_NOT_FOUND"
    );
    rest(&server, &caller, &target, "no/such/thing", None)
        .await
        .expect(404);
    server
        .api()
        .post(As::Nobody, &endpoint(&target), &body)
        .await
        .expect(401);
    server
        .api()
        .post(by, &format!("{}/", endpoint(&target)), &body)
        .await
        .expect(200);
}

async fn tasks_of_others_look_like_none(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let sent = done(
        &server,
        &caller,
        &target,
        "SendMessage",
        &json!({"message": message("m", "mine")}),
    )
    .await;
    let task = json!({"id": sent["message"]["taskId"]});
    for method in ["GetTask", "CancelTask", "SubscribeToTask"] {
        assert_eq!(
            refused(&server, &root, &target, method, &task).await.0,
            -32001,
            "{method}"
        );
        let (code, _) = refused(&server, &caller, &caller, method, &task).await;
        assert_eq!(code, -32001, "{method}: it was not handed to the caller");
    }
    let mut more = message("n", "more");
    more["taskId"] = task["id"].clone();
    assert_eq!(
        refused(
            &server,
            &root,
            &target,
            "SendMessage",
            &json!({"message": more})
        )
        .await
        .0,
        -32001
    );
    let listed = done(&server, &root, &target, "ListTasks", &json!({})).await;
    assert_eq!(listed["totalSize"], 0);
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
    let path = format!("{}/.well-known/agent-card.json", endpoint(&target));
    let card = server.api().get(As::Nobody, &path).await.expect(200);
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
    let extended = done(
        &server,
        &caller,
        &target,
        "GetExtendedAgentCard",
        &json!({}),
    )
    .await;
    assert_eq!(extended["name"], card.body["name"]);
    rest(&server, &caller, &target, "extendedAgentCard", None)
        .await
        .expect(200);
}
