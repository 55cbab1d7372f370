//! The doors of the agents: A2A endpoints of this process, one port each.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::cast::Temper;
use super::player::Player;
use super::work::{self, Word};

/// How long one is open who is not always.
const OPEN: Duration = Duration::from_secs(18);
/// How long it is closed then: long enough for its breaker to open.
const CLOSED: Duration = Duration::from_secs(25);

/// Answers whoever comes; one who keeps hours, while it is open.
pub(super) async fn keep_open(door: TcpListener, player: Rc<Player>) {
    let Ok(address) = door.local_addr() else {
        return;
    };
    if player.temper != Temper::Nightly {
        return answer_at(&door, &player).await;
    }
    let mut door = Some(door);
    loop {
        if let Some(open) = door.take() {
            player.is_open.set(true);
            // Nobody answers for ever: this is how it closes.
            let _closing_time = tokio::time::timeout(OPEN, answer_at(&open, &player)).await;
        }
        player.is_open.set(false);
        rt::time::sleep(CLOSED).await;
        door = reopen(address).await;
    }
}

/// None when somebody else has the address meanwhile.
async fn reopen(address: SocketAddr) -> Option<TcpListener> {
    TcpListener::bind(address).await.ok()
}

async fn answer_at(door: &TcpListener, player: &Rc<Player>) {
    loop {
        // Out of files for a moment, or a caller that is gone already.
        let Ok((stream, _)) = door.accept().await else {
            rt::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        rt::spawn(serve(stream, Rc::clone(player)));
    }
}

async fn serve(stream: TcpStream, player: Rc<Player>) {
    let service = service_fn(|request| answer(request, &player));
    // The caller may leave whenever it likes. A connection that is kept would outlive the closing of the door.
    let _ended = http1::Builder::new()
        .keep_alive(player.temper != Temper::Nightly)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    player: &Rc<Player>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        // It has no card.
        return Ok(response(StatusCode::NOT_FOUND, &Value::Null));
    }
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_broken_off) => Bytes::new(),
    };
    let call: Value = serde_json::from_slice(&body).unwrap_or_default();
    let params = call.get("params").unwrap_or(&Value::Null);
    let word = match call.get("method").and_then(Value::as_str) {
        Some("message/send") => {
            work::take(player, params.get("message").unwrap_or(&Value::Null)).await
        }
        Some("tasks/get") => work::standing(player, params),
        Some("tasks/cancel") => work::withdrawn(player, params),
        _ => Word::Error("this agent does not know that method"),
    };
    let mut said = json!({"jsonrpc": "2.0", "id": call.get("id")});
    let (member, value) = match word {
        Word::Busy => return Ok(busy()),
        Word::Result(result) => ("result", result),
        Word::Error(message) => ("error", json!({"code": -32603, "message": message})),
    };
    if let Some(members) = said.as_object_mut() {
        members.insert(member.to_owned(), value);
    }
    Ok(response(StatusCode::OK, &said))
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn busy() -> Response<Full<Bytes>> {
    let body = json!({"error": "two trucks are on the scales", "busy": true});
    let mut response = response(StatusCode::SERVICE_UNAVAILABLE, &body);
    let soon = HeaderValue::from_static("2");
    response.headers_mut().insert(RETRY_AFTER, soon);
    response
}
