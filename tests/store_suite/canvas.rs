//! What people look at: lists with a text, a party, a status; families; what lives.

use baton::domain::*;
use baton::store::*;

use crate::support::*;

fn filter(parties: Parties, statuses: &[Status]) -> LineFilter {
    LineFilter {
        parties,
        statuses: statuses.to_vec(),
        search: None,
        is_first: true,
        repeatable: false,
        before: None,
        limit: 7,
        look: 5_000,
    }
}

/// Everything that it finds, page by page, and how many were looked at.
fn all(store: &TestStore, mut filter: LineFilter) -> (Vec<DelegationKey>, usize) {
    let (mut found, mut searched) = (Vec::new(), 0);
    loop {
        let asked = filter.clone();
        let page = store.read(move |reader| reader.lines(&asked));
        assert!(page.lines.len() <= filter.limit && page.searched <= filter.look);
        searched += page.searched;
        found.extend(page.lines.into_iter().map(|line| line.line.key));
        filter.is_first = false;
        match page.next {
            None => return (found, searched),
            next => filter.before = next,
        }
    }
}

pub(crate) fn lists_are_looked_through_without_loss(store: &TestStore) {
    let (one, two, three) = (
        created(store, None),
        created(store, None),
        created(store, None),
    );
    let mut terms = Vec::new();
    for number in 0..90 {
        let (from, to) = if number % 3 == 0 {
            (two, one)
        } else {
            (one, two)
        };
        let mut begin = acceptance(from, to);
        begin.delegation.task = format!("Ärger {number}").as_str().into();
        store.commit(&[accept(&begin)]);
        terms.push(begin.delegation.terms);
    }
    let newest_first: Vec<_> = terms.iter().rev().map(|terms| terms.key.clone()).collect();
    assert_eq!(
        all(store, filter(Parties::Any, &[])),
        (newest_first.clone(), 90)
    );
    assert_eq!(
        all(store, filter(Parties::Either(two), &[])).0,
        newest_first
    );
    assert_eq!(all(store, filter(Parties::Caller(two), &[])).0.len(), 30);
    assert_eq!(all(store, filter(Parties::Either(three), &[])), (vec![], 0));
    for (number, terms) in terms.iter().enumerate().take(50) {
        let life = if number % 2 == 0 {
            completed("the RESULT")
        } else {
            failed("why not")
        };
        store.commit(&[advance_write(terms, 2, &life)]);
    }
    let failed_ones = filter(Parties::Either(one), &[Status::Failed]);
    assert_eq!(all(store, failed_ones.clone()).0.len(), 25);
    let live = [Status::Pending, Status::Queued];
    assert_eq!(all(store, filter(Parties::Any, &live)).0.len(), 40);
    let searching = |text: &str| LineFilter {
        search: Some(Search::new(text)),
        ..filter(Parties::Any, &[])
    };
    for (text, count) in [
        ("äRGER", 90),
        ("Ärger 8", 11),
        ("result", 25),
        ("WHY", 25),
        ("refused", 25),
        ("none", 0),
    ] {
        let (found, searched) = all(store, searching(text));
        assert_eq!((found.len(), searched), (count, 90), "{text}");
    }
    // A look that ends before the page is full goes on where it ended.
    let short = LineFilter {
        look: 10,
        ..searching("Ärger 8")
    };
    assert_eq!(all(store, short).0.len(), 11);
    // Those of exactly the id come first, and once.
    let id = newest_first[80].id.to_string();
    let found = all(store, searching(&id));
    assert_eq!(found, (vec![newest_first[80].clone()], 1 + 90));
    let foreign = LineFilter {
        parties: Parties::Either(three),
        ..searching(&id)
    };
    assert_eq!(all(store, foreign).0, []);
    for (filter, matched) in [
        (failed_ones, 25),
        (searching("result"), 25),
        (filter(Parties::Any, &live), 40),
    ] {
        for (limit, more) in [(100, false), (10, true)] {
            let filter = LineFilter {
                limit,
                ..filter.clone()
            };
            let tally = store.read(move |reader| reader.tally(&filter));
            assert_eq!(
                tally,
                Tally {
                    matched: matched.min(limit),
                    more
                }
            );
        }
    }
}

pub(crate) fn what_lives_is_shown_newest_first(store: &TestStore) {
    let (first, second) = (begun(store), begun(store));
    let ended = begun(store);
    store.commit(&[advance_write(&ended, 2, &completed("x"))]);
    let wait = Wait {
        waiting_for: WaitingFor::Poll,
        until: tick(),
        trouble: None,
    };
    store.commit(&[advance_write(&second, 2, &living(1, State::Queued(wait)))]);
    let mark = |terms: &Terms, status, waiting_for| LiveMark {
        key: terms.key.clone(),
        target: terms.target,
        status,
        waiting_for,
    };
    let queued = mark(&second, Status::Queued, Some(WaitingFor::Poll));
    let pending = mark(&first, Status::Pending, None);
    for (party, limit, newest, total) in [
        (None, 10, vec![queued.clone(), pending.clone()], 2),
        (None, 1, vec![queued.clone()], 2),
        (Some(second.key.caller), 10, vec![queued.clone()], 1),
        (first.target, 10, vec![pending], 1),
        (ended.target, 10, vec![], 0),
    ] {
        let marks = store.read(move |reader| reader.live_marks(party, limit));
        assert_eq!((marks.newest, marks.total), (newest, total));
    }
    let line = store
        .read(move |reader| reader.lines_of(&[second.key]))
        .remove(0);
    assert_eq!(line.waiting_for, Some(WaitingFor::Poll));
    assert!(line.next_attempt_at.is_some() && line.parent.is_none());
}

