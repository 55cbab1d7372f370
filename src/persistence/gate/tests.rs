//! The gate before a writer made of numbers, and by itself.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::books::{RETRY_MAX, TICKETS_FOR_NEWCOMERS};
use super::pace::{TICKETS_MIN, TICKETS_UNTRIED};
use super::*;

const BATCH: usize = 256;
const SECOND: Duration = Duration::from_secs(1);

fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

fn books() -> Books {
    Books::new(GateLimits::default(), BATCH)
}

fn visit(workspace: Option<WorkspaceId>, errand: Errand, bytes: u64) -> Visit {
    Visit {
        workspace,
        errand,
        bytes,
    }
}

/// Everybody who gets in until somebody is refused.
fn crowd(books: &mut Books, workspace: Option<WorkspaceId>, errand: Errand) -> (u64, Reason) {
    let one = visit(workspace, errand, 0);
    for number in 0.. {
        if let Err(reason) = books.enter(&one, 0, Duration::ZERO) {
            return (number, reason);
        }
    }
    unreachable!("the gate lets everybody in")
}

/// Somebody who comes at a steady rate, and how it fared.
struct Client {
    workspace: WorkspaceId,
    errand: Errand,
    every: Duration,
    next: Duration,
    waits: Vec<Duration>,
    refused: u64,
}

impl Client {
    fn new(errand: Errand, a_second: u64) -> Self {
        Self {
            workspace: WorkspaceId::mint(),
            errand,
            every: SECOND / u32::try_from(a_second).unwrap(),
            next: Duration::ZERO,
            waits: Vec::new(),
            refused: 0,
        }
    }

    fn percentile_99(&mut self) -> Duration {
        self.waits.sort();
        self.waits[self.waits.len() * 99 / 100]
    }
}

/// A writer that takes so long for a commit and so much longer for each write in it.
struct World {
    books: Books,
    now: Duration,
    commit: Duration,
    each: Duration,
    clients: Vec<Client>,
    queue: VecDeque<(usize, Visit, bool, Duration)>,
    batch: Vec<(usize, Visit, bool, Duration)>,
    done: Duration,
    allowed: Vec<u64>,
}

impl World {
    fn new(commit: Duration, each: Duration, clients: Vec<Client>) -> Self {
        Self {
            books: books(),
            now: Duration::ZERO,
            commit,
            each,
            clients,
            queue: VecDeque::new(),
            batch: Vec::new(),
            done: Duration::ZERO,
            allowed: Vec::new(),
        }
    }

    fn waiting(&self) -> u64 {
        u64::try_from(self.queue.len() + self.batch.len()).unwrap()
    }

    fn capacity(&self) -> f64 {
        let batch = u32::try_from(BATCH).unwrap();
        f64::from(batch) / (self.commit + self.each * batch).as_secs_f64()
    }

    fn run(&mut self, until: Duration) {
        while self.now < until {
            self.now += micros(50);
            if !self.batch.is_empty() && self.now >= self.done {
                let batch = std::mem::take(&mut self.batch);
                let writes = u64::try_from(batch.len()).unwrap();
                for (client, visit, newcomer, since) in batch {
                    self.books.leave(&visit, newcomer);
                    self.clients[client]
                        .waits
                        .push(self.now.saturating_sub(since));
                }
                self.books.pace.committed(writes, self.now, false);
                self.allowed
                    .push(self.books.allowed(self.waiting(), self.now));
            }
            if self.batch.is_empty() && !self.queue.is_empty() {
                let size = self.queue.len().min(BATCH);
                self.batch = self.queue.drain(..size).collect();
                self.done = self.now + self.commit + self.each * u32::try_from(size).unwrap();
                self.books.pace.began(self.now, false);
            }
            for number in 0..self.clients.len() {
                while self.clients[number].next <= self.now {
                    self.arrive(number);
                }
            }
        }
    }

    fn arrive(&mut self, number: usize) {
        let waiting = self.waiting();
        let client = &mut self.clients[number];
        client.next += client.every;
        let visit = visit(Some(client.workspace), client.errand, 100);
        match self.books.enter(&visit, waiting, self.now) {
            Ok(newcomer) => self.queue.push_back((number, visit, newcomer, self.now)),
            Err(_) => client.refused += 1,
        }
    }
}

/// Writers of very different speed: how long a commit takes, and each write in it, in microseconds.
const WRITERS: [(u64, u64); 5] = [
    (1_000, 60),
    (5_000, 100),
    (100_000, 10),
    (2_000, 1_000),
    (0, 4_000),
];

