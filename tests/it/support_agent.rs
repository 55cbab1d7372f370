//! The scripted agent does on the wire what its script says.

use std::time::Duration;

use reqwest::{Client, Error, Response};
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::eventually;

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
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "t"}});
    let ask = async || {
        let response = client.post(agent.url()).body(body.to_string()).send().await;
        let text = response.expect("a response").text().await.expect("a body");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    assert_eq!(ask().await["error"]["code"], -32601);
    agent.behave_for_method("tasks/get", Behaviour::ArtifactTask("done".to_owned()));
    assert_eq!(ask().await["result"]["status"]["state"], "completed");
    assert!(agent.messages().is_empty());
}
