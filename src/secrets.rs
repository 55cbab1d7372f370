//! Secrets that must be told again later: sealed before they are stored, opened when they are needed. And tokens that nobody
//! has to store.
//!
//! Everything follows from one key of 32 bytes: given (`BATON_SECRET_KEY`), or minted at the first start and kept in a file
//! beside an SQLite database. Nodes that share a PostgreSQL must share the key, so there it has to be given: without one
//! nothing is sealed.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

/// The first byte of what is sealed: how it was.
const MANNER: u8 = 1;
/// How long the key is.
const KEY_BYTES: usize = 32;

/// Why a secret can be neither stored nor read.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no key.
    #[error(
        "secrets cannot be stored: set BATON_SECRET_KEY, the same on each node, to 32 random bytes in base64 (openssl rand -base64 32), and start again"
    )]
    NoKey,
    /// It was sealed with another key, or for something else.
    #[error("a stored secret cannot be opened with this BATON_SECRET_KEY")]
    Unreadable,
}

/// Seals and opens. Cheap to clone. The default has no key.
#[derive(Clone, Default)]
pub struct Secrets(Option<Arc<Keys>>);

struct Keys {
    sealing: LessSafeKey,
    tokens: hmac::Key,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// With the given key, else with the one in the file beside an SQLite database, which is made at the first start.
    ///
    /// # Errors
    /// When the given key is none, or the file can be neither read nor made, or others may read it.
    pub fn obtain(given: &str, database_url: &str) -> anyhow::Result<Self> {
        let given = given.trim();
        if !given.is_empty() {
            return Self::of(given).context("BATON_SECRET_KEY");
        }
        let Some(database) = database_url.strip_prefix("sqlite://") else {
            return Ok(Self::default());
        };
        let file = PathBuf::from(format!("{database}.secret-key"));
        let context = || format!("the key in {} (or set BATON_SECRET_KEY)", file.display());
        let kept = kept_in(&file).with_context(context)?;
        Self::of(&kept).with_context(context)
    }

    fn of(text: &str) -> anyhow::Result<Self> {
        let spelled = text.replace('-', "+").replace('_', "/");
        let padded = format!("{}=", spelled.trim_end_matches('='));
        let bytes = STANDARD.decode(padded).unwrap_or_default();
        // What it was is a secret.
        anyhow::ensure!(
            bytes.len() == KEY_BYTES,
            "must be 32 bytes in base64, as `openssl rand -base64 32` prints them"
        );
        let master = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let derived = |purpose: &str| hmac::sign(&master, purpose.as_bytes());
        let sealing = UnboundKey::new(&AES_256_GCM, derived("baton: seal").as_ref());
        let sealing = sealing.map_err(|_length| anyhow::anyhow!("must be 32 bytes"))?;
        Ok(Self(Some(Arc::new(Keys {
            sealing: LessSafeKey::new(sealing),
            tokens: hmac::Key::new(hmac::HMAC_SHA256, derived("baton: token").as_ref()),
        }))))
    }

    fn keys(&self) -> Result<&Keys, Error> {
        self.0.as_deref().ok_or(Error::NoKey)
    }

    /// Seals `plain`, so that it can be opened only for the same `context`.
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub fn seal(&self, plain: &[u8], context: &str) -> Result<Vec<u8>, Error> {
        let keys = self.keys()?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = plain.to_vec();
        let aad = Aad::from(context.as_bytes());
        let key = &keys.sealing;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .map_err(|_too_long| Error::Unreadable)?;
        Ok([&[MANNER][..], &nonce, &text].concat())
    }

    /// Opens what was sealed for this `context`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(&self, sealed: &[u8], context: &str) -> Result<Vec<u8>, Error> {
        let keys = self.keys()?;
        let rest = sealed.strip_prefix(&[MANNER]).ok_or(Error::Unreadable)?;
        let (nonce, text) = rest.split_first_chunk().ok_or(Error::Unreadable)?;
        let mut text = text.to_vec();
        let aad = Aad::from(context.as_bytes());
        let key = &keys.sealing;
        let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text);
        let length = opened.map_err(|_foreign| Error::Unreadable)?.len();
        text.truncate(length);
        Ok(text)
    }

    /// The token for this context: always the same, and nobody can guess it who has not the key.
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub fn token_for(&self, context: &str) -> Result<String, Error> {
        let tag = hmac::sign(&self.keys()?.tokens, context.as_bytes());
        Ok(URL_SAFE_NO_PAD.encode(tag))
    }
}

