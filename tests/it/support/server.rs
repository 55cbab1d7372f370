//! The real `baton` binary, started on port 0 and killed at the end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::client::{Api, Workspace};
use super::database::Database;
use super::{PATIENCE, eventually};

/// The admin token of every test server.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// The key under which every test server stores secrets.
pub(crate) const SECRET_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The word before the address in the line that the server prints when it listens.
const LISTENING: &str = "listening on ";

/// The flag that makes Baton write replies.
pub(crate) const INBOX_PUSH: &str = "DELEGATION_RESULT_INBOX_PUSH";

/// A running server. Its [`Api`] keeps its address across restarts.
pub(crate) struct Server {
    api: Api,
    environment: BTreeMap<String, String>,
    /// A command that starts what follows it; empty to start it at once.
    wrapper: Vec<String>,
    directory: TempDir,
    log: Log,
    child: Mutex<Option<Child>>,
}

/// What the server wrote, kept for when the test fails.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Server {
    /// Starts a server on `database`, with these variables beside or in place of the usual ones. The inbox push is on.
    pub(crate) async fn start(database: &Database, variables: &[(&str, &str)]) -> Self {
        Self::start_without(database, &[], variables).await
    }

    /// [`Server::start`], with some of the usual variables unset.
    pub(crate) async fn start_without(
        database: &Database,
        unset: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut environment = usual_environment(database);
        for name in unset {
            environment.remove(*name);
        }
        environment.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let server = Self::prepare(environment, Vec::new());
        server.start_again().await;
        server
    }

    /// [`Server::start`] through a command that does something to the process and becomes it.
    pub(crate) async fn start_through(database: &Database, wrapper: Vec<String>) -> Self {
        let server = Self::prepare(usual_environment(database), wrapper);
        server.start_again().await;
        server
    }

    fn prepare(environment: BTreeMap<String, String>, wrapper: Vec<String>) -> Self {
        Self {
            api: Api::new(ADMIN_TOKEN),
            environment,
            wrapper,
            directory: tempfile::tempdir().expect("a temporary directory"),
            log: Log::default(),
            child: Mutex::new(None),
        }
    }

    /// The way to talk to it.
    pub(crate) const fn api(&self) -> &Api {
        &self.api
    }

    /// Starts it again after [`Server::kill9`] or [`Server::terminate`].
    pub(crate) async fn start_again(&self) {
        let mut child = self.spawn();
        let (heard, address) = oneshot::channel();
        let stdout = child.stdout.take().expect("a piped stdout");
        let stderr = child.stderr.take().expect("a piped stderr");
        self.log.follow(stdout, Some(heard));
        self.log.follow(stderr, None);
        *lock(&self.child) = Some(child);
        let address = match tokio::time::timeout(PATIENCE, address).await {
            Ok(Ok(address)) => address,
            Ok(Err(_ended)) => panic!("the server ended before it listened"),
            Err(elapsed) => panic!("the server did not listen: {elapsed} after {PATIENCE:?}"),
        };
        self.api.move_to(&address);
        eventually("GET /health answers 200", async || {
            let reply = self.api.try_get("/health").await?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill9(&self) {
        let mut child = lock(&self.child).take().expect("a running server");
        child.kill().expect("SIGKILL");
        child.wait().expect("the end of the server");
    }

    /// Kills it and starts it again on the same database.
    pub(crate) async fn restart(&self) {
        self.kill9();
        self.start_again().await;
    }

    /// [`Server::restart`] with other variables.
    pub(crate) async fn restart_with(&mut self, variables: &[(&str, &str)]) {
        self.kill9();
        for (name, value) in variables {
            self.set(name, value);
        }
        self.start_again().await;
    }

    /// Sets a variable for the next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub(crate) async fn terminate(&self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        lock(&self.child).as_ref().expect("a running server").id()
    }

    /// Sends a signal by name (`STOP`, `CONT`, …).
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid();
        let status = Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status()
            .expect("the kill command");
        assert!(status.success(), "kill -s {name} {pid}");
    }

    /// Waits until the process is gone by itself.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let status = eventually("the server ends", async || {
            let mut child = lock(&self.child);
            let running = child.as_mut().expect("a server that was started");
            running.try_wait().expect("the state of the server")
        })
        .await;
        *lock(&self.child) = None;
        status
    }

    /// What it wrote so far, to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        lock(&self.log.0).clone()
    }

    /// Waits until it knows by heart what it has read: on PostgreSQL that takes until it hears the other nodes.
    pub(crate) async fn knows_by_heart(&self, member: &Workspace) {
        let nothing = json!({});
        eventually("what was read is remembered", async || {
            self.api.delegate_with(member, &nothing).await.expect(400);
            let before = self.reads().await;
            self.api.delegate_with(member, &nothing).await.expect(400);
            (self.reads().await == before).then_some(())
        })
        .await;
    }

    /// How often requests asked the database.
    async fn reads(&self) -> u64 {
        let metrics = self.api.admin_get("/metrics").await.expect(200);
        let reads = metrics.text.lines().filter(|line| {
            line.starts_with("baton_store_reads_total{") && !line.contains("query=\"nodes\"")
        });
        reads
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// The rules of the product, checked by the server on its own rows.
    pub(crate) async fn assert_invariants(&self) {
        let reply = self.api.admin_get("/admin/invariants").await.expect(200);
        assert_eq!(reply.body["violations"], json!([]), "{}", reply.text);
    }

    /// A root with two children under it: one that delegates and one that works at `url`.
    pub(crate) async fn family(&self, url: &str) -> Family {
        let root = self.api.create_workspace("root", None, None).await;
        let caller = self.api.create_workspace("caller", Some(&root), None).await;
        let target = self
            .api
            .create_workspace("target", Some(&root), Some(url))
            .await;
        Family {
            root,
            caller,
            target,
        }
    }

    /// Runs the binary to its end, for starts that must fail.
    pub(crate) fn run_to_its_end(database: &Database, variables: &[(&str, &str)]) -> Output {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Command::new(env!("CARGO_BIN_EXE_baton"))
            .current_dir(directory.path())
            .env_clear()
            .envs(usual_environment(database))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("the baton binary")
    }

    fn spawn(&self) -> Child {
        let wrapper = self.wrapper.iter().map(String::as_str);
        let mut words = wrapper.chain([env!("CARGO_BIN_EXE_baton")]);
        let mut command = Command::new(words.next().expect("a command"));
        command
            .args(words)
            .current_dir(self.directory.path())
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the baton binary")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = lock(&self.child).take() {
            let killed = child.kill().and_then(|()| child.wait());
            if let Err(error) = killed {
                println!("the server was left behind: {error}");
            }
        }
        if std::thread::panicking() {
            println!("--- the server's log\n{}--- end of it", self.log());
        }
    }
}

