//! A target that takes so many at once, played against its line.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{DelegationId, WorkspaceId};

const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_secs(1),
    cap: Duration::from_mins(1),
    jitter: 0.0,
    slow: Duration::from_secs(15),
};

fn at(millis: u64) -> Timestamp {
    Timestamp(0).plus(Duration::from_millis(millis))
}

fn ticket(place: i64, priority: u8) -> Ticket {
    let (caller, id) = (WorkspaceId::mint(), DelegationId::mint());
    Ticket {
        priority: Reverse(Priority(priority)),
        since: Timestamp(place),
        key: DelegationKey { caller, id },
    }
}

fn line_of(count: i64) -> (Line, Vec<Ticket>) {
    let tickets: Vec<Ticket> = (0..count).map(|place| ticket(place, 50)).collect();
    let mut line = Line::default();
    line.set_cap(0);
    for ticket in &tickets {
        line.enter(ticket.clone(), at(0), at(0));
    }
    (line, tickets)
}

#[test]
fn the_higher_priority_goes_first_and_then_the_older() {
    let mut line = Line::default();
    line.set_cap(0);
    let tickets = [ticket(1, 50), ticket(0, 50), ticket(2, 100), ticket(3, 10)];
    for ticket in &tickets {
        line.enter(ticket.clone(), at(0), at(0));
    }
    let order: Vec<i64> = line
        .grants(at(0), &RETRY, 0.5)
        .iter()
        .map(|ticket| ticket.since.0)
        .collect();
    assert_eq!(order, [2, 0, 1, 3]);
}

#[test]
fn until_the_target_was_looked_up_one_goes_ahead_and_then_its_own_cap_holds() {
    let (mut line, tickets) = line_of(5);
    line.cap = Cap::Unknown;
    assert_eq!(line.grants(at(0), &RETRY, 0.5), tickets[..1]);
    assert!(line.take_untold().is_none());
    line.set_cap(2);
    assert_eq!(line.grants(at(0), &RETRY, 0.5), tickets[1..2]);
    let (why, told) = line.take_untold().unwrap();
    assert_eq!((why, told.len()), (Unready::AtCapacity, 3));
    line.leave(&tickets[0], at(1), &RETRY, 0.5);
    assert_eq!(line.grants(at(1), &RETRY, 0.5), tickets[2..3]);
    assert!(line.take_untold().is_none(), "each is told once");
}

#[test]
fn what_cannot_be_reached_is_probed_by_one_until_it_speaks() {
    let (mut line, tickets) = line_of(10);
    assert_eq!(line.grants(at(0), &RETRY, 0.5).len(), 10);
    for ticket in &tickets {
        line.failed(ticket, Hindrance::Unreachable, at(1000), at(0));
    }
    assert_eq!(line.view().failures, 1, "who failed together counts once");
    assert_eq!(line.grants(at(999), &RETRY, 0.5), []);
    assert_eq!(line.next_due(at(999)), Some(at(1000)));
    let mut now = 1000;
    for _ in 0..BREAKER_FAILURES {
        assert_eq!(
            line.grants(at(now), &RETRY, 0.5),
            tickets[..1],
            "one, and the first"
        );
        line.failed(&tickets[0], Hindrance::Unreachable, at(now + 1000), at(now));
        now += 1000;
    }
    assert_eq!(line.view().breaker, Breaker::Open);
    line.wake(at(now - 500), &RETRY, 0.5);
    assert_eq!(line.view().breaker, Breaker::HalfOpen);
    assert_eq!(line.grants(at(now - 500), &RETRY, 0.5), tickets[..1]);
    line.spoke();
    assert_eq!(line.view().breaker, Breaker::Closed);
    assert_eq!(line.grants(at(now), &RETRY, 0.5), tickets[1..]);
}

#[test]
fn what_rests_holds_up_nobody() {
    let (mut line, tickets) = line_of(3);
    line.grants(at(0), &RETRY, 0.5);
    line.rest(&tickets[0], at(500), at(0));
    line.failed(&tickets[1], Hindrance::NoAddress, at(100), at(0));
    line.enter(ticket(9, 50), at(0), at(0));
    let looks = line.grants(at(100), &RETRY, 0.5);
    assert_eq!(
        looks,
        tickets[1..2],
        "one goes and looks whether it has an address"
    );
    line.set_cap(0);
    assert_eq!(line.grants(at(100), &RETRY, 0.5).len(), 1);
    assert_eq!(line.next_due(at(100)), Some(at(500)));
    assert_eq!(line.grants(at(500), &RETRY, 0.5), tickets[..1]);
}

