//! One sequence over poll, long poll, event stream and socket: a reader may change between them at any moment.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::client::{Api, As, Workspace, position};
use crate::support::database::Database;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};
use crate::support::sized;

crate::on_both_databases!(
    within std::time::Duration::from_mins(6);
    a_reader_that_changes_transport_at_random_gets_each_reply_once_and_in_order,
);
crate::on_both_databases!(a_stream_brings_messages_only_to_those_who_ask);

/// How many replies come, and how many callers' requests are under way at once.
const REPLIES: usize = 10_000;
const AT_ONCE: usize = 64;
/// How long a stream or a socket may be silent before the reader goes elsewhere.
const SILENCE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Transport {
    Poll,
    LongPoll,
    Stream,
    Socket,
}

/// A reader with one position, and every reply that it took.
struct Reader<'a> {
    api: &'a Api,
    caller: &'a Workspace,
    dice: StdRng,
    position: i64,
    replies: Vec<String>,
}

impl Reader<'_> {
    /// Reads by one transport for a while.
    async fn read(&mut self, transport: Transport) {
        let upto = self.dice.random_range(1..300);
        match transport {
            Transport::Poll => self.poll(upto).await,
            Transport::LongPoll => self.long_poll(upto).await,
            Transport::Stream => self.stream(upto).await,
            Transport::Socket => self.socket(upto).await,
        }
    }

    /// What comes next has a higher place than all before it.
    fn move_to(&mut self, place: i64) {
        assert!(place > self.position, "{place} after {}", self.position);
        self.position = place;
    }

    fn take(&mut self, row: &Value) {
        self.move_to(position(row));
        let id = row["request_body"]["delegation_id"].as_str();
        let id = id.unwrap_or_else(|| panic!("no reply: {row}"));
        assert_eq!(row["request_body"]["parts"][0]["text"], *id, "{row}");
        self.replies.push(id.to_owned());
    }

    async fn poll(&mut self, upto: usize) {
        let after = self.position;
        let query = format!("type=a2a_receive&after_seq={after}&limit={upto}");
        let page = self.api.activity(self.caller, &query).await.expect(200);
        for row in page.rows() {
            self.take(row);
        }
    }

    async fn long_poll(&mut self, upto: usize) {
        let acked = self.api.ack(self.caller, self.position).await.expect(200);
        assert!(acked.body["last_acked_seq"].as_i64() <= Some(self.position));
        let limit = u32::try_from(upto).unwrap();
        let inbox = self.api.inbox(self.caller, limit, 1).await.expect(200);
        for row in inbox.body["messages"].as_array().unwrap() {
            self.take(row);
        }
    }

    /// Is cut off in the middle of a line, as the dice will have it.
    async fn stream(&mut self, upto: usize) {
        let mut stream = Raw::connect(self.api).await;
        let path = format!("/workspaces/{}/events/stream?messages=true", self.caller.id);
        let header = format!("Last-Event-ID: {}", self.position);
        stream
            .send(&raw::get_with(self.caller, &path, &header))
            .await;
        let bytes = upto * 500;
        let mut text = String::new();
        while text.len() < bytes {
            match timeout(SILENCE, stream.read_while(str::is_empty)).await {
                Ok(more) => text.push_str(&more),
                Err(_silence) => break,
            }
        }
        text.truncate(bytes);
        // The last block may be cut off anywhere; what else is no event has no data.
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        for block in whole.split("\n\n") {
            let line = |name| block.lines().find_map(|line| line.strip_prefix(name));
            let (Some(id), Some(data)) = (line("id: "), line("data: ")) else {
                continue;
            };
            let event: Value = serde_json::from_str(data).expect("JSON");
            self.see(&event["type"], &event["data"], id.parse().unwrap());
        }
    }

    async fn socket(&mut self, upto: usize) {
        let base = self.api.base().replace("http://", "ws://");
        let url = format!("{base}/ws?messages=true&after_seq={}", self.position);
        let mut request = url.into_client_request().expect("a request");
        let bearer = format!("Bearer {}", self.caller.token);
        let headers = request.headers_mut();
        headers.insert("Authorization", bearer.parse().expect("a header"));
        let (mut socket, _) = connect_async(request).await.expect("a socket");
        for _ in 0..upto {
            let Ok(message) = timeout(SILENCE, socket.next()).await else {
                return;
            };
            let Message::Text(text) = message.expect("a socket").expect("a frame") else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if let Some(place) = frame["seq"].as_i64() {
                self.see(&frame["event"], &frame["payload"], place);
            }
        }
    }

    fn see(&mut self, name: &Value, shown: &Value, place: i64) {
        if name == "INBOX_MESSAGE" {
            assert_eq!(position(shown), place);
            self.take(shown);
        } else {
            self.move_to(place);
        }
    }
}

