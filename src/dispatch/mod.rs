//! Calling a target agent over A2A, and making one typed [`Outcome`](crate::domain::Outcome) of whatever comes back.
//!
//! - `guard` says which addresses may be called, at registration and again at each connect (lesson A03);
//! - `card` says how a target is spoken to, by its agent card;
//! - `request` writes what it is sent, in each version and over each binding, `parts` turns one dialect into the other;
//! - `wire` reads JSON from strangers, however deep or odd (lessons U03, U04), `sse` their streams;
//! - `reply` is the pure table from an HTTP answer to an outcome (product.md rule 5; lessons L06-L08, D01-D03), for a
//!   message and for a question about a task; and folds what a target tells while it works into such an answer;
//! - `credential` is what a target wants to see of who calls it, `push` what Baton wants to see of a target that calls;
//! - `detail` makes peer text fit for an error line (lesson A06);
//! - `client` does the call under separate limits (lesson T01) and knows whether the request left (rule 6).
//!
//! Nothing here retries, stores or decides: that is the caller's.

mod card;
mod client;
mod credential;
mod detail;
mod guard;
mod header;
mod parts;
mod push;
mod reply;
mod request;
mod sse;
mod wire;

pub use card::Manner;
pub use client::{A2aClient, AskCall, AskedReply, Call, Called, ClientConfig, Notice};
pub use credential::Credential;
pub use guard::{GuardError, TargetGuard};
pub(crate) use header::is_value;
pub use push::{PushConfig, PushOffer};
pub use reply::{News, answer_in, parse_retry_after, read_asked, read_reply};
pub use request::{Message, request_envelope};
