//! Bodies of queries, written once as macros and expanded for each connection type. Generic functions would need pages
//! of bounds, and Diesel's own enum over connections has neither batch inserts nor ON CONFLICT.

mod commit;
mod leases;
mod prune;
mod read_canvas;
mod read_delegations;
mod read_feed;
mod read_tasks;
mod read_workspaces;
mod receivers;
mod write_delegations;
mod write_workspaces;

pub(super) use commit::commit;
pub(super) use leases::leases;
pub(super) use prune::prune;
pub(super) use read_canvas::read_canvas;
pub(super) use read_delegations::read_delegations;
pub(super) use read_feed::{narrowed, read_feed};
pub(super) use read_tasks::read_tasks;
pub(super) use read_workspaces::read_workspaces;
pub(super) use receivers::receivers;
pub(super) use write_delegations::write_delegations;
pub(super) use write_workspaces::write_workspaces;
