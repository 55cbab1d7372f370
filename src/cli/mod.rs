//! The commands of a person, or a script, against a running server (docs/CLI.md).

mod bridge;
mod show;
mod table;
mod watch;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::admin_token;
use crate::client::{Client, Error, is_loopback};
use crate::config::{
    Access, Acting, ClientCommand, Config, DelegateOptions, SpeakCommand, TokenCommand,
    WorkspaceCommand,
};
use show::Show;
use table::harmless;

/// How a command ended, for scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done,
    /// The delegation that was waited for has failed, or was cancelled.
    Unsuccessful,
    /// The server refused: the same again would be refused again. (2 is wrong usage.)
    Refused,
    /// The server is away or overloaded: try again.
    Away,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Unsuccessful => 1,
            Exit::Refused => 3,
            Exit::Away => 4,
        })
    }
}

/// Runs a command, and tells on the standard error what went wrong.
pub async fn run(command: ClientCommand, config: &Config) -> Exit {
    match obey(command, config).await {
        Ok(exit) => exit,
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            tell(&format!("baton: {error:#}"));
            failure(&error)
        }
    }
}

/// Says something that is no result; nobody may be there to hear it.
fn tell(text: &str) {
    let _told = writeln!(std::io::stderr(), "{}", harmless(text));
}

/// Whoever read what was printed has gone, which is its own business.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.downcast_ref().is_some_and(broken)
}

fn failure(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Error>() {
        Some(Error::Away(_)) => Exit::Away,
        Some(Error::Refused { status, .. }) if *status >= 500 || *status == 429 => Exit::Away,
        Some(Error::Refused { .. } | Error::Foreign(_) | Error::Senseless(_)) | None => {
            Exit::Refused
        }
    }
}

async fn obey(command: ClientCommand, config: &Config) -> anyhow::Result<Exit> {
    match command {
        ClientCommand::Mcp { acting } => bridge::join(Seat::take(&acting, config).await?).await,
        ClientCommand::Workspace(command) => workspaces(command, config).await,
        ClientCommand::Token(command) => tokens(command, config).await,
        ClientCommand::Delegate(options) => delegate(*options, config).await,
        ClientCommand::Get { acting, id } => {
            let seat = Seat::take(&acting, config).await?;
            let view = seat.client.get(&seat.delegation(&id)?).await?;
            seat.show.one(&view)
        }
        ClientCommand::List {
            acting,
            status,
            limit,
        } => list(&Seat::take(&acting, config).await?, status, limit).await,
        ClientCommand::Watch { acting, id } => {
            let seat = Seat::take(&acting, config).await?;
            match id {
                Some(id) => watch::to_the_end(&seat, &id).await,
                None => watch::everything(&seat).await,
            }
        }
        ClientCommand::Inbox {
            acting,
            wait,
            limit,
            ack,
        } => {
            let seat = Seat::take(&acting, config).await?;
            inbox(&seat, wait.unwrap_or_default(), limit, ack).await
        }
        ClientCommand::Ack { acting, seq } => {
            let seat = Seat::take(&acting, config).await?;
            let answer = seat.acknowledge(seq).await?;
            seat.show.one(&answer)
        }
        ClientCommand::Speak(command) => speak(command, config).await,
    }
}

/// What is said of a delegation that there is.
async fn speak(command: SpeakCommand, config: &Config) -> anyhow::Result<Exit> {
    let (acting, id, what, body) = match command {
        SpeakCommand::Answer { acting, id, text } => {
            (acting, id, "input", json!({"text": given(text)?}))
        }
        SpeakCommand::Report {
            acting,
            id,
            completed,
            failed,
        } => {
            let body = match (completed, failed) {
                (Some(text), _) => {
                    json!({"status": "completed", "response_preview": given(text)?})
                }
                (None, why) => {
                    json!({"status": "failed", "error": given(why.unwrap_or_default())?})
                }
            };
            (acting, id, "update", body)
        }
        SpeakCommand::Cancel { acting, id, reason } => {
            (acting, id, "cancel", json!({"reason": reason}))
        }
        SpeakCommand::Retry { acting, id } => (acting, id, "retry", json!({})),
    };
    let seat = Seat::take(&acting, config).await?;
    let path = format!("{}/{what}", seat.delegation(&id)?);
    let answer = seat.client.post(&path, &body).await?;
    if what == "retry" {
        return seat.show.begun(&answer);
    }
    seat.show.one(&answer)
}

