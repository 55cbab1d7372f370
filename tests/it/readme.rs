//! The blocks in README.md and docs/HTTP.md that people copy do what they say.

use std::process::Command;

use crate::support::database::Database;
use crate::support::server::{ADMIN_TOKEN, Server};

crate::on_both_databases!(
    the_quick_start_brings_a_reply,
    the_page_of_plain_http_does_what_it_says,
);

const README: &str = include_str!("../../README.md");
const HTTP: &str = include_str!("../../docs/HTTP.md");

/// What stands between the markers, without the fence.
fn block(page: &'static str, name: &str) -> &'static str {
    let (_, rest) = page
        .split_once(&format!("<!-- {name} -->"))
        .expect("a start");
    let (block, _) = rest
        .split_once(&format!("<!-- /{name} -->"))
        .expect("an end");
    let block = block.trim().strip_prefix("```sh").expect("a fence");
    block.strip_suffix("```").expect("the fence's end")
}

/// What a block prints that is run against a server.
async fn said(server: &Server, block: &str) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let token = directory.path().join("baton.db.admin-token");
    std::fs::write(token, ADMIN_TOKEN).expect("the token's file");
    let usual = "http://127.0.0.1:8080";
    assert!(block.contains(usual));
    let script = block.replace(usual, &server.api().base());
    let directory = directory.path().to_owned();
    let run = move || {
        Command::new("sh")
            .args(["-eu", "-c", &script])
            .current_dir(directory)
            .output()
    };
    let run = tokio::task::spawn_blocking(run).await.expect("a thread");
    let output = run.expect("sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    said
}

async fn the_quick_start_brings_a_reply(database: Database) {
    let server = Server::start(&database, &[]).await;
    let said = said(&server, block(README, "quickstart")).await;
    let (_, inbox) = said
        .split_once(r#"{"last_acked_seq"#)
        .unwrap_or_else(|| panic!("no inbox in {said}"));
    assert!(
        inbox.contains(r#""parts":[{"kind":"text","text":"1 2 3"}]"#),
        "{said}"
    );
    server.assert_invariants().await;
}

async fn the_page_of_plain_http_does_what_it_says(database: Database) {
    let server = Server::start(&database, &[]).await;
    let said = said(&server, block(HTTP, "http")).await;
    // The reply is there by the inbox, by a poll, on a stream and on a socket, and acknowledged.
    let reply = r#""parts":[{"kind":"text","text":"1 2 3"}]"#;
    assert_eq!(said.matches(reply).count(), 3, "{said}");
    assert_eq!(said.matches("INBOX_MESSAGE").count(), 2, "{said}");
    for shown in [
        r#""idempotent_hit":true"#,
        r#""method":"message/send""#,
        "at two",
        r#"{"last_acked_seq":"#,
        "not needed any more",
    ] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
    server.assert_invariants().await;
}
