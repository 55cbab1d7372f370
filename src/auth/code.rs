//! One-time codes: a link signs somebody in, and the token never stands in an address.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TokenHash;

/// How long a code is good.
const GOOD_FOR: Duration = Duration::from_mins(10);
/// How many are held at once; the oldest makes room for one more.
const HELD: usize = 16;

/// The codes that were given out and not yet used. Cheap to clone.
#[derive(Clone, Default)]
pub struct Codes(Arc<Mutex<VecDeque<Held>>>);

struct Held {
    code: TokenHash,
    good_until: Instant,
    token: Arc<str>,
}

impl Codes {
    /// A code of 128 bits of chance that stands for this token once, within ten minutes.
    #[must_use]
    pub fn mint(&self, token: &str, now: Instant) -> String {
        let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= HELD {
            held.pop_front();
        }
        held.push_back(Held {
            code: TokenHash::of(code.as_bytes()),
            good_until: now + GOOD_FOR,
            token: token.into(),
        });
        code
    }

    /// The token that a code stands for; from now on it stands for nothing.
    #[must_use]
    pub fn redeem(&self, code: &[u8], now: Instant) -> Option<Arc<str>> {
        let code = TokenHash::of(code);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|one| one.good_until > now);
        let found = held.iter().position(|one| one.code.matches(&code))?;
        held.remove(found).map(|one| one.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_ten_minutes() {
        let (codes, now) = (Codes::default(), Instant::now());
        let code = codes.mint("token", now);
        assert_eq!(code.len(), 22);
        assert_eq!(codes.redeem(b"another", now), None);
        assert_eq!(codes.redeem(code.as_bytes(), now).as_deref(), Some("token"));
        assert_eq!(codes.redeem(code.as_bytes(), now), None);

        let code = codes.mint("token", now);
        assert_eq!(codes.redeem(code.as_bytes(), now + GOOD_FOR), None);
        assert_eq!(codes.redeem(code.as_bytes(), now), None, "it was forgotten");
    }

    #[test]
    fn the_oldest_makes_room() {
        let (codes, now) = (Codes::default(), Instant::now());
        let minted: Vec<_> = (0..=HELD).map(|_| codes.mint("token", now)).collect();
        let is_good = |code: &String| codes.redeem(code.as_bytes(), now).is_some();
        let good: Vec<_> = minted.iter().map(is_good).collect();
        assert_eq!(good.iter().position(|good| *good), Some(1));
        assert!(good.iter().skip(1).all(|good| *good));
    }
}
