//! A fresh database for each case, and short ways to write and read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use baton::domain::*;
use baton::store::*;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::BigInt;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) struct TestStore {
    pub(crate) engine: Engine,
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) lease: Lease,
    runtime: tokio::runtime::Runtime,
    admin: Option<(String, String)>,
    _directory: tempfile::TempDir,
}

/// Longer than any test.
pub(crate) const LEASE: Duration = Duration::from_mins(2);

pub(crate) fn options(url: &str) -> StoreOptions {
    StoreOptions {
        url: url.to_owned(),
        read_connections: 2,
        read_budget: Duration::from_secs(3),
    }
}

fn admin_url() -> Option<String> {
    let url = std::env::var("BATON_TEST_POSTGRES_URL").ok();
    if url.is_none() {
        let skip = std::env::var("BATON_TEST_SKIP_POSTGRES").is_ok_and(|word| word == "1");
        assert!(
            skip,
            "set BATON_TEST_POSTGRES_URL, or BATON_TEST_SKIP_POSTGRES=1"
        );
        eprintln!("SKIPPED: BATON_TEST_SKIP_POSTGRES=1, nothing was checked on PostgreSQL");
    }
    url
}

impl TestStore {
    pub(crate) fn open(engine: Engine) -> Option<Self> {
        crate::plans::listen();
        let directory = tempfile::tempdir().unwrap();
        let (url, admin) = match engine {
            Engine::Sqlite => (
                format!("sqlite://{}/baton.db", directory.path().display()),
                None,
            ),
            Engine::Postgres => {
                let admin = admin_url()?;
                let name = format!("baton_test_{}", uuid::Uuid::now_v7().simple());
                let mut server = PgConnection::establish(&admin).unwrap();
                server
                    .batch_execute(&format!("CREATE DATABASE {name}"))
                    .unwrap();
                let mut url = url::Url::parse(&admin).unwrap();
                url.set_path(&name);
                (url.to_string(), Some((admin, name)))
            }
        };
        let store = Store::open(&options(&url)).unwrap();
        Some(Self {
            engine,
            lease: store.join(LEASE).unwrap(),
            store,
            url,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            admin,
            _directory: directory,
        })
    }

