//! The crash suite: the real binary, killed as by a power cut, started again on the same database, and its books checked.
//!
//! `BATON_CRASH_ROUNDS` and `BATON_CRASH_KILLS` set the sizes, `BATON_CRASH_SEED` the instants (each case prints its own).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so loudly"
)]

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the kit is larger than any one set of cases"
)]
mod support;

mod instants;
mod points;
mod rig;
mod rounds;
