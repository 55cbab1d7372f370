//! HTTP: routes to handlers, and what surrounds them. Handlers read by the pool, write through the actors, and answer
//! 2xx only after a commit.

mod a2a;
mod activity;
mod activity_query;
mod admin;
mod admission;
mod answer;
mod body;
mod canvas;
mod credentials;
mod delegation_views;
mod delegations;
mod error;
mod events;
mod extract;
mod fetched;
mod health_history;
mod heartbeat;
mod inbox;
mod mcp;
mod middleware;
mod notifications;
mod openapi;
mod ops;
mod order;
mod page;
mod registry;
mod renderer;
mod retry;
mod session;
mod sockets;
mod state;
mod steering;
mod tokens;
mod traceparent;
mod waiting;
mod webhooks;
mod workspace_creation;
mod workspace_fields;
mod workspaces;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpServer, Resource};
use tokio::net::TcpSocket;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub use health_history::LatestCheck;
use middleware::{begins, looks, reports};
pub use renderer::Renderer;
pub use state::{AppState, Readiness, Settings, Stopping};

/// What all workers of a server share. Made once, cloned into each.
#[derive(Clone)]
struct Shared {
    state: web::Data<AppState>,
    rate: web::Data<middleware::RateLimit>,
}

impl Shared {
    /// For one server.
    fn new(state: AppState) -> Self {
        let rate = middleware::RateLimit::new(state.settings.rate_limit);
        Self {
            state: web::Data::new(state),
            rate: web::Data::new(rate),
        }
    }
}

/// Most connections of one worker; more wait until one ends, in the system's queue, which is [`BACKLOG`] long.
const CONNECTIONS: usize = 25_000;
/// Most connections that wait to be taken in; who comes then is not answered by the system, and tries again.
const BACKLOG: u32 = 1024;
/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection is kept that asks nothing: longer than clients let pass between two polls.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Begins to listen, as std does but for the length of the queue.
///
/// # Errors
/// When the address cannot be used.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Serves on `listener`; once told to stop, requests in flight get `grace` to finish. Signals are the caller's.
///
/// # Errors
/// When the socket cannot be used.
pub fn serve(state: AppState, listener: TcpListener, grace: Duration) -> std::io::Result<Server> {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Reads are all that blocks, and any worker may have the turn for all of them.
    let blocking = state.settings.read_connections;
    let shared = Shared::new(state);
    let server = HttpServer::new(move || app(shared.clone()))
        .workers(workers)
        .worker_max_blocking_threads(blocking.max(1))
        .max_connections(CONNECTIONS)
        .client_request_timeout(HEAD_TIME)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(grace.as_secs())
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// The application of one worker: the routes, and around them security headers, metrics, the rate limit, origins and
/// the net for panics.
fn app(
    shared: Shared,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let origins = shared.state.settings.cors_origins.clone();
    App::new()
        .app_data(shared.state)
        .app_data(shared.rate)
        .configure(routes)
        .wrap(from_fn(middleware::inside))
        .wrap(middleware::cors(origins))
        .wrap(from_fn(middleware::outside))
}

/// A path whose other methods are answered like paths that do not exist (contract §1.2).
fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::to(ops::no_such_route))
}

fn routes(config: &mut ServiceConfig) {
    let docs = Config::new(["/openapi.json"]);
    config
        .configure(workspace_routes)
        .service(
            at("/")
                .route(web::get().to(page::index))
                .route(web::head().to(page::index)),
        )
        .service(
            at("/assets/{path:.*}")
                .route(web::get().to(page::asset))
                .route(web::head().to(page::asset)),
        )
        .service(
            at("/session")
                .route(web::get().to(session::get))
                .route(web::post().to(session::begin)),
        )
        .service(at("/health").route(web::get().to(ops::health)))
        .service(at("/buildinfo").route(web::get().to(ops::build_info)))
        .service(at("/metrics").route(web::get().to(ops::metrics_text)))
        .service(at("/openapi.json").route(web::get().to(ops::description)))
        .service(at("/docs").route(web::get().to(ops::to_docs)))
        .service(SwaggerUi::new("/docs/{_:.*}").config(docs))
        .service(at("/ws").route(web::get().to(sockets::open)))
        .service(at("/events").route(web::get().to(events::newest)))
        .service(at("/events/{id}").route(web::get().to(events::newest_of)))
        .service(
            at("/a2a/notifications/{caller}/{delegation_id}")
                .route(web::post().to(notifications::notified)),
        )
        .configure(canvas_routes)
        .configure(registry_routes)
        .configure(admin_routes)
        .default_service(web::to(ops::no_such_route));
}

