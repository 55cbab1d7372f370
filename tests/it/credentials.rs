//! What targets want to see of who calls them: it gets there, and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent, LongWork};
use crate::support::client::{As, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::hook::Hook;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    each_target_sees_what_it_wants_to_on_every_request,
    what_a_target_says_again_of_its_secret_is_masked,
    secrets_are_nowhere_to_be_found,
    credentials_that_cannot_be_sent_are_refused,
);
crate::on_postgres!(without_a_key_no_secret_is_stored_on_postgres);

const SECRET: &str = "correct-horse/battery+staple";

async fn patch(server: &Server, workspace: &Workspace, credentials: &Value) {
    let path = format!("/workspaces/{}", workspace.id);
    let body = json!({"credentials": credentials});
    let own = As::Workspace(workspace);
    let reply = server.api().request(Method::PATCH, own, &path, Some(&body));
    reply.await.expect(200);
}

/// A task that is asked after to its end, and one that is withdrawn.
async fn every_request(server: &Server, agent: &FakeAgent, family: &Family) {
    let (api, Family { caller, target, .. }) = (server.api(), family);
    agent.behave(Behaviour::Work(LongWork::after(2, "completed", "the end")));
    let id = api.delegated(caller, target, "go").await;
    api.wait_until_ended(caller, &id).await;
    agent.behave(Behaviour::Work(LongWork::until_finished("never")));
    let id = api.delegated(caller, target, "go").await;
    api.wait_until_status(caller, &id, &["in_progress"]).await;
    let told = agent.named_by("tasks/cancel").len();
    api.cancel(caller, &id, "").await.expect(200);
    eventually("it is told", async || {
        (agent.named_by("tasks/cancel").len() > told).then_some(())
    })
    .await;
}

