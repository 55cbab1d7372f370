//! Finding delegations, strange text, the audit.

use std::collections::HashSet;

use baton::domain::*;
use baton::store::*;

use crate::support::*;

pub(crate) fn lists_page_without_loss(store: &TestStore) {
    let (one, two) = (created(store, None), created(store, None));
    let at = tick();
    let mut writes = Vec::new();
    for number in 0..60 {
        let (from, to) = if number % 2 == 0 {
            (one, two)
        } else {
            (two, one)
        };
        let mut begin = acceptance(from, to);
        if number < 40 {
            begin.delegation.terms.created_at = at;
        }
        writes.push(accept(&begin));
    }
    store.commit(&writes);
    for party in [None, Some(one)] {
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let statuses = vec![Status::Pending, Status::Failed];
            let filter = DelegationFilter {
                party,
                statuses,
                before,
                older_than: None,
                limit: 7,
            };
            let page = store.read(move |reader| reader.delegations(&filter));
            let Some(last) = page.last() else { break };
            before = Some(last.number);
            seen.extend(page.into_iter().map(|line| (line.number, line.key)));
        }
        assert_eq!(seen.len(), 60);
        assert!(
            seen.is_sorted_by(|newer, older| newer > older),
            "newest first, each once"
        );
    }
    let (own, mut live, mut after) = (store.lease.node(), Vec::new(), None);
    loop {
        let page = store.read(move |reader| reader.live(own, after, 7));
        if page.rows.is_empty() {
            break;
        }
        after = page.last;
        live.extend(page.rows.into_iter().map(|loaded| loaded.terms.key));
    }
    assert_eq!(live.iter().collect::<HashSet<_>>().len(), 60);
    assert_eq!(live.len(), 60);
}

pub(crate) fn a_party_finds_its_delegations(store: &TestStore) {
    let [one, two, three] = std::array::from_fn(|_| created(store, None));
    let id = DelegationId::from_text("mine");
    let begin = |caller, target| {
        let mut accept = acceptance(caller, target);
        accept.delegation.terms.key.id = DelegationId::from_text("mine");
        accept
    };
    store.commit(&[
        accept(&begin(one, three)),
        accept(&begin(two, three)),
        accept(&begin(three, one)),
    ]);
    for (party, caller) in [(one, one), (two, two), (three, three)] {
        let id = id.clone();
        let key = store
            .read(move |reader| reader.find_key(party, &id))
            .unwrap();
        assert_eq!(key.caller, caller);
    }
    // Of those that it was given a live one is meant, else the newest.
    let given_to = created(store, None);
    let [older, newer] = [begin(one, given_to), begin(two, given_to)].map(|mut begin| {
        begin.delegation.terms.key.id = DelegationId::from_text("given");
        begin
    });
    store.commit(&[accept(&older), accept(&newer)]);
    for (end, found) in [(&newer, one), (&older, two)] {
        let end = &end.delegation.terms;
        store.write(advance_write(end, 2, &completed("x")));
        let given = DelegationId::from_text("given");
        let key = store.read(move |reader| reader.find_key(given_to, &given));
        assert_eq!(key.unwrap().caller, found);
    }
    store.commit(&[accept(&acceptance(one, two))]);
    let found = store.read(move |reader| reader.find_key(created_nowhere(), &id));
    assert!(found.is_none());
    let line = DelegationFilter {
        party: Some(two),
        statuses: vec![],
        before: None,
        older_than: None,
        limit: 10,
    };
    assert_eq!(store.read(move |reader| reader.delegations(&line)).len(), 3);
}

fn created_nowhere() -> WorkspaceId {
    WorkspaceId::mint()
}

