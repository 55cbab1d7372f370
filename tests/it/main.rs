//! End-to-end tests: the real binary, real HTTP, scripted agents and both databases.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should say so loudly"
)]

#[expect(dead_code, reason = "the kit is larger than any one set of cases")]
mod support;

mod a2a;
mod a2a_others;
mod a2a_push;
mod at_once;
mod away;
mod bad_input;
mod bad_replies;
mod bench;
mod canvas;
mod canvas_many;
mod canvas_one;
mod clearing;
mod cli;
mod complete;
mod credentials;
mod demo;
mod faults;
mod feed;
mod health_history;
mod load;
mod long_work;
mod mcp;
mod nodes;
mod outage;
mod outcomes;
mod page;
mod pressure;
mod races;
mod readme;
mod remembered;
mod restart;
mod steering;
mod streaming;
mod support_agent;
mod support_database;
mod support_poller;
mod transports;
mod waiting;
mod webhooks;
