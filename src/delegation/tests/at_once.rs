//! What is sent as part of its beginning: not before that is durable, and nothing is kept when it is not.

use super::*;

/// More than may call at once in a [`House`].
const MANY: usize = 30;

impl House {
    /// A delegation to an agent that takes requests and never answers, with nothing in its way.
    async fn ready(&self) -> (NewDelegation, Arc<AtomicUsize>) {
        let (url, seen) = silent_agent().await;
        let delegation = self.delegation(Some(url)).await;
        let target = delegation.terms.target.unwrap();
        assert!(self.store.seat(target).await.unwrap().is_some());
        (delegation, seen)
    }

    /// How many stand with the target or before it; none once nobody remembers its line.
    fn in_line(&self, delegation: &NewDelegation) -> usize {
        let lines = self.delegations.lines().into_iter();
        let of_target = lines.filter(|(target, _)| Some(*target) == delegation.terms.target);
        of_target.map(|(_, view)| view.waiting + view.working).sum()
    }
}

async fn comes_to(seen: &Arc<AtomicUsize>, count: usize) {
    eventually(async || seen.load(Ordering::Acquire) == count).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(seen.load(Ordering::Acquire), count);
}

#[actix::test]
async fn it_is_sent_once_one_commit_says_so_and_not_before() {
    let house = House::open("");
    let (delegation, seen) = house.ready().await;
    let key = delegation.terms.key.clone();
    house.frozen.store(true, Ordering::Release);
    let delegations = house.delegations.clone();
    actix::spawn(async move { delegations.begin(delegation, "target").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(seen.load(Ordering::Acquire), 0);
    assert_eq!(house.status(&key).await, None);
    house.frozen.store(false, Ordering::Release);
    comes_to(&seen, 1).await;
    let loaded = house.loaded(&key).await.unwrap();
    assert_eq!(loaded.life.status(), Status::Dispatched);
    assert_eq!((loaded.life.attempt.0, loaded.revision.0), (1, 2));
}

#[actix::test]
async fn a_repeat_gives_back_what_it_held() {
    let house = House::open("");
    let (delegation, seen) = house.ready().await;
    house.begin(&delegation).await.unwrap();
    comes_to(&seen, 1).await;
    for _ in 0..MANY {
        let mut again = delegation.clone();
        again.terms.key.id = DelegationId::mint();
        let answer = house.begin(&again).await.unwrap();
        assert!(matches!(answer, Acceptance::Replayed { .. }), "{answer:?}");
    }
    assert_eq!(house.in_line(&delegation), 1);
    // There is room for nine more calls, and no place is missing.
    for _ in 0..9 {
        house.begin(&House::elsewhere(&delegation)).await.unwrap();
    }
    comes_to(&seen, 10).await;
}

#[actix::test]
async fn a_refusal_gives_back_what_it_held() {
    let house = House::open("");
    let (delegation, seen) = house.ready().await;
    house.refuses.store(true, Ordering::Release);
    for _ in 0..MANY {
        let refused = house.begin(&House::elsewhere(&delegation)).await;
        assert!(refused.is_err());
    }
    house.refuses.store(false, Ordering::Release);
    assert_eq!(house.in_line(&delegation), 0);
    for _ in 0..10 {
        house.begin(&House::elsewhere(&delegation)).await.unwrap();
    }
    comes_to(&seen, 10).await;
}

#[actix::test]
async fn what_may_have_been_committed_unseen_was_not_sent_and_is_tried_again() {
    let house = House::open("");
    let (delegation, seen) = house.ready().await;
    house.cut.store(true, Ordering::Release);
    assert!(house.begin(&delegation).await.is_err());
    let key = &delegation.terms.key;
    assert_eq!(house.status(key).await, Some(Status::Dispatched));
    eventually(async || house.in_line(&delegation) == 0).await;
    assert_eq!(seen.load(Ordering::Acquire), 0);
    let delegations = house.delegations.clone();
    actix::spawn(async move { sweep(&delegations, Duration::from_millis(20), || {}).await });
    comes_to(&seen, 1).await;
    let loaded = house.loaded(key).await.unwrap();
    assert_eq!(loaded.life.status(), Status::Dispatched);
    assert_eq!(loaded.life.attempt.0, 2);
}

#[actix::test]
async fn whoever_asks_for_it_while_it_begins_waits_for_that() {
    let house = House::open("");
    let (delegation, seen) = house.ready().await;
    let key = delegation.terms.key.clone();
    house.frozen.store(true, Ordering::Release);
    let delegations = house.delegations.clone();
    actix::spawn(async move { delegations.begin(delegation, "target").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    house
        .delegations
        .supervisor
        .do_send(messages::TakeUp(vec![key.clone()]));
    let reason = "enough".into();
    let delegations = house.delegations.clone();
    let told = async move { delegations.apply(key, Event::Cancelled { reason }).await };
    let told = actix::spawn(told);
    tokio::time::sleep(Duration::from_millis(100)).await;
    house.frozen.store(false, Ordering::Release);
    let told = told.await.unwrap();
    assert!(
        matches!(told, Ok(Applied::Moved(Status::Cancelled))),
        "{told:?}"
    );
    comes_to(&seen, 1).await;
}
