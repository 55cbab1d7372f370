//! Baton: durable delegation between AI agents.
pub mod auth;
pub mod clock;
pub mod config;
pub mod delegation;
pub mod dispatch;
pub mod domain;
pub mod events;
pub mod http;
pub mod liveness;
pub mod persistence;
pub mod store;
