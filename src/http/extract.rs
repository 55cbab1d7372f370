//! What a request says of itself: who speaks, about which workspace, with which query.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use futures_util::future::Either;
use serde::Deserialize;

use super::error::{ApiError, Door};
use super::state::AppState;
use crate::auth::{Denied, Principal, bearer, resolve};
use crate::domain::{DelegationId, WorkspaceId, sanitize};

type Awaited<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>>>>;
/// At once, where the gate found out who speaks.
type Extracted<T> = Either<Ready<Result<T, ApiError>>, Awaited<T>>;

/// The shared state, which the wiring put there.
pub(crate) fn state(request: &HttpRequest) -> Result<web::Data<AppState>, ApiError> {
    request
        .app_data::<web::Data<AppState>>()
        .cloned()
        .ok_or(ApiError::Internal)
}

/// Who speaks, by the bearer and nothing else (lesson A01).
pub(crate) async fn principal(
    request: &HttpRequest,
    state: &AppState,
    door: Door,
) -> Result<Principal, ApiError> {
    let speaker = match known(request) {
        Some(known) => known,
        None => speaker(request, state).await,
    };
    speaker.map_err(|denied| door.refuse(denied))
}

/// Who speaks, as the gate found out.
fn known(request: &HttpRequest) -> Option<Result<Principal, Denied>> {
    request.extensions_mut().remove()
}

/// Who speaks, found out anew.
pub(crate) async fn speaker(request: &HttpRequest, state: &AppState) -> Result<Principal, Denied> {
    let header = request.headers().get(AUTHORIZATION);
    let secret = header.and_then(|value| bearer(value.as_bytes()));
    resolve(secret, &state.admin, &state.store).await
}

/// A credential that outlives its request, because the answer does: a stream must end when it is revoked.
pub(crate) struct Vigil {
    secret: Box<[u8]>,
    principal: Principal,
    state: web::Data<AppState>,
}

impl Vigil {
    /// Over the credential that this request showed.
    pub(crate) fn over(
        request: &HttpRequest,
        principal: Principal,
        state: &web::Data<AppState>,
    ) -> Self {
        let header = request.headers().get(AUTHORIZATION);
        let secret = header.and_then(|value| bearer(value.as_bytes()));
        Self::of(secret.unwrap_or_default(), principal, state)
    }

    /// Over this secret, by which this principal was known.
    pub(crate) fn of(secret: &[u8], principal: Principal, state: &web::Data<AppState>) -> Self {
        Self {
            secret: secret.into(),
            principal,
            state: state.clone(),
        }
    }

    /// Whether it is still who it was. What cannot be told is no.
    pub(crate) async fn holds(&self) -> bool {
        let now = resolve(Some(&self.secret), &self.state.admin, &self.state.store).await;
        now.is_ok_and(|principal| principal == self.principal)
    }
}

/// The ids in a path, percent-decoded.
#[derive(Deserialize, Default)]
struct PathIds {
    #[serde(default)]
    id: String,
    #[serde(default)]
    delegation_id: String,
    #[serde(default)]
    token_id: String,
    #[serde(default)]
    webhook_id: String,
    #[serde(default)]
    receiver_id: String,
    #[serde(default)]
    caller: String,
}

/// One of them.
fn path_id<'a>(
    request: &'a HttpRequest,
    name: &str,
    decoded: fn(PathIds) -> String,
) -> Cow<'a, str> {
    let path = request.match_info();
    if request.path().contains('%') {
        // Bytes that are no UTF-8 are nobody's id.
        Cow::Owned(decoded(path.load().unwrap_or_default()))
    } else {
        Cow::Borrowed(path.get(name).unwrap_or_default())
    }
}

/// Somebody who may act for the workspace in the path. A path that names none is no workspace's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party {
    /// Who speaks.
    pub(crate) principal: Principal,
    /// For whom; none when the path holds no id that can be read.
    pub(crate) workspace: Option<WorkspaceId>,
}

impl Party {
    fn of(request: &HttpRequest, speaker: Result<Principal, Denied>) -> Result<Self, ApiError> {
        let principal = speaker.map_err(|denied| Door::Workspace.refuse(denied))?;
        let workspace = WorkspaceId::parse(&path_id(request, "id", |ids| ids.id));
        match (principal, workspace) {
            (Principal::Admin, _) => {}
            (Principal::Workspace(_), Some(id)) if principal.may_act_for(id) => {}
            (Principal::Workspace(_), _) => return Err(Door::Workspace.invalid()),
        }
        Ok(Self {
            principal,
            workspace,
        })
    }
}

impl FromRequest for Party {
    type Error = ApiError;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        if let Some(speaker) = known(request) {
            return Either::Left(ready(Self::of(request, speaker)));
        }
        let request = request.clone();
        Either::Right(Box::pin(async move {
            let speaker = speaker(&request, &*state(&request)?).await;
            Self::of(&request, speaker)
        }))
    }
}