async fn list(seat: &Seat, status: Option<String>, limit: u16) -> anyhow::Result<Exit> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    query.extend_pairs(status.map(|status| ("status", status)));
    let path = seat.path(&format!("delegations?{}", query.finish()));
    seat.show.delegations(&seat.client.get(&path).await?)
}

/// Shows messages, and acknowledges those that somebody has.
async fn inbox(seat: &Seat, wait: Duration, limit: u16, ack: bool) -> anyhow::Result<Exit> {
    let wait = whole_seconds(wait);
    let path = seat.path(&format!("inbox?limit={limit}&wait={wait}"));
    let inbox = seat.client.get(&path).await?;
    seat.show.inbox(&inbox)?;
    let messages = inbox.get("messages").and_then(Value::as_array);
    let last = messages.and_then(|messages| messages.last()?.get("seq")?.as_i64());
    if let Some(seq) = last.filter(|_| ack) {
        seat.acknowledge(seq).await?;
    }
    Ok(Exit::Done)
}

/// At least as long as was asked for.
fn whole_seconds(duration: Duration) -> u64 {
    let partial = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(partial)
}

async fn delegate(options: DelegateOptions, config: &Config) -> anyhow::Result<Exit> {
    let seat = Seat::take(&options.acting, config).await?;
    let target = seat.find(&options.target).await?;
    let mut body = Map::from_iter([
        ("target_id".to_owned(), target.into()),
        ("task".to_owned(), given(options.task)?.into()),
    ]);
    let deadline = options
        .deadline
        .map(|deadline| whole_seconds(deadline).into());
    for (name, value) in [
        ("idempotency_key", options.key.map(Value::from)),
        ("deadline_seconds", deadline),
        ("redelivery", options.redelivery.map(Value::from)),
        ("parent_delegation_id", options.parent.map(Value::from)),
    ] {
        body.extend(value.map(|value| (name.to_owned(), value)));
    }
    let answer = seat
        .client
        .post(&seat.path("delegate"), &Value::Object(body))
        .await?;
    if !options.wait {
        return seat.show.begun(&answer);
    }
    let id = answer.get("delegation_id").and_then(Value::as_str);
    watch::to_the_end(&seat, id.context("the answer names no delegation")?).await
}

/// A text, or what the standard input holds.
fn given(text: String) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text);
    }
    let mut all = String::new();
    std::io::stdin().read_to_string(&mut all)?;
    Ok(all)
}

async fn workspaces(command: WorkspaceCommand, config: &Config) -> anyhow::Result<Exit> {
    match command {
        WorkspaceCommand::Create {
            access,
            name,
            parent,
            agent_url,
            poll,
        } => {
            let (client, show) = reach(&access, config)?;
            let parent = match parent {
                Some(parent) => Some(find(&client, None, &parent).await?),
                None => None,
            };
            let body = json!({
                "name": name, "external": true, "parent_id": parent, "url": agent_url,
                "delivery_mode": if poll { "poll" } else { "push" },
            });
            show.one(&client.post("/workspaces", &body).await?)
        }
        WorkspaceCommand::List { access } => {
            let (client, show) = reach(&access, config)?;
            show.rows(&client.get("/workspaces").await?, show::WORKSPACES)
        }
        WorkspaceCommand::Get { access, workspace } => {
            let (client, show) = reach(&access, config)?;
            let id = find(&client, None, &workspace).await?;
            show.one(&client.get(&format!("/workspaces/{id}")).await?)
        }
        WorkspaceCommand::Remove {
            access,
            workspace,
            cascade,
        } => {
            let (client, show) = reach(&access, config)?;
            let id = find(&client, None, &workspace).await?;
            let path = format!("/workspaces/{id}?confirm={cascade}");
            show.one(&client.delete(&path).await?)
        }
    }
}

