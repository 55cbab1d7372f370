//! One connection, and the bytes on it.

use std::io;
use std::mem::MaybeUninit;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::answer;

/// The first bytes of an answer are read into so much room, and more each time that it was not enough.
const FIRST_ROOM: usize = 1024;
/// Up to this.
const MOST_ROOM: usize = 64 * 1024;

/// What bytes go over.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    fn socket(&self) -> &TcpStream;
    /// Whether it holds bytes of its own: what was written may be on its way although writing it failed, and what came
    /// may not lie in the socket any more.
    fn is_buffered(&self) -> bool;
    /// Whether none of what came is left in it.
    fn is_drained(&mut self) -> bool;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
    fn is_buffered(&self) -> bool {
        false
    }
    fn is_drained(&mut self) -> bool {
        true
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
    fn is_buffered(&self) -> bool {
        true
    }
    fn is_drained(&mut self) -> bool {
        let state = self.get_mut().1.process_new_packets();
        state.is_ok_and(|state| state.plaintext_bytes_to_read() == 0)
    }
}

/// A connection to an origin.
pub(super) struct Connection {
    stream: Box<dyn Transport>,
    /// What came and has not been read yet.
    pub(super) received: BytesMut,
    pub(super) since: Instant,
    /// Whether the whole request was written.
    pub(super) asked: bool,
    room: usize,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Transport>) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            since: Instant::now(),
            asked: false,
            room: FIRST_ROOM,
        }
    }

    /// Writes a request. `left` says, however this ends or is called off, whether any of it may have left.
    ///
    /// An error after that is no error: the agent may have answered without reading all, and what it says counts.
    pub(super) async fn write(&mut self, request: &[u8], left: &mut bool) -> io::Result<()> {
        *left = self.stream.is_buffered();
        let written = self.stream.write(request).await?;
        *left = true;
        let rest = request.get(written..).unwrap_or_default();
        self.asked = if rest.is_empty() {
            self.stream.flush().await.is_ok()
        } else {
            self.write_rest(rest).await
        };
        Ok(())
    }

    /// Writes on while no answer comes; whether to the end.
    async fn write_rest(&mut self, mut rest: &[u8]) -> bool {
        let (mut reading, mut writing) = split(&mut self.stream);
        while !rest.is_empty() {
            tokio::select! {
                biased;
                written = writing.write(rest) => match written {
                    Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
                    Ok(0) | Err(_) => return false,
                },
                read = reading.read_buf(&mut self.received) => {
                    if !matches!(read, Ok(1..)) || !answer::is_in_passing(&mut self.received) {
                        return false;
                    }
                }
            }
        }
        writing.flush().await.is_ok()
    }

    /// Waits for more bytes; 0 means that there are no more.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        // Thousands may wait here: none of them needs room before something comes.
        if self.received.is_empty() && !self.stream.is_buffered() {
            self.stream.socket().readable().await?;
        }
        if self.received.len() == self.received.capacity() {
            self.received.reserve(self.room);
            self.room = self.room.saturating_mul(2).min(MOST_ROOM);
        }
        self.stream.read_buf(&mut self.received).await
    }

    /// Forgets the exchange that is over.
    pub(super) fn rest(&mut self) {
        self.received = BytesMut::new();
        self.room = FIRST_ROOM;
        self.asked = false;
    }

    /// Whether it is open and nothing lies in it: asked of the operating system, which knows before anybody was told.
    pub(super) fn is_quiet(&mut self) -> bool {
        let socket = SockRef::from(self.stream.socket());
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        let open = peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        open && self.stream.is_drained()
    }
}
