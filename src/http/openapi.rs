//! The API as OpenAPI, from the handlers' own annotations.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Object, ObjectBuilder, RefOr, Response, ResponseBuilder, Type,
};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use super::{
    a2a, activity, admin, canvas, delegation_views, delegations, events, health_history, heartbeat,
    inbox, mcp, notifications, ops, registry, retry, session, sockets, steering, tokens, waiting,
    webhooks, workspace_creation, workspaces,
};
use crate::domain::ActivityType;

/// The body of every refusal. More members may explain it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `ApiError` writes")]
pub(crate) struct ErrorBody {
    /// What is wrong.
    error: String,
    /// Which field of the request is at fault.
    field: Option<String>,
    /// What is wrong with it, with what is allowed.
    reason: Option<String>,
}

fn refusals(texts: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let body = || {
        let schema = ErrorBody::schema();
        ContentBuilder::new().schema(Some(schema)).build()
    };
    texts
        .iter()
        .map(|(status, text)| {
            let response = ResponseBuilder::new()
                .description(*text)
                .content("application/json", body())
                .build();
            ((*status).to_owned(), RefOr::T(response))
        })
        .collect()
}

/// What any route may answer.
pub(crate) struct Limited;

impl IntoResponses for Limited {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[
            ("429", "Too often or too many; see Retry-After"),
            ("500", "Baton's own fault"),
            ("503", "Not now; see Retry-After"),
        ])
    }
}

/// What a route may answer that asks for a credential.
pub(crate) struct Unauthorised;

impl IntoResponses for Unauthorised {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[("401", "The credential is missing or does not fit")])
    }
}

/// What a route may answer that asks for a credential and a body.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[
            (
                "400",
                "The request cannot be understood, or asks for something impossible",
            ),
            ("401", "The credential is missing or does not fit"),
            ("403", "Not allowed"),
            (
                "404",
                "No such thing, or none that the principal may know of",
            ),
            ("413", "The body is longer than `max_bytes`"),
        ])
    }
}

/// A text that is one of these words.
fn one_of(words: &[&str]) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text.enum_values(Some(words.iter().copied())).build()
}

fn redeliveries() -> Object {
    one_of(&["never", "if_idempotent", "always"])
}

fn reports() -> Object {
    one_of(&["completed", "failed"])
}

fn schemes() -> Object {
    one_of(&["bearer", "api_key", "basic"])
}

fn delivery_modes() -> Object {
    one_of(&["push", "poll"])
}

fn accesses() -> Object {
    one_of(&["none", "read_only", "read_write"])
}

/// Delegations are written by Baton alone.
fn activity_types() -> Object {
    let types = ActivityType::ALL.iter().copied();
    let types = types.filter(|kind| *kind != ActivityType::Delegation);
    one_of(&types.map(ActivityType::as_str).collect::<Vec<_>>())
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(ToSchema)]
            #[expect(dead_code, reason = "describes what the handler reads field by field")]
            pub(crate) struct $name { $($(#[$field_doc])* $field: $type),* }
        )*
    };
}

