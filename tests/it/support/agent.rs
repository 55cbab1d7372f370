//! A real A2A agent on a port of its own, whose manners can be changed while a test runs.
//!
//! It speaks HTTP/1.1 by hand, because half of its behaviours are things that no HTTP library would do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use super::PATIENCE;

mod behaviour;
mod serving;
mod work;

pub(crate) use behaviour::{Behaviour, Request};
use serving::{Script, Shared, accept, lock};
pub(crate) use work::{LongWork, WorkEnd};

/// A scripted agent. Dropping it closes its port and all its connections.
pub(crate) struct FakeAgent {
    address: Mutex<SocketAddr>,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl FakeAgent {
    /// Starts on a free port of 127.0.0.1 and behaves like this until told otherwise.
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let agent = Self {
            address: Mutex::new(listener.local_addr().expect("an address")),
            shared: Arc::new(Shared::new(behaviour)),
            listening: Mutex::new(None),
        };
        agent.listen(listener);
        agent
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address())
    }

    /// The same place, in more words than Baton remembers: who is sent there is looked up each time, and sent in a commit
    /// of its own.
    pub(crate) fn long_url(&self) -> String {
        format!("{}?{}", self.url(), "x".repeat(1_100))
    }

    /// From now on it behaves like this.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.script().messages = behaviour;
    }

    /// Does each of these once, in order, before it behaves as usual again.
    pub(crate) fn first(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.script().next.extend(behaviours);
    }

    /// Behaves like this towards one message.
    pub(crate) fn behave_for_message(&self, message_id: &str, behaviour: Behaviour) {
        self.script()
            .by_message
            .insert(message_id.to_owned(), behaviour);
    }

    /// Behaves like this towards another JSON-RPC method. Without it, `tasks/get` and `tasks/cancel` speak of the tasks
    /// that [`Behaviour::Work`] began, and all else is refused as unknown.
    pub(crate) fn behave_for_method(&self, method: &str, behaviour: Behaviour) {
        self.script().by_method.insert(method.to_owned(), behaviour);
    }

    /// Serves this agent card; without one, 404.
    pub(crate) fn show_card(&self, card: Value) {
        self.script().card = Some(card);
    }

    /// From now on it remembers what it did with each `messageId` and answers a repeated one with that. This is the card
    /// that promises it, also served.
    pub(crate) fn deduplicate(&self) -> Value {
        let extension = json!({"uri": "urn:baton:ext:idempotent-message-id:v1"});
        let card = json!({
            "name": "careful", "url": self.url(), "capabilities": {"extensions": [extension]},
        });
        let mut script = self.script();
        script.kept.get_or_insert_default();
        script.card = Some(card.clone());
        card
    }

    /// What it says when it is busy, in seconds; 1 at first.
    pub(crate) fn retry_after(&self, seconds: Option<u64>) {
        self.script().retry_after = seconds;
    }

    /// Ends all work that waits for it, now and later.
    pub(crate) fn finish_work(&self) {
        self.script().tasks.finish();
    }

    /// Forgets all tasks: asked about one, it says that there is none.
    pub(crate) fn forget_work(&self) {
        self.script().tasks.forget();
    }

    /// Keeps all messages waiting from now on, after they were counted.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the held messages go on to the behaviour of that moment.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Closes the port and all connections: from now on they are refused.
    pub(crate) fn stop(&self) {
        if let Some(task) = lock(&self.listening).take() {
            task.abort();
        }
    }

    /// Opens another port than before and says where.
    pub(crate) async fn reopen_elsewhere(&self) -> String {
        self.stop();
        let (listener, address) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            if address != self.address() {
                break (listener, address);
            }
        };
        *lock(&self.address) = address;
        self.listen(listener);
        self.url()
    }

    /// Opens the same port again.
    pub(crate) async fn resume(&self) {
        let listener = super::eventually("the agent's port is free again", async || {
            let socket = TcpSocket::new_v4().ok()?;
            socket.set_reuseaddr(true).ok()?;
            socket.bind(self.address()).ok()?;
            socket.listen(1024).ok()
        })
        .await;
        self.listen(listener);
    }

    /// How often a message arrived.
    pub(crate) fn seen(&self, message_id: &str) -> usize {
        let script = self.script();
        let mine = script
            .requests
            .iter()
            .filter(|request| request.is_message() && request.message_id == message_id);
        mine.count()
    }

    /// How often each message arrived.
    pub(crate) fn seen_all(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.messages() {
            *counts.entry(request.message_id).or_default() += 1;
        }
        counts
    }

    /// The messages that it took up, in that order: not those turned away as busy, nor those answered from memory.
    pub(crate) fn accepted(&self) -> Vec<String> {
        self.script().accepted.clone()
    }

    /// The tasks that requests of this method (`tasks/get`, `tasks/cancel`) named, in order.
    pub(crate) fn named_by(&self, method: &str) -> Vec<String> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == method);
        requests
            .into_iter()
            .map(|request| request.task_id)
            .collect()
    }

    /// Everything that arrived, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.script().requests.clone()
    }

    /// The messages among [`FakeAgent::requests`].
    pub(crate) fn messages(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(Request::is_message);
        requests
    }

    /// How many connections were opened to it.
    pub(crate) fn connections(&self) -> usize {
        self.script().connections
    }

    /// How many messages it worked on at once, at most.
    pub(crate) fn peak(&self) -> usize {
        self.script().peak
    }

    /// Waits until `count` messages arrived in all.
    pub(crate) async fn wait_for(&self, count: usize) {
        let mut arrivals = self.shared.arrivals.subscribe();
        let waited =
            tokio::time::timeout(PATIENCE, arrivals.wait_for(|arrived| *arrived >= count)).await;
        match waited {
            Ok(arrived) => drop(arrived.expect("the agent lives")),
            Err(elapsed) => panic!(
                "{} of {count} messages arrived, {elapsed} after {PATIENCE:?}: {:#?}",
                self.messages().len(),
                self.requests()
            ),
        }
    }

    fn listen(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *lock(&self.listening) = Some(task);
    }

    fn address(&self) -> SocketAddr {
        *lock(&self.address)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.shared.script)
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop();
    }
}
