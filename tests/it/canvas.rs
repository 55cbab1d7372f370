//! What the page looks at: the picture, and lists by page.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_list_pages_without_gap_or_repetition_while_others_arrive,
    filters_and_searches_find_what_is_meant,
    nobody_sees_what_is_not_theirs,
    the_picture_is_no_newer_than_its_place,
    a_look_takes_nothing,
    what_makes_no_sense_is_refused_by_name,
);

/// An address where nobody listens: recorded delegations are never sent.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9/";

/// Recorded ones with these ids and a task of their own.
pub(crate) async fn recorded(api: &Api, caller: &Workspace, target: &Workspace, ids: &[String]) {
    for id in ids {
        let task = format!("task of {id}");
        api.record(caller, target, id, &task).await.expect(202);
    }
}

pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}-{number:04}"))
        .collect()
}

pub(crate) async fn lines(api: &Api, by: As<'_>, query: &str) -> Reply {
    api.get(by, &format!("/canvas/delegations?{query}")).await
}

fn ids_of(reply: &Reply) -> Vec<String> {
    let lines = reply.body["delegations"].as_array().expect("delegations");
    let ids = lines
        .iter()
        .map(|line| line["delegation_id"].as_str().expect("an id").to_owned());
    ids.collect()
}

/// Every id, page by page; `between` runs after each page.
pub(crate) async fn all_ids(
    api: &Api,
    by: As<'_>,
    query: &str,
    mut between: impl AsyncFnMut(),
) -> Vec<String> {
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page = lines(api, by, &format!("{query}&before={before}"))
            .await
            .expect(200);
        seen.extend(ids_of(&page));
        let Some(next) = page.body["next"].as_str() else {
            return seen;
        };
        next.clone_into(&mut before);
        between().await;
    }
}

async fn a_list_pages_without_gap_or_repetition_while_others_arrive(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(NOWHERE).await;
    let api = server.api();
    let ids = numbered("first", 210);
    recorded(api, &caller, &target, &ids).await;
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    let mut later = 0;
    for (by, query) in [
        (As::Admin, format!("limit=40&workspace_id={}", caller.id)),
        (As::Workspace(&caller), "limit=40".to_owned()),
        (
            As::Workspace(&target),
            "limit=40&status=in_flight".to_owned(),
        ),
        (As::Admin, "limit=40&q=TASK+OF+first".to_owned()),
    ] {
        let seen = all_ids(api, by, &query, async || {
            later += 1;
            let id = [format!("later-{later}")];
            recorded(api, &caller, &target, &id).await;
        })
        .await;
        let seen: Vec<String> = seen
            .into_iter()
            .filter(|id| id.starts_with("first"))
            .collect();
        assert_eq!(seen, newest_first, "{query}");
    }
    // Two sides of one workspace are one list.
    recorded(api, &target, &caller, &numbered("back", 5)).await;
    let both = all_ids(api, As::Workspace(&caller), "limit=3", async || {}).await;
    assert_eq!(both.len(), 210 + later + 5);
    assert_eq!(both.iter().collect::<BTreeSet<_>>().len(), both.len());
    let none = lines(api, As::Workspace(&root), "").await.expect(200);
    assert_eq!(
        none.body,
        json!({"delegations": [], "next": null, "searched": 0})
    );
}

