//! The page is there for everybody, whole and unchanging; what it shows needs a credential, which browsers can give.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use url::Url;

use crate::support::PATIENCE;
use crate::support::client::{Api, As, Reply, Workspace};
use crate::support::database::Database;
use crate::support::raw::Raw;
use crate::support::server::{ADMIN_TOKEN, INBOX_PUSH, Server};

crate::on_both_databases!(
    the_page_is_whole_and_locked_in,
    a_file_that_is_known_is_not_sent_again,
    nothing_else_is_served_as_a_file,
    to_load_the_page_costs_no_allowance,
    a_session_says_who_speaks_and_where_events_go_on,
    a_code_that_nobody_gave_signs_nobody_in,
    a_browser_opens_a_socket_by_its_subprotocols,
);

/// No script, style or address but the page's own.
const POLICY: [&str; 9] = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
];

/// A file as nobody in particular gets it.
async fn file(api: &Api, path: &str) -> Reply {
    api.get(As::Nobody, path).await
}

async fn file_with(api: &Api, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
    let reply = api.try_request_with(method, As::Nobody, path, None, headers);
    reply.await.expect("an answer")
}

/// What a file of the page names in quotes: modules as they are imported, the rest by its place below the page.
fn named(path: &str, text: &str) -> BTreeSet<String> {
    let root = Url::parse("http://page/").expect("a URL");
    let here = root.join(path).expect("a path");
    let is_module = path.strip_suffix(".js").is_some();
    let place = |name: &str| {
        let imported = name.starts_with("./") || name.starts_with("../");
        if is_module && imported {
            here.join(name).ok()
        } else if name.starts_with("assets/") {
            root.join(name).ok()
        } else {
            None
        }
    };
    let quoted = text.split(['"', '`', '\'']);
    let names = quoted.filter(|name| name.contains('.') && !name.contains([' ', '$', '\n']));
    let places = names.filter_map(place);
    places.map(|place| place.path().to_owned()).collect()
}

async fn the_page_is_whole_and_locked_in(database: Database) {
    let server = Server::start(&database, &[]).await;
    let mut seen = BTreeMap::new();
    let mut open = vec!["/".to_owned()];
    while let Some(path) = open.pop() {
        let reply = file(server.api(), &path).await.expect(200);
        assert_locked_in(&reply);
        let (_, extension) = path.rsplit_once('.').unwrap_or(("", "html"));
        let content_type = match extension {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{path}: what is {other}?"),
        };
        assert_eq!(reply.header("content-type"), Some(content_type), "{path}");
        open.extend(
            named(&path, &reply.text)
                .into_iter()
                .filter(|name| !seen.contains_key(name)),
        );
        seen.insert(path, reply);
    }
    for expected in [
        "/assets/app.js",
        "/assets/vendor.js",
        "/assets/canvas/view.js",
        "/assets/style.css",
        "/assets/icon.svg",
    ] {
        assert!(
            seen.contains_key(expected),
            "{expected} is not among {:?}",
            seen.keys()
        );
    }
    let page = &seen["/"].text;
    assert!(!page.contains("<script>") && !page.contains("<style") && !page.contains("style="));
}

fn assert_locked_in(reply: &Reply) {
    let policy = reply.header("content-security-policy").expect("a policy");
    let parts: Vec<&str> = policy.split(';').map(str::trim).collect();
    assert_eq!(parts, POLICY);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    let tag = reply.header("etag").expect("a tag");
    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
}

async fn a_file_that_is_known_is_not_sent_again(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    for path in ["/", "/assets/app.js", "/assets/canvas/view.js"] {
        let whole = file(api, path).await.expect(200);
        let tag = whole.header("etag").unwrap();
        let get = async |known: &str| {
            let headers = [("if-none-match", known)];
            file_with(api, Method::GET, path, &headers).await
        };
        for known in [tag, &format!("W/{tag}"), &format!("\"other\", {tag}"), "*"] {
            let reply = get(known).await.expect(304);
            assert_eq!((reply.header("etag"), &*reply.text), (Some(tag), ""));
            assert_eq!(reply.header("cache-control"), Some("no-cache"));
        }
        for unknown in ["\"other\"", "senseless", ""] {
            assert_eq!(get(unknown).await.expect(200).text, whole.text);
        }
        let head = file_with(api, Method::HEAD, path, &[]).await.expect(200);
        assert_eq!(head.text, "");
        for name in [
            "etag",
            "content-type",
            "content-length",
            "content-security-policy",
        ] {
            assert_eq!(head.header(name), whole.header(name), "{name} of {path}");
        }
    }
    let tags = ["/", "/assets/app.js"].map(|path| file(api, path));
    let [page, app] = tags.map(|reply| async { reply.await.header("etag").map(ToOwned::to_owned) });
    assert_ne!(page.await, app.await);
}