#[test]
fn one_begins_at_once_where_it_overtakes_nobody() {
    let (mut line, tickets) = line_of(0);
    assert!(tickets.is_empty());
    line.set_cap(3);
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|place| ticket(place, 50));
    let begins = |line: &mut Line, ticket: &Ticket| line.begin(ticket, at(0), &RETRY, 0.5);
    assert!(begins(&mut line, &first), "nobody is there");
    assert!(
        begins(&mut line, &second),
        "it goes behind one that is sent"
    );
    line.announce(third.clone());
    assert!(
        !begins(&mut line, &fourth),
        "one before it is being committed"
    );
    assert_eq!(line.view().working, 2);
    line.enter(third.clone(), at(0), at(0));
    line.enter(fourth.clone(), at(0), at(0));
    let granted = line.grants(at(0), &RETRY, 0.5);
    assert_eq!(granted, std::slice::from_ref(&third), "the cap");
    line.leave(&fourth, at(0), &RETRY, 0.5);
    line.leave(&first, at(0), &RETRY, 0.5);
    assert!(!begins(&mut line, &first), "one before it is not sent yet");
    line.leave(&first, at(0), &RETRY, 0.5);
    line.sent(&third);
    assert!(begins(&mut line, &first));
    assert!(!begins(&mut line, &fourth), "the cap");
    for ticket in [first, second, third, fourth] {
        assert!(!line.is_idle());
        line.leave(&ticket, at(0), &RETRY, 0.5);
    }
    assert!(line.is_idle(), "nothing is left of them");
}

#[test]
fn nobody_begins_at_once_where_something_is_wrong() {
    let wrong: [fn(&mut Line, &Ticket); 4] = [
        |line, seated| line.rest(seated, at(500), at(0)),
        |line, seated| line.failed(seated, Hindrance::Unreachable, at(500), at(0)),
        |line, _| line.hold(Hindrance::Offline, at(500), at(0)),
        |line, _| line.hold(Hindrance::Busy, at(500), at(0)),
    ];
    for wrong in wrong {
        let (mut line, tickets) = line_of(1);
        line.grants(at(0), &RETRY, 0.5);
        line.sent(&tickets[0]);
        wrong(&mut line, &tickets[0]);
        assert!(!line.begin(&ticket(1, 50), at(1), &RETRY, 0.5));
    }
}

/// An agent that takes `room` at once, `takes` milliseconds each, and refuses the others as busy. Returns the order in
/// which it accepted, the number of refusals, and when it was done.
fn play(count: i64, room: usize, takes: u64) -> (Vec<i64>, usize, u64) {
    let (mut line, _) = line_of(count);
    let mut working: VecDeque<(u64, Ticket)> = VecDeque::new();
    let (mut accepted, mut refused) = (Vec::new(), 0);
    let mut now = 0;
    loop {
        while let Some((end, _)) = working.front()
            && *end <= now
            && let Some((_, done)) = working.pop_front()
        {
            line.spoke();
            line.leave(&done, at(now), &RETRY, 0.5);
        }
        for ticket in line.grants(at(now), &RETRY, 0.5) {
            if working.len() < room {
                accepted.push(ticket.since.0);
                working.push_back((now + takes, ticket));
            } else {
                refused += 1;
                let until = at(now).plus(RETRY.delay(line.view().failures.max(1), 0.5));
                line.failed(&ticket, Hindrance::Busy, until, at(now));
            }
        }
        if line.view().waiting == 0 && working.is_empty() {
            return (accepted, refused, now);
        }
        let ended = working.front().map(|(end, _)| *end);
        let due = line
            .next_due(at(now))
            .map(|due| u64::try_from(due.0).unwrap().div_ceil(1000));
        now = ended.into_iter().chain(due).min().unwrap().max(now + 1);
    }
}

#[test]
fn an_agent_that_takes_one_at_a_time_takes_all_in_order_without_a_pause() {
    let (accepted, refused, done) = play(30, 1, 2_000);
    assert_eq!(accepted, (0..30).collect::<Vec<_>>());
    assert!(done < 63_000, "it is hardly ever idle: {done}");
    assert!(refused < 29 + 12, "probed ever more rarely: {refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn everybody_gets_a_turn_and_a_busy_agent_is_kept_busy(
        count in 1i64..80, room in 1usize..12, takes in 50u64..5_000,
    ) {
        let (mut accepted, refused, done) = play(count, room, takes);
        accepted.sort_unstable();
        prop_assert_eq!(accepted, (0..count).collect::<Vec<_>>());
        let rounds = u64::try_from(count).unwrap().div_ceil(u64::try_from(room).unwrap());
        let enough = rounds * takes + 4 * (takes + 1_000) + 250 * u64::try_from(refused).unwrap();
        prop_assert!(done <= enough, "{} instead of {}", done, rounds * takes);
        prop_assert!(refused <= 3 * usize::try_from(count).unwrap() + 20);
    }
}
