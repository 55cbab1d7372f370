//! Counts and times requests by route pattern, never by path; and turns a handler's panic into a 500.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::RETRY_AFTER;
use actix_web::http::{Method, StatusCode};
use futures_util::FutureExt as _;
use metrics::{Counter, Histogram};
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
pub(super) async fn measure<B: MessageBody>(
    request: ServiceRequest,
    next: impl AsyncFnOnce(ServiceRequest) -> Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<B>, Error> {
    let (began, method) = (Instant::now(), label(request.method()));
    let answer = next(request).await;
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
    if status.is_server_error() && !comes_again(&answer) {
        tracing::warn!(
            http.method = method,
            http.route = path,
            http.status = status.as_u16(),
            duration_ms = took.as_secs_f64() * 1000.0,
            "a request was answered with a server error"
        );
    }
    note(method, path, status, took);
    answer
}

/// What is counted of one kind of request.
#[derive(Clone)]
struct Meters {
    requests: Counter,
    duration: Histogram,
}

thread_local! {
    /// To look a meter up among all others costs more than to use it. Bounded by routes, methods and statuses.
    static METERS: RefCell<HashMap<(&'static str, String, StatusCode), Meters>> = RefCell::default();
}

fn note(method: &'static str, path: String, status: StatusCode, took: Duration) {
    METERS.with_borrow_mut(|meters| {
        let meters =
            meters
                .entry((method, path, status))
                .or_insert_with_key(|(method, path, status)| {
                    let labels = [
                        ("method", (*method).to_owned()),
                        ("path", path.clone()),
                        ("status", status.as_u16().to_string()),
                    ];
                    Meters {
                        requests: metrics::counter!("baton_http_requests_total", &labels),
                        duration: metrics::histogram!(
                            "baton_http_request_duration_seconds",
                            &labels
                        ),
                    }
                });
        meters.requests.increment(1);
        meters.duration.record(took.as_secs_f64());
    });
}

/// Whether the client is told to come again: that is logged where it is decided, not for each of many thousands.
fn comes_again<B>(answer: &Result<ServiceResponse<B>, Error>) -> bool {
    let headers = answer.as_ref().map(ServiceResponse::headers);
    headers.is_ok_and(|headers| headers.contains_key(RETRY_AFTER))
}

/// A panic in a handler is this request's alone.
pub(super) async fn catch_panics<B: MessageBody>(
    request: ServiceRequest,
    next: impl AsyncFnOnce(ServiceRequest) -> Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<B>, Error> {
    let uri = request.uri().clone();
    match AssertUnwindSafe(next(request)).catch_unwind().await {
        Ok(answer) => answer,
        Err(_payload) => {
            metrics::counter!("baton_http_panics_total").increment(1);
            tracing::error!(http.path = uri.path(), "a handler panicked");
            Err(ApiError::Internal.into())
        }
    }
}
