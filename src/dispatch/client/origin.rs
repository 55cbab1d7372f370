//! Whom a connection leads to.

use url::{Position, Url};

/// Scheme, host and port. Two URLs share a connection only if they share these.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Origin {
    pub(super) secure: bool,
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Origin {
    /// None for a URL without a host or a port, which the guard lets nobody have.
    pub(super) fn of(url: &Url) -> Option<Self> {
        Some(Self {
            secure: url.scheme() == "https",
            host: url.host_str()?.into(),
            port: url.port_or_known_default()?,
        })
    }
}

/// A request to `url`, whole.
pub(super) fn request(url: &Url, traceparent: Option<&str>, body: &[u8]) -> Vec<u8> {
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let length = body.len();
    let agent = concat!("baton/", env!("CARGO_PKG_VERSION"));
    // LangGraph refuses a request without `accept` (a2a.md §2); not every agent's server reads chunks.
    let mut head = format!(
        "POST {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\naccept: application/json\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n"
    );
    if let Some(context) = traceparent {
        head.extend(["traceparent: ", context, "\r\n"]);
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
