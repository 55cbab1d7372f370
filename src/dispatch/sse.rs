//! Server-sent events from whatever pieces come: lines that end with LF, CRLF or CR, several `data` lines for one event,
//! comments. Names and ids of events say nothing that Baton needs.

/// How long the name of the one field is that matters.
const FIELD: usize = "data: ".len();

/// Takes bytes, gives events.
#[derive(Debug)]
pub(super) struct Events {
    /// The line that has not ended.
    line: Vec<u8>,
    /// What the event says so far, if it has said anything.
    data: Option<Vec<u8>>,
    /// Whether a line has just ended with CR, so that an LF belongs to it.
    after_cr: bool,
    /// The longest event.
    limit: usize,
}

/// An event is longer than allowed.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct TooLong;

impl Events {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            data: None,
            after_cr: false,
            limit,
        }
    }

    /// Takes from the front of `bytes` up to the end of the next event, and returns that; none when all was taken.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, TooLong> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                *bytes = rest;
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                *bytes = &[];
                break;
            };
            let (line, rest) = bytes.split_at(end);
            self.line.extend_from_slice(line);
            self.after_cr = rest.first() == Some(&b'\r');
            *bytes = rest.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            if line.is_empty()
                && let Some(data) = self.data.take()
            {
                return Ok(Some(data));
            }
            self.take(&line)?;
        }
        self.check(self.line.len().saturating_sub(FIELD))?;
        Ok(None)
    }

    /// The event that the end of the stream left without its empty line.
    pub(super) fn last(mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        self.take(&line).ok()?;
        self.data
    }

    /// Takes a line; what is no `data` is skipped.
    fn take(&mut self, line: &[u8]) -> Result<(), TooLong> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let Some(value) = line.strip_prefix(b"data") else {
            return Ok(());
        };
        let value = match value {
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            [] => value,
            // `database: …` is another field.
            _ => return Ok(()),
        };
        self.check(value.len())?;
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        Ok(())
    }

    fn check(&self, more: usize) -> Result<(), TooLong> {
        let data = self.data.as_ref().map_or(0, Vec::len);
        if data.saturating_add(more) > self.limit {
            return Err(TooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All events of a stream that comes in these pieces, and what its end leaves.
    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
        let text = |data: Vec<u8>| String::from_utf8(data).unwrap();
        let mut reader = Events::new(1_000);
        let mut all = Vec::new();
        for mut piece in pieces {
            while let Some(data) = reader.next(&mut piece).unwrap() {
                all.push(text(data));
            }
            assert!(piece.is_empty());
        }
        (all, reader.last().map(text))
    }

    #[test]
    fn every_way_to_write_events_is_read() {
        for (stream, expected, left) in [
            ("data: a\n\ndata:b\n\n", vec!["a", "b"], None),
            (
                "data: a\r\n\r\ndata: b\r\rdata: c\n\n",
                vec!["a", "b", "c"],
                None,
            ),
            (
                ": hello\n\nevent: x\nid: 7\nretry: 1\ndata: a\n: in between\ndata: b\n\n",
                vec!["a\nb"],
                None,
            ),
            (
                "data:  two spaces\n\ndata\n\ndata:\n\n",
                vec![" two spaces", "", ""],
                None,
            ),
            ("\u{feff}data: a\n\n\n\n", vec!["a"], None),
            ("database: a\ndata : a\nevent: x\n\n", vec![], None),
            ("data: a\n\ndata: b\n", vec!["a"], Some("b")),
            ("data: a\n\ndata: b", vec!["a"], Some("b")),
            ("", vec![], None),
        ] {
            let (read, last) = events([stream.as_bytes()]);
            assert_eq!(
                (read, last.as_deref()),
                (expected.iter().map(ToString::to_string).collect(), left),
                "{stream:?}"
            );
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        for stream in [
            "data: 12345678901",
            "data: 12345\ndata: 123456\n\n",
            ": 12345678901234567",
        ] {
            let mut reader = Events::new(10);
            assert_eq!(
                reader.next(&mut stream.as_bytes()),
                Err(TooLong),
                "{stream}"
            );
        }
        let mut reader = Events::new(16);
        let whole = reader.next(&mut b"data: 1234567890\n\n".as_slice());
        assert_eq!(whole, Ok(Some(b"1234567890".to_vec())));
    }

    proptest! {
        /// However a stream is cut into pieces, it says the same.
        #[test]
        fn any_split_of_bytes_gives_the_same_events(
            stream in "(data: ?|:|event: x|\r\n|\n|\r|a|é|\u{feff}| ){0,60}",
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        ) {
            let bytes = stream.as_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
            prop_assert_eq!(events(pieces), events([bytes]));
        }
    }
}
