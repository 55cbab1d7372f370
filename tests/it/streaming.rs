//! Agents that show a card are spoken to as it says: in either version, over either binding, and listened to while they
//! work, where they tell of that.

use std::io;

use serde_json::{Value, json};

use crate::support::client::{Api, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::script::{ScriptedAgent, Talk};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    what_a_new_agent_makes_is_shown_as_it_comes,
    an_old_agent_is_listened_to_as_well,
    a_stream_in_two_dialects_at_once_is_understood,
    a_stream_that_breaks_off_is_followed_to_the_end,
    a_stream_that_says_nothing_is_not_repeated,
    a_task_survives_a_kill_in_the_middle_of_its_stream,
    a_question_in_a_stream_is_answered_in_another,
    an_agent_that_does_not_stream_is_asked,
    an_agent_is_spoken_to_over_http_alone,
    the_address_of_a_card_is_as_good_as_an_agents,
    a_card_that_lies_does_no_harm,
    who_will_not_stream_is_not_made_to,
);

const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "50");
const CARD: &str = "/.well-known/agent-card.json";

/// A card of 1.0.
fn card(url: &str, binding: &str, streaming: bool) -> Value {
    json!({
        "name": "scripted", "capabilities": {"streaming": streaming},
        "supportedInterfaces": [{"url": url, "protocolBinding": binding, "protocolVersion": "1.0"}],
    })
}

/// A card of 0.3.
fn old_card(url: &str) -> Value {
    json!({
        "name": "scripted", "url": url, "protocolVersion": "0.3.0", "preferredTransport": "JSONRPC",
        "capabilities": {"streaming": true},
    })
}

/// An agent with a card for its root.
async fn agent<F>(card: Value, script: fn(Talk) -> F) -> ScriptedAgent
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let agent = ScriptedAgent::start(script).await;
    agent.show(CARD, card);
    agent
}

fn task(state: &str) -> Value {
    json!({"id": "t:1", "contextId": "c", "status": {"state": state}})
}

fn done(text: &str) -> Value {
    let artifacts = json!([{"artifactId": "a", "parts": [{"text": text}]}]);
    let mut task = task("TASK_STATE_COMPLETED");
    task["artifacts"] = artifacts;
    task
}

fn status(state: &str) -> Value {
    json!({"statusUpdate": {"taskId": "t:1", "contextId": "c", "status": {"state": state}}})
}

fn piece(artifact: &str, text: &str, append: bool, last: bool) -> Value {
    json!({"artifactUpdate": {
        "taskId": "t:1", "contextId": "c", "append": append, "lastChunk": last,
        "artifact": {"artifactId": artifact, "parts": [{"text": text}]},
    }})
}

/// What was recorded of what the target made, oldest first.
async fn made(api: &Api, caller: &Workspace, id: &str) -> Vec<Value> {
    let events = api.events(caller).await.expect(200);
    let of_it = |event: &&Value| {
        event["event_type"] == "TASK_ARTIFACT" && event["payload"]["delegation_id"] == id
    };
    let made = events.rows().iter().rev().filter(of_it);
    made.map(|event| event["payload"].clone()).collect()
}

/// It was given the task once, and from then on only asked after it: until the answer is committed, perhaps once more.
fn assert_asked_after(agent: &ScriptedAgent, message: &str, question: &str) {
    let asked = agent.asked();
    let (given, after) = asked.split_first().expect("a request");
    assert!(given == message && !after.is_empty(), "{asked:?}");
    assert!(after.iter().all(|other| other == question), "{asked:?}");
}

async fn ends(server: &Server, caller: &Workspace, id: &str, expected: Expected<'_>) {
    let api = server.api();
    api.wait_until_ended(caller, id).await;
    assert_exactly_once(api, caller, id, expected).await;
    server.assert_invariants().await;
}

