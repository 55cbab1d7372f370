//! Killed or told to stop, and started again: everything accepted is accounted for (rules 1, 2 and 6).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, Workspace};
use crate::support::database::Database;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::poller::Poller;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    told_to_stop_it_ends_in_time_and_what_waits_goes_on_later,
    killed_it_takes_up_everything_that_was_live,
    killed_at_any_point_it_neither_loses_nor_repeats,
    a_second_process_on_an_sqlite_file_is_refused,
);

/// Every delegation of these tests is within its deadline and its agent is there again in a moment.
const SOON: (&str, &str) = ("BATON_RETRY_BASE_MS", "50");

async fn told_to_stop_it_ends_in_time_and_what_waits_goes_on_later(database: Database) {
    let server = Server::start(&database, &[SOON]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let hanging = api.delegated(&caller, &target, "hang").await;
    agent.wait_for(1).await;
    let mut listener = Raw::connect(api).await;
    let path = format!("/workspaces/{}/events/stream", caller.id);
    listener.send(&raw::get(&caller, &path)).await;
    listener.read_until(": ping").await;
    let begun = Instant::now();
    assert_eq!(server.terminate().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    listener.read_to_the_end().await;
    agent.release();
    server.start_again().await;
    api.wait_until_ended(&caller, &hanging).await;
    assert_exactly_once(api, &caller, &hanging, Expected::Failed("outcome_unknown")).await;
    assert_eq!(agent.seen(&hanging), 1);
    server.assert_invariants().await;
}

/// A workspace below `parent` with an agent whose card may declare that it drops a repeated messageId.
async fn worker(api: &Api, parent: &Workspace, url: &str, deduplicates: bool) -> Workspace {
    let target = api
        .create_workspace("worker", Some(parent), Some(url))
        .await;
    let extensions = if deduplicates {
        json!([{"uri": "urn:baton:ext:idempotent-message-id:v1"}])
    } else {
        json!([])
    };
    let card = json!({"name": "worker", "url": "", "capabilities": {"extensions": extensions}});
    api.register(&target, url, &card).await.expect(200);
    target
}

/// A delegation that its agent received and says nothing to.
async fn dispatch_and_hold(
    api: &Api,
    caller: &Workspace,
    agent: &FakeAgent,
    deduplicates: bool,
) -> String {
    agent.hold();
    let target = worker(api, caller, &agent.url(), deduplicates).await;
    let id = api.delegated(caller, &target, "dispatched").await;
    agent.wait_for(1).await;
    id
}

async fn killed_it_takes_up_everything_that_was_live(database: Database) {
    // Two places among the outbound calls: whoever comes third stays pending.
    let limits = [SOON, ("BATON_MAX_OUTBOUND", "2")];
    let server = Server::start(&database, &limits).await;
    let api = server.api();
    let caller = api.create_workspace("caller", None, None).await;
    let (plain, careful, away) = (
        FakeAgent::start(Behaviour::Echo).await,
        FakeAgent::start(Behaviour::Echo).await,
        FakeAgent::start(Behaviour::Echo).await,
    );
    away.stop();
    let absent = worker(api, &caller, &away.url(), false).await;
    let queued = api.delegated(&caller, &absent, "queued").await;
    api.wait_until_status(&caller, &queued, &["queued"]).await;
    let lost = dispatch_and_hold(api, &caller, &plain, false).await;
    let resent = dispatch_and_hold(api, &caller, &careful, true).await;
    let third = FakeAgent::start(Behaviour::Echo).await;
    let target = worker(api, &caller, &third.url(), false).await;
    let pending = api.delegated(&caller, &target, "pending").await;
    api.wait_until_status(&caller, &pending, &["pending"]).await;
    let recorded = api.record(&caller, &target, "recorded", "task").await;
    recorded.expect(202);

    server.kill9();
    for agent in [&plain, &careful] {
        agent.release();
    }
    away.resume().await;
    server.start_again().await;
    let went_on = [
        (&queued, Expected::Completed("echo: queued"), &away, 1),
        (&pending, Expected::Completed("echo: pending"), &third, 1),
        (&lost, Expected::Failed("outcome_unknown"), &plain, 1),
        (
            &resent,
            Expected::Completed("echo: dispatched"),
            &careful,
            2,
        ),
    ];
    for (id, expected, agent, seen) in went_on {
        api.wait_until_ended(&caller, id).await;
        assert_exactly_once(api, &caller, id, expected).await;
        assert_eq!(agent.seen(id), seen, "{expected:?}");
    }
    report_recorded(api, &caller, &target).await;
    server.assert_invariants().await;
}

/// What an agent sent itself stays open, and may still be reported.
async fn report_recorded(api: &Api, caller: &Workspace, target: &Workspace) {
    let whole = api.delegation(caller, "recorded").await.expect(200);
    assert_eq!(whole.str("status"), "dispatched");
    let report = api.report_completed(target, "recorded", "done").await;
    report.expect(200);
    assert_exactly_once(api, caller, "recorded", Expected::Completed("done")).await;
}

async fn killed_at_any_point_it_neither_loses_nor_repeats(database: Database) {
    let agent = FakeAgent::start(Behaviour::Echo).await;
    // Of a delegation's three commits the second is the intent to send.
    let points = ["before_send", "answer_received", "committed:abort:2"];
    let mut server = Server::start(&database, &[SOON]).await;
    let caller = server.api().create_workspace("caller", None, None).await;
    let target = worker(server.api(), &caller, &agent.long_url(), false).await;
    let mut poller = Poller::default();
    for (number, point) in points.into_iter().enumerate() {
        let fault = if point.contains(':') {
            point.to_owned()
        } else {
            format!("{point}:abort")
        };
        server.restart_with(&[("BATON_FAULTS", &fault)]).await;
        let task = format!("task {number}");
        let id = server.api().delegated(&caller, &target, &task).await;
        assert!(!server.ended().await.success(), "{point}");
        server.set("BATON_FAULTS", "");
        server.start_again().await;
        let api = server.api();
        let whole = api.wait_until_ended(&caller, &id).await;
        // The intent to send is durable before the sending, so that nobody can tell whether it happened.
        let expected = Expected::Failed("outcome_unknown");
        assert_exactly_once(api, &caller, &id, expected).await;
        assert!(agent.seen(&id) <= 1, "{point}: {whole:#}");
        let messages = poller.drain(api, &caller).await;
        assert_eq!(messages.len(), 1, "{point}");
        assert_eq!(whole["attempts"], Value::from(1));
    }
    server.assert_invariants().await;
}

/// Each would take charge of what the other has live.
async fn a_second_process_on_an_sqlite_file_is_refused(database: Database) {
    if !database.is_sqlite() {
        // There it becomes another node: see `nodes`.
        return;
    }
    let server = Server::start(&database, &[]).await;
    let second = Server::run_to_its_end(&database, &[]);
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another Baton is running"), "{said}");
    server.assert_invariants().await;
}
