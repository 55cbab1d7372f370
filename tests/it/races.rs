//! Whoever comes first wins, and everybody is told the same (product.md rule 2; lessons D04, D05, S03, I01 to I03).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, Reply, Workspace};
use crate::support::database::Database;
use crate::support::history::{Expected, Ledger, assert_exactly_once};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_thousand_races_have_one_ending_each,
    a_hundred_posts_with_one_key_are_one_delegation,
    a_key_is_bound_to_its_target_and_task_until_it_fails,
);

const BATCHES: usize = 20;
const BATCH: usize = 50;

async fn a_thousand_races_have_one_ending_each(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let mut winners = BTreeMap::new();
    for batch in 0..BATCHES {
        let family = server.family(&agent.url()).await;
        for winner in race(server.api(), &agent, &family, batch).await {
            *winners.entry(winner).or_insert(0) += 1;
        }
    }
    assert_eq!(winners.values().sum::<usize>(), BATCHES * BATCH);
    assert_eq!(winners.len(), 3, "each finisher won some: {winners:?}");
    server.assert_invariants().await;
}

/// One batch of races of two contradicting reports and the agent's own answer; who won each.
async fn race(api: &Api, agent: &FakeAgent, family: &Family, batch: usize) -> Vec<&'static str> {
    let Family { caller, target, .. } = family;
    agent.hold();
    let begin = (0..BATCH).map(|_| api.delegated(caller, target, "race"));
    let ids = join_all(begin).await;
    agent.wait_for((batch + 1) * BATCH).await;
    // The reports of a batch take a while one after another: the answers are spread over as long, or longer.
    let spread = [1, 4, 8, 16][batch % 4];
    for (place, id) in (0..).zip(&ids) {
        let delay = Duration::from_millis(spread * place);
        agent.behave_for_message(id, Behaviour::after(delay, Behaviour::Echo));
    }
    let finish = ids.iter().enumerate().map(async |(place, id)| {
        // The caller's report needs one look-up less than the target's, and so has the better chance.
        let (one, other) = match place % 2 {
            0 => (caller, target),
            _ => (target, caller),
        };
        let completed = api.report_completed(one, id, "a report of completion");
        let failed = api.report_failed(other, id, "a report of failure");
        join(completed, failed).await
    });
    agent.release();
    let answers = join_all(finish).await;
    api.wait_until_all_ended(caller).await;

    let ledger = Ledger::read(api, caller).await;
    let list = by_id(api.delegations(caller).await.expect(200).rows());
    let mut admin = HashMap::new();
    for status in ["completed", "failed"] {
        let path = format!("/admin/delegations?status={status}&limit={BATCH}");
        let reply = api.admin_get(&path).await.expect(200);
        admin.extend(by_id(reply.body["delegations"].as_array().unwrap()));
    }
    let mut winners = Vec::new();
    for (id, answers) in ids.iter().zip(&answers) {
        let (status, text) = ledger.only_ending(id);
        let whole = api.delegation(caller, id).await.expect(200).body;
        let member = match status {
            "completed" => "result",
            _ => "error",
        };
        assert_eq!(
            (&whole["status"], &whole[member]),
            (&json!(status), &json!(text))
        );
        assert_eq!(list[id]["status"], status);
        assert_eq!(admin[id]["status"], status);
        for answer in [&answers.0, &answers.1] {
            assert_told_the_recorded(answer, status, text);
        }
        let winner = [
            "a report of completion",
            "a report of failure",
            "echo: race",
        ];
        let winner = winner.into_iter().find(|winner| *winner == text);
        winners.push(winner.unwrap_or_else(|| panic!("nobody said {text:?}")));
    }
    winners
}

fn by_id(entries: &[Value]) -> HashMap<String, Value> {
    let entries = entries.iter().map(|entry| {
        let id = entry["delegation_id"].as_str().unwrap();
        (id.to_owned(), entry.clone())
    });
    entries.collect()
}

/// 200 to whoever said the same first or again, 409 to whoever contradicts, and both are told what is recorded.
#[track_caller]
fn assert_told_the_recorded(answer: &Reply, status: &str, text: &str) {
    assert_eq!(answer.body["status"], status, "{}", answer.text);
    assert!(matches!(answer.status, 200 | 409), "{}", answer.text);
    let recorded = match status {
        "completed" => &answer.body["result"],
        _ => &answer.body["error_detail"],
    };
    if answer.status == 409 {
        assert_eq!(answer.body["error"], "delegation already ended");
        assert_eq!(recorded, text);
    } else {
        assert!(recorded.is_null() || recorded == text, "{}", answer.text);
    }
}

async fn a_hundred_posts_with_one_key_are_one_delegation(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let body = json!({"target_id": target.id, "task": "once", "idempotency_key": "k"});
    let posts = join_all((0..100).map(|_| api.delegate_with(&caller, &body))).await;
    let ids: HashSet<&str> = posts.iter().map(|post| post.str("delegation_id")).collect();
    assert_eq!(ids.len(), 1);
    let accepted = posts.iter().filter(|post| post.status == 202).count();
    let hits = posts
        .iter()
        .filter(|post| post.status == 200 && post.body["idempotent_hit"] == true);
    assert_eq!((accepted, hits.count()), (1, 99));
    let id = posts[0].str("delegation_id");
    api.wait_until_ended(&caller, id).await;
    assert_exactly_once(api, &caller, id, Expected::Completed("echo: once")).await;
    assert_eq!((agent.seen(id), agent.messages().len()), (1, 1));
    assert_eq!(database.count("SELECT count(*) FROM delegations"), 1);
    server.assert_invariants().await;
}

async fn a_key_is_bound_to_its_target_and_task_until_it_fails(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Error(-1, "no".to_owned())).await;
    let Family {
        root,
        caller,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    let post = async |by: &Workspace, to: &Workspace, task: &str| {
        let body = json!({"target_id": to.id, "task": task, "idempotency_key": "k"});
        api.delegate_with(by, &body).await
    };
    let first = post(&caller, &target, "task").await.expect(202);
    let first = first.str("delegation_id");
    api.wait_until_ended(&caller, first).await;
    agent.behave(Behaviour::Echo);
    let second = post(&caller, &target, "task").await.expect(202);
    assert_eq!(second.body["retry_of"], first, "a failed one frees its key");
    let second = second.str("delegation_id");
    assert_ne!(second, first);
    let whole = api.wait_until_ended(&caller, second).await;
    assert_eq!(whole["retry_of"], first);
    assert_exactly_once(api, &caller, first, Expected::Failed("refused")).await;

    let before = database.count("SELECT count(*) FROM activity_logs");
    for (to, task) in [(&root, "task"), (&target, "other")] {
        post(&caller, to, task).await.expect(409);
    }
    let hit = post(&caller, &target, "task").await.expect(200);
    assert_eq!(
        hit.body,
        json!({"delegation_id": second, "status": "completed", "target_id": target.id, "idempotent_hit": true})
    );
    let after = database.count("SELECT count(*) FROM activity_logs");
    assert_eq!((after, agent.messages().len()), (before, 2));
    post(&root, &target, "task").await.expect(202);
    api.wait_until_all_ended(&root).await;
    server.assert_invariants().await;
}
