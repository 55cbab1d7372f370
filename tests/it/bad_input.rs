//! Whatever a client sends has one documented outcome: never a 5xx, never a row of what was refused (rule 9; A01, E01).

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::Database;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    unreadable_bodies_are_refused_with_a_reason_on_every_route,
    a_target_must_be_a_uuid_of_another_workspace_of_ones_own,
    bodies_beyond_the_limit_are_413_with_the_limit,
    text_that_no_database_can_hold_is_repaired_and_kept,
    another_workspaces_token_opens_nothing,
    who_may_not_delegate_cannot_on_any_route,
);

/// Everything that a refused request must not leave behind.
fn rows(database: &Database) -> i64 {
    let tables = ["delegations", "activity_logs", "inbox_delivery_state"];
    let counts = tables.map(|table| database.count(&format!("SELECT count(*) FROM {table}")));
    counts.iter().sum()
}

/// A 4xx that says why.
#[track_caller]
fn assert_refused(reply: &crate::support::client::Reply, statuses: &[u16], what: &str) {
    assert!(statuses.contains(&reply.status), "{what}: {}", reply.text);
    assert!(reply.body["error"].is_string(), "{what}: {}", reply.text);
}

fn unreadable() -> Vec<Vec<u8>> {
    let deep = |open: &str| open.repeat(100_000).into_bytes();
    let mut bodies: Vec<Vec<u8>> = [
        "", "  ", "{", "null", "[]", "1", "\"text\"", "{}", "\0", "{\"a\":1e999}", "{'a':1}",
        r#"{"target_id":null,"task":null,"status":null,"delegation_id":null,"message":null}"#,
        r#"{"target_id":"","task":"","status":"","delegation_id":"","message":"","activity_type":""}"#,
        r#"{"target_id":1,"task":[],"status":{},"delegation_id":true,"message":0,"acked_seq":"1"}"#,
        r#"{"target_id":{},"task":1.5,"status":["completed"],"activity_type":7,"acked_seq":-1}"#,
        r#"{"task":"x","target_id":"no-uuid","delegation_id":"d","status":"done","acked_seq":1.5}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    bodies.extend([b"\xff\xfe".to_vec(), b"{\"task\":\"\xff".to_vec()]);
    bodies.extend([deep("["), deep("{\"a\":"), deep("{\"task\":[")]);
    bodies
}

async fn unreadable_bodies_are_refused_with_a_reason_on_every_route(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let own = api.create_workspace("own", None, None).await;
    let under = |rest: &str| format!("/workspaces/{}/{rest}", own.id);
    let routes = [
        under("delegate"),
        under("delegations/record"),
        under("delegations/d/update"),
        under("delegations/d/input"),
        under("activity"),
        under("activity/ack"),
        under("notify"),
        "/registry/register".to_owned(),
        "/registry/heartbeat".to_owned(),
        "/registry/update-card".to_owned(),
        "/registry/check-access".to_owned(),
    ];
    for path in &routes {
        for body in unreadable() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(90)]).into_owned();
            let by = As::Workspace(&own);
            let reply = api.try_request(Method::POST, by, path, Some(body)).await;
            let reply = reply.expect("an answer");
            assert_refused(&reply, &[400], &format!("{path} {shown}"));
        }
    }
    for body in unreadable() {
        let by = As::Admin;
        let reply = api
            .try_request(Method::POST, by, "/workspaces", Some(body))
            .await;
        assert_refused(&reply.expect("an answer"), &[400], "/workspaces");
    }
    assert_eq!(rows(&database), 0);
    assert_eq!(database.count("SELECT count(*) FROM workspaces"), 1);
    server.assert_invariants().await;
}

