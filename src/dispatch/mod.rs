//! Calling a target agent over A2A, and making one typed [`Outcome`](crate::domain::Outcome) of whatever comes back.
//!
//! - `guard` says which addresses may be called, at registration and again at each connect (lesson A03);
//! - `wire` writes the request and reads JSON from strangers, however deep or odd (lessons U03, U04);
//! - `reply` is the pure table from an HTTP answer to an outcome (product.md rule 5; lessons L06-L08, D01-D03), for a
//!   message and for a question about a task;
//! - `card` reads what a target's agent card promises;
//! - `detail` makes peer text fit for an error line (lesson A06);
//! - `client` does the call under separate limits (lesson T01) and knows whether the request left (rule 6).
//!
//! Nothing here retries, stores or decides: that is the caller's.

mod client;
mod detail;
mod guard;
mod reply;
mod wire;

pub use client::{A2aClient, AskCall, AskedReply, Call, Called, ClientConfig, Message};
pub use guard::{GuardError, TargetGuard};
pub use reply::{parse_retry_after, read_asked, read_reply};
pub use wire::request_envelope;
