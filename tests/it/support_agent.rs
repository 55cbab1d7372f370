//! The scripted agent does on the wire what its script says.

use std::time::Duration;

use reqwest::{Client, Error, Response};
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent, LongWork, WorkEnd};
use crate::support::eventually;
use crate::support::replies::task_id;

fn client() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = Client::builder().no_proxy().tls_certs_only([]);
    builder.build().expect("an HTTP client")
}

async fn send(client: &Client, agent: &FakeAgent, message_id: &str) -> Result<Response, Error> {
    let body = json!({
        "jsonrpc": "2.0", "id": "r1", "method": "message/send",
        "params": {"message": {"messageId": message_id, "role": "user", "parts": [{"kind": "text", "text": "hello"}]}},
    });
    client.post(agent.url()).body(body.to_string()).send().await
}

/// Calls a JSON-RPC method and returns the answer.
async fn rpc(client: &Client, agent: &FakeAgent, method: &str, params: Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": "r1", "method": method, "params": params});
    let response = client.post(agent.url()).body(body.to_string()).send().await;
    let bytes = response.expect("a response").bytes().await;
    serde_json::from_slice(&bytes.expect("a whole body")).expect("JSON")
}

/// Asks for a task; its state and all that it says.
async fn look(client: &Client, agent: &FakeAgent, message_id: &str) -> (String, String) {
    let params = json!({"id": task_id(message_id), "historyLength": 1});
    told(&rpc(client, agent, "tasks/get", params).await)
}

fn told(answer: &Value) -> (String, String) {
    let task = &answer["result"];
    let parts = [
        &task["artifacts"][0]["parts"],
        &task["status"]["message"]["parts"],
    ];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = parts.into_iter().map(|parts| text(&parts[0]["text"]));
    (text(&task["status"]["state"]), said.collect())
}

fn says(state: &str, text: &str) -> (String, String) {
    (state.to_owned(), text.to_owned())
}

