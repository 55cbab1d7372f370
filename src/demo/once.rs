//! Eight delegations among five agents, each step as it is committed, and an end once every reply is in.

mod agents;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::api::{Api, Seat};
use crate::app::App;

/// How long the whole demonstration may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// What is delegated: the target's name, and the task.
const TASKS: [(&str, &str); 8] = [
    (
        "quick",
        "Translate \u{201c}good morning\u{201d} into Portuguese",
    ),
    ("slow", "Summarise the quarterly report"),
    ("failing", "Book a flight to Lisbon"),
    ("busy", "Proofread chapter seven"),
    ("vanishing", "Pay the invoice"),
    ("quick", "Name three rivers of Portugal"),
    ("quick", "Convert 30 miles to kilometres"),
    ("slow", "Plan the offsite"),
];

/// Plays it. Ends well only if every reply arrived in the caller's inbox.
pub(super) async fn show(app: App) -> anyhow::Result<()> {
    println!("{}\n", app.banner());
    let api = Api::new(app.address(), app.admin_token().reveal())?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = actix_web::rt::spawn(app.run_until(async move {
        // A sender that is gone says the same as one that spoke.
        let _told = stopped.await;
    }));
    let played = tokio::time::timeout(PATIENCE, play(&api)).await;
    drop(stop);
    server.await??;
    played.context("a reply was still missing after a minute")?
}

async fn play(api: &Api) -> anyhow::Result<()> {
    let agents = agents::start().await?;
    let caller = json!({"name": "orchestrator", "external": true});
    let caller = api.create_workspace(&caller).await?;
    let mut names = HashMap::new();
    let mut targets = HashMap::new();
    for (name, url) in [
        ("quick", &agents.quick),
        ("slow", &agents.slow),
        ("failing", &agents.failing),
        ("busy", &agents.busy),
        ("vanishing", &agents.vanishing),
    ] {
        let body = json!({"name": name, "parent_id": caller.id, "external": true, "url": url});
        let workspace = api.create_workspace(&body).await?;
        names.insert(workspace.id.clone(), name);
        targets.insert(name, workspace.id);
    }
    let started = Instant::now();
    let lives = actix_web::rt::spawn(watch(caller.clone(), names, started));
    for (target, task) in TASKS {
        let id = targets.get(target).context("a target of the list exists")?;
        let body = json!({"target_id": id, "task": task});
        caller.delegate(&body).await?;
    }
    let replies = collect(&caller, started).await?;
    lives.abort();
    ensure!(
        replies == TASKS.len(),
        "{replies} replies for {} delegations",
        TASKS.len()
    );
    let violations = api.invariants().await?;
    ensure!(
        violations.is_empty(),
        "the rules do not hold: {violations:?}"
    );
    println!("\nAll {replies} replies are in the caller's inbox, each once.");
    Ok(())
}

/// Prints each step of each delegation's life as it is committed.
async fn watch(
    caller: Seat,
    names: HashMap<String, &'static str>,
    started: Instant,
) -> anyhow::Result<()> {
    let shown = caller.follow(|event, data| {
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
        let target = names.get(text("target_id")).copied().unwrap_or("?");
        let (word, detail) = match event {
            "DELEGATION_SENT" => ("accepted", text("task_preview")),
            "DELEGATION_STATUS" => (text("status"), ""),
            "DELEGATION_COMPLETE" => ("completed", text("response_preview")),
            "DELEGATION_FAILED" => ("failed", text("error")),
            _ => return,
        };
        let id: String = text("delegation_id").chars().rev().take(6).collect();
        println!(
            "{:6.2}s  {id}  {target:<10} {word:<12} {detail}",
            started.elapsed().as_secs_f64()
        );
    });
    shown.await
}

/// Takes replies from the inbox, acknowledging each, until there are as many as tasks.
async fn collect(caller: &Seat, started: Instant) -> anyhow::Result<usize> {
    let mut count = 0;
    while count < TASKS.len() {
        for reply in caller.inbox().await? {
            count += 1;
            let text = reply
                .pointer("/request_body/parts/0/text")
                .and_then(Value::as_str);
            println!(
                "{:6.2}s  reply {count} of {}: {}",
                started.elapsed().as_secs_f64(),
                TASKS.len(),
                text.unwrap_or_default()
            );
            caller.acknowledge(&reply).await?;
        }
    }
    Ok(count)
}
