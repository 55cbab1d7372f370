//! Text that strangers wrote: repaired once, cut only between characters (product.md rule 9; lessons U01, U03).

use std::borrow::Cow;

/// Replaces NUL, which no text column of PostgreSQL can hold, by U+FFFD.
#[must_use]
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// `text` if it has at most `limit` bytes, else its longest whole-character prefix within `limit` bytes and `...` (contract §1.6).
#[must_use]
pub fn preview(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let (kept, _) = text.split_at(text.floor_char_boundary(limit));
    Cow::Owned(format!("{kept}..."))
}

/// Makes JSON bytes readable that are legal to send and yet refused by strict readers: invalid UTF-8 and lone surrogate
/// escapes become U+FFFD, a byte-order mark is dropped. Anything else is left as it is.
#[must_use]
pub fn repair_json(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    // Most have no escape at all, which is found out sooner.
    if !text.contains('\\') || !text.contains("\\u") {
        return text;
    }
    let mut repaired = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(start) = rest.find('\\') {
        let (before, escape) = rest.split_at(start);
        repaired.push_str(before);
        let length = match surrogate(escape) {
            Some(0xD800..=0xDBFF) => {
                let follower = escape.get(6..).and_then(surrogate);
                if follower.is_some_and(|unit| (0xDC00..=0xDFFF).contains(&unit)) {
                    repaired.push_str(escape.get(..12).unwrap_or_default());
                    12
                } else {
                    repaired.push_str("\\ufffd");
                    6
                }
            }
            Some(0xDC00..=0xDFFF) => {
                repaired.push_str("\\ufffd");
                6
            }
            _ => {
                let end = escape
                    .char_indices()
                    .nth(2)
                    .map_or(escape.len(), |(index, _)| index);
                repaired.push_str(escape.get(..end).unwrap_or_default());
                end
            }
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    repaired.push_str(rest);
    Cow::Owned(repaired)
}

/// The code unit of a `\uXXXX` escape at the start of `text`.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_preview_is_cut_between_characters_at_every_length() {
        let text = "aé漢🦀".repeat(40);
        for limit in 0..text.len() + 2 {
            let cut = preview(&text, limit);
            let kept = cut.strip_suffix("...").unwrap_or(&cut);
            assert!(text.starts_with(kept) && kept.len() <= limit.max(kept.len().min(limit)));
            assert!(
                kept.len() + 3 >= limit.min(text.len()),
                "no more than one character is given up"
            );
        }
        assert_eq!(preview("abcdef", 3), "abc...");
        assert_eq!(preview("abc", 3), "abc");
    }

    #[test]
    fn lone_surrogates_and_broken_utf8_become_replacement_characters() {
        let read = |bytes: &[u8]| serde_json::from_str::<String>(&repair_json(bytes)).unwrap();
        assert_eq!(read(br#""\ud800""#), "\u{fffd}");
        assert_eq!(read(br#""\udc00x""#), "\u{fffd}x");
        assert_eq!(read(br#""\ud83e\udd80""#), "🦀");
        assert_eq!(read(br#""\ud83e\ud83e\udd80""#), "\u{fffd}🦀");
        assert_eq!(read(br#""\\ud800""#), "\\ud800");
        assert_eq!(read(b"\xef\xbb\xbf\"\xff\""), "\u{fffd}");
        assert_eq!(read(br#""\u0000""#), "\0");
        assert_eq!(sanitize("a\0b"), "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn repair_never_changes_what_is_already_readable(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            let repaired = repair_json(json.as_bytes());
            prop_assert_eq!(repaired.as_ref(), json.as_str());
        }

        #[test]
        fn repair_survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(repair_json(&bytes).len() <= 3 * bytes.len());
        }

        #[test]
        fn repair_makes_every_string_of_code_units_readable(units in proptest::collection::vec(any::<u16>(), 0..40)) {
            let escaped: String = units.iter().fold(String::new(), |text, unit| text + &format!("\\u{unit:04x}"));
            let expected = String::from_utf16_lossy(&units);
            let json = format!("\"{escaped}\"");
            let read: String = serde_json::from_str(&repair_json(json.as_bytes())).unwrap();
            prop_assert_eq!(read, expected);
        }
    }
}