async fn filters_and_searches_find_what_is_meant(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, target, .. } = server.family(NOWHERE).await;
    let api = server.api();
    let ids = numbered("one", 40);
    recorded(api, &caller, &target, &ids).await;
    for (number, id) in ids.iter().enumerate() {
        match number % 4 {
            0 => api
                .report_completed(&target, id, &format!("Grüße {number}"))
                .await
                .expect(200),
            1 => api
                .report_failed(&target, id, "Out of <b>PAPER</b>")
                .await
                .expect(200),
            2 => api.cancel(&caller, id, "changed my mind").await.expect(200),
            _ => continue,
        };
    }
    let admin = As::Admin;
    for (query, count) in [
        ("status=in_flight", 10),
        ("status=ended", 30),
        ("status=completed,cancelled", 20),
        ("status=failed", 10),
        ("status=queued", 0),
        ("q=GR%C3%9C%C3%9FE", 10),
        ("q=out+of+%3Cb%3Epaper", 10),
        ("q=reported", 10),
        ("q=my+mind&status=failed", 0),
        ("q=of+one-000", 10),
        ("q=nothing+says+so", 0),
    ] {
        let found = all_ids(api, admin, &format!("limit=7&{query}"), async || {}).await;
        assert_eq!(found.len(), count, "{query}");
    }
    what_a_line_tells(api, &caller, &target).await;
    an_id_is_found_at_once(api, &caller, &target).await;
}

async fn what_a_line_tells(api: &Api, caller: &Workspace, target: &Workspace) {
    let failed = lines(api, As::Admin, "status=failed&limit=1")
        .await
        .expect(200);
    let line = &failed.body["delegations"][0];
    assert_eq!(
        (&line["error_class"], &line["status"]),
        (&json!("reported"), &json!("failed"))
    );
    assert_eq!(line["error"], "Out of <b>PAPER</b>");
    assert_eq!(
        (&line["caller_id"], &line["target_id"]),
        (&json!(caller.id), &json!(target.id))
    );
    assert!(
        line["ended_at"].is_string() && line["deadline"].is_string(),
        "{line:#}"
    );
}

/// And once; and by its name.
async fn an_id_is_found_at_once(api: &Api, caller: &Workspace, target: &Workspace) {
    let admin = As::Admin;
    let first = lines(api, admin, "q=one-0000").await.expect(200);
    assert_eq!(
        (ids_of(&first), &first.body["searched"]),
        (vec!["one-0000".to_owned()], &json!(1))
    );
    let all = all_ids(api, admin, "q=one-0000", async || {}).await;
    assert_eq!(all, ["one-0000"]);
    assert_eq!(
        lines(api, admin, "q=one-0000&status=failed").await.body["delegations"],
        json!([])
    );
    let named = json!({"ids": [
        {"caller_id": caller.id, "delegation_id": "one-0003"},
        {"caller_id": target.id, "delegation_id": "one-0007"},
        {"caller_id": caller.id, "delegation_id": "unknown"},
    ]});
    let some = api
        .post(admin, "/canvas/delegations/lines", &named)
        .await
        .expect(200);
    assert_eq!(ids_of(&some), ["one-0003"]);
}

async fn nobody_sees_what_is_not_theirs(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(NOWHERE).await;
    let stranger = server.family(NOWHERE).await.caller;
    let api = server.api();
    api.record(&caller, &target, "secret", "a secret")
        .await
        .expect(202);
    api.report_failed(&target, "secret", "no").await.expect(200);
    api.record(&caller, &target, "live", "a secret")
        .await
        .expect(202);
    let whole = format!("/canvas/delegations/{}/secret", caller.id);
    let named = json!({"ids": [{"caller_id": caller.id, "delegation_id": "secret"}]});
    // Not even the root above them: it is no party.
    for other in [&stranger, &root] {
        sees_nothing_of(api, other, &caller).await;
    }
    // To act is its caller's business, also when the target may look.
    for (by, matched) in [(&stranger, 0), (&root, 0), (&target, 0), (&caller, 1)] {
        for act in ["cancel", "retry"] {
            let path = format!("/canvas/delegations/{act}");
            for mut body in [json!({"status": "in_flight,ended"}), named.clone()] {
                body["dry_run"] = json!(true);
                let told = api.post(As::Workspace(by), &path, &body).await.expect(200);
                let is_named = body["ids"].is_array();
                let expected = if is_named && act == "cancel" {
                    0
                } else {
                    matched
                };
                assert_eq!(told.body["matched"], expected, "{act} {body}");
            }
        }
    }
    whom_a_picture_shows(api, [&root, &caller, &target]).await;
    for path in ["/canvas", "/canvas/delegations", &whole] {
        api.get(As::Nobody, path).await.expect(401);
        api.get(As::Bearer("wrong"), path).await.expect(401);
    }
}

