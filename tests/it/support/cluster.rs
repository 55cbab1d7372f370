//! A PostgreSQL of a test's own, for tests that stop it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use diesel::{Connection as _, PgConnection};
use tempfile::TempDir;
use url::Url;

use super::eventually;

/// Where `scripts/test` found PostgreSQL's programs.
const BINARIES_VARIABLE: &str = "BATON_TEST_POSTGRES_BIN";

/// A server in a directory of its own, gone when dropped.
pub(crate) struct Cluster {
    directory: TempDir,
    binaries: PathBuf,
    account: Option<u32>,
    port: u16,
    postmaster: Option<Child>,
}

impl Cluster {
    /// Makes and starts one; `None` where there is no `initdb`.
    pub(crate) async fn start() -> Option<Self> {
        let binaries = find_binaries()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        // PostgreSQL refuses to run as root.
        let account = (number_of(&["-u"]) == Some(0)).then(|| {
            let account = number_of(&["-u", "postgres"]).or_else(|| number_of(&["-u", "nobody"]));
            account.expect("an account without rights")
        });
        chown(directory.path(), account, None).expect("chown");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let mut cluster = Self {
            directory,
            binaries,
            account,
            port,
            postmaster: None,
        };
        let made = cluster
            .command("initdb")
            .args([
                "-U",
                "baton",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ])
            .output()
            .expect("initdb");
        assert!(made.status.success(), "initdb: {made:?}");
        cluster.resume().await;
        Some(cluster)
    }

    /// Its own database, to make others from.
    pub(crate) fn url(&self) -> Url {
        let url = format!("postgres://baton@127.0.0.1:{}/postgres", self.port);
        Url::parse(&url).expect("a URL")
    }

    /// Stops it, by `INT` in order or by `QUIT` as a crash would, and waits until it is gone.
    pub(crate) fn stop(&mut self, signal: &str) {
        if let Some(mut postmaster) = self.postmaster.take() {
            send(signal, &[postmaster.id()]);
            postmaster.wait().expect("the end of PostgreSQL");
        }
    }

    /// Starts it again, where it was.
    pub(crate) async fn resume(&mut self) {
        let sockets = format!(
            "unix_socket_directories={}",
            self.directory.path().display()
        );
        let port = format!("port={}", self.port);
        let settings = ["listen_addresses=127.0.0.1", &port, &sockets];
        let mut command = self.command("postgres");
        for setting in settings {
            command.args(["-c", setting]);
        }
        self.postmaster = Some(command.spawn().expect("postgres"));
        let url = self.url();
        eventually("PostgreSQL takes connections", async || {
            PgConnection::establish(url.as_str()).ok().map(drop)
        })
        .await;
    }

    /// Lets no process of it run (`STOP`), or all of them go on (`CONT`).
    pub(crate) fn signal_all(&self, signal: &str) {
        let postmaster = self.postmaster.as_ref().expect("a running PostgreSQL").id();
        let output = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &postmaster.to_string()])
            .output();
        let children = String::from_utf8(output.expect("ps").stdout).expect("numbers");
        let children = children
            .split_whitespace()
            .map(|pid| pid.parse().expect("a pid"));
        let all: Vec<u32> = std::iter::once(postmaster).chain(children).collect();
        send(signal, &all);
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(postmaster) = &self.postmaster {
            send("CONT", &[postmaster.id()]);
        }
        self.stop("QUIT");
    }
}

fn send(signal: &str, processes: &[u32]) {
    let status = Command::new("kill")
        .args(["-s", signal])
        .args(processes.iter().map(ToString::to_string))
        .status();
    assert!(status.expect("the kill command").success(), "kill {signal}");
}

fn number_of(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().expect("id");
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The newest there is, if there are several.
fn find_binaries() -> Option<PathBuf> {
    if let Ok(named) = std::env::var(BINARIES_VARIABLE) {
        return Some(PathBuf::from(named));
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let installed = versions.flatten().map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = installed.chain(std::env::split_paths(&path)).collect();
    places.sort();
    let complete = |place: &&PathBuf| {
        let has = |program: &str| Path::is_file(&place.join(program));
        has("initdb") && has("postgres")
    };
    places.iter().rfind(complete).cloned()
}
