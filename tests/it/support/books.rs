//! The books at the end of a crash or a fault: every delegation of a database, held against what its parties saw of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::{FakeAgent, Request};
use super::client::{As, Workspace};
use super::database::Database;
use super::history::Ledger;
use super::server::Server;

/// How long nothing may end before the wait is given up: a little more than the longest wait between two attempts.
const STILLNESS: Duration = Duration::from_secs(90);
/// How many delegations a failure shows in full.
const SHOWN: usize = 3;

/// What happened, and so what may have become of a delegation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Course {
    /// Baton lived all the time: everything was sent once and completed.
    Lived,
    /// Baton was killed, and the agent declares nothing: nothing was sent twice, and what may have been lost ended so.
    KilledWithPlainAgent,
    /// Baton was killed, and the agent declares that it drops a repeated messageId: everything completed.
    KilledWithCarefulAgent,
}

/// Who took part. The database holds nothing but their delegations.
pub(crate) struct Books<'a> {
    pub(crate) server: &'a Server,
    pub(crate) database: &'a Database,
    pub(crate) callers: &'a [Workspace],
    /// Answers as [`Behaviour::Echo`](super::agent::Behaviour::Echo) does, sooner or later.
    pub(crate) agent: &'a FakeAgent,
    pub(crate) course: Course,
}

/// How the delegations ended.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Totals {
    pub(crate) completed: usize,
    pub(crate) failed: usize,
    /// Sent more than once.
    pub(crate) repeated: usize,
}

/// A delegation as it is stored.
struct Stored {
    id: String,
    status: String,
    class: String,
}

/// Everything that is known, read once.
struct Evidence {
    ledger: Ledger,
    deliveries: HashMap<String, Vec<Request>>,
    final_events: HashMap<String, usize>,
}

impl Books<'_> {
    /// Waits until nothing lives any more, then asserts that every delegation, and each of `acknowledged`, has one
    /// ending, one result row, one reply and one final event that say the same, and was sent no more often than it may.
    pub(crate) async fn assert_settled(&self, acknowledged: &[String]) -> Totals {
        self.wait_until_nothing_moves().await;
        let evidence = self.evidence().await;
        let stored = self.stored();
        let mut complaints = BTreeMap::new();
        let known: HashSet<&str> = stored.iter().map(|row| row.id.as_str()).collect();
        let mentioned = acknowledged.iter().map(|id| (id, "was acknowledged"));
        let sent = evidence.deliveries.keys().map(|id| (id, "was sent"));
        let told = evidence.ledger.ids().map(|id| (id, "has rows in the feed"));
        for (id, how) in mentioned.chain(sent).chain(told) {
            if !known.contains(id.as_str()) {
                complaints.insert(id.clone(), format!("{how} and does not exist"));
            }
        }
        let mut totals = Totals::default();
        for row in &stored {
            let deliveries = evidence.deliveries.get(&row.id).map_or(0, Vec::len);
            totals.completed += usize::from(row.status == "completed");
            totals.failed += usize::from(row.status == "failed");
            totals.repeated += usize::from(deliveries > 1);
            if let Err(complaint) = self.judge(row, &evidence) {
                complaints.insert(row.id.clone(), complaint);
            }
        }
        if !complaints.is_empty() {
            self.show(&complaints, &evidence).await;
            let first: Vec<_> = complaints.iter().take(10).collect();
            panic!("{} of {}: {first:#?}", complaints.len(), stored.len());
        }
        self.server.assert_invariants().await;
        totals
    }

    /// Gives up, for the judgement to complain, when nothing has ended for [`STILLNESS`].
    async fn wait_until_nothing_moves(&self) {
        let open = "SELECT count(*) FROM delegations WHERE ended_at IS NULL OR reply = 'owed'";
        let (mut least, mut since) = (i64::MAX, Instant::now());
        loop {
            let now = self.database.count(open);
            if now < least {
                (least, since) = (now, Instant::now());
            }
            if now == 0 || since.elapsed() > STILLNESS {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn evidence(&self) -> Evidence {
        let mut ledger = Ledger::default();
        for caller in self.callers {
            ledger.read_on(self.server.api(), caller).await;
        }
        let mut deliveries: HashMap<String, Vec<Request>> = HashMap::new();
        for message in self.agent.messages() {
            let of_it = deliveries.entry(message.message_id.clone()).or_default();
            of_it.push(message);
        }
        let mut final_events = HashMap::new();
        let payloads = "SELECT payload FROM structure_events WHERE event_type IN \
             ('DELEGATION_COMPLETE', 'DELEGATION_FAILED', 'DELEGATION_CANCELLED')";
        for payload in self.database.texts(payloads).into_iter().flatten() {
            let payload: Value = serde_json::from_str(&payload).expect("a payload is JSON");
            let id = payload["delegation_id"].as_str().unwrap_or_default();
            *final_events.entry(id.to_owned()).or_default() += 1;
        }
        Evidence {
            ledger,
            deliveries,
            final_events,
        }
    }

    fn stored(&self) -> Vec<Stored> {
        let rows = "SELECT delegation_id || '|' || status || '|' || COALESCE(error_class, '') \
             FROM delegations";
        let rows = self.database.texts(rows).into_iter().flatten();
        rows.map(|row| {
            let mut columns = row.split('|').map(ToOwned::to_owned);
            let mut next = || columns.next().unwrap_or_default();
            Stored {
                id: next(),
                status: next(),
                class: next(),
            }
        })
        .collect()
    }

    fn judge(&self, row: &Stored, evidence: &Evidence) -> Result<(), String> {
        let none = Vec::new();
        let deliveries = evidence.deliveries.get(&row.id).unwrap_or(&none);
        let (status, class, sent) = (row.status.as_str(), row.class.as_str(), deliveries.len());
        let may_be = match self.course {
            Course::Lived => sent == 1 && status == "completed",
            Course::KilledWithPlainAgent => {
                sent <= 1
                    && (status == "completed" || (status, class) == ("failed", "outcome_unknown"))
            }
            Course::KilledWithCarefulAgent => status == "completed",
        };
        if !may_be {
            return Err(format!(
                "is {status} {class} and was sent {sent} times ({:?})",
                self.course
            ));
        }
        let (told, text) = evidence.ledger.ending(&row.id)?;
        if told != status {
            return Err(format!("is {status}, and its rows say {told}"));
        }
        if status == "completed" {
            let task = deliveries.first().map(Request::text);
            let answer = task.map(|task| format!("echo: {task}"));
            if answer.as_deref() != Some(text) {
                return Err(format!("says {text:?}, not the agent's {answer:?}"));
            }
        }
        match evidence.final_events.get(&row.id) {
            Some(1) => Ok(()),
            other => Err(format!("final events: {}", other.unwrap_or(&0))),
        }
    }

    async fn show(&self, complaints: &BTreeMap<String, String>, evidence: &Evidence) {
        for (id, complaint) in complaints.iter().take(SHOWN) {
            println!("--- {id} {complaint}");
            for caller in self.callers {
                let path = format!("/workspaces/{}/delegations/{id}", caller.id);
                let api = self.server.api();
                let view = api.get(As::Workspace(caller), &path).await;
                if view.status != 404 {
                    println!("view: {:#}", view.body);
                }
            }
            for row in evidence.ledger.rows(id) {
                println!("row: {row:#}");
            }
            for request in evidence.deliveries.get(id).into_iter().flatten() {
                println!("the agent got: {} {}", request.line, request.body);
            }
        }
    }
}