/// Of the only delegations that there are.
async fn sees_nothing_of(api: &Api, other: &Workspace, caller: &Workspace) {
    let by = As::Workspace(other);
    let whole = format!("/canvas/delegations/{}/secret", caller.id);
    let named = json!({"ids": [{"caller_id": caller.id, "delegation_id": "secret"}]});
    assert_eq!(
        api.get(by, &whole).await.expect(404).body,
        json!({"error": "delegation not found"})
    );
    for query in ["", "q=secret", "status=ended"] {
        assert_eq!(
            ids_of(&lines(api, by, query).await.expect(200)),
            [""; 0],
            "{query}"
        );
    }
    let refused = lines(api, by, &format!("workspace_id={}", caller.id))
        .await
        .expect(403);
    assert!(refused.body["reason"].is_string());
    let some = api
        .post(by, "/canvas/delegations/lines", &named)
        .await
        .expect(200);
    assert_eq!(ids_of(&some), [""; 0]);
    let picture = api.get(by, "/canvas").await.expect(200).body;
    assert_eq!(
        (&picture["live"], &picture["live_total"]),
        (&json!([]), &json!(0))
    );
}

async fn whom_a_picture_shows(api: &Api, family: [&Workspace; 3]) {
    let [_, caller, _] = family;
    let kin = api
        .get(As::Workspace(caller), "/canvas?live=0")
        .await
        .expect(200)
        .body;
    assert!(kin.get("live").is_none());
    let kin = kin["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap());
    let expected = family.map(|one| one.id.as_str());
    assert_eq!(kin.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    let all = api.get(As::Admin, "/canvas").await.expect(200).body;
    assert_eq!(all["workspaces"].as_array().unwrap().len(), 6);
    assert_eq!(all["workspaces_total"], 6);
}

async fn the_picture_is_no_newer_than_its_place(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, target, .. } = server.family(NOWHERE).await;
    let api = server.api();
    recorded(api, &caller, &target, &numbered("before", 3)).await;
    let writer = {
        let (api, caller, target) = (api.clone(), caller.clone(), target.clone());
        tokio::spawn(async move {
            for id in numbered("meanwhile", 60) {
                api.record(&caller, &target, &id, "t").await.expect(202);
                api.report_completed(&target, &id, "done").await.expect(200);
            }
        })
    };
    let mut looks = 0;
    while !writer.is_finished() || looks < 3 {
        looks += 1;
        let picture = api.get(As::Admin, "/canvas").await.expect(200).body;
        let place = picture["position"].as_i64().expect("a place");
        let live = picture["live"].as_array().expect("what lives");
        let live: BTreeSet<&str> = live.iter().map(|one| one["id"].as_str().unwrap()).collect();
        // Whatever the events up to the place leave alive, the picture has, or an event after it ends.
        let events = api.admin_get("/events?limit=500").await.expect(200);
        let (mut alive, mut ends_later) = (BTreeSet::new(), BTreeSet::new());
        for event in events.rows().iter().rev() {
            let id = event["payload"]["delegation_id"]
                .as_str()
                .unwrap_or_default();
            let is_later = event["seq"].as_i64().expect("a place") > place;
            match event["event_type"].as_str().unwrap_or_default() {
                "DELEGATION_SENT" if !is_later => drop(alive.insert(id)),
                "DELEGATION_COMPLETE" if is_later => drop(ends_later.insert(id)),
                "DELEGATION_COMPLETE" => drop(alive.remove(id)),
                _ => {}
            }
        }
        let missing = alive
            .iter()
            .find(|id| !live.contains(*id) && !ends_later.contains(*id));
        assert_eq!(missing, None, "at {place}");
    }
    writer.await.expect("all of them");
    let picture = api
        .get(As::Workspace(&target), "/canvas")
        .await
        .expect(200)
        .body;
    assert_eq!(picture["live_total"], 3);
    let mark = &picture["live"][0];
    assert_eq!(
        *mark,
        json!({"id": "before-0002", "caller_id": caller.id, "target_id": target.id, "status": "dispatched"})
    );
}

async fn a_look_takes_nothing(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let root = api.create_workspace("root", None, None).await;
    let caller = api.create_workspace("caller", Some(&root), None).await;
    let poller = api.create_poll_workspace("poller", Some(&root)).await;
    let id = api.delegated(&caller, &poller, "work").await;
    api.wait_until_status(&caller, &id, &["queued"]).await;
    let own = As::Workspace(&poller);
    for rest in ["inbox?peek=true", "activity?type=a2a_receive&peek=true"] {
        let reply = api
            .get(own, &format!("/workspaces/{}/{rest}", poller.id))
            .await
            .expect(200);
        assert!(reply.text.contains(&id), "{}", reply.text);
    }
    // What had been fetched would be told in order before this.
    api.activity(&caller, "limit=1").await.expect(200);
    let whole = api.delegation(&caller, &id).await.expect(200);
    assert_eq!(
        (whole.str("status"), whole.str("waiting_for")),
        ("queued", "poll")
    );
    let line = lines(api, As::Admin, "").await.expect(200).body["delegations"][0].clone();
    assert_eq!(
        (&line["waiting_for"], &line["status"]),
        (&json!("poll"), &json!("queued"))
    );
    assert!(line["next_attempt_at"].is_string(), "{line:#}");
    api.inbox(&poller, 10, 0).await.expect(200);
    api.wait_until_status(&caller, &id, &["received"]).await;
}

async fn what_makes_no_sense_is_refused_by_name(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { caller, .. } = server.family(NOWHERE).await;
    let api = server.api();
    let long = format!("q={}", "x".repeat(201));
    for (query, field) in [
        ("status=lost", "status"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("before=yesterday", "before"),
        ("workspace_id=x", "workspace_id"),
        (&*long, "q"),
    ] {
        let refused = lines(api, As::Admin, query).await.expect(400);
        assert_eq!(refused.body["field"], field, "{query}");
        assert!(refused.body["reason"].is_string());
    }
    let id = json!({"caller_id": caller.id, "delegation_id": "d"});
    for (path, body, field) in [
        ("lines", json!({}), "ids"),
        ("lines", json!({"ids": vec![&id; 201]}), "ids"),
        (
            "lines",
            json!({"ids": [{"caller_id": "x", "delegation_id": "d"}]}),
            "ids",
        ),
        ("lines", json!([]), "body"),
        ("cancel", json!({"ids": vec![&id; 501]}), "ids"),
        ("cancel", json!({"ids": [&id], "status": "stuck"}), "ids"),
        ("cancel", json!({"reason": 1}), "reason"),
        (
            "retry",
            json!({"status": "ended", "dry_run": "yes"}),
            "dry_run",
        ),
        (
            "retry",
            json!({"status": "ended", "dryrun": true}),
            "dryrun",
        ),
        ("cancel", json!({"dry_run": true}), "status"),
        ("cancel", json!({"ids": null, "q": "x"}), "status"),
        (
            "retry",
            json!({"workspace_id": caller.id, "status": ""}),
            "status",
        ),
        ("retry", json!({"before": 7}), "before"),
        ("retry", json!({"status": ["failed"]}), "status"),
    ] {
        let refused = api
            .post(As::Admin, &format!("/canvas/delegations/{path}"), &body)
            .await;
        let refused = refused.expect(400);
        assert_eq!(refused.body["field"], field, "{path} {body}");
    }
    for path in ["x/y", &*format!("{}/unknown", caller.id)] {
        api.admin_get(&format!("/canvas/delegations/{path}"))
            .await
            .expect(404);
    }
}
