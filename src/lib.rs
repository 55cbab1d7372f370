//! Baton: durable delegation between AI agents.
//!
//! A delegation is a row. Around each live row stands one actor, a shell around the pure function
//! [`domain::transition`]; it commits what the function decided, and only then acts:
//!
//! ```text
//! HTTP POST ─▶ delegation::Supervisor ─▶ persistence (one transaction) ─▶ row committed ─▶ 202
//!                      │ starts                    │ published
//!                      ▼                           └─▶ events::EventHub ─▶ SSE, WebSocket, waiting inbox reads
//!           its turn in the target's domain::Line
//!                      ▼
//!              DelegationActor ─ transition(life, event) ─▶ Step { life, effect }
//!                      │  1. life  ─▶ persistence: state, result row, reply and event in one commit
//!                      │  2. effect ─▶ dispatch::A2aClient ─▶ target
//!                      └──◀── Event::Called { attempt, outcome } ◀──┘
//! HTTP GET  ─▶ store::Reader, a small pool that never waits for the writer
//! ```
//!
//! Modules import only leftwards: `domain` → `clock, faults, web` → `client, config, limits, liveness, secrets` → `telemetry` → `store` →
//! `auth, dispatch, events` → `admin_token, persistence` → `delegation, outbox` → `http` → `app` → `bench, cli, demo`. `tests/tidy` holds
//! them to it. See `docs/ARCHITECTURE.md` for the longer story, and `docs/adr` for the reasons.

pub mod admin_token;
pub mod app;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod delegation;
pub mod demo;
pub mod dispatch;
pub mod domain;
pub mod events;
pub mod faults;
pub mod http;
pub mod limits;
pub mod liveness;
pub mod outbox;
pub mod persistence;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod web;
