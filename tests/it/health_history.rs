//! How a node is and how its last hour was: `GET /canvas/health`.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::faults::counter;
use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    what_happened_adds_up_over_the_samples,
    after_gives_only_what_is_later,
    only_the_admin_is_told,
    an_open_breaker_and_those_who_wait_are_shown,
    an_hour_is_kept_and_no_more,
    the_check_is_made_once_a_minute,
    what_is_refused_for_want_of_room_is_counted,
);

crate::on_postgres!(without_the_database_the_rest_is_told);

const FAST: (&str, &str) = ("BATON_HISTORY_STEP_MS", "50");
const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "20");
/// How long the agent takes over each task.
const WORK: Duration = Duration::from_millis(30);

async fn health(api: &Api, query: &str) -> Value {
    let path = format!("/canvas/health{query}");
    api.admin_get(&path).await.expect(200).body
}

fn column<'a>(health: &'a Value, name: &str) -> &'a [Value] {
    health["samples"][name].as_array().unwrap()
}

fn total(counts: &Value) -> u64 {
    let counts = counts.as_array().map_or(&[][..], Vec::as_slice);
    counts.iter().map(|count| count.as_u64().unwrap()).sum()
}

/// The times that were measured.
fn measured(health: &Value, name: &str) -> Vec<f64> {
    column(health, name)
        .iter()
        .filter_map(Value::as_f64)
        .collect()
}

/// The answer with the first sample that is later than everything before.
async fn next_sample(api: &Api) -> Value {
    let last = health(api, "").await["samples"]["at"]
        .as_array()
        .unwrap()
        .last()
        .cloned();
    eventually("another sample", async || {
        let health = health(api, "").await;
        (column(&health, "at").last().cloned() != last).then_some(health)
    })
    .await
}

/// Every column is as long as `at`, which grows.
fn assert_columns(health: &Value) {
    let at: Vec<i64> = column(health, "at")
        .iter()
        .map(|at| at.as_i64().unwrap())
        .collect();
    assert!(at.is_sorted_by(|one, other| one < other), "{at:?}");
    let samples = health["samples"].as_object().unwrap();
    let nested = ["statuses", "classes"].map(|name| samples[name].as_object().unwrap());
    let columns = samples
        .values()
        .chain(nested.into_iter().flat_map(|columns| columns.values()));
    for column in columns.filter_map(Value::as_array) {
        assert_eq!(column.len(), at.len(), "{health:#}");
    }
    for name in ["accept", "commit", "call", "lasting"] {
        for quantile in ["p50", "p99"] {
            assert_eq!(
                column(health, &format!("{name}_{quantile}")).len(),
                at.len()
            );
        }
    }
}

async fn what_happened_adds_up_over_the_samples(database: Database) {
    let server = Server::start(&database, &[FAST, SOON]).await;
    let agent = FakeAgent::start(Behaviour::after(WORK, Behaviour::Echo)).await;
    let family = server.family(&agent.url()).await;
    let api = server.api();
    let quiet = next_sample(api).await;
    for name in ["accept", "call", "lasting"] {
        let none = [
            measured(&quiet, &format!("{name}_p50")),
            measured(&quiet, &format!("{name}_p99")),
        ];
        assert_eq!(none, [[0.0; 0]; 2], "nothing happened: {quiet:#}");
    }
    assert_eq!(total(&quiet["samples"]["accepted"]), 0);
    sixteen_delegations(api, &family).await;
    let ends = ["completed", "failed", "cancelled"];
    let live = eventually(
        "all but three ended, and the samples tell of it",
        async || {
            let health = health(api, "").await;
            let last = column(&health, "live").last()?.as_u64()?;
            let ended: u64 = ends
                .iter()
                .map(|name| total(&health["samples"][name]))
                .sum();
            (last == 3 && ended == 13).then_some(health)
        },
    )
    .await;
    assert_columns(&live);
    assert_counts(&live["samples"]);
    assert_times(&live);
    assert_surroundings(&live);
    let class = "baton_delegations_ended_total{status=\"failed\",class=\"refused\"}";
    assert_eq!(counter(api, class).await, 3);
    let completed = "baton_delegations_ended_total{status=\"completed\"}";
    assert_eq!(counter(api, completed).await, 7);
}