#[test]
fn at_twice_what_the_writer_can_do_it_stays_busy_and_nobody_waits_for_long() {
    for (commit, each) in WRITERS {
        let mut world = World::new(micros(commit), micros(each), Vec::new());
        let capacity = world.capacity();
        let rate = (capacity * 2.0).round().to_string().parse().unwrap();
        world.clients.push(Client::new(Errand::Report, rate));
        world.run(SECOND * 10);
        let client = &mut world.clients[0];
        let served = u32::try_from(client.waits.len()).unwrap();
        let slowest = client.percentile_99();
        let context = format!("{commit} + {each} us: {served} served, p99 {slowest:?}");
        assert!(f64::from(served) > capacity * 8.5, "{context}");
        assert!(slowest < SECOND, "{context}");
        assert!(client.refused > u64::from(served) / 2, "{context}");
        // It has settled: in the last seconds the limit hardly moves.
        let settled = &world.allowed[world.allowed.len() / 2..];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        assert!(most * 2 <= least * 3, "{context}: {least} to {most}");
    }
}

#[test]
fn when_the_load_stops_everybody_gets_in_at_once() {
    let mut world = World::new(
        micros(1_000),
        micros(200),
        vec![Client::new(Errand::Report, 50_000)],
    );
    world.run(SECOND * 3);
    world.clients[0].next = SECOND * 1_000;
    world.run(SECOND * 3 + GateLimits::default().wait * 2);
    assert_eq!((world.waiting(), world.books.tickets.taken), (0, 0));
    let (inside, _) = crowd(&mut world.books, Some(WorkspaceId::mint()), Errand::Report);
    assert!(inside > 500, "{inside}");
}

