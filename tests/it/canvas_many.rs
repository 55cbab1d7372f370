//! What is done to many delegations at once.

use serde_json::{Value, json};

use crate::canvas::{NOWHERE, all_ids, numbered, recorded};
use crate::support::agent::{Behaviour as B, FakeAgent};
use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    many_are_cancelled_and_what_came_later_is_not,
    many_are_begun_again_and_none_of_them_twice,
);

/// Acts until nothing is left; how many were matched, done and refused, and the refusals.
async fn act(api: &Api, by: As<'_>, what: &str, body: &Value) -> (u64, u64, u64, Vec<Value>) {
    let (mut matched, mut done, mut refused, mut told) = (0, 0, 0, Vec::new());
    let mut body = body.clone();
    loop {
        let reply = api
            .post(by, &format!("/canvas/delegations/{what}"), &body)
            .await
            .expect(200);
        let number = |name: &str| {
            reply.body[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{}", reply.text))
        };
        matched += number("matched");
        done += number("done");
        refused += number("refused_count");
        told.extend(reply.body["refused"].as_array().expect("refusals").clone());
        if reply.body["next"].is_null() {
            return (matched, done, refused, told);
        }
        body["before"] = reply.body["next"].clone();
    }
}

async fn dry_run(api: &Api, by: As<'_>, what: &str, body: &Value) -> Reply {
    let mut body = body.clone();
    body["dry_run"] = json!(true);
    api.post(by, &format!("/canvas/delegations/{what}"), &body)
        .await
        .expect(200)
}

async fn many_are_cancelled_and_what_came_later_is_not(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, target, .. } = server.family(NOWHERE).await;
    let api = server.api();
    recorded(api, &caller, &target, &numbered("old", 520)).await;
    recorded(api, &target, &caller, &numbered("other", 2)).await;
    for id in numbered("old", 5) {
        api.report_completed(&target, &id, "done").await.expect(200);
    }
    let own = As::Workspace(&caller);
    let counted = dry_run(api, own, "cancel", &json!({"status": "in_flight"}))
        .await
        .body;
    assert_eq!(
        (&counted["matched"], &counted["more"]),
        (&json!(515), &json!(false))
    );
    assert_eq!(
        database.count("SELECT count(*) FROM delegations WHERE status = 'cancelled'"),
        0
    );
    recorded(api, &caller, &target, &numbered("new", 3)).await;
    let body = json!({"status": "in_flight", "before": counted["before"], "reason": "all of it"});
    assert_eq!(act(api, own, "cancel", &body).await, (515, 515, 0, vec![]));
    assert_eq!(act(api, own, "cancel", &body).await, (0, 0, 0, vec![]));
    let left = all_ids(api, As::Admin, "status=in_flight", async || {}).await;
    assert_eq!(
        left,
        [
            "new-0002",
            "new-0001",
            "new-0000",
            "other-0001",
            "other-0000"
        ]
    );
    let whole = api.delegation(&caller, "old-0519").await.expect(200);
    assert_eq!(
        (whole.str("status"), whole.str("error")),
        ("cancelled", "all of it")
    );

    those_named_and_those_with_a_text(api, &caller, &target).await;
    server.assert_invariants().await;
}

async fn those_named_and_those_with_a_text(api: &Api, caller: &Workspace, target: &Workspace) {
    let ids = json!({"ids": [
        {"caller_id": caller.id, "delegation_id": "new-0000"},
        {"caller_id": target.id, "delegation_id": "other-0000"},
        {"caller_id": caller.id, "delegation_id": "old-0000"},
    ]});
    let counted = dry_run(api, As::Admin, "cancel", &ids).await.body;
    assert_eq!(counted["matched"], 2);
    let mut body = ids.clone();
    body["before"] = counted["before"].clone();
    assert_eq!(act(api, As::Admin, "cancel", &body).await.1, 2);
    let text = json!({"status": "in_flight", "q": "NEW-0002"});
    assert_eq!(
        dry_run(api, As::Admin, "cancel", &text).await.body["matched"],
        1
    );
    assert_eq!(act(api, As::Admin, "cancel", &text).await.1, 1);
    let left = all_ids(api, As::Admin, "status=in_flight", async || {}).await;
    assert_eq!(left, ["new-0001", "other-0001"]);
}

async fn many_are_begun_again_and_none_of_them_twice(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(B::Error(-32603, "no".to_owned())).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    thirty_failed(api, &root, &caller, &target).await;
    api.record(&caller, &target, "live", "t").await.expect(202);

    let all = json!({"status": "ended"});
    let counted = dry_run(api, As::Admin, "retry", &all).await.body;
    assert_eq!(counted["matched"], 30, "one has no known target");
    let body = json!({"status": "ended", "before": counted["before"]});
    // A repeated call, and one at the same time.
    agent.hold();
    let (one, other) = tokio::join!(
        act(api, As::Admin, "retry", &body),
        act(api, As::Admin, "retry", &body)
    );
    let (_, done, refused, told) = one;
    assert_eq!(done + other.1, 27, "each by one of the two");
    assert_eq!(refused, 3);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0]["error"], "target workspace not found");
    let begun = "SELECT count(*) FROM delegations WHERE retry_of LIKE 'old-%'";
    assert_eq!(database.count(begun), 27);
    agent.release();
    eventually("they failed again", async || {
        let failed =
            "SELECT count(*) FROM delegations WHERE retry_of LIKE 'old-%' AND status = 'failed'";
        (database.count(failed) == 27).then_some(())
    })
    .await;
    // They gave their keys back; the old ones are begun no second time, the new ones may be.
    assert_eq!(act(api, As::Admin, "retry", &body).await.1, 0);
    assert_eq!(database.count(begun), 27);
    agent.behave(B::Echo);
    the_new_ones_are_begun_again(api, &database).await;
    api.report_completed(&target, "live", "done")
        .await
        .expect(200);
    api.wait_until_all_ended(&caller).await;
    server.assert_invariants().await;
}

/// The three whose target is gone are meant, and refused, each time.
async fn the_new_ones_are_begun_again(api: &Api, database: &Database) {
    let all = json!({"status": "ended"});
    let counted = dry_run(api, As::Admin, "retry", &all).await.body;
    assert_eq!(counted["matched"], 27 + 3);
    assert_eq!(act(api, As::Admin, "retry", &all).await.1, 27);
    let stored = database.count("SELECT count(*) FROM delegations");
    assert_eq!(stored, 32 + 27 + 27);
}

/// Three of them of a target that is gone; and one whose target is not known.
async fn thirty_failed(api: &Api, root: &Workspace, caller: &Workspace, target: &Workspace) {
    let gone = api
        .create_workspace("gone", Some(root), Some(NOWHERE))
        .await;
    for (number, id) in numbered("old", 30).iter().enumerate() {
        let to = if number < 27 { target } else { &gone };
        api.record(caller, to, id, "again").await.expect(202);
        api.report_failed(to, id, "no").await.expect(200);
    }
    api.report_completed(caller, "adopted", "42")
        .await
        .expect(200);
    let path = format!("/workspaces/{}", gone.id);
    api.request(reqwest::Method::DELETE, As::Admin, &path, None)
        .await
        .expect(200);
}
