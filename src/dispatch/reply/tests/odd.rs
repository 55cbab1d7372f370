//! Bytes that no agent should send, and that some will.

use proptest::prelude::*;

use super::*;

/// Lessons L07 (e) and U03.
#[test]
fn any_other_bytes_end_in_a_class_of_their_own() {
    for (status, body) in [(204, ""), (200, ""), (200, " \r\n\t"), (202, "\u{feff}")] {
        assert_malformed(&read(status, body), ErrorClass::EmptyResponse, body);
    }
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "<html>hi</html>",
        "null",
        "[]",
        "\"text\"",
        "\0",
        "{}",
        "OK",
        "{\"id\":\"r-1\"} {}",
        "{'a':1}",
        &nested,
    ] {
        assert_malformed(
            &read(200, body),
            ErrorClass::MalformedResponse,
            body.get(..9).unwrap_or(body),
        );
    }
    assert_malformed(&read(101, ""), ErrorClass::MalformedResponse, "101");
    for body in [
        r#"{"jsonrpc":"2.0","id":"r-1","result":{"parts":[{"kind":"te"#,
        "{",
        "{\"id\":",
    ] {
        let outcome = read(200, body);
        assert!(
            matches!(
                outcome,
                Outcome::DeliveredUnknown {
                    class: ErrorClass::Truncated,
                    ..
                }
            ),
            "{outcome:?}"
        );
    }
    let odd = |before: &str, after: &str| {
        format!(
            r#"{before}{{"deep":{nested},"id":"x","id":"r-1","n":1e400,"result":{{"x":{nested},"parts":[{{"x":{nested},"text":"ok"}}]}}}}{after}"#
        )
    };
    assert_eq!(read(200, &odd("", "")), answered("ok"));
    assert_eq!(read(200, &odd("\u{feff}", " \n")), answered("ok"));
    let deep_part = format!(r#"{{"parts":[{{"kind":"data","data":{nested}}}]}}"#);
    assert!(matches!(read_result(&deep_part), Outcome::Answered { text } if text.len() > 200_000));
    let deep_text = format!(r#"{{"parts":[{{"kind":"text","text":{nested}}}]}}"#);
    assert!(matches!(read_result(&deep_text), Outcome::Answered { .. }));
    let broken = b"{\"id\":\"r-1\",\"result\":{\"parts\":[{\"text\":\"a\xffb\"}]}}";
    assert_eq!(read_reply(200, None, broken, ID), answered("a\u{fffd}b"));
}

proptest! {
    #[test]
    fn reading_never_panics(status in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let outcome = read_reply(status, None, &body, ID);
        prop_assert!(!matches!(outcome, Outcome::Answered { .. }), "our own id is not among them");
    }

    #[test]
    fn reading_what_looks_like_an_answer_never_panics(
        status in 200u16..600,
        pieces in proptest::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "null", "true", "1e400", "\"id\"", "\"r-1\"", "\"result\"", "\"error\"",
                "\"parts\"", "\"text\"", "\"status\"", "\"state\"", "\"completed\"", "\"task\"", "\"\\ud800\"",
            ]),
            0..40,
        ),
    ) {
        let outcome = read(status, &pieces.concat());
        let completes = matches!(outcome, Outcome::Answered { .. });
        prop_assert!(status < 300 || !completes);
    }

    #[test]
    fn a_single_text_part_arrives_as_it_was_sent(text in any::<String>()) {
        let result = serde_json::json!({"kind": "message", "parts": [{"kind": "text", "text": text}]});
        prop_assert_eq!(read_result(&result.to_string()), answered(&text.replace('\0', "\u{fffd}")));
    }

    #[test]
    fn every_failure_has_a_clean_detail(status in 300u16..600, error in any::<String>()) {
        let body = serde_json::json!({"error": error}).to_string();
        if let Outcome::Refused { detail, .. } = read(status, &body) {
            prop_assert!(!detail.is_empty() && !detail.chars().any(char::is_control));
        }
    }
}