async fn what_a_new_agent_makes_is_shown_as_it_comes(database: Database) {
    async fn works(mut talk: Talk) -> io::Result<()> {
        talk.begin().await?;
        talk.event(&json!({"task": task("TASK_STATE_SUBMITTED")}))
            .await?;
        let mut working = status("TASK_STATE_WORKING");
        let message =
            json!({"role": "ROLE_AGENT", "messageId": "m", "parts": [{"text": "half way"}]});
        working["statusUpdate"]["status"]["message"] = message;
        talk.event(&working).await?;
        talk.event(&piece("a", "one", false, false)).await?;
        talk.piece(": keep-alive\n\n").await?;
        talk.wait().await;
        talk.event(&piece("a", "two", true, true)).await?;
        talk.event(&piece("b", "three", false, true)).await?;
        talk.event(&status("TASK_STATE_COMPLETED")).await?;
        talk.end().await
    }
    let agent = agent(card("http://localhost/", "JSONRPC", true), works).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "count").await;
    // Durable and shown while the agent still works.
    eventually("the first piece is shown", async || {
        (made(api, &caller, &id).await.len() == 1).then_some(())
    })
    .await;
    let whole = api.delegation(&caller, &id).await.expect(200).body;
    assert_eq!(
        (&whole["status"], &whole["progress"]["message"]),
        (&json!("in_progress"), &json!("half way"))
    );
    agent.let_go_on();
    ends(
        &server,
        &caller,
        &id,
        Expected::Completed("one\ntwo\nthree"),
    )
    .await;

    let artifact = |id: &str, text: &str| json!({"artifactId": id, "parts": [{"text": text}]});
    let shown = |of: Value, append, last_chunk| {
        json!({
            "delegation_id": id, "target_id": target.id, "artifact": of, "append": append, "last_chunk": last_chunk,
        })
    };
    let expected = [
        shown(artifact("a", "one"), false, false),
        shown(artifact("a", "two"), true, true),
        shown(artifact("b", "three"), false, true),
    ];
    assert_eq!(made(api, &caller, &id).await, expected);
    let names = api.event_names(&caller, &id).await;
    assert_eq!(
        names.last().map(String::as_str),
        Some("DELEGATION_COMPLETE")
    );
    let [request] = &agent.requests()[..] else {
        panic!("one request: {:?}", agent.asked())
    };
    assert_eq!(request.method, "SendStreamingMessage");
    assert_eq!(
        (&request.message_id, request.header("a2a-version")),
        (&id, Some("1.0"))
    );
    assert_eq!(
        request.header("accept"),
        Some("application/json, text/event-stream")
    );
}

async fn an_old_agent_is_listened_to_as_well(database: Database) {
    async fn works(mut talk: Talk) -> io::Result<()> {
        talk.begin().await?;
        let first = json!({"kind": "task", "id": "t:1", "contextId": "c", "status": {"state": "submitted"}});
        talk.event(&first).await?;
        let parts = json!([{"kind": "text", "text": "old"}, {"kind": "file", "file": {"uri": "http://f/", "mimeType": "a/b"}}]);
        talk.event(&json!({
            "kind": "artifact-update", "taskId": "t:1", "contextId": "c", "lastChunk": true,
            "artifact": {"artifactId": "a", "parts": parts},
        }))
        .await?;
        talk.event(&json!({
            "kind": "status-update", "taskId": "t:1", "contextId": "c", "final": true, "status": {"state": "completed"},
        }))
        .await?;
        talk.end().await
    }
    let agent = agent(old_card("http://localhost/"), works).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Completed("old")).await;
    // Whoever it came from, it is shown in one dialect.
    let parts = json!([{"text": "old"}, {"url": "http://f/", "mediaType": "a/b"}]);
    assert_eq!(made(api, &caller, &id).await[0]["artifact"]["parts"], parts);
    assert_eq!(agent.asked(), ["message/stream"]);
    assert_eq!(agent.requests()[0].header("a2a-version"), None);
}

