//! `/workspaces/{id}/mcp`: the Model Context Protocol over Streamable HTTP, without sessions. What a tool does is what the
//! route of the same purpose does: the same admission, the same actors (docs/MCP.md).

mod stream;
mod tasks;
mod tools;
mod waiting;

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use rmcp::model::{
    CacheScope, CallToolRequestParams, DiscoverResult, ErrorCode, ErrorData, Implementation,
    InitializeResult, ListToolsResult, ProtocolVersion, RequestId, RequestMetaObject,
    ServerCapabilities, TASKS_EXTENSION_ID, ToolsCapability,
};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::answer;
use super::body;
use super::error::ApiError;
use super::extract::Member;
use super::openapi::{Limited, Refused, Unauthorised};
use super::state::AppState;
use tools::Wait;
use waiting::Progress;

/// The version that a client speaks which says nothing (Streamable HTTP, "Protocol Version Header").
const UNSAID: ProtocolVersion = ProtocolVersion::V_2025_03_26;
/// The header in which clients say it.
const VERSION_HEADER: &str = "mcp-protocol-version";
/// The header in which clients say what a body asks for, from 2026-07-28 on.
const METHOD_HEADER: &str = "mcp-method";
/// What only clients of this version and later know of.
const SINCE_2026: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
/// How long the list of tools may be taken as known, in milliseconds.
const TOOLS_TTL: u64 = 3_600_000;

const INSTRUCTIONS: &str = "Hand tasks to the workspaces that list_peers shows. A delegation is durable: its result arrives \
    in the inbox even if a call is cut off. Read it with wait_for_message, acknowledge it with inbox_ack.";

/// What a client sent: a request, a notification (no id), or an answer (no method).
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

impl Message {
    fn read(body: &[u8]) -> Result<Self, ErrorData> {
        let whole: Value = serde_json::from_slice(body)
            .map_err(|error| ErrorData::parse_error(format!("parse error: {error}"), None))?;
        if whole.is_array() {
            let error = "one message for each request: batches ended with version 2025-06-18";
            return Err(ErrorData::invalid_request(error, None));
        }
        serde_json::from_value(whole).map_err(|error| {
            ErrorData::invalid_request(format!("not a JSON-RPC message: {error}"), None)
        })
    }
}

/// What a request comes with, whatever it asks for.
struct Call {
    state: web::Data<AppState>,
    member: Member,
    meta: RequestMetaObject,
}

impl Call {
    /// Whether the client can take a task in place of a result.
    fn takes_tasks(&self) -> bool {
        let capabilities = self.meta.client_capabilities();
        capabilities.is_some_and(|client| client.supports_tasks())
    }
}

/// A message of an MCP client.
#[utoipa::path(post, path = "/workspaces/{id}/mcp", tag = "mcp", params(("id" = String, Path, format = "uuid")),
    request_body = Value, security(("bearer" = [])), responses(
    (status = 200, description = "The answer, as JSON, or as a stream of events for what takes long", body = Value),
    (status = 202, description = "A notification, taken"), Refused, Limited,
    (status = 400, description = "No JSON-RPC message, or of a version that is not spoken", body = Value),
))]
pub(crate) async fn post(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let message = match Message::read(&body) {
        Ok(message) => message,
        Err(error) => return refused(None, &error),
    };
    let (Some(id), Some(method)) = (message.id, message.method) else {
        return Ok(HttpResponse::Accepted().finish());
    };
    member.must_exist(&state).await?;
    let meta = message.params.get("_meta").cloned().unwrap_or_default();
    let meta: RequestMetaObject = serde_json::from_value(meta).unwrap_or_default();
    let version = match version(&request, &meta, &method) {
        Ok(version) => version,
        Err(error) => return refused(Some(&id), &error),
    };
    let call = Call {
        state,
        member,
        meta,
    };
    let answer = match outcome(&call, &method, message.params).await {
        Ok(Outcome::Waits(wait)) if takes_stream(&request) => {
            return Ok(stream::answer(call, id, wait, version));
        }
        Ok(Outcome::Waits(wait)) => wait.result(&call, &mut Progress::unseen()).await,
        Ok(Outcome::Done(result)) => Ok(result),
        Err(error) => Err(error),
    };
    answer::ok(&reply(&id, answer, &version))
}

/// There is nothing that Baton would say of its own accord, and no session to end.
#[utoipa::path(get, path = "/workspaces/{id}/mcp", tag = "mcp", params(("id" = String, Path, format = "uuid")),
    security(("bearer" = [])), responses(
    (status = 404, description = "No such workspace", body = Value),
    (status = 405, description = "Messages are posted", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn nothing_to_listen_to(_member: Member) -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header(("allow", "POST"))
        .json(json!({"error": "messages are sent with POST; the answer to each comes with its response"}))
}

/// The version that a request is spoken in.
fn version(
    request: &HttpRequest,
    meta: &RequestMetaObject,
    method: &str,
) -> Result<ProtocolVersion, ErrorData> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|text| text.to_str().ok())
    };
    let said = header(VERSION_HEADER).map(|text| Value::String(text.to_owned()));
    let said: Option<ProtocolVersion> = said.and_then(|text| serde_json::from_value(text).ok());
    let version = said.or_else(|| meta.protocol_version()).unwrap_or(UNSAID);
    // A first message may ask for any version: the answer says which there are.
    if method != "initialize" && !ProtocolVersion::KNOWN_VERSIONS.contains(&version) {
        let known = ProtocolVersion::KNOWN_VERSIONS;
        return Err(ErrorData::unsupported_protocol_version(version, known));
    }
    if header(METHOD_HEADER).is_some_and(|other| other != method) {
        let error = format!("the header Mcp-Method is not the method of the body, {method}");
        return Err(ErrorData::header_mismatch(error, None));
    }
    Ok(version)
}

