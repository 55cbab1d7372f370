//! A delegation completes or fails with exactly the rows, events and texts that are documented (contract §4 and §5 as
//! product.md amends them).

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, Workspace};
use crate::support::database::Database;
use crate::support::poller::{Kind, Poller};
use crate::support::server::{Family, INBOX_PUSH, Server};

crate::on_both_databases!(
    a_completed_delegation_leaves_exactly_the_documented_rows_and_events,
    a_failed_delegation_leaves_exactly_the_documented_rows_and_events,
    the_published_poller_reads_the_exact_text_at_every_size_and_cut,
    the_flag_adds_the_reply_rows_and_nothing_else,
);

/// What a row says, without what is the database's to choose.
fn said(row: &Value) -> Value {
    let mut row = row.clone();
    let members = row.as_object_mut().unwrap();
    for own in ["id", "seq", "created_at"] {
        assert!(members.remove(own).is_some(), "no {own}");
    }
    row
}

/// The recorded events of one delegation, oldest first.
async fn events(api: &Api, caller: &Workspace, id: &str) -> Vec<(String, Value)> {
    let reply = api.events(caller).await.expect(200);
    let events = reply.rows().iter().rev();
    events
        .filter(|event| event["payload"]["delegation_id"] == id)
        .map(|event| {
            let name = event["event_type"].as_str().unwrap().to_owned();
            (name, event["payload"].clone())
        })
        .collect()
}

async fn a_completed_delegation_leaves_exactly_the_documented_rows_and_events(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Answer("forty-two".to_owned())).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let reply = api.delegate(&caller, &target, "what is it?").await;
    let id = reply.str("delegation_id").to_owned();
    assert_eq!(
        reply.expect(202).body,
        json!({"delegation_id": id, "status": "delegated", "target_id": target.id})
    );
    api.wait_until_ended(&caller, &id).await;

    let row = |method: &str, summary: String, status: &str| {
        json!({
            "workspace_id": caller.id, "activity_type": "delegation", "source_id": caller.id,
            "target_id": target.id, "method": method, "summary": summary, "duration_ms": null,
            "status": status, "error_detail": null,
        })
    };
    let mut request = row(
        "delegate",
        format!("Delegating to {}", target.id),
        "completed",
    );
    request["request_body"] = json!({"task": "what is it?", "delegation_id": id});
    let summary = "Delegation completed (forty-two)".to_owned();
    let mut result = row("delegate_result", summary, "completed");
    result["response_body"] = json!({"text": "forty-two", "delegation_id": id});
    let rows = api.feed(&caller, "delegation").await;
    let rows: Vec<Value> = rows.iter().map(said).collect();
    assert_eq!(rows, [request, result]);

    let summary = "Delegation result delivered".to_owned();
    let mut reply = row("delegate_result", summary, "ok");
    reply["activity_type"] = "a2a_receive".into();
    reply["request_body"] =
        json!({"delegation_id": id, "parts": [{"kind": "text", "text": "forty-two"}]});
    reply["response_body"] = json!({"text": "forty-two", "delegation_id": id});
    let inbox = api.inbox(&caller, 10, 0).await.expect(200);
    assert_eq!(inbox.body["last_acked_seq"], 0);
    let inbox = inbox.body["messages"].as_array().unwrap();
    assert_eq!(inbox.iter().map(said).collect::<Vec<_>>(), [reply]);

    let about = |more: Value| {
        let mut payload = json!({"delegation_id": id, "target_id": target.id});
        let members = payload.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        payload
    };
    let expected = [
        ("DELEGATION_SENT", json!({"task_preview": "what is it?"})),
        ("DELEGATION_STATUS", json!({"status": "dispatched"})),
        (
            "DELEGATION_COMPLETE",
            json!({"response_preview": "forty-two"}),
        ),
    ];
    let expected = expected.map(|(name, more)| (name.to_owned(), about(more)));
    assert_eq!(events(api, &caller, &id).await, expected);

    let sent = &agent.messages()[0];
    assert_eq!(agent.seen(&id), 1);
    let message = &sent.body["params"]["message"];
    assert_eq!(message["role"], "user");
    assert_eq!(message["metadata"]["delegation_id"], id);
    assert_eq!(
        message["parts"],
        json!([{"kind": "text", "text": "what is it?"}])
    );
    server.assert_invariants().await;
}

