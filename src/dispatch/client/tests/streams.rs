//! Answers that are streams, in whatever pieces they come.

use serde_json::{Value, json};

use super::*;
use crate::dispatch::card::Delivery;
use crate::domain::Protocol;

fn streaming() -> Arc<Manner> {
    Arc::new(Manner {
        version: Protocol::V10,
        delivery: Delivery::Streaming,
        ..Manner::default()
    })
}

fn streamed(url: &str) -> Call {
    Call {
        manner: streaming(),
        ..call(url)
    }
}

/// What came of the call, and what was told before.
async fn listened(config: ClientConfig, call: Call) -> (Called, Vec<News>) {
    let mut news = Vec::new();
    let client = A2aClient::new(config);
    let called = client.send(call, async |told| news.push(told)).await;
    (called, news)
}

fn event(id: &Value, result: &Value) -> String {
    let data = json!({"jsonrpc": "2.0", "id": id, "result": result});
    format!("data: {data}\n\n")
}

/// A task that is begun, makes something, and is done.
fn events(id: &Value) -> String {
    let status = |state: &str| json!({"taskId": "t", "status": {"state": state}});
    let artifact = json!({"artifactId": "a", "parts": [{"text": "done"}]});
    [
        json!({"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}}),
        json!({"artifactUpdate": {"taskId": "t", "artifact": artifact}}),
        json!({"statusUpdate": status("TASK_STATE_COMPLETED")}),
    ]
    .iter()
    .map(|result| event(id, result))
    .collect()
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n";

/// An agent that answers with this head, and a body of these events made by `frame`.
async fn agent(head: &'static str, frame: fn(&str) -> String) -> Agent {
    Agent::start(move |mut peer| async move {
        let (_, body) = peer.request().await;
        peer.write(&format!("{HEAD}{head}\r\n")).await;
        // In pieces that respect nothing.
        for piece in frame(&events(&body["id"])).as_bytes().chunks(7) {
            peer.stream.write_all(piece).await.unwrap();
            peer.stream.flush().await.unwrap();
        }
    })
    .await
}

fn chunks(text: &str) -> String {
    let pieces = text.as_bytes().chunks(50);
    let chunk = |piece: &[u8]| {
        format!(
            "{:x}\r\n{}\r\n",
            piece.len(),
            String::from_utf8_lossy(piece)
        )
    };
    pieces.map(chunk).collect::<String>() + "0\r\n\r\n"
}

#[tokio::test]
async fn a_stream_is_heard_however_it_is_framed() {
    let plain = |text: &str| text.to_owned();
    for agent in [
        agent("Transfer-Encoding: chunked\r\n", chunks).await,
        agent("Content-Length: 100000\r\n", plain).await,
        agent("", plain).await,
    ] {
        let (called, news) = listened(config(), streamed(&agent.url)).await;
        let text = "done".into();
        assert_eq!(called.outcome, Outcome::Answered { text });
        let task = Some(RemoteTaskId("t".into()));
        assert_eq!(news[0], News::Stands(task, WorkPhase::Working));
        assert!(
            matches!(news[1], News::Made(_)) && news.len() == 2,
            "{news:?}"
        );
        let raw: Value = serde_json::from_slice(&called.raw.unwrap()).unwrap();
        assert_eq!(raw["result"]["task"]["id"], "t");
    }
}

#[tokio::test]
async fn a_whole_answer_is_as_good_as_a_stream() {
    let agent = Agent::start(|mut peer| async move {
        let (head, body) = peer.request().await;
        assert_eq!(body["method"], "SendStreamingMessage");
        assert!(head.contains("\r\na2a-version: 1.0\r\n"), "{head}");
        assert!(head.contains("\r\naccept: application/json, text/event-stream\r\n"));
        peer.respond("200 OK", &answer(&body["id"], "whole")).await;
    })
    .await;
    let (called, news) = listened(config(), streamed(&agent.url)).await;
    let text = "whole".into();
    assert_eq!((called.outcome, news), (Outcome::Answered { text }, vec![]));
}

#[tokio::test]
async fn what_is_told_is_taken_before_more_is_read() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        peer.write(&format!("{HEAD}\r\n")).await;
        peer.write(&events(&body["id"])).await;
    })
    .await;
    let (mut taking, mut most) = (0, 0);
    let hear = async |_| {
        taking += 1;
        most = most.max(taking);
        tokio::task::yield_now().await;
        taking -= 1;
    };
    A2aClient::new(config())
        .send(streamed(&agent.url), hear)
        .await;
    assert_eq!(most, 1);
}

