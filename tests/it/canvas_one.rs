//! One delegation as the page shows it: with its family, and what was delivered to whom.

use serde_json::{Value, json};

use crate::canvas::lines;
use crate::support::agent::{Behaviour as B, FakeAgent};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::hook::Hook;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_delegation_is_shown_with_its_family,
    what_was_delivered_is_told_to_its_caller,
);

fn path_of(caller: &Workspace, id: &str) -> String {
    format!("/canvas/delegations/{}/{id}", caller.id)
}

fn ids(all: &Value) -> Vec<String> {
    let all = all.as_array().expect("relatives").iter();
    all.map(|one| one["delegation_id"].as_str().expect("an id").to_owned())
        .collect()
}

async fn a_delegation_is_shown_with_its_family(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let helper = server
        .api()
        .create_workspace("helper", Some(&root), Some(&agent.url()))
        .await;
    let api = server.api();
    api.record(&caller, &target, "parent", "the whole of it")
        .await
        .expect(202);
    let children = three_parts(api, [&caller, &target, &helper]).await;
    for by in [As::Admin, As::Workspace(&target)] {
        family_is_shown(api, by, [&caller, &target], &children).await;
    }
    // Whom the work was handed on to does not see for whom it is; nor is it the caller's, to whom.
    let path = path_of(&target, &children[0]);
    let child = api.get(As::Workspace(&helper), &path).await.expect(200);
    let whole = api
        .get(As::Workspace(&caller), &path_of(&caller, "parent"))
        .await
        .expect(200);
    for (reply, hidden) in [
        (&child, ["parent", "parent_delegation_id"]),
        (&whole, ["children", "children_more"]),
    ] {
        for name in hidden {
            assert!(reply.body.get(name).is_none(), "{name}: {}", reply.text);
        }
    }
    a_repeated_part_is_a_part(api, &target, &children[0]).await;
    api.report_completed(&target, "parent", "done")
        .await
        .expect(200);
    server.assert_invariants().await;
}

/// Handed on by the target of `parent`, to the helper.
async fn three_parts(api: &Api, [caller, target, helper]: [&Workspace; 3]) -> Vec<String> {
    let order = |parent: &str| json!({"target_id": helper.id, "task": "a part", "parent_delegation_id": parent});
    let mut children = Vec::new();
    for _ in 0..3 {
        let begun = api
            .delegate_with(target, &order("parent"))
            .await
            .expect(202);
        children.push(begun.str("delegation_id").to_owned());
    }
    // Neither one's own nor a foreign one is what one was given.
    for (by, parent) in [
        (caller, "parent"),
        (target, "unknown"),
        (target, &children[0]),
    ] {
        let refused = api.delegate_with(by, &order(parent)).await.expect(400);
        let field = &refused.body["field"];
        assert_eq!(field, "parent_delegation_id", "{}", refused.text);
    }
    for id in &children {
        api.wait_until_ended(target, id).await;
    }
    children
}

async fn family_is_shown(
    api: &Api,
    by: As<'_>,
    [caller, target]: [&Workspace; 2],
    children: &[String],
) {
    let whole = api.get(by, &path_of(caller, "parent")).await.expect(200);
    assert_eq!(ids(&whole.body["children"]), children);
    for (name, value) in [
        ("children_more", json!(false)),
        ("task", json!("the whole of it")),
        ("caller_name", json!("caller")),
        ("target_name", json!("target")),
    ] {
        assert_eq!(whole.body[name], value, "{name}");
    }
    let child = api
        .get(by, &path_of(target, &children[0]))
        .await
        .expect(200)
        .body;
    assert_eq!(child["parent"]["delegation_id"], "parent");
    assert_eq!(
        (&child["parent_delegation_id"], &child["parent_caller_id"]),
        (&json!("parent"), &json!(caller.id))
    );
    let line = lines(api, by, "q=a+part&limit=1").await.expect(200).body["delegations"][0].clone();
    assert_eq!(
        line["parent"],
        json!({"caller_id": caller.id, "delegation_id": "parent"})
    );
}

async fn a_repeated_part_is_a_part(api: &Api, target: &Workspace, part: &str) {
    let again = api.retry(target, part).await.expect(202);
    let again = again.str("delegation_id");
    let first = api.get(As::Admin, &path_of(target, part)).await.expect(200);
    assert_eq!(ids(&first.body["retried_as"]), [again]);
    let second = api.get(As::Admin, &path_of(target, again)).await;
    let second = second.expect(200).body;
    assert_eq!(second["retried_from"]["delegation_id"], part);
    assert_eq!(second["parent_delegation_id"], "parent");
    api.wait_until_ended(target, again).await;
}

/// The delivery to this kind of receiver.
fn delivery<'a>(whole: &'a Value, to: &str) -> Option<&'a Value> {
    let all = whole["deliveries"].as_array().expect("deliveries");
    all.iter().find(|one| one["to"] == to)
}

async fn what_was_delivered_is_told_to_its_caller(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Echo).await;
    agent.hold();
    let hook = Hook::start().await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let address = format!("{}?token=secret", hook.url());
    let path = format!("/workspaces/{}/webhooks", caller.id);
    api.post(As::Workspace(&caller), &path, &json!({"url": address}))
        .await
        .expect(201);
    let id = api.delegated(&caller, &target, "go").await;
    let path = format!("/canvas/delegations/{}/{id}", caller.id);
    let own = As::Workspace(&caller);
    let whole = api.get(own, &path).await.expect(200).body;
    for to in ["target", "inbox", "webhook"] {
        assert_eq!(
            delivery(&whole, to).expect(to)["state"],
            "waiting",
            "{whole:#}"
        );
    }
    agent.release();
    api.wait_until_ended(&caller, &id).await;
    let whole = eventually("the webhook was told", async || {
        let whole = api.get(own, &path).await.expect(200).body;
        (delivery(&whole, "webhook")?["state"] == "delivered").then_some(whole)
    })
    .await;
    assert!(!whole["deliveries"].to_string().contains("secret"));
    let inbox = delivery(&whole, "inbox").expect("an inbox");
    assert_eq!(
        (&inbox["state"], &inbox["acknowledged"]),
        (&json!("delivered"), &json!(false))
    );
    let task = delivery(&whole, "target").expect("a target");
    let origin = agent.url().trim_end_matches('/').to_owned();
    assert_eq!(
        (&task["state"], &task["address"]),
        (&json!("delivered"), &json!(origin))
    );
    assert_eq!(
        (&whole["status"], &whole["result"]),
        (&json!("completed"), &json!("echo: go"))
    );
    let rows = api.inbox(&caller, 10, 0).await.expect(200).body;
    let seq = rows["messages"][0]["seq"].as_i64().expect("a place");
    api.ack(&caller, seq).await.expect(200);
    let whole = api.get(own, &path).await.expect(200).body;
    assert_eq!(
        delivery(&whole, "inbox").expect("an inbox")["acknowledged"],
        true
    );
    // Who tells its caller what is nothing that the target may know.
    let seen = api
        .get(As::Workspace(&target), &path)
        .await
        .expect(200)
        .body;
    assert_eq!(seen["deliveries"].as_array().unwrap().len(), 1, "{seen:#}");
    assert_eq!(seen["direction"], "received");
    let raw = api
        .get(own, &format!("{path}?include=raw"))
        .await
        .expect(200)
        .body;
    assert!(raw["raw_result"].is_string() && whole.get("raw_result").is_none());
}
