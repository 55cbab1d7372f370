//! What all crash cases begin with.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::json;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::books::{Books, Course, Totals};
use crate::support::client::{As, Workspace};
use crate::support::database::Database;
use crate::support::server::Server;
use crate::support::sized;

/// However many rounds there are to be.
pub(crate) const LIMIT: Duration = Duration::from_hours(3);

/// How long the agent works on a message: long enough to be killed over.
const WORK: Duration = Duration::from_millis(30);

/// A server that is killed, a caller, and a target that outlives it.
pub(crate) struct Rig {
    pub(crate) database: Database,
    pub(crate) server: Server,
    pub(crate) caller: Workspace,
    pub(crate) target: Workspace,
    pub(crate) agent: FakeAgent,
    course: Course,
}

impl Rig {
    /// On a database of its own, with an agent of these manners.
    pub(crate) async fn new(database: Database, course: Course) -> Self {
        Self::with_address(database, course, FakeAgent::url).await
    }

    /// The same, with the agent at this address of it.
    pub(crate) async fn with_address(
        database: Database,
        course: Course,
        address: fn(&FakeAgent) -> String,
    ) -> Self {
        // Short waits: what was cut off is taken up again at once.
        let variables = [("BATON_RETRY_BASE_MS", "50"), ("BATON_LEASE_MS", "500")];
        let server = Server::start(&database, &variables).await;
        let agent = FakeAgent::start(Behaviour::after(WORK, Behaviour::Echo)).await;
        let api = server.api();
        let caller = api.create_workspace("caller", None, None).await;
        let url = address(&agent);
        let target = api
            .create_workspace("target", Some(&caller), Some(&url))
            .await;
        let extensions = match course {
            Course::KilledWithCarefulAgent => {
                json!([{"uri": "urn:baton:ext:idempotent-message-id:v1"}])
            }
            Course::KilledWithPlainAgent | Course::Lived => json!([]),
        };
        let capabilities = json!({"extensions": extensions});
        let card = json!({"name": "target", "url": "", "capabilities": capabilities});
        api.register(&target, &url, &card).await.expect(200);
        Self {
            database,
            server,
            caller,
            target,
            agent,
            course,
        }
    }

    /// Asks for a task to be done; the id, or `None` when Baton was killed over it. With `repeats` the task is its own
    /// idempotency key, and a 503 is `None` as well.
    pub(crate) async fn delegate(&self, task: &str, repeats: bool) -> Option<String> {
        let mut body = json!({"target_id": self.target.id, "task": task});
        if repeats {
            body["idempotency_key"] = task.into();
        }
        let path = format!("/workspaces/{}/delegate", self.caller.id);
        let by = As::Workspace(&self.caller);
        let bytes = Some(body.to_string().into_bytes());
        let api = self.server.api();
        let reply = api.try_request(Method::POST, by, &path, bytes).await?;
        match reply.status {
            503 if repeats => None,
            200 if repeats => Some(reply.str("delegation_id").to_owned()),
            _ => Some(reply.expect(202).str("delegation_id").to_owned()),
        }
    }

    /// The history check; every crash case ends with it.
    pub(crate) async fn assert_settled(&self, acknowledged: &[String]) -> Totals {
        let books = Books {
            server: &self.server,
            database: &self.database,
            callers: std::slice::from_ref(&self.caller),
            agent: &self.agent,
            course: self.course,
        };
        books.assert_settled(acknowledged).await
    }

    /// A word for what is printed.
    pub(crate) const fn name(&self) -> &'static str {
        if self.database.is_sqlite() {
            "SQLite"
        } else {
            "PostgreSQL"
        }
    }
}

/// The chance that decides the instants of a case; it prints its seed.
pub(crate) fn chance(case: &str) -> StdRng {
    let seed = sized("BATON_CRASH_SEED", rand::random::<u32>().into());
    println!("{case}: BATON_CRASH_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A wait of up to `most`.
pub(crate) fn any_wait(chance: &mut StdRng, most: Duration) -> Duration {
    chance.random_range(Duration::ZERO..=most)
}
