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

/// Replies, `$ID` standing for the id of the request, and what they come to.
fn replies() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let result = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":"$ID","result":{result}}}"#);
    let text = |text: &str| {
        let parts = format!(r#"[{{"kind":"text","text":"{text}"}}]"#);
        result(&format!(
            r#"{{"kind":"message","role":"agent","parts":{parts}}}"#
        ))
        .into_bytes()
    };
    let with = |bytes: &[u8]| {
        let whole = text("@");
        let at = whole.iter().position(|byte| *byte == b'@').unwrap();
        [&whole[..at], bytes, &whole[at + 1..]].concat()
    };
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let number =
        r#"{"kind":"message","parts":[{"kind":"text","text":"ok","metadata":{"n":1e400}}]}"#;
    let nested = format!(r#"{{"kind":"message","role":"agent","parts":{deep}}}"#);
    let failed = |class| Err(class);
    let done = |text: &str| Ok(text.to_owned());
    vec![
        ("NUL", text(r"a\u0000b"), done("a\u{fffd}b")),
        ("lone surrogate", text(r"a\ud800b"), done("a\u{fffd}b")),
        (
            "invalid UTF-8",
            with(b"a\xff\xfeb"),
            done("a\u{fffd}\u{fffd}b"),
        ),
        ("raw NUL", with(b"a\0b"), failed("malformed_response")),
        (
            "escapes",
            text(r"\u001b[31m\r\n\\"),
            done("\u{1b}[31m\r\n\\"),
        ),
        (
            "byte-order mark",
            [&b"\xef\xbb\xbf"[..], &text("ok")].concat(),
            done("ok"),
        ),
        (
            "a number of no size",
            result(number).into_bytes(),
            done("ok"),
        ),
        (
            "nested arrays",
            deep.clone().into_bytes(),
            failed("malformed_response"),
        ),
        (
            "HTML",
            b"<!doctype html><p>502</p>".to_vec(),
            failed("malformed_response"),
        ),
        ("nothing", Vec::new(), failed("empty_response")),
        ("spaces", b" \n ".to_vec(), failed("empty_response")),
        (
            "half a JSON text",
            with(b"a")[..60].to_vec(),
            failed("truncated"),
        ),
        ("null", b"null".to_vec(), failed("malformed_response")),
        (
            "no result",
            br#"{"jsonrpc":"2.0","id":"$ID"}"#.to_vec(),
            failed("malformed_response"),
        ),
        (
            "an empty message",
            result(r#"{"kind":"message","parts":[]}"#).into(),
            failed("empty_response"),
        ),
        (
            "a null result",
            result("null").into(),
            failed("malformed_response"),
        ),
        ("binary", (0..=255).collect(), failed("malformed_response")),
        // Parts without text are the text, as they were sent.
        ("nested parts", result(&nested).into(), Ok(deep.clone())),
    ]
}

async fn any_bytes_of_an_agent_end_as_one_readable_outcome(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let caller = api.create_workspace("caller", None, None).await;
    let checks = replies()
        .into_iter()
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
