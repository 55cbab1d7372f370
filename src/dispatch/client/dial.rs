//! A new connection: the name looked up and its addresses checked, one of them reached, TLS agreed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Transport};
use super::origin::Origin;
use super::stop::Stop;
use crate::dispatch::guard::{GuardError, TargetGuard};

/// How long one address has before the next is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// Between two probes of a silent connection. A busy agent may leave a large task unread in its socket for as long as
/// it likes; a host that is gone is noticed after nine of them.
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 8;

/// What TLS is spoken with; none where no certificate authority is trusted.
pub(super) type Tls = Option<TlsConnector>;

/// Trusts the system's certificate authorities.
pub(super) fn system_tls() -> Result<TlsConnector, rustls::Error> {
    use rustls_platform_verifier::ConfigVerifierExt as _;
    ClientConfig::with_platform_verifier().map(tls)
}

/// TLS with `config`, over which HTTP/1.1 is spoken.
pub(super) fn tls(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Connects to `origin`, at an address that may be called.
pub(super) async fn dial(
    guard: &TargetGuard,
    tls: &Tls,
    origin: &Origin,
) -> Result<Connection, Stop> {
    let bare = origin.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match bare.parse::<IpAddr>() {
        // An address was checked when the URL was.
        Ok(address) => vec![SocketAddr::new(address, origin.port)],
        Err(_name) => named(guard, origin).await?,
    };
    let socket = reach(addresses)
        .await
        .map_err(|error| Stop::broken(&error))?;
    let probes = TcpKeepalive::new()
        .with_time(PROBE_EVERY)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    let prepared = socket.set_nodelay(true);
    let prepared = prepared.and_then(|()| SockRef::from(&socket).set_tcp_keepalive(&probes));
    prepared.map_err(|error| Stop::broken(&error))?;
    if !origin.secure {
        return Ok(Connection::new(Box::new(socket)));
    }
    let Some(tls) = tls else {
        return Err(Stop::Error(
            "no certificate authority is trusted".to_owned(),
        ));
    };
    let name = ServerName::try_from(bare.to_owned());
    let name = name.map_err(|error| Stop::Error(error.to_string()))?;
    let stream: Box<dyn Transport> = match tls.connect(name, socket).await {
        Ok(stream) => Box::new(stream),
        Err(error) => return Err(Stop::broken(&error)),
    };
    Ok(Connection::new(stream))
}

async fn named(guard: &TargetGuard, origin: &Origin) -> Result<Vec<SocketAddr>, Stop> {
    let found = guard.dialable(&origin.host).await;
    let mut found = found.map_err(|error| match error {
        GuardError::Unresolvable { .. } => Stop::Error(error.to_string()),
        blocked => Stop::Blocked(blocked.to_string()),
    })?;
    for address in &mut found {
        address.set_port(origin.port);
    }
    Ok(found)
}

/// The first of the addresses that answers, each tried when those before it failed or had their head start.
async fn reach(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut rest = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failure = io::Error::other("no address");
    loop {
        let next = rest.next();
        trying.extend(next.map(TcpStream::connect));
        let reached = match next {
            Some(_) => timeout(HEAD_START, trying.next()).await,
            None => Ok(trying.next().await),
        };
        match reached {
            Ok(Some(Ok(socket))) => return Ok(socket),
            Ok(Some(Err(error))) => failure = error,
            Ok(None) if next.is_none() => return Err(failure),
            Ok(None) | Err(_) => {}
        }
    }
}
