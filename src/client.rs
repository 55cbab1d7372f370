//! A client of Baton's own HTTP interface, as an agent would write it.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// The longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest silence: a waiting look into the inbox takes a minute at most.
const SILENCE: Duration = Duration::from_secs(75);

/// Why there is no answer of use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or not to the end.
    #[error("the server cannot be reached: {0}")]
    Away(String),
    /// The address or the token cannot be sent at all.
    #[error("the server's address, or the token, makes no sense: {0}")]
    Senseless(String),
    /// The server refused; its words.
    #[error("{}", refusal(*.status, .body))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body, `null` if it is no JSON.
        body: Value,
    },
    /// Whatever answered, it was not Baton.
    #[error("what answered is no JSON: {0}")]
    Foreign(String),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let senseless = error.is_builder();
        // The outermost text says only that sending failed.
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        if senseless {
            return Self::Senseless(innermost.to_string());
        }
        Self::Away(innermost.to_string())
    }
}

/// What the server said, with the field and the remedy that it names.
fn refusal(status: u16, body: &Value) -> String {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let mut words = match text("error").or_else(|| text("message")) {
        Some(error) => format!("{error} ({status})"),
        None => format!("the server answered {status}"),
    };
    for name in ["field", "reason", "hint"] {
        if let Some(more) = text(name) {
            words = format!("{words}; {name}: {more}");
        }
    }
    words
}

/// The interface, as one principal.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`, with this bearer.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub fn new(base: &str, token: &str) -> Result<Self, Error> {
        // Somebody else may have chosen it before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        if !base.starts_with("https:") {
            // Where the system keeps no certificates, there is no client otherwise.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self {
            http: builder.build()?,
            base: base.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
        })
    }

    /// The same server as somebody else.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Sends.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = self.request(Method::POST, path).body(body.to_string());
        self.answer(request).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.answer(self.request(Method::DELETE, path)).await
    }

    /// A workspace's events after this id, or from now on.
    pub async fn events(&self, workspace: &str, after: Option<i64>) -> Result<Events, Error> {
        let path = format!("/workspaces/{workspace}/events/stream");
        let mut request = self.request(Method::GET, &path);
        if let Some(id) = after {
            request = request.header("Last-Event-ID", id);
        }
        let answer = request.send().await?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        Ok(Events {
            blocks: Blocks::of(answer),
            last: after,
        })
    }

    /// Sends a message of the Model Context Protocol, in this version of it.
    pub async fn mcp(
        &self,
        path: &str,
        message: String,
        version: Option<&str>,
    ) -> Result<Messages, Error> {
        let mut request = self.request(Method::POST, path).body(message);
        request = request.header(ACCEPT, "application/json, text/event-stream");
        if let Some(version) = version {
            request = request.header("mcp-protocol-version", version);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let kind = answer.headers().get(CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return Ok(Messages {
                one: None,
                more: Some(Blocks::of(answer)),
            });
        }
        let text = answer.text().await?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() || body.get("jsonrpc").is_some() {
            return Ok(Messages {
                one: Some(body).filter(|body| !body.is_null()),
                more: None,
            });
        }
        Err(Error::Refused {
            status: status.as_u16(),
            body,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, Error> {
        let answer = request.send().await?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        let text = answer.text().await?;
        serde_json::from_str(&text).map_err(|error| Error::Foreign(error.to_string()))
    }
}

/// Whether an address is on this machine.
#[must_use]
pub fn is_loopback(base: &str) -> bool {
    let host = url::Url::parse(base).ok();
    host.is_some_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

async fn refused(answer: reqwest::Response) -> Error {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    Error::Refused {
        status,
        body: serde_json::from_str(&text).unwrap_or_default(),
    }
}

/// One event of a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Its place; none for what is not recorded.
    pub id: Option<i64>,
    /// What happened.
    pub name: String,
    /// When, in milliseconds since 1970.
    pub timestamp: i64,
    /// The particulars.
    pub data: Value,
}

/// Server-sent events as they come, until the server ends them.
struct Blocks {
    chunks: BoxStream<'static, Result<bytes::Bytes, Error>>,
    received: BytesMut,
}

impl Blocks {
    fn of(answer: reqwest::Response) -> Self {
        let chunks = answer.bytes_stream();
        Self {
            chunks: chunks.map(|chunk| Ok(chunk?)).boxed(),
            received: BytesMut::new(),
        }
    }

    async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            let end = self.received.windows(2).position(|two| two == b"\n\n");
            if let Some(end) = end {
                let block = self.received.split_to(end + 2);
                return Ok(Some(String::from_utf8_lossy(&block).into_owned()));
            }
            match self.chunks.next().await {
                None => return Ok(None),
                Some(chunk) => self.received.extend_from_slice(&chunk?),
            }
        }
    }
}

/// What answers a JSON-RPC message: nothing, a message, or several as they come.
pub struct Messages {
    one: Option<Value>,
    more: Option<Blocks>,
}

impl Messages {
    /// The next one; none at the end.
    pub async fn next(&mut self) -> Result<Option<Value>, Error> {
        if let Some(message) = self.one.take() {
            return Ok(Some(message));
        }
        let Some(blocks) = &mut self.more else {
            return Ok(None);
        };
        while let Some(block) = blocks.next().await? {
            if let Some(data) = field(&block, "data:") {
                let message = serde_json::from_str(data);
                return message.map_err(|error| Error::Foreign(error.to_string()));
            }
        }
        Ok(None)
    }
}

/// A workspace's events, until the server ends them.
pub struct Events {
    blocks: Blocks,
    last: Option<i64>,
}

impl Events {
    /// The place up to which everything that is recorded was seen: where to go on from.
    #[must_use]
    pub const fn last(&self) -> Option<i64> {
        self.last
    }

    /// The next one; none at the end.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(block) = self.blocks.next().await? {
            self.last = id(&block).or(self.last);
            if let Some(event) = event(&block) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

fn field<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = block.lines();
    lines.find_map(|line| line.strip_prefix(name).map(str::trim_start))
}

/// The place that a block ends at, if it says.
fn id(block: &str) -> Option<i64> {
    field(block, "id:")?.parse().ok()
}

/// The event of a block; none for a comment.
fn event(block: &str) -> Option<Event> {
    let body: Value = serde_json::from_str(field(block, "data:")?).ok()?;
    Some(Event {
        id: id(block),
        name: body.get("type")?.as_str()?.to_owned(),
        timestamp: body.get("timestamp")?.as_i64()?,
        data: body.get("data").cloned().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_names_the_field_and_the_remedy() {
        let body = json!({"error": "no", "field": "task", "hint": "send one"});
        assert_eq!(refusal(400, &body), "no (400); field: task; hint: send one");
        assert_eq!(refusal(502, &Value::Null), "the server answered 502");
    }

    #[test]
    fn a_block_is_an_event_or_a_comment() {
        let block = "id: 7\ndata: {\"type\":\"A\",\"timestamp\":5,\"data\":{\"x\":1}}\n\n";
        let read = event(block).unwrap();
        assert_eq!((read.id, &*read.name, read.timestamp), (Some(7), "A", 5));
        assert_eq!(read.data, json!({"x": 1}));
        let beginning = "id: 6\n: ping\n\n";
        assert_eq!((event(beginning), id(beginning)), (None, Some(6)));
    }
}