async fn a_failed_delegation_leaves_exactly_the_documented_rows_and_events(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Error(-32000, "out of ideas".to_owned())).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "think").await;
    let whole = api.wait_until_ended(&caller, &id).await;
    let detail = "JSON-RPC error -32000: out of ideas";
    assert_eq!(whole["error"], detail);
    assert_eq!(whole["error_class"], "refused");

    let rows = api.feed(&caller, "delegation").await;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let (request, result) = (&rows[0], &rows[1]);
    assert_eq!(
        (
            &request["method"],
            &request["status"],
            &request["error_detail"]
        ),
        (&json!("delegate"), &json!("failed"), &json!(detail))
    );
    assert_eq!(
        said(result),
        json!({
            "workspace_id": caller.id, "activity_type": "delegation", "source_id": caller.id,
            "target_id": target.id, "method": "delegate_result", "summary": "Delegation failed",
            "duration_ms": null, "status": "failed", "error_detail": detail,
            "response_body": {"error": detail, "error_class": "refused", "delegation_id": id},
        })
    );
    let replies = api.feed(&caller, "a2a_receive").await;
    assert_eq!(replies.len(), 1);
    assert_eq!(
        said(&replies[0]),
        json!({
            "workspace_id": caller.id, "activity_type": "a2a_receive", "source_id": caller.id,
            "target_id": target.id, "method": "delegate_result", "summary": "Delegation failed",
            "duration_ms": null, "status": "error", "error_detail": detail,
            "request_body": {"delegation_id": id, "parts": [{"kind": "text", "text": detail}]},
            "response_body": {"text": detail, "error_class": "refused", "delegation_id": id},
        })
    );
    let events = events(api, &caller, &id).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["DELEGATION_SENT", "DELEGATION_STATUS", "DELEGATION_FAILED"]
    );
    assert_eq!(
        events[2].1,
        json!({"delegation_id": id, "target_id": target.id, "error": detail, "error_class": "refused"})
    );
    server.assert_invariants().await;
}

/// Text of exactly so many bytes, of one-byte or mostly of four-byte characters.
fn text_of(bytes: usize, wide: bool) -> String {
    if wide {
        "a".repeat(bytes % 4) + &"🦀".repeat(bytes / 4)
    } else {
        "x".repeat(bytes)
    }
}

/// Replies around every cut of a text, whose tasks are around it too, and the sizes of lesson L02.
fn lengths() -> Vec<usize> {
    let cuts = [80, 100, 200, 300, 4096];
    let around = cuts.into_iter().flat_map(|cut| cut - 4..=cut + 10);
    [10_000, 1_000_000].into_iter().chain(around).collect()
}

/// Asserts that `preview` is `text`, or its longest prefix of whole characters within `cut` bytes and an ellipsis.
#[track_caller]
fn assert_cut(preview: &Value, text: &str, cut: usize) {
    let preview = preview.as_str().expect("a preview");
    if text.len() <= cut {
        assert_eq!(preview, text);
        return;
    }
    let kept = preview.strip_suffix("...").expect("an ellipsis");
    assert!(text.starts_with(kept), "{preview:?}");
    assert!(kept.len() <= cut && kept.len() + 4 > cut, "{}", kept.len());
}

async fn the_published_poller_reads_the_exact_text_at_every_size_and_cut(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Answer("x".to_owned())).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    // Without a cursor the poller asks for the newest 100 rows only; its first round gives it one.
    let mut poller = Poller::default();
    let first = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &first).await;
    assert_eq!(poller.drain(api, &caller).await[0].text, "x", "1 B");

    agent.behave(Behaviour::Echo);
    let texts = lengths().into_iter().flat_map(|length| {
        let text = move |wide| format!("echo: {}", text_of(length - "echo: ".len(), wide));
        [text(false), text(true)]
    });
    let caller_and_target = (&caller, &target);
    let expected: Vec<(String, String)> = stream::iter(texts)
        .map(async |text| {
            let (caller, target) = caller_and_target;
            let id = api.delegated(caller, target, &text["echo: ".len()..]).await;
            (id, text)
        })
        .buffer_unordered(16)
        .collect()
        .await;
    api.wait_until_all_ended(&caller).await;
    let messages = poller.drain(api, &caller).await;
    assert_eq!(messages.len(), expected.len());
    let replies = api.feed(&caller, "a2a_receive").await;
    for (id, text) in &expected {
        let of_it = |row: &&Value| row["request_body"]["delegation_id"] == **id;
        let reply = replies.iter().find(of_it).expect("a reply");
        assert!(reply["response_body"]["text"] == **text);
        let message = messages.iter().find(|message| message.id == reply["id"]);
        let message = message.expect("a message");
        assert!(message.text == *text, "{} bytes", text.len());
        let from = (&message.peer_id, message.kind);
        assert_eq!(from, (&caller.id, Kind::PeerAgent));
    }
    assert_previews_of_rows(api, &caller, &expected).await;
    assert_previews_of_events(&database, &expected);
    server.assert_invariants().await;
}

