//! The database is away under load: stopped, frozen, full, read-only. Nothing is lost, nothing is promised, and it mends
//! itself (lessons I04, R03).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;

use crate::faults::counter;
use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::books::{Books, Course};
use crate::support::client::{Api, As};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::server::{Family, Server};
use crate::support::{PATIENCE, eventually, sized};

/// How many delegate at once.
const CLIENTS: usize = 4;
/// How long a client thinks between two delegations.
const THOUGHT: Duration = Duration::from_millis(20);
/// How long a refusal may take: a second, and what two busy cores add.
const PROMPT: Duration = Duration::from_secs(3);
/// How many answers show that the clients met the outage, or its end.
const ENOUGH: usize = 10;

/// What the clients were answered.
#[derive(Default, Debug)]
struct Tally {
    accepted: Vec<String>,
    refused: usize,
    slowest: Duration,
}

/// Whether to go on, and how many answers there were.
struct Load {
    goes_on: watch::Sender<bool>,
    accepted: watch::Sender<usize>,
    refused: watch::Sender<usize>,
}

impl Load {
    /// Returns when the clients have met the outage.
    async fn is_refused(&self) {
        count_on(&self.refused).await;
    }

    /// Returns when they have met its end.
    async fn is_served(&self) {
        count_on(&self.accepted).await;
    }
}

async fn count_on(answers: &watch::Sender<usize>) {
    let enough = *answers.borrow() + ENOUGH;
    let mut answers = answers.subscribe();
    let met = answers.wait_for(|answers| *answers >= enough);
    let met = tokio::time::timeout(PATIENCE, met).await;
    drop(met.expect("answers").expect("a load"));
}

/// Delegates from several clients while the outage goes on; then everything accepted has ended once.
async fn load_through(
    server: &Server,
    database: &Database,
    outage: impl AsyncFnOnce(&Load),
) -> Tally {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let family = server.family(&agent.url()).await;
    let load = Load {
        goes_on: watch::Sender::new(true),
        accepted: watch::Sender::new(0),
        refused: watch::Sender::new(0),
    };
    let clients = (0..CLIENTS).map(|_| delegate_on(server.api(), &family, &load));
    let outage = async {
        load.is_served().await;
        outage(&load).await;
        health_is(server.api(), 200).await;
        load.is_served().await;
        load.goes_on.send_replace(false);
    };
    let (tallies, ()) = join(join_all(clients), outage).await;
    let mut whole = Tally::default();
    for tally in tallies {
        whole.accepted.extend(tally.accepted);
        whole.refused += tally.refused;
        whole.slowest = whole.slowest.max(tally.slowest);
    }
    let books = Books {
        server,
        database,
        callers: &[family.caller],
        agent: &agent,
        course: Course::Lived,
    };
    let totals = books.assert_settled(&whole.accepted).await;
    println!(
        "{} accepted, {} refused, the slowest answer after {:?}; {totals:?}",
        whole.accepted.len(),
        whole.refused,
        whole.slowest
    );
    whole
}

/// Is answered 202, or 503 with a time to come back, and nothing else.
async fn delegate_on(api: &Api, family: &Family, load: &Load) -> Tally {
    let Family { caller, target, .. } = family;
    let body = json!({"target_id": target.id, "task": "go"});
    let path = format!("/workspaces/{}/delegate", caller.id);
    let mut tally = Tally::default();
    while *load.goes_on.borrow() {
        let begun = Instant::now();
        let reply = api
            .request(Method::POST, As::Workspace(caller), &path, Some(&body))
            .await;
        tally.slowest = tally.slowest.max(begun.elapsed());
        if reply.status == 503 {
            assert!(reply.header("retry-after").is_some(), "{}", reply.text);
            tally.refused += 1;
            load.refused.send_modify(|refused| *refused += 1);
        } else {
            let reply = reply.expect(202);
            load.accepted.send_modify(|accepted| *accepted += 1);
            tally.accepted.push(reply.str("delegation_id").to_owned());
        }
        tokio::time::sleep(THOUGHT).await;
    }
    tally
}

