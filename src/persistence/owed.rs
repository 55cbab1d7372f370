//! What could not be written with its ending is owed, and is written as soon as it can be (product.md rule 4).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Persistence;
use crate::domain::reply_row;
use crate::store::{OwedReply, Store, Write};

/// How many owed replies are fetched at once.
const PAGE: i64 = 200;
/// The first wait after an owed reply was refused again; doubles up to the sweep's interval.
const RETRY_BASE: Duration = Duration::from_millis(500);

/// Delivers owed replies for ever: at start, whenever one is owed, and at each sweep. `tick` tells that it is alive.
pub async fn deliver_owed_replies(
    store: Store,
    persistence: Persistence,
    owed: Arc<Notify>,
    sweep_interval: Duration,
    tick: impl Fn(),
) {
    let mut wait = Duration::ZERO;
    loop {
        tick();
        tokio::select! {
            () = owed.notified(), if wait == sweep_interval => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = if deliver_all(&store, &persistence).await {
            sweep_interval
        } else if wait == sweep_interval || wait.is_zero() {
            RETRY_BASE.min(sweep_interval)
        } else {
            wait.saturating_mul(2).min(sweep_interval / 2)
        };
    }
}

/// Whether nothing is owed any more.
async fn deliver_all(store: &Store, persistence: &Persistence) -> bool {
    loop {
        let Ok(owed) = store.read(|reader| reader.owed_replies(PAGE)).await else {
            return false;
        };
        if owed.is_empty() {
            return true;
        }
        let mut all_written = true;
        for OwedReply {
            terms,
            ending,
            ended_at,
        } in owed
        {
            let key = terms.key.clone();
            let reply = Box::new(reply_row(&terms, &ending, ended_at));
            match persistence
                .write(Write::DeliverOwed {
                    key: key.clone(),
                    reply,
                })
                .await
            {
                Ok(_) => {}
                Err(error) => {
                    all_written = false;
                    tracing::warn!(delegation.id = %key, %error, "an owed reply could not be written yet");
                }
            }
        }
        if !all_written {
            return false;
        }
    }
}
