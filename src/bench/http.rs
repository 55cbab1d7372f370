//! Requests over one kept connection, as cheaply as can be: load and service share the machine.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::{Buf as _, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for the answer to most requests.
const ROOM: usize = 4096;
/// The most headers of an answer.
const HEADERS: usize = 32;
/// What makes a socket of a connection. The key says nothing about who asks.
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// A request that is ready to be sent, any number of times.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) authorization: HeaderValue,
    /// More lines of the head.
    headers: &'static str,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn post(
        path: String,
        authorization: &HeaderValue,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(path.starts_with('/'), "{path} is no path");
        Ok(Self {
            method: Method::POST,
            path,
            authorization: authorization.clone(),
            headers: "",
            body: body.into(),
        })
    }

    pub(super) fn get(path: String, authorization: &HeaderValue) -> anyhow::Result<Self> {
        Ok(Self {
            method: Method::GET,
            ..Self::post(path, authorization, Bytes::new())?
        })
    }

    /// Asks for a socket.
    pub(super) fn upgrade(path: String, authorization: &HeaderValue) -> anyhow::Result<Self> {
        Ok(Self {
            headers: UPGRADE,
            ..Self::get(path, authorization)?
        })
    }
}

/// A token as it is sent.
pub(super) fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    Ok(HeaderValue::try_from(format!("Bearer {token}"))?)
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: bool,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// How an answer begins.
pub(super) struct Head {
    pub(super) status: u16,
    retry_after: bool,
    length: usize,
}

/// A connection that carries one request at a time, opened anew when the server closed it.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    /// What came and has not been read yet.
    pub(super) received: BytesMut,
}

impl Connection {
    pub(super) fn to(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            request: Vec::new(),
            received: BytesMut::new(),
        }
    }

    pub(super) async fn send(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let kept = self.stream.is_some();
        match self.exchange(call).await {
            // The server closes what is quiet for long, perhaps in this moment: as any client, ask once more.
            Err(_closed) if kept && call.method == Method::GET => self.exchange(call).await,
            answer => answer,
        }
    }

    async fn exchange(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let head = self.begin(call).await?;
        while self.received.len() < head.length {
            self.read_on().await?;
        }
        Ok(Answer {
            status: head.status,
            retry_after: head.retry_after,
            body: self.received.split_to(head.length).freeze(),
        })
    }

    /// Sends the request and leaves the body of the answer to be read.
    pub(super) async fn begin(&mut self, call: &Call) -> anyhow::Result<Head> {
        self.open().await?;
        self.request.clear();
        for part in [
            call.method.as_str().as_bytes(),
            b" ",
            call.path.as_bytes(),
            b" HTTP/1.1\r\nhost: ",
            self.address.to_string().as_bytes(),
            b"\r\nauthorization: ",
            call.authorization.as_bytes(),
            b"\r\ncontent-length: ",
            call.body.len().to_string().as_bytes(),
            b"\r\n",
            call.headers.as_bytes(),
            b"\r\n",
            &call.body,
        ] {
            self.request.extend_from_slice(part);
        }
        let request = std::mem::take(&mut self.request);
        let written = self.write(&request).await;
        self.request = request;
        written?;
        loop {
            self.read_on().await?;
            match self.head() {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    return Err(error);
                }
            }
        }
    }

    /// Sends bytes as they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(stream) = &mut self.stream
            && let Err(error) = stream.write_all(bytes).await
        {
            self.stream = None;
            return Err(error.into());
        }
        Ok(())
    }

    /// Takes the head of an answer out of what came, once it is whole.
    fn head(&mut self) -> anyhow::Result<Option<Head>> {
        let mut headers = [EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let Status::Complete(end) = response.parse(&self.received)? else {
            return Ok(None);
        };
        let status = response.code.context("an answer has a status")?;
        let mut head = Head {
            status,
            retry_after: false,
            length: 0,
        };
        for header in response.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                head.length = std::str::from_utf8(header.value)?.parse()?;
            }
            head.retry_after |= header.name.eq_ignore_ascii_case("retry-after");
        }
        self.received.advance(end);
        Ok(Some(head))
    }

    /// Reads what comes next.
    pub(super) async fn read_on(&mut self) -> anyhow::Result<()> {
        let stream = self.stream.as_mut().context("the connection was closed")?;
        self.received.reserve(ROOM);
        let read = stream.read_buf(&mut self.received).await;
        if !matches!(read, Ok(1..)) {
            self.stream = None;
            anyhow::bail!("the connection was closed: {read:?}");
        }
        Ok(())
    }

    /// Opens the connection, if it is not.
    pub(super) async fn open(&mut self) -> anyhow::Result<()> {
        // Nothing can have come unasked but its end.
        let ended = |stream: &TcpStream| {
            let read = stream.try_read(&mut [0]);
            !read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        if self.stream.as_ref().is_none_or(ended) {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
            self.received.clear();
        }
        Ok(())
    }

    /// Sends what must succeed, and reads the answer.
    pub(super) async fn ask(&mut self, call: &Call) -> anyhow::Result<Value> {
        let answer = self.send(call).await?;
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(
            answer.is_success(),
            "{} answered {}: {text}",
            call.path,
            answer.status
        );
        Ok(serde_json::from_str(&text)?)
    }
}

/// The text of a member, whose name is given as `"name":`: answers are searched, not parsed.
pub(super) fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(name)?;
    let (_, value) = after.split_once('"')?;
    value.split_once('"').map(|(value, _)| value)
}
