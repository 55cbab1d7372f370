//! Whether a request left, and how often.

use super::*;

#[tokio::test]
async fn an_answer_comes_back_with_its_bytes() {
    let agent = Agent::start(|mut peer| async move {
        let (head, body) = peer.request().await;
        assert!(head.starts_with("post /a2a http/1.1"), "{head}");
        for line in [
            "content-type: application/json",
            "accept: application/json",
            concat!("user-agent: baton/", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        assert!(
            head.contains("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{head}"
        );
        assert!(
            !head.contains("00f067aa0ba902b7") && !head.contains("transfer-encoding"),
            "{head}"
        );
        assert_eq!(body["params"]["message"]["messageId"], "d-1");
        peer.respond("200 OK", &answer(&body["id"], "done ✓")).await;
        // Stays open; whether it would for long is not known yet, so the next call connects anew.
        pending::<()>().await;
    })
    .await;
    let client = A2aClient::new(config());
    for calls in 1..=2 {
        let called = client.sent(call(&agent.url)).await;
        assert_eq!(
            called.outcome,
            Outcome::Answered {
                text: "done ✓".into()
            }
        );
        assert!(called.raw.unwrap().starts_with(b"{"));
        assert_eq!(agent.connections.load(Ordering::SeqCst), calls);
        assert_eq!(agent.seen.load(Ordering::SeqCst), calls);
    }
}

#[tokio::test]
async fn what_never_left_is_not_delivered() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    // Plain HTTP behind an https URL: the handshake fails.
    let no_tls = Agent::start(|mut peer| async move { peer.respond("400 Bad", "").await }).await;
    // Accepts and stays silent: the handshake never ends.
    let silent = Agent::start(|peer| async move {
        let _open = peer;
        pending::<()>().await;
    })
    .await;
    let connect_timeout = SHORT;
    let client = A2aClient::new(ClientConfig {
        connect_timeout,
        ..config()
    });
    for (url, word) in [
        (format!("http://{closed}/"), "refused"),
        (no_tls.url.replace("http:", "https:"), ""),
        (
            silent.url.replace("http:", "https:"),
            "no connection within",
        ),
        ("http://nowhere.invalid/".to_owned(), "nowhere.invalid"),
    ] {
        let called = client.sent(call(&url)).await;
        let Outcome::NotDelivered { detail } = &called.outcome else {
            panic!("{url}: {called:?}");
        };
        assert!(
            !detail.is_empty() && detail.contains(word),
            "{url}: {detail}"
        );
        assert_eq!(called.raw, None);
    }
    let deadline_in = Duration::ZERO;
    let outcome = client
        .sent(Call {
            deadline_in,
            ..call(&silent.url.replace("http:", "https:"))
        })
        .await
        .outcome;
    assert!(
        matches!(outcome, Outcome::NotDelivered { .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_blocked_address_is_not_called() {
    let agent = Agent::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    let port = agent.url.rsplit_once(':').unwrap().1;
    let closed = || ClientConfig {
        guard: TargetGuard::new(Vec::new()),
        ..config()
    };
    for url in [
        agent.url.clone(),
        format!("http://localhost:{port}"),
        format!("http://0x7f000001:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "ftp://127.0.0.1/".to_owned(),
        "nonsense".to_owned(),
    ] {
        let outcome = agent.called(closed(), call(&url), 0).await.outcome;
        let Outcome::Malformed {
            class: ErrorClass::BlockedAddress,
            detail,
        } = &outcome
        else {
            panic!("{url}: {outcome:?}");
        };
        assert!(detail.contains("url"), "{detail}");
    }
    assert_eq!(agent.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_reaches_the_addresses_that_are_open() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        peer.respond("200 OK", &answer(&body["id"], "by name"))
            .await;
    })
    .await;
    let url = agent.url.replace("127.0.0.1", "localhost");
    let outcome = agent.called(config(), call(&url), 1).await.outcome;
    assert_eq!(
        outcome,
        Outcome::Answered {
            text: "by name".into()
        }
    );
}

/// Lesson Q07 (b): once the request left, an end without a word says nothing about the work.
#[tokio::test]
async fn an_end_before_the_first_byte_is_unknown_and_nothing_is_sent_again() {
    let unread = Agent::start(|peer| async move {
        // The request lies in the buffer, unread: closing now resets the connection.
        assert_eq!(peer.stream.peek(&mut [0]).await.unwrap(), 1);
    })
    .await;
    assert!(is_unknown(
        &unread.outcome(0).await,
        ErrorClass::OutcomeUnknown
    ));
    assert_eq!(unread.connections.load(Ordering::SeqCst), 1);

    let ended = Agent::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    assert!(is_unknown(
        &ended.outcome(1).await,
        ErrorClass::OutcomeUnknown
    ));

    let reset = Agent::start(|mut peer| async move {
        peer.request().await;
        peer.reset();
    })
    .await;
    assert!(is_unknown(
        &reset.outcome(1).await,
        ErrorClass::OutcomeUnknown
    ));

    let garbled = Agent::start(|mut peer| async move {
        peer.request().await;
        peer.write("SSH-2.0-OpenSSH\r\n\r\n").await;
    })
    .await;
    assert!(is_unknown(
        &garbled.outcome(1).await,
        ErrorClass::OutcomeUnknown
    ));

    // Closed at once: the request left or it did not, and the outcome says which; it is one connection in any case.
    let slammed = Agent::start(|peer| async move { peer.reset() }).await;
    let outcome = slammed.outcome(0).await;
    assert!(
        is_unknown(&outcome, ErrorClass::OutcomeUnknown)
            || matches!(outcome, Outcome::NotDelivered { .. }),
        "{outcome:?}"
    );
    assert_eq!(slammed.connections.load(Ordering::SeqCst), 1);
}

/// Lesson D02.
#[tokio::test]
async fn half_a_body_is_truncated_after_success_and_an_error_after_an_error() {
    let cut = |status: &'static str, reset: bool| {
        Agent::start(move |mut peer| async move {
            peer.request().await;
            let body = "x".repeat(5000);
            peer.write(&format!(
                "HTTP/1.1 {status}\r\nContent-Length: 100000\r\n\r\n{body}"
            ))
            .await;
            if reset {
                peer.reset();
            }
        })
    };
    for reset in [false, true] {
        let agent = cut("200 OK", reset).await;
        let called = agent.called(config(), call(&agent.url), 1).await;
        assert!(
            is_unknown(&called.outcome, ErrorClass::Truncated),
            "{called:?}"
        );
        let outcome = cut("500 Oops", reset).await.outcome(1).await;
        let detail = "HTTP 500: Internal Server Error".into();
        assert_eq!(
            outcome,
            Outcome::Refused {
                class: ErrorClass::Refused,
                detail
            }
        );
    }
}

#[tokio::test]
async fn who_declines_a_manner_that_was_guessed_was_not_given_the_message() {
    for (status, code, is_declined) in [
        ("200 OK", -32601, true),
        ("404 Not Found", -32009, true),
        ("200 OK", -32603, false),
    ] {
        let agent = Agent::start(move |mut peer| async move {
            let (_, body) = peer.request().await;
            let error = serde_json::json!({"id": body["id"], "error": {"code": code}});
            peer.respond(status, &error.to_string()).await;
        })
        .await;
        for guessed in [true, false] {
            let manner = Arc::new(Manner {
                guessed,
                ..Manner::default()
            });
            let call = Call {
                manner,
                ..call(&agent.url)
            };
            let outcome = A2aClient::new(config()).sent(call).await.outcome;
            let again = matches!(outcome, Outcome::NotDelivered { .. });
            assert_eq!(again, guessed && is_declined, "{outcome:?}");
        }
    }
}
