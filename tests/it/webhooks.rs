//! Webhooks: each ending is told, at least once and in order, whoever fails meanwhile; and nobody else's work waits for it.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::hook::{Hook, Told};
use crate::support::server::{Family, INBOX_PUSH, Server};

crate::on_both_databases!(
    the_page_about_webhooks_does_what_it_says,
    each_ending_is_told_once_it_is_taken_in_order_and_signed,
    a_slow_receiver_keeps_nobody_waiting,
    what_was_not_told_before_a_kill_is_told_after_it_in_order,
    a_receiver_that_fails_for_too_long_is_kept_and_told_on_when_replayed,
    who_is_gone_or_deleted_is_told_no_more,
    nobody_is_told_where_baton_may_not_call,
    without_replies_the_result_is_told,
);
crate::on_postgres!(two_nodes_tell_each_ending_once_and_one_takes_over_from_the_other,);

const PAGE: &str = include_str!("../../docs/WEBHOOKS.md");

/// What stands between two markers of the page, without the fence.
fn block(marker: &str) -> &'static str {
    let (_, rest) = PAGE
        .split_once(&format!("<!-- {marker} -->"))
        .expect("a start");
    let (block, _) = rest
        .split_once(&format!("<!-- /{marker} -->"))
        .expect("an end");
    let (_, block) = block.split_once("```").expect("a fence");
    let (_, block) = block.split_once('\n').expect("a language");
    block
        .trim_end()
        .strip_suffix("```")
        .expect("the fence's end")
}

async fn the_page_about_webhooks_does_what_it_says(database: Database) {
    let server = Server::start(&database, &[]).await;
    let family = server.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    let mut script = block("webhook").to_owned();
    for (usual, here) in [
        ("http://127.0.0.1:8080", server.api().base()),
        ("https://receiver.example/replies", hook.url()),
    ] {
        assert!(script.contains(usual));
        script = script.replace(usual, &here);
    }
    let output = Command::new("sh")
        .args(["-eu", "-c", &script])
        .env("ID", &family.caller.id)
        .env("TOKEN", &family.caller.token)
        .env("TARGET", &family.target.id)
        .output()
        .await
        .expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("\"state\":\"live\""),
        "{said}"
    );
    hook.wait_for(1).await;
    let told = &hook.taken()[0];
    assert_eq!(told.body["data"]["response_body"]["text"], "1 2 3");
    let (_, secret) = said.split_once("\"secret\":\"").expect("a secret");
    let (secret, _) = secret.split_once('"').expect("its end");
    let check = format!(
        "{}\nimport json, sys\nheaders, body = json.loads(sys.argv[1]), sys.argv[2].encode()\n\
         print(is_genuine({secret:?}, headers, body), is_genuine({secret:?}, headers, body + b' '))",
        block("verify")
    );
    let headers: serde_json::Map<String, Value> = told
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    let headers = Value::Object(headers).to_string();
    let body = String::from_utf8_lossy(&told.raw).into_owned();
    let python = Command::new("python3")
        .args(["-c", &check, &headers, &body])
        .output()
        .await;
    match python {
        Ok(output) => assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "True False\n",
            "{output:?}"
        ),
        Err(error) => println!("SKIPPED: there is no Python to verify a signature with: {error}"),
    }
}

/// A webhook of this workspace, as it was made.
async fn webhook(api: &Api, owner: &Workspace, hook: &Hook) -> Reply {
    let path = format!("/workspaces/{}/webhooks", owner.id);
    let body = json!({"url": hook.url()});
    api.post(As::Workspace(owner), &path, &body)
        .await
        .expect(201)
}

/// Delegations that ended, in this order.
async fn endings(api: &Api, family: &Family, numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in numbers {
        let id = format!("d-{number}");
        let (caller, target) = (&family.caller, &family.target);
        api.record(caller, target, &id, "x").await.expect(202);
        api.report_completed(target, &id, "done").await.expect(200);
        ids.push(id);
    }
    ids
}

fn assert_signed(told: &Told, secret: &str) {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let header = |name: &str| told.header(name).unwrap().to_owned();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let mut content = format!("{id}.{at}.").into_bytes();
    content.extend_from_slice(&told.raw);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let expected = STANDARD.encode(ring::hmac::sign(&key, &content));
    assert_eq!(header("webhook-signature"), format!("v1,{expected}"));
}

