//! HTTP: routes to handlers, and what surrounds them. Handlers read by the pool, write through the actors, and answer
//! 2xx only after a commit.

mod activity;
mod activity_query;
mod admin;
mod admission;
mod answer;
mod body;
mod delegation_views;
mod delegations;
mod error;
mod events;
mod extract;
mod fetched;
mod heartbeat;
mod inbox;
mod middleware;
mod openapi;
mod ops;
mod order;
mod registry;
mod retry;
mod sockets;
mod state;
mod steering;
mod tail;
mod tokens;
mod traceparent;
mod waiting;
mod workspace_creation;
mod workspace_fields;
mod workspaces;

use std::net::TcpListener;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpServer, Resource};
use utoipa_swagger_ui::{Config, SwaggerUi};

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

/// Serves on `listener`; once told to stop, requests in flight get `grace` to finish. Signals are the caller's.
///
/// # Errors
/// When the socket cannot be used.
pub fn serve(state: AppState, listener: TcpListener, grace: Duration) -> std::io::Result<Server> {
    let shared = Shared::new(state);
    let server = HttpServer::new(move || app(shared.clone()))
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
        .wrap(from_fn(middleware::security_headers))
        .wrap(from_fn(middleware::measure))
        .wrap(from_fn(middleware::limit_rate))
        .wrap(middleware::cors(origins))
        .wrap(from_fn(middleware::origin_guard))
        .wrap(from_fn(middleware::catch_panics))
}

/// A path whose other methods are answered like paths that do not exist (contract §1.2).
fn at(path: &str) -> Resource {
    web::resource(path).default_service(web::to(ops::no_such_route))
}

fn routes(config: &mut ServiceConfig) {
    let docs = Config::new(["/openapi.json"]);
    config
        .service(at("/health").route(web::get().to(ops::health)))
        .service(at("/buildinfo").route(web::get().to(ops::build_info)))
        .service(at("/metrics").route(web::get().to(ops::metrics_text)))
        .service(at("/openapi.json").route(web::get().to(ops::description)))
        .service(at("/docs").route(web::get().to(ops::to_docs)))
        .service(SwaggerUi::new("/docs/{_:.*}").config(docs))
        .service(at("/ws").route(web::get().to(sockets::open)))
        .service(at("/events").route(web::get().to(events::newest)))
        .service(at("/events/{id}").route(web::get().to(events::newest_of)))
        .configure(workspace_routes)
        .configure(registry_routes)
        .configure(admin_routes)
        .default_service(web::to(ops::no_such_route));
}

fn workspace_routes(config: &mut ServiceConfig) {
    let one = "/workspaces/{id}";
    let under = |rest: &str| at(&format!("{one}/{rest}"));
    config
        .service(
            at("/workspaces")
                .route(web::get().to(workspaces::list))
                .route(web::post().to(workspace_creation::create)),
        )
        .service(
            at(one)
                .route(web::get().to(workspaces::get))
                .route(web::patch().to(workspaces::patch))
                .route(web::delete().to(workspaces::remove)),
        )
        .service(under("delegate").route(web::post().to(delegations::delegate)))
        .service(under("delegations").route(web::get().to(delegation_views::list)))
        .service(under("delegations/record").route(web::post().to(delegations::record)))
        .service(under("delegations/{delegation_id}").route(web::get().to(delegation_views::get)))
        .service(
            under("delegations/{delegation_id}/update").route(web::post().to(delegations::update)),
        )
        .service(
            under("delegations/{delegation_id}/heartbeat")
                .route(web::post().to(steering::heartbeat)),
        )
        .service(
            under("delegations/{delegation_id}/cancel").route(web::post().to(steering::cancel)),
        )
        .service(under("delegations/{delegation_id}/input").route(web::post().to(steering::input)))
        .service(under("delegations/{delegation_id}/retry").route(web::post().to(retry::retry)))
        .service(
            under("activity")
                .route(web::get().to(activity::list))
                .route(web::post().to(activity::log)),
        )
        .service(under("activity/ack").route(web::post().to(inbox::acknowledge)))
        .service(under("inbox").route(web::get().to(inbox::inbox)))
        .service(under("notify").route(web::post().to(inbox::notify)))
        .service(under("events/stream").route(web::get().to(events::stream_of)))
        .service(
            under("tokens")
                .route(web::get().to(tokens::list))
                .route(web::post().to(tokens::create)),
        )
        .service(under("tokens/{token_id}").route(web::delete().to(tokens::revoke)));
}

fn registry_routes(config: &mut ServiceConfig) {
    config
        .service(at("/registry/register").route(web::post().to(registry::register)))
        .service(at("/registry/heartbeat").route(web::post().to(heartbeat::heartbeat)))
        .service(at("/registry/update-card").route(web::post().to(registry::update_card)))
        .service(at("/registry/check-access").route(web::post().to(registry::check_access)))
        .service(at("/registry/discover/{id}").route(web::get().to(registry::discover)))
        .service(at("/registry/{id}/peers").route(web::get().to(registry::peers)));
}

fn admin_routes(config: &mut ServiceConfig) {
    config
        .service(at("/admin/delegations").route(web::get().to(admin::delegations)))
        .service(at("/admin/delegations/stats").route(web::get().to(admin::stats)))
        .service(at("/admin/invariants").route(web::get().to(admin::invariants)))
        .service(at("/admin/liveness").route(web::get().to(admin::liveness)))
        .service(at("/admin/breakers").route(web::get().to(waiting::breakers)))
        .service(at("/admin/breakers/{id}/reset").route(web::post().to(waiting::reset)))
        .service(at("/admin/a2a-queue/drop-stale").route(web::post().to(waiting::drop_stale)));
}
