//! Each wait ends at its own limit (lessons T01, T02, D07, U02).

use super::*;

#[tokio::test]
async fn silence_ends_at_its_own_limit() {
    let mute = Agent::start(|mut peer| async move {
        peer.request().await;
        pending::<()>().await;
    })
    .await;
    let first_byte = ClientConfig {
        first_byte_timeout: Some(SHORT),
        ..config()
    };
    let begun = Instant::now();
    let outcome = mute.called(first_byte, call(&mute.url), 1).await.outcome;
    assert!(
        is_unknown(&outcome, ErrorClass::OutcomeUnknown),
        "{outcome:?}"
    );
    let total = Call {
        deadline_in: SHORT,
        ..call(&mute.url)
    };
    let outcome = mute.called(config(), total, 2).await.outcome;
    assert!(
        is_unknown(&outcome, ErrorClass::OutcomeUnknown),
        "{outcome:?}"
    );

    let stalls = Agent::start(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
            .await;
        pending::<()>().await;
    })
    .await;
    let idle = ClientConfig {
        idle_timeout: SHORT,
        ..config()
    };
    let called = stalls.called(idle, call(&stalls.url), 1).await;
    assert!(
        is_unknown(&called.outcome, ErrorClass::Truncated),
        "{called:?}"
    );
    assert_eq!(called.raw.as_deref(), Some(&b"{"[..]));

    // Never idle, never done: only the total ends it.
    let drips = Agent::start(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            .await;
        let mut drip = tokio::time::interval(Duration::from_millis(10));
        while peer.stream.write_all(b" ").await.is_ok() {
            drip.tick().await;
        }
    })
    .await;
    let total = Call {
        deadline_in: SHORT,
        ..call(&drips.url)
    };
    let idle = ClientConfig {
        idle_timeout: Duration::from_secs(5),
        ..config()
    };
    let outcome = drips.called(idle, total, 1).await.outcome;
    assert!(is_unknown(&outcome, ErrorClass::Truncated), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

/// Lesson D07: slow is not dead. The connect limit is long over when the first byte comes.
#[tokio::test]
async fn a_late_first_byte_is_waited_for() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        // The agent's work takes this long; the test waits for nothing else.
        sleep(SHORT * 2).await;
        peer.respond("200 OK", &answer(&body["id"], "late")).await;
    })
    .await;
    let patient = ClientConfig {
        connect_timeout: SHORT,
        ..config()
    };
    let outcome = agent.called(patient, call(&agent.url), 1).await.outcome;
    assert_eq!(
        outcome,
        Outcome::Answered {
            text: "late".into()
        }
    );
}

#[tokio::test]
async fn the_reply_limit_is_exact_and_names_itself() {
    let body = |id: &serde_json::Value| answer(id, &"é".repeat(400_000));
    let length = body(&Uuid::nil().to_string().into()).len();
    for announced in [true, false] {
        let agent = Agent::start(move |mut peer| async move {
            let (_, request) = peer.request().await;
            let body = body(&request["id"]);
            let head = if announced {
                format!("Content-Length: {length}\r\n")
            } else {
                String::new()
            };
            // The client may have hung up by then.
            let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
            peer.stream.write_all(text.as_bytes()).await.ok();
        })
        .await;
        let limited = |max_reply_bytes| ClientConfig {
            max_reply_bytes,
            ..config()
        };
        let exact = agent.called(limited(length), call(&agent.url), 1).await;
        assert!(matches!(exact.outcome, Outcome::Answered { text } if text.len() == 800_000));
        assert_eq!(exact.raw.map(|raw| raw.len()), Some(length));
        let over = agent.called(limited(length - 1), call(&agent.url), 2).await;
        let detail = format!("the response is larger than {} bytes", length - 1).into();
        assert_eq!(
            over.outcome,
            Outcome::Malformed {
                class: ErrorClass::ReplyTooLarge,
                detail
            }
        );
        assert_eq!(over.raw, None);
    }
}

/// Thousands wait in these at once.
#[test]
fn a_call_waits_in_little_room() {
    let client = A2aClient::new(config());
    let size = size_of_val(&client.send(call("http://127.0.0.1:1/"), async |_| {}));
    assert!(size <= 1_280, "{size}");
}
