//! So many requests a minute for each peer address; no header of a proxy is trusted (contract §1.3).

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{Error, ResponseError as _, web};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::http::error::ApiError;
use crate::http::page;

/// After how many requests those who have been quiet are forgotten.
const FORGET_EVERY: u32 = 10_000;

type Limiter =
    RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock, StateInformationMiddleware>;

/// The limiter that all workers share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RateLimit {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    limiter: Limiter,
    a_minute: NonZeroU32,
    seen: AtomicU32,
}

/// What a peer has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Allowance {
    limit: u32,
    remaining: u32,
    /// Seconds until the full allowance is back, or, when refused, until the next request may come.
    wait: u64,
    refused: bool,
}

impl RateLimit {
    /// 0 is off.
    pub(crate) fn new(a_minute: u32) -> Self {
        let inner = NonZeroU32::new(a_minute).map(|a_minute| {
            let quota = Quota::per_minute(a_minute);
            Arc::new(Inner {
                limiter: RateLimiter::dashmap(quota)
                    .with_middleware::<StateInformationMiddleware>(),
                a_minute,
                seen: AtomicU32::new(0),
            })
        });
        Self { inner }
    }

    fn check(&self, peer: IpAddr) -> Option<Allowance> {
        let inner = self.inner.as_deref()?;
        if inner.seen.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            inner.limiter.retain_recent();
        }
        let limit = inner.a_minute.get();
        Some(match inner.limiter.check_key(&peer) {
            Ok(snapshot) => {
                let remaining = snapshot.remaining_burst_capacity();
                let spent = u64::from(limit.saturating_sub(remaining));
                Allowance {
                    limit,
                    remaining,
                    wait: (spent * 60).div_ceil(u64::from(limit)),
                    refused: false,
                }
            }
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now());
                Allowance {
                    limit,
                    remaining: 0,
                    wait: wait.as_secs().saturating_add(1),
                    refused: true,
                }
            }
        })
    }
}

impl Allowance {
    fn show(self, headers: &mut HeaderMap) {
        for (name, value) in [
            ("x-ratelimit-limit", u64::from(self.limit)),
            ("x-ratelimit-remaining", u64::from(self.remaining)),
            ("x-ratelimit-reset", self.wait),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
}

/// Lets a request pass, or answers it with 429.
pub(super) async fn limit_rate<B: MessageBody>(
    request: ServiceRequest,
    next: impl AsyncFnOnce(ServiceRequest) -> Result<ServiceResponse<B>, Error>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let peer = request.peer_addr().map(|address| address.ip());
    let peer = peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let limit = request.app_data::<web::Data<RateLimit>>();
    // To load the page takes dozens of files, and says nothing of how much its reader asks.
    let is_page =
        page::is_at(request.path()) && [Method::GET, Method::HEAD].contains(request.method());
    let limit = limit.filter(|_| !is_page);
    let Some(allowance) = limit.and_then(|limit| limit.check(peer)) else {
        return next(request).await.map(ServiceResponse::map_into_left_body);
    };
    let mut response = if allowance.refused {
        let refusal = ApiError::TooMany {
            error: "rate limit exceeded",
            retry_after: Duration::from_secs(allowance.wait),
        };
        metrics::counter!("baton_http_rate_limited_total").increment(1);
        request
            .into_response(refusal.error_response())
            .map_into_right_body()
    } else {
        next(request).await?.map_into_left_body()
    };
    allowance.show(response.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_allowance() {
        let limit = RateLimit::new(3);
        let [one, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        for remaining in [2, 1, 0] {
            let allowance = limit.check(one).unwrap();
            assert_eq!((allowance.remaining, allowance.refused), (remaining, false));
            assert!(allowance.wait <= 60);
        }
        let refused = limit.check(one).unwrap();
        assert!(refused.refused && (1..=20).contains(&refused.wait));
        assert!(!limit.check(other).unwrap().refused);
        assert_eq!(RateLimit::new(0).check(one), None);
    }
}
