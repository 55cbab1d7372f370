//! A client that talks to the server over a bare socket, because half of what it does no HTTP library would do.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Api, Workspace};

/// A connection to the server.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(api: &Api) -> Self {
        let base = api.base();
        let address = base.strip_prefix("http://").expect("an HTTP address");
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Writes bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("a server that reads");
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn half_close(&mut self) {
        self.0.shutdown().await.expect("a connection");
    }

    /// Reads until the response holds `wanted`, and not a byte more than came with it.
    pub(crate) async fn read_until(&mut self, wanted: &str) -> String {
        self.read_while(|text| !text.contains(wanted)).await
    }

    /// Reads on while the text so far is not enough.
    pub(crate) async fn read_while(&mut self, lacks: impl Fn(&str) -> bool) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if !lacks(&text) {
                return text.into_owned();
            }
            let read = self.0.read_buf(&mut bytes).await.expect("a response");
            assert!(read > 0, "the server hung up after {bytes:?}");
        }
    }

    /// Reads what comes until the server hangs up.
    pub(crate) async fn read_to_the_end(&mut self) -> String {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.expect("a response");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A POST of JSON by a workspace.
pub(crate) fn post(by: &Workspace, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: baton\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        by.token,
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A POST of JSON by a workspace in chunks of a megabyte, which does not say how long it is.
pub(crate) fn chunked_post(by: &Workspace, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: baton\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        by.token
    );
    let mut request = head.into_bytes();
    for chunk in body.chunks(1 << 20) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// A GET by a workspace.
pub(crate) fn get(by: &Workspace, path: &str) -> Vec<u8> {
    get_with(by, path, "Accept: */*")
}

/// A GET by a workspace with one more header line.
pub(crate) fn get_with(by: &Workspace, path: &str, header: &str) -> Vec<u8> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: baton\r\nAuthorization: Bearer {}\r\n{header}\r\n\r\n",
        by.token
    );
    head.into_bytes()
}