async fn health_is(api: &Api, status: u16) {
    eventually(&format!("/health answers {status}"), async || {
        let reply = api.try_get("/health").await?;
        (reply.status == status).then_some(())
    })
    .await;
}

/// `None`, said aloud, where there is no PostgreSQL to start.
async fn own_postgres() -> Option<(Cluster, Database)> {
    let cluster = Cluster::start().await;
    if cluster.is_none() {
        println!("SKIPPED: no initdb was found; BATON_TEST_POSTGRES_BIN may name its directory");
    }
    let cluster = cluster?;
    let database = Database::on(cluster.url());
    Some((cluster, database))
}

fn outage_length() -> Duration {
    Duration::from_secs(sized("BATON_OUTAGE_S", 2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stops_twice_under_load() {
    let Some((mut cluster, database)) = own_postgres().await else {
        return;
    };
    let server = Server::start(&database, &[]).await;
    let tally = load_through(&server, &database, async |load| {
        for signal in ["INT", "QUIT"] {
            load.is_served().await;
            cluster.stop(signal);
            tokio::time::sleep(outage_length()).await;
            load.is_refused().await;
            health_is(server.api(), 503).await;
            cluster.resume().await;
        }
    })
    .await;
    assert!(tally.slowest < PROMPT, "{:?}", tally.slowest);
    drop((server, database));
}

/// A process that may write no more bytes meets what a full disk is to it, and nobody needs to be root for that. A
/// read-only file stops only whoever opens it: that is the writer, once it has failed.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_and_then_a_read_only_file_under_load() {
    let database = Database::sqlite();
    let server = Server::start_through(&database, without_rights(database.directory())).await;
    let limit = |bytes| limit_files(server.pid(), bytes);
    let failures = async || counter(server.api(), "baton_commit_failures_total").await;
    load_through(&server, &database, async |load| {
        limit("0");
        load.is_refused().await;
        health_is(server.api(), 503).await;
        permit(database.directory(), 0o400);
        limit("unlimited");
        let full = failures().await;
        eventually("commits fail on the read-only file", async || {
            (failures().await >= full + 3).then_some(())
        })
        .await;
        load.is_refused().await;
        permit(database.directory(), 0o600);
    })
    .await;
}

/// An account without rights.
const NOBODY: u32 = 65_534;

/// A command that lets a write beyond the limit fail, where it would kill the process; and which is not root, for whom
/// no file is read-only.
fn without_rights(directory: &Path) -> Vec<String> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let owner = std::fs::metadata(directory).expect("a directory").uid();
    let (prepare, become_it) = if owner == 0 {
        chown(directory, Some(NOBODY), None).expect("chown");
        // Nobody may not be able to reach the binary where it is.
        let copy = directory.join("baton").display().to_string();
        let drop_rights = format!("setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups");
        (format!("cp \"$1\" {copy}"), format!("{drop_rights} {copy}"))
    } else {
        (":".to_owned(), "\"$1\"".to_owned())
    };
    let script = format!("trap '' XFSZ; {prepare} && exec {become_it}");
    ["sh", "-c", &script, "sh"].map(ToOwned::to_owned).to_vec()
}

/// Sets how large a file of that process may grow; only its own user may.
fn limit_files(process: u32, bytes: &str) {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    let owner = std::fs::metadata(format!("/proc/{process}")).expect("a process");
    let status = Command::new("prlimit")
        .args(["--pid", &process.to_string(), &format!("--fsize={bytes}:")])
        .uid(owner.uid())
        .gid(owner.gid())
        .status();
    assert!(status.expect("prlimit").success(), "a limit of {bytes}");
}

/// Sets what may be done with the files of a database.
fn permit(directory: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    for file in std::fs::read_dir(directory).expect("a directory") {
        let path = file.expect("a file").path();
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("chmod");
    }
}
