//! The actor on a real SQLite file, with a database that always refuses one of its writes for now.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use super::*;
use crate::domain::{ActivityId, ActivityType, FeedRow, WorkspaceId};
use crate::events::EventHub;
use crate::faults::Faults;
use crate::store::{NewToken, Registration, Store, StoreOptions};
use tokio::sync::Notify;

fn row(workspace: WorkspaceId, status: &str) -> Write {
    Write::Log(Box::new(FeedRow {
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
        status: status.to_owned().into(),
        error_detail: None,
        delegation: None,
        created_at: clock::now(),
    }))
}

fn registration(id: WorkspaceId) -> Write {
    let at = clock::now();
    Write::Register(Box::new(Registration {
        id,
        url: None,
        agent_card: crate::domain::Json("{}".into()),
        credentials: None,
        delivery_mode: crate::domain::DeliveryMode::Push,
        token: NewToken {
            id: crate::domain::TokenId::mint(),
            workspace: id,
            hash: [7; 32],
            prefix: "prefix".into(),
            created_at: at,
        },
        events: vec![],
        at,
    }))
}

fn open(path: &std::path::Path) -> (Store, Persistence) {
    let store = Store::open(&StoreOptions {
        url: format!("sqlite://{}", path.display()),
        read_connections: 1,
        read_budget: Duration::from_secs(5),
    })
    .unwrap();
    let lease = store.join(Duration::from_secs(5)).unwrap();
    let writer = store.writer(&lease).unwrap();
    let settings = PersistenceSettings {
        store: store.clone(),
        lease,
        hub: EventHub::default(),
        limits: BatchLimits {
            size: 2,
            linger: Duration::ZERO,
        },
        gate: GateLimits::default(),
        reply_owed: Arc::new(Notify::new()),
        faults: Arc::new(Faults::default()),
    };
    (
        store,
        PersistenceActor::launch(settings, writer, &actix::Arbiter::new().handle()),
    )
}

#[actix::test]
async fn a_write_that_always_fails_holds_up_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("baton.db");
    let (_store, persistence) = open(&path);
    let workspace = WorkspaceId::mint();
    persistence.write(registration(workspace)).await.unwrap();
    SqliteConnection::establish(path.to_str().unwrap())
        .unwrap()
        .batch_execute(
            "CREATE TRIGGER odd BEFORE INSERT ON activity_logs WHEN NEW.status = 'odd' \
             BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END",
        )
        .unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let statuses = ["odd", "1", "2", "3"];
    for status in statuses {
        let tell = tell.clone();
        let acknowledge = move |result: Result<Written, Error>| {
            tell.send((status, result.is_ok())).unwrap();
        };
        let write = row(workspace, status);
        persistence.submit(write, Patience::Change, Box::new(acknowledge));
    }
    for _ in 1..statuses.len() {
        let told = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        let (status, committed) = told.unwrap().unwrap();
        assert!(committed && status != "odd");
    }
    SqliteConnection::establish(path.to_str().unwrap())
        .unwrap()
        .batch_execute("PRAGMA busy_timeout = 10000; DROP TRIGGER odd")
        .unwrap();
    assert_eq!(told.recv().await, Some(("odd", true)));
}

#[actix::test]
async fn whoever_left_commits_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let (store, persistence) = open(&directory.path().join("baton.db"));
    let own = persistence.node();
    let expired = async || {
        let nodes = store.read(|reader| reader.nodes()).await.unwrap();
        nodes.iter().find(|node| node.id == own).unwrap().expired
    };
    let workspace = WorkspaceId::mint();
    persistence.write(registration(workspace)).await.unwrap();
    assert!(!expired().await);
    persistence.leave().await;
    assert!(expired().await);
    let late = persistence.write(row(workspace, "late")).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })), "{late:?}");
    persistence.leave().await;
}
