//! Many that watch: what they cost while nothing happens, and how soon those whom an event concerns have it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::figures::Figures;
use super::http::{self, Call, Connection};
use super::load::Latencies;
use super::report::Report;
use super::rig::{EVERYTHING, Rig, Seat, create};
use super::server::Kind;
use super::sight::Stream;
use super::workloads::end_one;
use super::{Stand, costs, special};
use crate::config::{BenchOptions, Config, WorkloadName};

/// How often an event is sent to those at one workspace, and how long nothing happens, unless it is said.
const ROUNDS: u32 = 20;
const QUIET: Duration = Duration::from_secs(1);
/// How long one of them may be waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until those who looked into the inbox wait again.
const PAUSE: Duration = Duration::from_millis(100);
/// The event that tells of an ending.
const ENDING: &str = "DELEGATION_COMPLETE";
/// A frame that asks for an answer, and the answer: empty, and masked with nothing.
const PING: u8 = 0x89;
const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];
/// A frame of text, whole.
const TEXT: u8 = 0x81;

/// By what one watches.
#[derive(Clone, Copy)]
enum Manner {
    Longpoll,
    Stream,
    Socket,
}

/// Measures them.
pub(super) async fn watchers(
    options: &BenchOptions,
    config: &Config,
) -> anyhow::Result<Vec<Report>> {
    let name = WorkloadName::Watchers;
    let mut stand = Stand::set_up(Kind::Baton, name, options, config, None).await?;
    let rig = Rc::clone(&stand.rig);
    let before = special::resident_kib(&rig)?;
    let concerned = options.watchers.div_ceil(2);
    let watch = Watch::begin(&rig, options, concerned).await?;
    tokio::time::sleep(options.warmup).await;
    let (quiet, rounds) = match options.count {
        None => (options.duration, ROUNDS),
        Some(count) => (QUIET, count),
    };
    for _ in 0..options.runs {
        let mut figures = Figures::default();
        watch.idle(&rig, quiet, &mut figures).await?;
        for _ in 0..rounds {
            watch.round(&rig, concerned).await?;
        }
        let seen = watch.seen.replace(Seen::new()?);
        figures.latencies("fan_out_", &seen.all);
        figures.add("fan_out_longpoll_p99_ms", seen.longpolls.quantile(0.99));
        figures.add("fan_out_stream_p99_ms", seen.streams.quantile(0.99));
        figures.add("fan_out_socket_p99_ms", seen.sockets.quantile(0.99));
        let resident = special::resident_kib(&rig)?;
        let all = f64::from(options.watchers) * 3.0;
        figures.add("watchers", all);
        figures.add("fan_out_to", f64::from(concerned));
        figures.add("resident_mib", resident / 1024.0);
        figures.add("kib_per_watcher", (resident - before) / all);
        figures.add("broken", f64::from(watch.broken.get()));
        stand.report.runs.push(figures);
    }
    Ok(vec![stand.audited().await?.0])
}

/// How soon events were seen.
struct Seen {
    all: Latencies,
    longpolls: Latencies,
    streams: Latencies,
    sockets: Latencies,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            all: Latencies::new()?,
            longpolls: Latencies::new()?,
            streams: Latencies::new()?,
            sockets: Latencies::new()?,
        })
    }

    fn record(&mut self, manner: Manner, latency: Duration) {
        self.all.record(latency);
        match manner {
            Manner::Longpoll => self.longpolls.record(latency),
            Manner::Stream => self.streams.record(latency),
            Manner::Socket => self.sockets.record(latency),
        }
    }
}

/// What those who watch share.
struct Watch {
    address: SocketAddr,
    /// When the event was sent that is to be seen.
    sent: Cell<Instant>,
    /// How many have not seen it.
    missing: Cell<u32>,
    seen: RefCell<Seen>,
    all_seen: Notify,
    /// Moves on when what was seen is acknowledged.
    acknowledged: watch::Sender<()>,
    /// How many watch no more.
    broken: Cell<u32>,
}

impl Watch {
    /// As many of each manner: the first of all of them at one workspace, the others at those of strangers, whose events
    /// are not theirs to see.
    async fn begin(rig: &Rig, options: &BenchOptions, concerned: u32) -> anyhow::Result<Rc<Self>> {
        let watch = Rc::new(Self {
            address: rig.server.address,
            sent: Cell::new(Instant::now()),
            missing: Cell::new(0),
            seen: RefCell::new(Seen::new()?),
            all_seen: Notify::new(),
            acknowledged: watch::Sender::default(),
            broken: Cell::new(0),
        });
        let admin = http::bearer(&rig.server.admin_token)?;
        let mut connection = Connection::to(rig.server.address);
        let mut strangers = Vec::new();
        for number in 0..options.workspaces {
            let body = json!({"name": format!("stranger {number}")});
            strangers.push(create(&mut connection, &admin, body).await?);
        }
        let (_, own) = rig.seat(0)?;
        let manners = [Manner::Longpoll, Manner::Stream, Manner::Socket];
        let all = (0..options.watchers).flat_map(|_| manners);
        let mut others = strangers.iter().cycle();
        for (number, manner) in (0_u32..).zip(all) {
            let other = others.next().context("there are workspaces")?;
            let seat = if number < concerned { own } else { other };
            watch.open(manner, seat).await?;
        }
        Ok(watch)
    }

