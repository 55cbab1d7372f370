//! Those who hand tasks over, change their minds, answer questions, and read what comes back.

use std::rc::Rc;
use std::time::Duration;

use actix_web::rt;
use serde_json::{Value, json};

use super::cast::{Task, Temper};
use super::player::Player;
use super::work::a_while;
use crate::demo::api::rows;

/// How often somebody reads its inbox.
const READ: Duration = Duration::from_secs(12);
/// How many messages it leaves for whoever looks on.
const LEFT: usize = 4;
/// What somebody says who changes its mind.
const REASONS: [&str; 3] = [
    "found it elsewhere",
    "asked the wrong one",
    "not needed any more",
];

/// Gives this one something to do, for ever: so many tasks in a row, then a pause.
pub(super) async fn keep_busy(target: Rc<Player>, tasks: u32, pause: Duration) {
    a_while(0, 400).await;
    loop {
        for _ in 0..tasks {
            // Who cannot give a task now does so the next time.
            let _given = give(&target).await;
            a_while(50, 300).await;
        }
        rt::time::sleep(pause.mul_f64(rand::random_range(0.7..1.3))).await;
    }
}

async fn give(target: &Rc<Player>) -> anyhow::Result<()> {
    let (Some(asker), Some(task)) = (target.company.asker_of(target), target.any_task()) else {
        return Ok(());
    };
    let body = json!({
        "target_id": target.seat.id, "task": task.words, "deadline_seconds": 900,
        "priority": if rand::random_ratio(1, 5) { 100 } else { 50 },
    });
    let id = asker.seat.delegate(&body).await?;
    let (temper, task) = (target.temper, task.clone());
    rt::spawn(async move {
        // Others may have been quicker: what has ended takes no more.
        let _done = follow_up(&asker, &id, temper, &task).await;
    });
    Ok(())
}

/// What a caller does about what it began.
async fn follow_up(asker: &Player, id: &str, temper: Temper, task: &Task) -> anyhow::Result<()> {
    let place = |what: &str| format!("delegations/{id}/{what}");
    match temper {
        Temper::Inquisitive => {
            a_while(5_000, 14_000).await;
            asker
                .seat
                .post(&place("input"), &json!({"text": task.reply}))
                .await?;
        }
        Temper::Unlucky if rand::random_ratio(1, 3) => {
            a_while(3_000, 6_000).await;
            asker.seat.post(&place("retry"), &json!({})).await?;
        }
        _ if rand::random_ratio(1, 12) => {
            a_while(800, 3_000).await;
            let reason = REASONS.get(rand::random_range(0..REASONS.len()));
            asker
                .seat
                .post(&place("cancel"), &json!({"reason": reason}))
                .await?;
        }
        _ => {}
    }
    Ok(())
}

/// Reads what came back, again and again, and leaves the newest.
pub(super) async fn read(reader: Rc<Player>) {
    loop {
        rt::time::sleep(READ).await;
        // What cannot be read now is there the next time.
        let Ok(inbox) = reader.seat.get("inbox?limit=100").await else {
            continue;
        };
        let messages: Vec<Value> = rows(&inbox, "messages");
        if let Some(last) = messages.iter().rev().nth(LEFT) {
            let _acknowledged = reader.seat.acknowledge(last).await;
        }
    }
}
