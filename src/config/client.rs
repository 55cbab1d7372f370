//! What the commands of a running server's client can be told.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Config;
use super::bench::duration;

/// How to reach a running server, and with which rights.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// The server; `http://HOST:PORT` when absent.
    #[arg(long, env = "BATON_URL", hide_env_values = true)]
    pub url: Option<String>,

    /// A workspace's token, or the admin's. When absent, the admin's: `ADMIN_TOKEN`, or for a server on
    /// this machine the file that it keeps here.
    #[arg(long, env = "BATON_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Print what the server answers, as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Access {
    /// Where the server is.
    #[must_use]
    pub fn base(&self, config: &Config) -> String {
        let own = || {
            let address = std::net::SocketAddr::new(config.host, config.port);
            format!("http://{address}")
        };
        let given = self.url.clone();
        given
            .filter(|url| !url.trim().is_empty())
            .unwrap_or_else(own)
    }
}

/// Who acts, on which server.
#[derive(Args, Clone, Debug)]
pub struct Acting {
    /// How the server is reached.
    #[command(flatten)]
    pub access: Access,

    /// The workspace that acts: its id, or its name.
    #[arg(
        long = "as",
        visible_alias = "workspace",
        env = "BATON_WORKSPACE",
        value_name = "WORKSPACE"
    )]
    pub workspace: String,
}

/// What to hand over.
#[derive(Args, Clone, Debug)]
pub struct DelegateOptions {
    /// Who acts.
    #[command(flatten)]
    pub acting: Acting,

    /// The workspace that shall do it: its id, or its name.
    pub target: String,

    /// The task; `-` reads it from the standard input.
    #[arg(allow_hyphen_values = true)]
    pub task: String,

    /// A key under which the same request is made once, however often it is sent.
    #[arg(long)]
    pub key: Option<String>,

    /// The longest that it may take, for example 90s or 30m.
    #[arg(long, value_parser = duration)]
    pub deadline: Option<Duration>,

    /// What is done when it is unknown whether the target has it: never, `if_idempotent`, always.
    #[arg(long)]
    pub redelivery: Option<String>,

    /// The delegation that the one who acts was given, and hands a part of on: its id.
    #[arg(long)]
    pub parent: Option<String>,

    /// Wait for its end, and print the result.
    #[arg(long)]
    pub wait: bool,
}

/// What a person, or a script, asks of a running server.
#[derive(Subcommand, Clone, Debug)]
pub enum ClientCommand {
    /// Hand a task to another workspace.
    Delegate(Box<DelegateOptions>),
    /// Show all that is known of a delegation.
    Get {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// Its id.
        id: String,
    },
    /// List delegations, newest first.
    List {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// Only those of these statuses, separated by commas.
        #[arg(long)]
        status: Option<String>,
        /// At most so many.
        #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
    },
    /// Follow a delegation to its end, or all that happens in a workspace.
    Watch {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// The delegation; everything when absent.
        id: Option<String>,
    },
    /// Show the messages that are not acknowledged.
    Inbox {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// Wait so long for a first message; a minute at most.
        #[arg(long, value_parser = duration)]
        wait: Option<Duration>,
        /// At most so many.
        #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        /// Acknowledge what was printed.
        #[arg(long)]
        ack: bool,
    },
    /// Acknowledge messages up to this one.
    Ack {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// The `seq` of the last message that was dealt with.
        seq: i64,
    },
    /// What is said of a delegation that there is.
    #[command(flatten)]
    Speak(SpeakCommand),
    /// Join a local MCP client, over the standard input and output, to a workspace of a running server.
    Mcp {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
    },
    /// Workspaces, for the admin.
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// The tokens of a workspace.
    #[command(subcommand)]
    Token(TokenCommand),
}

/// What is said of a delegation that there is.
#[derive(Subcommand, Clone, Debug)]
pub enum SpeakCommand {
    /// Answer the question of a target.
    Answer {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// The delegation.
        id: String,
        /// The answer; `-` reads it from the standard input.
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Say, as either party, how a delegation ended.
    Report {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// The delegation.
        id: String,
        /// The result; `-` reads it from the standard input.
        #[arg(
            long,
            required_unless_present = "failed",
            conflicts_with = "failed",
            allow_hyphen_values = true
        )]
        completed: Option<String>,
        /// Why there is none; `-` reads it from the standard input.
        #[arg(long, allow_hyphen_values = true)]
        failed: Option<String>,
    },
    /// Withdraw a delegation.
    Cancel {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// Its id.
        id: String,
        /// Why.
        #[arg(long, allow_hyphen_values = true)]
        reason: Option<String>,
    },
    /// Hand the same task to the same target again, once the delegation has ended.
    Retry {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// Its id.
        id: String,
    },
}

/// What is done with workspaces.
#[derive(Subcommand, Clone, Debug)]
pub enum WorkspaceCommand {
    /// Make one, and print its token, which is shown only now.
    Create {
        /// How the server is reached.
        #[command(flatten)]
        access: Access,
        /// Its name.
        name: String,
        /// The workspace above it: its id, or its name.
        #[arg(long)]
        parent: Option<String>,
        /// Where its agent listens. Not to be confused with `--url`, where Baton does.
        #[arg(long)]
        agent_url: Option<String>,
        /// Its agent fetches its tasks.
        #[arg(long, conflicts_with = "agent_url")]
        poll: bool,
    },
    /// List them, oldest first.
    List {
        /// How the server is reached.
        #[command(flatten)]
        access: Access,
    },
    /// Show one.
    Get {
        /// How the server is reached.
        #[command(flatten)]
        access: Access,
        /// Its id, or its name.
        workspace: String,
    },
    /// Remove one.
    Remove {
        /// How the server is reached.
        #[command(flatten)]
        access: Access,
        /// Its id, or its name.
        workspace: String,
        /// With all that are below it.
        #[arg(long)]
        cascade: bool,
    },
}

/// What is done with tokens.
#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Make one, and print it: it is shown only now.
    Create {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
    },
    /// List those that hold, newest first.
    List {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
    },
    /// Revoke one.
    Revoke {
        /// Who acts.
        #[command(flatten)]
        acting: Acting,
        /// Its id.
        id: String,
    },
}