async fn each_ending_is_told_once_it_is_taken_in_order_and_signed(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let family = server.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    hook.first([500, 500, 200]);
    let made = webhook(api, &family.caller, &hook).await;
    let ids = endings(api, &family, 0..20).await;
    assert_eq!(hook.wait_for(20).await, ids);
    let told = hook.told();
    let again: Vec<_> = told[..3]
        .iter()
        .map(|told| told.header("webhook-id"))
        .collect();
    assert!(again.iter().all(|id| *id == again[0]), "{again:?}");
    for told in &told {
        assert_signed(told, made.str("secret"));
    }
    let taken = hook.taken();
    let places: Vec<i64> = taken
        .iter()
        .filter_map(|told| told.body["seq"].as_i64())
        .collect();
    assert!(places.is_sorted_by(|one, next| one < next) && places.len() == 20);
    let replies = api.feed(&family.caller, "a2a_receive").await;
    for (told, reply) in taken.iter().zip(&replies) {
        assert_eq!(told.body["type"], "reply");
        assert_eq!(told.body["workspace_id"], *family.caller.id);
        assert_eq!(told.body["data"], *reply, "as the inbox shows it");
    }
    let list = listed(api, &family.caller).await;
    assert_eq!(
        (&list["state"], &list["failures"]),
        (&json!("live"), &json!(0))
    );
    assert_eq!(list["id"], made.body["id"]);
    server.assert_invariants().await;
}

/// The one webhook of a workspace.
async fn listed(api: &Api, owner: &Workspace) -> Value {
    let path = format!("/workspaces/{}/webhooks", owner.id);
    let reply = api.get(As::Workspace(owner), &path).await.expect(200);
    assert!(!reply.text.contains("whsec_"), "{}", reply.text);
    reply.body["webhooks"][0].clone()
}

async fn a_slow_receiver_keeps_nobody_waiting(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let api = server.api();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let (slow, quick) = (Hook::start().await, Hook::start().await);
    slow.takes(Duration::from_secs(2));
    webhook(api, &caller, &slow).await;
    webhook(api, &caller, &quick).await;
    let began = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = api.delegated(&caller, &target, "go").await;
        api.wait_until_ended(&caller, &id).await;
        ids.push(id);
    }
    assert_eq!(quick.wait_for(3).await, ids);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1900), "{took:?}");
    assert_eq!(slow.taken().len(), 0);
    assert_eq!(slow.wait_for(3).await, ids);
}

async fn what_was_not_told_before_a_kill_is_told_after_it_in_order(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let family = server.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    webhook(api, &family.caller, &hook).await;
    let mut ids = endings(api, &family, 0..3).await;
    hook.wait_for(3).await;
    hook.hold();
    ids.extend(endings(api, &family, 3..103).await);
    eventually("one is on its way", async || {
        (hook.began() > 3).then_some(())
    })
    .await;
    server.kill9();
    hook.release();
    server.start_again().await;
    assert_eq!(hook.wait_for(103).await, ids);
    ids.extend(endings(api, &family, 103..105).await);
    assert_eq!(hook.wait_for(105).await, ids);
    server.assert_invariants().await;
}

async fn receivers(api: &Api, state: &str) -> Vec<Value> {
    let path = format!("/admin/receivers?state={state}");
    let reply = api.admin_get(&path).await.expect(200);
    reply.body["receivers"].as_array().expect("a list").clone()
}

async fn wait_until_dead(api: &Api) -> Value {
    eventually("the receiver is dead", async || {
        receivers(api, "dead").await.pop()
    })
    .await
}

async fn a_receiver_that_fails_for_too_long_is_kept_and_told_on_when_replayed(database: Database) {
    let server = Server::start(&database, &[("BATON_PUSH_GIVE_UP_S", "1")]).await;
    let api = server.api();
    let family = server.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    hook.answers(500);
    webhook(api, &family.caller, &hook).await;
    let mut ids = endings(api, &family, 0..2).await;
    let dead = wait_until_dead(api).await;
    assert_eq!(dead["last_error"], "it answered 500");
    assert_eq!(dead["workspace_id"], *family.caller.id);
    assert_eq!(listed(api, &family.caller).await["state"], "dead");
    let tries = hook.began();
    ids.extend(endings(api, &family, 2..4).await);
    server.restart().await;
    hook.answers(200);
    let path = format!("/admin/receivers/{}/replay", dead["id"].as_str().unwrap());
    assert_eq!(hook.began(), tries, "it is told no more");
    api.admin_post(&path, &json!({})).await.expect(200);
    assert_eq!(hook.wait_for(4).await, ids);
    api.admin_post(&path, &json!({})).await.expect(404);
    assert_eq!(receivers(api, "live").await.len(), 1);
    api.admin_get("/admin/receivers?state=lost")
        .await
        .expect(400);
    let unknown = format!("/admin/receivers/{}/replay", uuid::Uuid::new_v4());
    api.admin_post(&unknown, &json!({})).await.expect(404);
}

