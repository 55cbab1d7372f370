//! What nothing stands in the way of is sent in its first commit, and nobody can tell by anything else.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::faults::counter;
use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_free_target_is_called_after_one_commit,
    what_is_shown_does_not_tell_how_it_was_sent,
    the_order_of_a_line_holds_between_those_who_wait_and_those_who_do_not,
    a_cap_holds_however_many_come_at_once,
);

/// Commits so far, the renewals of the lease included.
async fn commits(api: &Api) -> u64 {
    counter(api, "baton_commit_seconds_count").await
}

async fn a_free_target_is_called_after_one_commit(database: Database) {
    let server = Server::start(&database, &[("BATON_LEASE_MS", "600000")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    server.knows_by_heart(&caller).await;
    agent.hold();
    // Something else may be committed at that moment, but not each time.
    eventually("it was called after one commit", async || {
        let (before, seen) = (commits(api).await, agent.messages().len());
        let id = api.delegated(&caller, &target, "go").await;
        agent.wait_for(seen + 1).await;
        let whole = api.delegation(&caller, &id).await.expect(200);
        assert_eq!(whole.str("status"), "dispatched");
        (commits(api).await == before + 1).then_some(())
    })
    .await;
    agent.release();
    api.wait_until_all_ended(&caller).await;
    server.assert_invariants().await;
}

/// All that is shown of a delegation while its agent works on it, but for what makes it this one.
async fn shown(server: &Server, caller: &Workspace, target: &Workspace, id: &str) -> Value {
    let api = server.api();
    let mut whole = api.delegation(caller, id).await.expect(200).body;
    let history = whole["history"].as_array().expect("a history").clone();
    let at = |entry: &Value| entry["at"].as_str().expect("an instant").to_owned();
    assert!(history.iter().map(at).is_sorted(), "{whole:#}");
    assert_eq!(
        whole["updated_at"],
        history[history.len() - 1]["at"],
        "{whole:#}"
    );
    let mut feed = api.feed(caller, "delegation").await;
    feed.retain(|row| row.to_string().contains(id));
    let events = api.events(caller).await.expect(200);
    let events = events.rows().iter().rev();
    let events: Vec<&Value> = events
        .filter(|event| event.to_string().contains(id))
        .collect();
    let mut shown = json!({"whole": whole.take(), "feed": feed, "events": events}).to_string();
    for (own, any) in [(id, "its id"), (&target.id, "its target")] {
        shown = shown.replace(own, any);
    }
    let mut shown: Value = serde_json::from_str(&shown).expect("JSON");
    forget_what_differs(&mut shown);
    shown
}

fn forget_what_differs(shown: &mut Value) {
    match shown {
        Value::Object(members) => {
            let own = |name: &str| name.ends_with("at") || name == "id" || name == "seq";
            members.retain(|name, _| !own(name) && name != "deadline");
            members.values_mut().for_each(forget_what_differs);
        }
        Value::Array(entries) => entries.iter_mut().for_each(forget_what_differs),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn what_is_shown_does_not_tell_how_it_was_sent(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    let slow = api
        .create_workspace("target", Some(&root), Some(&agent.long_url()))
        .await;
    server.knows_by_heart(&caller).await;
    agent.hold();
    let mut views = Vec::new();
    for (number, target) in [&target, &slow].into_iter().enumerate() {
        let id = api.delegated(&caller, target, "go").await;
        agent.wait_for(number + 1).await;
        views.push(shown(&server, &caller, target, &id).await);
    }
    assert_eq!(views[0], views[1]);
    let statuses = views[0]["whole"]["history"].as_array().expect("a history");
    let statuses: Vec<_> = statuses
        .iter()
        .map(|entry| (entry["status"].as_str().unwrap(), entry["attempt"].as_u64()))
        .collect();
    assert_eq!(statuses, [("pending", Some(0)), ("dispatched", Some(1))]);
    assert_eq!(views[0]["events"].as_array().unwrap().len(), 2);
    agent.release();
    api.wait_until_all_ended(&caller).await;
    server.assert_invariants().await;
}

async fn capped(api: &Api, parent: &Workspace, agent: &FakeAgent, cap: i32) -> Workspace {
    let target = api
        .create_workspace("capped", Some(parent), Some(&agent.url()))
        .await;
    let path = format!("/workspaces/{}", target.id);
    let change = json!({"max_concurrent_tasks": cap});
    let patched = api
        .request(Method::PATCH, As::Admin, &path, Some(&change))
        .await;
    patched.expect(200);
    target
}

async fn the_order_of_a_line_holds_between_those_who_wait_and_those_who_do_not(database: Database) {
    let server = Server::start(&database, &[]).await;
    let slow = Behaviour::after(Duration::from_millis(5), Behaviour::Echo);
    let agent = FakeAgent::start(slow).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let target = capped(api, &root, &agent, 1).await;
    server.knows_by_heart(&caller).await;
    let mut ids = Vec::new();
    for number in 0..80u64 {
        ids.push(api.delegated(&caller, &target, "go").await);
        // Now the line is free, now somebody waits, now it becomes free at this moment.
        tokio::time::sleep(Duration::from_millis(number * 7 % 23)).await;
    }
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.accepted(), ids);
    assert_eq!(agent.peak(), 1);
    server.assert_invariants().await;
}

async fn a_cap_holds_however_many_come_at_once(database: Database) {
    let server = Server::start(&database, &[]).await;
    let slow = Behaviour::after(Duration::from_millis(3), Behaviour::Echo);
    let agent = FakeAgent::start(slow).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let target = capped(api, &root, &agent, 3).await;
    server.knows_by_heart(&caller).await;
    let callers = (0..12).map(async |_| {
        for _ in 0..10 {
            api.delegated(&caller, &target, "go").await;
        }
    });
    join_all(callers).await;
    api.wait_until_all_ended(&caller).await;
    assert_eq!(agent.messages().len(), 120, "each was sent once");
    assert_eq!(agent.peak(), 3);
    server.assert_invariants().await;
}