async fn tokens(command: TokenCommand, config: &Config) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create { acting } => {
            let seat = Seat::take(&acting, config).await?;
            let answer = seat.client.post(&seat.path("tokens"), &json!({})).await?;
            seat.show.one(&answer)
        }
        TokenCommand::List { acting } => {
            let seat = Seat::take(&acting, config).await?;
            let answer = seat.client.get(&seat.path("tokens")).await?;
            let found = answer.get("tokens").unwrap_or(&Value::Null);
            seat.show.rows(found, show::TOKENS)
        }
        TokenCommand::Revoke { acting, id } => {
            let seat = Seat::take(&acting, config).await?;
            let path = seat.path(&format!("tokens/{}", encoded(&id)?));
            seat.show.one(&seat.client.delete(&path).await?)
        }
    }
}

/// The server, and how answers are shown.
fn reach(access: &Access, config: &Config) -> anyhow::Result<(Client, Show)> {
    let base = access.base(config);
    let given = access
        .token
        .clone()
        .filter(|token| !token.trim().is_empty());
    let token = match given {
        Some(token) => token,
        // What is kept here is for the server here.
        None => admin_token::known(config, is_loopback(&base)).context(
            "who asks? Give --token or BATON_TOKEN, or ADMIN_TOKEN, or run this where the server keeps its admin token",
        )?,
    };
    let client = Client::new(&base, token.trim())?;
    Ok((client, Show { json: access.json }))
}

/// A workspace that acts.
struct Seat {
    client: Client,
    show: Show,
    id: String,
}

impl Seat {
    async fn take(acting: &Acting, config: &Config) -> anyhow::Result<Self> {
        let (client, show) = reach(&acting.access, config)?;
        let id = find(&client, None, &acting.workspace).await?;
        Ok(Self { client, show, id })
    }

    fn path(&self, rest: &str) -> String {
        format!("/workspaces/{}/{rest}", self.id)
    }

    fn delegation(&self, id: &str) -> anyhow::Result<String> {
        Ok(self.path(&format!("delegations/{}", encoded(id)?)))
    }

    async fn find(&self, name: &str) -> anyhow::Result<String> {
        find(&self.client, Some(&self.id), name).await
    }

    async fn acknowledge(&self, seq: i64) -> Result<Value, Error> {
        let body = json!({"acked_seq": seq});
        self.client.post(&self.path("activity/ack"), &body).await
    }
}

/// An id as part of a path.
fn encoded(id: &str) -> anyhow::Result<String> {
    // These would be taken as steps through the path.
    anyhow::ensure!(!matches!(id, "" | "." | ".."), "{id:?} is not an id");
    let encoded = url::form_urlencoded::byte_serialize(id.as_bytes());
    Ok(encoded.collect::<String>().replace('+', "%20"))
}

/// The workspace of this id or name: among all for the admin, among its peers for a workspace. What can be read as an id
/// is one.
async fn find(client: &Client, own: Option<&str>, name: &str) -> anyhow::Result<String> {
    if let Ok(id) = uuid::Uuid::try_parse(name) {
        return Ok(id.to_string());
    }
    let all = match (client.get("/workspaces").await, own) {
        (
            Err(Error::Refused {
                status: 401 | 403, ..
            }),
            Some(own),
        ) => client.get(&format!("/registry/{own}/peers")).await?,
        (
            Err(Error::Refused {
                status: 401 | 403, ..
            }),
            None,
        ) => anyhow::bail!(
            "{name:?} is no id, and only the admin's token finds a workspace by its name"
        ),
        (found, _) => found?,
    };
    let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(name);
    let ids = all.as_array().into_iter().flatten().filter(named);
    let ids: Vec<&str> = ids.filter_map(|one| one.get("id")?.as_str()).collect();
    match ids.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => anyhow::bail!("no workspace is called {name:?}"),
        _ => anyhow::bail!(
            "several workspaces are called {name:?}, say which: {}",
            ids.join(", ")
        ),
    }
}
