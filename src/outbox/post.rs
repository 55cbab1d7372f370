//! What is sent to a receiver, and what its answer means.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::{Error, NewReceiver};
use crate::dispatch::is_value;
use crate::domain::{
    Course, Moment, Position, Receiver, ReceiverId, ReceiverState, RetryPolicy, Timestamp,
};
use crate::secrets::{self, Secrets};

/// How long one exchange may take.
pub(super) const TIME: Duration = Duration::from_secs(10);
/// The longest secret, in bytes.
const SECRET_BYTES: usize = 4096;
/// How the secret of a signature begins, by Standard Webhooks.
const SIGNING: &str = "whsec_";
/// When a receiver that failed is tried again: after a second, twice as long each time, five minutes at most.
const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_secs(1),
    cap: Duration::from_mins(5),
    jitter: 0.4,
    slow: Duration::from_mins(5),
};

/// A new secret to sign with.
#[must_use]
pub fn mint_signing_secret() -> String {
    let bytes: [u8; 32] = rand::random();
    format!("{SIGNING}{}", STANDARD.encode(bytes))
}

/// What a receiver knows Baton by.
#[derive(Serialize, Deserialize, Default, PartialEq, Eq)]
pub(super) struct Keys {
    token: Option<String>,
    /// What follows the scheme.
    credentials: Option<String>,
    signing: Option<String>,
}

impl Keys {
    pub(super) fn of(new: &NewReceiver) -> Result<Self, Error> {
        let fits = |part: Option<&str>| part.is_none_or(|text| is_value(text, SECRET_BYTES));
        let (scheme, credentials) = new.authentication.clone().unzip();
        for (part, name) in [
            (&new.token, "token"),
            (&scheme, "authentication.scheme"),
            (&credentials, "authentication.credentials"),
            (&new.signing_secret, "secret"),
        ] {
            if !fits(part.as_deref()) {
                return Err(Error::Unfit(name));
            }
        }
        Ok(Self {
            token: new.token.clone(),
            credentials,
            signing: new.signing_secret.clone(),
        })
    }

    /// As it is stored; nothing when there is nothing to hide.
    pub(super) fn seal(
        &self,
        secrets: &Secrets,
        id: ReceiverId,
    ) -> Result<Option<Box<[u8]>>, secrets::Error> {
        if *self == Self::default() {
            return Ok(None);
        }
        let plain = serde_json::to_vec(self).map_err(|_never| secrets::Error::Unreadable)?;
        let sealed = secrets.seal(&plain, &context(id))?;
        Ok(Some(sealed.into()))
    }

    pub(super) fn open(receiver: &Receiver, secrets: &Secrets) -> Result<Self, secrets::Error> {
        let Some(sealed) = &receiver.sealed else {
            return Ok(Self::default());
        };
        let plain = secrets.open(sealed, &context(receiver.id))?;
        serde_json::from_slice(&plain).map_err(|_foreign| secrets::Error::Unreadable)
    }

    /// What a receiver of this scheme is shown with a body, now.
    pub(super) fn headers(
        &self,
        scheme: Option<&str>,
        id: String,
        now: Timestamp,
        body: &[u8],
    ) -> Vec<(Box<str>, Box<str>)> {
        let mut headers: Vec<(&str, String)> = Vec::new();
        if let Some(token) = &self.token {
            headers.push(("x-a2a-notification-token", token.clone()));
            headers.push(("a2a-notification-token", token.clone()));
        }
        if let Some((scheme, credentials)) = scheme.zip(self.credentials.as_ref()) {
            headers.push(("authorization", format!("{scheme} {credentials}")));
        }
        let seconds = now.0.div_euclid(1_000_000).to_string();
        if let Some(secret) = &self.signing {
            let signature = signature(secret, &id, &seconds, body);
            headers.push(("webhook-signature", signature));
        }
        headers.push(("webhook-id", id));
        headers.push(("webhook-timestamp", seconds));
        let headers = headers.into_iter();
        let boxed = headers.map(|(name, value)| (name.into(), value.into()));
        boxed.collect()
    }
}

