//! The Model Context Protocol: its tools do what the routes do, long calls tell how they go, and a local client reaches them
//! through the bridge.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{As, Workspace};
use crate::support::database::Database;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::raw::Raw;
use crate::support::server::{Family, Server};
use crate::support::{PATIENCE, eventually};

crate::on_both_databases!(
    the_page_about_mcp_does_what_it_says,
    a_client_is_greeted_and_told_what_there_is,
    a_task_is_delegated_and_its_reply_read,
    a_client_that_knows_tasks_follows_one,
    a_long_call_tells_how_it_goes_and_outlives_its_client,
    who_called_before_a_kill_finds_the_task_and_its_reply_again,
    what_makes_no_sense_is_refused_in_the_protocols_words,
    a_local_client_is_joined_by_the_bridge,
);

const PAGE: &str = include_str!("../../docs/MCP.md");

async fn the_page_about_mcp_does_what_it_says(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let server = Server::start(&database, &[]).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let (_, script) = PAGE.split_once("```sh\n").expect("commands");
    let (script, _) = script.split_once("```").expect("their end");
    let output = Command::new("sh")
        .args(["-eu", "-c", script])
        .env("BATON_URL", server.api().base())
        .env("ID", &caller.id)
        .env("TARGET", &target.id)
        .env("TOKEN", &caller.token)
        .output()
        .await
        .expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    for word in ["wait_for_message", "echo: count to three", "last_acked_seq"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

fn request(id: u32, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// Asks, and requires a result.
async fn ask(server: &Server, by: &Workspace, method: &str, params: &Value) -> Value {
    let path = format!("/workspaces/{}/mcp", by.id);
    let body = request(7, method, params);
    let reply = server
        .api()
        .post(As::Workspace(by), &path, &body)
        .await
        .expect(200);
    assert_eq!(reply.body["id"], 7, "{}", reply.text);
    assert!(reply.body.get("result").is_some(), "{}", reply.text);
    reply.body["result"].clone()
}

/// Calls a tool: what it says, and whether that is an error.
async fn call(server: &Server, by: &Workspace, name: &str, arguments: &Value) -> (Value, bool) {
    let params = json!({"name": name, "arguments": arguments});
    let result = ask(server, by, "tools/call", &params).await;
    let is_error = result["isError"].as_bool().expect("isError");
    (result["structuredContent"].clone(), is_error)
}

/// Calls a tool that does what it is told.
async fn does(server: &Server, by: &Workspace, name: &str, arguments: Value) -> Value {
    let (said, is_error) = call(server, by, name, &arguments).await;
    assert!(!is_error, "{name}: {said}");
    said
}

async fn a_client_is_greeted_and_told_what_there_is(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, target, .. } = server.family("http://127.0.0.1:1/").await;
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = ask(&server, &caller, "initialize", &hello).await;
    assert_eq!(hello["protocolVersion"], "2025-06-18");
    assert_eq!(hello["serverInfo"]["name"], "baton");
    let listed = ask(&server, &caller, "tools/list", &json!({})).await;
    assert_eq!(listed["tools"].as_array().map(Vec::len), Some(11));
    assert!(listed.get("resultType").is_none());
    let call = async |name| does(&server, &caller, name, json!({})).await;
    let peers = call("list_peers").await;
    let found = peers["peers"].as_array().expect("peers").iter();
    assert_eq!(
        found
            .filter(|peer| peer["id"] == target.id.as_str())
            .count(),
        1
    );
    assert_eq!(call("get_workspace_info").await["name"], "caller");
}

async fn a_task_is_delegated_and_its_reply_read(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let call = async |name, arguments| does(&server, &caller, name, arguments).await;
    let order = json!({"workspace_id": target.id, "task": "the task", "idempotency_key": "k"});
    let done = call("delegate_task", order.clone()).await;
    assert_eq!(
        (&done["status"], &done["result"]),
        (&json!("completed"), &json!("echo: the task"))
    );
    let again = call("delegate_task_async", order).await;
    assert_eq!(again["task_id"], done["delegation_id"]);
    assert_eq!(agent.messages().len(), 1);
    let status = call(
        "check_task_status",
        json!({"task_id": done["delegation_id"]}),
    )
    .await;
    assert_eq!(status["status"], "completed");

    a_part_is_handed_on(&server, &target, &caller, &done["delegation_id"]).await;

    let messages = call("wait_for_message", json!({"timeout_seconds": 30})).await;
    let seq = messages["messages"][0]["seq"].as_i64().expect("a place");
    assert_eq!(call("inbox_peek", json!({})).await, messages);
    call("inbox_ack", json!({"acked_seq": seq})).await;
    assert_eq!(call("inbox_peek", json!({})).await["messages"], json!([]));

    agent.behave(Behaviour::Hang);
    let order = json!({"workspace_id": target.id, "task": "for ever"});
    let begun = call("delegate_task_async", order).await;
    let cancel = json!({"task_id": begun["task_id"], "reason": "enough"});
    assert_eq!(call("cancel_task", cancel).await["status"], "cancelled");
    call("send_message_to_user", json!({"message": "hello"})).await;
    let noted = server.api().feed(&caller, "a2a_receive").await;
    assert!(noted.iter().any(|row| row["method"] == "notify"));
    server.assert_invariants().await;
}

/// By a workspace that was given a delegation, to another one.
async fn a_part_is_handed_on(server: &Server, by: &Workspace, to: &Workspace, parent: &Value) {
    let part = json!({"workspace_id": to.id, "task": "a part", "parent_delegation_id": parent});
    let begun = does(server, by, "delegate_task_async", part).await;
    let named = json!({"task_id": begun["task_id"]});
    let status = does(server, by, "check_task_status", named.clone()).await;
    assert_eq!(status["parent_delegation_id"], *parent);
    does(server, by, "cancel_task", named).await;
}

/// What a client says with each request that knows of tasks.
fn knowing_tasks(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    });
    params
}

