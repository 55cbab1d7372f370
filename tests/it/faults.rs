//! Panics and a database that refuses: nothing is lost, nothing is told that is not so (rules 1, 2 and 4; A04, I04).

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::books::{Books, Course};
use crate::support::client::{Api, As, Workspace};
use crate::support::database::{Database, Harm};
use crate::support::eventually;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_panic_in_one_actor_is_felt_by_no_other_and_the_panicked_one_is_rebuilt,
    what_panics_again_and_again_ends_as_internal,
    a_panic_over_an_answer_ends_what_it_was_the_answer_to,
    a_refused_reply_is_owed_and_delivered_once,
    a_refused_result_row_keeps_the_delegation_open,
    no_statement_of_an_ending_stands_without_the_others,
    a_refused_delegation_is_not_sent,
    nothing_is_sent_before_that_is_durable,
    nothing_is_sent_at_once_before_that_is_durable,
    without_the_tokens_nobody_is_let_in,
);

/// A counter's value in `/metrics`; zero before it is first counted.
pub(crate) async fn counter(api: &Api, name: &str) -> u64 {
    let metrics = api.get(As::Admin, "/metrics").await.expect(200);
    let line = metrics.text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// The books of a case in which Baton lived all the time.
async fn assert_settled(
    server: &Server,
    database: &Database,
    caller: &Workspace,
    agent: &FakeAgent,
    acknowledged: &[String],
) {
    let books = Books {
        server,
        database,
        callers: std::slice::from_ref(caller),
        agent,
        course: Course::Lived,
    };
    books.assert_settled(acknowledged).await;
}

async fn a_panic_in_one_actor_is_felt_by_no_other_and_the_panicked_one_is_rebuilt(
    database: Database,
) {
    let server = Server::start(&database, &[("BATON_FAULTS", "actor_told:panic:20")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let begin = (0..30).map(|_| api.delegated(&caller, &target, "go"));
    let ids = join_all(begin).await;
    assert_settled(&server, &database, &caller, &agent, &ids).await;
    assert_eq!(counter(api, "baton_actor_panics_total").await, 1);
    assert_eq!(counter(api, "baton_actors_rebuilt_total").await, 1);
    assert!(server.log().contains("a delegation's actor panicked"));
}

async fn what_panics_again_and_again_ends_as_internal(database: Database) {
    // Each fault strikes at the next passage that no earlier one has struck at, the first when it is about to be sent.
    let faults = ["actor_told:panic"; 4].join(",");
    let server = Server::start(&database, &[("BATON_FAULTS", &faults)]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.long_url()).await;
    let api = server.api();
    let doomed = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &doomed).await;
    assert_exactly_once(api, &caller, &doomed, Expected::Failed("internal")).await;
    assert_eq!(counter(api, "baton_actor_panics_total").await, 4);
    let other = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &other).await;
    assert_exactly_once(api, &caller, &other, Expected::Completed("echo: go")).await;
    assert_eq!((agent.seen(&doomed), agent.seen(&other)), (0, 1));
    server.assert_invariants().await;
}

async fn a_panic_over_an_answer_ends_what_it_was_the_answer_to(database: Database) {
    let server = Server::start(&database, &[("BATON_FAULTS", "answer_received:panic")]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Failed("outcome_unknown")).await;
    assert_eq!(agent.seen(&id), 1);
    server.assert_invariants().await;
}

async fn a_refused_reply_is_owed_and_delivered_once(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let fault = database.fail_on(
        "INSERT",
        "activity_logs",
        "NEW.activity_type = 'a2a_receive'",
    );
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = api.delegated(&caller, &target, "go").await;
        let whole = api.wait_until_ended(&caller, &id).await;
        assert_eq!(whole["status"], "completed", "the ending stands");
        ids.push(id);
    }
    assert!(api.feed(&caller, "a2a_receive").await.is_empty());
    let owed = "SELECT count(*) FROM delegations WHERE reply = 'owed'";
    assert_eq!(database.count(owed), 3);
    fault.heal();
    let inbox = api.inbox(&caller, 10, 30).await.expect(200);
    assert!(!inbox.body["messages"].as_array().unwrap().is_empty());
    eventually("nothing is owed", async || {
        (database.count(owed) == 0).then_some(())
    })
    .await;
    server.restart().await;
    for id in &ids {
        assert_exactly_once(api, &caller, id, Expected::Completed("echo: go")).await;
    }
    assert_settled(&server, &database, &caller, &agent, &[]).await;
}