pub(crate) fn strange_text_is_stored(store: &TestStore) {
    let caller = created(store, None);
    let mut begin = acceptance(caller, caller);
    let long = format!("a\0b🦀{}", "漢".repeat(350_000));
    begin.delegation.task = long.as_str().into();
    begin.delegation.terms.key.id = DelegationId::from_text("nul\0 and 🦀");
    let begin = Accept {
        feed: accepted_feed(&begin.delegation, "t\0"),
        ..begin
    };
    let terms = begin.delegation.terms.clone();
    let life = completed(&long);
    let written = store
        .commit(&[accept(&begin), advance_write(&terms, 2, &life)])
        .written;
    assert!(
        matches!(written[..], [Written::Accepted(_), Written::Advanced]),
        "{written:?}"
    );
    let read = loaded(store, &terms.key);
    let clean = long.replace('\0', "\u{fffd}");
    let State::Ended(ended) = read.life.state else {
        panic!("not ended")
    };
    assert_eq!(
        ended.ending,
        Ending::Completed {
            text: clean.as_str().into()
        }
    );
    let all = DelegationFilter {
        party: None,
        statuses: vec![],
        before: None,
        older_than: None,
        limit: 10,
    };
    let lines = store.read(move |reader| reader.delegations(&all));
    assert!(lines[0].task_preview.len() <= 4096 && clean.starts_with(&lines[0].task_preview));
    assert!(clean.starts_with(lines[0].result_preview.as_deref().unwrap()));
    let rows = activity(store, everything(caller));
    assert_eq!(rows.len(), 3);
    let body = rows[0].response_body.as_ref().unwrap();
    let json: serde_json::Value = serde_json::from_str(&body.0).unwrap();
    assert_eq!(json["text"], serde_json::json!(clean));
}

pub(crate) fn the_audit_finds_what_is_wrong(store: &TestStore) {
    let good = begun(store);
    let bad = begun(store);
    store.commit(&[
        advance_write(&good, 2, &completed("x")),
        advance_write(&bad, 2, &failed("y")),
    ]);
    let violations = || {
        let audited = store.read(|reader| reader.audit(None, 100, AuditLimits::default()));
        audited
            .rows
            .iter()
            .flat_map(audit)
            .map(|one| (one.key, one.rule))
            .collect::<Vec<_>>()
    };
    assert_eq!(violations(), []);
    store.sql(&format!(
        "DELETE FROM activity_logs WHERE activity_type = 'a2a_receive' AND delegation_id = '{}'",
        bad.key.id
    ));
    let newest = |limit| {
        let read =
            move |reader: &mut dyn Reader| reader.audit_newest(limit, AuditLimits::default());
        let audited = store.read(read).into_iter();
        audited
            .map(|one| (audit(&one).len(), one.key))
            .collect::<Vec<_>>()
    };
    let both = [(1, bad.key.clone()), (0, good.key.clone())];
    assert_eq!((newest(1), newest(2)), (both[..1].to_vec(), both.to_vec()));
    let found = violations();
    assert_eq!(found.len(), 1);
    assert!(
        found[0].0 == bad.key && found[0].1.contains("one reply"),
        "{found:?}"
    );
    store.sql("UPDATE delegations SET ended_at = NULL");
    assert_eq!(violations().len(), 3);
    store.sql("UPDATE delegations SET ended_at = updated_at");
    let unlisted = || {
        let found = violations().into_iter();
        found
            .filter(|(_, rule)| rule.contains("lists find"))
            .count()
    };
    store.sql(
        "INSERT INTO delegations_live (number, lease_owner, caller_id, callee_id) \
         SELECT number, lease_owner, caller_id, callee_id FROM delegations",
    );
    assert_eq!(unlisted(), 2);
    store.sql("DELETE FROM delegations_live");
    assert_eq!(unlisted(), 0);
    store.sql("INSERT INTO delegations_owed (number) SELECT number FROM delegations");
    assert_eq!(unlisted(), 2);
    store.sql("DELETE FROM delegations_owed");
    store.sql("DELETE FROM delegations_ended");
    assert_eq!(unlisted(), 2);
}
