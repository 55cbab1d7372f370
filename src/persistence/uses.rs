//! When tokens were last used: noted now and then, never by the request that used one. Lost with the process.

use std::time::Duration;

use super::Persistence;
use crate::store::{Store, Write};

/// How often it is noted.
const INTERVAL: Duration = Duration::from_secs(30);
/// How many tokens are noted in one commit.
const PORTION: usize = 1_000;

/// Notes it for ever. `tick` tells that it is alive.
pub async fn note_token_uses_regularly(store: Store, persistence: Persistence, tick: impl Fn()) {
    loop {
        tick();
        tokio::time::sleep(INTERVAL).await;
        note_token_uses(&store, &persistence).await;
    }
}

/// Notes what was used since the last time.
pub async fn note_token_uses(store: &Store, persistence: &Persistence) {
    for uses in store.take_token_uses().chunks(PORTION) {
        if let Err(error) = persistence.write(Write::TokensUsed(uses.to_vec())).await {
            return tracing::debug!(%error, "it could not be noted when some tokens were last used");
        }
    }
}
