//! The server under load: a child process on a database of its own, or one that runs already.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use super::database::Database;
use crate::config::{BenchOptions, Config};

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Baton,
    /// The stand-in for the original.
    Baseline,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Baton => "baton",
            Self::Baseline => "baseline",
        }
    }
}

/// A server, and what is known of it. Ends with the value, and its database with it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) admin_token: String,
    /// None for one that somebody else started.
    pub(super) own: Option<Own>,
}

/// What the bench started itself.
pub(super) struct Own {
    // The order of the fields is the order in which they end: the server before its database.
    process: Process,
    pub(super) database: Database,
    kind: Kind,
    binary: PathBuf,
}

impl Own {
    pub(super) fn process(&self) -> u32 {
        self.process.0.id()
    }
}

struct Process(Child);

impl Process {
    fn end(&mut self) {
        // What was answered is stored; it may have ended already.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    pub(super) fn start(
        kind: Kind,
        options: &BenchOptions,
        config: &Config,
    ) -> anyhow::Result<Self> {
        if let Some(url) = &options.url {
            return remote(url, config);
        }
        let binary = match &options.server {
            Some(path) if kind == Kind::Baton => path.clone(),
            _ => std::env::current_exe()?,
        };
        let database = Database::make(&config.database_url, options.directory.as_deref())?;
        let admin_token = uuid::Uuid::new_v4().simple().to_string();
        let (process, address) = spawn(command(kind, &binary, &database, &admin_token))?;
        Ok(Self {
            address,
            admin_token,
            own: Some(Own {
                process,
                database,
                kind,
                binary,
            }),
        })
    }

    /// Stops it, and leaves the database.
    pub(super) fn into_database(self) -> anyhow::Result<Database> {
        let Own {
            process, database, ..
        } = self.own.context("a server of its own")?;
        drop(process);
        Ok(database)
    }

    /// Does something to the database while nobody serves it.
    pub(super) fn while_stopped<T>(
        &mut self,
        work: impl FnOnce(&Database) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let own = self.own.as_mut().context("a server of its own")?;
        own.process.end();
        let done = work(&own.database)?;
        let Own {
            kind,
            binary,
            database,
            ..
        } = &*own;
        let (process, address) = spawn(command(*kind, binary, database, &self.admin_token))?;
        own.process = process;
        self.address = address;
        Ok(done)
    }
}

fn command(kind: Kind, binary: &Path, database: &Database, admin_token: &str) -> Command {
    let mut command = Command::new(binary);
    if kind == Kind::Baseline {
        command.arg("bench-baseline");
    }
    command
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("DATABASE_URL", database.url())
        .env("ADMIN_TOKEN", admin_token)
        .env("RATE_LIMIT", "0")
        .env("DELEGATION_RESULT_INBOX_PUSH", "1")
        .env("BATON_TARGET_ALLOW", "127.0.0.0/8")
        .env("BATON_MAX_OUTBOUND", "1000000")
        .env("BATON_MAX_LIVE", "10000000")
        .env("BATON_LOG", "warn");
    command
}

fn remote(url: &str, config: &Config) -> anyhow::Result<Server> {
    let parsed = url::Url::parse(url).context("--url")?;
    let host = parsed.host_str().context("--url names no host")?;
    let port = parsed
        .port_or_known_default()
        .context("--url names no port")?;
    let mut found = (host, port).to_socket_addrs()?;
    anyhow::ensure!(
        parsed.scheme() == "http" && !config.admin_token.is_empty(),
        "--url must begin with http://, and --admin-token must be given"
    );
    Ok(Server {
        address: found.next().context("--url leads nowhere")?,
        admin_token: config.admin_token.clone(),
        own: None,
    })
}

/// Starts a server, and reads from it where it listens.
fn spawn(mut command: Command) -> anyhow::Result<(Process, SocketAddr)> {
    let mut process = Process(command.stdout(Stdio::piped()).spawn()?);
    let output = process.0.stdout.take().context("the server's output")?;
    let mut lines = BufReader::new(output).lines();
    let address = loop {
        let line = lines.next().context("the server did not start")??;
        if let Some(address) = line.strip_prefix("listening on http://") {
            break address.parse()?;
        }
    };
    // A full pipe would stop it.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok((process, address))
}
