//! `baton bench`: every workload, small, with its books; and that it does not look away.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::database::Database;
use crate::support::server::{ADMIN_TOKEN, Family, Server};

crate::on_both_databases!(
    every_workload_is_measured_and_audited,
    those_who_watch_are_counted_and_each_sees_each_event,
    the_yardstick_and_the_limit_are_measured_beside_a_past,
    a_broken_promise_fails_the_bench,
);

/// Runs it, small.
async fn bench(database: &Database, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command
        .arg("bench")
        .args(arguments)
        .args(["--count", "50", "--workspaces", "4", "--clients", "8"])
        .args(["--targets", "2", "--warmup", "100ms"])
        .env("DATABASE_URL", database.url())
        .env("BATON_LOG", "warn");
    let run = move || command.output().expect("the binary");
    tokio::task::spawn_blocking(run).await.expect("a thread")
}

/// The reports of a run that ended well.
async fn reports(database: &Database, arguments: &[&str]) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path().display().to_string();
    let json = directory.path().join("bench.json");
    let file = json.display().to_string();
    let mut all = vec!["--json", &file];
    all.extend(arguments);
    if !arguments.contains(&"--url") {
        all.extend(["--directory", &place]);
    }
    let output = bench(database, &all).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    let written = std::fs::read_to_string(&json).expect("the figures");
    let left = std::fs::read_dir(directory.path()).expect("the directory");
    assert_eq!(left.count(), 1, "the databases are gone");
    let written: Value = serde_json::from_str(&written).expect("JSON");
    assert!(written["database"].is_string() && written["machine"]["cores"].is_u64());
    written["reports"].as_array().expect("reports").clone()
}

fn figure(report: &Value, name: &str) -> f64 {
    let median = report["figures"][name]["median"].as_f64();
    median.unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

async fn every_workload_is_measured_and_audited(database: Database) {
    let rates = [
        "update", "record", "delegate", "poll", "inbox", "longpoll", "sockets", "mixed", "overload",
    ];
    let mut arguments = rates.to_vec();
    arguments.extend(["waiting", "queued", "--waiting", "30", "--sockets", "8"]);
    let reports = reports(&database, &arguments).await;
    assert_eq!(reports.len(), rates.len() + 2);
    for report in &reports {
        assert_eq!(report["audit"], serde_json::json!([]), "{report:#}");
        assert_eq!(report["refusal"], Value::Null, "{report:#}");
    }
    for (report, name) in reports.iter().zip(rates) {
        assert_eq!(report["workload"], name);
        let done = figure(report, "operations") + figure(report, "shed");
        assert!((done - 50.0).abs() < 0.5, "{report:#}");
        assert!(figure(report, "p99_ms") > 0.0);
    }
    let replies: Vec<f64> = [2, 5, 6]
        .map(|index| figure(&reports[index], "replies"))
        .to_vec();
    // Two listeners at each workspace see each ending.
    assert_eq!(replies, [50.0, 50.0, 100.0]);
    for report in &reports[9..] {
        assert!((figure(report, "waiting") - 30.0).abs() < 0.5);
    }
}

async fn those_who_watch_are_counted_and_each_sees_each_event(database: Database) {
    let reports = reports(&database, &["watchers", "--watchers", "20"]).await;
    let [report] = &reports[..] else {
        panic!("one report: {reports:#?}");
    };
    assert_eq!(report["audit"], serde_json::json!([]), "{report:#}");
    for (name, expected) in [("watchers", 60.0), ("fan_out_to", 10.0), ("broken", 0.0)] {
        assert!((figure(report, name) - expected).abs() < 0.5, "{report:#}");
    }
    assert!(figure(report, "fan_out_p99_ms") > 0.0 && figure(report, "idle_resident_mib") > 0.0);
}

async fn the_yardstick_and_the_limit_are_measured_beside_a_past(database: Database) {
    let arguments = [
        "update",
        "record",
        "delegate",
        "poll",
        "--baseline",
        "--limit",
        "--runs",
        "2",
        "--rate",
        "500",
        "--history",
        "200",
        "--history-in-one",
        "50",
    ];
    let reports = reports(&database, &arguments).await;
    let (servers, limits): (Vec<_>, Vec<_>) = reports
        .iter()
        .partition(|report| report["server"] != "rows alone");
    assert_eq!(servers.len(), 8, "two for each workload");
    for pair in servers.chunks(2) {
        assert_eq!(
            (&pair[0]["server"], &pair[1]["server"]),
            (&"baton".into(), &"baseline".into())
        );
        for report in pair {
            assert_eq!(report["audit"], serde_json::json!([]), "{report:#}");
            assert_eq!(report["runs"].as_array().map(Vec::len), Some(2));
        }
    }
    // Authentication and ending: five of the original's statements change something.
    assert!((figure(servers[1], "commits_per_operation") - 5.0).abs() < 0.01);
    assert!((figure(servers[3], "commits_per_operation") - 3.0).abs() < 0.01);
    assert!((figure(servers[5], "commits_per_operation") - 11.0).abs() < 0.2);
    assert!(limits.len() >= 3);
    for report in limits {
        assert!(figure(report, "per_second") > 0.0);
    }
}

async fn a_broken_promise_fails_the_bench(database: Database) {
    let server = Server::start(&database, &[]).await;
    let base = server.api().base();
    let running = ["update", "--url", &base, "--admin-token", ADMIN_TOKEN];
    assert_eq!(reports(&database, &running).await.len(), 1);
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let id = server.api().delegated(&caller, &target, "task").await;
    server.api().wait_until_ended(&caller, &id).await;
    database.execute(&format!(
        "DELETE FROM activity_logs WHERE method = 'delegate_result' AND delegation_id = '{id}'"
    ));
    let output = bench(&database, &running).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("AUDIT FAILED"), "{said}");
}