async fn answer(client: &Client, agent: &FakeAgent, message_id: &str) -> (u16, Value) {
    let response = send(client, agent, message_id).await.expect("a response");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a whole body");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn answers_have_the_shape_and_the_id_that_were_asked_for() {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let client = client();
    let (status, body) = answer(&client, &agent, "m1").await;
    assert_eq!((status, &body["id"]), (200, &json!("r1")));
    assert_eq!(body["result"]["parts"][0]["text"], "echo: hello");

    agent.behave(Behaviour::ArtifactTask("done".to_owned()));
    let (_, body) = answer(&client, &agent, "m1").await;
    assert_eq!(body["result"]["status"]["state"], "completed");
    assert_eq!(body["result"]["artifacts"][0]["parts"][0]["text"], "done");

    agent.behave(Behaviour::NonFinal("working".to_owned()));
    assert_eq!(
        answer(&client, &agent, "m2").await.1["result"]["status"]["state"],
        "working"
    );
    agent.behave(Behaviour::WrongId);
    assert_ne!(answer(&client, &agent, "m3").await.1["id"], "r1");
    agent.behave(Behaviour::Error(-32000, "no".to_owned()));
    assert_eq!(
        answer(&client, &agent, "m4").await.1["error"]["code"],
        -32000
    );
    agent.first([Behaviour::Busy, Behaviour::Empty, Behaviour::Queued202]);
    assert_eq!(answer(&client, &agent, "m5").await.0, 503);
    assert_eq!(answer(&client, &agent, "m5").await, (200, Value::Null));
    assert_eq!(answer(&client, &agent, "m5").await.0, 202);
    assert_eq!(agent.seen("m1"), 2);
    assert_eq!(agent.seen("m5"), 3);
    assert_eq!(agent.messages()[0].text(), "hello");
    assert_eq!(agent.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn bad_manners_break_the_exchange_at_the_right_place() {
    let agent = FakeAgent::start(Behaviour::CloseBeforeReading).await;
    let client = client();
    assert!(send(&client, &agent, "m1").await.is_err());
    assert_eq!(agent.seen("m1"), 0, "never read");
    agent.behave(Behaviour::CloseAfterReading);
    assert!(send(&client, &agent, "m2").await.is_err());
    assert!(agent.seen("m2") >= 1, "read");
    agent.behave(Behaviour::CutBody(10));
    let response = send(&client, &agent, "m3").await.expect("a head");
    assert!(response.bytes().await.is_err(), "half a body");
    agent.stop();
    eventually("refused once stopped", async || {
        let refused = send(&client, &agent, "m4").await.err()?;
        refused.is_connect().then_some(())
    })
    .await;
    agent.behave(Behaviour::Echo);
    agent.resume().await;
    assert_eq!(
        answer(&client, &agent, "m5").await.0,
        200,
        "back on its port"
    );
}

#[tokio::test]
async fn held_messages_are_counted_and_answered_when_released() {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let client = client();
    agent.hold();
    let (held, ()) = tokio::join!(answer(&client, &agent, "m1"), async {
        agent.wait_for(1).await;
        agent.behave(Behaviour::Answer("released".to_owned()));
        agent.release();
    });
    assert_eq!(held.1["result"]["parts"][0]["text"], "released");
}

#[tokio::test]
async fn one_at_a_time_turns_the_others_away() {
    let agent = FakeAgent::start(Behaviour::OneAtATime(Duration::from_millis(200))).await;
    let client = client();
    let (first, second) =
        tokio::join!(answer(&client, &agent, "m1"), answer(&client, &agent, "m2"));
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    assert_eq!(agent.peak(), 1);
    assert_eq!(agent.accepted().len(), 1);
    assert_eq!(answer(&client, &agent, "m3").await.0, 200);
    assert_eq!(agent.accepted()[1], "m3");
    assert_eq!(agent.seen_all().len(), 3);

    agent.behave(Behaviour::Busy);
    for (set, header) in [(Some(7), Some("7")), (None, None)] {
        agent.retry_after(set);
        let response = send(&client, &agent, "m4").await.expect("a response");
        let said = response.headers().get("retry-after");
        assert_eq!(said.map(|value| value.to_str().expect("text")), header);
    }
    assert_eq!(agent.accepted().len(), 2);
}

#[tokio::test]
async fn requests_that_are_no_messages_have_a_script_of_their_own() {
    let agent = FakeAgent::start(Behaviour::Hang).await;
    let client = client();
    let card = format!("{}.well-known/agent-card.json", agent.url());
    let get = async || client.get(&card).send().await.expect("a response");
    assert_eq!(get().await.status().as_u16(), 404);
    agent.show_card(json!({"name": "a"}));
    assert_eq!(get().await.text().await.expect("a body"), r#"{"name":"a"}"#);
    let ask = async || rpc(&client, &agent, "tasks/get", json!({"id": "t"})).await;
    assert_eq!(ask().await["error"]["code"], -32601);
    agent.behave_for_method("tasks/get", Behaviour::ArtifactTask("done".to_owned()));
    let answer = ask().await;
    assert_eq!(answer["result"]["status"]["state"], "completed");
    assert_eq!(
        answer["result"]["id"], "t",
        "of the task that it is asked about"
    );
    assert!(agent.messages().is_empty());
}

#[tokio::test]
async fn long_work_is_found_going_on_until_it_ends() {
    let work = |work| Behaviour::Work(work);
    let agent = FakeAgent::start(work(LongWork::after(2, "completed", "did $INPUT"))).await;
    let client = client();
    assert_eq!(told(&answer(&client, &agent, "m1").await.1).0, "submitted");
    assert_eq!(look(&client, &agent, "m1").await.0, "working");
    assert_eq!(look(&client, &agent, "m1").await.0, "working");
    for _ in 0..2 {
        assert_eq!(
            look(&client, &agent, "m1").await,
            says("completed", "did hello")
        );
    }

    agent.behave(work(LongWork::after(0, "rejected", "not my trade")));
    answer(&client, &agent, "m2").await;
    assert_eq!(
        look(&client, &agent, "m2").await,
        says("rejected", "not my trade")
    );

    agent.behave(work(LongWork::until_finished("at last")));
    assert_eq!(told(&answer(&client, &agent, "m3").await.1).0, "working");
    assert_eq!(look(&client, &agent, "m3").await.0, "working");
    let cancel = async |message_id| {
        let params = json!({"id": task_id(message_id)});
        rpc(&client, &agent, "tasks/cancel", params).await
    };
    answer(&client, &agent, "m4").await;
    assert_eq!(told(&cancel("m4").await).0, "canceled");
    agent.finish_work();
    assert_eq!(
        look(&client, &agent, "m3").await,
        says("completed", "at last")
    );
    assert_eq!(look(&client, &agent, "m4").await.0, "canceled");
    assert_eq!(cancel("m3").await["error"]["code"], -32002);
    assert_eq!(
        agent.named_by("tasks/cancel"),
        [task_id("m4"), task_id("m3")]
    );
    assert_eq!(agent.named_by("tasks/get").len(), 8);

    agent.forget_work();
    let lost = rpc(&client, &agent, "tasks/get", json!({"id": task_id("m3")})).await;
    assert_eq!(lost["error"]["code"], -32001);
}

#[tokio::test]
async fn a_question_waits_for_a_message_that_names_the_task() {
    let then = LongWork::at_once("took $INPUT");
    let work = LongWork {
        end: WorkEnd::Asks("Which one?".to_owned(), Box::new(then)),
        ..LongWork::after(1, "", "")
    };
    let agent = FakeAgent::start(Behaviour::Work(work)).await;
    let client = client();
    answer(&client, &agent, "m1").await;
    let input = async |task: &str| {
        let parts = json!([{"kind": "text", "text": "the blue one"}]);
        let message = json!({"messageId": "m2", "taskId": task, "role": "user", "parts": parts});
        rpc(&client, &agent, "message/send", json!({"message": message})).await
    };
    assert_eq!(
        input(&task_id("m1")).await["error"]["code"],
        -32004,
        "not asked yet"
    );
    assert_eq!(look(&client, &agent, "m1").await.0, "working");
    for _ in 0..2 {
        assert_eq!(
            look(&client, &agent, "m1").await,
            says("input-required", "Which one?")
        );
    }
    assert_eq!(input("another").await["error"]["code"], -32001);
    let done = says("completed", "took the blue one");
    assert_eq!(told(&input(&task_id("m1")).await), done);
    assert_eq!(look(&client, &agent, "m1").await, done);
    assert_eq!(input(&task_id("m1")).await["error"]["code"], -32004, "over");
}

#[tokio::test]
async fn a_repeated_message_is_answered_from_memory_if_so_declared() {
    let agent = FakeAgent::start(Behaviour::Busy).await;
    let card = agent.deduplicate();
    assert!(baton::domain::Card::read(&card.to_string()).deduplicates);
    let client = client();
    assert_eq!(
        answer(&client, &agent, "m1").await.0,
        503,
        "not taken, so not kept"
    );
    agent.behave(Behaviour::Answer("once".to_owned()));
    let (_, first) = answer(&client, &agent, "m1").await;
    agent.behave(Behaviour::Answer("twice".to_owned()));
    assert_eq!(answer(&client, &agent, "m1").await.1, first);

    agent.first([Behaviour::CloseAfterReading]);
    assert!(send(&client, &agent, "m2").await.is_err());
    let (_, repeat) = answer(&client, &agent, "m2").await;
    assert_eq!(repeat["result"]["parts"][0]["text"], "echo: hello");

    agent.hold();
    let (one, other, ()) = tokio::join!(
        answer(&client, &agent, "m3"),
        answer(&client, &agent, "m3"),
        async {
            eventually("both arrived", async || {
                (agent.seen("m3") == 2).then_some(())
            })
            .await;
            agent.release();
        }
    );
    assert_eq!(one, other);
    assert_eq!(agent.accepted(), ["m1", "m2", "m3"]);
}

#[tokio::test]
async fn it_moves_to_another_address() {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let client = client();
    let old = agent.url();
    let new = agent.reopen_elsewhere().await;
    assert!(new != old && new == agent.url());
    assert_eq!(answer(&client, &agent, "m1").await.0, 200);
    eventually("the old address is refused", async || {
        let refused = client.post(&old).send().await.err()?;
        refused.is_connect().then_some(())
    })
    .await;
}
