use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::dispatch::card::Delivery;
use crate::dispatch::{ClientConfig, TargetGuard};

/// Serves these answers by path, as they are; 404 for every other.
async fn serving(answers: Vec<(&'static str, String)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let answer = answers.iter().find(|(place, _)| *place == path);
            let none = "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n";
            let answer = if head.contains("\r\nif-none-match: ") {
                "HTTP/1.1 304 Same\r\ncache-control: max-age=120\r\n\r\n"
            } else {
                answer.map_or(none, |(_, answer)| answer)
            };
            seen.lock().unwrap().push(head.clone());
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    (base, heads)
}

fn client() -> A2aClient {
    A2aClient::new(ClientConfig {
        guard: TargetGuard::new(vec!["127.0.0.0/8".parse().unwrap()]),
        connect_timeout: LIMIT,
        first_byte_timeout: None,
        idle_timeout: LIMIT,
        max_reply_bytes: 1 << 20,
        faults: Arc::default(),
    })
}

fn card() -> Value {
    json!({"supportedInterfaces": [{"url": "http://x/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]})
}

fn ok(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn paths(heads: &Mutex<Vec<String>>) -> Vec<String> {
    let heads = heads.lock().unwrap();
    let path = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
    heads.iter().map(path).collect()
}

#[test]
fn a_card_may_be_in_few_places() {
    let places = |own: &str| -> Vec<String> {
        let places = places(&Url::parse(own).unwrap());
        places.into_iter().map(String::from).collect()
    };
    let [new, old] = [
        "http://a/.well-known/agent-card.json",
        "http://a/.well-known/agent.json",
    ];
    assert_eq!(places("http://a"), [new, old]);
    assert_eq!(places("http://a/?x#y"), [new, old]);
    let below = "http://a/x/y/.well-known/agent-card.json";
    assert_eq!(places("http://a/x/y/"), [below, new, old]);
    assert_eq!(places("http://a/x/c.json?k#y"), ["http://a/x/c.json?k"]);
}

#[tokio::test]
async fn the_first_card_of_use_is_found_once_and_kept() {
    let (base, heads) = serving(vec![
        ("/a/.well-known/agent-card.json", ok("", "no card")),
        ("/.well-known/agent-card.json", ok("", &card().to_string())),
    ])
    .await;
    let (client, url) = (client(), format!("{base}/a").into());
    for _ in 0..3 {
        let manner = client.manner(&url, None).await;
        assert_eq!(
            (manner.version, manner.delivery),
            (Protocol::V10, Delivery::NonBlocking)
        );
    }
    let looked = [
        "/a/.well-known/agent-card.json",
        "/.well-known/agent-card.json",
    ];
    assert_eq!(paths(&heads), looked);
    // What was registered counts more, and is not looked for.
    let registered = Card::read(r#"{"url":"http://x/","capabilities":{"streaming":true}}"#);
    let manner = client.manner(&url, Some(&registered)).await;
    assert_eq!(
        (manner.version, manner.delivery),
        (Protocol::V03, Delivery::Streaming)
    );
    let other = format!("{base}/b").into();
    assert!(
        !client.manner(&other, None).await.is_plain(),
        "another address is another agent"
    );
    assert_eq!(paths(&heads).len(), 4);
}

#[tokio::test]
async fn that_there_is_none_is_known_too() {
    let (base, heads) = serving(vec![]).await;
    let (client, url) = (client(), base.into());
    for _ in 0..3 {
        assert_eq!(*client.manner(&url, None).await, Manner::default());
    }
    assert_eq!(paths(&heads).len(), 2);
}

#[tokio::test]
async fn many_who_ask_at_once_make_one_look() {
    let (base, heads) = serving(vec![]).await;
    let (client, url): (_, Arc<str>) = (client(), base.into());
    let asking = (0..50).map(|_| client.manner(&url, None));
    let manners = futures_util::future::join_all(asking).await;
    assert!(manners.iter().all(|manner| manner.is_plain()));
    assert_eq!(paths(&heads).len(), 2);
}

/// Lets what is known of an agent be as old as can be.
fn age(client: &A2aClient, url: &str) {
    let slot = client.cards.0.get(url).unwrap();
    let mut known = slot.known.lock().unwrap();
    known.as_mut().unwrap().until = Instant::now();
}

#[tokio::test]
async fn a_card_that_is_old_is_asked_for_by_its_name() {
    const PLACE: &str = "/.well-known/agent-card.json";
    let found = ok(
        "etag: \"v1\"\r\ncache-control: public, max-age=60\r\n",
        &card().to_string(),
    );
    let (base, heads) = serving(vec![(PLACE, found)]).await;
    let (client, url): (_, Arc<str>) = (client(), base.into());
    let fresh = || {
        let known = client.cards.0.get(&*url).unwrap().known().unwrap();
        known.until.duration_since(known.found).as_secs()
    };
    let first = client.manner(&url, None).await;
    assert!(!first.is_plain() && fresh() == 60);
    age(&client, &url);
    assert_eq!(client.manner(&url, None).await, first);
    assert_eq!(fresh(), 120);
    let heads = heads.lock().unwrap().clone();
    assert!(!heads[0].contains("if-none-match"));
    assert!(heads[1].contains("if-none-match: \"v1\"\r\n"), "{heads:?}");
}

#[tokio::test]
async fn a_card_that_cannot_be_had_is_none_and_one_that_was_had_counts_on() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{".to_owned();
    let failing = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_owned();
    for answer in [
        cut,
        failing,
        "rubbish".to_owned(),
        ok("", &"x".repeat(CARD_BYTES + 1)),
    ] {
        let (base, _) = serving(vec![("/.well-known/agent-card.json", answer)]).await;
        assert!(client().manner(&base.into(), None).await.is_plain());
    }
    let answers = AtomicUsize::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Arc<str> = format!("http://{}", listener.local_addr().unwrap()).into();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        answers.fetch_add(1, Ordering::SeqCst);
        drop(stream.read(&mut [0; 4096]).await);
        let answer = ok("connection: close\r\n", &card().to_string());
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let client = client();
    assert!(!client.manner(&url, None).await.is_plain());
    serving.await.unwrap();
    // It is gone by now.
    age(&client, &url);
    assert!(!client.manner(&url, None).await.is_plain());
}

#[tokio::test]
async fn an_agent_that_is_away_is_looked_for_again() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let (client, url): (_, Arc<str>) = (client(), format!("http://{address}").into());
    let manner = client.manner(&url, None).await;
    assert!(manner.is_plain() && manner.guessed);
    let known = client.cards.0.get(&*url).unwrap().known().unwrap();
    assert!(known.until <= Instant::now());
    // What may not be called is not looked at either.
    let blocked = "http://10.0.0.1/".into();
    assert!(client.manner(&blocked, None).await.is_plain());
    assert!(client.cards.0.get(&*blocked).is_none());
}
