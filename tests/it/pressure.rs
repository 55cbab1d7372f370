//! More comes than can be done: what is let in is answered soon, the rest is refused at once, nobody is starved.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;

use crate::faults::counter;
use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::raw::{self, Raw};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    a_flood_is_refused_while_the_quiet_are_served,
    large_bodies_do_not_add_up,
    who_hangs_up_leaves_no_ticket_behind,
);

/// A database that takes 20 writes in a tenth of a second.
const SLOW: [(&str, &str); 3] = [
    ("BATON_MAX_WAIT_MS", "250"),
    ("BATON_FAULTS", "during_commit:delay:100"),
    ("BATON_BATCH_SIZE", "20"),
];
/// How many ask at once.
const CROWD: usize = 150;

/// A refusal of the gate: it says when to come again, and nothing was done.
fn assert_shed(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text);
    assert_eq!(reply.str("code"), "overloaded", "{}", reply.text);
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=11).contains(&wait), "{wait}");
}

async fn a_flood_is_refused_while_the_quiet_are_served(database: Database) {
    let server = Server::start(&database, &SLOW).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family {
        root,
        caller: noisy,
        target,
    } = server.family(&agent.url()).await;
    let api = server.api();
    let quiet = api.create_workspace("quiet", Some(&root), None).await;
    let flood = stream::iter(0..CROWD * 10).map(|number| {
        let id = format!("noisy {number}");
        let (noisy, target) = (&noisy, &target);
        async move { api.record(noisy, target, &id, "go").await }
    });
    let flood = flood.buffer_unordered(CROWD).collect::<Vec<Reply>>();
    let few = async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let began = Instant::now();
            let id = format!("quiet {number}");
            api.record(&quiet, &target, &id, "go").await.expect(202);
            let report = api.report_completed(&target, &id, "done").await;
            report.expect(200);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let (replies, slowest) = join(flood, few).await;
    // Both requests in sequence, on a machine that is busy with the crowd.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // The load is over: everybody is let in at once.
    let after = (0..20).map(|number| {
        let id = format!("after {number}");
        let (noisy, target) = (&noisy, &target);
        async move { api.record(noisy, target, &id, "go").await.expect(202) }
    });
    let after = join_all(after).await.len();

    let (accepted, shed): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 202);
    shed.iter().for_each(assert_shed);
    let kept = |reply: &Reply| reply.header("connection") != Some("close");
    assert!(shed.iter().all(kept), "a refusal costs no connection");
    assert!(
        accepted.len() > 50 && shed.len() > CROWD,
        "{} accepted",
        accepted.len()
    );
    assert!(counter(api, "baton_requests_shed_total{reason=\"share\"}").await > 0);
    let recorded = "SELECT count(*) FROM delegations WHERE origin = 'recorded'";
    let expected = i64::try_from(accepted.len() + after + 20).unwrap();
    assert_eq!(database.count(recorded), expected);
    assert!(
        server
            .log()
            .contains("more requests come than can be answered in time")
    );
    assert_nothing_held(api).await;
    server.assert_invariants().await;
}

/// Whatever was let in is over.
async fn assert_nothing_held(api: &Api) {
    eventually("no ticket is taken, no body is held", async || {
        let held =
            counter(api, "baton_tickets_taken").await + counter(api, "baton_body_bytes").await;
        (held == 0).then_some(())
    })
    .await;
}

async fn large_bodies_do_not_add_up(database: Database) {
    let mut variables = SLOW.to_vec();
    variables.push(("BATON_MAX_BODY_BYTES", "2097152"));
    variables.push(("BATON_MAX_BODIES_BYTES", "8388608"));
    let server = Server::start(&database, &variables).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let task = "x".repeat(2 * 1000 * 1000);
    let path = format!("/workspaces/{}/delegations/record", caller.id);
    let many = (0..100).map(|number| {
        let id = format!("large {number}");
        let body = json!({"target_id": target.id, "task": task, "delegation_id": id});
        api.try_request(
            Method::POST,
            As::Workspace(&caller),
            &path,
            Some(body.to_string().into()),
        )
    });
    let replies: Vec<Reply> = join_all(many).await.into_iter().flatten().collect();
    assert_eq!(replies.len(), 100, "everybody gets an answer");
    let (accepted, shed): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 202);
    shed.iter().for_each(assert_shed);
    assert!(
        !accepted.is_empty() && !shed.is_empty(),
        "{} accepted",
        accepted.len()
    );
    assert!(counter(api, "baton_requests_shed_total{reason=\"bodies\"}").await > 0);
    let most = most_memory(&server);
    assert!(most < 200 << 10, "{most} KiB for bodies of 8 MiB together");
    api.record(&caller, &target, "small", "go")
        .await
        .expect(202);
    assert_nothing_held(api).await;
}

/// The most that the server ever had in memory, in KiB.
fn most_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

async fn who_hangs_up_leaves_no_ticket_behind(database: Database) {
    let server = Server::start(&database, &SLOW).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let hang_up = |number: usize| send_and_leave(api, &caller, &target, number);
    join_all((0..40).map(hang_up)).await;
    eventually("what they began is done", async || {
        let recorded = "SELECT count(*) FROM delegations WHERE origin = 'recorded'";
        (database.count(recorded) == 40).then_some(())
    })
    .await;
    assert_nothing_held(api).await;
}

async fn send_and_leave(api: &Api, caller: &Workspace, target: &Workspace, number: usize) {
    let id = format!("left {number}");
    let body = json!({"target_id": target.id, "task": "go", "delegation_id": id});
    let path = format!("/workspaces/{}/delegations/record", caller.id);
    let mut client = Raw::connect(api).await;
    client
        .send(&raw::post(caller, &path, body.to_string().as_bytes()))
        .await;
    client.half_close().await;
}
