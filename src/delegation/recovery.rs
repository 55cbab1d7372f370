//! Taking over from nodes that are gone, and the slow sweep for what has no actor.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Delegations;
use super::messages::{Recover, TakeUp};
use crate::clock;
use crate::domain::{DelegationKey, Event, NodeId, Position, Unready};
use crate::store::{self, Gone, Loaded, NodeView, Reader, Write};

/// Between two looks at the other nodes, unless leases are short.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node must hear without a break, unless leases are short, before it holds another's silence against it:
/// after an outage of the database all leases have expired, and those that live renew first.
const HEARING: Duration = Duration::from_secs(2);
/// How many delegations are read at a time.
const PAGE: i64 = 5_000;
/// The wait before a page that could not be read is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Takes over from nodes that are gone, for ever: at start from those before this one, later from those that fall
/// silent. `tick` tells that it is alive, `taken` that a node more is in the charge of this one.
pub async fn take_over(delegations: &Delegations, tick: impl Fn(), taken: impl Fn()) {
    let pause = LOOK.min(delegations.persistence.lease_length() / 5);
    let mut known = HashSet::new();
    loop {
        tick();
        match held(delegations).await {
            Ok(nodes) => {
                for node in nodes.into_iter().filter(|node| known.insert(*node)) {
                    taken();
                    take_charge(delegations, node).await;
                }
            }
            Err(error) => tracing::debug!(%error, "the other nodes could not be looked at"),
        }
        tokio::time::sleep(pause).await;
    }
}

/// The nodes whose delegations this one has in charge, once it has taken over from those that are gone.
async fn held(delegations: &Delegations) -> Result<Vec<NodeId>, store::Error> {
    let persistence = &delegations.persistence;
    let own = persistence.node();
    let read = || delegations.store.read(|reader| reader.nodes());
    let is_gone = |node: &NodeView| node.expired && node.holder == node.id && node.id != own;
    let mut nodes = read().await?;
    if nodes.iter().any(is_gone) {
        let hearing = clock::now().since(persistence.hearing_since());
        let enough = HEARING.min(persistence.lease_length() * 2 / 5);
        let gone = if hearing >= enough {
            Gone::Expired
        } else {
            Gone::Left
        };
        if let Err(error) = persistence.write(Write::TakeOver(gone)).await {
            tracing::debug!(%error, "what other nodes left could not be taken over yet");
        }
        nodes = read().await?;
    }
    let mine = nodes.iter().filter(|node| node.holder == own);
    Ok(mine.map(|node| node.id).collect())
}

/// Starts an actor for everything live that a node accepted.
async fn take_charge(delegations: &Delegations, node: NodeId) {
    // First of all, so that whatever is rebuilt from now on is no guest.
    delegations.registry.owned.insert(node);
    let held = Arc::new(delegations.lines.hold());
    let mut count = 0usize;
    for_each_page(delegations, node, |page| {
        count = count.saturating_add(page.len());
        let recover = Recover(page, Arc::clone(&held));
        delegations.supervisor.do_send(recover);
    })
    .await;
    if count > 0 {
        tracing::info!(%node, delegations = count, "took charge of what a node left behind");
    }
}

/// Ends what waits for removed workspaces, and looks for live delegations without an actor, again and again, and at once
/// when the database is back: the commit that began one may have been answered by nothing but a broken connection.
/// `tick` tells that it is alive.
pub async fn sweep(delegations: &Delegations, interval: Duration, tick: impl Fn()) {
    loop {
        end_for_removed(delegations).await;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = delegations.persistence.recovered() => {}
        }
        tick();
        let owned: Vec<NodeId> = delegations
            .registry
            .owned
            .iter()
            .map(|node| *node)
            .collect();
        for node in owned {
            for_each_page(delegations, node, |page| take_up(delegations, page)).await;
        }
        if let Err(error) = delegations.persistence.write(Write::ForgetNodes).await {
            tracing::debug!(%error, "nodes with nothing live could not be forgotten yet");
        }
    }
}

/// Ends what waits for a workspace that was removed: whoever removed it may have died before they all were told.
async fn end_for_removed(delegations: &Delegations) {
    let waiting = |reader: &mut dyn Reader| reader.waiting_for_removed(PAGE);
    for key in delegations
        .store
        .read_patiently(waiting)
        .await
        .unwrap_or_default()
    {
        let removed = Event::TargetUnready(Unready::Removed);
        if let Err(error) = delegations.apply(key.clone(), removed).await {
            tracing::debug!(delegation.id = %key, %error, "it could not be ended yet");
        }
    }
}

fn take_up(delegations: &Delegations, page: Vec<Loaded>) {
    let keys = page.into_iter().map(|loaded| loaded.terms.key);
    let left: Vec<DelegationKey> = keys
        .filter(|key| !delegations.registry.actors.contains_key(key))
        .collect();
    if !left.is_empty() {
        // Most of them ended since they were read.
        tracing::debug!(
            delegations = left.len(),
            "looking again at what has no actor"
        );
    }
    delegations.supervisor.do_send(TakeUp(left));
}

/// Hands out what is live of what a node accepted.
async fn for_each_page(delegations: &Delegations, node: NodeId, mut take: impl FnMut(Vec<Loaded>)) {
    let mut after: Option<Position> = None;
    loop {
        let read = delegations
            .store
            .read_patiently(move |reader| reader.live(node, after, PAGE));
        match read.await {
            Ok(page) => {
                take(page.rows);
                after = page.last;
                if after.is_none() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "taking charge of what is live waits for the database");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
