//! Counts and times requests by route pattern, never by path; and turns a handler's panic into a 500.

use std::panic::AssertUnwindSafe;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::http::error::ApiError;

/// A method's name; strangers may send any word, and a label must not grow without end.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        _ => "OTHER",
    }
}

/// `baton_http_requests_total{method,path,status}` and the time to the head of the answer.
pub(crate) async fn measure<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let (began, method) = (Instant::now(), label(request.method()));
    let answer = next.call(request).await;
    let (path, status) = match &answer {
        Ok(response) => (
            response
                .request()
                .match_pattern()
                .unwrap_or_else(|| "unmatched".to_owned()),
            response.status(),
        ),
        Err(error) => (
            "unmatched".to_owned(),
            error.as_response_error().status_code(),
        ),
    };
    let took = began.elapsed();
    if status.is_server_error() {
        tracing::warn!(
            http.method = method,
            http.route = path,
            http.status = status.as_u16(),
            duration_ms = took.as_secs_f64() * 1000.0,
            "a request was answered with a server error"
        );
    }
    let labels = [
        ("method", method.to_owned()),
        ("path", path),
        ("status", status.as_u16().to_string()),
    ];
    metrics::counter!("baton_http_requests_total", &labels).increment(1);
    metrics::histogram!("baton_http_request_duration_seconds", &labels).record(took.as_secs_f64());
    answer
}

/// A panic in a handler is this request's alone.
pub(crate) async fn catch_panics<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let route = request.path().to_owned();
    match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(_payload) => {
            metrics::counter!("baton_http_panics_total").increment(1);
            tracing::error!(http.path = route, "a handler panicked");
            Err(ApiError::Internal.into())
        }
    }
}