bodies! {
    /// A task for another workspace.
    DelegateBody {
        /// A UUID in any spelling.
        #[schema(format = "uuid")] target_id: String,
        /// What is to be done.
        #[schema(min_length = 1)] task: String,
        /// Sending the same key, target and task again begins nothing new.
        idempotency_key: Option<String>,
        /// When to give up, in seconds from now.
        #[schema(minimum = 1, maximum = 2_592_000)] deadline_seconds: Option<i64>,
        /// Whether to send again what may have arrived; `if_idempotent` when absent.
        #[schema(schema_with = redeliveries)] redelivery: Option<String>,
        /// Among those that wait for one target, the higher go first; 50 when absent.
        #[schema(minimum = 0, maximum = 100)] priority: Option<i64>,
        /// The delegation that the caller was given, and hands a part of on.
        parent_delegation_id: Option<String>,
    }
    /// How far the work is.
    ProgressBody {
        /// In words; what is beyond 4,096 bytes is cut.
        message: Option<String>,
        /// In hundredths.
        #[schema(minimum = 0, maximum = 100)] percent: Option<i64>,
    }
    /// Why a delegation is withdrawn.
    CancelBody { reason: Option<String> }
    /// The answer to the target's question.
    InputBody { #[schema(min_length = 1)] text: String }
    /// Delegations by name.
    LinesBody { #[schema(max_items = 200)] ids: Vec<NamedBody> }
    /// Which delegations are meant: those that are named, or else those that the filter lets through; all without either.
    BulkBody {
        #[schema(max_items = 500)] ids: Option<Vec<NamedBody>>,
        /// Statuses, `in_flight` or `ended`, separated by commas; required unless there are `ids`.
        status: Option<String>,
        #[schema(format = "uuid")] workspace_id: Option<String>,
        /// A text, as for the list.
        #[schema(max_length = 200)] q: Option<String>,
        /// Only to be counted.
        dry_run: Option<bool>,
        /// The cursor of the call before.
        before: Option<String>,
    }
    /// The same, with why they are withdrawn.
    BulkCancelBody {
        #[schema(max_items = 500)] ids: Option<Vec<NamedBody>>,
        status: Option<String>,
        #[schema(format = "uuid")] workspace_id: Option<String>,
        #[schema(max_length = 200)] q: Option<String>,
        dry_run: Option<bool>, before: Option<String>, reason: Option<String>,
    }
    /// One delegation: ids are only unique within their caller.
    NamedBody { #[schema(format = "uuid")] caller_id: String, delegation_id: String }
    /// What is to be different this time.
    RetryBody {
        /// Sending the same key again begins nothing new.
        idempotency_key: Option<String>,
        /// When to give up, in seconds from now.
        #[schema(minimum = 1, maximum = 2_592_000)] deadline_seconds: Option<i64>,
    }
    /// A delegation that the agent sent itself.
    RecordBody {
        #[schema(format = "uuid")] target_id: String,
        #[schema(min_length = 1)] task: String,
        #[schema(min_length = 1, max_length = 1024)] delegation_id: String,
    }
    /// How a delegation ended.
    UpdateBody {
        /// The ending.
        #[schema(schema_with = reports)] status: String,
        /// The whole answer.
        response_preview: Option<String>,
        /// What went wrong.
        error: Option<String>,
    }
    /// A feed row.
    ActivityBody {
        #[schema(schema_with = activity_types)] activity_type: String,
        method: Option<String>, summary: Option<String>,
        #[schema(format = "uuid")] target_id: Option<String>,
        /// The workspace itself, if given.
        #[schema(format = "uuid")] source_id: Option<String>,
        status: Option<String>, error_detail: Option<String>, duration_ms: Option<i32>,
        request_body: Option<Value>, response_body: Option<Value>, metadata: Option<Value>,
    }
    /// A code from a link.
    CodeBody { #[schema(min_length = 1)] code: String }
    /// A place in the feed.
    AckBody { #[schema(minimum = 0)] acked_seq: i64 }
    /// A message to people.
    NotifyBody { message: String, attachments: Option<Vec<AttachmentBody>> }
    /// A file.
    AttachmentBody { uri: String, name: String, #[schema(rename = "mimeType")] mime_type: Option<String>, size: Option<i64> }
    /// A workspace to create.
    WorkspaceBody {
        name: String, role: Option<String>, tier: Option<i32>, model: Option<String>, runtime: Option<String>,
        external: Option<bool>, url: Option<String>,
        #[schema(schema_with = delivery_modes)] delivery_mode: Option<String>,
        #[schema(format = "uuid")] parent_id: Option<String>,
        workspace_dir: Option<String>, #[schema(schema_with = accesses)] workspace_access: Option<String>,
        /// How many tasks at once; 0 for no cap of its own.
        #[schema(minimum = 0, maximum = 100_000)] max_concurrent_tasks: Option<i32>,
        can_delegate: Option<bool>, canvas: Option<PlaceBody>, credentials: Option<CredentialsBody>,
    }
    /// What an agent wants to see of who calls it: with `bearer` a `token`, with `api_key` a `header` and its `value`, with `basic`
    /// a `username` and a `password`. Never shown again.
    CredentialsBody {
        #[schema(schema_with = schemes)] scheme: String,
        token: Option<String>, header: Option<String>, value: Option<String>,
        username: Option<String>, password: Option<String>,
    }
    /// Who is told of each ending.
    WebhookBody {
        /// Where it listens.
        #[schema(format = "uri")] url: String,
        /// What is told is signed with this (Standard Webhooks); minted when absent.
        secret: Option<String>,
    }
    /// A place on the canvas.
    PlaceBody { x: Option<f64>, y: Option<f64> }
    /// What is to be changed.
    WorkspacePatchBody {
        name: Option<String>, role: Option<String>, tier: Option<i32>,
        #[schema(format = "uuid")] parent_id: Option<String>, runtime: Option<String>,
        collapsed: Option<bool>, x: Option<f64>, y: Option<f64>, can_delegate: Option<bool>,
        /// How many tasks at once; 0 for no cap of its own.
        #[schema(minimum = 0, maximum = 100_000)] max_concurrent_tasks: Option<i32>,
        /// `null` takes them away.
        credentials: Option<CredentialsBody>,
    }
    /// Where an agent listens.
    RegisterBody {
        #[schema(format = "uuid")] id: String,
        agent_card: Value,
        /// Needed in push mode.
        url: Option<String>,
        #[schema(schema_with = delivery_modes)] delivery_mode: Option<String>,
        /// `null` takes them away; as they are when absent.
        credentials: Option<CredentialsBody>,
    }
    /// How an agent is.
    HeartbeatBody {
        #[schema(format = "uuid")] workspace_id: String, error_rate: Option<f64>, sample_error: Option<String>, active_tasks: Option<i32>,
        uptime_seconds: Option<i32>, current_task: Option<String>, monthly_spend: Option<i64>,
        runtime_state: Option<String>, runtime_metadata: Option<Value>,
    }
    /// A new card.
    CardBody { #[schema(format = "uuid")] workspace_id: String, agent_card: Value }
    /// Two workspaces.
    CheckBody { #[schema(format = "uuid")] caller_id: String, #[schema(format = "uuid")] target_id: String }
}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", scheme);
    }
}

/// Handlers are named within their module; the description needs names that are unique in the whole.
struct Names;

impl Modify for Names {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut api.paths.paths {
            let words: Vec<&str> = path
                .split(['/', '{', '}', '-', '.'])
                .filter(|word| !word.is_empty())
                .collect();
            let name = words.join("_");
            for (method, operation) in [
                ("get", &mut item.get),
                ("post", &mut item.post),
                ("patch", &mut item.patch),
                ("delete", &mut item.delete),
            ] {
                if let Some(operation) = operation {
                    operation.operation_id = Some(format!("{method}_{name}"));
                }
            }
        }
    }
}

/// The description of everything.
#[derive(OpenApi)]
#[openapi(
    info(title = "Baton", description = "Durable delegation between AI agents"),
    modifiers(&Bearer, &Names),
    paths(
        delegations::delegate, delegations::record, delegations::update, delegation_views::list, delegation_views::get,
        steering::heartbeat, steering::cancel, steering::input, retry::retry,
        activity::list, activity::log, mcp::post, mcp::nothing_to_listen_to, inbox::inbox, inbox::acknowledge, inbox::notify,
        a2a::post, a2a::card::get, a2a::card::get_old,
        events::newest, events::newest_of, events::stream_of, sockets::open, session::get, session::begin,
        canvas::picture::get, canvas::lines::list, canvas::lines::some, canvas::whole::get,
        canvas::bulk::cancel, canvas::bulk::retry,
        workspace_creation::create, workspaces::list, workspaces::get, workspaces::patch, workspaces::remove,
        tokens::list, tokens::create, tokens::revoke,
        webhooks::create, webhooks::list, webhooks::delete, notifications::notified,
        registry::register, registry::update_card, registry::discover, registry::peers, registry::check_access,
        heartbeat::heartbeat,
        admin::delegations, admin::stats, admin::invariants, admin::liveness, webhooks::receivers, webhooks::replay,
        waiting::breakers, waiting::reset, waiting::drop_stale, health_history::health,
        ops::health, ops::build_info, ops::metrics_text,
    )
)]
pub(crate) struct ApiDoc;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_with_the_refusals_that_any_may_give() {
        let api = ApiDoc::openapi();
        let mut names = std::collections::BTreeSet::new();
        let mut operations = 0;
        for item in api.paths.paths.values() {
            let methods = [&item.get, &item.post, &item.patch, &item.delete];
            for operation in methods.into_iter().flatten() {
                operations += 1;
                names.insert(operation.operation_id.clone());
                for status in ["429", "500", "503"] {
                    assert!(operation.responses.responses.contains_key(status));
                }
            }
        }
        assert_eq!((operations, names.len()), (62, 62));
        // The later description of a status counts, so a route's own stands behind the common ones.
        let text = api.to_json().unwrap();
        assert!(text.contains("`starting` or `degraded`") && text.contains("no address now"));
    }
}
