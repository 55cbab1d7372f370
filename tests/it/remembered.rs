//! What is remembered between requests: it spares the database, and is never out of date for longer than word travels.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace, position};
use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::server::{Family, Server};
use crate::support::{eventually, eventually_within};

crate::on_both_databases!(
    polls_with_nothing_new_read_nothing,
    those_who_are_known_are_served_without_a_read,
    a_change_is_known_before_it_is_acknowledged,
    who_moves_or_goes_is_not_found_where_it_was,
    it_is_noted_when_a_token_was_used,
);

crate::on_postgres!(
    what_one_node_changes_the_other_knows,
    what_one_node_writes_the_other_does_not_miss,
    a_node_that_cannot_hear_asks_the_database,
);

/// How long word to another node may take, on a machine that is busy: it is on its way for some 10 ms.
const WORD: Duration = Duration::from_secs(2);
/// Longer than any of these tests: who is cut off shall not be taken over.
const LONG_LEASE: (&str, &str) = ("BATON_LEASE_MS", "600000");

/// What was asked of the database so far on behalf of requests.
async fn reads(api: &Api) -> u64 {
    let metrics = api.get(As::Admin, "/metrics").await.expect(200);
    let reads = metrics.text.lines().filter(|line| {
        line.starts_with("baton_store_reads_total{") && !line.contains("query=\"nodes\"")
    });
    reads
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Repeats a round of requests until one goes by without a read: the first ones have to.
async fn comes_to_need_no_read(api: &Api, what: &str, round: impl AsyncFn()) {
    eventually(what, async || {
        let before = reads(api).await;
        round().await;
        (reads(api).await == before).then_some(())
    })
    .await;
}

/// A message that somebody puts into a workspace's feed.
async fn message(api: &Api, workspace: &Workspace) {
    let body = json!({"activity_type": "a2a_receive", "method": "note", "summary": "hello"});
    let path = format!("/workspaces/{}/activity", workspace.id);
    let logged = api.post(As::Workspace(workspace), &path, &body).await;
    logged.expect(200);
}

/// The ways to ask for what came after this row, but for the inbox.
fn polls(row: &Value) -> [String; 3] {
    let (id, place) = (row["id"].as_str().expect("an id"), position(row));
    [
        format!("type=a2a_receive&since_id={id}"),
        format!("type=a2a_receive&since_id={id}&since_secs=600&limit=7"),
        format!("type=a2a_receive&after_seq={place}"),
    ]
}

async fn polls_with_nothing_new_read_nothing(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let [own, other] = ["own", "other"].map(|name| api.create_workspace(name, None, None));
    let (own, other) = tokio::join!(own, other);
    let never = ["type=a2a_receive&since_secs=600", "type=a2a_receive"];
    comes_to_need_no_read(api, "polls of an empty feed", async || {
        for _ in 0..20 {
            for poll in never {
                assert_eq!(api.activity(&own, poll).await.expect(200).text, "[]");
            }
        }
    })
    .await;
    message(api, &other).await;
    let foreign = api.feed(&other, "a2a_receive").await.remove(0);
    for round in 1..=2 {
        message(api, &own).await;
        let row = api.feed(&own, "a2a_receive").await.pop().expect("a row");
        let seen = api.inbox(&own, 10, 0).await.expect(200);
        assert_eq!(seen.body["messages"][0]["id"], row["id"]);
        for poll in never {
            assert_eq!(api.activity(&own, poll).await.rows().len(), round);
        }
        api.ack(&own, position(&row)).await.expect(200);
        let empty = json!({"messages": [], "last_acked_seq": position(&row)});
        comes_to_need_no_read(api, "polls with nothing new", async || {
            for _ in 0..25 {
                for poll in polls(&row) {
                    assert_eq!(api.activity(&own, &poll).await.expect(200).text, "[]");
                }
                assert_eq!(api.inbox(&own, 10, 0).await.expect(200).body, empty);
            }
        })
        .await;
        // What is no row of this feed is still told apart.
        for id in [foreign["id"].as_str(), Some(&*own.id), Some("x")] {
            let poll = format!("type=a2a_receive&since_id={}", id.expect("an id"));
            api.activity(&own, &poll).await.expect(410);
        }
        let wrong = format!("{}&source=x", polls(&row)[0]);
        api.activity(&own, &wrong).await.expect(400);
    }
    let path = format!("/workspaces/{}?purge=true", own.id);
    let purged = api.request(Method::DELETE, As::Admin, &path, None).await;
    purged.expect(200);
    let gone = format!("/workspaces/{}/inbox", own.id);
    api.admin_get(&gone).await.expect(404);
}

async fn those_who_are_known_are_served_without_a_read(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    comes_to_need_no_read(api, "100 requests with a token", async || {
        for _ in 0..100 {
            let oneself = api.delegate(&caller, &caller, "go").await;
            oneself.expect(400);
        }
    })
    .await;
    comes_to_need_no_read(api, "10 delegations that reach their target", async || {
        let before = agent.messages().len();
        for _ in 0..10 {
            api.delegated(&caller, &target, "go").await;
        }
        eventually("the agent has them", async || {
            (agent.messages().len() == before + 10).then_some(())
        })
        .await;
    })
    .await;
    api.wait_until_all_ended(&caller).await;
    server.assert_invariants().await;
}

async fn mint(api: &Api, workspace: &Workspace) -> Workspace {
    let path = format!("/workspaces/{}/tokens", workspace.id);
    let minted = api.post(As::Admin, &path, &json!({})).await.expect(201);
    Workspace {
        id: workspace.id.clone(),
        token: minted.str("auth_token").to_owned(),
    }
}

async fn revoke(api: &Api, bearer: &Workspace) {
    let path = format!("/workspaces/{}/tokens", bearer.id);
    let listed = api.admin_get(&path).await.expect(200);
    let tokens = listed.body["tokens"].as_array().expect("tokens");
    let own = tokens
        .iter()
        .find(|token| token["prefix"].as_str() == bearer.token.get(..8))
        .expect("the token");
    let path = format!("{path}/{}", own["id"].as_str().expect("an id"));
    let revoked = api.request(Method::DELETE, As::Admin, &path, None).await;
    revoked.expect(200);
}

async fn patch(api: &Api, workspace: &Workspace, body: &Value) {
    let path = format!("/workspaces/{}", workspace.id);
    let patched = api
        .request(Method::PATCH, As::Admin, &path, Some(body))
        .await;
    patched.expect(200);
}

async fn remove(api: &Api, workspace: &Workspace) {
    let path = format!("/workspaces/{}", workspace.id);
    let removed = api.request(Method::DELETE, As::Admin, &path, None).await;
    removed.expect(200);
}

async fn a_change_is_known_before_it_is_acknowledged(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    let elsewhere = api.create_workspace("elsewhere", None, None).await;
    let status = async |by: &Workspace| api.delegate(by, &target, "go").await.status;
    let changes = [
        (json!({"can_delegate": false}), 403),
        (json!({"can_delegate": true}), 202),
        (json!({"parent_id": elsewhere.id}), 404),
        (json!({"parent_id": root.id}), 202),
    ];
    for _ in 0..10 {
        for (change, expected) in &changes {
            patch(api, &caller, change).await;
            assert_eq!(status(&caller).await, *expected, "{change}");
        }
        let bearer = mint(api, &caller).await;
        assert_eq!(status(&bearer).await, 202);
        revoke(api, &bearer).await;
        assert_eq!(status(&bearer).await, 401);
    }
    api.wait_until_all_ended(&caller).await;
    server.assert_invariants().await;
}

async fn who_moves_or_goes_is_not_found_where_it_was(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let ended = async || {
        let id = api.delegated(&caller, &target, "go").await;
        api.wait_until_ended(&caller, &id).await;
        id
    };
    ended().await;
    let moved = FakeAgent::start(Behaviour::Echo).await;
    let card = json!({"name": "target"});
    api.register(&target, &moved.url(), &card).await.expect(200);
    let id = ended().await;
    assert_eq!((agent.seen(&id), moved.seen(&id)), (0, 1));
    remove(api, &target).await;
    api.delegate(&caller, &target, "go").await.expect(404);
    api.tokens(&target).await.expect(401);
    remove(api, &caller).await;
    api.delegate(&caller, &target, "go").await.expect(401);
    server.assert_invariants().await;
}

async fn it_is_noted_when_a_token_was_used(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let own = api.create_workspace("own", None, None).await;
    let unused = mint(api, &own).await;
    let is_noted = async || {
        let listed = api.tokens(&own).await.expect(200);
        let tokens = listed.body["tokens"].as_array().expect("tokens").clone();
        let used = |bearer: &Workspace| {
            let prefix = bearer.token.get(..8);
            let mut own = tokens
                .iter()
                .filter(|token| token["prefix"].as_str() == prefix);
            !own.next().expect("the token")["last_used_at"].is_null()
        };
        (used(&own), used(&unused))
    };
    eventually(
        "it is remembered, and so noted at the next stop",
        async || {
            api.tokens(&own).await.expect(200);
            assert!(server.terminate().await.success());
            server.start_again().await;
            let (own, unused) = is_noted().await;
            assert!(!unused);
            own.then_some(())
        },
    )
    .await;
}

/// A second node, and a caller and a target that both nodes know well.
async fn two(database: &Database, second: &str) -> [Server; 2] {
    [
        Server::start(database, &[LONG_LEASE]).await,
        Server::start(database, &[LONG_LEASE, ("DATABASE_URL", second)]).await,
    ]
}

async fn what_one_node_changes_the_other_knows(database: Database) {
    let [one, other] = two(&database, &database.url()).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family {
        root,
        caller,
        target,
    } = one.family(&agent.url()).await;
    let elsewhere = one.api().create_workspace("elsewhere", None, None).await;
    let bearer = mint(one.api(), &caller).await;
    let known = async |by: &Workspace| {
        comes_to_need_no_read(other.api(), "a delegation", async || {
            other.api().delegate(by, &target, "go").await.expect(202);
        })
        .await;
    };
    let becomes = async |by: &Workspace, status: u16| {
        let told = Instant::now();
        let what = format!("the other node answers {status}");
        eventually_within(WORD, &what, async || {
            let reply = other.api().delegate(by, &target, "go").await;
            (reply.status == status).then_some(())
        })
        .await;
        println!("{status} after {:?}", told.elapsed());
    };
    known(&bearer).await;
    revoke(one.api(), &bearer).await;
    becomes(&bearer, 401).await;
    for (change, status) in [
        (json!({"can_delegate": false}), 403),
        (json!({"can_delegate": true}), 202),
        (json!({"parent_id": elsewhere.id}), 404),
        (json!({"parent_id": root.id}), 202),
    ] {
        if status != 202 {
            known(&caller).await;
        }
        patch(one.api(), &caller, &change).await;
        becomes(&caller, status).await;
    }
    known(&caller).await;
    remove(one.api(), &target).await;
    becomes(&caller, 404).await;
    remove(one.api(), &caller).await;
    becomes(&caller, 401).await;
    other.assert_invariants().await;
}

async fn what_one_node_writes_the_other_does_not_miss(database: Database) {
    let [one, other] = two(&database, &database.url()).await;
    let own = one.api().create_workspace("own", None, None).await;
    message(one.api(), &own).await;
    let mut row = one.api().feed(&own, "a2a_receive").await.remove(0);
    for _ in 0..5 {
        one.api().ack(&own, position(&row)).await.expect(200);
        let acknowledged = json!({"messages": [], "last_acked_seq": position(&row)});
        eventually_within(WORD, "the acknowledgement is known", async || {
            let inbox = other.api().inbox(&own, 10, 0).await.expect(200);
            (inbox.body == acknowledged).then_some(())
        })
        .await;
        comes_to_need_no_read(other.api(), "polls with nothing new", async || {
            for poll in polls(&row) {
                let rows = other.api().activity(&own, &poll).await.expect(200);
                assert_eq!(rows.text, "[]");
            }
            let inbox = other.api().inbox(&own, 10, 0).await.expect(200);
            assert_eq!(inbox.body, acknowledged);
        })
        .await;
        let waits = other.api().inbox(&own, 10, 30);
        let (seen, ()) = tokio::join!(waits, message(one.api(), &own));
        let next = seen.expect(200).body["messages"][0].clone();
        assert!(position(&next) > position(&row));
        for poll in polls(&row) {
            let found = other.api().activity(&own, &poll).await.expect(200);
            assert_eq!(found.rows()[0]["id"], next["id"], "{poll}");
        }
        row = next;
    }
}

async fn a_node_that_cannot_hear_asks_the_database(database: Database) {
    let road = Proxy::before(&database).await;
    let [one, other] = two(&database, road.url()).await;
    let own = one.api().create_workspace("own", None, None).await;
    let oneself = async |bearer: &Workspace| {
        let reply = other.api().delegate(bearer, bearer, "go").await;
        reply.status
    };
    let cuts: [fn(&Proxy); 3] = [Proxy::freeze, Proxy::deafen, Proxy::close];
    for (cut, answer) in cuts.into_iter().zip([503, 401, 503]) {
        let bearer = mint(one.api(), &own).await;
        comes_to_need_no_read(other.api(), "a request with a token", async || {
            assert_eq!(oneself(&bearer).await, 400);
        })
        .await;
        cut(&road);
        revoke(one.api(), &bearer).await;
        let begun = Instant::now();
        eventually_within(Duration::from_secs(5), "it does not say yes", async || {
            (oneself(&bearer).await == answer).then_some(())
        })
        .await;
        println!("{answer} {:?} after the cut", begun.elapsed());
        assert_eq!(oneself(&bearer).await, answer);
        road.open();
        eventually("it knows of the revocation", async || {
            let status = oneself(&bearer).await;
            assert_ne!(status, 400);
            (status == 401).then_some(())
        })
        .await;
        eventually("it serves again", async || {
            (oneself(&own).await == 400).then_some(())
        })
        .await;
        comes_to_need_no_read(other.api(), "it hears again", async || {
            assert_eq!(oneself(&own).await, 400);
        })
        .await;
        assert_eq!(oneself(&bearer).await, 401, "nothing of before counts");
    }
}
