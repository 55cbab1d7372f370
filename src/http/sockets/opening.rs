//! Who opens a socket. Browsers cannot set headers on one, so that a bearer may come among the subprotocols.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use actix_web::{FromRequest, HttpRequest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::{Principal, bearer, resolve};
use crate::http::error::{ApiError, Door};
use crate::http::extract::{Vigil, state};

/// The subprotocol that is spoken; a bearer counts only beside it.
pub(super) const PROTOCOL: &str = "baton";
/// What stands before a bearer among the subprotocols.
const BEARER: &str = "bearer.";

/// Anybody with a credential, in the header or among the subprotocols.
pub(crate) struct Opener {
    /// Who speaks.
    pub(super) principal: Principal,
    /// Over the credential that was shown.
    pub(super) vigil: Vigil,
}

impl FromRequest for Opener {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = state(&request)?;
            let secret = secret(request.headers());
            let known = resolve(secret.as_deref(), &state.admin, &state.store).await;
            let principal = known.map_err(|denied| Door::Workspace.refuse(denied))?;
            let vigil = Vigil::of(&secret.unwrap_or_default(), principal, &state);
            Ok(Self { principal, vigil })
        })
    }
}

/// The header decides where there is one.
fn secret(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    match headers.get(AUTHORIZATION) {
        Some(header) => bearer(header.as_bytes()).map(Cow::Borrowed),
        None => offered(headers).map(Cow::Owned),
    }
}

fn offered(headers: &HeaderMap) -> Option<Vec<u8>> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let words = lines.filter_map(|line| line.to_str().ok());
    let words: Vec<&str> = words
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    if !words.contains(&PROTOCOL) {
        return None;
    }
    let encoded = words.iter().find_map(|word| word.strip_prefix(BEARER))?;
    URL_SAFE_NO_PAD.decode(encoded).ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn shown(authorization: Option<&'static str>, protocols: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        }
        for value in protocols {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
        }
        let secret = secret(&headers).map(Cow::into_owned);
        secret.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_bearer_among_the_subprotocols_counts_beside_ours_alone() {
        for (protocols, secret) in [
            (&["baton, bearer.c2VjcmV0"][..], Some("secret")),
            (&["bearer.c2VjcmV0,baton"], Some("secret")),
            (&["baton", "bearer.c2VjcmV0"], Some("secret")),
            (&["bearer.c2VjcmV0"], None),
            (&["other, bearer.c2VjcmV0"], None),
            (&["baton"], None),
            (&["baton, bearer.c2VjcmV0="], None),
            (&["baton, bearer.!"], None),
            (&["baton, Bearer.c2VjcmV0"], None),
            (&[], None),
        ] {
            assert_eq!(shown(None, protocols).as_deref(), secret, "{protocols:?}");
        }
    }

    #[test]
    fn the_header_decides_where_there_is_one() {
        let protocols = ["baton, bearer.c2VjcmV0"];
        assert_eq!(
            shown(Some("Bearer own"), &protocols).as_deref(),
            Some("own")
        );
        assert_eq!(shown(Some("Basic own"), &protocols), None);
    }
}
