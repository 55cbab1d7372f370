//! Scripted agents: real A2A endpoints on a port of their own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, rt, web};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// How long the slow agent thinks.
const SLOW: Duration = Duration::from_secs(3);

/// The addresses of the agents.
pub(super) struct Agents {
    pub(super) quick: String,
    pub(super) slow: String,
    pub(super) failing: String,
    pub(super) busy: String,
    pub(super) vanishing: String,
}

/// Starts them; they end with the process.
pub(super) async fn start() -> anyhow::Result<Agents> {
    let refusals = web::Data::new(AtomicU32::new(0));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(refusals.clone())
            .route("/quick", web::post().to(quick))
            .route("/slow", web::post().to(slow))
            .route("/failing", web::post().to(failing))
            .route("/busy", web::post().to(busy))
    })
    .workers(1)
    .disable_signals()
    .bind(("127.0.0.1", 0))?;
    let address = server
        .addrs()
        .first()
        .copied()
        .ok_or_else(|| anyhow::anyhow!("no address"))?;
    rt::spawn(server.run());
    let at = |name: &str| format!("http://{address}/{name}");
    Ok(Agents {
        quick: at("quick"),
        slow: at("slow"),
        failing: at("failing"),
        busy: at("busy"),
        vanishing: vanishing().await?,
    })
}

async fn quick(request: web::Json<Value>) -> HttpResponse {
    answer(&request, &format!("Done: {}", task(&request)))
}

async fn slow(request: web::Json<Value>) -> HttpResponse {
    rt::time::sleep(SLOW).await;
    answer(
        &request,
        &format!("After careful thought: {}", task(&request)),
    )
}

async fn failing(request: web::Json<Value>) -> HttpResponse {
    let error = json!({"code": -32603, "message": "the tool this agent needs is broken"});
    HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": request.get("id"), "error": error}))
}

/// Busy for the first two requests.
async fn busy(request: web::Json<Value>, refusals: web::Data<AtomicU32>) -> HttpResponse {
    if refusals.fetch_add(1, Ordering::Relaxed) < 2 {
        let body = json!({"error": "one task at a time", "busy": true});
        return HttpResponse::ServiceUnavailable()
            .insert_header(("Retry-After", "1"))
            .json(body);
    }
    answer(&request, &format!("Now I had time: {}", task(&request)))
}

/// Takes the request and hangs up: nobody can say whether the work was done.
async fn vanishing() -> anyhow::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    rt::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 1024];
            // However much of it came: it goes no further.
            let _read = connection.read(&mut request).await;
        }
    });
    Ok(format!("http://{address}/"))
}

fn task(request: &Value) -> String {
    let text = request
        .pointer("/params/message/parts/0/text")
        .and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn answer(request: &Value, text: &str) -> HttpResponse {
    let message = json!({
        "kind": "message", "role": "agent", "messageId": uuid::Uuid::new_v4().to_string(),
        "parts": [{"kind": "text", "text": text}],
    });
    HttpResponse::Ok().json(json!({"jsonrpc": "2.0", "id": request.get("id"), "result": message}))
}