async fn a_client_that_knows_tasks_follows_one(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let ask = async |method: &str, params: Value| {
        ask(&server, &caller, method, &knowing_tasks(params)).await
    };
    let order = |task: &str| json!({"name": "delegate_task", "arguments": {"workspace_id": target.id, "task": task}});
    let task = ask("tools/call", order("x")).await;
    assert_eq!(
        (&task["resultType"], &task["status"]),
        (&json!("task"), &json!("working"))
    );
    let id = task["taskId"].as_str().expect("an id");
    // It is a delegation like any other.
    server.api().delegation(&caller, id).await.expect(200);
    let stopped = ask("tools/call", order("never mind")).await;
    let stop = json!({"taskId": stopped["taskId"]});
    ask("tasks/cancel", stop.clone()).await;
    assert_eq!(ask("tasks/get", stop.clone()).await["status"], "cancelled");
    ask("tasks/cancel", stop).await;
    agent.release();
    server.api().wait_until_ended(&caller, id).await;
    let done = ask("tasks/get", json!({"taskId": id})).await;
    assert_eq!(done["status"], "completed");
    assert_eq!(done["result"]["content"][0]["text"], "echo: x");
}

/// A call by a client that follows a stream.
fn streamed_call(by: &Workspace, params: &Value) -> String {
    let body = request(1, "tools/call", params).to_string();
    format!(
        "POST /workspaces/{}/mcp HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        by.id,
        by.token,
        body.len()
    )
}

