//! When replies become visible: readers follow the callers' workspaces and hold what they see against what was begun.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::http::{Call, Connection, member};
use super::load::Latencies;
use super::rig::{Rig, Seat};
use crate::config::Reader;

/// How long without any reply the rest is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a reader of events acknowledges what it has seen.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(1);

/// What is waited for, and what was seen.
pub(super) struct Sight {
    /// Since when, and by how many readers it is still to be seen.
    begun: RefCell<HashMap<Uuid, (Instant, u32)>>,
    /// Seen before the answer to the request was read.
    early: RefCell<HashMap<Uuid, Vec<Instant>>>,
    /// When the agent answered.
    ended: RefCell<HashMap<Uuid, Instant>>,
    seen: RefCell<Seen>,
    moved: Notify,
    /// How many look at each workspace: without any, nothing is kept.
    readers: Cell<u32>,
}

/// What the readers saw in one run.
pub(super) struct Seen {
    /// From the request to the reply.
    pub(super) whole: Latencies,
    /// From the agent's answer to the reply.
    pub(super) after_ending: Latencies,
    pub(super) last: Option<Instant>,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            whole: Latencies::new()?,
            after_ending: Latencies::new()?,
            last: None,
        })
    }
}

impl Sight {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            begun: RefCell::default(),
            early: RefCell::default(),
            ended: RefCell::default(),
            seen: RefCell::new(Seen::new()?),
            moved: Notify::new(),
            readers: Cell::new(0),
        })
    }

    /// A reply to this delegation is to come.
    pub(super) fn begun(&self, id: Uuid, begun: Instant) {
        let early = self.early.borrow_mut().remove(&id).unwrap_or_default();
        self.begun
            .borrow_mut()
            .insert(id, (begun, self.readers.get()));
        for seen in early {
            self.visible(id, seen);
        }
    }

    /// The agent answers now.
    pub(super) fn ended(&self, delegation: &str) {
        if let Ok(id) = Uuid::try_parse(delegation)
            && self.readers.get() > 0
        {
            self.ended.borrow_mut().insert(id, Instant::now());
        }
    }

    fn visible(&self, id: Uuid, now: Instant) {
        let mut all = self.begun.borrow_mut();
        let Some((begun, left)) = all.get_mut(&id) else {
            self.early.borrow_mut().entry(id).or_default().push(now);
            return;
        };
        *left = left.saturating_sub(1);
        let mut seen = self.seen.borrow_mut();
        seen.whole.record(now.saturating_duration_since(*begun));
        seen.last = seen.last.max(Some(now));
        if *left > 0 {
            return;
        }
        all.remove(&id);
        if let Some(ended) = self.ended.borrow_mut().remove(&id) {
            seen.after_ending
                .record(now.saturating_duration_since(ended));
        }
        self.moved.notify_one();
    }

    /// Waits until every reply is seen, and hands over what was.
    pub(super) async fn settled(&self) -> anyhow::Result<Seen> {
        loop {
            let missing = self.begun.borrow().len();
            if missing == 0 {
                break;
            }
            tokio::time::timeout(PATIENCE, self.moved.notified())
                .await
                .with_context(|| format!("{missing} replies are still missing"))?;
        }
        self.early.borrow_mut().clear();
        self.ended.borrow_mut().clear();
        Ok(self.seen.replace(Seen::new()?))
    }
}

/// Begins to read for every caller, this many times; ends with the server.
pub(super) async fn watch(
    rig: &Rig,
    sight: &Rc<Sight>,
    reader: Reader,
    readers: u32,
) -> anyhow::Result<()> {
    sight.readers.set(readers);
    let seats = rig.seats.iter();
    for seat in seats.flat_map(|seat| (0..readers).map(move |_| seat)) {
        let address = rig.server.address;
        let seat = Seat {
            id: seat.id.clone(),
            token: seat.token.clone(),
        };
        match reader {
            Reader::Events => {
                let stream = Stream::open(address, &seat).await?;
                actix_web::rt::spawn(stream.follow(address, seat, Rc::clone(sight)));
            }
            Reader::Inbox => {
                actix_web::rt::spawn(empty(address, seat, Rc::clone(sight)));
            }
        }
    }
    Ok(())
}

