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

/// Ninety delegations, thirty of them handed back; the first fifty ended, by turns. Newest first.
fn ninety(store: &TestStore, one: WorkspaceId, two: WorkspaceId) -> Vec<DelegationKey> {
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
    for (number, terms) in terms.iter().enumerate().take(50) {
        let life = if number % 2 == 0 {
            completed("the RESULT")
        } else {
            failed("why not")
        };
        store.commit(&[advance_write(terms, 2, &life)]);
    }
    terms.into_iter().rev().map(|terms| terms.key).collect()
}

const LIVE: [Status; 2] = [Status::Pending, Status::Queued];

fn searching(text: &str) -> LineFilter {
    LineFilter {
        search: Some(Search::new(text)),
        ..filter(Parties::Any, &[])
    }
}

pub(crate) fn lists_are_looked_through_without_loss(store: &TestStore) {
    let [one, two, three] = std::array::from_fn(|_| created(store, None));
    let newest_first = ninety(store, one, two);
    let found = |parties, statuses: &[Status]| all(store, filter(parties, statuses));
    assert_eq!(found(Parties::Any, &[]), (newest_first.clone(), 90));
    assert_eq!(found(Parties::Either(two), &[]).0, newest_first);
    assert_eq!(found(Parties::Caller(two), &[]).0.len(), 30);
    assert_eq!(found(Parties::Either(three), &[]), (vec![], 0));
    assert_eq!(found(Parties::Either(one), &[Status::Failed]).0.len(), 25);
    assert_eq!(found(Parties::Any, &LIVE).0.len(), 40);
    let counted = [
        (filter(Parties::Either(one), &[Status::Failed]), 25),
        (searching("result"), 25),
        (filter(Parties::Any, &LIVE), 40),
    ];
    for (filter, number) in counted {
        for (limit, more) in [(100, false), (10, true)] {
            let matched = number.min(limit);
            let filter = LineFilter {
                limit,
                ..filter.clone()
            };
            let tally = store.read(move |reader| reader.tally(&filter));
            assert_eq!(tally, Tally { matched, more });
        }
    }
}

pub(crate) fn a_text_is_looked_for_in_all_that_is_said(store: &TestStore) {
    let [one, two, three] = std::array::from_fn(|_| created(store, None));
    let newest_first = ninety(store, one, two);
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
}

/// Others may have given the same id to whatever they like.
pub(crate) fn an_id_of_many_is_found_by_each(store: &TestStore) {
    let [target, last] = std::array::from_fn(|_| created(store, None));
    let id = DelegationId::mint();
    let mut keys = Vec::new();
    for number in 0..12 {
        let caller = if number == 0 {
            last
        } else {
            created(store, None)
        };
        let mut begin = acceptance(caller, target);
        begin.delegation.terms.key.id = id.clone();
        store.commit(&[accept(&begin)]);
        keys.push(begin.delegation.terms.key);
    }
    let newest_first: Vec<DelegationKey> = keys.iter().rev().cloned().collect();
    for (parties, found) in [
        (Parties::Any, &*newest_first),
        (Parties::Either(target), &*newest_first),
        (Parties::Either(last), &keys[..1]),
        (Parties::Caller(last), &keys[..1]),
        (Parties::Caller(target), &[]),
    ] {
        let filter = LineFilter {
            parties,
            ..searching(&id.to_string())
        };
        // More than a page: later ones leave them out.
        let page = store.read(move |reader| reader.lines(&filter));
        let lines = page.lines.into_iter().map(|line| line.line.key);
        assert_eq!(lines.collect::<Vec<_>>(), found, "{parties:?}");
    }
    let third = keys[3].clone();
    let number = store.read(move |reader| reader.number(&third));
    let filter = LineFilter {
        before: number,
        ..searching(&id.to_string())
    };
    let page = store.read(move |reader| reader.lines(&filter));
    assert_eq!((page.lines.len(), page.next), (3, number));
}