fn context(id: ReceiverId) -> String {
    format!("keys of receiver {id}")
}

/// By Standard Webhooks: what follows `whsec_` is the key in base64; another secret is the key itself.
fn signature(secret: &str, id: &str, seconds: &str, body: &[u8]) -> String {
    let encoded = secret.strip_prefix(SIGNING);
    let key = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
    let key = key.unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut tag = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    tag.update(format!("{id}.{seconds}.").as_bytes());
    tag.update(body);
    format!("v1,{}", STANDARD.encode(tag.sign()))
}

/// The same for one event and receiver, however often it is tried.
pub(super) fn message_id(receiver: ReceiverId, place: Position, part: usize) -> String {
    match part {
        0 => format!("{place}-{receiver}"),
        part => format!("{place}-{receiver}-{part}"),
    }
}

/// Why a receiver was not told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// It says that it is gone for good.
    Gone,
    /// It may be told later.
    Failed(String),
}

/// What an answer means; an error is why there was none.
pub(super) fn verdict(answer: Result<u16, String>) -> Result<(), Refusal> {
    match answer {
        Ok(200..=299) => Ok(()),
        Ok(410) => Err(Refusal::Gone),
        Ok(status) => Err(Refusal::Failed(format!("it answered {status}"))),
        Err(why) => Err(Refusal::Failed(why)),
    }
}

