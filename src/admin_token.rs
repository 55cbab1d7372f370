//! The admin token: given, or minted at the first start and kept in a file that only its owner can read.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::auth::TokenHash;
use crate::config::Config;
use crate::secrets;

/// The admin token of this process.
pub struct AdminToken {
    secret: String,
    /// Where it is kept, when it was minted.
    file: Option<PathBuf>,
}

impl AdminToken {
    /// Takes the given token, or the one in the file for it, which is made at the first start.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or others may read it.
    pub fn obtain(config: &Config) -> anyhow::Result<Self> {
        if let Some(given) = given(config) {
            return Ok(Self {
                secret: given.to_owned(),
                file: None,
            });
        }
        let file = file(config);
        let secret = secrets::kept_in(&file).with_context(|| {
            format!("the admin token in {} (or set ADMIN_TOKEN)", file.display())
        })?;
        Ok(Self {
            secret,
            file: Some(file),
        })
    }

    /// What requests are compared with.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.secret.as_bytes())
    }

    /// Where it is kept, unless it was given.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The token itself. Not for logs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.secret
    }
}

/// The admin token of a server with this configuration, if one was given, or if it is this machine's and has been started
/// here before.
#[must_use]
pub fn known(config: &Config, is_here: bool) -> Option<String> {
    let kept = || {
        is_here
            .then(|| secrets::read_from(&file(config)).ok())
            .flatten()
    };
    given(config).map(ToOwned::to_owned).or_else(kept)
}

fn given(config: &Config) -> Option<&str> {
    Some(config.admin_token.trim()).filter(|token| !token.is_empty())
}

/// Where the token is kept when none is given: beside an SQLite database, else in the working directory.
fn file(config: &Config) -> PathBuf {
    let database = config.database_url.strip_prefix("sqlite://");
    PathBuf::from(format!("{}.admin-token", database.unwrap_or("baton")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use clap::Parser as _;

    fn config(arguments: &[&str]) -> Config {
        crate::config::Cli::parse_from(std::iter::once(&"baton").chain(arguments)).config
    }

    #[test]
    fn a_minted_token_stays_the_same_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", directory.path().join("x.db").display());
        let here = config(&["--database-url", &database]);
        assert_eq!(known(&here, true), None);
        let minted = AdminToken::obtain(&here).unwrap();
        let again = AdminToken::obtain(&here).unwrap();
        assert_eq!(known(&here, true).as_deref(), Some(minted.reveal()));
        assert_eq!(known(&here, false), None);
        let file = directory.path().join("x.db.admin-token");
        assert_eq!(minted.file(), Some(&*file));
        assert_eq!(minted.reveal(), again.reveal());
        assert_eq!(minted.reveal().len(), 43);
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );

        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(AdminToken::obtain(&here).is_err());
        let given = AdminToken::obtain(&config(&["--admin-token", "given"])).unwrap();
        assert_eq!((given.reveal(), given.file()), ("given", None));
    }
}
