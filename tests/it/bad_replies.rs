//! Any bytes that an agent sends end as one stored, readable outcome (rule 9; lessons U02, U03, A06).

use futures_util::future::join_all;

use crate::support::agent::{Behaviour, FakeAgent};
use crate::support::client::Workspace;
use crate::support::database::Database;
use crate::support::history::{Expected, assert_exactly_once};
use crate::support::server::{Family, Server};

crate::on_both_databases!(
    any_bytes_of_an_agent_end_as_one_readable_outcome,
    a_reply_beyond_the_limit_fails_and_one_within_is_whole,
);

/// A text, or the class of an error.
type Outcome = Result<String, &'static str>;

/// A JSON-RPC answer with this result, `$ID` standing for the id of the request.
fn result(result: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":"$ID","result":{result}}}"#).into_bytes()
}

/// An answer with these bytes as its text.
fn text(bytes: &[u8]) -> Vec<u8> {
    let parts = r#"[{"kind":"text","text":"@"}]"#;
    let whole = result(&format!(r#"{{"kind":"message","parts":{parts}}}"#));
    let at = whole.iter().position(|byte| *byte == b'@').unwrap();
    [&whole[..at], bytes, &whole[at + 1..]].concat()
}

fn nested() -> String {
    "[".repeat(100_000) + &"]".repeat(100_000)
}

/// Answers, odd as they are.
fn answers() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let number = r#"{"parts":[{"kind":"text","text":"ok","metadata":{"n":1e400}}]}"#;
    let nested_parts = format!(r#"{{"kind":"message","parts":{}}}"#, nested());
    let marked = [b"\xef\xbb\xbf".to_vec(), text(b"ok")].concat();
    let done = |text: &str| Ok(text.to_owned());
    vec![
        ("NUL", text(br"a\u0000b"), done("a\u{fffd}b")),
        ("lone surrogate", text(br"a\ud800b"), done("a\u{fffd}b")),
        ("no UTF-8", text(b"a\xffb"), done("a\u{fffd}b")),
        ("escapes", text(br"\u001b[31m\r\n"), done("\u{1b}[31m\r\n")),
        ("byte-order mark", marked, done("ok")),
        ("a number of no size", result(number), done("ok")),
        // Parts without text are the text, as they were sent.
        ("nested parts", result(&nested_parts), Ok(nested())),
    ]
}

/// No answers.
fn nonsense() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let (malformed, empty) = (Err("malformed_response"), Err("empty_response"));
    let no_parts = result(r#"{"kind":"message","parts":[]}"#);
    let no_result = br#"{"jsonrpc":"2.0","id":"$ID"}"#.to_vec();
    vec![
        ("nothing", Vec::new(), empty.clone()),
        ("spaces", b" \n ".to_vec(), empty.clone()),
        ("an empty message", no_parts, empty),
        ("half", text(b"a")[..60].to_vec(), Err("truncated")),
        ("raw NUL", text(b"a\0b"), malformed.clone()),
        ("nested", nested().into_bytes(), malformed.clone()),
        ("HTML", b"<p>502</p>".to_vec(), malformed.clone()),
        ("null", b"null".to_vec(), malformed.clone()),
        ("no result", no_result, malformed.clone()),
        ("a null result", result("null"), malformed.clone()),
        ("binary", (0..=255).collect(), malformed),
    ]
}

async fn any_bytes_of_an_agent_end_as_one_readable_outcome(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let caller = api.create_workspace("caller", None, None).await;
    let checks = answers()
        .into_iter()
        .chain(nonsense())
        .map(|(name, bytes, expected)| check(&server, &caller, name, bytes, expected));
    join_all(checks).await;
    api.try_get("/health").await.expect("alive").expect(200);
    server.assert_invariants().await;
}

async fn check(server: &Server, caller: &Workspace, name: &str, bytes: Vec<u8>, expected: Outcome) {
    let api = server.api();
    let agent = FakeAgent::start(Behaviour::Raw(bytes)).await;
    let url = agent.url();
    let target = api.create_workspace(name, Some(caller), Some(&url)).await;
    let id = api.delegated(caller, &target, name).await;
    let whole = api.wait_until_ended(caller, &id).await;
    let expected = match &expected {
        Ok(text) => Expected::Completed(text),
        Err(class) => Expected::Failed(class),
    };
    assert_exactly_once(api, caller, &id, expected).await;
    if let Some(error) = whole["error"].as_str() {
        assert!(!error.chars().any(char::is_control), "{name}: {error:?}");
    }
    assert_eq!(agent.seen(&id), 1, "{name}");
}

async fn a_reply_beyond_the_limit_fails_and_one_within_is_whole(database: Database) {
    let limit = 100_000;
    let server = Server::start(&database, &[("BATON_MAX_REPLY_BYTES", "100000")]).await;
    let agent = FakeAgent::start(Behaviour::Hang).await;
    let Family { caller, target, .. } = server.family(&agent.url()).await;
    let api = server.api();
    let envelope =
        r#"{"id":"$ID","result":{"kind":"message","parts":[{"kind":"text","text":"@"}]}}"#;
    let around =
        envelope.len() - "@".len() + "00000000-0000-0000-0000-000000000000".len() - "$ID".len();
    for excess in [0, 1] {
        let text = "x".repeat(limit - around + excess);
        agent.behave(Behaviour::Raw(envelope.replace('@', &text).into_bytes()));
        let id = api.delegated(&caller, &target, "go").await;
        let whole = api.wait_until_ended(&caller, &id).await;
        if excess == 0 {
            assert_exactly_once(api, &caller, &id, Expected::Completed(&text)).await;
        } else {
            let error = whole["error"].as_str().unwrap();
            assert!(error.contains("100000"), "it names the limit: {error}");
            assert_exactly_once(api, &caller, &id, Expected::Failed("reply_too_large")).await;
        }
    }
    server.assert_invariants().await;
}
