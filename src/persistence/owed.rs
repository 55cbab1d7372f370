//! What could not be written with its ending is owed, and is written as soon as it can be (product.md rule 4).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Persistence;
use crate::domain::{Position, reply_row};
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

/// Tries each that is owed, once. Whether nothing is owed any more.
async fn deliver_all(store: &Store, persistence: &Persistence) -> bool {
    let mut after: Option<Position> = None;
    let mut all_written = true;
    loop {
        let page = store.read_patiently(move |reader| reader.owed_replies(after, PAGE));
        let Ok(page) = page.await else {
            return false;
        };
        for owed in page.rows {
            all_written &= deliver(persistence, owed).await;
        }
        after = page.last;
        if after.is_none() {
            return all_written;
        }
    }
}

async fn deliver(persistence: &Persistence, owed: OwedReply) -> bool {
    let key = owed.terms.key.clone();
    let reply = Box::new(reply_row(&owed.terms, &owed.ending, owed.ended_at));
    let write = Write::DeliverOwed {
        key: key.clone(),
        reply,
    };
    match persistence.write(write).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(delegation.id = %key, %error, "an owed reply could not be written yet");
            false
        }
    }
}
