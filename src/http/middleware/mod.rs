//! What surrounds every route, from the outside in: panics, origins, rate, metrics, security headers; and, around
//! those that take a body or write, the gate.

mod gate;
mod guard;
mod measure;
mod rate;

pub(crate) use gate::{begins, looks, reports};
pub(crate) use guard::{cors, origin_guard, own_or_allowed, security_headers};
pub(crate) use measure::{catch_panics, measure};
pub(crate) use rate::{RateLimit, limit_rate};
