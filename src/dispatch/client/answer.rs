//! Reading an answer: its head, then as much as there is of its body, from bytes that come in any pieces.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};

use crate::dispatch::reply::parse_retry_after;

/// The longest head that is read.
const MAX_HEAD: usize = 64 * 1024;
/// The most headers in it.
const MAX_HEADERS: usize = 100;
/// The longest line between two chunks, with what may be written behind a size, and the longest trailer.
const MAX_CHUNK_LINE: usize = 4 * 1024;

/// What an answer begins with.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) framing: Framing,
    /// Whether the agent will read another request from the same connection.
    pub(super) stays: bool,
    /// Whether the body is a stream of events.
    pub(super) streams: bool,
    /// What the agent calls this state of the thing.
    pub(super) etag: Option<Box<str>>,
    /// How long it says that it stays so.
    pub(super) max_age: Option<Duration>,
}

/// Where a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its last chunk does.
    Chunked,
    /// Where the connection does.
    UntilClosed,
}

/// How an answer begins that is only in passing.
const IN_PASSING: &[u8] = b"HTTP/1.1 1";

/// Whether nothing has come of an answer but what is only in passing (100, 103), which is skipped.
pub(super) fn is_in_passing(received: &mut BytesMut) -> bool {
    loop {
        let beginning = received.get(..IN_PASSING.len()).unwrap_or(received);
        if !IN_PASSING.starts_with(beginning) || received.starts_with(b"HTTP/1.1 101") {
            return false;
        }
        match received.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => received.advance(end + 4),
            None => return received.len() < MAX_HEAD,
        }
    }
}

/// Takes a head out of `received`, once it is whole. What is only in passing (100, 103) is skipped.
pub(super) fn head(received: &mut BytesMut) -> Result<Option<Head>, String> {
    loop {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut response = Response::new(&mut headers);
        let parsed = response.parse(received);
        let length = match parsed.map_err(|error| format!("the answer is no HTTP: {error}"))? {
            Status::Complete(length) => length,
            Status::Partial if received.len() < MAX_HEAD => return Ok(None),
            Status::Partial => {
                return Err(format!("the answer's head is longer than {MAX_HEAD} bytes"));
            }
        };
        let status = response.code.unwrap_or_default();
        let head = read(&response, status)?;
        received.advance(length);
        // After 101 another protocol is spoken: that is an answer, of no use.
        if !matches!(status, 100 | 102..=199) {
            return Ok(Some(head));
        }
    }
}

fn read(response: &Response<'_, '_>, status: u16) -> Result<Head, String> {
    let values = |name: &'static str| {
        let named = response.headers.iter();
        let named = named.filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| String::from_utf8_lossy(header.value))
    };
    let says = |name, word: &str| {
        let mut values = values(name);
        values.any(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case(word))
        })
    };
    let length = length(values("content-length"))?;
    let encoding = values("transfer-encoding").next_back();
    let chunked = encoding.as_ref().is_some_and(|encoding| {
        let last = encoding.rsplit(',').next().unwrap_or_default();
        last.trim().eq_ignore_ascii_case("chunked")
    });
    // Two ways to tell the end are one too many: what follows may not be the next answer.
    let doubtful = length.is_some() && encoding.is_some();
    let framing = match (status, length) {
        (101 | 204 | 304, _) => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        (_, Some(length)) if encoding.is_none() => Framing::Length(length),
        _ => Framing::UntilClosed,
    };
    let closes = response.version == Some(0) || says("connection", "close") || status == 101;
    let retry_after = values("retry-after").next();
    let date = values("date").next();
    let streams = values("content-type").next().is_some_and(|media| {
        let media = media.split(';').next().unwrap_or_default();
        media.trim().eq_ignore_ascii_case("text/event-stream")
    });
    let max_age = values("cache-control").find_map(|control| {
        let mut directives = control
            .split(',')
            .filter_map(|word| word.trim().split_once('='));
        let (_, age) = directives.find(|(name, _)| name.eq_ignore_ascii_case("max-age"))?;
        age.parse().ok().map(Duration::from_secs)
    });
    Ok(Head {
        status,
        retry_after: retry_after.and_then(|value| parse_retry_after(&value, date.as_deref())),
        stays: !closes && !doubtful && framing != Framing::UntilClosed,
        framing,
        streams,
        etag: values("etag").next().map(|tag| tag.trim().into()),
        max_age,
    })
}