async fn nothing_else_is_served_as_a_file(database: Database) {
    let server = Server::start(&database, &[]).await;
    for path in [
        "/assets",
        "/assets/",
        "/assets/canvas",
        "/assets/canvas/",
        "/assets/nothing.js",
        "/assets/app.js/",
        "/assets//app.js",
        "/assets/./app.js",
        "/assets/canvas/../app.js",
        "/assets/../mod.rs",
        "/assets/../vendor/package.json",
        "/assets/../../../Cargo.toml",
        "/assets/..%2fmod.rs",
        "/assets/%2e%2e/mod.rs",
        "/assets/%2e%2e%2fmod.rs",
        "/assets/..%5cmod.rs",
        "/assets/..\\mod.rs",
        "/assets//etc/passwd",
        "/assets/%2fetc%2fpasswd",
        "/assets/app.js%00",
        "/assets/%ff",
        "/../Cargo.toml",
        "/index.html",
    ] {
        // No client sends such paths as they are.
        let mut connection = Raw::connect(server.api()).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: baton\r\nConnection: close\r\n\r\n");
        connection.send(request.as_bytes()).await;
        let reply = connection.read_to_the_end().await;
        assert!(reply.starts_with("HTTP/1.1 404"), "{path}: {reply}");
        assert!(reply.ends_with("404 page not found"), "{path}: {reply}");
    }
    for path in ["/", "/assets/app.js"] {
        let post = server.api().post(As::Admin, path, &json!({})).await;
        assert_eq!(post.expect(404).text, "404 page not found");
    }
}

async fn to_load_the_page_costs_no_allowance(database: Database) {
    let server = Server::start(&database, &[("RATE_LIMIT", "60")]).await;
    let api = server.api();
    for _ in 0..70 {
        let reply = file(api, "/assets/style.css").await.expect(200);
        assert_eq!(reply.header("x-ratelimit-remaining"), None);
    }
    let counted = api.get(As::Nobody, "/session").await.expect(401);
    assert!(counted.header("x-ratelimit-remaining").is_some());
    let posted = api.post(As::Nobody, "/", &json!({})).await;
    assert!(posted.header("x-ratelimit-remaining").is_some());
}

async fn a_session_says_who_speaks_and_where_events_go_on(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let own = api.create_workspace("Öwn \u{1f426}", None, None).await;
    let admin = api.admin_get("/session").await.expect(200);
    assert_eq!(
        (admin.str("principal"), &admin.body["inbox_push"]),
        ("admin", &json!(true))
    );
    assert_eq!(admin.str("version"), env!("CARGO_PKG_VERSION"));
    assert!(admin.body.get("workspace_id").is_none() && admin.body.get("name").is_none());
    assert!(uuid::Uuid::parse_str(admin.str("node")).is_ok());

    let session = api.get(As::Workspace(&own), "/session").await.expect(200);
    assert_eq!(session.str("principal"), "workspace");
    assert_eq!(
        (session.str("workspace_id"), session.str("name")),
        (&*own.id, "Öwn \u{1f426}")
    );
    let newest = api.admin_get("/events").await.expect(200).rows()[0]["seq"].clone();
    let position = session.body["position"].as_i64().expect("a place");
    assert!(
        position >= newest.as_i64().unwrap(),
        "{newest} was committed before"
    );

    // What comes after that place, and nothing of before.
    let other = api.create_workspace("other", None, None).await;
    let mut socket = follow(api, ADMIN_TOKEN, position).await;
    let first = frame(&mut socket).await;
    assert_eq!(first["workspace_id"], *other.id, "{first}");
    assert!(first["seq"].as_i64().unwrap() > position);

    for by in [As::Nobody, As::Bearer("nobody's"), As::Bearer("")] {
        api.get(by, "/session").await.expect(401);
    }
    let quiet = Server::start_without(&Database::sqlite(), &[INBOX_PUSH], &[]).await;
    let session = quiet.api().admin_get("/session").await.expect(200);
    assert_eq!(session.body["inbox_push"], false);
}