async fn a_refused_result_row_keeps_the_delegation_open(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let answered = api.delegated(&caller, &target, "go").await;
    let reported = "reported";
    let record = api.record(&caller, &target, reported, "go").await;
    record.expect(202);
    agent.wait_for(1).await;

    let fault = database.fail_on("INSERT", "activity_logs", "NEW.method = 'delegate_result'");
    agent.release();
    let refusal = api.report_completed(&target, reported, "done").await;
    assert!(refusal.header("retry-after").is_some());
    refusal.expect(503);
    eventually("both endings were refused", async || {
        (counter(api, "baton_writes_refused_total").await >= 2).then_some(())
    })
    .await;
    for id in [&answered, reported] {
        let whole = api.delegation(&caller, id).await.expect(200);
        assert_eq!(whole.str("status"), "dispatched", "not ended without a row");
        assert!(whole.body.get("result").is_none());
    }
    fault.heal();
    api.wait_until_all_ended(&caller).await;
    assert_exactly_once(api, &caller, &answered, Expected::Completed("echo: go")).await;
    assert_exactly_once(api, &caller, reported, Expected::Completed("done")).await;
    assert_eq!(agent.seen(&answered), 1);
    let again = api.report_completed(&target, reported, "done").await;
    assert_eq!(again.expect(200).str("result"), "done");
    server.assert_invariants().await;
}

/// The statements of an ending, in their order, but for the reply's.
const STATEMENTS: [(&str, &str, &str); 4] = [
    ("UPDATE", "delegations", "NEW.ended_at IS NOT NULL"),
    ("UPDATE", "feed_position", "NEW.last > OLD.last"),
    ("INSERT", "activity_logs", "NEW.method = 'delegate_result'"),
    (
        "INSERT",
        "structure_events",
        "NEW.event_type = 'DELEGATION_COMPLETE'",
    ),
];
/// The reply may fail without the others, but nothing may come between it and them.
const REPLY: (&str, &str, &str) = (
    "INSERT",
    "activity_logs",
    "NEW.activity_type = 'a2a_receive'",
);

async fn no_statement_of_an_ending_stands_without_the_others(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let refused = STATEMENTS.map(|statement| (Harm::Refuse, statement));
    let cut = STATEMENTS.map(|statement| (Harm::Cut, statement));
    let late = (Harm::RefuseCommit, STATEMENTS[2]);
    let rest = [late, (Harm::Cut, REPLY)];
    for (harm, statement) in refused.into_iter().chain(cut).chain(rest) {
        harm_an_ending(
            &server, &database, &caller, &target, &agent, harm, statement,
        )
        .await;
    }
    assert_settled(&server, &database, &caller, &agent, &[]).await;
}

async fn harm_an_ending(
    server: &Server,
    database: &Database,
    caller: &Workspace,
    target: &Workspace,
    agent: &FakeAgent,
    harm: Harm,
    (operation, table, condition): (&str, &str, &str),
) {
    let api = server.api();
    let failures = async || {
        counter(api, "baton_writes_refused_total").await
            + counter(api, "baton_commit_failures_total").await
    };
    let before = agent.messages().len();
    agent.hold();
    let id = api.delegated(caller, target, "go").await;
    agent.wait_for(before + 1).await;
    let Some(fault) = database.harm_on(harm, operation, table, condition) else {
        agent.release();
        return;
    };
    let failed = failures().await;
    agent.release();
    eventually("the ending failed again and again", async || {
        (failures().await >= failed + 2).then_some(())
    })
    .await;
    let whole = api.delegation(caller, &id).await.expect(200);
    let where_it_failed = format!("{harm:?} {operation} {table} {condition}");
    assert_eq!(whole.str("status"), "dispatched", "{where_it_failed}");
    let traces =
        "SELECT count(*) FROM activity_logs WHERE method = 'delegate_result' AND delegation_id";
    let traces = database.count(&format!("{traces} = '{id}'"));
    assert_eq!(traces, 0, "{where_it_failed}");
    fault.heal();
    api.wait_until_ended(caller, &id).await;
    assert_exactly_once(api, caller, &id, Expected::Completed("echo: go")).await;
}

