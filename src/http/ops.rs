//! Health, build, metrics, and the API's own description (contract §13).

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use actix_web::{HttpResponse, web};
use serde_json::json;
use utoipa::OpenApi as _;

use super::answer;
use super::error::{ApiError, JSON};
use super::openapi::{ApiDoc, Limited};
use super::state::AppState;

/// Whether the service is migrated and its last commit succeeded.
#[utoipa::path(get, path = "/health", tag = "ops", responses(
    (status = 200, description = "Migrated and writing", body = serde_json::Value),
    Limited, (status = 503, description = "`starting` or `degraded`; see Retry-After", body = serde_json::Value),
))]
pub(crate) async fn health(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    let status = if !state.readiness.is_ready() {
        "starting"
    } else if !state.persistence.is_writing() {
        "degraded"
    } else {
        return answer::ok(&json!({"status": "ok"}));
    };
    let mut response = answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": status}))?;
    let wait = actix_web::http::header::HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, wait);
    Ok(response)
}

/// Which build this is.
#[utoipa::path(get, path = "/buildinfo", tag = "ops", responses(
    (status = 200, description = "The build", body = serde_json::Value), Limited,
))]
pub(crate) async fn build_info() -> Result<HttpResponse, ApiError> {
    answer::ok(&json!({
        "git_sha": option_env!("BATON_GIT_SHA").unwrap_or("dev"),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// The metrics, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "ops", responses(
    (status = 200, description = "Prometheus text format", body = String, content_type = "text/plain"), Limited,
))]
pub(crate) async fn metrics_text(state: web::Data<AppState>) -> HttpResponse {
    metrics::gauge!("baton_event_listeners")
        .set(u32::try_from(state.events.listeners()).unwrap_or(u32::MAX));
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(state.metrics.render())
}

static DESCRIPTION: LazyLock<String> =
    LazyLock::new(|| ApiDoc::openapi().to_json().unwrap_or_default());

/// The API's description.
pub(crate) async fn description() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, JSON))
        .body(DESCRIPTION.as_str())
}

/// The page lives one level below.
pub(crate) async fn to_docs() -> HttpResponse {
    HttpResponse::Found()
        .insert_header((LOCATION, "/docs/"))
        .finish()
}

/// What is not a route, or not with this method (contract §1.2).
pub(crate) async fn no_such_route() -> HttpResponse {
    HttpResponse::NotFound()
        .insert_header((CONTENT_TYPE, "text/plain"))
        .body("404 page not found")
}
