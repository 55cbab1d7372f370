//! What a target wants to see of who calls it: a header on every request, and nothing that anybody else gets to see.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::header::{is_token, is_value};
use crate::domain::{SealedCredential, WorkspaceId};
use crate::secrets::{Error, Secrets};

/// Longer secrets than this do not fit into a head.
const LIMIT: usize = 4096;
/// What is shorter than this is not looked for in answers: it may be any word.
const MASKED_FROM: usize = 8;
/// Headers that say how a request is read, whom it is for, or what Baton says with them itself.
const OWN_HEADERS: [&str; 23] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept",
    "accept-encoding",
    "user-agent",
    "range",
    "traceparent",
    "tracestate",
    "a2a-version",
    "a2a-extensions",
    "x-a2a-extensions",
];

/// A credential for a target. Its text never appears in logs.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(tag = "scheme", rename_all = "snake_case")]
pub enum Credential {
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: String,
    },
    /// A header of the target's own.
    ApiKey {
        /// Its name.
        header: String,
        /// The key.
        value: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The name, without a colon.
        username: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.scheme())
    }
}

impl Credential {
    /// The word for its kind.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "bearer",
            Self::ApiKey { .. } => "api_key",
            Self::Basic { .. } => "basic",
        }
    }

    /// Which part cannot be sent in a header, and why.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        const NO_VALUE: &str = "must be 1 to 4096 visible ASCII characters";
        match self {
            Self::Bearer { token } => {
                (!is_value(token, LIMIT)).then_some(("credentials.token", NO_VALUE))
            }
            Self::ApiKey { header, value } => {
                let lower = header.to_ascii_lowercase();
                if !is_token(header) {
                    Some(("credentials.header", "is not the name of a header"))
                } else if OWN_HEADERS.contains(&&*lower) {
                    Some(("credentials.header", "is a header that Baton sets itself"))
                } else {
                    (!is_value(value, LIMIT)).then_some(("credentials.value", NO_VALUE))
                }
            }
            Self::Basic { username, password } => {
                let fits = |text: &str| text.len() <= LIMIT / 2 && !text.contains(char::is_control);
                if username.contains(':') {
                    Some(("credentials.username", "must not contain a colon"))
                } else if !fits(username) {
                    Some((
                        "credentials.username",
                        "must be at most 2048 bytes without control characters",
                    ))
                } else {
                    let why = "must be at most 2048 bytes without control characters";
                    (!fits(password)).then_some(("credentials.password", why))
                }
            }
        }
    }

    /// The header that carries it.
    pub(super) fn header(&self) -> (&str, Cow<'_, str>) {
        match self {
            Self::Bearer { token } => ("authorization", format!("Bearer {token}").into()),
            Self::ApiKey { header, value } => (header, value.into()),
            Self::Basic { .. } => {
                let value = format!("Basic {}", self.secret());
                ("authorization", value.into())
            }
        }
    }

    /// The part that nobody else may see, as it is sent.
    fn secret(&self) -> String {
        match self {
            Self::Bearer { token } => token.clone(),
            Self::ApiKey { value, .. } => value.clone(),
            Self::Basic { username, password } => STANDARD.encode(format!("{username}:{password}")),
        }
    }

    /// What an agent said, with the secret masked where it says that again. The length stays, and so does what is JSON.
    pub(super) fn mask(&self, mut body: Bytes) -> Bytes {
        let mut secrets = vec![self.secret()];
        if let Self::Basic { password, .. } = self {
            secrets.push(password.clone());
        }
        for secret in secrets {
            let quoted = serde_json::to_string(&secret).unwrap_or_default();
            let quoted = quoted.trim_matches('"').to_owned();
            let escaped = quoted.replace('/', "\\/");
            for spelled in [secret, quoted, escaped] {
                body = masked(body, spelled.as_bytes());
            }
        }
        body
    }

    /// As it is stored with this workspace.
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub fn seal(
        &self,
        secrets: &Secrets,
        workspace: WorkspaceId,
    ) -> Result<SealedCredential, Error> {
        let plain = serde_json::to_vec(self).map_err(|_never| Error::Unreadable)?;
        let sealed = STANDARD.encode(secrets.seal(&plain, &context(workspace))?);
        Ok(SealedCredential(
            format!("{} {sealed}", self.scheme()).into(),
        ))
    }

    /// What was stored with this workspace.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(
        sealed: &SealedCredential,
        secrets: &Secrets,
        workspace: WorkspaceId,
    ) -> Result<Self, Error> {
        let (_scheme, sealed) = sealed.0.split_once(' ').ok_or(Error::Unreadable)?;
        let sealed = STANDARD
            .decode(sealed)
            .map_err(|_broken| Error::Unreadable)?;
        let plain = secrets.open(&sealed, &context(workspace))?;
        serde_json::from_slice(&plain).map_err(|_foreign| Error::Unreadable)
    }
}