/// As a server of another framework speaks: the first event in the new dialect, the others in the old one with the new
/// one's words, comments between them, and lines that end in CRLF.
async fn a_stream_in_two_dialects_at_once_is_understood(database: Database) {
    async fn works(mut talk: Talk) -> io::Result<()> {
        talk.begin().await?;
        talk.piece(": heartbeat\r\n\r\n").await?;
        let mut first = task("TASK_STATE_WORKING");
        first
            .as_object_mut()
            .expect("an object")
            .remove("contextId");
        talk.event(&json!({"task": first})).await?;
        let id = talk.request.body["id"].clone();
        let event = |result: Value| {
            let data = json!({"jsonrpc": "2.0", "id": id, "result": result});
            format!("event: message\r\nid: 7\r\ndata: {data}\r\n\r\n")
        };
        let updates = [
            json!({"taskId": "t:1", "status": {"state": "TASK_STATE_PONDERING", "timestamp": "2026-01-01T00:00:00+00:00"}, "final": false}),
            json!({"kind": "artifact-update", "taskId": "t:1", "artifact": {"artifactId": "a", "parts": [{"kind": "text", "text": "both"}]}}),
            json!({"kind": "status-update", "taskId": "another", "status": {"state": "TASK_STATE_FAILED"}, "final": true}),
            json!({"kind": "status-update", "taskId": "t:1", "status": {"state": "TASK_STATE_COMPLETED"}, "final": true}),
        ];
        let text: String = updates.into_iter().map(event).collect();
        let (head, tail) = text.split_at(text.len() / 3);
        talk.piece(head).await?;
        talk.piece(tail).await?;
        talk.end().await
    }
    let agent = agent(card("http://localhost/", "JSONRPC", true), works).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let id = server.api().delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Completed("both")).await;
    assert_eq!(agent.asked(), ["SendStreamingMessage"]);
}

/// Takes a message as a task, tells of it, and breaks off; asked about it, it is done.
async fn breaks_off(mut talk: Talk) -> io::Result<()> {
    if talk.request.method == "GetTask" {
        return talk.result(&done("after all")).await;
    }
    talk.begin().await?;
    talk.event(&json!({"task": task("TASK_STATE_WORKING")}))
        .await?;
    talk.event(&piece("a", "after", false, false)).await?;
    talk.piece("data: {\"jsonrpc\":\"2.0\",").await
}

async fn a_stream_that_breaks_off_is_followed_to_the_end(database: Database) {
    let agent = agent(card("http://localhost/", "JSONRPC", true), breaks_off).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let id = server.api().delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Completed("after all")).await;
    assert_asked_after(&agent, "SendStreamingMessage", "GetTask");
    assert_eq!(agent.requests()[1].task_id, "t:1");
}

async fn a_stream_that_says_nothing_is_not_repeated(database: Database) {
    async fn breaks_off(mut talk: Talk) -> io::Result<()> {
        talk.begin().await?;
        talk.piece(": hello\n\n").await
    }
    let agent = agent(card("http://localhost/", "JSONRPC", true), breaks_off).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let id = server.api().delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Failed("truncated")).await;
    assert_eq!(agent.asked(), ["SendStreamingMessage"]);
}

async fn a_task_survives_a_kill_in_the_middle_of_its_stream(database: Database) {
    async fn goes_on(mut talk: Talk) -> io::Result<()> {
        if talk.request.method == "GetTask" {
            return talk.result(&done("one\ntwo")).await;
        }
        talk.begin().await?;
        talk.event(&json!({"task": task("TASK_STATE_WORKING")}))
            .await?;
        talk.event(&piece("a", "one", false, false)).await?;
        talk.wait().await;
        Ok(())
    }
    let agent = agent(card("http://localhost/", "JSONRPC", true), goes_on).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "long").await;
    eventually("a piece is shown", async || {
        (made(api, &caller, &id).await.len() == 1).then_some(())
    })
    .await;
    server.kill9();
    server.start_again().await;
    ends(&server, &caller, &id, Expected::Completed("one\ntwo")).await;
    assert_eq!(
        made(api, &caller, &id).await.len(),
        1,
        "what was shown stays so"
    );
    assert_asked_after(&agent, "SendStreamingMessage", "GetTask");
}

