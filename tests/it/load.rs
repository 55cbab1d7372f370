//! Many at once, and clients that do not stay (lessons L01, L03).

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::history::Ledger;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    five_hundred_at_once_end_with_one_reply_each,
    clients_that_hang_up_at_the_202_lose_nothing,
    clients_that_half_close_before_reading_lose_nothing,
);

async fn five_hundred_at_once_end_with_one_reply_each(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::after(
        Duration::from_millis(200),
        Behaviour::Echo,
    ))
    .await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let tasks: Vec<String> = (0..500).map(|number| format!("task {number}")).collect();
    let begin = tasks
        .iter()
        .map(|task| api.delegated(&caller, &target, task));
    let ids = join_all(begin).await;
    api.wait_until_all_ended(&caller).await;
    let tasks_of_process = std::fs::read_dir(format!("/proc/{}/task", server.pid()));
    let threads = tasks_of_process.unwrap().count();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(threads < 20 + 6 * cores, "{threads} threads");
    let ledger = Ledger::read(api, &caller).await;
    for (id, task) in ids.iter().zip(&tasks) {
        let echo = format!("echo: {task}");
        assert_eq!(ledger.only_ending(id), ("completed", echo.as_str()));
        assert_eq!(agent.seen(id), 1);
    }
    assert_eq!((agent.messages().len(), ledger.replied()), (500, 500));
    server.assert_invariants().await;
}

const CLIENTS: usize = 200;

async fn clients_that_hang_up_at_the_202_lose_nothing(database: Database) {
    leave(database, async |mut client, request| {
        client.send(&request).await;
        client.read_until("HTTP/1.1 202").await;
    })
    .await;
}

async fn clients_that_half_close_before_reading_lose_nothing(database: Database) {
    leave(database, async |mut client, request| {
        client.send(&request).await;
        client.half_close().await;
        let response = client.read_to_the_end().await;
        assert!(response.starts_with("HTTP/1.1 202"), "{response:?}");
    })
    .await;
}

/// Lets clients post and go; then each of their tasks was delivered once and has its reply.
async fn leave(database: Database, client: impl AsyncFn(Raw, Vec<u8>)) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let (client, caller, target) = (&client, &caller, &target);
    stream::iter(0..CLIENTS)
        .for_each_concurrent(20, |number| post(api, caller, target, number, client))
        .await;
    eventually("every task arrived", async || {
        let listed = api.delegations(caller).await.expect(200);
        (listed.rows().len() == CLIENTS).then_some(())
    })
    .await;
    api.wait_until_all_ended(caller).await;
    let ledger = Ledger::read(api, caller).await;
    let messages = agent.messages();
    let mut tasks: Vec<String> = Vec::new();
    for message in &messages {
        let echo = format!("echo: {}", message.text());
        let ending = ledger.only_ending(&message.message_id);
        assert_eq!(ending, ("completed", echo.as_str()));
        tasks.push(message.text());
    }
    tasks.sort();
    tasks.dedup();
    let counts = (messages.len(), tasks.len(), ledger.replied());
    assert_eq!(counts, (CLIENTS, CLIENTS, CLIENTS));
    server.assert_invariants().await;
}

async fn post(
    api: &Api,
    caller: &Workspace,
    target: &Workspace,
    number: usize,
    client: &impl AsyncFn(Raw, Vec<u8>),
) {
    let body = json!({"target_id": target.id, "task": format!("task {number}")});
    let path = format!("/workspaces/{}/delegate", caller.id);
    let request = raw::post(caller, &path, body.to_string().as_bytes());
    client(Raw::connect(api).await, request).await;
}
