//! Requests over one kept connection, as cheaply as a library allows: load and service share the machine.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A request that is ready to be sent, any number of times.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: Uri,
    pub(super) authorization: HeaderValue,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn post(
        path: String,
        authorization: &HeaderValue,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            method: Method::POST,
            path: Uri::from_maybe_shared(Bytes::from(path))?,
            authorization: authorization.clone(),
            body: body.into(),
        })
    }

    pub(super) fn get(path: String, authorization: &HeaderValue) -> anyhow::Result<Self> {
        Ok(Self {
            method: Method::GET,
            ..Self::post(path, authorization, Bytes::new())?
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

/// A connection that carries one request at a time, opened anew when the server closed it.
pub(super) struct Connection {
    address: SocketAddr,
    host: HeaderValue,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(super) fn to(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            address,
            host: HeaderValue::try_from(address.to_string())?,
            sender: None,
        })
    }

    pub(super) async fn send(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let kept = self.sender.is_some();
        let response = match self.begin(call).await {
            // The server closes what is quiet for long, perhaps in this moment: as any client, ask once more.
            Err(_closed) if kept && call.method == Method::GET => self.begin(call).await?,
            response => response?,
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await;
        if body.is_err() {
            self.sender = None;
        }
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: head.headers.contains_key(RETRY_AFTER),
            body: body?.to_bytes(),
        })
    }

    /// Sends the request and leaves the body of the answer to be read.
    pub(super) async fn begin(&mut self, call: &Call) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.path.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request
            .headers_mut()
            .insert(AUTHORIZATION, call.authorization.clone());
        let sender = self.sender().await?;
        let response = sender.send_request(request).await;
        if response.is_err() {
            self.sender = None;
        }
        Ok(response?)
    }

    /// Opens the connection, if it is not.
    pub(super) async fn sender(&mut self) -> anyhow::Result<&mut SendRequest<Full<Bytes>>> {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_err()
        {
            self.sender = None;
        }
        if self.sender.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Whoever sends next learns that it ended.
            actix_web::rt::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("the connection was closed")
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
