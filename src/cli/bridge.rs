//! `baton mcp`: a local client of the Model Context Protocol, which speaks over the standard input and output, is joined to
//! a workspace of a running server.

use std::cell::RefCell;
use std::io::{BufRead as _, Write as _};
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Exit, Seat};
use crate::client::{Client, Error};

/// How many lines may wait on either side.
const ROOM: usize = 64;

/// Where messages go, and in which version of the protocol.
struct Bridge {
    client: Client,
    path: String,
    version: RefCell<Option<String>>,
    answers: mpsc::Sender<String>,
}

/// Passes each line on as it comes, whatever became of earlier ones, until there are no more.
pub(super) async fn join(seat: Seat) -> anyhow::Result<Exit> {
    let (answers, mut to_write) = mpsc::channel::<String>(ROOM);
    let bridge = Rc::new(Bridge {
        path: seat.path("mcp"),
        client: seat.client,
        version: RefCell::default(),
        answers,
    });
    let mut lines = input();
    let reading = actix_web::rt::spawn(async move {
        while let Some(line) = lines.recv().await {
            actix_web::rt::spawn(pass(Rc::clone(&bridge), line));
        }
    });
    let mut output = std::io::stdout();
    // Ends when the input has, and every answer is written.
    while let Some(line) = to_write.recv().await {
        writeln!(output, "{line}")?;
        output.flush()?;
    }
    reading.await?;
    Ok(Exit::Done)
}

/// The lines of the standard input, read by a thread: a read that waits cannot be left.
fn input() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(ROOM);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if !line.trim().is_empty() && sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Passes a message on, and what answers it back.
async fn pass(bridge: Rc<Bridge>, line: String) {
    let message: Value = serde_json::from_str(&line).unwrap_or_default();
    if let Err(error) = exchange(&bridge, line).await {
        let id = message
            .get("id")
            .filter(|_| message.get("method").is_some());
        if let Some(id) = id {
            let error = json!({"code": -32603, "message": error.to_string()});
            let answer = json!({"jsonrpc": "2.0", "id": id, "error": error});
            drop(bridge.answers.send(answer.to_string()).await);
        }
    }
}

async fn exchange(bridge: &Bridge, line: String) -> Result<(), Error> {
    let version = bridge.version.borrow().clone();
    let mut messages = bridge
        .client
        .mcp(&bridge.path, line, version.as_deref())
        .await?;
    while let Some(message) = messages.next().await? {
        let agreed = message
            .pointer("/result/protocolVersion")
            .and_then(Value::as_str);
        if let Some(agreed) = agreed {
            bridge.version.replace(Some(agreed.to_owned()));
        }
        if bridge.answers.send(message.to_string()).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
