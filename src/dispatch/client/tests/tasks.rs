//! Speaking of a task that the agent has: asking, cancelling, answering its question.

use serde_json::{Value, json};

use super::*;

fn about(url: &str) -> AskCall {
    AskCall {
        url: url.into(),
        manner: Arc::default(),
        credential: None,
        task: RemoteTaskId("t:1".into()),
        traceparent: None,
        deadline_in: LONG,
    }
}

/// A completed task of that name.
fn done(id: &Value, task: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"kind": "task", "id": task, "contextId": "c", "status": {
        "state": "completed", "message": {"role": "agent", "parts": [{"kind": "text", "text": "all done"}]},
    }}})
    .to_string()
}

/// An agent that knows the task that it is asked about as `named`.
async fn knowing(named: &'static str) -> Agent {
    Agent::start(move |mut peer| async move {
        let (_, body) = peer.request().await;
        assert_eq!(body["method"], "tasks/get");
        assert_eq!(body["params"], json!({"id": "t:1", "historyLength": 1}));
        peer.respond("200 OK", &done(&body["id"], named)).await;
    })
    .await
}

async fn asked(config: ClientConfig, call: AskCall) -> AskedReply {
    A2aClient::new(config).ask(call).await
}

fn is_later(reply: &AskedReply, word: &str) -> bool {
    matches!(&reply.outcome, AskOutcome::Later { detail, .. } if detail.contains(word))
}

#[tokio::test]
async fn the_agent_tells_of_the_task_that_it_is_asked_about() {
    let reply = asked(config(), about(&knowing("t:1").await.url)).await;
    let text = "all done".into();
    assert_eq!(reply.outcome, AskOutcome::Told(Outcome::Answered { text }));
    assert!(reply.raw.unwrap().starts_with(b"{"));

    let foreign = asked(config(), about(&knowing("t:2").await.url)).await;
    assert!(
        is_later(&foreign, "t:2") && foreign.raw.is_some(),
        "{foreign:?}"
    );

    let small = ClientConfig {
        max_reply_bytes: 10,
        ..config()
    };
    let too_large = asked(small, about(&knowing("t:1").await.url)).await;
    assert!(
        matches!(
            too_large.outcome,
            AskOutcome::Told(Outcome::Malformed {
                class: ErrorClass::ReplyTooLarge,
                ..
            })
        ),
        "{too_large:?}"
    );
}

#[tokio::test]
async fn a_question_without_an_answer_says_nothing_of_the_task() {
    let mute = Agent::start(|mut peer| async move {
        peer.request().await;
        pending::<()>().await;
    })
    .await;
    let hasty = AskCall {
        deadline_in: SHORT,
        ..about(&mute.url)
    };
    let reply = asked(config(), hasty.clone()).await;
    assert!(
        is_later(&reply, "no answer before the deadline"),
        "{reply:?}"
    );
    assert!(!A2aClient::new(config()).cancel(hasty).await);

    let cut = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        let whole = done(&body["id"], "t:1");
        peer.write(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{whole}"
        ))
        .await;
    })
    .await;
    let reply = asked(config(), about(&cut.url)).await;
    assert!(
        is_later(&reply, "broke off") && reply.raw.is_some(),
        "{reply:?}"
    );

    // Bound and let go: nobody listens there.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let reply = asked(config(), about(&closed)).await;
    assert!(is_later(&reply, "refused"), "{reply:?}");

    let unseen = knowing("t:1").await;
    let blocked = ClientConfig {
        guard: TargetGuard::new(Vec::new()),
        ..config()
    };
    let reply = asked(blocked, about(&unseen.url)).await;
    assert!(is_later(&reply, "blocked address"), "{reply:?}");
    assert_eq!(unseen.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cancel_counts_as_heard_whatever_the_agent_says() {
    for status in ["200 OK", "404 Not Found", "500 Oops"] {
        let agent = Agent::start(move |mut peer| async move {
            let (_, body) = peer.request().await;
            assert_eq!(body["method"], "tasks/cancel");
            assert_eq!(body["params"], json!({"id": "t:1"}));
            peer.respond(status, "").await;
        })
        .await;
        let client = A2aClient::new(config());
        assert!(client.cancel(about(&agent.url)).await, "{status}");
        assert_eq!(agent.seen.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn an_input_goes_on_with_the_task_under_an_id_of_its_own() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        let message = &body["params"]["message"];
        assert_eq!(body["method"], "message/send");
        assert_eq!(message["messageId"], "input-1");
        assert_eq!(message["taskId"], "t:1");
        assert_eq!(message["metadata"]["delegation_id"], "d-1");
        let text = message["parts"][0]["text"].as_str().unwrap();
        peer.respond("200 OK", &answer(&body["id"], text)).await;
    })
    .await;
    let message = Message::Input {
        id: "input-1".into(),
        task: Some(RemoteTaskId("t:1".into())),
        text: "the blue one".into(),
    };
    let input = Call {
        message,
        ..call(&agent.url)
    };
    let text = "the blue one".into();
    assert_eq!(
        agent.called(config(), input, 1).await.outcome,
        Outcome::Answered { text }
    );
}

#[tokio::test]
async fn the_question_in_answer_to_an_input_is_no_new_one_where_nobody_waits() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        let task = json!({"id": "t:1", "status": {"state": "TASK_STATE_INPUT_REQUIRED"}});
        let result = json!({"id": body["id"], "result": {"task": task}});
        peer.respond("200 OK", &result.to_string()).await;
    })
    .await;
    let input = |name: &str| Message::Input {
        id: "input-1".into(),
        task: Some(RemoteTaskId(name.into())),
        text: "the blue one".into(),
    };
    for (delivery, message, is_word) in [
        (Delivery::NonBlocking, input("t:1"), false),
        (Delivery::NonBlocking, input("t:2"), true),
        (Delivery::NonBlocking, Message::Task("do it".into()), true),
        (Delivery::Blocking, input("t:1"), true),
    ] {
        let manner = Arc::new(Manner {
            delivery,
            ..Manner::default()
        });
        let call = Call {
            manner,
            message,
            ..call(&agent.url)
        };
        let outcome = A2aClient::new(config()).sent(call).await.outcome;
        let asks = matches!(outcome, Outcome::NonFinal { .. });
        assert_eq!(asks, is_word, "{outcome:?}");
        assert!(asks || outcome == Outcome::TargetQueued);
    }
}
