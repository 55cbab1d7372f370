//! Just enough HTTP/1.1 to serve, and to break, one request after another.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request as it came.
pub(crate) struct Received {
    /// Method and path.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// All of it.
    pub(crate) body: Bytes,
}

/// The server's side of a connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Waits until there is something to read, or the end.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.stream.readable().await?;
        }
        Ok(())
    }

    /// Whether what comes next is a GET.
    pub(crate) async fn is_get(&self) -> io::Result<bool> {
        let mut first = [0];
        match self.buffer.first() {
            Some(byte) => first[0] = *byte,
            None => _ = self.stream.peek(&mut first).await?,
        }
        Ok(first == [b'G'])
    }

    /// The next request; `None` when the client hung up between two.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Received>> {
        let head_end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await? {
                return Ok(None);
            }
        };
        let head = self.buffer.split_to(head_end + 4);
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = self.body(&headers).await?;
        Ok(Some(Received {
            line,
            headers,
            body,
        }))
    }

    /// Writes bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn body(&mut self, headers: &[(String, String)]) -> io::Result<Bytes> {
        let header = |name: &str| headers.iter().find(|(key, _)| key == name);
        if header("transfer-encoding").is_some() {
            return self.chunked_body().await;
        }
        let length = header("content-length").and_then(|(_, value)| value.parse().ok());
        self.exactly(length.unwrap_or(0)).await
    }

    async fn chunked_body(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line_end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.fill_or_fail().await?;
            };
            let size = self.buffer.split_to(line_end + 2);
            let size = String::from_utf8_lossy(&size).trim().to_owned();
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            let chunk = self.exactly(size + 2).await?;
            if size == 0 {
                return Ok(body.freeze());
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            self.fill_or_fail().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill().await? {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Reads what there is; `false` at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

/// A whole response.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The head of a response and the first `length` bytes of its body.
pub(crate) fn cut(response: &[u8], length: usize) -> Vec<u8> {
    let body = find(response, b"\r\n\r\n").map_or(0, |end| end + 4);
    let end = response.len().min(body + length);
    response[..end].to_vec()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