async fn a_question_in_a_stream_is_answered_in_another(database: Database) {
    async fn asks(mut talk: Talk) -> io::Result<()> {
        talk.begin().await?;
        let mut asks = status("TASK_STATE_INPUT_REQUIRED");
        let message =
            json!({"role": "ROLE_AGENT", "messageId": "m", "parts": [{"text": "Which?"}]});
        asks["statusUpdate"]["status"]["message"] = message;
        if talk.request.task_id.is_empty() {
            talk.event(&json!({"task": task("TASK_STATE_WORKING")}))
                .await?;
            talk.event(&asks).await?;
            // It may go on, and change nothing.
            talk.wait().await;
            return talk.end().await;
        }
        // It begins with how the task stood before.
        let mut before = task("TASK_STATE_INPUT_REQUIRED");
        before["status"] = asks["statusUpdate"]["status"].clone();
        talk.event(&json!({"task": before})).await?;
        talk.event(&status("TASK_STATE_WORKING")).await?;
        let text = format!("took {}", talk.request.text());
        talk.event(&piece("a", &text, false, true)).await?;
        talk.event(&status("TASK_STATE_COMPLETED")).await?;
        talk.end().await
    }
    let agent = agent(card("http://localhost/", "JSONRPC", true), asks).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "paint").await;
    api.wait_until_status(&caller, &id, &["input_required"])
        .await;
    api.input(&caller, &id, "blue").await.expect(200);
    ends(&server, &caller, &id, Expected::Completed("took blue")).await;
    agent.let_go_on();
    let requests = agent.requests();
    // It may have been asked how far it is.
    let sent = requests
        .iter()
        .filter(|request| request.method.starts_with("Send"));
    let tasks = sent.map(|request| &*request.task_id);
    assert_eq!(tasks.collect::<Vec<_>>(), ["", "t:1"]);
    let whole = api.delegation(&caller, &id).await.expect(200).body;
    let asked = whole["history"].as_array().expect("a history").iter();
    let asked = asked
        .filter(|step| step["status"] == "input_required")
        .count();
    assert_eq!(asked, 1, "it was asked once");
}

async fn an_agent_that_does_not_stream_is_asked(database: Database) {
    async fn takes(mut talk: Talk) -> io::Result<()> {
        match &*talk.request.method {
            "SendMessage" => {
                let configured = &talk.request.body["params"]["configuration"];
                assert_eq!(configured, &json!({"returnImmediately": true}));
                talk.result(&json!({"task": task("TASK_STATE_SUBMITTED")}))
                    .await
            }
            "GetTask" => talk.result(&done("in time")).await,
            _ => talk.error(-32601).await,
        }
    }
    let agent = agent(card("http://localhost/", "JSONRPC", false), takes).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    let id = server.api().delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Completed("in time")).await;
    assert_asked_after(&agent, "SendMessage", "GetTask");
}

async fn an_agent_is_spoken_to_over_http_alone(database: Database) {
    async fn takes(mut talk: Talk) -> io::Result<()> {
        match &*talk.request.line {
            "POST /rest/message:stream" => {
                talk.begin().await?;
                let first = json!({"task": task("TASK_STATE_WORKING")});
                talk.piece(&format!("data: {first}\n\n")).await?;
                talk.end().await
            }
            "GET /rest/tasks/t:1?historyLength=1" => talk.answer(200, &done("over http")).await,
            _ => talk.answer(404, &json!({})).await,
        }
    }
    let agent = ScriptedAgent::start(takes).await;
    agent.show(CARD, card(&agent.at("/rest"), "HTTP+JSON", true));
    let server = Server::start(&database, &[SOON]).await;
    // What is below the address is looked at first, then what is below the origin.
    let Family { caller, target, .. } = server.family(&agent.at("/rest")).await;
    let id = server.api().delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Completed("over http")).await;
    let requests = agent.requests();
    let question = "GET /rest/tasks/t:1?historyLength=1";
    assert_asked_after(&agent, "POST /rest/message:stream", question);
    assert_eq!(requests[0].body["message"]["messageId"], json!(id));
    assert!(
        requests
            .iter()
            .all(|request| request.header("a2a-version") == Some("1.0"))
    );
}