    async fn open(self: &Rc<Self>, manner: Manner, seat: &Seat) -> anyhow::Result<()> {
        let watch = Rc::clone(self);
        let mut connection = Connection::to(self.address);
        match manner {
            Manner::Longpoll => {
                let path = format!("/workspaces/{}/inbox?wait=60", seat.id);
                let look = Call::get(path, &seat.token)?;
                connection.open().await?;
                actix_web::rt::spawn(async move {
                    let ended = watch.look(connection, look).await;
                    watch.gone(&ended);
                });
            }
            Manner::Stream => {
                let stream = Stream::open(self.address, seat).await?;
                actix_web::rt::spawn(async move {
                    watch.follow(stream).await;
                    watch.gone(&Ok(()));
                });
            }
            Manner::Socket => {
                let call = Call::upgrade("/ws".to_owned(), &seat.token)?;
                let head = connection.begin(&call).await?;
                anyhow::ensure!(head.status == 101, "a socket answered {}", head.status);
                actix_web::rt::spawn(async move {
                    let ended = watch.listen(connection).await;
                    watch.gone(&ended);
                });
            }
        }
        Ok(())
    }

    fn gone(&self, ended: &anyhow::Result<()>) {
        tracing::warn!(?ended, "one watches no more");
        self.broken.set(self.broken.get() + 1);
    }

    fn saw(&self, manner: Manner) {
        let latency = self.sent.get().elapsed();
        self.seen.borrow_mut().record(manner, latency);
        self.missing.set(self.missing.get().saturating_sub(1));
        if self.missing.get() == 0 {
            self.all_seen.notify_one();
        }
    }

    async fn look(&self, mut connection: Connection, look: Call) -> anyhow::Result<()> {
        let mut acknowledged = self.acknowledged.subscribe();
        loop {
            let answer = connection.send(&look).await?;
            anyhow::ensure!(answer.is_success(), "a look answered {}", answer.status);
            if std::str::from_utf8(&answer.body)?.contains("\"seq\":") {
                self.saw(Manner::Longpoll);
                acknowledged.changed().await?;
            }
        }
    }

    async fn follow(&self, mut stream: Stream) {
        while let Some(blocks) = stream.next().await {
            blocks
                .matches(ENDING)
                .for_each(|_| self.saw(Manner::Stream));
        }
    }

    async fn listen(&self, mut connection: Connection) -> anyhow::Result<()> {
        loop {
            while let Some((kind, content)) = frame(&mut connection.received)? {
                match kind {
                    PING => connection.write(&PONG).await?,
                    TEXT if std::str::from_utf8(&content)?.contains(ENDING) => {
                        self.saw(Manner::Socket);
                    }
                    _ => {}
                }
            }
            connection.read_on().await?;
        }
    }

    /// What the server uses while nothing happens.
    async fn idle(&self, rig: &Rig, time: Duration, figures: &mut Figures) -> anyhow::Result<()> {
        let process = special::own(rig)?.process();
        let before = costs::cpu_seconds(process);
        tokio::time::sleep(time).await;
        let used = costs::cpu_seconds(process).zip(before);
        let share = |(after, before): (f64, f64)| (after - before) * 100.0 / time.as_secs_f64();
        figures.add("server_cpu_percent", used.map(share));
        let resident = special::resident_kib(rig)?;
        figures.add("idle_resident_mib", resident / 1024.0);
        figures.add("threads", costs::status(process, "Threads"));
        Ok(())
    }

    /// Sends an event, and waits until all whom it concerns have it.
    async fn round(&self, rig: &Rig, concerned: u32) -> anyhow::Result<()> {
        tokio::time::sleep(PAUSE).await;
        let (_, seat) = rig.seat(0)?;
        let mut connection = Connection::to(self.address);
        connection.open().await?;
        self.missing.set(concerned);
        self.sent.set(Instant::now());
        end_one(rig, 0, &mut connection).await?;
        let seen = tokio::time::timeout(PATIENCE, self.all_seen.notified()).await;
        seen.with_context(|| format!("{} did not see it", self.missing.get()))?;
        let path = format!("/workspaces/{}/activity/ack", seat.id);
        connection
            .ask(&Call::post(path, &seat.token, EVERYTHING)?)
            .await?;
        self.acknowledged.send_replace(());
        Ok(())
    }
}

/// Takes a frame out of what came, once it is whole: what kind, and its content. Servers do not mask theirs.
fn frame(received: &mut BytesMut) -> anyhow::Result<Option<(u8, BytesMut)>> {
    let (kind, begin, length) = match received[..] {
        [kind, short @ 0..=125, ..] => (kind, 2, usize::from(short)),
        [kind, 126, high, low, ..] => (kind, 4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 127..=255, ..] => anyhow::bail!("a frame is longer than any that is waited for"),
        _ => return Ok(None),
    };
    if received.len() < begin + length {
        return Ok(None);
    }
    received.advance(begin);
    Ok(Some((kind, received.split_to(length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole() {
        let mut received = BytesMut::new();
        let mut taken = Vec::new();
        let long = [&[TEXT, 126, 0, 200][..], &[b'x'; 200]].concat();
        for byte in [&[PING, 0, TEXT, 2, b'a', b'b'][..], &long].concat() {
            received.extend_from_slice(&[byte]);
            taken.extend(frame(&mut received).unwrap());
        }
        let lengths: Vec<_> = taken
            .iter()
            .map(|(kind, text)| (*kind, text.len()))
            .collect();
        assert_eq!(lengths, [(PING, 0), (TEXT, 2), (TEXT, 200)]);
        assert!(frame(&mut BytesMut::from(&[TEXT, 127][..])).is_err());
    }
}