fn takes_stream(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(ACCEPT);
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/event-stream"))
}

/// What a request came to at once. What it writes is committed then, before anything is answered (rule 1).
enum Outcome {
    Done(Value),
    Waits(Wait),
}

async fn outcome(call: &Call, method: &str, params: Value) -> Result<Outcome, ErrorData> {
    let result = match method {
        "initialize" => written(&initialized(&params)),
        "server/discover" => written(&DiscoverResult::from_server_info(
            ProtocolVersion::KNOWN_VERSIONS.to_vec(),
            about(),
        )),
        "ping" => Ok(json!({})),
        "tools/list" => {
            let tools = ListToolsResult::with_all_items(tools::all().to_vec());
            let tools = tools.with_ttl_ms(TOOLS_TTL);
            written(&tools.with_cache_scope(CacheScope::Public))
        }
        "tools/call" => {
            let params: CallToolRequestParams = read(params)?;
            return tools::call(call, params).await;
        }
        "tasks/get" => tasks::get(call, &read(params)?).await,
        "tasks/update" => tasks::update(call, &read(params)?).await,
        "tasks/cancel" => tasks::cancel(call, &read(params)?).await,
        _ => Err(ErrorData::new(
            ErrorCode::METHOD_NOT_FOUND,
            format!("method not found: {method}"),
            None,
        )),
    };
    result.map(Outcome::Done)
}

fn about() -> InitializeResult {
    let tasks = [(TASKS_EXTENSION_ID.to_owned(), Map::new())];
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities.extensions = Some(tasks.into());
    InitializeResult::new(capabilities)
        .with_server_info(Implementation::new("baton", env!("CARGO_PKG_VERSION")))
        .with_instructions(INSTRUCTIONS)
}

/// The version that the client asked for, or the newest that begins so.
fn initialized(params: &Value) -> InitializeResult {
    let asked = params.get("protocolVersion").cloned().unwrap_or_default();
    let asked: Option<ProtocolVersion> = serde_json::from_value(asked).ok();
    let known = |version: &ProtocolVersion| {
        ProtocolVersion::KNOWN_VERSIONS.contains(version) && version.has_initialize()
    };
    let version = asked.filter(known);
    about().with_protocol_version(version.unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE))
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, ErrorData> {
    serde_json::from_value(params)
        .map_err(|error| ErrorData::invalid_params(format!("invalid params: {error}"), None))
}

fn written(result: &impl Serialize) -> Result<Value, ErrorData> {
    serde_json::to_value(result).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ErrorData::internal_error("internal error", None)
    })
}

/// The answer to a request, in the words of the client's version.
fn reply(id: &RequestId, answer: Result<Value, ErrorData>, version: &ProtocolVersion) -> Value {
    match answer {
        Ok(mut result) => {
            if let (true, Some(members)) = (version.has_initialize(), result.as_object_mut()) {
                members.retain(|name, _| !SINCE_2026.contains(&name.as_str()));
            }
            json!({"jsonrpc": "2.0", "id": id, "result": result})
        }
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    }
}

/// What came is no request at all.
fn refused(id: Option<&RequestId>, error: &ErrorData) -> Result<HttpResponse, ApiError> {
    let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
    answer::json(StatusCode::BAD_REQUEST, &body)
}

/// A tool was called, or asked, with what makes no sense.
fn senseless(error: impl Into<Cow<'static, str>>) -> ErrorData {
    ErrorData::invalid_params(error, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_known_is_spoken_and_others_get_the_newest_with_a_handshake() {
        let spoken = |asked: &str| {
            let result = initialized(&json!({"protocolVersion": asked}));
            result.protocol_version.to_string()
        };
        assert_eq!(spoken("2024-11-05"), "2024-11-05");
        assert_eq!(spoken("2025-06-18"), "2025-06-18");
        assert_eq!(spoken("2026-07-28"), "2025-11-25");
        assert_eq!(spoken("1999-01-01"), "2025-11-25");
    }

    #[test]
    fn older_clients_see_nothing_that_is_newer_than_they_are() {
        let id = RequestId::Number(1);
        let list = || written(&ListToolsResult::with_all_items(Vec::new()).with_ttl_ms(1));
        let old = reply(&id, list(), &ProtocolVersion::V_2025_06_18);
        assert_eq!(
            old,
            json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": []}})
        );
        let new = reply(&id, list(), &ProtocolVersion::LATEST);
        assert_eq!(new["result"]["resultType"], "complete");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let code = |body: &[u8]| Message::read(body).err().map(|error| error.code.0);
        assert_eq!(code(b"{"), Some(-32700));
        assert_eq!(code(b"[]"), Some(-32600));
        assert_eq!(code(b"{\"id\":{}}"), Some(-32600));
        assert_eq!(code(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\"}"), None);
    }
}
