//! The yardstick of `--baseline`: a stand-in for the original that says the same to the database, one commit for each
//! statement, and nothing else.
//!
//! It is no product. It keeps the original's tables and indexes, its pool of 25 connections and its unprepared
//! statements; it leaves out what the original does besides (Redis, metrics, its rate limit), which only favours it. It
//! exists so that a ratio can be measured side by side on any machine.

mod database;
mod schema;
mod statements;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, error, web};
use anyhow::Context as _;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::http::member;
use crate::config::Config;
use database::Database;
use statements::Order;

/// Events that one listener may be behind.
const BEHIND_MAX: usize = 4096;

struct State {
    database: Database,
    admin_token: String,
    client: reqwest::Client,
    listeners: DashMap<String, broadcast::Sender<Bytes>>,
    /// Where targets listen: the original keeps it in Redis.
    urls: DashMap<String, String>,
}

/// Serves until the process is ended.
///
/// # Errors
/// When the database or the address cannot be used.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    // It is installed already when this is the second client of the process.
    drop(rustls::crypto::ring::default_provider().install_default());
    let url = config.database_url.clone();
    let state = web::Data::new(State {
        database: web::block(move || Database::open(&url)).await??,
        admin_token: config.admin_token.clone(),
        client: reqwest::Client::new(),
        listeners: DashMap::new(),
        urls: DashMap::new(),
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .route("/metrics", web::get().to(metrics))
            .route("/workspaces", web::post().to(create))
            .route("/workspaces/{id}/delegate", web::post().to(delegate))
            .route(
                "/workspaces/{id}/delegations/record",
                web::post().to(record),
            )
            .route(
                "/workspaces/{id}/delegations/{delegation}/update",
                web::post().to(update),
            )
            .route("/workspaces/{id}/activity", web::get().to(activity))
            .route("/workspaces/{id}/activity/ack", web::post().to(acknowledge))
            .route("/workspaces/{id}/events/stream", web::get().to(events))
    })
    .disable_signals()
    .keep_alive(Duration::from_mins(1))
    .bind((config.host, config.port))?;
    let address = server.addrs().first().copied().context("no address")?;
    println!("listening on http://{address}");
    Ok(server.run().await?)
}

impl State {
    /// Records an event and hands it to whoever listens.
    fn tell(&self, caller: &str, name: &str, payload: &Value) -> anyhow::Result<()> {
        let frame = statements::event(&self.database, caller, name, payload)?;
        if let Some(listeners) = self.listeners.get(caller) {
            // Nobody may listen.
            let _told = listeners.send(frame.into());
        }
        Ok(())
    }

    fn url(&self, target: &str) -> anyhow::Result<String> {
        if let Some(url) = self.urls.get(target) {
            return Ok(url.clone());
        }
        let url = statements::url(&self.database, target)?;
        self.urls.insert(target.to_owned(), url.clone());
        Ok(url)
    }

    fn authenticate(&self, token: &str) -> anyhow::Result<String> {
        statements::authenticate(&self.database, token)?.context("an unknown token")
    }
}

fn token(request: &HttpRequest) -> String {
    let header = request.headers().get(AUTHORIZATION);
    let text = header.and_then(|header| header.to_str().ok());
    let token = text.and_then(|text| text.strip_prefix("Bearer "));
    token.unwrap_or_default().to_owned()
}

/// Runs the statements on the pool of blocking threads.
async fn blocking<T: Send + 'static>(
    state: &web::Data<State>,
    work: impl FnOnce(&State) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, error::Error> {
    let state = Arc::clone(state);
    let done = web::block(move || work(&state)).await?;
    done.map_err(|failure| error::ErrorInternalServerError(format!("{failure:#}")))
}

async fn metrics(state: web::Data<State>) -> String {
    format!("baton_commit_seconds_count {}\n", state.database.commits())
}

async fn create(
    request: HttpRequest,
    body: Bytes,
    state: web::Data<State>,
) -> Result<HttpResponse, error::Error> {
    if token(&request) != state.admin_token {
        return Err(error::ErrorUnauthorized("admin only"));
    }
    let made = blocking(&state, move |state| {
        let body: Value = serde_json::from_slice(&body)?;
        statements::create(&state.database, &body)
    });
    Ok(HttpResponse::Created().json(made.await?))
}