async fn a_refused_delegation_is_not_sent(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    for table in ["activity_logs", "structure_events", "delegations"] {
        let fault = database.fail_on("INSERT", table, "1 = 1");
        let mut refusals = vec![
            api.delegate(&caller, &target, "go").await,
            api.record(&caller, &target, "own", "go").await,
        ];
        if table == "delegations" {
            refusals.push(api.report_completed(&caller, "unknown", "done").await);
        }
        for refusal in refusals {
            assert!(refusal.header("retry-after").is_some());
            refusal.expect(503);
        }
        fault.heal();
    }
    assert_eq!((agent.connections(), rows(&database)), (0, 0));
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &id).await;
    assert_eq!(agent.messages().len(), 1);
    assert_settled(&server, &database, &caller, &agent, &[]).await;
}

/// That a request may have left is known before it leaves, or a crash would forget it (rule 1).
async fn nothing_is_sent_before_that_is_durable(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.long_url()).await;
    let api = server.api();
    let fault = database.fail_on("UPDATE", "delegations", "NEW.status = 'dispatched'");
    let id = api.delegated(&caller, &target, "go").await;
    eventually("the intent to send was refused", async || {
        (counter(api, "baton_writes_refused_total").await >= 2).then_some(())
    })
    .await;
    let whole = api.delegation(&caller, &id).await.expect(200);
    assert_eq!(whole.str("status"), "pending");
    assert_eq!(agent.connections(), 0);
    fault.heal();
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: go")).await;
    assert_settled(&server, &database, &caller, &agent, &[]).await;
}

async fn nothing_is_sent_at_once_before_that_is_durable(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    server.knows_by_heart(&caller).await;
    let fault = database.fail_on("INSERT", "delegations", "NEW.status = 'dispatched'");
    for _ in 0..20 {
        api.delegate(&caller, &target, "go").await.expect(503);
    }
    assert_eq!((agent.connections(), rows(&database)), (0, 0));
    fault.heal();
    // Nobody stands in the way of the next.
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &id).await;
    assert_exactly_once(api, &caller, &id, Expected::Completed("echo: go")).await;
    assert_settled(&server, &database, &caller, &agent, &[]).await;
}

fn rows(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM delegations")
        + database.count("SELECT count(*) FROM activity_logs")
}

async fn without_the_tokens_nobody_is_let_in(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let rename = |from: &str, to: &str| {
        database.execute(&format!("ALTER TABLE {from} RENAME TO {to}"));
    };
    rename("workspace_auth_tokens", "hidden");
    let order = json!({"target_id": target.id, "task": "go"});
    let report = json!({"status": "completed"});
    for (method, path, body) in [
        (Method::POST, "delegate", Some(&order)),
        (Method::GET, "delegations", None),
        (Method::GET, "delegations/x", None),
        (Method::POST, "delegations/record", Some(&order)),
        (Method::POST, "delegations/x/update", Some(&report)),
        (Method::GET, "activity", None),
        (Method::POST, "activity", Some(&order)),
        (Method::GET, "inbox", None),
        (Method::POST, "activity/ack", Some(&order)),
        (Method::POST, "notify", Some(&order)),
        (Method::GET, "events/stream", None),
        (Method::GET, "tokens", None),
        (Method::POST, "tokens", Some(&order)),
        (Method::PATCH, "", Some(&order)),
    ] {
        let path = format!("/workspaces/{}/{path}", caller.id);
        let path = path.trim_end_matches('/');
        for by in [&caller, &stranger(&caller)] {
            let by = As::Workspace(by);
            let reply = api.request(method.clone(), by, path, body).await;
            assert!(reply.header("retry-after").is_some(), "{path}");
            reply.expect(503);
        }
        let nobody = api.request(method, As::Nobody, path, body).await;
        nobody.expect(401);
    }
    for path in ["/admin/delegations", "/events", "/workspaces", "/ws"] {
        api.get(As::Workspace(&caller), path).await.expect(503);
    }
    assert_eq!((agent.connections(), rows(&database)), (0, 0));
    rename("hidden", "workspace_auth_tokens");
    let id = api.delegated(&caller, &target, "go").await;
    api.wait_until_ended(&caller, &id).await;
    server.assert_invariants().await;
}

/// Somebody who claims to be that workspace.
fn stranger(workspace: &Workspace) -> Workspace {
    Workspace {
        token: "nobody-has-this".to_owned(),
        ..workspace.clone()
    }
}
