//! What surrounds every route, from the outside in: panics, origins, CORS, rate, metrics, security headers; and, around
//! those that take a body or write, the gate.
//!
//! Each layer of the application costs every request an allocation and a hop, so neighbours are one layer.

mod gate;
mod guard;
mod measure;
mod rate;

use actix_web::Error;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

pub(crate) use gate::{begins, enter, looks, reports, turn};
pub(crate) use guard::{cors, own_or_allowed};
pub(crate) use rate::RateLimit;

/// Outside of CORS: panics, and within them origins.
pub(crate) async fn outside<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let next = async |request| next.call(request).await;
    let next = async |request| guard::origin_guard(request, next).await;
    measure::catch_panics(request, next).await
}

/// Inside of CORS: the rate, within it metrics, and within them security headers.
pub(crate) async fn inside<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let next = async |request| next.call(request).await;
    let next = async |request| guard::security_headers(request, next).await;
    let next = async |request| measure::measure(request, next).await;
    rate::limit_rate(request, next).await
}
