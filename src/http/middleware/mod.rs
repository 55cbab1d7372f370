//! What surrounds every route, from the outside in: panics, origins, rate, metrics, security headers.

mod guard;
mod measure;
mod rate;

pub(crate) use guard::{cors, origin_guard, own_or_allowed, security_headers};
pub(crate) use measure::{catch_panics, measure};
pub(crate) use rate::{RateLimit, limit_rate};