#[tokio::test]
async fn more_than_is_allowed_is_not_read() {
    for (size, count) in [(2_000, 1), (500, 10)] {
        let agent = Agent::start(move |mut peer| async move {
            let (_, body) = peer.request().await;
            peer.write(&format!("{HEAD}\r\n")).await;
            let working = json!({"task": {"id": "t", "status": {"state": "working"}, "metadata": "x".repeat(size)}});
            // It may be hung up on.
            for _ in 0..count {
                let event = event(&body["id"], &working);
                drop(peer.stream.write_all(event.as_bytes()).await);
            }
            pending::<()>().await;
        })
        .await;
        let small = ClientConfig {
            max_reply_bytes: 1_500,
            ..config()
        };
        let (called, _) = listened(small, streamed(&agent.url)).await;
        assert!(
            matches!(
                called.outcome,
                Outcome::Malformed {
                    class: ErrorClass::ReplyTooLarge,
                    ..
                }
            ),
            "{called:?}"
        );
    }
}

#[tokio::test]
async fn silence_is_borne_until_the_deadline() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        peer.write(&format!("{HEAD}\r\n")).await;
        let working = json!({"task": {"id": "t", "status": {"state": "working"}}});
        peer.write(&event(&body["id"], &working)).await;
        pending::<()>().await;
    })
    .await;
    let impatient = ClientConfig {
        idle_timeout: Duration::from_millis(1),
        ..config()
    };
    let brief = Call {
        deadline_in: SHORT,
        ..streamed(&agent.url)
    };
    let begun = Instant::now();
    let (called, news) = listened(impatient, brief).await;
    assert!(
        is_unknown(&called.outcome, ErrorClass::Truncated),
        "{called:?}"
    );
    assert!(begun.elapsed() >= SHORT && news.len() == 1);
}

#[tokio::test]
async fn no_flood_of_comments_outlives_the_deadline() {
    let agent = Agent::start(|mut peer| async move {
        peer.request().await;
        peer.write(&format!("{HEAD}\r\n")).await;
        let comments = ":\n".repeat(1 << 16);
        // Until it is hung up on.
        while peer.stream.write_all(comments.as_bytes()).await.is_ok() {}
    })
    .await;
    let brief = Call {
        deadline_in: SHORT,
        ..streamed(&agent.url)
    };
    let listened = tokio::time::timeout(LONG, listened(config(), brief)).await;
    let (called, news) = listened.unwrap();
    assert!(
        is_unknown(&called.outcome, ErrorClass::Truncated),
        "{called:?}"
    );
    assert_eq!(news, []);
}

#[tokio::test]
async fn a_secret_goes_out_with_the_request_and_does_not_come_back() {
    let agent = agent("", |text| text.replace("done", "you are correct-horse")).await;
    let credential = Credential::Bearer {
        token: "correct-horse".to_owned(),
    };
    for manner in [streaming(), Arc::default()] {
        let call = Call {
            credential: Some(Arc::new(credential.clone())),
            manner,
            ..call(&agent.url)
        };
        let (called, news) = listened(config(), call).await;
        let all = format!("{called:?} {news:?}");
        assert!(
            !all.contains("horse") && all.contains("*************"),
            "{all}"
        );
    }
}
