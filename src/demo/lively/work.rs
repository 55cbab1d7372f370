//! How agents do what they are asked to.

use std::rc::Rc;
use std::time::Duration;

use actix_web::rt;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::cast::Temper;
use super::player::Player;
use crate::demo::api::rows;

/// How often an agent says that it lives: before its silence would count.
const BEAT: Duration = Duration::from_secs(2);
/// How often one comes that fetches its work.
const ROUND: Duration = Duration::from_secs(4);
/// How often one looks how the work of another stands.
const LOOK: Duration = Duration::from_millis(700);
/// How often it looks at most.
const LOOKS: u32 = 40;
/// What goes wrong.
const MISHAPS: [&str; 3] = [
    "the ledger did not answer within ten seconds",
    "permission denied: the key of this agent has expired",
    "the carrier's page has changed, and cannot be read any more",
];
/// What is told on the way.
const STEPS: [(u32, &str); 4] = [
    (10, "reading what there is"),
    (35, "a first pass is done"),
    (60, "checking the odd ones"),
    (85, "writing it down"),
];

/// What an agent answers.
pub(super) enum Word {
    Result(Value),
    Error(&'static str),
    Busy,
}

/// A time somewhere between these, in milliseconds.
pub(super) async fn a_while(least: u64, most: u64) {
    rt::time::sleep(Duration::from_millis(rand::random_range(least..=most))).await;
}

/// Takes a message, and answers when it has something to say.
pub(super) async fn take(player: &Rc<Player>, message: &Value) -> Word {
    let text = |place: &str| {
        message
            .pointer(place)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (task, id) = (text("/parts/0/text"), text("/messageId"));
    if player.temper == Temper::Busy && player.at_work() >= 2 {
        return Word::Busy;
    }
    let at_work = player.begin(task);
    match player.temper {
        Temper::Diligent | Temper::Leading => {
            let (worker, id, task) = (Rc::clone(player), id.to_owned(), task.to_owned());
            let named = self::task(&id, "submitted", None);
            rt::spawn(async move {
                let _at_work = at_work;
                // Whoever withdraws a task ends the work on it.
                let _done = match worker.temper {
                    Temper::Leading => lead(&worker, &id, &task).await,
                    _ => labour(&worker, &id, &task).await,
                };
            });
            return Word::Result(named);
        }
        Temper::Inquisitive => match message.get("taskId").and_then(Value::as_str) {
            None => return Word::Result(ask(player, id, task)),
            Some(asked) => {
                a_while(800, 2_000).await;
                let asked = player.questions.borrow_mut().remove(asked);
                return Word::Result(reply(player, asked.as_deref().unwrap_or(task)));
            }
        },
        Temper::Unlucky => {
            a_while(500, 1_500).await;
            if rand::random_ratio(2, 3) {
                let mishap = MISHAPS.choose(&mut rand::rng());
                return Word::Error(mishap.copied().unwrap_or_default());
            }
        }
        Temper::Silent => a_while(7_000, 12_000).await,
        Temper::Thoughtful => a_while(2_000, 5_000).await,
        Temper::Single | Temper::Busy | Temper::Nightly => a_while(1_500, 3_000).await,
        Temper::Quick | Temper::Calm | Temper::Polling => a_while(50, 500).await,
    }
    Word::Result(reply(player, task))
}

/// How a task stands that it was asked after.
pub(super) fn standing(player: &Player, params: &Value) -> Word {
    let id = params.get("id").and_then(Value::as_str).unwrap_or_default();
    let questions = player.questions.borrow();
    let question = questions.get(id).and_then(|task| player.task(task));
    Word::Result(match question {
        Some(task) => self::task(id, "input-required", Some(&task.question)),
        None => task(id, "working", None),
    })
}

/// A task that is not wanted any more.
pub(super) fn withdrawn(player: &Player, params: &Value) -> Word {
    let id = params.get("id").and_then(Value::as_str).unwrap_or_default();
    player.questions.borrow_mut().remove(id);
    Word::Result(task(id, "canceled", None))
}

fn ask(player: &Player, id: &str, words: &str) -> Value {
    let question = player.task(words).map(|task| &*task.question);
    player
        .questions
        .borrow_mut()
        .insert(id.to_owned(), words.to_owned());
    task(id, "input-required", question.or(Some("For whom is it?")))
}

fn answer<'a>(player: &'a Player, words: &str) -> &'a str {
    player.task(words).map_or("Done.", |task| &task.answer)
}