/// The secret in a file that only its owner can read: 32 random bytes, minted when there is none yet.
///
/// # Errors
/// When it can be neither read nor made, or others may read it.
pub fn kept_in(file: &Path) -> anyhow::Result<String> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
    {
        Ok(mut made) => {
            let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; KEY_BYTES]>());
            writeln!(made, "{secret}")?;
            made.sync_all()?;
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read_from(file),
        Err(error) => Err(error.into()),
    }
}

/// The secret in a file, if it is there and its owner's alone.
///
/// # Errors
/// When it cannot be read, or others may read it.
pub fn read_from(file: &Path) -> anyhow::Result<String> {
    let mut opened = OpenOptions::new().read(true).open(file)?;
    let mode = opened.metadata()?.permissions().mode();
    let others = mode & 0o077;
    anyhow::ensure!(others == 0, "others may read the file: chmod 600 it");
    let mut text = String::new();
    opened.read_to_string(&mut text)?;
    let secret = text.trim();
    anyhow::ensure!(
        !secret.is_empty(),
        "the file is empty: delete it, and a new one is made"
    );
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn with(key: &str) -> Secrets {
        Secrets::obtain(key, "postgres://x").unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_for_the_same_thing_alone() {
        let secrets = with(KEY);
        let sealed = secrets.seal(b"a secret", "one").unwrap();
        assert!(!sealed.windows(8).any(|part| part == b"a secret"));
        assert_eq!(secrets.open(&sealed, "one").unwrap(), b"a secret");
        assert_ne!(secrets.seal(b"a secret", "one").unwrap(), sealed);
        assert_eq!(secrets.open(&sealed, "other"), Err(Error::Unreadable));
        let other = with(&STANDARD.encode([7; 32]));
        assert_eq!(other.open(&sealed, "one"), Err(Error::Unreadable));
        for length in 0..sealed.len() {
            let cut = secrets.open(&sealed[..length], "one");
            assert_eq!(cut, Err(Error::Unreadable));
        }
        assert!(!format!("{secrets:?}").contains("AAEC"));
    }

    #[test]
    fn a_token_is_the_same_each_time_and_another_for_each_thing() {
        let secrets = with(KEY);
        let token = secrets.token_for("one").unwrap();
        assert_eq!(
            (token.len(), &token),
            (43, &with(KEY).token_for("one").unwrap())
        );
        assert_ne!(token, secrets.token_for("other").unwrap());
    }

    #[test]
    fn a_key_has_32_bytes_in_any_base64_and_another_is_named_but_not_shown() {
        let spelled = KEY.trim_end_matches('=').replace('+', "-");
        let sealed = with(KEY).seal(b"x", "").unwrap();
        assert_eq!(
            with(&format!(" {spelled}\n")).open(&sealed, ""),
            Ok(vec![b'x'])
        );
        for wrong in [
            "short",
            "AAECAwQ=",
            &"=".repeat(44),
            &STANDARD.encode([0; 33]),
        ] {
            let complaint = Secrets::obtain(wrong, "sqlite://x").unwrap_err();
            let complaint = format!("{complaint:#}");
            assert!(complaint.contains("BATON_SECRET_KEY"), "{complaint}");
            assert!(!complaint.contains(wrong), "{complaint}");
        }
    }

    #[test]
    fn a_key_of_ones_own_is_kept_beside_the_database_and_postgres_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("x.db").display());
        let sealed = Secrets::obtain("", &url).unwrap().seal(b"x", "").unwrap();
        let again = Secrets::obtain("", &url).unwrap();
        assert_eq!(again.open(&sealed, ""), Ok(vec![b'x']));
        let file = directory.path().join("x.db.secret-key");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let none = Secrets::obtain(" ", "postgres://x").unwrap();
        assert_eq!(none.seal(b"x", ""), Err(Error::NoKey));
        assert_eq!(none.token_for(""), Err(Error::NoKey));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Secrets::obtain("", &url).is_err());
    }
}