async fn a_long_call_tells_how_it_goes_and_outlives_its_client(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let params = json!({
        "name": "delegate_task", "arguments": {"workspace_id": target.id, "task": "x"},
        "_meta": {"progressToken": "p"},
    });
    let post = streamed_call(&caller, &params);
    let mut leaves = Raw::connect(api).await;
    leaves.send(post.as_bytes()).await;
    leaves.read_until("notifications/progress").await;
    agent.wait_for(1).await;
    drop(leaves);
    let mut stays = Raw::connect(api).await;
    stays.send(post.as_bytes()).await;
    agent.wait_for(2).await;
    let id = api.delegations(&caller).await.rows()[0]["delegation_id"].clone();
    let id = id.as_str().expect("an id");
    let beat = json!({"message": "half of it"});
    let path = format!("/workspaces/{}/delegations/{id}/heartbeat", target.id);
    api.post(As::Workspace(&target), &path, &beat)
        .await
        .expect(200);
    stays.read_until("half of it").await;
    // Quiet for so long, some clients would be gone.
    stays.read_until(": ping").await;
    agent.release();
    stays.read_until(r#""id":1"#).await;
    api.wait_until_all_ended(&caller).await;
    let replies = api.feed(&caller, "a2a_receive").await;
    assert_eq!(replies.len(), 2, "{replies:?}");
    server.assert_invariants().await;
}

/// Reads so many replies, and acknowledges them: the delegations that they are of.
async fn read_and_acknowledged(server: &Server, reader: &Workspace, number: usize) -> Vec<Value> {
    let call = async |name, arguments| does(server, reader, name, arguments).await;
    let mut replies = Vec::new();
    while replies.len() < number {
        let messages = call("wait_for_message", json!({"timeout_seconds": 30})).await;
        let messages = messages["messages"].as_array().expect("messages");
        let last = messages.last().expect("a message")["seq"].clone();
        let of = |row: &Value| row["request_body"]["delegation_id"].clone();
        replies.extend(messages.iter().map(of));
        call("inbox_ack", json!({"acked_seq": last})).await;
    }
    replies
}

async fn who_called_before_a_kill_finds_the_task_and_its_reply_again(database: Database) {
    let server = Server::start(&database, &[("BATON_RETRY_BASE_MS", "50")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    // What it may have been told already it can be told again.
    let extensions = json!([{"uri": "urn:baton:ext:idempotent-message-id:v1"}]);
    let card = json!({"name": "target", "url": "", "capabilities": {"extensions": extensions}});
    api.register(&target, &agent.url(), &card).await.expect(200);
    agent.hold();
    let call = async |name, arguments| does(&server, &caller, name, arguments).await;
    let order =
        |task: &str| json!({"workspace_id": target.id, "task": task, "idempotency_key": task});
    let begun = call("delegate_task_async", order("one")).await;
    let params = json!({"name": "delegate_task", "arguments": order("other"), "_meta": {"progressToken": "p"}});
    let mut cut_off = Raw::connect(api).await;
    cut_off
        .send(streamed_call(&caller, &params).as_bytes())
        .await;
    cut_off.read_until("notifications/progress").await;
    agent.wait_for(2).await;
    server.kill9();
    let last = cut_off.read_to_the_end().await;
    assert!(!last.contains("\"result\""), "{last}");
    server.start_again().await;
    agent.release();
    // The one by its id; the other by the same call again.
    let one = begun["task_id"].as_str().expect("an id");
    let ended = async || {
        let status = call("check_task_status", json!({"task_id": one})).await;
        (status["status"] == "completed").then_some(status)
    };
    let ended = eventually("it completed", ended).await;
    assert_eq!(ended["result"], "echo: one");
    let other = call("delegate_task", order("other")).await;
    assert_eq!(other["result"], "echo: other");
    let other = other["delegation_id"].as_str().expect("an id");
    let replies = read_and_acknowledged(&server, &caller, 2).await;
    assert_eq!(call("inbox_peek", json!({})).await["messages"], json!([]));
    for (id, text) in [(one, "echo: one"), (other, "echo: other")] {
        assert_eq!(replies.iter().filter(|reply| *reply == id).count(), 1);
        assert_exactly_once(api, &caller, id, Expected::Completed(text)).await;
    }
    server.assert_invariants().await;
}

async fn what_makes_no_sense_is_refused_in_the_protocols_words(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, root, .. } = server.family("http://127.0.0.1:1/").await;
    let stranger = server.api().create_workspace("stranger", None, None).await;
    let path = format!("/workspaces/{}/mcp", caller.id);
    let api = server.api();
    let post = async |body: &Value| api.post(As::Workspace(&caller), &path, body).await;
    let unknown = post(&request(1, "resources/list", &json!({})))
        .await
        .expect(200);
    assert_eq!(unknown.body["error"]["code"], -32601);
    let tool = json!({"name": "no_such_tool", "arguments": {}});
    let tool = post(&request(1, "tools/call", &tool)).await.expect(200);
    assert_eq!(tool.body["error"]["code"], -32602);
    let batch = post(&json!([request(1, "ping", &json!({}))]))
        .await
        .expect(400);
    assert_eq!(batch.body["error"]["code"], -32600);
    let lost = post(&request(1, "tasks/get", &json!({"taskId": "x"})))
        .await
        .expect(200);
    assert_eq!(lost.body["error"]["code"], -32602);
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    post(&note).await.expect(202);
    api.get(As::Workspace(&caller), &path).await.expect(405);
    api.post(As::Workspace(&root), &path, &note)
        .await
        .expect(401);

    for (name, arguments, said) in [
        (
            "delegate_task",
            json!({"workspace_id": stranger.id, "task": "x"}),
            "target workspace not found",
        ),
        (
            "delegate_task",
            json!({"workspace_id": caller.id, "task": "x"}),
            "self-delegation",
        ),
        ("delegate_task", json!({"task": "x"}), "workspace_id"),
        (
            "check_task_status",
            json!({"task_id": "unknown"}),
            "delegation not found",
        ),
        ("inbox_ack", json!({"acked_seq": -1}), "acked_seq"),
        (
            "wait_for_message",
            json!({"timeout_seconds": 601}),
            "timeout_seconds",
        ),
    ] {
        let params = json!({"name": name, "arguments": arguments});
        let result = ask(&server, &caller, "tools/call", &params).await;
        assert_eq!(result["isError"], true, "{name}: {result}");
        let text = result["content"][0]["text"].as_str().expect("a text");
        assert!(text.contains(said), "{name}: {text}");
    }
}

/// A bridge to a server.
struct Bridge {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Bridge {
    fn open(server: &Server, by: &Workspace) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_baton"))
            .args(["mcp", "--workspace", &by.id])
            .env("BATON_URL", server.api().base())
            .env("BATON_TOKEN", &by.token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("baton");
        Self {
            input: process.stdin.take().expect("an input"),
            output: BufReader::new(process.stdout.take().expect("an output")).lines(),
            _process: process,
        }
    }

    async fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.input.write_all(line.as_bytes()).await.expect("a pipe");
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.expect("in time").expect("a pipe").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }
}

async fn a_local_client_is_joined_by_the_bridge(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::after(
        Duration::from_millis(200),
        Behaviour::Echo,
    ))
    .await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let mut bridge = Bridge::open(&server, &caller);
    bridge
        .say(&request(
            1,
            "initialize",
            &json!({"protocolVersion": "2025-11-25"}),
        ))
        .await;
    assert_eq!(
        bridge.hear().await["result"]["protocolVersion"],
        "2025-11-25"
    );
    bridge
        .say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .await;
    let params = json!({
        "name": "delegate_task", "arguments": {"workspace_id": target.id, "task": "x"},
        "_meta": {"progressToken": 5},
    });
    bridge.say(&request(2, "tools/call", &params)).await;
    // What takes long keeps nobody waiting.
    bridge.say(&request(3, "ping", &json!({}))).await;
    let (mut answers, mut progress) = (Vec::new(), 0);
    while answers.len() < 2 {
        let message = bridge.hear().await;
        if message["method"] == "notifications/progress" {
            assert_eq!(message["params"]["progressToken"], 5);
            progress += 1;
        } else {
            answers.push(message);
        }
    }
    assert_eq!(answers[0]["id"], 3);
    assert_eq!(answers[1]["result"]["content"][0]["text"], "echo: x");
    assert!(progress > 0);
    server.kill9();
    bridge.say(&request(4, "ping", &json!({}))).await;
    assert_eq!(bridge.hear().await["error"]["code"], -32603);
    server.start_again().await;
}