/// How it goes on with a receiver after it was not told.
pub(super) fn after_refusal(
    course: &Course,
    refusal: Refusal,
    moment: Moment,
    give_up_after: Duration,
) -> Course {
    let Moment {
        now,
        dice,
        hearing_since,
    } = moment;
    let (is_gone, why) = match refusal {
        Refusal::Gone => (true, "it answered 410: gone".to_owned()),
        Refusal::Failed(why) => (false, why),
    };
    // When nobody told it anything, it did not fail.
    let failing_since = course
        .failing_since
        .map_or(now, |since| since.max(hearing_since).min(now));
    let failures = course.failures.saturating_add(1);
    let is_dead = is_gone || now.since(failing_since) >= give_up_after;
    Course {
        state: if is_dead {
            ReceiverState::Dead
        } else {
            ReceiverState::Live
        },
        position: course.position,
        failures,
        failing_since: Some(failing_since),
        next_attempt_at: (!is_dead).then(|| now.plus(RETRY.delay(failures, dice))),
        last_error: Some(why.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: Timestamp, hearing_since: Timestamp) -> Moment {
        Moment {
            now,
            dice: 0.5,
            hearing_since,
        }
    }

    #[test]
    fn the_published_example_of_standard_webhooks_is_signed_as_it_says() {
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let minted = mint_signing_secret();
        let key = STANDARD.decode(minted.strip_prefix(SIGNING).unwrap());
        assert_eq!(key.unwrap().len(), 32);
    }

    #[test]
    fn each_secret_has_its_header_and_what_breaks_a_head_is_named() {
        let new = NewReceiver {
            token: Some("t".to_owned()),
            authentication: Some(("Bearer".to_owned(), "c".to_owned())),
            signing_secret: Some("s".to_owned()),
            ..NewReceiver::default()
        };
        let keys = Keys::of(&new).ok().unwrap();
        let headers = keys.headers(
            Some("Bearer"),
            "1-x".to_owned(),
            Timestamp(2_500_000),
            b"{}",
        );
        let value = |name: &str| {
            let mut found = headers.iter().filter(|(other, _)| **other == *name);
            found.next().map(|(_, value)| &**value)
        };
        for (name, expected) in [
            ("x-a2a-notification-token", "t"),
            ("a2a-notification-token", "t"),
            ("authorization", "Bearer c"),
            ("webhook-id", "1-x"),
            ("webhook-timestamp", "2"),
            ("webhook-signature", &signature("s", "1-x", "2", b"{}")),
        ] {
            assert_eq!(value(name), Some(expected));
        }
        assert_eq!(
            Keys::default()
                .headers(None, String::new(), Timestamp(0), b"")
                .len(),
            2
        );
        let odd = |change: fn(&mut NewReceiver)| {
            let mut new = new.clone();
            change(&mut new);
            match Keys::of(&new) {
                Err(Error::Unfit(name)) => name,
                _ => "",
            }
        };
        assert_eq!(odd(|new| new.token = Some("a\r\nb".to_owned())), "token");
        let scheme = odd(|new| new.authentication = Some(("é".to_owned(), "c".to_owned())));
        assert_eq!(scheme, "authentication.scheme");
        let credentials = odd(|new| new.authentication = Some(("a".to_owned(), "\n".to_owned())));
        assert_eq!(credentials, "authentication.credentials");
    }

    #[test]
    fn keys_are_sealed_for_one_receiver() {
        let secrets = Secrets::obtain(&STANDARD.encode([1; 32]), "").unwrap();
        let (one, keys) = (ReceiverId::mint(), Keys::default());
        assert_eq!(keys.seal(&secrets, one), Ok(None));
        assert_eq!(keys.seal(&Secrets::default(), one), Ok(None));
        let keys = Keys {
            token: Some("secret".to_owned()),
            ..keys
        };
        assert!(keys.seal(&Secrets::default(), one).is_err());
        let sealed = keys.seal(&secrets, one).unwrap();
        let mut receiver = Receiver {
            id: one,
            workspace: crate::domain::WorkspaceId::mint(),
            delegation: None,
            config: "c".into(),
            url: "http://x/".into(),
            scheme: None,
            old_form: false,
            sealed,
            course: Course::from(Position(0)),
            node: crate::domain::NodeId::mint(),
            created_at: Timestamp(0),
        };
        assert!(Keys::open(&receiver, &secrets).is_ok_and(|opened| opened == keys));
        receiver.id = ReceiverId::mint();
        assert!(Keys::open(&receiver, &secrets).is_err());
    }

    #[test]
    fn a_receiver_that_fails_is_tried_less_and_less_often_until_it_is_given_up() {
        let day = Duration::from_hours(24);
        let mut course = Course::from(Position(7));
        let refused = || Refusal::Failed("no".to_owned());
        let mut now = Timestamp(0);
        let mut waits = Vec::new();
        while course.state == ReceiverState::Live {
            course = after_refusal(&course, refused(), at(now, Timestamp(0)), day);
            if let Some(next) = course.next_attempt_at {
                waits.push(next.since(now).as_secs());
                now = next;
            }
        }
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waits[9..].iter().all(|wait| *wait == 300));
        assert!(now.since(Timestamp(0)) >= day && now.since(Timestamp(0)) < day + RETRY.cap);
        assert_eq!(course.position, Position(7));
        assert_eq!(course.last_error.as_deref(), Some("no"));
        let fresh = Course::from(Position(7));
        let gone = after_refusal(&fresh, Refusal::Gone, at(now, now), day);
        assert_eq!(gone.state, ReceiverState::Dead);
    }

    #[test]
    fn it_does_not_fail_while_nobody_tells_it() {
        let day = Duration::from_hours(24);
        let refused = |course: &Course, moment| {
            after_refusal(course, Refusal::Failed("no".to_owned()), moment, day)
        };
        let stopped = Timestamp(0);
        let course = refused(&Course::from(Position(7)), at(stopped, stopped));
        let started = stopped.plus(Duration::from_hours(25));
        let now = started.plus(Duration::from_secs(1));
        let course = refused(&course, at(now, started));
        assert_eq!(course.state, ReceiverState::Live);
        assert_eq!(course.failing_since, Some(started));
        let course = refused(&course, at(started.plus(day), started));
        assert_eq!(course.state, ReceiverState::Dead);
    }

    #[test]
    fn only_success_is_success() {
        assert_eq!(verdict(Ok(204)), Ok(()));
        assert_eq!(verdict(Ok(410)), Err(Refusal::Gone));
        for status in [100, 301, 400, 404, 429, 500] {
            assert!(matches!(verdict(Ok(status)), Err(Refusal::Failed(_))));
        }
    }
}