async fn each_target_sees_what_it_wants_to_on_every_request(database: Database) {
    let server = Server::start(&database, &[("BATON_RETRY_BASE_MS", "50")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let family = server.family(&agent.url()).await;
    let bearer = format!("Bearer {SECRET}");
    let mut seen = 0;
    for (credentials, shown) in [
        (Value::Null, None),
        (
            json!({"scheme": "bearer", "token": SECRET}),
            Some(("authorization", &*bearer)),
        ),
        (
            json!({"scheme": "api_key", "header": "X-Api-Key", "value": SECRET}),
            Some(("x-api-key", SECRET)),
        ),
        (
            json!({"scheme": "basic", "username": "user", "password": "pass:word"}),
            Some(("authorization", "Basic dXNlcjpwYXNzOndvcmQ=")),
        ),
        (Value::Null, None),
    ] {
        patch(&server, &family.target, &credentials).await;
        every_request(&server, &agent, &family).await;
        let path = format!("/workspaces/{}", family.target.id);
        let own = As::Workspace(&family.target);
        let view = server.api().get(own, &path).await.expect(200);
        assert_eq!(view.body["credentials"], credentials["scheme"]);
        assert!(
            !view.text.contains(SECRET),
            "the scheme is all that is shown"
        );
        let requests = agent.requests().split_off(seen);
        seen += requests.len();
        for method in ["message/send", "tasks/get", "tasks/cancel"] {
            assert!(requests.iter().any(|one| one.method == method));
        }
        for request in requests {
            for name in ["authorization", "x-api-key"] {
                let expected = shown.filter(|(shown, _)| *shown == name);
                let expected = expected.map(|(_, value)| value);
                assert_eq!(request.header(name), expected, "{request:?}");
            }
        }
    }
}

async fn what_a_target_says_again_of_its_secret_is_masked(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let said = format!("Bearer token {SECRET} is not known");
    let agent = FakeAgent::start(Behaviour::Error(-32000, said.clone())).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    patch(
        &server,
        &target,
        &json!({"scheme": "bearer", "token": SECRET}),
    )
    .await;
    for behaviour in [
        Behaviour::Error(-32000, said.clone()),
        Behaviour::Status(401, said.clone()),
        Behaviour::Answer(said.clone()),
    ] {
        agent.behave(behaviour);
        let id = api.delegated(&caller, &target, "go").await;
        api.wait_until_ended(&caller, &id).await;
        let path = format!(
            "/workspaces/{}/delegations/{id}?include=task,raw",
            caller.id
        );
        let whole = api.get(As::Workspace(&caller), &path).await.expect(200);
        let raw = STANDARD.decode(whole.str("raw_result")).expect("base64");
        let all = format!("{} {}", whole.text, String::from_utf8_lossy(&raw));
        assert!(!all.contains("battery") && all.contains("***"), "{all}");
    }
    let rows = api.activity(&caller, "limit=500").await.expect(200);
    assert!(!rows.text.contains("battery"), "{}", rows.text);
    assert!(!server.log().contains("battery"), "{}", server.log());
}

/// What is shown to the admin, who may see everything.
async fn all_that_is_shown(server: &Server, caller: &str, target: &str, id: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for path in [
        "/workspaces",
        &format!("/workspaces/{target}"),
        &format!("/workspaces/{caller}/webhooks"),
        &format!("/registry/{caller}/peers"),
        &format!("/registry/discover/{target}"),
        "/admin/receivers",
        "/events",
        "/metrics",
        &format!("/workspaces/{caller}/delegations/{id}?include=task,raw"),
        &format!("/workspaces/{caller}/activity?limit=500"),
    ] {
        texts.push(server.api().admin_get(path).await.expect(200).text);
    }
    texts
}

/// All that is stored of secrets, and with SQLite the files themselves.
fn all_that_is_stored(database: &Database) -> Vec<Vec<u8>> {
    // What is in hexadecimal digits here is looked for in the file there.
    let sealed = if database.is_sqlite() {
        "hex(sealed)"
    } else {
        "CAST(sealed AS text)"
    };
    let stored = [
        "SELECT credentials FROM workspaces",
        &format!("SELECT {sealed} FROM push_receivers"),
    ];
    let texts = stored.iter().flat_map(|sql| database.texts(sql)).flatten();
    let mut all: Vec<Vec<u8>> = texts.map(String::into_bytes).collect();
    assert!(all.len() >= 2);
    if database.is_sqlite() {
        for entry in std::fs::read_dir(database.directory()).expect("the database") {
            all.push(std::fs::read(entry.expect("a file").path()).expect("its bytes"));
        }
    }
    all
}

async fn secrets_are_nowhere_to_be_found(database: Database) {
    let server = Server::start(&database, &[("BATON_LOG", "debug")]).await;
    let api = server.api();
    let agent = FakeAgent::start(Behaviour::Status(401, "no".to_owned())).await;
    let Family { root, caller, .. } = server.family(&agent.url()).await;
    let hook = Hook::start().await;
    hook.answers(500);
    let path = format!("/workspaces/{}/webhooks", caller.id);
    let body = json!({"url": hook.url()});
    let made = api.post(As::Workspace(&caller), &path, &body);
    let signing = made.await.expect(201).str("secret").to_owned();
    let credentials = json!({"scheme": "bearer", "token": SECRET});
    let body = json!({
        "name": "secretive", "external": true, "parent_id": root.id, "url": agent.url(),
        "credentials": credentials,
    });
    let target = api.create_workspace_with(&body).await;
    let body =
        json!({"id": target.id, "url": agent.url(), "agent_card": {}, "credentials": credentials});
    let registered = api.post(As::Workspace(&target), "/registry/register", &body);
    registered.await.expect(200);
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &id).await;
    eventually("the webhook failed", async || {
        (!hook.told().is_empty()).then_some(())
    })
    .await;
    let mut all = all_that_is_stored(&database);
    let shown = all_that_is_shown(&server, &caller.id, &target.id, &id).await;
    assert_eq!(server.terminate().await.code(), Some(0));
    all.extend(
        shown
            .into_iter()
            .chain([server.log()])
            .map(String::into_bytes),
    );
    all.extend(all_that_is_stored(&database));
    for secret in [SECRET, &signing, signing.trim_start_matches("whsec_")] {
        let found = |text: &Vec<u8>| {
            let mut parts = text.windows(secret.len());
            parts.any(|part| part == secret.as_bytes())
        };
        assert!(!all.iter().any(found), "{secret}");
    }
    let last = agent.messages().pop().expect("a message");
    assert_eq!(
        last.header("authorization"),
        Some(&*format!("Bearer {SECRET}"))
    );
}

async fn credentials_that_cannot_be_sent_are_refused(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let target = api.create_workspace("target", None, None).await;
    let path = format!("/workspaces/{}", target.id);
    for (credentials, field) in [
        (json!({"scheme": "digest"}), "credentials.scheme"),
        (
            json!({"scheme": "bearer", "token": "a\r\nHost: b"}),
            "credentials.token",
        ),
        (
            json!({"scheme": "api_key", "header": "Content-Length", "value": "1"}),
            "credentials.header",
        ),
        (
            json!({"scheme": "api_key", "header": "X\r\nY", "value": "1"}),
            "credentials.header",
        ),
        (json!([]), "credentials"),
    ] {
        let body = json!({"credentials": credentials});
        let own = As::Workspace(&target);
        let refused = api
            .request(Method::PATCH, own, &path, Some(&body))
            .await
            .expect(400);
        assert_eq!(refused.str("field"), field);
        let body = json!({"name": "x", "credentials": credentials});
        let refused = api.admin_post("/workspaces", &body).await.expect(400);
        assert_eq!(refused.str("field"), field);
        let body = json!({"id": target.id, "url": "http://127.0.0.1:9/", "agent_card": {}, "credentials": credentials});
        let refused = api.post(own, "/registry/register", &body).await.expect(400);
        assert_eq!(refused.str("field"), field);
    }
}

async fn without_a_key_no_secret_is_stored_on_postgres(database: Database) {
    let server = Server::start_without(&database, &["BATON_SECRET_KEY"], &[]).await;
    let api = server.api();
    let caller = api.create_workspace("caller", None, None).await;
    let own = As::Workspace(&caller);
    let path = format!("/workspaces/{}", caller.id);
    let hook = json!({"url": "http://127.0.0.1:9/"});
    let credentials = json!({"credentials": {"scheme": "bearer", "token": "abc"}});
    for refused in [
        api.post(own, &format!("{path}/webhooks"), &hook).await,
        api.request(Method::PATCH, own, &path, Some(&credentials))
            .await,
    ] {
        let refused = refused.expect(503);
        assert_eq!(refused.str("code"), "secret_key_missing");
        assert!(
            refused.str("error").contains("BATON_SECRET_KEY"),
            "{}",
            refused.text
        );
    }
}