/// What all the lengths agree on.
fn length<'a>(
    values: impl Iterator<Item = std::borrow::Cow<'a, str>>,
) -> Result<Option<u64>, String> {
    let mut agreed = None;
    for value in values {
        for text in value.split(',').map(str::trim) {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let length = text.parse::<u64>().ok().filter(|_| digits);
            if length.is_none() || agreed.is_some_and(|agreed| Some(agreed) != length) {
                return Err(format!("the answer's length is unclear: {value}"));
            }
            agreed = length;
        }
    }
    Ok(agreed)
}

/// A body that is being taken in.
pub(super) struct Body {
    framing: Framing,
    /// Of chunks, what was in them.
    unchunked: BytesMut,
    chunk: Chunk,
}

/// Where in a chunked body.
#[derive(Clone, Copy)]
enum Chunk {
    /// Before a size.
    Size,
    /// So many bytes before the end of a chunk.
    Inside(u64),
    /// Behind a chunk's bytes.
    Behind,
    /// Behind the last chunk.
    Trailer,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            unchunked: BytesMut::new(),
            chunk: Chunk::Size,
        }
    }

    /// How much there is of it. What is behind its end does not count.
    pub(super) fn size(&self, received: &BytesMut) -> u64 {
        let there = u64::try_from(received.len()).unwrap_or(u64::MAX);
        match self.framing {
            Framing::Length(length) => length.min(there),
            Framing::Chunked => u64::try_from(self.unchunked.len()).unwrap_or(u64::MAX),
            Framing::UntilClosed => there,
        }
    }

    /// Goes as far as `received` goes; whether that is the end.
    pub(super) fn advance(&mut self, received: &mut BytesMut) -> Result<bool, &'static str> {
        match self.framing {
            Framing::Length(length) => Ok(self.size(received) == length),
            Framing::UntilClosed => Ok(false),
            Framing::Chunked => loop {
                match self.advance_chunk(received)? {
                    Some(true) => {}
                    Some(false) => return Ok(true),
                    None => return Ok(false),
                }
            },
        }
    }

    /// One step: none if it needs more bytes, and whether there is another.
    fn advance_chunk(&mut self, received: &mut BytesMut) -> Result<Option<bool>, &'static str> {
        match self.chunk {
            Chunk::Size => match parse_chunk_size(received) {
                Ok(Status::Complete((line, size))) => {
                    received.advance(line);
                    self.chunk = if size == 0 {
                        Chunk::Trailer
                    } else {
                        Chunk::Inside(size)
                    };
                }
                Ok(Status::Partial) if received.len() < MAX_CHUNK_LINE => return Ok(None),
                Ok(Status::Partial) | Err(_) => return Err("a chunk's size cannot be read"),
            },
            Chunk::Inside(left) => {
                let there = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(received.len());
                if there == 0 {
                    return Ok(None);
                }
                self.unchunked.extend_from_slice(&received.split_to(there));
                let left = left.saturating_sub(u64::try_from(there).unwrap_or(u64::MAX));
                self.chunk = if left == 0 {
                    Chunk::Behind
                } else {
                    Chunk::Inside(left)
                };
            }
            Chunk::Behind => match (received.first(), received.get(1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    received.advance(2);
                    self.chunk = Chunk::Size;
                }
                (None, _) | (Some(b'\r'), None) => return Ok(None),
                _ => return Err("a chunk is longer than its size"),
            },
            Chunk::Trailer => match received.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let line = received.split_to(end.saturating_add(1));
                    return Ok(Some(!line.trim_ascii().is_empty()));
                }
                None if received.len() < MAX_CHUNK_LINE => return Ok(None),
                None => return Err("the trailer is too long"),
            },
        }
        Ok(Some(true))
    }

    /// What came of it since this was last asked, of a body that is never taken whole.
    pub(super) fn drain(&mut self, received: &mut BytesMut) -> BytesMut {
        match &mut self.framing {
            Framing::Chunked => self.unchunked.split(),
            Framing::UntilClosed => received.split(),
            Framing::Length(left) => {
                let there = usize::try_from(*left).unwrap_or(usize::MAX);
                let piece = received.split_to(there.min(received.len()));
                *left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                piece
            }
        }
    }

    /// The connection ended: whether the body did.
    pub(super) const fn may_end(&self) -> bool {
        matches!(self.framing, Framing::UntilClosed)
    }

    /// What there is of it, taken out of `received`.
    pub(super) fn take(self, received: &mut BytesMut) -> Bytes {
        let size = usize::try_from(self.size(received)).unwrap_or(usize::MAX);
        match self.framing {
            Framing::Chunked => self.unchunked.freeze(),
            Framing::Length(_) | Framing::UntilClosed => {
                received.split_to(size.min(received.len())).freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests;