/// Seven are answered, three refused; of six that wait for a poller one is withdrawn, one reported as failed, and one too late.
async fn sixteen_delegations(api: &Api, family: &Family) {
    let Family {
        root,
        caller,
        target,
    } = family;
    let refusing = FakeAgent::start(Behaviour::Error(-32000, "no".to_owned())).await;
    let refusing = api
        .create_workspace("refusing", Some(root), Some(&refusing.url()))
        .await;
    let poller = api.create_poll_workspace("poller", Some(root)).await;
    join_all((0..7).map(|_| api.delegated(caller, target, "go"))).await;
    let refused = join_all((0..3).map(|_| api.delegated(caller, &refusing, "go"))).await;
    for id in refused {
        api.wait_until_ended(caller, &id).await;
    }
    let waiting = join_all((0..5).map(|_| api.delegated(caller, &poller, "go"))).await;
    let late = json!({"target_id": poller.id, "task": "go", "deadline_seconds": 1});
    api.delegate_with(caller, &late).await.expect(202);
    api.cancel(caller, &waiting[0], "no need").await.expect(200);
    let report = api.report_failed(&poller, &waiting[1], "out of ink").await;
    report.expect(200);
}

fn assert_counts(samples: &Value) {
    let totals =
        ["accepted", "completed", "failed", "cancelled", "shed"].map(|name| total(&samples[name]));
    assert_eq!(totals, [16, 7, 5, 1, 0], "{samples:#}");
    let classes = samples["classes"].as_object().unwrap().iter();
    let classes: Vec<_> = classes
        .map(|(class, counts)| (class.as_str(), total(counts)))
        .collect();
    assert_eq!(
        classes,
        [("deadline_exceeded", 1), ("refused", 3), ("reported", 1)]
    );
    let queued = samples["statuses"]["queued"].as_array().unwrap();
    assert_eq!(queued.last(), Some(&json!(3)), "{samples:#}");
}

fn assert_times(health: &Value) {
    for name in ["accept", "commit", "call", "lasting"] {
        let half = measured(health, &format!("{name}_p50"));
        let most = measured(health, &format!("{name}_p99"));
        assert!(
            !half.is_empty() && half.len() == most.len(),
            "{name}: {health:#}"
        );
        let mut both = half.iter().zip(&most);
        assert!(
            both.all(|(half, most)| *half > 0.0 && half <= most),
            "{name}: {health:#}"
        );
    }
    let slowest = measured(health, "call_p99").into_iter().fold(0.0, f64::max);
    let least = WORK.as_secs_f64() * 1000.0 * 0.96;
    assert!((least..30_000.0).contains(&slowest), "{slowest}");
}

fn assert_surroundings(health: &Value) {
    assert_eq!(health["invariants"]["violations"], 0, "{health:#}");
    let nodes = health["nodes"].as_array().unwrap().iter();
    let own = nodes.filter(|node| node["self"] == true);
    let own: Vec<_> = own
        .map(|node| (&node["id"], &node["holder"], &node["expired"]))
        .collect();
    assert_eq!(own, [(&health["node"], &health["node"], &json!(false))]);
    let pulse = &health["liveness"]["subsystems"]["history"];
    assert!(pulse["seconds_ago"].as_u64().unwrap() <= 2, "{pulse}");
}

async fn after_gives_only_what_is_later(database: Database) {
    let server = Server::start(&database, &[FAST]).await;
    let api = server.api();
    let first = eventually("some samples", async || {
        let health = health(api, "").await;
        (column(&health, "at").len() >= 3).then_some(health)
    })
    .await;
    assert_eq!(first["step_ms"], 50);
    let second = column(&first, "at")[1].as_i64().unwrap();
    let later = health(api, &format!("?after={second}")).await;
    assert_columns(&later);
    assert_eq!(column(&later, "at")[0], column(&first, "at")[2]);
    assert_eq!(later["started_at"], first["started_at"]);
    let none = health(api, &format!("?after={}", i64::MAX)).await;
    assert_columns(&none);
    assert_eq!(column(&none, "at").len(), 0);
    let refusal = api
        .admin_get("/canvas/health?after=yesterday")
        .await
        .expect(400);
    assert_eq!(refusal.str("field"), "after");

    server.restart().await;
    let anew = next_sample(api).await;
    assert_ne!(anew["started_at"], first["started_at"]);
    let begun = column(&anew, "at")[0].as_i64();
    assert!(
        begun > column(&first, "at")[2].as_i64(),
        "its history is its own"
    );
}

async fn only_the_admin_is_told(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let workspace = api.create_workspace("curious", None, None).await;
    let refusal = api
        .get(As::Workspace(&workspace), "/canvas/health")
        .await
        .expect(403);
    assert_eq!(refusal.str("error"), "admin only");
    for nobody in [As::Nobody, As::Bearer("guessed")] {
        api.get(nobody, "/canvas/health").await.expect(401);
    }
    // Ten seconds, unless somebody says otherwise: so far there is no sample.
    let first = health(api, "").await;
    assert_eq!(
        (&first["step_ms"], &first["samples"]["at"]),
        (&json!(10_000), &json!([]))
    );
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
}

