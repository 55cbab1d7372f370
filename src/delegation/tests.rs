//! The parts together on a real SQLite file, with a database that breaks off at chosen moments.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::dispatch::{A2aClient, ClientConfig, TargetGuard};
use crate::domain::{DeliveryMode, ErrorClass, Idempotency, Json, Policy, RetryPolicy, TokenId};
use crate::events::{EventHub, Notice, Topic};
use crate::faults::Faults;
use crate::persistence::{BatchLimits, GateLimits, PersistenceActor, PersistenceSettings};
use crate::store::{
    self, Commit, Loaded, NewToken, Registration, StoreOptions, Write, Writer, Written,
};

/// A connection that breaks off behind a commit: it happened, and nobody knows.
struct Cut {
    writer: Box<dyn Writer>,
    armed: Arc<AtomicBool>,
    /// As long as it is set, no commit ends.
    frozen: Arc<AtomicBool>,
    /// As long as it is set, nothing is taken.
    refuses: Arc<AtomicBool>,
}

impl Writer for Cut {
    fn commit_watched(
        &mut self,
        writes: &[Write],
        written: Option<&dyn Fn()>,
    ) -> Result<Commit, store::Error> {
        while self.frozen.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.refuses.load(Ordering::Acquire) {
            let refused = writes.iter().map(|_| Written::Failed("no".into()));
            return Ok(Commit {
                written: refused.collect(),
                ..Commit::default()
            });
        }
        let commit = self.writer.commit_watched(writes, written)?;
        if self.armed.swap(false, Ordering::AcqRel) {
            return Err(store::Error::Unavailable("the connection broke off".into()));
        }
        Ok(commit)
    }
}

struct House {
    directory: tempfile::TempDir,
    delegations: Delegations,
    persistence: Persistence,
    store: Store,
    hub: EventHub,
    cut: Arc<AtomicBool>,
    frozen: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
}

impl House {
    fn open(faults: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("here");
        std::fs::create_dir(&place).unwrap();
        let store = Store::open(&StoreOptions {
            url: format!("sqlite://{}/baton.db", place.display()),
            read_connections: 2,
            read_budget: Duration::from_millis(900),
        })
        .unwrap();
        let lease = store.join(Duration::from_secs(5)).unwrap();
        let (hub, cut) = (EventHub::default(), Arc::new(AtomicBool::new(false)));
        let [frozen, refuses] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let faults: Arc<Faults> = Arc::new(faults.parse().unwrap());
        let settings = PersistenceSettings {
            store: store.clone(),
            lease: lease.clone(),
            hub: hub.clone(),
            limits: BatchLimits {
                size: 64,
                linger: Duration::ZERO,
            },
            gate: GateLimits::default(),
            reply_owed: Arc::new(Notify::new()),
            faults: Arc::clone(&faults),
        };
        let writer = Cut {
            writer: store.writer(&lease).unwrap(),
            armed: Arc::clone(&cut),
            frozen: Arc::clone(&frozen),
            refuses: Arc::clone(&refuses),
        };
        let persistence =
            PersistenceActor::launch(settings, Box::new(writer), &actix::Arbiter::new().handle());
        let delegations = Supervisor::launch(SupervisorSettings {
            policy: Policy {
                retry: RetryPolicy::default(),
                give_up_after: Duration::from_hours(1),
                stuck_after: Duration::from_mins(10),
            },
            push_replies: true,
            default_deadline: Duration::from_hours(6),
            max_live: 1000,
            max_outbound: 10,
            arbiters: crate::limits::Arbiters::start(4),
            persistence: persistence.clone(),
            store: store.clone(),
            client: A2aClient::new(ClientConfig {
                guard: TargetGuard::new(vec!["127.0.0.0/8".parse().unwrap()]),
                connect_timeout: Duration::from_secs(5),
                first_byte_timeout: None,
                idle_timeout: Duration::from_secs(5),
                max_reply_bytes: 1 << 20,
                faults: Arc::clone(&faults),
            }),
            secrets: crate::secrets::Secrets::default(),
            push: crate::dispatch::PushOffer::default(),
            faults,
        });
        Self {
            directory,
            delegations,
            persistence,
            store,
            hub,
            cut,
            frozen,
            refuses,
        }
    }

