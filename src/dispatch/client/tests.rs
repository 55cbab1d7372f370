//! Against real sockets: each agent is a script on a port of its own, and counts the requests that reached it whole.

use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::{DelegationId, WorkPhase};

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

fn config() -> ClientConfig {
    ClientConfig {
        guard: TargetGuard::new(vec!["127.0.0.0/8".parse().unwrap()]),
        connect_timeout: LONG,
        first_byte_timeout: None,
        idle_timeout: LONG,
        max_reply_bytes: 1 << 20,
    }
}

fn call(url: &str) -> Call {
    Call {
        url: url.into(),
        message_id: DelegationId::from_text("d-1"),
        task: "do it".into(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        deadline_in: LONG,
    }
}

/// An agent that plays `script` on each connection, and how many whole requests it saw.
struct Agent {
    url: String,
    seen: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Agent {
    async fn start<F, S>(script: S) -> Self
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a2a", listener.local_addr().unwrap());
        let (seen, connections) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let agent = Self {
            url,
            seen: Arc::clone(&seen),
            connections: Arc::clone(&connections),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(Peer {
                    stream,
                    seen: Arc::clone(&seen),
                }));
            }
        });
        agent
    }

    /// Calls it once, and checks that as many requests arrived as `seen` says.
    async fn called(&self, config: ClientConfig, call: Call, seen: usize) -> Called {
        let called = A2aClient::new(config).unwrap().send(call).await;
        assert_eq!(self.seen.load(Ordering::SeqCst), seen, "{called:?}");
        called
    }

    async fn outcome(&self, seen: usize) -> Outcome {
        self.called(config(), call(&self.url), seen).await.outcome
    }
}

struct Peer {
    stream: TcpStream,
    seen: Arc<AtomicUsize>,
}

impl Peer {
    /// Reads one whole request: its head and its body.
    async fn request(&mut self) -> (String, serde_json::Value) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.split_once("content-length: ").unwrap().1;
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    self.seen.fetch_add(1, Ordering::SeqCst);
                    return (head, serde_json::from_str(body).unwrap());
                }
            }
            assert_ne!(
                self.stream.read_buf(&mut bytes).await.unwrap(),
                0,
                "half a request"
            );
        }
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn respond(&mut self, status: &str, body: &str) {
        let length = body.len();
        self.write(&format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Ends the connection with a reset instead of an end.
    fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

fn answer(id: &serde_json::Value, text: &str) -> String {
    serde_json::json!({"jsonrpc": "2.0", "id": id, "result":
        {"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": text}]}})
    .to_string()
}

fn is_unknown(outcome: &Outcome, expected: ErrorClass) -> bool {
    matches!(outcome, Outcome::DeliveredUnknown { class, target_deduplicates: false, .. } if *class == expected)
}

#[tokio::test]
async fn an_answer_comes_back_with_its_bytes_and_every_call_has_its_own_connection() {
    let agent = Agent::start(|mut peer| async move {
        let (head, body) = peer.request().await;
        assert!(head.starts_with("post /a2a http/1.1"), "{head}");
        for line in [
            "content-type: application/json",
            "accept: application/json",
            "connection: close",
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
        // Stays open: only the client's own choice makes the next call connect anew.
        pending::<()>().await;
    })
    .await;
    let client = A2aClient::new(config()).unwrap();
    for calls in 1..=2 {
        let called = client.send(call(&agent.url)).await;
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
    })
    .unwrap();
    for (url, word) in [
        (format!("http://{closed}/"), "refused"),
        (no_tls.url.replace("http:", "https:"), ""),
        (
            silent.url.replace("http:", "https:"),
            "no connection within",
        ),
        ("http://nowhere.invalid/".to_owned(), "nowhere.invalid"),
    ] {
        let called = client.send(call(&url)).await;
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
        .send(Call {
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

#[tokio::test]
async fn every_answer_is_read_as_the_table_says() {
    let other =
        Agent::start(
            |mut peer| async move { respond(peer.request().await, peer, "200 OK", "").await },
        )
        .await;
    let foreign = other.outcome(1).await;
    assert!(
        matches!(
            foreign,
            Outcome::Malformed {
                class: ErrorClass::ForeignResponse,
                ..
            }
        ),
        "{foreign:?}"
    );
    async fn respond(_: (String, serde_json::Value), mut peer: Peer, status: &str, headers: &str) {
        let body = answer(&"another".into(), "for someone else");
        peer.write(&format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    }
    let scripted = |response: String| {
        Agent::start(move |mut peer| {
            let response = response.clone();
            async move {
                peer.request().await;
                peer.write(&response).await;
            }
        })
    };
    let queued = r#"{"queued":true}"#;
    let plain = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    assert_eq!(
        scripted(plain("202 Accepted", queued))
            .await
            .outcome(1)
            .await,
        Outcome::TargetQueued
    );
    let busy = scripted("HTTP/1.1 429 Slow\r\nRetry-After: Wed, 21 Oct 2015 07:28:30 GMT\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    assert_eq!(
        busy.outcome(1).await,
        Outcome::Busy {
            retry_after: Some(Duration::from_secs(30))
        }
    );
    let empty = scripted("HTTP/1.1 204 No Content\r\n\r\n".to_owned())
        .await
        .outcome(1)
        .await;
    assert!(
        matches!(
            empty,
            Outcome::Malformed {
                class: ErrorClass::EmptyResponse,
                ..
            }
        ),
        "{empty:?}"
    );
    let half = scripted("HTTP/1.1 200 OK\r\n\r\n{\"id\":".to_owned())
        .await
        .outcome(1)
        .await;
    assert!(is_unknown(&half, ErrorClass::Truncated), "{half:?}");
    let working = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        let task = serde_json::json!({"id": body["id"], "result": {"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}}});
        peer.respond("200 OK", &task.to_string()).await;
    })
    .await
    .outcome(1)
    .await;
    assert!(
        matches!(
            working,
            Outcome::NonFinal {
                phase: WorkPhase::Working,
                ..
            }
        ),
        "{working:?}"
    );

    let elsewhere = Agent::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    for status in [
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let moved = format!(
            "HTTP/1.1 {status}\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url
        );
        let outcome = scripted(moved).await.outcome(1).await;
        assert!(
            matches!(
                outcome,
                Outcome::Refused {
                    class: ErrorClass::Refused,
                    ..
                }
            ),
            "{outcome:?}"
        );
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}
