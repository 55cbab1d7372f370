//! Readers of the feed, the inbox and the events miss nothing and see nothing twice (lessons A05, O04, X01, X03).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace, position};
use crate::support::database::Database;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    every_row_is_paged_through_once_and_in_order,
    a_cursor_that_is_not_ones_own_is_gone,
    a_waiting_inbox_wakes_up_with_the_ending,
    an_acknowledgement_only_grows_and_never_runs_ahead,
    an_event_stream_resumes_without_gap_or_repetition,
    a_socket_gets_events_in_order_and_needs_a_credential,
);

/// Writes rows of alternating types, some at once.
async fn log(api: &Api, workspace: &Workspace, rows: usize) {
    let path = format!("/workspaces/{}/activity", workspace.id);
    let post = async |number: usize| {
        let kind = ["agent_log", "a2a_send"][number % 2];
        let body = json!({"activity_type": kind, "summary": number.to_string()});
        let by = As::Workspace(workspace);
        api.post(by, &path, &body).await.expect(200);
    };
    join_all((0..rows).map(post)).await;
}

async fn every_row_is_paged_through_once_and_in_order(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let [own, other] = ["own", "other"].map(|name| api.create_workspace(name, None, None));
    let (own, other) = (own.await, other.await);
    futures_util::join!(log(api, &own, 60), log(api, &other, 20));
    let all = api
        .activity(&own, "after_seq=0&limit=500")
        .await
        .expect(200);
    let all = all.rows();
    assert_eq!(all.len(), 60);
    assert!(all.is_sorted_by(|one, next| position(one) < position(next)));
    let page = async |query: &str| {
        let reply = api.activity(&own, &format!("{query}&limit=7")).await;
        reply.expect(200).rows().to_vec()
    };
    let mut forward = vec![all[0].clone()];
    let mut by_place = forward.clone();
    loop {
        let last = forward.last().unwrap()["id"].as_str().unwrap();
        let place = position(by_place.last().unwrap());
        let next = page(&format!("since_id={last}")).await;
        assert_eq!(next, page(&format!("after_seq={place}")).await);
        if next.is_empty() {
            break;
        }
        forward.extend(next.clone());
        by_place.extend(next);
    }
    assert_eq!(forward, all);
    let mut backward = page("").await;
    loop {
        let place = position(backward.last().unwrap());
        let next = page(&format!("before_seq={place}")).await;
        if next.is_empty() {
            break;
        }
        backward.extend(next);
    }
    backward.reverse();
    assert_eq!(backward, all);
    let of_type = page("type=agent_log&after_seq=0").await;
    let half = all.iter().filter(|row| row["activity_type"] == "agent_log");
    assert_eq!(of_type, half.take(7).cloned().collect::<Vec<Value>>());
    server.assert_invariants().await;
}

async fn a_cursor_that_is_not_ones_own_is_gone(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let own = api.create_workspace("own", None, None).await;
    let other = api.create_workspace("other", None, None).await;
    futures_util::join!(log(api, &own, 1), log(api, &other, 1));
    let foreign = api.activity(&other, "").await.rows()[0].clone();
    let mut bodies = HashSet::new();
    for cursor in [
        foreign["id"].as_str().unwrap(),
        &Uuid::new_v4().to_string(),
        "x",
        "..%2fadmin",
        "%00",
        "%ff",
        "1",
    ] {
        let reply = api.activity(&own, &format!("since_id={cursor}")).await;
        bodies.insert(reply.expect(410).text);
    }
    assert_eq!(bodies.len(), 1, "they look alike: {bodies:?}");
    for senseless in [
        "after_seq=x",
        "after_seq=-1",
        "before_seq=1.5",
        "since_secs=0",
        "source=me",
    ] {
        api.activity(&own, senseless).await.expect(400);
    }
    for place in [json!(-1), json!("1"), json!(null), json!(1.5), json!(1e300)] {
        let path = format!("/workspaces/{}/activity/ack", own.id);
        let body = json!({"acked_seq": place});
        api.post(As::Workspace(&own), &path, &body)
            .await
            .expect(400);
    }
    server.assert_invariants().await;
}

async fn a_waiting_inbox_wakes_up_with_the_ending(database: Database) {
    let server = Server::start(&database, &[]).await;
    let work = Behaviour::after(Duration::from_millis(200), Behaviour::Echo);
    let agent = FakeAgent::start(work).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    // Other tests share the machine: the promise is held to the best of some rounds.
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let id = api.delegated(&caller, &target, "go").await;
        let wait = api.inbox(&caller, 10, 30);
        let (inbox, ended) = futures_util::join!(wait, async {
            api.wait_until_ended(&caller, &id).await;
            Instant::now()
        });
        best = best.min(ended.elapsed());
        let message = &inbox.expect(200).body["messages"][0];
        assert_eq!(message["request_body"]["delegation_id"], id);
        api.ack(&caller, position(message)).await.expect(200);
        if best < Duration::from_millis(100) {
            break;
        }
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
    let nothing = api.inbox(&caller, 10, 1).await.expect(200);
    assert_eq!(nothing.body["messages"], json!([]), "all acknowledged");
    server.assert_invariants().await;
}