    async fn workspace(&self, url: Option<String>) -> WorkspaceId {
        let id = WorkspaceId::mint();
        let at = clock::now();
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(id.0.as_bytes());
        let registration = Registration {
            id,
            url,
            agent_card: Json("{}".into()),
            credentials: None,
            delivery_mode: DeliveryMode::Push,
            token: NewToken {
                id: TokenId::mint(),
                workspace: id,
                hash,
                prefix: "prefix".into(),
                created_at: at,
            },
            events: vec![],
            at,
        };
        let write = Write::Register(Box::new(registration));
        let written = self.persistence.write(write).await.unwrap();
        assert!(matches!(written, Written::Registered { .. }));
        id
    }

    /// A delegation between two new workspaces, not begun yet.
    async fn delegation(&self, target_url: Option<String>) -> NewDelegation {
        let (caller, target) = (self.workspace(None).await, self.workspace(target_url).await);
        let now = clock::now();
        NewDelegation {
            terms: Terms {
                key: DelegationKey {
                    caller,
                    id: DelegationId::mint(),
                },
                target: Some(target),
                origin: Origin::Delegated,
                redelivery: Redelivery::default(),
                priority: Priority::default(),
                deadline: now.plus(Duration::from_hours(1)),
                created_at: now,
                traceparent: None,
            },
            task: "task".into(),
            idempotency: Some(Idempotency {
                key: "key".into(),
                fingerprint: [7; 32],
            }),
            state: State::Pending,
            retry_of: None,
            parent: None,
            envelope: None,
        }
    }

    async fn begin(&self, delegation: &NewDelegation) -> Result<Acceptance, Error> {
        self.delegations.begin(delegation.clone(), "target").await
    }

    async fn loaded(&self, key: &DelegationKey) -> Option<Loaded> {
        let key = key.clone();
        self.store
            .read(move |reader| reader.load(&key))
            .await
            .unwrap()
    }

    async fn status(&self, key: &DelegationKey) -> Option<Status> {
        Some(self.loaded(key).await?.life.status())
    }

    /// Another one between the same.
    fn elsewhere(delegation: &NewDelegation) -> NewDelegation {
        let mut other = delegation.clone();
        other.terms.key.id = DelegationId::mint();
        other.idempotency = None;
        other
    }
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The next connection to an agent on which a message comes, and as much of that as came at once. It shows no card.
async fn next_call(listener: &TcpListener) -> TcpStream {
    loop {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1 << 16];
        let read = connection.read(&mut request).await.unwrap_or_default();
        if !request[..read].starts_with(b"GET ") {
            return connection;
        }
        let none = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        drop(connection.write_all(none).await);
    }
}

/// An agent that takes requests and never answers; how many it took.
async fn silent_agent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    actix::spawn({
        let seen = Arc::clone(&seen);
        async move {
            let mut connections = Vec::new();
            loop {
                connections.push(next_call(&listener).await);
                seen.fetch_add(1, Ordering::AcqRel);
            }
        }
    });
    (url, seen)
}

/// Accepted, committed, and answered by nothing but a broken connection.
async fn accepted_unknown(house: &House) -> NewDelegation {
    let delegation = house.delegation(None).await;
    house.cut.store(true, Ordering::Release);
    assert!(house.begin(&delegation).await.is_err());
    let key = &delegation.terms.key;
    assert_eq!(house.status(key).await, Some(Status::Pending));
    eventually(async || house.persistence.is_writing()).await;
    assert!(!house.delegations.registry.actors.contains_key(key));
    delegation
}

