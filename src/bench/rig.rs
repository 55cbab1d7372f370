//! A server with the workspaces that speak to it, and the books of what it promised them.

use std::cell::RefCell;

use anyhow::Context as _;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::agents::Agents;
use super::history::{self, Original, Past};
use super::http::{self, Answer, Call, Connection};
use super::server::{Kind, Server};
use crate::config::{BenchOptions, Config};

/// Acknowledges whatever there is.
pub(super) const EVERYTHING: &str = r#"{"acked_seq":1000000000000000}"#;

/// A calling workspace.
pub(super) struct Seat {
    pub(super) id: String,
    pub(super) token: HeaderValue,
}

/// What a caller may expect of its results.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Book {
    /// Endings that were promised by a 2xx.
    pub(super) promised: u64,
    /// Requests after which there may be an ending, or none.
    pub(super) uncertain: u64,
}

impl Book {
    pub(super) fn enter(&mut self, answer: Option<&Answer>) {
        match answer {
            Some(answer) if answer.is_success() => self.promised += 1,
            // A refusal is certain, but what was told to come again later may have been on its way.
            Some(answer) if answer.status < 500 => {}
            _ => self.uncertain += 1,
        }
    }
}

/// A server, ready for load.
pub(super) struct Rig {
    pub(super) kind: Kind,
    pub(super) server: Server,
    /// The workspace above all others.
    root: String,
    pub(super) seats: Vec<Seat>,
    /// Where recorded delegations are said to go.
    pub(super) bystander: String,
    /// Workspaces with agents.
    pub(super) targets: Vec<String>,
    pub(super) books: RefCell<Vec<Book>>,
}

impl Rig {
    pub(super) async fn set_up(
        kind: Kind,
        options: &BenchOptions,
        config: &Config,
        agents: &Agents,
    ) -> anyhow::Result<Self> {
        let server = Server::start(kind, options, config)?;
        let admin = http::bearer(&server.admin_token)?;
        let mut connection = Connection::to(server.address);
        let root = create(&mut connection, &admin, json!({"name": "bench"}))
            .await?
            .id;
        let mut member = async |name: String| {
            let body = json!({"name": name, "parent_id": root});
            create(&mut connection, &admin, body).await
        };
        let bystander = member("bystander".to_owned()).await?.id;
        let mut seats = Vec::new();
        for number in 0..options.workspaces {
            seats.push(member(format!("caller {number}")).await?);
        }
        let mut rig = Self {
            kind,
            server,
            root,
            seats,
            bystander,
            targets: Vec::new(),
            books: RefCell::default(),
        };
        rig.open_books(agents).await?;
        if options.history > 0 {
            let original = create(
                &mut connection,
                &admin,
                json!({"name": "past", "parent_id": rig.root}),
            )
            .await?;
            rig.give_a_past(options, &original).await?;
        }
        Ok(rig)
    }

    /// The same for another workload, by a server that is started again: to make a past takes longer than a workload.
    pub(super) async fn again(mut self, agents: &Agents) -> anyhow::Result<Self> {
        self.server
            .while_stopped(|database| history::settle(&mut database.open()?))?;
        for seat in &self.seats {
            self.acknowledge(seat).await?;
        }
        self.open_books(agents).await?;
        Ok(self)
    }

    /// Nobody wants to read what was before.
    async fn acknowledge(&self, seat: &Seat) -> anyhow::Result<()> {
        let path = format!("/workspaces/{}/activity/ack", seat.id);
        let acknowledge = Call::post(path, &seat.token, EVERYTHING)?;
        let answer = Connection::to(self.server.address)
            .send(&acknowledge)
            .await?;
        anyhow::ensure!(
            answer.is_success(),
            "an acknowledgement answered {}",
            answer.status
        );
        Ok(())
    }

    /// Nothing is promised yet; these agents are delegated to.
    async fn open_books(&mut self, agents: &Agents) -> anyhow::Result<()> {
        self.books = RefCell::new(vec![Book::default(); self.seats.len()]);
        self.targets.clear();
        let admin = http::bearer(&self.server.admin_token)?;
        let mut connection = Connection::to(self.server.address);
        for (number, url) in agents.urls.iter().enumerate() {
            let mut body =
                json!({"name": format!("target {number}"), "parent_id": self.root, "url": url});
            if let (Some(at_once), Some(members)) = (agents.at_once, body.as_object_mut()) {
                members.insert("max_concurrent_tasks".to_owned(), at_once.into());
            }
            let target = create(&mut connection, &admin, body).await?;
            self.targets.push(target.id);
        }
        Ok(())
    }

    /// Fills the database with copies of one finished delegation.
    async fn give_a_past(&mut self, options: &BenchOptions, seat: &Seat) -> anyhow::Result<()> {
        let original = past_of(self, seat, true).await?;
        let one = self.seat(0)?.1.id.clone();
        self.server.while_stopped(|database| {
            let past = Past {
                from: 0,
                to: options.history,
                in_one: options.history_in_one,
                one: &one,
            };
            let mut database = database.open()?;
            history::fill(&mut database, &original, past)?;
            history::settle(&mut database)
        })?;
        self.acknowledge(self.seat(0)?.1).await
    }

    /// The seat whose turn it is.
    pub(super) fn seat(&self, turn: usize) -> anyhow::Result<(usize, &Seat)> {
        let number = turn.checked_rem(self.seats.len());
        let seat = number.and_then(|number| Some((number, self.seats.get(number)?)));
        seat.context("there are workspaces")
    }

    pub(super) fn enter(&self, seat: usize, answer: Option<&Answer>) {
        if let Some(book) = self.books.borrow_mut().get_mut(seat) {
            book.enter(answer);
        }
    }
}

/// Records a delegation of this caller's, and ends it if it shall be.
pub(super) async fn past_of(rig: &Rig, seat: &Seat, ended: bool) -> anyhow::Result<Original> {
    let original = Original {
        caller: seat.id.clone(),
        id: Uuid::new_v4().to_string(),
    };
    let mut connection = Connection::to(rig.server.address);
    let text = "x".repeat(200);
    let record = json!({"target_id": rig.bystander, "task": text, "delegation_id": original.id});
    let path = format!("/workspaces/{}/delegations", seat.id);
    let record = Call::post(format!("{path}/record"), &seat.token, record.to_string())?;
    connection.ask(&record).await?;
    if ended {
        let update = json!({"status": "completed", "response_preview": text}).to_string();
        let path = format!("{path}/{}/update", original.id);
        connection
            .ask(&Call::post(path, &seat.token, update)?)
            .await?;
    }
    Ok(original)
}

/// A new workspace.
pub(super) async fn create(
    connection: &mut Connection,
    admin: &HeaderValue,
    mut body: Value,
) -> anyhow::Result<Seat> {
    if let Some(members) = body.as_object_mut() {
        members.insert("external".to_owned(), true.into());
    }
    let call = Call::post("/workspaces".to_owned(), admin, body.to_string())?;
    let made = connection.ask(&call).await?;
    let field = |name: &str| {
        made.get(name)
            .and_then(Value::as_str)
            .with_context(|| format!("a new workspace has no {name}"))
    };
    Ok(Seat {
        id: field("id")?.to_owned(),
        token: http::bearer(field("auth_token")?)?,
    })
}