    /// Waits while the server, which other tests use too, has no connection left.
    pub(crate) fn writer(&self) -> Box<dyn Writer> {
        for _ in 0..100 {
            if let Ok(writer) = self.store.writer(&self.lease) {
                return writer;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.store.writer(&self.lease).unwrap()
    }

    pub(crate) fn commit(&self, writes: &[Write]) -> Commit {
        self.writer().commit(writes).unwrap()
    }

    pub(crate) fn write(&self, write: Write) -> Written {
        self.commit(&[write]).written.remove(0)
    }

    pub(crate) fn try_read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.runtime.block_on(self.store.read(body))
    }

    pub(crate) fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> T {
        self.try_read(body).unwrap()
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<(), String> {
        match self.engine {
            Engine::Sqlite => self.sqlite().batch_execute(sql),
            Engine::Postgres => PgConnection::establish(&self.url)
                .unwrap()
                .batch_execute(sql),
        }
        .map_err(|error| error.to_string())
    }

    pub(crate) fn sqlite(&self) -> SqliteConnection {
        let path = self.url.strip_prefix("sqlite://").unwrap();
        let mut connection = SqliteConnection::establish(path).unwrap();
        connection
            .batch_execute("PRAGMA busy_timeout = 5000")
            .unwrap();
        connection
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.try_sql(sql).unwrap();
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Number {
            #[diesel(sql_type = BigInt)]
            number: i64,
        }
        let query = diesel::sql_query(format!("SELECT ({sql}) AS number"));
        let number: Number = match self.engine {
            Engine::Sqlite => query.get_result(&mut self.sqlite()).unwrap(),
            Engine::Postgres => query
                .get_result(&mut PgConnection::establish(&self.url).unwrap())
                .unwrap(),
        };
        number.number
    }

    /// Makes inserts into the feed fail where `condition` holds of the new row.
    pub(crate) fn refuse_rows(&self, condition: &str) {
        self.sql(&match self.engine {
            Engine::Sqlite => format!(
                "CREATE TRIGGER refusal BEFORE INSERT ON activity_logs WHEN {condition} \
                 BEGIN SELECT RAISE(ABORT, 'a trigger said no'); END"
            ),
            Engine::Postgres => format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'a trigger said no'; END $$; \
                 CREATE TRIGGER refusal BEFORE INSERT ON activity_logs FOR EACH ROW \
                 WHEN ({condition}) EXECUTE FUNCTION refuse()"
            ),
        });
    }

    pub(crate) fn allow_rows(&self) {
        self.sql(match self.engine {
            Engine::Sqlite => "DROP TRIGGER refusal",
            Engine::Postgres => "DROP TRIGGER refusal ON activity_logs",
        });
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        if let Some((admin, name)) = &self.admin {
            let mut server = PgConnection::establish(admin).unwrap();
            server
                .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
                .unwrap();
        }
    }
}

/// An instant of its own for each call, in the order of the calls.
pub(crate) fn tick() -> Timestamp {
    static NOW: AtomicI64 = AtomicI64::new(1_800_000_000_000_000);
    Timestamp(NOW.fetch_add(1_000, Ordering::Relaxed))
}

pub(crate) fn workspace(parent: Option<WorkspaceId>) -> Workspace {
    let at = tick();
    Workspace {
        id: WorkspaceId::mint(),
        name: "n".to_owned(),
        role: Some("r".to_owned()),
        tier: 3,
        status: WorkspaceStatus::Online,
        agent_card: Some(Json(r#"{"name": "n"}"#.into())),
        url: Some("http://a/".to_owned()),
        credentials: None,
        parent,
        runtime: "external".to_owned(),
        delivery_mode: DeliveryMode::Push,
        max_concurrent_tasks: 1,
        can_delegate: true,
        last_heartbeat_at: None,
        last_error_rate: 0.25,
        last_sample_error: None,
        active_tasks: 0,
        uptime_seconds: 0,
        current_task: None,
        monthly_spend: 0,
        x: 1.5,
        y: -2.0,
        collapsed: true,
        last_outbound_at: None,
        created_at: at,
        updated_at: at,
    }
}

pub(crate) fn created(store: &TestStore, parent: Option<WorkspaceId>) -> WorkspaceId {
    let workspace = workspace(parent);
    let id = workspace.id;
    let written = store.write(Write::CreateWorkspace {
        workspace: Box::new(workspace),
        token: None,
        events: vec![],
    });
    assert!(matches!(written, Written::Done), "{written:?}");
    id
}

pub(crate) fn acceptance(caller: WorkspaceId, target: WorkspaceId) -> Accept {
    let created_at = tick();
    let delegation = NewDelegation {
        terms: Terms {
            key: DelegationKey {
                caller,
                id: DelegationId::mint(),
            },
            target: Some(target),
            origin: Origin::Delegated,
            redelivery: Redelivery::IfIdempotent,
            priority: Priority(70),
            deadline: created_at.plus(Duration::from_hours(6)),
            created_at,
            traceparent: Some("00-trace".into()),
        },
        task: "the task".into(),
        idempotency: None,
        state: State::Pending,
        retry_of: None,
        parent: None,
        envelope: None,
    };
    let feed = accepted_feed(&delegation, "target");
    Accept {
        delegation,
        feed,
        sent: None,
    }
}

pub(crate) fn keyed(
    caller: WorkspaceId,
    target: WorkspaceId,
    key: &str,
    fingerprint: u8,
) -> Accept {
    let mut accept = acceptance(caller, target);
    accept.delegation.idempotency = Some(Idempotency {
        key: key.into(),
        fingerprint: [fingerprint; 32],
    });
    accept
}

pub(crate) fn accept(accept: &Accept) -> Write {
    Write::Accept(Box::new(accept.clone()))
}

pub(crate) fn living(attempt: u32, state: State) -> Life {
    Life {
        attempt: Attempt(attempt),
        state,
    }
}

pub(crate) fn ended(ending: Ending) -> Life {
    living(
        1,
        State::Ended(Box::new(Ended {
            ending,
            at: tick(),
            late: None,
        })),
    )
}

pub(crate) fn completed(text: &str) -> Life {
    ended(Ending::Completed { text: text.into() })
}

pub(crate) fn failed(detail: &str) -> Life {
    ended(Ending::Failed {
        class: ErrorClass::Refused,
        detail: detail.into(),
    })
}

/// The change to `life` under `revision`, with a reply if it ends.
pub(crate) fn advance(terms: &Terms, revision: i64, life: &Life) -> Advance {
    let at = tick();
    Advance {
        key: terms.key.clone(),
        revision: Revision(revision),
        incarnation: Incarnation(0),
        life: life.clone(),
        at,
        raw_reply: None,
        feed: advanced_feed(terms, &Life::new(State::Pending), life, true, at),
        told: true,
    }
}

pub(crate) fn advance_write(terms: &Terms, revision: i64, life: &Life) -> Write {
    Write::Advance(Arc::new(advance(terms, revision, life)))
}

/// A delegation that was accepted.
pub(crate) fn begun(store: &TestStore) -> Terms {
    let caller = created(store, None);
    let target = created(store, Some(caller));
    let begin = acceptance(caller, target);
    let written = store.write(accept(&begin));
    assert!(matches!(
        written,
        Written::Accepted(Acceptance::Created { retry_of: None })
    ));
    begin.delegation.terms
}

pub(crate) fn log_row(workspace: WorkspaceId) -> FeedRow {
    FeedRow {
        id: Some(ActivityId::mint()),
        workspace,
        activity_type: ActivityType::AgentLog,
        source: None,
        target: None,
        method: None,
        summary: None,
        request_body: None,
        response_body: None,
        duration_ms: None,
        status: "ok".into(),
        error_detail: None,
        delegation: None,
        created_at: tick(),
    }
}

pub(crate) fn log(row: &FeedRow) -> Write {
    Write::Log(Box::new(row.clone()))
}

pub(crate) fn everything(workspace: WorkspaceId) -> ActivityFilter {
    ActivityFilter {
        workspace,
        activity_type: None,
        source: None,
        peer: None,
        since: None,
        before: None,
        after_position: None,
        before_position: None,
        limit: 10_000,
    }
}

pub(crate) fn activity(store: &TestStore, filter: ActivityFilter) -> Vec<ActivityView> {
    store.read(move |reader| reader.activity(&filter))
}

pub(crate) fn loaded(store: &TestStore, key: &DelegationKey) -> Loaded {
    let key = key.clone();
    store.read(move |reader| reader.load(&key)).unwrap()
}

pub(crate) fn number(store: &TestStore, key: &DelegationKey) -> Option<Position> {
    let key = key.clone();
    store.read(move |reader| reader.number(&key))
}

pub(crate) fn event(workspace: WorkspaceId) -> FeedEvent {
    FeedEvent {
        name: EventName::WorkspaceOnline,
        workspace,
        payload: Json(Arc::from("{}")),
        created_at: tick(),
        course_of: None,
    }
}