#[actix::test]
async fn what_was_accepted_without_anybody_knowing_is_found_by_the_sweep() {
    let house = House::open("");
    let key = accepted_unknown(&house).await.terms.key;
    let delegations = house.delegations.clone();
    actix::spawn(async move { sweep(&delegations, Duration::from_millis(20), || {}).await });
    // It finds that the target has no address.
    eventually(async || house.status(&key).await == Some(Status::Queued)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let loaded = house.loaded(&key).await.unwrap();
    assert_eq!(
        loaded.revision.0, 2,
        "one actor has charge of it, and is left alone"
    );
}

#[actix::test]
async fn what_was_accepted_without_anybody_knowing_is_taken_up_when_it_is_asked_for_again() {
    let house = House::open("");
    let first = accepted_unknown(&house).await;
    let mut again = first.clone();
    again.terms.key.id = DelegationId::mint();
    let answer = house.begin(&again).await.unwrap();
    assert!(
        matches!(&answer, Acceptance::Replayed { id, .. } if *id == first.terms.key.id),
        "{answer:?}"
    );
    eventually(async || house.status(&first.terms.key).await == Some(Status::Queued)).await;
}

#[actix::test]
async fn listeners_are_told_that_something_may_have_been_committed_unseen() {
    let house = House::open("");
    let mut listener = house.hub.subscribe(Topic::Events, None);
    accepted_unknown(&house).await;
    while !matches!(listener.next().await, Notice::Lagged) {}
}

#[actix::test]
async fn a_report_does_not_wait_for_a_database_that_is_away() {
    let house = House::open("");
    let delegation = house.delegation(None).await;
    let key = &delegation.terms.key;
    house.begin(&delegation).await.unwrap();
    eventually(async || house.status(key).await == Some(Status::Queued)).await;
    let [here, away] = ["here", "away"].map(|name| house.directory.path().join(name));
    std::fs::rename(&here, &away).unwrap();
    house.cut.store(true, Ordering::Release);
    assert!(house.begin(&House::elsewhere(&delegation)).await.is_err());
    let started = Instant::now();
    let report = || Report::Completed { text: "42".into() };
    let told = house
        .delegations
        .report(key.caller, key.id.clone(), report());
    assert!(matches!(told.await, Err(Error::Unavailable { .. })));
    assert!(started.elapsed() < Duration::from_secs(1));
    std::fs::rename(&away, &here).unwrap();
    eventually(async || house.persistence.is_writing()).await;
    let told = house
        .delegations
        .report(key.caller, key.id.clone(), report());
    assert!(matches!(told.await, Ok(Reported::Ended)));
}

#[actix::test]
async fn a_call_that_breaks_off_within_baton_ends_its_delegation() {
    let house = House::open("answer_received:panic");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    actix::spawn(async move {
        // Takes the request and hangs up.
        drop(next_call(&listener).await);
    });
    let delegation = house.delegation(Some(url)).await;
    house.begin(&delegation).await.unwrap();
    let key = &delegation.terms.key;
    eventually(async || house.status(key).await == Some(Status::Failed)).await;
    let State::Ended(ended) = house.loaded(key).await.unwrap().life.state else {
        panic!("it ended")
    };
    assert!(
        matches!(&ended.ending, Ending::Failed { class: ErrorClass::OutcomeUnknown, detail }
        if detail.starts_with("Baton failed"))
    );
}

#[actix::test]
async fn nothing_is_sent_any_more_once_the_process_is_about_to_end() {
    let house = House::open("");
    let (url, seen) = silent_agent().await;
    let delegation = house.delegation(Some(url)).await;
    house.delegations.calls_answered().await;
    house.begin(&delegation).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(seen.load(Ordering::Acquire), 0);
    let key = &delegation.terms.key;
    assert_eq!(house.status(key).await, Some(Status::Pending));
}

#[actix::test]
async fn an_ended_delegation_keeps_no_actor_however_often_it_is_asked() {
    let house = House::open("");
    let delegation = house.delegation(None).await;
    let key = &delegation.terms.key;
    house.begin(&delegation).await.unwrap();
    let report = || {
        let report = Report::Completed { text: "42".into() };
        house.delegations.report(key.caller, key.id.clone(), report)
    };
    assert!(matches!(report().await, Ok(Reported::Ended)));
    // The target has no address: it may have been found waiting for one before the report came.
    let ended = house.loaded(key).await.unwrap().revision;
    for _ in 0..20 {
        let answers = futures_util::future::join_all((0..10).map(|_| report())).await;
        let repeats = answers
            .iter()
            .filter(|told| matches!(told, Ok(Reported::Repeat(_))));
        assert_eq!(repeats.count(), 10, "{answers:?}");
    }
    eventually(async || house.delegations.registry.actors.is_empty()).await;
    assert_eq!(house.loaded(key).await.unwrap().revision, ended);
}

#[actix::test]
async fn a_commit_that_does_not_end_keeps_nobody_waiting() {
    let house = House::open("");
    let delegation = house.delegation(None).await;
    let other = House::elsewhere(&delegation);
    house.frozen.store(true, Ordering::Release);
    let started = Instant::now();
    assert!(house.begin(&delegation).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(7));
    assert!(!house.persistence.is_writing());
    let started = Instant::now();
    assert!(house.begin(&other).await.is_err());
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "refused at once"
    );
    house.frozen.store(false, Ordering::Release);
    // What was refused late was accepted all the same, and is taken care of; the other was not.
    let [key, other] = [&delegation.terms.key, &other.terms.key];
    eventually(async || house.status(key).await == Some(Status::Queued)).await;
    assert!(house.persistence.is_writing());
    assert_eq!(house.status(other).await, None);
}

mod at_once;

/// A hundred thousand of them may wait.
#[test]
fn an_actor_takes_little_room() {
    assert!(size_of::<DelegationActor>() <= 480);
    assert!(size_of::<Terms>() <= 96 && size_of::<crate::domain::Life>() <= 104);
}