fn workspace_routes(config: &mut ServiceConfig) {
    let workspaces = at("/workspaces")
        .route(web::get().to(workspaces::list))
        .route(reports(web::post().to(workspace_creation::create)));
    // A scope, so that the long way through the patterns is gone once, and the busiest first.
    let one = web::scope("/workspaces/{id}")
        .service(
            at("")
                .route(web::get().to(workspaces::get))
                .route(reports(web::patch().to(workspaces::patch)))
                .route(reports(web::delete().to(workspaces::remove))),
        )
        .service(at("/delegate").route(begins(web::post().to(delegations::delegate))))
        .service(
            at("/delegations/{delegation_id}/update")
                .route(reports(web::post().to(delegations::update))),
        )
        .service(at("/delegations").route(web::get().to(delegation_views::list)))
        .service(at("/delegations/record").route(begins(web::post().to(delegations::record))))
        .service(at("/delegations/{delegation_id}").route(web::get().to(delegation_views::get)))
        .service(
            at("/delegations/{delegation_id}/heartbeat")
                .route(reports(web::post().to(steering::heartbeat))),
        )
        .service(
            at("/delegations/{delegation_id}/cancel")
                .route(reports(web::post().to(steering::cancel))),
        )
        .service(
            at("/delegations/{delegation_id}/input")
                .route(reports(web::post().to(steering::input))),
        )
        .service(
            at("/delegations/{delegation_id}/retry").route(begins(web::post().to(retry::retry))),
        )
        .service(
            at("/activity")
                .route(web::get().to(activity::list))
                .route(reports(web::post().to(activity::log))),
        )
        .service(at("/activity/ack").route(reports(web::post().to(inbox::acknowledge))))
        .service(at("/inbox").route(web::get().to(inbox::inbox)))
        .service(
            at("/mcp")
                .route(looks(web::post().to(mcp::post)))
                .route(web::get().to(mcp::nothing_to_listen_to))
                .route(web::delete().to(mcp::nothing_to_listen_to)),
        )
        .configure(a2a_routes)
        .service(at("/notify").route(reports(web::post().to(inbox::notify))))
        .service(at("/events/stream").route(web::get().to(events::stream_of)))
        .service(
            at("/tokens")
                .route(web::get().to(tokens::list))
                .route(reports(web::post().to(tokens::create))),
        )
        .service(at("/tokens/{token_id}").route(reports(web::delete().to(tokens::revoke))))
        .service(
            at("/webhooks")
                .route(web::get().to(webhooks::list))
                .route(reports(web::post().to(webhooks::create))),
        )
        .service(at("/webhooks/{webhook_id}").route(reports(web::delete().to(webhooks::delete))));
    config.service(workspaces).service(one);
}

/// JSON-RPC is at both addresses of a workspace, with a slash at their end or not, and for either version.
fn a2a_routes(config: &mut ServiceConfig) {
    for path in ["/a2a", "/a2a/", "/a2a/v0.3", "/a2a/v0.3/"] {
        config.service(at(path).route(web::post().to(a2a::post)));
    }
    let card = web::get().to(a2a::card::get);
    let old_card = web::get().to(a2a::card::get_old);
    config
        .service(at("/a2a/.well-known/agent-card.json").route(card))
        .service(at("/a2a/v0.3/.well-known/agent-card.json").route(old_card))
        .service(web::resource("/a2a/{operation:.*}").to(a2a::operation));
}

fn canvas_routes(config: &mut ServiceConfig) {
    config
        .service(at("/canvas").route(web::get().to(canvas::picture::get)))
        .service(at("/canvas/delegations").route(web::get().to(canvas::lines::list)))
        .service(at("/canvas/delegations/lines").route(looks(web::post().to(canvas::lines::some))))
        .service(
            at("/canvas/delegations/cancel").route(reports(web::post().to(canvas::bulk::cancel))),
        )
        .service(at("/canvas/delegations/retry").route(begins(web::post().to(canvas::bulk::retry))))
        .service(
            at("/canvas/delegations/{caller}/{delegation_id}")
                .route(web::get().to(canvas::whole::get)),
        );
}

fn registry_routes(config: &mut ServiceConfig) {
    config
        .service(at("/registry/register").route(reports(web::post().to(registry::register))))
        .service(at("/registry/heartbeat").route(reports(web::post().to(heartbeat::heartbeat))))
        .service(at("/registry/update-card").route(reports(web::post().to(registry::update_card))))
        .service(at("/registry/check-access").route(looks(web::post().to(registry::check_access))))
        .service(at("/registry/discover/{id}").route(web::get().to(registry::discover)))
        .service(at("/registry/{id}/peers").route(web::get().to(registry::peers)));
}

fn admin_routes(config: &mut ServiceConfig) {
    config
        .service(at("/admin/delegations").route(web::get().to(admin::delegations)))
        .service(at("/admin/delegations/stats").route(web::get().to(admin::stats)))
        .service(at("/admin/invariants").route(web::get().to(admin::invariants)))
        .service(at("/admin/receivers").route(web::get().to(webhooks::receivers)))
        .service(
            at("/admin/receivers/{receiver_id}/replay")
                .route(reports(web::post().to(webhooks::replay))),
        )
        .service(at("/admin/liveness").route(web::get().to(admin::liveness)))
        .service(at("/canvas/health").route(web::get().to(health_history::health)))
        .service(at("/admin/breakers").route(web::get().to(waiting::breakers)))
        .service(at("/admin/breakers/{id}/reset").route(web::post().to(waiting::reset)))
        .service(
            at("/admin/a2a-queue/drop-stale").route(reports(web::post().to(waiting::drop_stale))),
        );
}
