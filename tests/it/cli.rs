//! The command line: what docs/CLI.md says, and how a command ends.

use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::Workspace;
use crate::support::database::Database;
use crate::support::server::{ADMIN_TOKEN, Family, Server};

crate::on_both_databases!(
    the_page_of_the_command_line_does_what_it_says,
    a_result_is_printed_and_the_status_says_how_it_ended,
    who_watches_sees_the_end_although_the_server_is_killed,
);

const PAGE: &str = include_str!("../../docs/CLI.md");
const BATON: &str = env!("CARGO_BIN_EXE_baton");

async fn the_page_of_the_command_line_does_what_it_says(database: Database) {
    let server = Server::start(&database, &[]).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::symlink(BATON, directory.path().join("baton")).expect("a link");
    let (_, rest) = PAGE.split_once("<!-- cli -->\n```sh").expect("a start");
    let (block, _) = rest.split_once("```\n<!-- /cli -->").expect("an end");
    let usual = "http://127.0.0.1:8080";
    assert!(block.contains(usual));
    let path = std::env::var("PATH").expect("a path");
    let output = Command::new("sh")
        .args(["-eu", "-c", &block.replace(usual, &server.api().base())])
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .env("ADMIN_TOKEN", ADMIN_TOKEN)
        .current_dir(directory.path())
        .output()
        .await
        .expect("sh");
    let said = printed(&output);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    let (before, after) = said.split_once("DELEGATION_ID").expect("a list");
    assert!(before.contains("auth_token"), "{before}");
    // The task in the list, in the worker's inbox and in the whole of it; the result there and in the reply.
    for (what, times) in [("Count to three", 3), ("1 2 3", 2), ("cancelled", 1)] {
        assert!(after.matches(what).count() >= times, "{what}: {after}");
    }
    server.assert_invariants().await;
}

/// Runs a command as this workspace.
async fn run(server: &Server, by: &Workspace, arguments: &[&str]) -> Output {
    command(server, by, arguments)
        .output()
        .await
        .expect("baton")
}

fn command(server: &Server, by: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(BATON);
    command
        .args(arguments)
        .env_clear()
        .env("BATON_URL", server.api().base())
        .env("BATON_TOKEN", &by.token)
        .env("BATON_WORKSPACE", &by.id)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn a_result_is_printed_and_the_status_says_how_it_ended(database: Database) {
    let server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    let Family { caller, root, .. } = server.family(&agent.url()).await;
    let run = async |arguments: &[&str]| {
        let output = run(&server, &caller, arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), printed(&output), complaint)
    };
    let delegate = ["delegate", "target", "the task", "--wait"];
    let (status, result, complaint) = run(&delegate).await;
    assert_eq!(
        (status, result.as_str()),
        (Some(0), "echo: the task\n"),
        "{complaint}"
    );
    agent.behave(Behaviour::Error(-32000, "no \u{1b}[31mpaper".to_owned()));
    let (status, result, complaint) = run(&delegate).await;
    assert_eq!((status, result.as_str()), (Some(1), ""), "{complaint}");
    assert!(complaint.contains("paper") && !complaint.contains('\u{1b}'));
    for (arguments, expected, said) in [
        (&["get", "unknown"][..], 3, "delegation not found (404)"),
        (
            &["delegate", "nobody", "x"],
            3,
            "no workspace is called \"nobody\"",
        ),
        (&["list", "--status", "lost"], 3, "unknown status filter"),
        (&["inbox", "--limit", "0"], 2, "--limit"),
        (&["report", "x"], 2, "--completed"),
        (
            &["list", "--url", "http://127.0.0.1:1"],
            4,
            "cannot be reached",
        ),
    ] {
        let (status, _, complaint) = run(arguments).await;
        assert_eq!(status, Some(expected), "{arguments:?}: {complaint}");
        assert!(complaint.contains(said), "{arguments:?}: {complaint}");
    }
    let (status, json, _) = run(&["inbox", "--json", "--ack"]).await;
    let inbox: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (status, inbox["messages"].as_array().map(Vec::len)),
        (Some(0), Some(2))
    );
    let (_, json, _) = run(&["inbox", "--json"]).await;
    let inbox: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(inbox["messages"], serde_json::json!([]));
    let foreign = ["list", "--as", &root.id];
    let (status, _, complaint) = run(&foreign).await;
    assert_eq!(status, Some(3), "{complaint}");
}

async fn who_watches_sees_the_end_although_the_server_is_killed(database: Database) {
    let mut server = Server::start(&database, &[]).await;
    let agent = FakeAgent::start(Behaviour::Echo).await;
    agent.hold();
    let Family { caller, .. } = server.family(&agent.url()).await;
    let delegate = ["delegate", "target", "x", "--redelivery", "always"];
    let begun = run(&server, &caller, &delegate).await;
    let id = printed(&begun);
    let mut watch = command(&server, &caller, &["watch", id.trim()]);
    let mut waiting = watch.spawn().expect("baton");
    agent.wait_for(1).await;
    // It says how the delegation stands once it follows it.
    let mut told = BufReader::new(waiting.stderr.take().expect("a pipe")).lines();
    let first = told.next_line().await.expect("a pipe").expect("a line");
    assert!(first.starts_with("dispatched"), "{first}");
    let base = server.api().base();
    let (_, port) = base.rsplit_once(':').expect("a port");
    server.restart_with(&[("PORT", port)]).await;
    agent.release();
    let output = waiting.wait_with_output().await.expect("an end");
    assert_eq!(printed(&output), "echo: x\n");
    assert!(output.status.success());
    server.assert_invariants().await;
}
