//! A workspace as an A2A agent: a message is a delegation, its task tells how it goes, in both versions and bindings.

use serde::de::DeserializeOwned;
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
    one_key_hands_one_message_over,
    what_makes_no_sense_is_refused_in_the_protocols_words,
    tasks_of_others_look_like_none,
);

pub(crate) const FLAG: (&str, &str) = ("DELEGATION_RESULT_INBOX_PUSH", "1");

/// By nothing but its token: a workspace that names itself is one of the original's clients.
pub(crate) fn own(workspace: &Workspace) -> As<'_> {
    As::Bearer(&workspace.token)
}

/// The server, who asks it, and the workspace that is asked for.
pub(crate) type At<'a> = (&'a Server, &'a Workspace, &'a Workspace);

pub(crate) fn endpoint(target: &Workspace) -> String {
    format!("/workspaces/{}/a2a", target.id)
}

pub(crate) fn message(id: &str, text: &str) -> Value {
    json!({"messageId": id, "role": "ROLE_USER", "parts": [{"text": text}]})
}

pub(crate) fn request(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

/// Asks by JSON-RPC: the whole answer.
async fn ask(at: &At<'_>, method: &str, params: &Value) -> Value {
    let (server, by, target) = at;
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
pub(crate) async fn done(at: &At<'_>, method: &str, params: &Value) -> Value {
    let answer = ask(at, method, params).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    must_be_official(method, &answer["result"]);
    answer["result"].clone()
}

/// What is said can be read by the official types.
pub(crate) fn official<T: DeserializeOwned>(said: &Value) {
    let read: Result<T, _> = serde_json::from_value(said.clone());
    assert!(read.is_ok(), "{:?}: {said:#}", read.err());
}

fn must_be_official(method: &str, result: &Value) {
    match method {
        "SendMessage" => official::<::a2a::SendMessageResponse>(result),
        "GetTask" | "CancelTask" => official::<::a2a::Task>(result),
        "ListTasks" => official::<::a2a::ListTasksResponse>(result),
        "GetExtendedAgentCard" => official::<::a2a::AgentCard>(result),
        "CreateTaskPushNotificationConfig" | "GetTaskPushNotificationConfig" => {
            official::<::a2a::TaskPushNotificationConfig>(result);
        }
        "ListTaskPushNotificationConfigs" => {
            official::<::a2a::ListTaskPushNotificationConfigsResponse>(result);
        }
        _ => {}
    }
}

/// Asks, and requires an error: its code, and the reason in its details.
pub(crate) async fn refused(at: &At<'_>, method: &str, params: &Value) -> (i64, String) {
    let answer = ask(at, method, params).await;
    let error = &answer["error"];
    assert_eq!(error["data"][0]["domain"], "a2a-protocol.org", "{answer}");
    let reason = error["data"][0]["reason"].as_str().unwrap_or_default();
    (
        error["code"].as_i64().unwrap_or_default(),
        reason.to_owned(),
    )
}

/// Asks by HTTP+JSON.
pub(crate) async fn rest(at: &At<'_>, path: &str, body: Option<&Value>) -> Reply {
    let (server, by, target) = at;
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
    let at = &(&server, &caller, &target);
    let sent = json!({"messageId": "mine", "role": "ROLE_USER", "parts": [{"text": "ping"}, {"data": {"n": 1}}]});
    let params = json!({"message": sent});
    let task = done(at, "SendMessage", &params).await["task"].clone();
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
    let answer = rest(at, "message:send", Some(&body)).await.expect(200);
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
    let at = &(&server, &caller, &target);
    let mut said = message("m", "long");
    said["contextId"] = "thread".into();
    let params = json!({"message": said, "configuration": {"returnImmediately": true}});
    let task = done(at, "SendMessage", &params).await["task"].clone();
    assert_eq!(task["contextId"], "thread");
    assert!(
        ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"]
            .contains(&task["status"]["state"].as_str().expect("a state"))
    );
    let other =
        json!({"message": message("n", "long"), "configuration": {"returnImmediately": true}});
    done(at, "SendMessage", &other).await;

    let got = rest(at, &format!("tasks/{}?historyLength=0", id(&task)), None)
        .await
        .expect(200);
    assert_eq!(
        (&got.body["id"], got.body.get("history")),
        (&task["id"], None)
    );
    let listed = done(at, "ListTasks", &json!({"contextId": "thread"})).await;
    assert_eq!(
        (&listed["totalSize"], &listed["nextPageToken"]),
        (&json!(1), &json!(""))
    );
    assert_eq!(listed["tasks"][0]["id"], task["id"]);
    let page = rest(at, "tasks?pageSize=1", None).await.expect(200);
    assert_eq!(
        (&page.body["totalSize"], &page.body["pageSize"]),
        (&json!(2), &json!(1))
    );
    let token = page.str("nextPageToken");
    let last = rest(at, &format!("tasks?pageSize=1&pageToken={token}"), None)
        .await
        .expect(200);
    assert_ne!(last.body["tasks"][0]["id"], page.body["tasks"][0]["id"]);
    assert_eq!(last.str("nextPageToken"), "");

    let path = format!("tasks/{}:cancel", id(&task));
    let cancelled = rest(at, &path, Some(&json!({}))).await.expect(200);
    assert_eq!(cancelled.body["status"]["state"], "TASK_STATE_CANCELED");
    let again = rest(at, &path, Some(&json!({}))).await.expect(409);
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
    let at = &(&server, &caller, &target);
    let asked = done(
        at,
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
    let refusal = refused(at, "SendMessage", &json!({"message": wrong})).await;
    assert_eq!(refusal, (-32602, "INVALID_PARAMS".to_owned()));
    let ended = done(at, "SendMessage", &json!({"message": answer})).await["task"].clone();
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
    let refusal = refused(at, "SendMessage", &json!({"message": answer})).await;
    assert_eq!(refusal, (-32004, "UNSUPPORTED_OPERATION".to_owned()));
    server.assert_invariants().await;
}

/// The whole events of what came in a stream.
fn events(text: &str) -> Vec<Value> {
    let (whole, _) = text.rsplit_once("\n\n").expect("an event");
    let lines = whole.lines().filter_map(|line| line.strip_prefix("data: "));
    let read = |line| serde_json::from_str(line).expect("JSON");
    lines.map(read).collect()
}

async fn a_task_is_streamed_and_subscribed_to(database: Database) {
    let agent = FakeAgent::start(Behaviour::Work(LongWork::until_finished("the end"))).await;
    let server = Server::start(&database, &[FLAG, ("BATON_RETRY_BASE_MS", "50")]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let at = &(&server, &caller, &target);
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
    for event in events(&(begun + &rest_of_it)) {
        official::<::a2a::StreamResponse>(&event["result"]);
    }
    for event in events(&also) {
        official::<::a2a::StreamResponse>(&event);
    }
    let refusal = refused(at, "SubscribeToTask", &json!({"id": task})).await;
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
    let at = &(&server, &caller, &target);
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
    let listed = done(at, "ListTasks", &json!({"contextId": "thread"})).await;
    let task = id(&listed["tasks"][0]);
    server
        .api()
        .wait_until_status(&caller, &task, &["in_progress"])
        .await;
    drop(client);
    server.kill9();
    server.start_again().await;
    let path = format!("{}/tasks/{task}:subscribe", endpoint(&target));
    let mut stream = Raw::connect(server.api()).await;
    stream.send(&post(&caller, &path, b"")).await;
    stream.read_until("TASK_STATE_WORKING").await;
    agent.finish_work();
    stream.read_until("TASK_STATE_COMPLETED").await;
    server.api().wait_until_ended(&caller, &task).await;
    let got = done(at, "GetTask", &json!({"id": task})).await;
    assert_eq!(got["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(got["artifacts"][0]["parts"][0]["text"], "kept");
    assert_exactly_once(server.api(), &caller, &task, Expected::Completed("kept")).await;
    server.assert_invariants().await;
}

async fn one_key_hands_one_message_over(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let at = &(&server, &caller, &target);
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
        done(at, "SendMessage", &json!({"message": message("m", "one")})).await["message"]["taskId"]
            .clone()
    };
    assert_ne!(without().await, without().await, "a messageId is no key");
    server.assert_invariants().await;
}

async fn what_makes_no_sense_is_refused_in_the_protocols_words(database: Database) {
    let server = Server::start(&database, &[FLAG]).await;
    let Family { caller, target, .. } = server.family("http://127.0.0.1:1/").await;
    let at = &(&server, &caller, &target);
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
        let (found, _) = refused(at, method, &params).await;
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
    let missing = rest(at, "tasks/none", None).await.expect(404);
    assert_eq!(
        missing.body["error"]["details"][0]["reason"],
        "TASK_NOT_FOUND"
    );
    rest(at, "no/such/thing", None).await.expect(404);
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
    let at = &(&server, &caller, &target);
    let sent = done(at, "SendMessage", &json!({"message": message("m", "mine")})).await;
    let task = json!({"id": sent["message"]["taskId"]});
    for method in ["GetTask", "CancelTask", "SubscribeToTask"] {
        assert_eq!(
            refused(&(&server, &root, &target), method, &task).await.0,
            -32001,
            "{method}"
        );
        let (code, _) = refused(&(&server, &caller, &caller), method, &task).await;
        assert_eq!(code, -32001, "{method}: it was not handed to the caller");
    }
    let mut more = message("n", "more");
    more["taskId"] = task["id"].clone();
    assert_eq!(
        refused(
            &(&server, &root, &target),
            "SendMessage",
            &json!({"message": more})
        )
        .await
        .0,
        -32001
    );
    let listed = done(&(&server, &root, &target), "ListTasks", &json!({})).await;
    assert_eq!(listed["totalSize"], 0);
}