async fn an_acknowledgement_only_grows_and_never_runs_ahead(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let delegate = async || {
        let id = api.delegated(&caller, &target, "go").await;
        api.wait_until_ended(&caller, &id).await;
    };
    let inbox = async || {
        let reply = api.inbox(&caller, 10, 0).await.expect(200);
        reply.body["messages"].as_array().unwrap().clone()
    };
    let ack = async |place: i64| {
        let reply = api.ack(&caller, place).await.expect(200);
        reply.body["last_acked_seq"].as_i64().unwrap()
    };
    for _ in 0..3 {
        delegate().await;
    }
    let messages = inbox().await;
    assert_eq!(messages.len(), 3);
    let first = position(&messages[0]);
    assert_eq!(ack(first).await, first);
    assert_eq!(inbox().await, messages[1..]);
    assert_eq!(ack(0).await, first, "it never shrinks");
    let newest = database.count("SELECT max(seq) FROM activity_logs");
    let acknowledged = ack(i64::MAX).await;
    assert!((position(&messages[2])..=newest).contains(&acknowledged));
    assert!(inbox().await.is_empty());
    delegate().await;
    assert_eq!(
        inbox().await.len(),
        1,
        "what comes later is not acknowledged"
    );
    server.restart().await;
    assert_eq!(inbox().await.len(), 1);
    server.assert_invariants().await;
}

/// The ids of the whole events in a stream's text.
fn event_ids(text: &str) -> Vec<i64> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    // The first block says where the stream begins, and is no event.
    let blocks = whole.split("\n\n").filter(|block| block.contains("data: "));
    let ids = blocks.filter_map(|block| block.lines().find_map(|line| line.strip_prefix("id: ")));
    ids.map(|id| id.trim().parse().expect("a number")).collect()
}

async fn an_event_stream_resumes_without_gap_or_repetition(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let path = format!("/workspaces/{}/events/stream", caller.id);
    let begin = (0..100).map(|_| api.delegated(&caller, &target, "go"));
    let events = async {
        // Each delegation has three events, and the workspace's creation one or more.
        let (mut seen, mut last) = (Vec::new(), 0);
        while seen.len() < 300 {
            let mut stream = Raw::connect(api).await;
            let header = format!("Last-Event-ID: {last}");
            stream.send(&raw::get_with(&caller, &path, &header)).await;
            let wanted = (seen.len() + 37).min(300) - seen.len();
            let text = stream
                .read_while(|text| event_ids(text).len() < wanted)
                .await;
            seen.extend(event_ids(&text));
            last = *seen.last().unwrap();
        }
        seen
    };
    let (_, mut seen) = futures_util::join!(join_all(begin), events);
    api.wait_until_all_ended(&caller).await;
    let sql = format!(
        "SELECT * FROM (SELECT seq AS x FROM structure_events WHERE workspace_id = '{}' ORDER BY seq) AS y",
        caller.id
    );
    let recorded: Vec<i64> = database
        .texts(&sql)
        .into_iter()
        .map(|seq| seq.unwrap().parse().unwrap())
        .collect();
    assert!(recorded.len() >= 300);
    seen.truncate(300);
    assert_eq!(seen, recorded[..300]);
    for senseless in ["x", "-1", ""] {
        let mut stream = Raw::connect(api).await;
        let header = format!("Last-Event-ID: {senseless}");
        stream.send(&raw::get_with(&caller, &path, &header)).await;
        let response = stream.read_until("\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 400"), "{response}");
    }
    server.assert_invariants().await;
}

/// The frames about delegations that a socket shows until one is `last`.
async fn frames(api: &Api, workspace: &Workspace, query: &str, last: &str) -> Vec<Value> {
    let url = format!("{}/ws{query}", api.base().replace("http://", "ws://"));
    let mut request = url.into_client_request().expect("a request");
    let bearer = format!("Bearer {}", workspace.token);
    let headers = request.headers_mut();
    headers.insert("Authorization", bearer.parse().expect("a header"));
    let (mut socket, _) = connect_async(request).await.expect("a socket");
    let mut frames = Vec::new();
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message.expect("a frame") else {
            continue;
        };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        let over = frame["event"] == last;
        if frame["payload"]["delegation_id"].is_string() {
            frames.push(frame);
        }
        if over {
            socket.send(Message::Close(None)).await.expect("a farewell");
            return frames;
        }
    }
    panic!("the socket ended after {frames:#?}");
}

async fn a_socket_gets_events_in_order_and_needs_a_credential(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let ours = frames(api, &caller, "?after_seq=0", "DELEGATION_COMPLETE");
    let (frames_live, id) =
        futures_util::join!(ours, async { api.delegated(&caller, &target, "go").await });
    let names: Vec<&str> = frames_live
        .iter()
        .filter_map(|frame| frame["event"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "DELEGATION_SENT",
            "DELEGATION_STATUS",
            "DELEGATION_COMPLETE"
        ]
    );
    for frame in &frames_live {
        assert_eq!(frame["workspace_id"], *caller.id);
        assert_eq!(frame["payload"]["delegation_id"], id);
    }
    assert!(frames_live.is_sorted_by(|one, next| position(one) < position(next)));
    let again = frames(api, &caller, "?after_seq=0", "DELEGATION_COMPLETE").await;
    assert_eq!(again, frames_live, "read again from the store");

    // Another organisation sees its own events and no others.
    let stranger = server.family(&agent.url()).await;
    let theirs = api
        .delegated(&stranger.caller, &stranger.target, "go")
        .await;
    let shown = frames(api, &stranger.caller, "?after_seq=0", "DELEGATION_COMPLETE").await;
    assert!(!shown.is_empty());
    for frame in &shown {
        assert_eq!(frame["payload"]["delegation_id"], theirs);
    }
    for token in [None, Some("nobody-has-this")] {
        let url = format!("{}/ws", api.base().replace("http://", "ws://"));
        let mut request = url.into_client_request().expect("a request");
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("Authorization", bearer);
        }
        match connect_async(request).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 401),
            other => panic!("{other:?}"),
        }
    }
    server.assert_invariants().await;
}