async fn the_address_of_a_card_is_as_good_as_an_agents(database: Database) {
    async fn answers(mut talk: Talk) -> io::Result<()> {
        assert_eq!(talk.request.line, "POST /a2a/of/it");
        talk.result(&json!({"task": done("found")})).await
    }
    let agent = ScriptedAgent::start(answers).await;
    agent.show(
        "/deep/card.json",
        card("http://localhost:1/a2a/of/it", "JSONRPC", false),
    );
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/deep/card.json")).await;
    let id = server.api().delegated(&caller, &target, "long").await;
    ends(&server, &caller, &id, Expected::Completed("found")).await;
}

/// It leads elsewhere, is of the wrong types, and promises what the agent does not do.
async fn a_card_that_lies_does_no_harm(database: Database) {
    async fn knows_only_the_old(mut talk: Talk) -> io::Result<()> {
        match &*talk.request.method {
            "message/send" => {
                let parts = json!([{"kind": "text", "text": "all the same"}]);
                let message =
                    json!({"kind": "message", "role": "agent", "messageId": "m", "parts": parts});
                talk.result(&message).await
            }
            _ => talk.error(-32601).await,
        }
    }
    async fn trap(_: Talk) -> io::Result<()> {
        panic!("it was led elsewhere")
    }
    let elsewhere = ScriptedAgent::start(trap).await;
    let server = Server::start(&database, &[SOON]).await;
    for (card, asked) in [
        (
            card(&elsewhere.at("/"), "JSONRPC", true),
            vec!["SendStreamingMessage", "SendMessage", "message/send"],
        ),
        (
            json!({"supportedInterfaces": "none", "url": 7, "capabilities": [true], "protocolVersion": {}}),
            vec!["message/send"],
        ),
        (
            old_card(&elsewhere.at("/")),
            vec!["message/stream", "message/send"],
        ),
        (json!("no card"), vec!["message/send"]),
    ] {
        let agent = agent(card, knows_only_the_old).await;
        let Family { caller, target, .. } = server.family(&agent.at("/")).await;
        let id = server.api().delegated(&caller, &target, "go").await;
        ends(&server, &caller, &id, Expected::Completed("all the same")).await;
        assert_eq!(agent.asked(), asked);
    }
    assert!(elsewhere.requests().is_empty());
}

async fn who_will_not_stream_is_not_made_to(database: Database) {
    async fn refuses(mut talk: Talk) -> io::Result<()> {
        match &*talk.request.method {
            "SendStreamingMessage" if talk.request.text() == "in a stream" => {
                let id = &talk.request.body["id"];
                let error = json!({"code": -32004, "message": "no streams"});
                let data = json!({"jsonrpc": "2.0", "id": id, "error": error});
                talk.begin().await?;
                talk.piece(&format!("data: {data}\n\n")).await?;
                talk.end().await
            }
            "SendStreamingMessage" => talk.answer(415, &json!({})).await,
            "SendMessage" => talk.result(&json!({"task": done("quietly")})).await,
            _ => talk.error(-32601).await,
        }
    }
    let agent = agent(card("http://localhost/", "JSONRPC", true), refuses).await;
    let server = Server::start(&database, &[SOON]).await;
    let Family { caller, target, .. } = server.family(&agent.at("/")).await;
    for task in ["in a stream", "whole"] {
        let id = server.api().delegated(&caller, &target, task).await;
        ends(&server, &caller, &id, Expected::Completed("quietly")).await;
    }
    assert_eq!(
        agent.asked(),
        ["SendStreamingMessage", "SendMessage"].repeat(2)
    );
}