/// Ends as many delegations; each with its own id as its text.
async fn make_replies(api: &Api, caller: &Workspace, target: &Workspace) {
    stream::iter(0..REPLIES)
        .for_each_concurrent(AT_ONCE, async |number| {
            let id = format!("delegation-{number}");
            api.record(caller, target, &id, "work").await.expect(202);
            api.report_completed(target, &id, &id).await.expect(200);
        })
        .await;
}

async fn a_reader_that_changes_transport_at_random_gets_each_reply_once_and_in_order(
    database: Database,
) {
    let seed = sized("BATON_TRANSPORT_SEED", rand::random());
    println!("BATON_TRANSPORT_SEED={seed}");
    let server = Server::start(&database, &[("BATON_LOG", "warn")]).await;
    let Family { caller, target, .. } = server.family("").await;
    let api = server.api();
    let mut reader = Reader {
        api,
        caller: &caller,
        dice: StdRng::seed_from_u64(seed),
        position: 0,
        replies: Vec::new(),
    };
    let all = [
        Transport::Poll,
        Transport::LongPoll,
        Transport::Stream,
        Transport::Socket,
    ];
    let begun = Instant::now();
    let read = async {
        let (mut changes, mut brought) = (0, HashSet::new());
        while reader.replies.len() < REPLIES {
            let transport = *all.choose(&mut reader.dice).unwrap();
            let before = reader.replies.len();
            reader.read(transport).await;
            changes += 1;
            if reader.replies.len() > before {
                brought.insert(transport);
            }
        }
        assert_eq!(brought.len(), all.len(), "{brought:?}");
        changes
    };
    let writing = make_replies(api, &caller, &target);
    let (changes, ()) = futures_util::join!(read, writing);
    println!(
        "{REPLIES} replies, {changes} changes, {:?}",
        begun.elapsed()
    );
    for transport in all {
        reader.read(transport).await;
    }
    let rows = api.feed(&caller, "a2a_receive").await;
    let written: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["request_body"]["delegation_id"].as_str())
        .collect();
    assert_eq!(written.len(), REPLIES);
    assert_eq!(reader.replies, written, "each once, in the order of places");
    server.assert_invariants().await;
}

async fn a_stream_brings_messages_only_to_those_who_ask(database: Database) {
    let server = Server::start(&database, &[]).await;
    let Family { root, caller, .. } = server.family("").await;
    let api = server.api();
    let target = api.create_poll_workspace("reader", Some(&root)).await;
    let id = api.delegated(&caller, &target, "read me").await;
    api.wait_until_status(&caller, &id, &["queued"]).await;
    // The request of a target that reads its inbox is a message, too, and whoever was shown it has it.
    let path = format!("/workspaces/{}/events/stream?messages=true", target.id);
    let mut stream = Raw::connect(api).await;
    let from_the_beginning = raw::get_with(&target, &path, "Last-Event-ID: 0");
    stream.send(&from_the_beginning).await;
    let shown = stream.read_until("INBOX_MESSAGE").await;
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown}");
    api.wait_until_status(&caller, &id, &["received"]).await;
    api.report_completed(&target, &id, "done").await.expect(200);
    let path = format!("/workspaces/{}/events/stream", caller.id);
    let mut plain = Raw::connect(api).await;
    let from_the_beginning = raw::get_with(&caller, &path, "Last-Event-ID: 0");
    plain.send(&from_the_beginning).await;
    let shown = plain.read_until("DELEGATION_COMPLETE").await;
    assert!(!shown.contains("INBOX_MESSAGE"), "{shown}");
    let refused = api.get(As::Admin, "/ws?messages=true").await;
    assert_eq!(refused.expect(400).str("field"), "messages");
    server.assert_invariants().await;
}
