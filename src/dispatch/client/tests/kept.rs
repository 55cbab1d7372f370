//! Which connections are used again, and what it costs when an agent closes one.

use tokio::sync::Notify;
use url::Url;

use super::*;
use crate::dispatch::client::origin::Origin;

/// A client that takes it that the agent keeps its connections.
fn trusting(agent: &Agent) -> A2aClient {
    let client = A2aClient::new(config());
    trust(&client, &agent.url);
    client
}

fn trust(client: &A2aClient, url: &str) {
    let origin = Origin::of(&Url::parse(url).unwrap()).unwrap();
    client.pool.trust(origin);
}

async fn answered(client: &A2aClient, url: &str) {
    let called = client.sent(call(url)).await;
    assert!(
        matches!(called.outcome, Outcome::Answered { .. }),
        "{called:?}"
    );
}

impl Agent {
    fn connected(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// One that answers each request on a connection with `wrap` around the body.
    async fn steady(wrap: fn(&str) -> String) -> Self {
        Self::start(move |mut peer| async move {
            loop {
                let (_, body) = peer.request().await;
                peer.write(&wrap(&answer(&body["id"], "done"))).await;
            }
        })
        .await
    }
}

fn plain(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn chunked(body: &str) -> String {
    let size = body.len();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n")
}

#[tokio::test]
async fn a_connection_that_ended_cleanly_serves_the_next_call() {
    for wrap in [plain, chunked] {
        let agent = Agent::steady(wrap).await;
        let client = trusting(&agent);
        for calls in 1..=3 {
            answered(&client, &agent.url).await;
            assert_eq!(agent.seen.load(Ordering::SeqCst), calls);
        }
        assert_eq!(agent.connected(), 1);
        // As many as there are calls at once, and not one for each call.
        let call = || answered(&client, &agent.url);
        futures_util::future::join3(call(), call(), call()).await;
        futures_util::future::join3(call(), call(), call()).await;
        assert_eq!(agent.connected(), 3);
    }
}

#[tokio::test]
async fn an_agent_is_trusted_once_it_kept_a_connection() {
    let agent = Agent::steady(plain).await;
    let client = A2aClient::new(config());
    let begun = Instant::now();
    let mut before = 0;
    answered(&client, &agent.url).await;
    while agent.connected() > before {
        before = agent.connected();
        answered(&client, &agent.url).await;
        assert!(begun.elapsed() < LONG);
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "the trial");
}

/// It would be an answer lost for each call that meets the closing.
#[tokio::test]
async fn an_agent_that_closes_after_each_answer_without_a_word_loses_nothing() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        peer.write(&plain(&answer(&body["id"], "done"))).await;
    })
    .await;
    let client = A2aClient::new(config());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        answered(&client, &agent.url).await;
    }
    assert_eq!(agent.connected(), agent.seen.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_connection_found_closed_or_speaking_is_not_used() {
    for stray in ["", "HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let over = Arc::new(Notify::new());
        let agent = Agent::start({
            let over = Arc::clone(&over);
            move |mut peer| {
                let over = Arc::clone(&over);
                async move {
                    let (_, body) = peer.request().await;
                    peer.write(&plain(&answer(&body["id"], "done"))).await;
                    over.notified().await;
                    peer.write(stray).await;
                    let open = (!stray.is_empty()).then_some(peer);
                    over.notify_one();
                    let _open = open;
                    pending::<()>().await;
                }
            }
        })
        .await;
        let client = trusting(&agent);
        answered(&client, &agent.url).await;
        over.notify_one();
        tokio::task::yield_now().await;
        over.notified().await;
        answered(&client, &agent.url).await;
        assert_eq!(agent.connected(), 2);
    }
}

#[tokio::test]
async fn one_that_breaks_under_a_request_ends_as_unknown_and_ends_the_trust() {
    let agent = Agent::start(|mut peer| async move {
        let (_, body) = peer.request().await;
        peer.write(&plain(&answer(&body["id"], "done"))).await;
        peer.stream.peek(&mut [0]).await.unwrap();
        peer.reset();
    })
    .await;
    let client = trusting(&agent);
    answered(&client, &agent.url).await;
    let broken = client.sent(call(&agent.url)).await.outcome;
    assert!(
        is_unknown(&broken, ErrorClass::OutcomeUnknown),
        "{broken:?}"
    );
    assert_eq!(agent.connected(), 1, "nothing is sent twice");
    answered(&client, &agent.url).await;
    answered(&client, &agent.url).await;
    assert_eq!(agent.connected(), 3);
}

#[tokio::test]
async fn what_did_not_end_cleanly_is_not_kept() {
    let extra = |body: &str| plain(body) + "x";
    let closing = |body: &str| plain(body).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let old = |body: &str| plain(body).replacen("1.1", "1.0", 1);
    let wraps: [fn(&str) -> String; 3] = [extra, closing, old];
    for wrap in wraps {
        let agent = Agent::steady(wrap).await;
        let client = trusting(&agent);
        answered(&client, &agent.url).await;
        answered(&client, &agent.url).await;
        assert_eq!(agent.connected(), 2);
    }
    let half = Agent::start(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
            .await;
        pending::<()>().await;
    })
    .await;
    let client = trusting(&half);
    for calls in 1..=2 {
        let deadline_in = SHORT;
        let called = client
            .sent(Call {
                deadline_in,
                ..call(&half.url)
            })
            .await;
        assert!(is_unknown(&called.outcome, ErrorClass::Truncated));
        assert_eq!(half.connected(), calls);
    }
}

#[tokio::test]
async fn origins_share_nothing() {
    let agent = Agent::steady(plain).await;
    let by_name = agent.url.replace("127.0.0.1", "localhost");
    let client = trusting(&agent);
    trust(&client, &by_name);
    for url in [&agent.url, &by_name, &agent.url, &by_name] {
        answered(&client, url).await;
    }
    assert_eq!(agent.connected(), 2);
    // The same origin at another path is the same agent's server.
    answered(&client, &agent.url.replace("/a2a", "/other?x=y")).await;
    assert_eq!(agent.connected(), 2);
}

/// An agent may refuse what it has not read to the end.
#[tokio::test]
async fn an_early_answer_counts() {
    let agent = Agent::start(|mut peer| async move {
        peer.stream.read_exact(&mut [0; 1024]).await.unwrap();
        peer.respond("413 Too Large", "").await;
        pending::<()>().await;
    })
    .await;
    let message = Message::Task("x".repeat(32 << 20).into());
    let client = trusting(&agent);
    for calls in 1..=2 {
        let message = message.clone();
        let called = client
            .sent(Call {
                message,
                ..call(&agent.url)
            })
            .await;
        assert!(
            matches!(called.outcome, Outcome::Refused { .. }),
            "{called:?}"
        );
        assert_eq!(agent.connected(), calls);
    }
}