async fn who_is_gone_or_deleted_is_told_no_more(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let family = server.family("http://127.0.0.1:1/").await;
    let (gone, deleted, stays) = (
        Hook::start().await,
        Hook::start().await,
        Hook::start().await,
    );
    gone.answers(410);
    webhook(api, &family.caller, &gone).await;
    let made = webhook(api, &family.caller, &deleted).await;
    webhook(api, &family.caller, &stays).await;
    endings(api, &family, 0..1).await;
    stays.wait_for(1).await;
    deleted.wait_for(1).await;
    let dead = wait_until_dead(api).await;
    assert_eq!((gone.began(), &dead["failures"]), (1, &json!(1)));
    let path = format!(
        "/workspaces/{}/webhooks/{}",
        family.caller.id,
        made.str("id")
    );
    let own = As::Workspace(&family.caller);
    let foreign = As::Workspace(&family.target);
    api.request(Method::DELETE, foreign, &path, None)
        .await
        .expect(401);
    api.request(Method::DELETE, own, &path, None)
        .await
        .expect(200);
    api.request(Method::DELETE, own, &path, None)
        .await
        .expect(404);
    endings(api, &family, 1..3).await;
    stays.wait_for(3).await;
    assert_eq!((gone.began(), deleted.began()), (1, 1));
    // A workspace that is gone has nobody to tell.
    let path = format!("/workspaces/{}", family.caller.id);
    api.request(Method::DELETE, As::Admin, &path, None)
        .await
        .expect(200);
    assert_eq!(database.count("SELECT count(*) FROM push_receivers"), 0);
}

async fn nobody_is_told_where_baton_may_not_call(database: Database) {
    let server = Server::start_without(&database, &["BATON_TARGET_ALLOW"], &[]).await;
    let api = server.api();
    let caller = api.create_workspace("caller", None, None).await;
    let path = format!("/workspaces/{}/webhooks", caller.id);
    for url in [
        "http://127.0.0.1:9/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://localhost/",
        "ftp://example.com/",
        "http://user:password@example.com/",
        "no url",
    ] {
        let body = json!({"url": url});
        let refused = api
            .post(As::Workspace(&caller), &path, &body)
            .await
            .expect(400);
        assert_eq!(refused.str("field"), "url", "{url}");
    }
    let own = As::Workspace(&caller);
    api.post(own, &path, &json!({})).await.expect(400);
    let odd = json!({"url": "http://x/", "secret": "a\nb"});
    assert_eq!(
        api.post(own, &path, &odd).await.expect(400).str("field"),
        "secret"
    );
    let server = Server::start(&Database::sqlite(), &[]).await;
    let api = server.api();
    let family = server.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    hook.answers(302);
    webhook(api, &family.caller, &hook).await;
    endings(api, &family, 0..1).await;
    let why = eventually("it failed", async || {
        let list = listed(api, &family.caller).await;
        list["last_error"].as_str().map(ToOwned::to_owned)
    });
    assert_eq!(why.await, "it answered 302", "nobody is followed elsewhere");
    for number in 0..8 {
        let body = json!({"url": hook.url()});
        let path = format!("/workspaces/{}/webhooks", family.caller.id);
        let status = if number < 7 { 201 } else { 429 };
        api.post(As::Workspace(&family.caller), &path, &body)
            .await
            .expect(status);
    }
}

async fn without_replies_the_result_is_told(database: Database) {
    let server = Server::start(&database, &[(INBOX_PUSH, "0")]).await;
    let api = server.api();
    let family = server.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    webhook(api, &family.caller, &hook).await;
    endings(api, &family, 0..1).await;
    hook.wait_for(1).await;
    let body = &hook.taken()[0].body;
    assert_eq!(body["type"], "reply");
    assert_eq!(body["data"]["activity_type"], "delegation");
    assert_eq!(body["data"]["response_body"]["text"], "done");
}

async fn two_nodes_tell_each_ending_once_and_one_takes_over_from_the_other(database: Database) {
    let lease = ("BATON_LEASE_MS", "1000");
    let one = Server::start(&database, &[lease]).await;
    let other = Server::start(&database, &[lease]).await;
    let family = one.family("http://127.0.0.1:1/").await;
    let hook = Hook::start().await;
    webhook(one.api(), &family.caller, &hook).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let api = [one.api(), other.api()][number % 2];
        ids.extend(endings(api, &family, number..number + 1).await);
    }
    assert_eq!(hook.wait_for(20).await, ids);
    assert_eq!(hook.began(), 20, "each by one node alone");
    hook.hold();
    ids.extend(endings(other.api(), &family, 20..40).await);
    eventually("one is on its way", async || {
        (hook.began() > 20).then_some(())
    })
    .await;
    one.kill9();
    hook.release();
    assert_eq!(hook.wait_for(40).await, ids);
    let mut told: Vec<String> = hook
        .told()
        .iter()
        .map(|told| told.delegation().to_owned())
        .collect();
    told.dedup();
    assert_eq!(told, ids, "nothing overtakes anything");
    // Through whichever node it is deleted, nobody tells it any more.
    one.start_again().await;
    let list = listed(one.api(), &family.caller).await;
    let path = format!(
        "/workspaces/{}/webhooks/{}",
        family.caller.id,
        list["id"].as_str().unwrap()
    );
    let own = As::Workspace(&family.caller);
    one.api()
        .request(Method::DELETE, own, &path, None)
        .await
        .expect(200);
    let stays = Hook::start().await;
    webhook(one.api(), &family.caller, &stays).await;
    let began = hook.began();
    endings(other.api(), &family, 40..41).await;
    stays.wait_for(1).await;
    assert_eq!(hook.began(), began);
}
