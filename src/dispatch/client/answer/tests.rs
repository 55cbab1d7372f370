use proptest::prelude::*;

use super::*;

/// The head, the body as far as it goes, what is left over; none when it broke or wants more.
fn read_in(pieces: &[&[u8]], ends: bool) -> Result<Option<(Head, Bytes, BytesMut)>, String> {
    let mut received = BytesMut::new();
    let mut pieces = pieces.iter();
    let mut more = |received: &mut BytesMut| {
        let piece = pieces.next();
        received.extend_from_slice(piece.copied().unwrap_or_default());
        piece.is_some()
    };
    let head = loop {
        if let Some(head) = head(&mut received)? {
            break head;
        }
        if !more(&mut received) {
            return Ok(None);
        }
    };
    let mut body = Body::new(head.framing);
    while !body.advance(&mut received)? {
        if !more(&mut received) {
            if ends && body.may_end() {
                break;
            }
            return Ok(None);
        }
    }
    let body = body.take(&mut received);
    Ok(Some((head, body, received)))
}

fn whole(text: &str) -> (Head, Bytes, BytesMut) {
    read_in(&[text.as_bytes()], true).unwrap().unwrap()
}

#[test]
fn a_body_ends_where_its_head_says() {
    for (text, body, left, stays) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            "",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
            "ok",
            "!",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2, 2\r\n\r\nok",
            "ok",
            "",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            "",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, CLOSE\r\n\r\nok",
            "ok",
            "",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", "", false),
        ("HTTP/1.1 204 No\r\n\r\n", "", "", true),
        ("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", "", "", true),
        ("HTTP/1.1 101 Up\r\nUpgrade: x\r\n\r\nxyz", "", "xyz", false),
        (
            "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hint\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
            "1",
            "",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n1\r\n!\r\n0\r\nSum: 1\r\n\r\n",
            "ok!",
            "",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
            "ok",
            "more",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nok",
            "ok",
            "",
            false,
        ),
    ] {
        let (head, found, rest) = whole(text);
        assert_eq!(
            (&*found, &*rest),
            (body.as_bytes(), left.as_bytes()),
            "{text}"
        );
        assert_eq!(head.stays, stays, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD));
    let trailer = format!("0\r\nx: {}", "y".repeat(MAX_CHUNK_LINE));
    let extended = format!("1;{}", "y".repeat(MAX_CHUNK_LINE));
    let chunked =
        |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for text in [
        "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok".to_owned(),
        chunked("x\r\n"),
        chunked("fffffffffffffffff\r\n"),
        chunked("1\r\nab\r\n"),
        chunked(&trailer),
        chunked(&extended),
        long.trim_end().to_owned(),
    ] {
        let read = read_in(&[text.as_bytes()], true);
        assert!(
            read.is_err(),
            "{}: {read:?}",
            text.get(..60).unwrap_or(&text)
        );
    }
}

#[test]
fn half_an_answer_is_not_one() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 100 Go\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        let read = read_in(&[text.as_bytes()], true);
        assert!(matches!(read, Ok(None)), "{text}: {read:?}");
    }
}

proptest! {
    /// Wherever the pieces of an answer end, it says the same.
    #[test]
    fn pieces_make_no_difference(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        chunked in any::<bool>(),
    ) {
        let body = chunks.concat();
        let mut text = b"HTTP/1.1 200 OK\r\nRetry-After: 7\r\n".to_vec();
        if chunked {
            text.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in &chunks {
                text.extend(format!("{:X}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
        } else {
            text.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            text.extend(&body);
        }
        let mut ends: Vec<usize> = cuts.drain(..).map(|cut| cut.index(text.len())).collect();
        ends.extend([0, text.len()]);
        ends.sort_unstable();
        let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        let (head, found, left) = read_in(&pieces, false).unwrap().unwrap();
        prop_assert_eq!(head.retry_after, Some(Duration::from_secs(7)));
        prop_assert!(head.stays && left.is_empty());
        prop_assert_eq!(&*found, &*body);
    }

    /// Nothing that comes makes it panic.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), split in 0usize..200) {
        let (first, second) = bytes.split_at(split.min(bytes.len()));
        drop(read_in(&[first, second], true));
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        answer.extend(&bytes);
        drop(read_in(&[&answer], true));
    }
}

#[test]
fn what_is_only_in_passing_stops_no_upload() {
    let passes = |bytes: &[u8]| {
        let mut received = BytesMut::from(bytes);
        (is_in_passing(&mut received), received.len())
    };
    assert_eq!(passes(b""), (true, 0));
    assert_eq!(passes(b"HTTP/1.1 100 Continue\r\n\r\n"), (true, 0));
    assert_eq!(
        passes(b"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1"),
        (true, 6)
    );
    assert_eq!(passes(b"HTTP/1.1 100 Continue\r\n"), (true, 23));
    for answer in [
        &b"HTTP/1.1 413 Too large\r\n"[..],
        b"HTTP/1.1 101 X\r\n\r\n",
        b"x",
    ] {
        assert_eq!(passes(answer), (false, answer.len()));
    }
}