/// The lists and the summary show heads of whole characters of the task and of its echo.
async fn assert_previews_of_rows(api: &Api, caller: &Workspace, expected: &[(String, String)]) {
    let list = api.delegations(caller).await.expect(200);
    let admin = api.admin_delegations("completed").await.expect(200);
    let admin = admin.body["delegations"].as_array().unwrap();
    let results = api.feed(caller, "delegation").await;
    for (id, text) in expected {
        let of_it = |row: &&Value| row["delegation_id"] == **id;
        let line = list.rows().iter().find(of_it).expect("a line");
        assert_cut(&line["response_preview"], text, 300);
        assert_cut(&line["task_preview"], &text["echo: ".len()..], 200);
        let line = admin.iter().find(of_it).expect("a line");
        assert_eq!(
            line["result_preview"],
            text[..text.floor_char_boundary(4096)]
        );
        let result = results.iter().find(|row| {
            row["method"] == "delegate_result" && row["response_body"]["delegation_id"] == **id
        });
        let summary = result.expect("a result row")["summary"].as_str().unwrap();
        let summary = summary.strip_prefix("Delegation completed (").unwrap();
        assert_cut(&summary.strip_suffix(')').unwrap().into(), text, 80);
    }
}

fn assert_previews_of_events(database: &Database, expected: &[(String, String)]) {
    let payloads = database.texts("SELECT payload AS x FROM structure_events");
    for payload in payloads.into_iter().flatten() {
        let payload: Value = serde_json::from_str(&payload).unwrap();
        let of_it = |(id, _): &&(String, String)| payload["delegation_id"] == **id;
        let Some((_, text)) = expected.iter().find(of_it) else {
            continue;
        };
        let task = &text["echo: ".len()..];
        for (member, text, cut) in [("task_preview", task, 100), ("response_preview", text, 200)] {
            if payload.get(member).is_some() {
                assert_cut(&payload[member], text, cut);
            }
        }
    }
}

async fn the_flag_adds_the_reply_rows_and_nothing_else(database: Database) {
    let mut server = Server::start(&database, &[]).await;
    let (on, replies) = everything_said(&server).await;
    assert_eq!(replies, 5, "one reply for each ending");
    for value in ["", "0", "true", "01", " 1"] {
        server.restart_with(&[(INBOX_PUSH, value)]).await;
        assert_same_but_for_replies(&on, &everything_said(&server).await, value);
        server.assert_invariants().await;
    }
    server.kill9();
    let server = Server::start_without(&database, &[INBOX_PUSH], &[]).await;
    assert_same_but_for_replies(&on, &everything_said(&server).await, "unset");
    server.assert_invariants().await;
}

#[track_caller]
fn assert_same_but_for_replies(on: &[String], off: &(Vec<String>, usize), value: &str) {
    for (on, off) in on.iter().zip(&off.0) {
        assert_eq!(on, off, "{value:?}");
    }
    assert_eq!((on.len(), 0), (off.0.len(), off.1), "{value:?}");
}

/// One script of every way to end: everything that anyone is told, ids and times masked, and how many replies there are.
async fn everything_said(server: &Server) -> (Vec<String>, usize) {
    let agent = FakeAgent::start(Behaviour::Answer("done".to_owned())).await;
    agent.first([Behaviour::Error(-1, "no".to_owned())]);
    let api = server.api();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let away = api.create_workspace("away", Some(&caller), None).await;
    let mut said = Vec::new();
    let mut say = |value: &Value| said.push(masked(value).to_string());
    let mut ids = Vec::new();
    for (target, status) in [
        (&target, "failed"),
        (&target, "completed"),
        (&away, "queued"),
    ] {
        let reply = api.delegate(&caller, target, "task").await.expect(202);
        let id = reply.str("delegation_id").to_owned();
        api.wait_until_status(&caller, &id, &[status]).await;
        say(&reply.body);
        ids.push(id);
    }
    let recorded = api.record(&caller, &target, "recorded", "task").await;
    say(&recorded.expect(202).body);
    ids.extend(["recorded".to_owned(), "adopted".to_owned()]);
    for id in &ids[2..] {
        for (status, text) in [(200, "by hand"), (200, "again")] {
            let report = api.report_completed(&caller, id, text).await;
            say(&report.expect(status).body);
        }
        say(&api
            .report_failed(&caller, id, "late")
            .await
            .expect(409)
            .body);
    }
    for id in &ids {
        say(&api.wait_until_ended(&caller, id).await);
    }
    for event in agent.messages() {
        say(&event.body["params"]);
    }
    for list in [
        api.delegations(&caller).await,
        api.activity(&caller, "type=delegation").await,
        api.activity(&target, "").await,
        api.events(&caller).await,
        api.events(&target).await,
    ] {
        list.expect(200).rows().iter().for_each(&mut say);
    }
    (said, api.feed(&caller, "a2a_receive").await.len())
}

/// JSON with every id, position and time replaced.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                let time = name.ends_with("_at")
                    || ["at", "deadline", "last_heartbeat", "seq"].contains(&name.as_str());
                let value = if time {
                    "<masked>".into()
                } else {
                    masked(value)
                };
                (name.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::String(text) => Value::String(without_ids(text)),
        other => other.clone(),
    }
}

fn without_ids(text: &str) -> String {
    let id = (0..text.len()).find_map(|start| {
        let id = text.get(start..start + 36)?;
        Uuid::try_parse(id).ok().map(|_| id)
    });
    id.map_or_else(|| text.to_owned(), |id| text.replace(id, "<id>"))
}
