//! Peer text made fit for an error line: one line, no control bytes, no secrets, bounded (lesson A06).

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::preview;

/// Longer details help nobody: the raw reply is kept beside them.
const LIMIT: usize = 1000;

/// The shortest tail of `sk-…` that is taken for a key.
const KEY_TAIL: usize = 16;

/// `text` on one line: white space and control characters become single spaces, characters that reorder or hide what
/// follows them go, what looks like a secret is masked, and the rest is cut at [`LIMIT`] bytes.
pub(super) fn clean(text: &str) -> Arc<str> {
    // Bounded before it is taken apart, because a peer may send megabytes.
    let (head, _) = text.split_at(text.floor_char_boundary(LIMIT.saturating_mul(2)));
    let spaced: String = head
        .chars()
        .filter(|&letter| !reorders(letter))
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let mut line = String::with_capacity(spaced.len());
    let mut after_bearer = false;
    for word in spaced.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&if after_bearer {
            Cow::Borrowed("[redacted]")
        } else {
            mask_key(word)
        });
        let bare = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
        after_bearer = bare.eq_ignore_ascii_case("bearer");
    }
    preview(&line, LIMIT).into()
}

/// Format characters that make a line read otherwise than it is: bidirectional controls, joiners, separators.
const fn reorders(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn mask_key(word: &str) -> Cow<'_, str> {
    let Some((before, tail)) = word.split_once("sk-") else {
        return Cow::Borrowed(word);
    };
    let length = tail
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        .count();
    if length < KEY_TAIL {
        return Cow::Borrowed(word);
    }
    let after = tail.get(length..).unwrap_or_default();
    Cow::Owned(format!("{before}[redacted]{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peer_text_becomes_one_harmless_line() {
        for (peer, line) in [
            ("plain", "plain"),
            ("", ""),
            ("two\r\nlines\tand  spaces ", "two lines and spaces"),
            (
                "\u{1b}[31mred\u{1b}[0m \0nul \u{7}bell",
                "[31mred [0m nul bell",
            ),
            ("abc\u{202e}txt\u{2066}\u{2028}x", "abctxtx"),
            (
                "Authorization: Bearer abc.def ok",
                "Authorization: Bearer [redacted] ok",
            ),
            (
                "key=sk-abcdefghijklmnop1234, sorry",
                "key=[redacted], sorry",
            ),
            ("task-sk-1 ask-me", "task-sk-1 ask-me"),
        ] {
            assert_eq!(&*clean(peer), line);
        }
        assert!(clean(&"é".repeat(5_000_000)).len() <= LIMIT + 3);
    }

    proptest! {
        #[test]
        fn no_control_character_survives(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(char::is_control));
        }
    }
}
