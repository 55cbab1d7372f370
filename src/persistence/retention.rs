//! What is old is forgotten, a little at a time. Delegations never are: their row is the key that makes a second reply
//! impossible (product.md rule 2).

use std::time::Duration;

use super::{Error, Persistence};
use crate::clock;
use crate::domain::{Position, Timestamp, WorkspaceId};
use crate::store::{self, Prune, ReceiverChange, Store, Write, Written};

/// How many rows one transaction looks at: few enough that nobody waits for it.
const PORTION: i64 = 500;

/// How long rows are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Rows of a feed, messages only once acknowledged; receivers that were told everything.
    pub keep: Duration,
    /// Messages that nobody acknowledged, recorded events, and receivers that died; not shorter than `keep`.
    pub keep_hard: Duration,
    /// How often old ones are looked for.
    pub interval: Duration,
}

/// Why a round was given up; the next one begins again.
#[derive(thiserror::Error, Debug)]
pub enum Interrupted {
    /// The feeds could not be found.
    #[error(transparent)]
    Read(#[from] store::Error),
    /// Rows could not be deleted.
    #[error(transparent)]
    Write(#[from] Error),
}

/// Prunes for ever, first one interval from now. `tick` tells that it is alive.
pub async fn prune_regularly(
    store: Store,
    persistence: Persistence,
    retention: Retention,
    tick: impl Fn(),
) {
    loop {
        tick();
        tokio::time::sleep(retention.interval).await;
        match prune(&store, &persistence, &retention, clock::now()).await {
            Ok(deleted) => tracing::info!(deleted, "forgot old rows"),
            Err(error) => tracing::warn!(%error, "old rows could not all be forgotten"),
        }
    }
}

/// One round over all feeds and over the recorded events; how many rows went.
///
/// # Errors
/// When the database is away. What went is gone.
pub async fn prune(
    store: &Store,
    persistence: &Persistence,
    retention: &Retention,
    now: Timestamp,
) -> Result<usize, Interrupted> {
    let before = now.minus(retention.keep);
    let hard_before = now.minus(retention.keep_hard);
    let mut deleted = 0_usize;
    let mut feed = next_feed(store, None).await?;
    while let Some(workspace) = feed {
        let of_feed = |after| {
            Write::Prune(Prune {
                workspace,
                after,
                limit: PORTION,
                before,
                hard_before,
            })
        };
        deleted = deleted.saturating_add(in_portions(persistence, of_feed).await?);
        feed = next_feed(store, feed).await?;
    }
    let of_events = |after| Write::PruneEvents {
        after,
        limit: PORTION,
        before: hard_before,
    };
    let of_receivers = |_| {
        Write::Receiver(Box::new(ReceiverChange::Prune {
            done_before: before,
            dead_before: hard_before,
            limit: PORTION,
        }))
    };
    let events = in_portions(persistence, of_events).await?;
    let receivers = in_portions(persistence, of_receivers).await?;
    Ok(deleted.saturating_add(events).saturating_add(receivers))
}

async fn next_feed(
    store: &Store,
    after: Option<WorkspaceId>,
) -> Result<Option<WorkspaceId>, store::Error> {
    store.read(move |reader| reader.next_feed(after)).await
}

/// Each portion begins behind the last one, whatever became of that.
async fn in_portions(
    persistence: &Persistence,
    portion: impl Fn(Position) -> Write,
) -> Result<usize, Error> {
    let (mut all, mut after) = (0_usize, Some(Position(0)));
    while let Some(place) = after {
        after = match persistence.write(portion(place)).await? {
            Written::Pruned { deleted, next } => {
                all = all.saturating_add(deleted);
                next
            }
            other => return Err(Error::Refused(format!("{other:?}").into())),
        };
    }
    Ok(all)
}
