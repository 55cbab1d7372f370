//! Before a request's body is looked at: whether there is time for it.

use std::borrow::Cow;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpMessage as _, HttpRequest, ResponseError as _, Route, rt, web};

use tokio::task::JoinError;

use crate::auth::Principal;
use crate::domain::WorkspaceId;
use crate::http::body::{self, declared_length};
use crate::http::error::ApiError;
use crate::http::extract::speaker;
use crate::http::state::AppState;
use crate::persistence::{Errand, Reason, Refused, Ticket};

/// A route that begins work.
pub(crate) fn begins(route: Route) -> Route {
    gated(route, Errand::Begin)
}

/// A route that writes anything else.
pub(crate) fn reports(route: Route) -> Route {
    gated(route, Errand::Report)
}

/// A route that takes a body and writes nothing.
pub(crate) fn looks(route: Route) -> Route {
    gated(route, Errand::Look)
}

fn gated(route: Route, errand: Errand) -> Route {
    let gate = move |state, request, next| pass(errand, state, request, next);
    route.wrap(from_fn(gate))
}

/// Asks who speaks, which the handler then need not ask again, and lets it in or not. Whoever is nobody is let through:
/// the handler says so without reading on.
async fn pass(
    errand: Errand,
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, Error> {
    let known = speaker(request.request(), &state).await;
    let workspace = known.as_ref().ok().map(|principal| whose(*principal));
    request.extensions_mut().insert(known);
    let Some(workspace) = workspace else {
        return next.call(request).await;
    };
    let bytes = kept(request.request(), state.settings.max_body_bytes);
    let gate = state.persistence.gate();
    match gate.enter(workspace, errand, u64::try_from(bytes).unwrap_or(u64::MAX)) {
        Err(refused) => {
            let payload = request.extract::<web::Payload>().await?;
            body::pass_over(request.request(), payload).await;
            let refusal = ApiError::from(refused);
            Ok(request.into_response(refusal.error_response()))
        }
        Ok(ticket) => {
            // A task of its own: when its client hangs up the work goes on, and so must the ticket.
            let work = rt::spawn(async move {
                let answer = next.call(request).await;
                drop(ticket);
                answer
            });
            match work.await.map_err(JoinError::try_into_panic) {
                Ok(answer) => answer,
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                Err(Err(_cancelled)) => Err(ApiError::Internal.into()),
            }
        }
    }
}

/// Waits its turn within a handler; what it writes is short.
pub(crate) fn turn(
    state: &AppState,
    principal: Principal,
    errand: Errand,
) -> Result<Ticket, ApiError> {
    let gate = state.persistence.gate();
    Ok(gate.enter(whose(principal), errand, 0)?)
}

/// Lets a handler in that takes its body in by itself.
pub(crate) fn enter(
    request: &HttpRequest,
    state: &AppState,
    principal: Principal,
) -> Result<Ticket, ApiError> {
    let bytes = kept(request, state.settings.max_body_bytes);
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let gate = state.persistence.gate();
    Ok(gate.enter(whose(principal), Errand::Look, bytes)?)
}

/// Whose share of the turns it is; the admin has none of its own.
const fn whose(principal: Principal) -> Option<WorkspaceId> {
    match principal {
        Principal::Admin => None,
        Principal::Workspace(id) => Some(id),
    }
}

/// How many bytes of its body a request may keep in memory: one that does not say counts as the longest, one that is
/// too long keeps nothing.
fn kept(request: &HttpRequest, max_bytes: usize) -> usize {
    match declared_length(request) {
        Some(length) if length > max_bytes => 0,
        Some(length) => length,
        None if request.headers().contains_key(TRANSFER_ENCODING) => max_bytes,
        None => 0,
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::Unavailable {
            error: Cow::Borrowed(match refused.reason {
                Reason::Full => "too many requests are waiting — retry shortly",
                Reason::Share => "too many requests of this workspace are waiting — retry shortly",
                Reason::Bodies => "the request bodies in flight are too large — retry shortly",
            }),
            code: Some("overloaded"),
            retry_after: refused.retry_after,
        }
    }
}
