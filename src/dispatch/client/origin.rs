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

/// A request to `url`, whole: a GET without a body, else a POST.
pub(super) fn request<'a>(
    url: &Url,
    accept: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: Option<&[u8]>,
) -> Vec<u8> {
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let agent = concat!("baton/", env!("CARGO_PKG_VERSION"));
    let method = if body.is_some() { "POST" } else { "GET" };
    // LangGraph refuses a request without `accept` (a2a.md §2); not every agent's server reads chunks.
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {agent}\r\naccept: {accept}\r\n"
    );
    if let Some(body) = body {
        let length = body.len().to_string();
        head.extend([
            "content-type: application/json\r\ncontent-length: ",
            &length,
            "\r\n",
        ]);
    }
    for (name, value) in headers {
        // A header that would be two is none.
        if !value.contains(['\r', '\n']) {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}
