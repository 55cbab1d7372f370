//! The databases. The only users of Diesel; SQLite embedded and PostgreSQL behind one interface.
//!
//! Writes come as [`Write`]s, many in one transaction ([`Writer::commit`]); reads come as [`Reader`] calls on a small
//! pool and never wait for the writer. `delegations` is the authority; feed rows and events are appended beside it in
//! the same commit, with positions from one counter that is held until the commit, so that the order of positions is
//! the order of commits (lesson X02).

mod api;
mod backends;
mod batch;
mod breaker;
mod canvas;
mod claim;
mod columnar;
mod connect;
mod copying;
mod directory;
mod error;
mod folded;
mod fragments;
mod handle;
mod history;
mod inbox;
mod life;
mod lines;
mod listening;
mod looking;
mod memory;
mod migrate;
mod receiver;
mod rows;
mod schema;
mod session;
mod shared;
mod stale;
mod standing;
mod telling;
mod types;

pub use api::*;
pub use handle::Store;
pub use listening::Listening;
pub use looking::{Find, line};
pub use session::Lease;
pub use telling::Heard;
