//! A poll-mode agent that reads its feed takes the requests in it (product.md, "The life of a delegation": `received`).

use super::extract::Member;
use super::state::AppState;
use crate::auth::Principal;
use crate::domain::{DelegationKey, Event};
use crate::store::ActivityView;

/// Tells the delegations whose requests are among `rows`, without keeping the reader waiting. What is not told now is
/// told when the request is read again. The admin only looks.
pub(crate) fn tell(state: &AppState, reader: &Member, rows: &[ActivityView]) {
    if reader.principal == Principal::Admin {
        return;
    }
    let fetched = rows.iter().filter_map(|row| row.unfetched.clone());
    let fetched: Vec<DelegationKey> = fetched.collect();
    if fetched.is_empty() {
        return;
    }
    let delegations = state.delegations.clone();
    actix_web::rt::spawn(async move {
        for key in fetched {
            let id = key.to_string();
            if let Err(error) = delegations.apply(key, Event::Fetched).await {
                tracing::debug!(delegation.id = %id, %error, "a request was read, which could not be noted");
            }
        }
    });
}