async fn a_target_must_be_a_uuid_of_another_workspace_of_ones_own(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let foreign = server.family(&agent.url()).await.target;
    let ask = async |route: &str, target_id: &str| {
        let body = json!({"target_id": target_id, "task": "go", "delegation_id": "d"});
        let path = format!("/workspaces/{}/{route}", caller.id);
        api.post(As::Workspace(&caller), &path, &body).await
    };
    for route in ["delegate", "delegations/record"] {
        for text in [
            "x",
            "../admin",
            &target.id[1..],
            &format!("{}0", target.id),
            "\0",
            "🦀",
        ] {
            let reply = ask(route, text).await.expect(400);
            assert_eq!(reply.body["error"], "target_id must be a valid UUID");
        }
        let simple = caller.id.replace('-', "");
        for own in [
            caller.id.clone(),
            caller.id.to_uppercase(),
            format!("{{{}}}", caller.id),
            format!("urn:uuid:{}", caller.id),
            format!("URN:UUID:{}", caller.id.to_uppercase()),
            simple,
        ] {
            let reply = ask(route, &own).await.expect(400);
            assert_eq!(
                reply.body["error"], "self-delegation not permitted",
                "{own}"
            );
            assert!(reply.body["reason"].is_string() && reply.body["hint"].is_string());
        }
        let unknown = ask(route, &Uuid::new_v4().to_string()).await.expect(404);
        let foreign = ask(route, &foreign.id).await.expect(404);
        assert_eq!(unknown.body, foreign.body, "foreign and unknown look alike");
    }
    assert_eq!((rows(&database), agent.connections()), (0, 0));
    // The target in any spelling is the target; the answer repeats the caller's.
    for spelled in [target.id.to_uppercase(), format!("{{{}}}", target.id)] {
        let reply = ask("delegate", &spelled).await.expect(202);
        assert_eq!(reply.str("target_id"), spelled);
    }
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.messages().len(), 2);
    server.assert_invariants().await;
}

async fn bodies_beyond_the_limit_are_413_with_the_limit(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Answer("ok".to_owned())).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let order = |task: &str| json!({"target_id": target.id, "task": task}).to_string();
    let huge = order(&"x".repeat(17 << 20)).into_bytes();
    for route in ["delegate", "delegations/d/update", "activity"] {
        let path = format!("/workspaces/{}/{route}", caller.id);
        let by = As::Workspace(&caller);
        let reply = api
            .try_request(Method::POST, by, &path, Some(huge.clone()))
            .await;
        let reply = reply.expect("an answer").expect(413);
        assert_eq!(reply.body["max_bytes"], 16 << 20);
    }
    // A chunked body does not say how long it is.
    let path = format!("/workspaces/{}/delegate", caller.id);
    let mut client = Raw::connect(api).await;
    client.send(&raw::chunked_post(&caller, &path, &huge)).await;
    let response = client.read_until("max_bytes").await;
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");
    assert_eq!((rows(&database), agent.connections()), (0, 0));

    let most = (16 << 20) - order("").len();
    let longer = api.delegate(&caller, &target, &"x".repeat(most + 1)).await;
    longer.expect(413);
    let id = api.delegated(&caller, &target, &"x".repeat(most)).await;
    api.wait_until_ended(&caller, &id).await;
    assert_eq!(agent.messages()[0].text().len(), most);
    server.assert_invariants().await;
}

async fn text_that_no_database_can_hold_is_repaired_and_kept(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let path = format!("/workspaces/{}/delegate", caller.id);
    for (task, kept) in [
        (&b"a\\u0000b"[..], "a\u{fffd}b"),
        (b"a\\ud800b", "a\u{fffd}b"),
        (b"a\\udc00\\ud83e\\udd80", "a\u{fffd}🦀"),
        (b"a\xffb", "a\u{fffd}b"),
        (b"\xef\xbb\xbfb", "\u{feff}b"),
    ] {
        let head = format!("{{\"target_id\":\"{}\",\"task\":\"", target.id);
        let body = [head.as_bytes(), task, b"\"} trailing"].concat();
        let by = As::Workspace(&caller);
        let reply = api.try_request(Method::POST, by, &path, Some(body)).await;
        let reply = reply.expect("an answer").expect(202);
        let id = reply.str("delegation_id");
        let whole = api.wait_until_ended(&caller, id).await;
        assert_eq!(whole["result"], format!("echo: {kept}"));
        let own = format!("own\0{kept}🦀");
        let report = api.report_completed(&caller, &own, "r\0").await;
        report.expect(200);
        let whole = api
            .delegation(&caller, &own.replace('\0', "\u{fffd}"))
            .await;
        assert_eq!(whole.expect(200).body["result"], "r\u{fffd}");
    }
    for id in ["%00", "%ff", "..%2f..%2fadmin", "%F0%9F%A6%80", "a%20b"] {
        let path = format!("/workspaces/{}/delegations/{id}", caller.id);
        api.get(As::Workspace(&caller), &path).await.expect(404);
        let path = format!("/workspaces/{id}/delegations");
        api.get(As::Workspace(&caller), &path).await.expect(401);
        api.get(As::Admin, &path).await.expect(404);
    }
    server.assert_invariants().await;
}