pub(crate) fn families_are_found(store: &TestStore) {
    let parent = begun(store);
    let worker = parent.target.unwrap();
    let given = {
        let id = parent.key.id.clone();
        store.read(move |reader| reader.given(worker, &id))
    };
    assert_eq!(given.as_ref(), Some(&parent.key));
    let foreign = (parent.key.caller, parent.key.id.clone());
    assert!(
        store
            .read(move |reader| reader.given(foreign.0, &foreign.1))
            .is_none()
    );
    // Each way that a beginning is stored: alone, among others, with a key.
    let child = |key: Option<&str>| {
        let mut begin = match key {
            None => acceptance(worker, parent.key.caller),
            Some(key) => keyed(worker, parent.key.caller, key, 1),
        };
        begin.delegation.parent = Some(parent.key.clone());
        begin
    };
    let mut children = vec![child(None), child(None), child(None), child(Some("k"))];
    store.commit(&[accept(&children[0])]);
    let others: Vec<_> = (0..3)
        .map(|_| accept(&acceptance(worker, parent.key.caller)))
        .collect();
    store.commit(&[others, vec![accept(&children[1]), accept(&children[2])]].concat());
    store.commit(&[accept(&children[3])]);
    let mut again = acceptance(worker, parent.key.caller);
    again.delegation.retry_of = Some(children[0].delegation.terms.key.id.clone());
    children.push(again);
    store.commit(&[accept(&children[4])]);
    let keys: Vec<_> = children
        .iter()
        .map(|one| one.delegation.terms.key.clone())
        .collect();
    let family = |key: &DelegationKey, limit| {
        let key = key.clone();
        store.read(move |reader| reader.family(&key, limit))
    };
    let names = |all: &[Relative]| all.iter().map(|one| one.key.clone()).collect::<Vec<_>>();
    let found = family(&parent.key, 10);
    assert_eq!(names(&found.children), keys[..4]);
    assert_eq!(found.children[0].task_preview, "the task");
    assert_eq!((found.parent, found.retried_as.len()), (None, 0));
    assert_eq!(names(&family(&parent.key, 2).children), keys[..2]);
    let first = family(&keys[0], 10);
    assert_eq!(first.parent_key.as_ref(), Some(&parent.key));
    assert_eq!(
        first.parent.map(|parent| parent.key).as_ref(),
        Some(&parent.key)
    );
    assert_eq!(names(&first.retried_as), keys[4..]);
    assert_eq!(
        family(&keys[4], 10)
            .retried_from
            .map(|one| one.key)
            .as_ref(),
        Some(&keys[0])
    );
    assert_eq!(
        family(
            &DelegationKey {
                caller: worker,
                id: DelegationId::mint()
            },
            10
        ),
        Family::default()
    );
    for (key, parent) in [(&keys[0], Some(&parent.key)), (&keys[4], None)] {
        let wanted = key.clone();
        let read = move |reader: &mut dyn Reader| {
            Ok((
                reader.parent(&wanted)?,
                reader.view(&wanted)?.unwrap().parent,
            ))
        };
        let (found, viewed) = store.read(read);
        assert_eq!((found.as_ref(), viewed.as_ref()), (parent, parent));
    }
    for (number, key) in keys.iter().enumerate() {
        let terms = &children[number].delegation.terms;
        store.commit(&[advance_write(terms, 2, &failed("no"))]);
        let wanted = [key.clone()];
        let may = store.read(move |reader| reader.repeatable(&wanted));
        assert_eq!(
            may.len(),
            usize::from(number != 0),
            "what was begun again is not again"
        );
    }
    let ended = LineFilter {
        repeatable: true,
        limit: 3,
        ..filter(Parties::Caller(worker), &[Status::Failed])
    };
    assert_eq!(all(store, ended.clone()).0.len(), 4);
    let ended = LineFilter {
        limit: 100,
        ..ended
    };
    assert_eq!(
        store.read(move |reader| reader.tally(&ended)),
        Tally {
            matched: 4,
            more: false
        }
    );
}

pub(crate) fn what_a_feed_holds_of_an_ending_is_found(store: &TestStore) {
    let terms = begun(store);
    let told = || {
        let key = terms.key.clone();
        store.read(move |reader| reader.told_of(&key))
    };
    assert_eq!(
        told(),
        Some(ToldOf {
            reply: ReplyState::None,
            rows: vec![]
        })
    );
    store.commit(&[advance_write(&terms, 2, &completed("x"))]);
    let found = told().unwrap();
    let [row, reply] =
        [ActivityType::Delegation, ActivityType::A2aReceive].map(|kind| found.row(kind).unwrap());
    assert_eq!((found.reply, found.rows.len()), (ReplyState::Written, 2));
    let event = store.read(|reader| reader.recent_events(None, 1)).remove(0);
    assert!(
        row.0 < reply.0 && reply.0 < event.position,
        "in the order in which receivers rely on"
    );
    let unknown = DelegationKey {
        caller: terms.key.caller,
        id: DelegationId::mint(),
    };
    assert!(store.read(move |reader| reader.told_of(&unknown)).is_none());
}