impl Log {
    /// Collects lines on a thread of its own; tells `heard` the address in the first line that has one.
    fn follow(&self, output: impl Read + Send + 'static, heard: Option<oneshot::Sender<String>>) {
        let log = self.clone();
        let mut heard = heard;
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).into_owned();
                let address = line
                    .split_once(LISTENING)
                    .map(|(_, address)| address.trim());
                if let Some((address, heard)) =
                    address.and_then(|found| Some((found, heard.take()?)))
                {
                    // The test may have given up waiting.
                    drop(heard.send(address.to_owned()));
                }
                let mut text = lock(&log.0);
                text.push_str(&line);
                text.push('\n');
            }
        });
    }
}

/// An organisation to delegate in.
pub(crate) struct Family {
    /// The parent of the other two, without an agent.
    pub(crate) root: Workspace,
    /// Delegates.
    pub(crate) caller: Workspace,
    /// Works.
    pub(crate) target: Workspace,
}

/// Nothing of the machine's own environment reaches the server but `PATH`.
fn usual_environment(database: &Database) -> BTreeMap<String, String> {
    let url = database.url();
    let path = std::env::var("PATH").unwrap_or_default();
    let variables = [
        ("PATH", path.as_str()),
        ("HOST", "127.0.0.1"),
        ("PORT", "0"),
        ("DATABASE_URL", &url),
        ("ADMIN_TOKEN", ADMIN_TOKEN),
        ("RATE_LIMIT", "0"),
        ("BATON_SECRET_KEY", SECRET_KEY),
        ("BATON_TARGET_ALLOW", "127.0.0.0/8,::1/128"),
        (INBOX_PUSH, "1"),
        // So that a start after a kill takes up soon what was left behind.
        ("BATON_LEASE_MS", "500"),
        // So that a machine that is busy with other tests refuses nobody.
        ("BATON_MAX_WAIT_MS", "5000"),
        ("RUST_BACKTRACE", "1"),
    ];
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