/// Somebody who may act for the workspace in the path, which may or may not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Who speaks.
    pub(crate) principal: Principal,
    /// For whom.
    pub(crate) workspace: WorkspaceId,
}

impl Member {
    /// A workspace's own token proves that it exists; what the admin names may not.
    pub(crate) async fn must_exist(&self, state: &AppState) -> Result<(), ApiError> {
        if self.principal != Principal::Admin {
            return Ok(());
        }
        let id = self.workspace;
        let found = state.store.seat(id).await?;
        found.map(drop).ok_or(NO_WORKSPACE)
    }
}

/// There is no such workspace, or none that the principal may know of.
pub(crate) const NO_WORKSPACE: ApiError = ApiError::Missing("workspace not found");

impl TryFrom<Party> for Member {
    type Error = ApiError;

    fn try_from(party: Party) -> Result<Self, ApiError> {
        Ok(Self {
            principal: party.principal,
            workspace: party.workspace.ok_or(NO_WORKSPACE)?,
        })
    }
}

impl FromRequest for Member {
    type Error = ApiError;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Party::from_request(request, payload) {
            Either::Left(party) => Either::Left(ready(party.into_inner().and_then(Self::try_from))),
            Either::Right(party) => {
                Either::Right(Box::pin(
                    async move { party.await.and_then(Self::try_from) },
                ))
            }
        }
    }
}

/// The admin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin;

impl FromRequest for Admin {
    type Error = ApiError;
    type Future = Awaited<Self>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            match principal(&request, &*state(&request)?, Door::Admin).await? {
                Principal::Admin => Ok(Self),
                Principal::Workspace(_) => Err(Door::Admin.invalid()),
            }
        })
    }
}

/// Anybody with a credential.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anybody(pub(crate) Principal);

impl FromRequest for Anybody {
    type Error = ApiError;
    type Future = Awaited<Self>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = state(&request)?;
            principal(&request, &state, Door::Workspace).await.map(Self)
        })
    }
}

/// The `id` of a path as a workspace id, if it can be read.
pub(crate) struct PathWorkspace(pub(crate) Option<WorkspaceId>);

impl FromRequest for PathWorkspace {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let id = path_id(request, "id", |ids| ids.id);
        ready(Ok(Self(WorkspaceId::parse(&id))))
    }
}

/// The `delegation_id` of a path: any text.
pub(crate) struct PathDelegation(pub(crate) DelegationId);

impl FromRequest for PathDelegation {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let text = path_id(request, "delegation_id", |ids| ids.delegation_id);
        ready(Ok(Self(DelegationId::from_text(&sanitize(&text)))))
    }
}

/// The `caller` of a path as a workspace id, if it can be read.
pub(crate) struct PathCaller(pub(crate) Option<WorkspaceId>);

impl FromRequest for PathCaller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let id = path_id(request, "caller", |ids| ids.caller);
        ready(Ok(Self(WorkspaceId::parse(&id))))
    }
}

macro_rules! path_texts {
    ($($(#[$doc:meta])* $name:ident = $member:ident;)+) => { $(
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) String);

        impl FromRequest for $name {
            type Error = ApiError;
            type Future = Ready<Result<Self, ApiError>>;

            fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
                let id = path_id(request, stringify!($member), |ids| ids.$member);
                ready(Ok(Self(id.into_owned())))
            }
        }
    )+ };
}

path_texts! {
    /// The `token_id` of a path.
    PathToken = token_id;
    /// The `webhook_id` of a path.
    PathWebhook = webhook_id;
    /// The `receiver_id` of a path.
    PathReceiver = receiver_id;
}

/// The query: an empty parameter is absent, of repeated ones the first counts.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), sanitize(&value).into_owned()))
                .collect(),
        )
    }

    /// The parameter's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// A number of rows: `default` when absent or senseless, never above `cap` (contract §8.1).
    pub(crate) fn limit(&self, default: i64, cap: i64) -> i64 {
        self.get("limit")
            .and_then(|text| text.parse().ok())
            .filter(|limit| *limit > 0)
            .unwrap_or(default)
            .min(cap)
    }

    /// Whether the parameter is exactly `true`.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

impl FromRequest for Query {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self::parse(request.query_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_forgives_what_the_contract_forgives() {
        let query =
            Query::parse("limit=abc&type=a%00b&empty=&twice=1&twice=2&bad=%ff&confirm=true");
        assert_eq!(query.limit(100, 500), 100);
        assert_eq!(query.get("type"), Some("a\u{fffd}b"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.get("twice"), Some("1"));
        assert_eq!(query.get("bad"), Some("\u{fffd}"));
        assert!(query.is_true("confirm") && !query.is_true("purge"));
        assert_eq!(Query::parse("limit=9999").limit(100, 500), 500);
        assert_eq!(Query::parse("limit=0").limit(100, 500), 100);
        assert_eq!(Query::parse("limit=-3").limit(100, 500), 100);
        assert_eq!(Query::parse("limit=7").limit(100, 500), 7);
    }
}
