//! On a real store, with a real receiver: what only A2A clients ask for, and what finds no room on a desk.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::domain::{DeliveryMode, EventName, FeedEvent, Json, Workspace, WorkspaceStatus};
use crate::limits;
use crate::persistence::{BatchLimits, GateLimits, PersistenceActor, PersistenceSettings};
use crate::store::StoreOptions;

/// Tells the event's own payload.
struct Plainly;

impl Render for Plainly {
    fn render<'a>(&'a self, _: &'a Receiver, event: &'a Shown) -> Rendering<'a> {
        let payload = event.payload.as_ref().map(|json| json.0.to_string());
        Box::pin(async move { Ok(payload.into_iter().map(Bytes::from).collect()) })
    }
}

struct House {
    _directory: tempfile::TempDir,
    persistence: Persistence,
    outbox: Outbox,
    owner: WorkspaceId,
}

impl House {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions {
            url: format!("sqlite://{}/baton.db", directory.path().display()),
            read_connections: 2,
            read_budget: Duration::from_secs(5),
        });
        let store = store.unwrap();
        let lease = store.join(Duration::from_mins(1)).unwrap();
        let hub = EventHub::default();
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
            faults: Arc::default(),
        };
        let writer = store.writer(&lease).unwrap();
        let persistence = PersistenceActor::launch(settings, writer, &limits::arbiter(2));
        let outbox = Outbox::launch(OutboxSettings {
            store,
            persistence: persistence.clone(),
            hub,
            guard: TargetGuard::new(vec!["127.0.0.0/8".parse().unwrap()]),
            secrets: Secrets::obtain(&"A".repeat(43), "").unwrap(),
            render: Box::new(Plainly),
            give_up_after: Duration::from_hours(1),
        });
        let mut house = Self {
            _directory: directory,
            persistence,
            outbox,
            owner: WorkspaceId::mint(),
        };
        house.owner = house.another_owner().await;
        house
    }

    async fn another_owner(&self) -> WorkspaceId {
        let owner = workspace();
        let id = owner.id;
        self.write(Write::CreateWorkspace {
            workspace: Box::new(owner),
            token: None,
            events: vec![],
        })
        .await;
        id
    }

    async fn write(&self, write: Write) {
        let written = self.persistence.write(write).await.unwrap();
        assert!(matches!(written, Written::Done), "{written:?}");
    }

    async fn happens(&self, name: EventName, delegation: &str, number: usize) {
        self.happens_with(name, delegation, number, "").await;
    }

    async fn happens_with(&self, name: EventName, delegation: &str, number: usize, more: &str) {
        let about = format!(r#""delegation_id":"{delegation}","more":"{more}""#);
        let payload = format!(r#"{{{about},"number":{number}}}"#);
        let event = FeedEvent {
            name,
            workspace: self.owner,
            payload: Json(payload.into()),
            course_of: None,
            created_at: clock::now(),
        };
        self.write(Write::Record(Box::new(event))).await;
    }

    async fn tells(&self, delegation: &str, new: NewReceiver) -> Receiver {
        let id = DelegationId::from_text(delegation);
        self.outbox.create(self.owner, Some(id), new).await.unwrap()
    }

    async fn of(&self, delegation: &str) -> Vec<Receiver> {
        let id = DelegationId::from_text(delegation);
        self.outbox.list(self.owner, Some(id)).await.unwrap()
    }
}

fn workspace() -> Workspace {
    let at = clock::now();
    Workspace {
        id: WorkspaceId::mint(),
        name: "owner".to_owned(),
        role: None,
        tier: 3,
        status: WorkspaceStatus::Online,
        agent_card: None,
        url: None,
        credentials: None,
        parent: None,
        runtime: "external".to_owned(),
        delivery_mode: DeliveryMode::Push,
        max_concurrent_tasks: 0,
        can_delegate: true,
        last_heartbeat_at: None,
        last_error_rate: 0.0,
        last_sample_error: None,
        active_tasks: 0,
        uptime_seconds: 0,
        current_task: None,
        monthly_spend: 0,
        x: 0.0,
        y: 0.0,
        collapsed: false,
        last_outbound_at: None,
        created_at: at,
        updated_at: at,
    }
}

/// A receiver that answers everything with a status, once it has one.
struct Hook {
    url: String,
    told: Arc<Mutex<Vec<String>>>,
    began: watch::Receiver<usize>,
    heard: watch::Receiver<usize>,
    status: watch::Sender<Option<u16>>,
}

impl Hook {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let (begun_one, began) = watch::channel(0);
        let (told_one, heard) = watch::channel(0);
        let status = watch::Sender::new(Some(200));
        let (all, answers) = (Arc::clone(&told), status.subscribe());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (all, mut answers) = (Arc::clone(&all), answers.clone());
                let (begun_one, told_one) = (begun_one.clone(), told_one.clone());
                tokio::spawn(async move {
                    while let Some(request) = request(&mut stream).await {
                        begun_one.send_modify(|count| *count += 1);
                        let Ok(status) = answers.wait_for(Option::is_some).await.map(|set| *set)
                        else {
                            return;
                        };
                        all.lock().unwrap().push(request);
                        let status = status.unwrap();
                        let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                        told_one.send_modify(|count| *count += 1);
                    }
                });
            }
        });
        Self {
            url,
            told,
            began,
            heard,
            status,
        }
    }

    /// Tells the same one of each of these: by this name and token.
    fn known_as(&self, config: &str, token: &str) -> NewReceiver {
        NewReceiver {
            config: Some(config.to_owned()),
            url: self.url.clone(),
            token: Some(token.to_owned()),
            ..NewReceiver::default()
        }
    }

    async fn wait_until_begun(&mut self, count: usize) {
        let all = self.began.wait_for(|began| *began >= count);
        let waited = tokio::time::timeout(Duration::from_secs(20), all).await;
        drop(waited.expect("in time").unwrap());
    }

    async fn wait_for(&mut self, count: usize) -> Vec<String> {
        let all = self.heard.wait_for(|heard| *heard >= count);
        let waited = tokio::time::timeout(Duration::from_secs(20), all).await;
        drop(waited.expect("in time").unwrap());
        self.told.lock().unwrap().clone()
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (_, length) = head.split_once("content-length: ").unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() >= length {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

#[actix::test]
async fn a_delegations_receiver_is_told_of_it_alone_until_its_end() {
    let (house, mut hook) = (House::open().await, Hook::start().await);
    let place = house.outbox.place().await.unwrap();
    house.happens(EventName::DelegationSent, "d", 1).await;
    let new = NewReceiver {
        config: Some("mine".to_owned()),
        url: hook.url.clone(),
        token: Some("the-token".to_owned()),
        authentication: Some(("Bearer".to_owned(), "the-credentials".to_owned())),
        signing_secret: None,
        after: Some(place),
        old_form: false,
    };
    let made = house.tells("d", new.clone()).await;
    assert_eq!(
        (&*made.config, made.scheme.as_deref()),
        ("mine", Some("Bearer"))
    );
    house.happens(EventName::DelegationStatus, "other", 2).await;
    house.happens(EventName::DelegationStatus, "d", 3).await;
    house.happens(EventName::DelegationComplete, "d", 4).await;
    let told = hook.wait_for(3).await;
    for (request, number) in told.iter().zip([1, 3, 4]) {
        assert!(
            request.ends_with(&format!("\"number\":{number}}}")),
            "{request}"
        );
        for line in [
            "authorization: Bearer the-credentials",
            "x-a2a-notification-token: the-token",
            "\r\na2a-notification-token: the-token",
        ] {
            assert!(request.contains(line), "{request}");
        }
        assert!(!request.contains("webhook-signature"));
    }
    let state = async || house.of("d").await[0].course.state;
    while state().await != ReceiverState::Done {
        tokio::task::yield_now().await;
    }
    let sealed = house.of("d").await[0].sealed.clone().unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("the-"));
    let id = DelegationId::from_text("d");
    let delete = || house.outbox.delete(house.owner, Some(id.clone()), "mine");
    assert!(delete().await.unwrap() && !delete().await.unwrap());
    let bad = NewReceiver {
        url: "http://10.0.0.1/".to_owned(),
        ..new
    };
    assert!(matches!(
        house.outbox.examine(&bad).await,
        Err(Error::Url(_))
    ));
    let refused = house.outbox.create(house.owner, None, bad).await;
    assert!(matches!(refused, Err(Error::Url(_))));
}

#[actix::test]
async fn what_finds_no_room_comes_in_order_and_others_do_not_wait_for_it() {
    let house = House::open().await;
    let (mut slow, mut quick) = (Hook::start().await, Hook::start().await);
    slow.status.send_replace(None);
    for (delegation, hook) in [("slow", &slow), ("quick", &quick)] {
        let new = NewReceiver {
            url: hook.url.clone(),
            ..NewReceiver::default()
        };
        house.tells(delegation, new).await;
    }
    for number in 0..400 {
        house
            .happens(EventName::DelegationStatus, "slow", number)
            .await;
        house
            .happens(EventName::DelegationStatus, "quick", number)
            .await;
    }
    quick.wait_for(400).await;
    slow.status.send_replace(Some(200));
    house
        .happens(EventName::DelegationStatus, "slow", 400)
        .await;
    let told = slow.wait_for(401).await;
    for (number, request) in told.iter().enumerate() {
        assert!(
            request.ends_with(&format!("\"number\":{number}}}")),
            "{number}: {request}"
        );
    }
}

#[actix::test]
async fn long_events_are_read_from_the_log_a_few_at_a_time() {
    let (house, mut hook) = (House::open().await, Hook::start().await);
    let place = house.outbox.place().await.unwrap();
    let long = "x".repeat(400_000);
    for number in 0..10 {
        let name = EventName::DelegationStatus;
        house.happens_with(name, "d", number, &long).await;
    }
    let new = NewReceiver {
        after: Some(place),
        ..hook.known_as("same", "token")
    };
    house.tells("d", new).await;
    let told = hook.wait_for(10).await;
    for (number, request) in told.iter().enumerate() {
        let end = format!("\"number\":{number}}}");
        assert!(request.ends_with(&end), "{number}");
    }
}

#[actix::test]
async fn the_slow_receivers_of_one_workspace_do_not_take_all_places() {
    let mut house = House::open().await;
    let (mut slow, mut quick) = (Hook::start().await, Hook::start().await);
    slow.status.send_replace(None);
    let new = |hook: &Hook| NewReceiver {
        url: hook.url.clone(),
        ..NewReceiver::default()
    };
    let delegations: Vec<String> = (0..AT_ONCE / RECEIVERS).map(|n| format!("d-{n}")).collect();
    for delegation in &delegations {
        for _ in 0..RECEIVERS {
            house.tells(delegation, new(&slow)).await;
        }
        house
            .happens(EventName::DelegationStatus, delegation, 1)
            .await;
    }
    slow.wait_until_begun(OF_ONE_WORKSPACE).await;
    house.owner = house.another_owner().await;
    house.tells("quick", new(&quick)).await;
    house.happens(EventName::DelegationStatus, "quick", 1).await;
    quick.wait_for(1).await;
    assert_eq!(*slow.began.borrow(), OF_ONE_WORKSPACE);
    slow.status.send_replace(Some(200));
    slow.wait_for(AT_ONCE).await;
}

#[actix::test]
async fn whoever_makes_room_leaves_what_it_was_not_told() {
    let (house, mut hook) = (House::open().await, Hook::start().await);
    hook.status.send_replace(Some(410));
    house.tells("d", hook.known_as("same", "old")).await;
    house.happens(EventName::DelegationStatus, "d", 1).await;
    let dead = async || house.of("d").await[0].course.clone();
    while dead().await.state != ReceiverState::Dead {
        tokio::task::yield_now().await;
    }
    let from = dead().await.position;
    for number in 2..5 {
        house
            .happens(EventName::DelegationStatus, "d", number)
            .await;
    }
    hook.status.send_replace(Some(200));
    let made = house.tells("d", hook.known_as("same", "new")).await;
    assert_eq!(made.course, Course::from(from));
    let told = hook.wait_for(5).await;
    for (request, number) in told[1..].iter().zip(1..5) {
        let end = format!("\"number\":{number}}}");
        assert!(request.ends_with(&end), "{number}: {request}");
    }
}

#[actix::test]
async fn who_is_replaced_or_deleted_is_not_told_what_lies_there() {
    let (house, mut hook) = (House::open().await, Hook::start().await);
    hook.status.send_replace(None);
    house.tells("d", hook.known_as("same", "one")).await;
    for number in 1..6 {
        house
            .happens(EventName::DelegationStatus, "d", number)
            .await;
    }
    hook.wait_until_begun(1).await;
    house.tells("d", hook.known_as("same", "two")).await;
    hook.wait_until_begun(2).await;
    hook.status.send_replace(Some(200));
    let told = hook.wait_for(6).await;
    let shown = |token: &str| {
        let line = format!("\r\na2a-notification-token: {token}\r\n");
        told.iter().filter(|told| told.contains(&line)).count()
    };
    assert_eq!((shown("one"), shown("two")), (1, 5));
    hook.status.send_replace(None);
    for number in 6..10 {
        house
            .happens(EventName::DelegationStatus, "d", number)
            .await;
    }
    hook.wait_until_begun(7).await;
    let id = DelegationId::from_text("d");
    let deleted = house.outbox.delete(house.owner, Some(id), "same");
    assert!(deleted.await.unwrap());
    hook.status.send_replace(Some(200));
    hook.wait_for(7).await;
    house.tells("d", hook.known_as("other", "three")).await;
    house.happens(EventName::DelegationStatus, "d", 10).await;
    let told = hook.wait_for(8).await;
    assert!(told[7].ends_with("\"number\":10}"), "{}", told[7]);
}

#[actix::test]
async fn there_are_only_so_many_and_one_of_the_same_name_makes_room() {
    let house = House::open().await;
    let new = |config: Option<&str>| NewReceiver {
        config: config.map(ToOwned::to_owned),
        url: "http://127.0.0.1:9/".to_owned(),
        ..NewReceiver::default()
    };
    for _ in 0..RECEIVERS - 1 {
        house.tells("d", new(None)).await;
    }
    house.tells("d", new(Some("same"))).await;
    house.tells("d", new(Some("same"))).await;
    assert_eq!(house.of("d").await.len(), RECEIVERS);
    let id = || Some(DelegationId::from_text("d"));
    let more = house.outbox.create(house.owner, id(), new(None)).await;
    assert!(matches!(more, Err(Error::TooMany)));
    let long = house
        .outbox
        .create(house.owner, id(), new(Some(&"x".repeat(257))))
        .await;
    assert!(matches!(long, Err(Error::Unfit("id"))));
    let long = house.outbox.examine(&new(Some(&"x".repeat(257)))).await;
    assert!(matches!(long, Err(Error::Unfit("id"))));
    house.outbox.examine(&new(None)).await.unwrap();
    assert_eq!(house.of("d").await.len(), RECEIVERS, "nothing is written");
    let stranger = house
        .outbox
        .create(WorkspaceId::mint(), None, new(None))
        .await;
    assert!(matches!(stranger, Err(Error::NoWorkspace)));
}