fn context(workspace: WorkspaceId) -> String {
    format!("credentials of {workspace}")
}

fn masked(body: Bytes, secret: &[u8]) -> Bytes {
    let Some(first) = secret.first().filter(|_| secret.len() >= MASKED_FROM) else {
        return body;
    };
    let windows = body.windows(secret.len()).enumerate();
    let found = windows.filter(|(_, part)| part.first() == Some(first) && *part == secret);
    let places: Vec<usize> = found.map(|(place, _)| place).collect();
    if places.is_empty() {
        return body;
    }
    let mut bytes = BytesMut::from(body);
    for place in places {
        let end = place.saturating_add(secret.len());
        if let Some(part) = bytes.get_mut(place..end) {
            part.fill(b'*');
        }
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(token: &str) -> Credential {
        Credential::Bearer {
            token: token.to_owned(),
        }
    }

    fn key(header: &str, value: &str) -> Credential {
        Credential::ApiKey {
            header: header.to_owned(),
            value: value.to_owned(),
        }
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn each_is_a_header() {
        for (credential, name, value) in [
            (bearer("abc"), "authorization", "Bearer abc"),
            (key("X-API-Key", "k 1"), "X-API-Key", "k 1"),
            (
                basic("Aladdin", "open sesame"),
                "authorization",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
        ] {
            assert_eq!(credential.fault(), None);
            assert_eq!(credential.header(), (name, value.into()));
            assert_eq!(format!("{credential:?}"), credential.scheme());
        }
    }

    #[test]
    fn what_would_break_a_request_is_named() {
        for (credential, field) in [
            (bearer(""), "token"),
            (bearer("a\r\nHost: b"), "token"),
            (bearer("é"), "token"),
            (bearer(&"x".repeat(LIMIT + 1)), "token"),
            (key("", "v"), "header"),
            (key("X: Y", "v"), "header"),
            (key("Content-Length", "v"), "header"),
            (key("HOST", "v"), "header"),
            (key("Transfer-Encoding", "v"), "header"),
            (key("X-Key", "v\n"), "value"),
            (key("X-Key", " v"), "value"),
            (basic("a:b", "c"), "username"),
            (basic("a\n", "c"), "username"),
            (basic("a", "c\0"), "password"),
        ] {
            let (named, _) = credential.fault().unwrap();
            assert_eq!(named, format!("credentials.{field}"));
        }
    }

    #[test]
    fn it_is_stored_for_one_workspace() {
        let secrets = Secrets::obtain(&STANDARD.encode([1; 32]), "").unwrap();
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        let sealed = bearer("a-secret-token").seal(&secrets, one).unwrap();
        assert_eq!(sealed.scheme(), "bearer");
        assert!(!sealed.0.contains("secret"));
        let open = |workspace| Credential::open(&sealed, &secrets, workspace);
        assert_eq!(open(one), Ok(bearer("a-secret-token")));
        assert_eq!(open(other), Err(Error::Unreadable));
    }

    #[test]
    fn who_says_it_again_is_masked() {
        let said = |credential: &Credential, text: &str| {
            let masked = credential.mask(Bytes::copy_from_slice(text.as_bytes()));
            String::from_utf8(masked.to_vec()).unwrap()
        };
        let token = bearer("abc/\"def12");
        for (text, masked) in [
            ("no abc/\"def12!", "no **********!"),
            (r#"{"e":"abc/\"def12"}"#, r#"{"e":"***********"}"#),
            (r#"{"e":"abc\/\"def12"}"#, r#"{"e":"************"}"#),
            ("nothing", "nothing"),
        ] {
            assert_eq!(said(&token, text), masked);
        }
        let login = basic("user", "open sesame");
        let encoded = STANDARD.encode("user:open sesame");
        let masked = said(&login, &format!("open sesame, {encoded}"));
        assert_eq!(
            masked,
            format!("***********, {}", "*".repeat(encoded.len()))
        );
        assert_eq!(said(&bearer("word"), "a word"), "a word");
    }
}