/// Every route below a workspace that does something for it.
fn routes(own: &Workspace, other: &Workspace) -> Vec<(Method, String, Option<Value>)> {
    let order = json!({"target_id": other.id, "task": "go", "delegation_id": "d"});
    let log = json!({"activity_type": "agent_log"});
    let routes = [
        (Method::POST, "delegate", Some(order.clone())),
        (Method::POST, "delegations/record", Some(order)),
        (Method::GET, "delegations", None),
        (Method::GET, "delegations/d", None),
        (
            Method::POST,
            "delegations/d/update",
            Some(json!({"status": "completed"})),
        ),
        (Method::POST, "delegations/d/heartbeat", Some(json!({}))),
        (Method::POST, "delegations/d/cancel", Some(json!({}))),
        (
            Method::POST,
            "delegations/d/input",
            Some(json!({"text": "t"})),
        ),
        (Method::POST, "delegations/d/retry", Some(json!({}))),
        (Method::GET, "activity", None),
        (Method::POST, "activity", Some(log)),
        (Method::POST, "activity/ack", Some(json!({"acked_seq": 1}))),
        (Method::GET, "inbox", None),
        (Method::POST, "notify", Some(json!({"message": "m"}))),
        (Method::GET, "events/stream", None),
        (Method::GET, "tokens", None),
        (Method::POST, "tokens", Some(json!({}))),
        (Method::DELETE, "tokens/t", None),
    ];
    let under = |rest: &str| format!("/workspaces/{}/{rest}", own.id);
    routes
        .into_iter()
        .map(|(method, rest, body)| (method, under(rest), body))
        .chain([
            (
                Method::PATCH,
                format!("/workspaces/{}", own.id),
                Some(json!({"name": "mine"})),
            ),
            (
                Method::DELETE,
                format!("/workspaces/{}?confirm=true", own.id),
                None,
            ),
        ])
        .collect()
}

async fn another_workspaces_token_opens_nothing(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    let stranger = server.family(&agent.url()).await.caller;
    let tokens = database.count("SELECT count(*) FROM workspace_auth_tokens");
    for thief in [&target, &root, &stranger] {
        // The header names the victim: only the bearer counts.
        let forged = Workspace {
            id: caller.id.clone(),
            token: thief.token.clone(),
        };
        for (method, path, body) in routes(&caller, &target) {
            for by in [As::Workspace(&forged), As::Bearer(&thief.token), As::Nobody] {
                let reply = api.request(method.clone(), by, &path, body.as_ref()).await;
                assert_refused(&reply, &[401, 403, 404], &format!("{method} {path}"));
            }
        }
    }
    let path = format!("/workspaces/{}/delegate", caller.id);
    let body = json!({"target_id": target.id, "task": "go"}).to_string();
    let request = raw::post(&stranger, &path, body.as_bytes());
    let forged = String::from_utf8(request).unwrap().replace(
        "Host: baton",
        &format!(
            "Host: baton\r\nX-Workspace-ID: {}\r\nOrigin: {base}\r\nReferer: {base}/",
            caller.id,
            base = api.base()
        ),
    );
    let mut client = Raw::connect(api).await;
    client.send(forged.as_bytes()).await;
    let response = client.read_until("\r\n\r\n").await;
    let refused = ["HTTP/1.1 401", "HTTP/1.1 403"];
    assert!(
        refused.iter().any(|line| response.starts_with(line)),
        "{response}"
    );
    let tokens_now = database.count("SELECT count(*) FROM workspace_auth_tokens");
    assert_eq!((rows(&database), tokens_now), (0, tokens));
    assert_eq!(agent.connections(), 0);
    assert_still_there(api, &caller).await;
    server.assert_invariants().await;
}

async fn assert_still_there(api: &Api, workspace: &Workspace) {
    let path = format!("/workspaces/{}", workspace.id);
    let reply = api.get(As::Workspace(workspace), &path).await.expect(200);
    assert_eq!(reply.str("name"), "caller");
}

async fn who_may_not_delegate_cannot_on_any_route(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { root, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let body = json!({
        "name": "mute", "external": true, "parent_id": root.id, "can_delegate": false,
    });
    let mute = api.create_workspace_with(&body).await;
    for _ in 0..2 {
        api.delegate(&mute, &target, "go").await.expect(403);
        api.record(&mute, &target, "own", "go").await.expect(403);
        // It cannot allow itself to.
        let path = format!("/workspaces/{}", mute.id);
        let wish = json!({"can_delegate": true});
        api.request(Method::PATCH, As::Workspace(&mute), &path, Some(&wish))
            .await;
    }
    assert_eq!((rows(&database), agent.connections()), (0, 0));
    server.assert_invariants().await;
}