pub(crate) fn faces_are_the_newest_workspaces(store: &TestStore) {
    let [first, gone, last] = std::array::from_fn(|_| created(store, None));
    store.commit(&[Write::RemoveWorkspaces {
        ids: vec![gone],
        purge: false,
        events: vec![],
        at: tick(),
    }]);
    for (limit, ids) in [(10, vec![last, first]), (1, vec![last])] {
        let faces = store.read(move |reader| reader.faces(limit));
        let found = faces.newest.iter().map(|face| face.id);
        assert_eq!((found.collect::<Vec<_>>(), faces.total), (ids, 2));
    }
    let whole = store.read(move |reader| reader.workspace(last)).unwrap();
    let face = store.read(|reader| reader.faces(1)).newest.remove(0);
    assert_eq!(face, Face::from(whole));
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

pub(crate) fn what_a_workspace_was_given_is_found(store: &TestStore) {
    let parent = begun(store);
    let found = |target: WorkspaceId| {
        let id = parent.key.id.clone();
        store.read(move |reader| reader.given(target, &id))
    };
    assert_eq!(found(parent.target.unwrap()).as_ref(), Some(&parent.key));
    assert_eq!(
        found(parent.key.caller),
        None,
        "what it sent, it was not given"
    );
}

/// Four children of a delegation, stored in each way that there is: alone, among others, with a key; and one that repeats the
/// first of them.
fn children(store: &TestStore, parent: &Terms) -> Vec<Terms> {
    let worker = parent.target.unwrap();
    let child = |key: Option<&str>| {
        let mut begin = match key {
            None => acceptance(worker, parent.key.caller),
            Some(key) => keyed(worker, parent.key.caller, key, 1),
        };
        begin.delegation.parent = Some(parent.key.clone());
        begin
    };
    let mut begins = vec![child(None), child(None), child(None), child(Some("k"))];
    let other = accept(&acceptance(worker, parent.key.caller));
    let mut again = acceptance(worker, parent.key.caller);
    again.delegation.retry_of = Some(begins[0].delegation.terms.key.id.clone());
    begins.push(again);
    let writes: Vec<Write> = begins.iter().map(accept).collect();
    store.commit(&writes[..1]);
    store.commit(&[other, writes[1].clone(), writes[2].clone()]);
    store.commit(&writes[3..4]);
    store.commit(&writes[4..]);
    begins
        .into_iter()
        .map(|begin| begin.delegation.terms)
        .collect()
}

fn names(all: &[Relative]) -> Vec<DelegationKey> {
    all.iter().map(|one| one.key.clone()).collect()
}

pub(crate) fn families_are_found(store: &TestStore) {
    let parent = begun(store);
    let keys = children(store, &parent).into_iter().map(|terms| terms.key);
    let keys: Vec<DelegationKey> = keys.collect();
    let family = |key: &DelegationKey, limit| {
        let key = key.clone();
        store.read(move |reader| reader.family(&key, limit))
    };
    let found = family(&parent.key, 10);
    assert_eq!(names(&found.children), keys[..4]);
    assert_eq!(found.children[0].task_preview, "the task");
    assert_eq!((found.parent, found.retried_as.len()), (None, 0));
    assert_eq!(names(&family(&parent.key, 2).children), keys[..2]);
    let first = family(&keys[0], 10);
    assert_eq!(first.parent_key.as_ref(), Some(&parent.key));
    assert_eq!(first.parent.unwrap().key, parent.key);
    assert_eq!(names(&first.retried_as), keys[4..]);
    assert_eq!(family(&keys[4], 10).retried_from.unwrap().key, keys[0]);
    let caller = parent.key.caller;
    let id = DelegationId::mint();
    assert_eq!(family(&DelegationKey { caller, id }, 10), Family::default());
    for (key, parent) in [(&keys[0], Some(&parent.key)), (&keys[4], None)] {
        let wanted = key.clone();
        let read =
            move |reader: &mut dyn Reader| Ok((reader.parent(&wanted)?, reader.view(&wanted)?));
        let (found, view) = store.read(read);
        assert_eq!(
            (found.as_ref(), view.unwrap().parent.as_ref()),
            (parent, parent)
        );
    }
}

pub(crate) fn what_was_begun_again_is_not_begun_again(store: &TestStore) {
    let parent = begun(store);
    let worker = parent.target.unwrap();
    for (number, terms) in children(store, &parent).into_iter().enumerate() {
        store.commit(&[advance_write(&terms, 2, &failed("no"))]);
        let may = store.read(move |reader| reader.repeatable(&[terms.key]));
        assert_eq!(may.len(), usize::from(number != 0));
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
    let (matched, more) = (4, false);
    let tally = store.read(move |reader| reader.tally(&ended));
    assert_eq!(tally, Tally { matched, more });
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
