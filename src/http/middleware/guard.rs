//! Browser origins and security headers (contract §1.3).

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, PERMISSIONS_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpResponse, web};

use crate::http::page;
use crate::http::state::AppState;

/// Whether a request that came from this origin may go on: it is in the list, or the service's own.
pub(crate) fn own_or_allowed(origin: &[u8], headers: &HeaderMap, allowed: &[String]) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else {
        return false;
    };
    if allowed
        .iter()
        .any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin))
    {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    matches!((host, authority), (Some(host), Some(authority)) if host.eq_ignore_ascii_case(authority))
}

/// A request from a foreign origin: 403 with an empty body.
pub(super) async fn origin_guard<B: MessageBody>(
    request: ServiceRequest,
    next: impl AsyncFnOnce(ServiceRequest) -> Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let allowed = {
        let state = request.app_data::<web::Data<AppState>>();
        let origins = state.map_or(&[][..], |state| &state.settings.cors_origins);
        let origin = request.headers().get(ORIGIN);
        origin.is_none_or(|origin| own_or_allowed(origin.as_bytes(), request.headers(), origins))
    };
    let asks = request.method() == Method::OPTIONS;
    if allowed {
        let mut response = next(request).await?;
        // Nothing but a preflight is answered 200 to OPTIONS, and it has no content.
        if asks && response.status() == StatusCode::OK {
            *response.response_mut().status_mut() = StatusCode::NO_CONTENT;
        }
        Ok(response.map_into_left_body())
    } else {
        let refusal = HttpResponse::Forbidden().finish();
        Ok(request.into_response(refusal).map_into_right_body())
    }
}

/// CORS with credentials, for the origins of the list and the service's own.
pub(crate) fn cors(allowed: Arc<[String]>) -> Cors {
    Cors::default()
        .allowed_origin_fn(move |origin: &HeaderValue, head: &RequestHead| {
            own_or_allowed(origin.as_bytes(), head.headers(), &allowed)
        })
        .allowed_methods(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
        .allowed_headers([
            ORIGIN,
            CONTENT_TYPE,
            AUTHORIZATION,
            HeaderName::from_static("x-workspace-id"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("traceparent"),
        ])
        .expose_headers(["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"])
        .supports_credentials()
        .max_age(600)
}

const API: [&str; 8] = [
    "/workspaces",
    "/registry",
    "/health",
    "/admin",
    "/metrics",
    "/events",
    "/session",
    "/canvas",
];

/// What a browser may load for an answer, and whom it tells where it came from.
fn policies(path: &str) -> (&'static str, &'static str) {
    let usual = "strict-origin-when-cross-origin";
    if page::is_at(path) {
        (page::POLICY, "no-referrer")
    } else if API.iter().any(|prefix| path.starts_with(prefix)) {
        ("default-src 'self'", usual)
    } else {
        let docs = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'";
        (docs, usual)
    }
}

/// The headers that keep browsers from doing harm with an answer.
pub(super) async fn security_headers<B: MessageBody>(
    request: ServiceRequest,
    next: impl AsyncFnOnce(ServiceRequest) -> Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<B>, Error> {
    let (policy, referrer) = policies(request.path());
    let mut response = next(request).await?;
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            STRICT_TRANSPORT_SECURITY,
            "max-age=31536000; includeSubDomains",
        ),
        (REFERRER_POLICY, referrer),
        (
            PERMISSIONS_POLICY,
            "camera=(), microphone=(), geolocation=()",
        ),
        (CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_and_the_services_own_may_call() {
        let allowed = ["http://localhost:3000".to_owned()];
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("baton.example:8080"));
        for (origin, may) in [
            ("http://localhost:3000", true),
            ("HTTP://LOCALHOST:3000", true),
            ("https://baton.example:8080", true),
            ("http://baton.example", false),
            ("http://evil.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(
                own_or_allowed(origin.as_bytes(), &headers, &allowed),
                may,
                "{origin}"
            );
        }
        assert!(!own_or_allowed(b"\xff", &headers, &allowed));
    }
}
