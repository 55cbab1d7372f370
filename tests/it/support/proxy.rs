//! A road to a database that can be blocked: frozen, as if its server were stopped, or closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::database::Database;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Road {
    Open,
    Frozen,
    /// Only what a connection that listens (`LISTEN`) hears is held up.
    Deaf,
    Closed,
}

/// One connection through the proxy.
struct Lane {
    road: watch::Receiver<Road>,
    listens: Arc<AtomicBool>,
}

impl Lane {
    fn is_free(&self, road: Road) -> bool {
        match road {
            Road::Open | Road::Closed => true,
            Road::Frozen => false,
            Road::Deaf => !self.listens.load(Ordering::Relaxed),
        }
    }
}

/// A proxy before `PostgreSQL`, with an address of its own.
pub(crate) struct Proxy {
    url: Url,
    road: Arc<watch::Sender<Road>>,
}

impl Proxy {
    /// Begins to forward to where a database is.
    pub(crate) async fn before(database: &Database) -> Self {
        let mut url = Url::parse(&database.url()).expect("a URL");
        let host = url.host_str().expect("a host").to_owned();
        let server = (host, url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(port)).expect("a port");
        let road = Arc::new(watch::Sender::new(Road::Open));
        tokio::spawn(accept(listener, server, Arc::clone(&road)));
        Self { url, road }
    }

    /// What `DATABASE_URL` is to be.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Lets nothing through any more, and says nothing of it.
    pub(crate) fn freeze(&self) {
        self.road.send_replace(Road::Frozen);
    }

    /// Lets everything through but what other nodes tell, and says nothing of it.
    pub(crate) fn deafen(&self) {
        self.road.send_replace(Road::Deaf);
    }

    /// Hangs up, and on whoever comes.
    pub(crate) fn close(&self) {
        self.road.send_replace(Road::Closed);
    }

    /// Lets everything through again, what was held up first.
    pub(crate) fn open(&self) {
        self.road.send_replace(Road::Open);
    }
}

async fn accept(listener: TcpListener, server: (String, u16), road: Arc<watch::Sender<Road>>) {
    while let Ok((client, _)) = listener.accept().await {
        if *road.borrow() == Road::Closed {
            continue;
        }
        let Ok(server) = TcpStream::connect(server.clone()).await else {
            continue;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let listens = Arc::<AtomicBool>::default();
        let lane = || Lane {
            road: road.subscribe(),
            listens: Arc::clone(&listens),
        };
        tokio::spawn(forward(from_client, to_server, lane()));
        tokio::spawn(forward(from_server, to_client, lane()));
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut lane: Lane) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let mut road = lane.road.clone();
        let got = tokio::select! {
            got = from.read(&mut bytes) => got,
            _ = road.wait_for(|road| *road == Road::Closed) => return,
        };
        let Some(length @ 1..) = got.ok() else { return };
        let sent = &bytes[..length];
        if sent.windows(6).any(|word| word == b"LISTEN") {
            lane.listens.store(true, Ordering::Relaxed);
        }
        loop {
            let now = *lane.road.borrow_and_update();
            if now == Road::Closed {
                return;
            }
            if lane.is_free(now) {
                break;
            }
            if lane.road.changed().await.is_err() {
                return;
            }
        }
        if to.write_all(sent).await.is_err() {
            return;
        }
    }
}