fn order(caller: String, body: &[u8]) -> anyhow::Result<Order> {
    let body: Value = serde_json::from_slice(body)?;
    let text = |name: &str| {
        body.get(name)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    Ok(Order {
        caller,
        target: text("target_id").context("target_id")?,
        id: text("delegation_id").unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        task: text("task").context("task")?,
    })
}

async fn record(
    request: HttpRequest,
    body: Bytes,
    state: web::Data<State>,
) -> Result<HttpResponse, error::Error> {
    let token = token(&request);
    let order = blocking(&state, move |state| {
        let order = order(state.authenticate(&token)?, &body)?;
        order.begin(&state.database, "dispatched")?;
        sent(state, &order)?;
        Ok(order)
    });
    let answer = json!({"delegation_id": order.await?.id, "status": "recorded"});
    Ok(HttpResponse::Accepted().json(answer))
}

fn sent(state: &State, order: &Order) -> anyhow::Result<()> {
    let start: String = order.task.chars().take(100).collect();
    let payload =
        json!({"delegation_id": order.id, "target_id": order.target, "task_preview": start});
    state.tell(&order.caller, "DELEGATION_SENT", &payload)
}

async fn update(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: Bytes,
    state: web::Data<State>,
) -> Result<HttpResponse, error::Error> {
    let token = token(&request);
    let (_, id) = path.into_inner();
    let answer = json!({"status": "completed", "delegation_id": id});
    blocking(&state, move |state| {
        let caller = state.authenticate(&token)?;
        let body: Value = serde_json::from_slice(&body)?;
        let text = body.get("response_preview").and_then(Value::as_str);
        let text = text.unwrap_or_default();
        statements::mark(&state.database, &caller, &id, "completed")?;
        statements::result(&state.database, &caller, &id, text)?;
        completed(state, &caller, &id, text)?;
        statements::reply(&state.database, &caller, &id, text)
    })
    .await?;
    Ok(HttpResponse::Ok().json(answer))
}

fn completed(state: &State, caller: &str, id: &str, text: &str) -> anyhow::Result<()> {
    let start: String = text.chars().take(200).collect();
    let payload = json!({"delegation_id": id, "response_preview": start});
    state.tell(caller, "DELEGATION_COMPLETE", &payload)
}

async fn delegate(
    request: HttpRequest,
    body: Bytes,
    state: web::Data<State>,
) -> Result<HttpResponse, error::Error> {
    let token = token(&request);
    let order = blocking(&state, move |state| {
        let order = order(state.authenticate(&token)?, &body)?;
        order.begin(&state.database, "pending")?;
        Ok(order)
    });
    let order = Arc::new(order.await?);
    let answer =
        json!({"delegation_id": order.id, "status": "delegated", "target_id": order.target});
    actix_web::rt::spawn(execute(state.clone(), Arc::clone(&order)));
    blocking(&state, move |state| sent(state, &order)).await?;
    Ok(HttpResponse::Accepted().json(answer))
}

/// What goes on after the 202.
async fn execute(state: web::Data<State>, order: Arc<Order>) {
    if let Err(failure) = carry_out(&state, order).await {
        tracing::error!(%failure, "a delegation came to nothing");
    }
}

async fn carry_out(state: &web::Data<State>, order: Arc<Order>) -> Result<(), error::Error> {
    let Order { id, task, .. } = &*order;
    let parts = json!([{"kind": "text", "text": task}]);
    let message = json!({
        "role": "user", "messageId": id, "parts": parts, "metadata": {"delegation_id": id},
    });
    let params = json!({"message": message});
    let request_id = uuid::Uuid::new_v4().to_string();
    let call =
        json!({"jsonrpc": "2.0", "id": request_id, "method": "message/send", "params": params});
    let call = call.to_string();
    let allowed = Arc::clone(&order);
    let url = blocking(state, move |state| {
        let Order {
            caller, target, id, ..
        } = &*allowed;
        statements::mark(&state.database, caller, id, "dispatched")?;
        let payload = json!({"delegation_id": id, "target_id": target, "status": "dispatched"});
        state.tell(caller, "DELEGATION_STATUS", &payload)?;
        allowed.may_call(&state.database)?;
        state.url(target)
    });
    let request = state.client.post(url.await?).body(call.clone());
    let reply = async { request.send().await?.text().await };
    let reply = reply.await.map_err(error::ErrorBadGateway)?;
    blocking(state, move |state| {
        let Order { caller, id, .. } = &*order;
        let text = member(&reply, "\"text\":").unwrap_or(&reply);
        order.called(&state.database, &call, &reply)?;
        statements::result(&state.database, caller, id, text)?;
        statements::mark(&state.database, caller, id, "completed")?;
        completed(state, caller, id, text)?;
        statements::reply(&state.database, caller, id, text)
    })
    .await
}

#[derive(serde::Deserialize)]
struct Since {
    since_id: Option<String>,
}

async fn activity(
    request: HttpRequest,
    query: web::Query<Since>,
    state: web::Data<State>,
) -> Result<HttpResponse, error::Error> {
    let token = token(&request);
    let rows = blocking(&state, move |state| {
        let caller = state.authenticate(&token)?;
        statements::messages(&state.database, &caller, query.since_id.as_deref())
    });
    Ok(HttpResponse::Ok().json(rows.await?))
}

/// The original has no such thing: so that the readers of the bench can read here, too, it costs nothing.
async fn acknowledge() -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn events(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, error::Error> {
    let token = token(&request);
    let caller = blocking(&state, move |state| state.authenticate(&token)).await?;
    let listeners = state.listeners.entry(caller);
    let listener = listeners
        .or_insert_with(|| broadcast::channel(BEHIND_MAX).0)
        .subscribe();
    let frames = stream::unfold(listener, |mut listener| async move {
        let frame = listener.recv().await.ok()?;
        Some((Ok::<_, Infallible>(frame), listener))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(Box::pin(frames)))
}