#[test]
fn a_writer_that_was_slow_is_found_fast_within_a_second() {
    let mut world = World::new(
        micros(1_000),
        micros(5_000),
        vec![Client::new(Errand::Report, 50_000)],
    );
    world.run(SECOND * 5);
    assert!(*world.allowed.last().unwrap() < 200);
    world.each = micros(60);
    world.run(SECOND * 6);
    assert!(
        *world.allowed.last().unwrap() > 2_000,
        "{:?}",
        world.allowed.last()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    /// However much one workspace asks for, those who ask for little are all served, and soon.
    #[test]
    fn a_noisy_workspace_starves_nobody(
        (commit, each) in prop::sample::select(WRITERS.to_vec()),
        noise in 2_000_u64..50_000,
        noisy_begins: bool,
        quiet in 1_usize..40,
        quiet_begins: bool,
    ) {
        let errand = |begins| if begins { Errand::Begin } else { Errand::Report };
        let mut clients = vec![Client::new(errand(noisy_begins), noise)];
        clients.extend((0..quiet).map(|_| Client::new(errand(quiet_begins), 2)));
        let mut world = World::new(micros(commit), micros(each), clients);
        // Their first requests are not all at the same instant.
        for (number, client) in world.clients.iter_mut().enumerate() {
            client.next = Duration::from_millis(7) * u32::try_from(number).unwrap();
        }
        // At first it is not known how slow the writer is: what was let in then has to be served.
        world.run(SECOND * 4);
        for client in &mut world.clients {
            (client.refused, client.waits) = (0, Vec::new());
        }
        world.run(SECOND * 8);
        prop_assert!(world.clients[0].refused > 0 || world.capacity() > 1_500.0);
        for client in &mut world.clients[1..] {
            prop_assert_eq!(client.refused, 0);
            prop_assert!(client.waits.len() >= 4);
            prop_assert!(client.percentile_99() < SECOND);
        }
    }

    /// Whoever comes and goes, in whatever order: no limit is passed, and nothing is left behind.
    #[test]
    fn nothing_leaks(
        steps in prop::collection::vec((0_usize..6, 0_u8..3, 0_u64..(64 << 20), any::<bool>()), 1..2_000)
    ) {
        let workspaces: Vec<Option<WorkspaceId>> =
            (0..6).map(|number| (number > 0).then(WorkspaceId::mint)).collect();
        let mut books = books();
        let mut inside: Vec<(Visit, bool)> = Vec::new();
        for (workspace, errand, bytes, leaves) in steps {
            if leaves && !inside.is_empty() {
                let (visit, newcomer) = inside.swap_remove(workspace % inside.len());
                books.leave(&visit, newcomer);
                continue;
            }
            let errand = [Errand::Begin, Errand::Report, Errand::Look][usize::from(errand)];
            let visit = visit(workspaces[workspace], errand, bytes);
            if let Ok(newcomer) = books.enter(&visit, 0, Duration::ZERO) {
                inside.push((visit, newcomer));
            }
            prop_assert!(books.tickets.taken <= TICKETS_UNTRIED + TICKETS_FOR_NEWCOMERS);
            prop_assert!(books.bodies.taken <= books.limits.bodies);
            prop_assert_eq!(
                books.bodies.taken,
                inside.iter().map(|(visit, _)| visit.bytes).sum::<u64>()
            );
        }
        for (visit, newcomer) in inside {
            books.leave(&visit, newcomer);
        }
        let left = (books.tickets.taken, books.bodies.taken, books.beginning, books.newcomers);
        prop_assert_eq!(left, (0, 0, 0, 0));
        prop_assert!(books.tickets.held.is_empty() && books.bodies.held.is_empty());
    }
}

#[test]
fn one_workspace_leaves_room_for_others_and_new_work_for_reports() {
    let mut books = books();
    let noisy = crowd(&mut books, Some(WorkspaceId::mint()), Errand::Report);
    assert_eq!(noisy, (819, Reason::Share));
    let (others, _) = crowd(&mut books, Some(WorkspaceId::mint()), Errand::Begin);
    assert!(others > 100, "{others}");

    let mut books = self::books();
    let (begun, reason) = crowd(&mut books, None, Errand::Begin);
    assert_eq!((begun, reason), (TICKETS_UNTRIED * 4 / 5, Reason::Full));
    let (reported, reason) = crowd(&mut books, None, Errand::Report);
    assert_eq!((begun + reported, reason), (TICKETS_UNTRIED, Reason::Full));
    // The tickets for newcomers are beyond those.
    for _ in 0..TICKETS_FOR_NEWCOMERS {
        let newcomer = visit(Some(WorkspaceId::mint()), Errand::Report, 0);
        assert_eq!(books.enter(&newcomer, 0, Duration::ZERO), Ok(true));
    }
    let late = visit(Some(WorkspaceId::mint()), Errand::Report, 0);
    assert_eq!(books.enter(&late, 0, Duration::ZERO), Err(Reason::Full));
}

#[test]
fn a_commit_that_does_not_end_and_writes_of_nobody_take_up_room() {
    let mut books = books();
    for number in 0..100 {
        books.pace.began(Duration::from_millis(number * 20), false);
        books
            .pace
            .committed(400, Duration::from_millis(number * 20 + 20), false);
    }
    let now = SECOND * 2;
    assert_eq!(books.allowed(0, now), 5_000);
    assert_eq!(books.wait(2_000, now), Duration::from_millis(100));
    assert_eq!(books.allowed(4_000, now), 1_000);
    assert_eq!(books.allowed(100_000, now), TICKETS_MIN);
    books.pace.began(now, false);
    assert_eq!(books.allowed(0, now + Duration::from_millis(20)), 5_000);
    assert_eq!(books.allowed(0, now + SECOND * 60), TICKETS_MIN);
}

#[test]
fn bodies_have_a_budget_of_which_nobody_takes_all() {
    let mut books = books();
    let mebibytes = 1 << 20;
    let noisy = Some(WorkspaceId::mint());
    let mut large = 0;
    while books
        .enter(
            &visit(noisy, Errand::Look, 16 * mebibytes),
            0,
            Duration::ZERO,
        )
        .is_ok()
    {
        large += 1;
    }
    assert!((8..16).contains(&large), "{large}");
    let one = visit(noisy, Errand::Report, 16 * mebibytes);
    assert_eq!(books.enter(&one, 0, Duration::ZERO), Err(Reason::Bodies));
    assert_eq!(books.tickets.taken, 0);
    let other = visit(Some(WorkspaceId::mint()), Errand::Report, 16 * mebibytes);
    assert_eq!(books.enter(&other, 0, Duration::ZERO), Ok(false));
}

#[test]
fn whoever_is_refused_comes_back_when_there_is_time_for_it() {
    let mut books = books();
    let second = Duration::from_secs(1);
    assert_eq!(books.retry_after(0, 0, Duration::ZERO), second);
    books.pace.began(Duration::ZERO, false);
    books.pace.committed(500, Duration::from_millis(500), false);
    let now = second;
    // A thousand a second: the five thousandth of those refused at once comes after five seconds.
    let last = (0..5_000)
        .map(|_| books.retry_after(0, 0, now))
        .last()
        .unwrap();
    assert!((second * 4..second * 6).contains(&last), "{last:?}");
    let late = books.retry_after(0, u32::MAX, now);
    assert!(
        late >= last + second * 4 && late <= last * 2 + second,
        "{late:?}"
    );
    assert!(books.retry_after(0, 0, now + second * 10) == second);
    let most = (0..100_000).map(|_| books.retry_after(0, 0, now)).last();
    assert_eq!(most, Some(RETRY_MAX));
}

#[test]
fn it_is_said_at_once_and_then_seldom() {
    let mut books = books();
    assert_eq!(books.worth_saying(SECOND), Some(1));
    assert_eq!(books.worth_saying(SECOND * 2), None);
    assert_eq!(books.worth_saying(SECOND * 11), Some(2));
}

#[test]
fn a_dropped_ticket_is_given_back() {
    let gate = Arc::new(Gate::new(GateLimits::default(), BATCH));
    let inside = || {
        let books = gate.books();
        (books.tickets.taken, books.bodies.taken)
    };
    let workspace = Some(WorkspaceId::mint());
    let tickets: Vec<Ticket> = (0..100)
        .map(|_| gate.enter(workspace, Errand::Begin, 10).unwrap())
        .collect();
    assert_eq!(inside(), (100, 1000));
    drop(tickets);
    assert_eq!(inside(), (0, 0));
}