async fn a_code_that_nobody_gave_signs_nobody_in(database: Database) {
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let sign_in = async |body: &Value| api.post(As::Nobody, "/session", body).await;
    for code in ["AAAAAAAAAAAAAAAAAAAAAA", "x", ADMIN_TOKEN] {
        let reply = sign_in(&json!({"code": code})).await.expect(401);
        assert!(!reply.str("error").is_empty() && !reply.str("hint").is_empty());
    }
    for senseless in [
        json!({}),
        json!({"code": ""}),
        json!({"code": 1}),
        json!({"code": null}),
    ] {
        let reply = sign_in(&senseless).await.expect(400);
        assert_eq!(reply.str("field"), "code");
    }
    assert_eq!(sign_in(&json!([])).await.expect(400).str("field"), "body");
    let reply = sign_in(&json!({"code": "x".repeat(5000)}))
        .await
        .expect(413);
    assert_eq!(reply.body["max_bytes"], 4096);
}

/// What a token is called among the subprotocols.
fn offered(token: &str) -> String {
    format!("baton, bearer.{}", URL_SAFE_NO_PAD.encode(token))
}

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A socket as a browser opens it.
async fn follow(api: &Api, token: &str, after: i64) -> Socket {
    let base = api.base().replace("http:", "ws:");
    let mut request = format!("{base}/ws?after_seq={after}")
        .into_client_request()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", offered(token).parse().unwrap());
    headers.insert("origin", api.base().parse().unwrap());
    let (socket, response) = connect_async(request).await.expect("a socket");
    assert_eq!(response.headers()["sec-websocket-protocol"], "baton");
    socket
}

/// The next event; the server pings in between.
async fn frame(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next())
            .await
            .expect("an event in time");
        if let Message::Text(text) = message.expect("an open socket").expect("a frame") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

/// The head of the answer to a handshake with these headers.
async fn handshake(api: &Api, headers: &[(&str, &str)]) -> String {
    let mut connection = Raw::connect(api).await;
    let host = api.base().replace("http://", "");
    let line = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n");
    let lines: Vec<String> = headers.iter().map(line).collect();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{}\r\n",
        lines.concat()
    );
    connection.send(request.as_bytes()).await;
    connection.read_until("\r\n\r\n").await.to_ascii_lowercase()
}

async fn a_browser_opens_a_socket_by_its_subprotocols(database: Database) {
    const PROTOCOL: &str = "Sec-WebSocket-Protocol";
    let server = Server::start(&database, &[]).await;
    let api = server.api();
    let own: Workspace = api.create_workspace("own", None, None).await;
    let below = api.create_workspace("below", Some(&own), None).await;
    let mut socket = follow(api, &own.token, 0).await;
    // Each begins, and then waits for its agent.
    for expected in [&own, &own, &below, &below] {
        let frame = frame(&mut socket).await;
        assert_eq!(frame["workspace_id"], *expected.id, "{frame}");
    }
    let bearer = format!("Bearer {}", own.token);
    let (good, bad) = (offered(&own.token), offered("nobody's"));
    let alone = good.replace("baton, ", "");
    let status = async |headers: &[(&str, &str)]| {
        let head = handshake(api, headers).await;
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, head.contains("sec-websocket-protocol: baton\r\n"))
    };
    for (headers, expected, selects) in [
        (&[(PROTOCOL, &*good)][..], "101", true),
        (&[(PROTOCOL, "baton"), (PROTOCOL, &alone)], "101", true),
        (&[("Authorization", &bearer)], "101", false),
        (
            &[("Authorization", &bearer), (PROTOCOL, "baton")],
            "101",
            true,
        ),
        (
            &[("Authorization", &bearer), (PROTOCOL, "other")],
            "101",
            false,
        ),
        (&[(PROTOCOL, &bad)], "401", false),
        (&[(PROTOCOL, "baton")], "401", false),
        (&[(PROTOCOL, "baton, bearer.")], "401", false),
        (&[(PROTOCOL, "baton, bearer.***")], "401", false),
        (&[(PROTOCOL, &alone)], "401", false),
        (
            &[("Authorization", "Bearer nobody's"), (PROTOCOL, &good)],
            "401",
            false,
        ),
        (
            &[(PROTOCOL, &good), ("Origin", "http://evil.example")],
            "403",
            false,
        ),
    ] {
        assert_eq!(
            status(headers).await,
            (expected.to_owned(), selects),
            "{headers:?}"
        );
    }
}
