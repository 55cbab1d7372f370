//! The block in README.md that people copy does what it says.

use std::process::Command;

use crate::support::database::Database;
use crate::support::server::{ADMIN_TOKEN, Server};

crate::on_both_databases!(the_quick_start_brings_a_reply,);

const README: &str = include_str!("../../README.md");

/// What stands between the markers, without the fence.
fn quick_start() -> &'static str {
    let (_, rest) = README.split_once("<!-- quickstart -->").expect("a start");
    let (block, _) = rest.split_once("<!-- /quickstart -->").expect("an end");
    let block = block.trim().strip_prefix("```sh").expect("a fence");
    block.strip_suffix("```").expect("the fence's end")
}

async fn the_quick_start_brings_a_reply(database: Database) {
    let server = Server::start(&database, &[]).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let token = directory.path().join("baton.db.admin-token");
    std::fs::write(token, ADMIN_TOKEN).expect("the token's file");
    let usual = "http://127.0.0.1:8080";
    assert!(quick_start().contains(usual));
    let script = quick_start().replace(usual, &server.api().base());
    let directory = directory.path().to_owned();
    let run = move || {
        Command::new("sh")
            .args(["-eu", "-c", &script])
            .current_dir(directory)
            .output()
    };
    let run = tokio::task::spawn_blocking(run).await.expect("a thread");
    let output = run.expect("sh");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    let (_, inbox) = said
        .split_once(r#"{"last_acked_seq"#)
        .unwrap_or_else(|| panic!("no inbox in {said}"));
    assert!(
        inbox.contains(r#""parts":[{"kind":"text","text":"1 2 3"}]"#),
        "{said}"
    );
    server.assert_invariants().await;
}