fn reply(player: &Player, words: &str) -> Value {
    message(answer(player, words))
}

fn message(text: &str) -> Value {
    json!({
        "kind": "message", "role": "agent", "messageId": uuid::Uuid::new_v4().to_string(),
        "parts": [{"kind": "text", "text": text}],
    })
}

fn task(id: &str, state: &str, says: Option<&str>) -> Value {
    json!({
        "kind": "task", "id": id, "contextId": id,
        "status": {"state": state, "message": says.map(message)},
    })
}

/// Works, and tells how far it is.
async fn labour(player: &Player, id: &str, words: &str) -> anyhow::Result<()> {
    a_while(600, 1_200).await;
    for (percent, step) in STEPS {
        tell(player, id, percent, step).await?;
        a_while(700, 1_900).await;
    }
    report(player, id, answer(player, words)).await
}

/// Has two others do parts of it, and waits for them.
async fn lead(player: &Player, id: &str, words: &str) -> anyhow::Result<()> {
    a_while(400, 900).await;
    for percent in [20, 60] {
        let Some(helper) = player.company.helper_of(player) else {
            break;
        };
        let Some(part) = helper.any_task() else {
            continue;
        };
        tell(
            player,
            id,
            percent,
            &format!("waiting for the {}", helper.name),
        )
        .await?;
        let body = json!({
            "target_id": helper.seat.id, "task": part.words, "parent_delegation_id": id,
            "deadline_seconds": 600,
        });
        let child = player.seat.delegate(&body).await?;
        let told = part.reply.clone();
        wait_for(player, &child, &told).await?;
    }
    report(player, id, answer(player, words)).await
}

/// Until it has ended, or has taken very long; a question on the way is answered.
async fn wait_for(player: &Player, child: &str, told: &str) -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        rt::time::sleep(LOOK).await;
        let seen = player.seat.get(&format!("delegations/{child}")).await?;
        match seen.get("status").and_then(Value::as_str) {
            Some("completed" | "failed" | "cancelled") => break,
            Some("input_required") => {
                a_while(2_000, 4_000).await;
                let place = format!("delegations/{child}/input");
                // Somebody who looks on may have answered.
                let _answered = player.seat.post(&place, &json!({"text": told})).await;
            }
            _ => {}
        }
    }
    Ok(())
}

async fn tell(player: &Player, id: &str, percent: u32, step: &str) -> anyhow::Result<()> {
    let place = format!("delegations/{id}/heartbeat");
    let body = json!({"message": step, "percent": percent});
    Ok(player.seat.post(&place, &body).await.map(drop)?)
}

async fn report(player: &Player, id: &str, text: &str) -> anyhow::Result<()> {
    let place = format!("delegations/{id}/update");
    let body = json!({"status": "completed", "response_preview": text});
    Ok(player.seat.post(&place, &body).await.map(drop)?)
}

/// Says again and again that it lives, while it can be reached. One that fails too often says that, too, at times.
pub(super) async fn live(player: Rc<Player>) {
    for beat in 0_u32.. {
        let ails = player.temper == Temper::Unlucky && beat % 30 >= 20;
        if player.is_open.get() {
            let condition = player.condition(if ails { 0.67 } else { 0.0 });
            // The server may refuse for a moment: the next one will do.
            let _taken = player.seat.beat(&condition).await;
        }
        rt::time::sleep(BEAT).await;
    }
}

/// Comes round for what there is to do, and does it.
pub(super) async fn fetch(player: Rc<Player>) {
    loop {
        rt::time::sleep(ROUND).await;
        // What could not be fetched now is there the next time.
        let Ok(inbox) = player.seat.get("inbox?limit=50").await else {
            continue;
        };
        let messages = rows(&inbox, "messages");
        for row in &messages {
            let text = |place: &str| {
                row.pointer(place)
                    .and_then(Value::as_str)
                    .map(ToOwned::to_owned)
            };
            let id = text("/request_body/params/message/messageId");
            let words = text("/request_body/params/message/parts/0/text");
            if let (Some(id), Some(words)) = (id, words) {
                let player = Rc::clone(&player);
                rt::spawn(async move {
                    let _at_work = player.begin(&words);
                    let _done = labour(&player, &id, &words).await;
                });
            }
        }
        if let Some(last) = messages.last() {
            let _acknowledged = player.seat.acknowledge(last).await;
        }
    }
}
