//! Baton: durable delegation between AI agents.
pub mod domain;
pub mod store;
