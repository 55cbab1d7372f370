//! `baton demo`: a look at it, and what it plays where nobody looks.

use std::collections::BTreeSet;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::client::{Api, As};
use crate::support::{PATIENCE, eventually, eventually_within};

/// How soon something is worth watching, and in how many states.
const SOON: Duration = Duration::from_secs(5);
const STATES: usize = 4;

/// The demonstration in a directory of its own, where it puts its database, too.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_baton"))
            .arg("demo")
            .args(arguments)
            .current_dir(directory.path())
            .env_clear()
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the baton binary");
        let stdout = child.stdout.take().expect("a piped stdout");
        Self {
            child,
            stdout: BufReader::new(stdout),
            directory,
        }
    }

    /// The address and the code of the link that it prints.
    async fn link(&mut self) -> (String, String) {
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.stdout.read_line(&mut line)).await;
            let read = read.expect("a link in time").expect("a line");
            assert!(read > 0, "it ended without a link");
            if let Some((base, code)) = line.trim().split_once("/#code=") {
                return (base.to_owned(), code.to_owned());
            }
        }
    }

    /// Waits for its end; how it was, and what it left behind.
    async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("an end").expect("its status");
        let left = std::fs::read_dir(self.directory.path()).expect("its directory");
        let names = left.map(|entry| entry.expect("a name").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        (status, names.collect())
    }
}

/// The statuses of what lives.
async fn live(api: &Api, token: &str) -> BTreeSet<String> {
    let path = "/admin/delegations?status=in_flight&limit=1000";
    let reply = api.get(As::Bearer(token), path).await.expect(200);
    let lines = reply.body["delegations"].as_array().expect("lines");
    let statuses = lines.iter().filter_map(|line| line["status"].as_str());
    statuses.map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_worth_watching_within_five_seconds_and_goes_on() {
    let mut demo = Demo::start(&["--stay", "--port", "0"]);
    let (base, code) = demo.link().await;
    let api = Api::new("");
    api.move_to(&base);
    let sign_in = async || {
        let body = json!({"code": code});
        api.post(As::Nobody, "/session", &body).await
    };
    let told = sign_in().await.expect(200);
    assert_eq!(told.header("cache-control"), Some("no-store"));
    let token = told.str("token");
    let soon = eventually_within(SOON, "live delegations in many states", async || {
        let states = live(&api, token).await;
        (states.len() >= STATES).then_some(states)
    });
    soon.await;
    sign_in().await.expect(401);
    let session = api.get(As::Bearer(token), "/session").await.expect(200);
    assert_eq!(
        (session.str("principal"), &session.body["inbox_push"]),
        ("admin", &json!(true))
    );

    let mut seen = BTreeSet::new();
    let lasting = [
        "dispatched",
        "received",
        "in_progress",
        "queued",
        "input_required",
        "stuck",
    ];
    eventually("every lasting state", async || {
        seen.append(&mut live(&api, token).await);
        lasting
            .iter()
            .all(|status| seen.contains(*status))
            .then_some(())
    })
    .await;
    eventually("both endings, and a part that was handed on", async || {
        let path = "/canvas/delegations?limit=200";
        let reply = api.get(As::Bearer(token), path).await.expect(200);
        let lines = reply.body["delegations"].as_array().expect("lines");
        let ended = |status: &str| lines.iter().any(|line| line["status"] == status);
        let nested = lines.iter().any(|line| line["parent"].is_object());
        (ended("completed") && ended("failed") && nested).then_some(())
    })
    .await;
    let audit = api
        .get(As::Bearer(token), "/admin/invariants")
        .await
        .expect(200);
    assert_eq!(audit.body["violations"], json!([]), "{}", audit.text);

    let pid = demo
        .child
        .id()
        .expect("a running demonstration")
        .to_string();
    let told = Command::new("kill")
        .args(["-s", "INT", &pid])
        .status()
        .await;
    assert!(told.expect("the kill command").success());
    let (status, left) = demo.ended().await;
    assert!(status.success() && left.is_empty(), "{status}, {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_looks_it_plays_once() {
    let mut demo = Demo::start(&[]);
    let mut said = String::new();
    let read = timeout(2 * PATIENCE, demo.stdout.read_to_string(&mut said)).await;
    read.expect("an end").expect("words");
    assert!(
        said.contains("All 8 replies are in the caller's inbox, each once."),
        "{said}"
    );
    let (status, left) = demo.ended().await;
    assert!(status.success() && left.is_empty(), "{status}, {left:?}");
}
