//! Baton: durable delegation between AI agents.
pub mod clock;
pub mod config;
pub mod delegation;
pub mod dispatch;
pub mod domain;
pub mod events;
pub mod persistence;
pub mod store;