/// A workspace's events as they come.
pub(super) struct Stream(Connection);

impl Stream {
    pub(super) async fn open(address: SocketAddr, seat: &Seat) -> anyhow::Result<Self> {
        let path = format!("/workspaces/{}/events/stream", seat.id);
        let mut connection = Connection::to(address);
        let answer = connection.begin(&Call::get(path, &seat.token)?).await?;
        anyhow::ensure!(
            matches!(answer.status, 200..=299),
            "a stream of events answered {}",
            answer.status
        );
        Ok(Self(connection))
    }

    /// The next blocks that are whole; none when the stream has ended. No block is cut by a chunk, whose size is a line
    /// that says nothing.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            let received = &mut self.0.received;
            let end = received.windows(2).rposition(|two| two == b"\n\n");
            if let Some(end) = end {
                let whole = received.split_to(end + 2);
                return String::from_utf8(whole.into()).ok();
            }
            self.0.read_on().await.ok()?;
        }
    }

    async fn follow(mut self, address: SocketAddr, seat: Seat, sight: Rc<Sight>) {
        let mut acknowledging = Acknowledging::of(address);
        while let Some(blocks) = self.next().await {
            let now = Instant::now();
            let mut place = None;
            for line in blocks.lines() {
                if let Some(id) = line.strip_prefix("id: ") {
                    place = Some(id);
                } else if is_ending(line)
                    && let Some(id) = member(line, "\"delegation_id\":")
                    && let Ok(id) = Uuid::try_parse(id)
                {
                    sight.visible(id, now);
                    acknowledging.due = place.map(ToOwned::to_owned);
                }
            }
            acknowledging.now_and_then(&seat).await;
        }
    }
}

fn is_ending(line: &str) -> bool {
    let name = line.strip_prefix("data: {\"type\":\"DELEGATION_");
    name.is_some_and(|name| name.starts_with("COMPLETE") || name.starts_with("FAILED"))
}

/// Acknowledges what was seen, once a second at most.
struct Acknowledging {
    connection: Connection,
    due: Option<String>,
    last: Instant,
}

impl Acknowledging {
    fn of(address: SocketAddr) -> Self {
        Self {
            connection: Connection::to(address),
            due: None,
            last: Instant::now(),
        }
    }

    async fn now_and_then(&mut self, seat: &Seat) {
        if self.last.elapsed() < ACKNOWLEDGE_EVERY {
            return;
        }
        self.last = Instant::now();
        if let Some(place) = self.due.take() {
            acknowledge(&mut self.connection, seat, &place).await;
        }
    }
}

/// Says that all up to here has been read. What is not said now is said later.
async fn acknowledge(connection: &mut Connection, seat: &Seat, place: &str) {
    let path = format!("/workspaces/{}/activity/ack", seat.id);
    if let Ok(call) = Call::post(path, &seat.token, format!(r#"{{"acked_seq":{place}}}"#)) {
        let _answer = connection.send(&call).await;
    }
}

/// Looks into an inbox, waiting, and acknowledges each time what was there; until the server has gone.
async fn empty(address: SocketAddr, seat: Seat, sight: Rc<Sight>) -> anyhow::Result<()> {
    let mut connection = Connection::to(address);
    let path = format!("/workspaces/{}/inbox?wait=30&limit=500", seat.id);
    let look = Call::get(path, &seat.token)?;
    loop {
        let answer = connection.send(&look).await?;
        let now = Instant::now();
        let text = String::from_utf8_lossy(&answer.body);
        let mut place = None;
        for row in text.split("\"request_body\":").skip(1) {
            if let Some(id) = member(row, "\"delegation_id\":")
                && let Ok(id) = Uuid::try_parse(id)
            {
                sight.visible(id, now);
            }
        }
        for after in text.split("\"seq\":").skip(1) {
            place = after.split([',', '}']).next();
        }
        if let Some(place) = place {
            acknowledge(&mut connection, &seat, place).await;
        }
    }
}
