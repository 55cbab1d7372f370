//! One delegation as the page shows it: with its family, and what was delivered to whom.

use serde_json::{Value, json};

use crate::canvas::lines;
use crate::support::agent::{Behaviour as B, FakeAgent};
use crate::support::client::{As, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::hook::Hook;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_delegation_is_shown_with_its_family,
    what_was_delivered_is_told_to_its_caller,
);

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
    let order = |parent: &str| json!({"target_id": helper.id, "task": "a part", "parent_delegation_id": parent});
    let mut children = Vec::new();
    for _ in 0..3 {
        let begun = api
            .delegate_with(&target, &order("parent"))
            .await
            .expect(202);
        children.push(begun.str("delegation_id").to_owned());
    }
    // Neither one's own nor a foreign one is what one was given.
    for (by, parent) in [
        (&caller, "parent"),
        (&target, "unknown"),
        (&target, &children[0]),
    ] {
        let refused = api.delegate_with(by, &order(parent)).await.expect(400);
        assert_eq!(
            refused.body["field"], "parent_delegation_id",
            "{}",
            refused.text
        );
    }
    for id in &children {
        api.wait_until_ended(&target, id).await;
    }
    let of = |caller: &Workspace, id: &str| format!("/canvas/delegations/{}/{id}", caller.id);
    let ids = |all: &Value| -> Vec<String> {
        let all = all.as_array().expect("relatives").iter();
        all.map(|one| one["delegation_id"].as_str().expect("an id").to_owned())
            .collect()
    };
    for by in [As::Admin, As::Workspace(&target)] {
        let whole = api.get(by, &of(&caller, "parent")).await.expect(200).body;
        assert_eq!(ids(&whole["children"]), children);
        assert_eq!(
            (&whole["children_more"], &whole["task"]),
            (&json!(false), &json!("the whole of it"))
        );
        assert_eq!(
            (&whole["caller_name"], &whole["target_name"]),
            (&json!("caller"), &json!("target"))
        );
        let child = api
            .get(by, &of(&target, &children[0]))
            .await
            .expect(200)
            .body;
        assert_eq!(child["parent"]["delegation_id"], "parent");
        assert_eq!(
            (&child["parent_delegation_id"], &child["parent_caller_id"]),
            (&json!("parent"), &json!(caller.id))
        );
        let line =
            lines(api, by, "q=a+part&limit=1").await.expect(200).body["delegations"][0].clone();
        assert_eq!(
            line["parent"],
            json!({"caller_id": caller.id, "delegation_id": "parent"})
        );
    }
    // Whom the work was handed on to does not see for whom it is; nor is it the caller's, to whom.
    let child = api
        .get(As::Workspace(&helper), &of(&target, &children[0]))
        .await
        .expect(200)
        .body;
    assert!(
        child.get("parent").is_none() && child.get("parent_delegation_id").is_none(),
        "{child:#}"
    );
    let whole = api
        .get(As::Workspace(&caller), &of(&caller, "parent"))
        .await
        .expect(200)
        .body;
    assert!(
        whole.get("children").is_none() && whole.get("children_more").is_none(),
        "{whole:#}"
    );

    let again = api
        .retry(&target, &children[0])
        .await
        .expect(202)
        .str("delegation_id")
        .to_owned();
    let first = api
        .get(As::Admin, &of(&target, &children[0]))
        .await
        .expect(200)
        .body;
    assert_eq!(ids(&first["retried_as"]), [again.clone()]);
    let second = api
        .get(As::Admin, &of(&target, &again))
        .await
        .expect(200)
        .body;
    assert_eq!(
        second["retried_from"]["delegation_id"],
        children[0].as_str()
    );
    assert_eq!(
        second["parent_delegation_id"], "parent",
        "a repeated part is a part"
    );
    api.wait_until_ended(&target, &again).await;
    api.report_completed(&target, "parent", "done")
        .await
        .expect(200);
    server.assert_invariants().await;
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
    assert_eq!(
        delivery(&whole, "target").expect("a target")["state"],
        "delivered"
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