async fn an_open_breaker_and_those_who_wait_are_shown(database: Database) {
    let server = Server::start(&database, &[FAST, SOON]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.stop();
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    assert_eq!(health(api, "").await["lines"], json!([]));
    let holding = FakeAgent::start(Behaviour::Echo).await;
    holding.hold();
    let healthy = api
        .create_workspace("healthy", Some(&root), Some(&holding.url()))
        .await;
    api.delegated(&caller, &healthy, "go").await;
    holding.wait_for(1).await;
    let nowhere = api.create_workspace("nowhere", Some(&root), None).await;
    join_all((0..3).map(|_| api.delegated(&caller, &nowhere, "go"))).await;
    api.delegated(&caller, &target, "go").await;
    let lines = eventually("the breaker opens", async || {
        let lines = health(api, "").await["lines"].as_array().unwrap().clone();
        let is_open = lines.iter().any(|line| line["breaker"] == "open");
        (is_open && lines.len() == 2).then_some(lines)
    })
    .await;
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                &line["workspace_id"],
                &line["waiting"],
                &line["waiting_for"],
            )
        })
        .collect();
    let (nowhere, target) = (json!(nowhere.id), json!(target.id));
    // The longest first. Who works and keeps nobody waiting is not there.
    let expected = [
        (&nowhere, &json!(3), &json!("address")),
        (&target, &json!(1), &json!("unreachable")),
    ];
    assert_eq!(seen, expected, "{lines:#?}");
    assert!(
        lines[1]["failures"].as_u64().unwrap() >= 5 && lines[1]["failing_since"].is_string(),
        "{lines:#?}"
    );
    let health = next_sample(api).await;
    // The one that is held, and perhaps one that finds out about the other target.
    assert!(
        column(&health, "calls").last().unwrap().as_u64() >= Some(1),
        "{health:#}"
    );
}

async fn an_hour_is_kept_and_no_more(database: Database) {
    let server = Server::start(&database, &[("BATON_HISTORY_STEP_MS", "10")]).await;
    let api = server.api();
    let full = eventually("as many samples as are kept", async || {
        let health = health(api, "").await;
        (column(&health, "at").len() >= 360).then_some(health)
    })
    .await;
    let oldest = column(&full, "at")[0].as_i64();
    let later = eventually("the oldest is forgotten", async || {
        let health = health(api, "").await;
        (column(&health, "at")[0].as_i64() > oldest).then_some(health)
    })
    .await;
    assert_columns(&later);
    assert_eq!(column(&later, "at").len(), 360);
}

async fn the_check_is_made_once_a_minute(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let checked = health(api, "").await["invariants"].clone();
    assert_eq!(
        (&checked["checked"], &checked["violations"]),
        (&json!(0), &json!(0))
    );
    let Family { caller, target, .. } = server.family("http://127.0.0.1:9").await;
    api.delegated(&caller, &target, "go").await;
    assert_eq!(health(api, "").await["invariants"], checked);
}

async fn what_is_refused_for_want_of_room_is_counted(database: Database) {
    let server = Server::start(&database, &[FAST, ("BATON_MAX_LIVE", "2")]).await;
    let api = server.api();
    let root = api.create_workspace("root", None, None).await;
    let poller = api.create_poll_workspace("poller", Some(&root)).await;
    for status in [202, 202, 503, 503, 503] {
        api.delegate(&root, &poller, "go").await.expect(status);
    }
    let health = next_sample(api).await;
    let totals = ["accepted", "shed"].map(|name| total(&health["samples"][name]));
    assert_eq!(totals, [2, 3], "{health:#}");
}

async fn without_the_database_the_rest_is_told(database: Database) {
    let proxy = Proxy::before(&database).await;
    let server = Server::start(&database, &[FAST, ("DATABASE_URL", proxy.url())]).await;
    let api = server.api();
    proxy.freeze();
    let begun = Instant::now();
    let away = health(api, "").await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        (&away["nodes"], &away["invariants"]),
        (&Value::Null, &Value::Null)
    );
    assert_columns(&away);
    let later = next_sample(api).await;
    assert!(later["liveness"]["subsystems"]["history"].is_object());
    proxy.open();
    eventually("the database is asked again", async || {
        let back = health(api, "").await;
        (back["nodes"].is_array() && back["invariants"].is_object()).then_some(())
    })
    .await;
}
