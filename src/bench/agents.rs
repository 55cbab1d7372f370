//! Scripted agents: A2A endpoints in this process, one port each, that answer without reading more than they must.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::{TcpListener, TcpStream};

use super::http::member;
use super::sight::Sight;
use crate::config::AgentKind;

/// How far from its middle a normal distribution leaves one in a hundred on each side.
const ONE_IN_A_HUNDRED: f64 = 2.326_347_874;

/// What all agents share.
struct Script {
    kind: AgentKind,
    dice: RefCell<StdRng>,
    text: String,
    sight: Rc<Sight>,
}

/// The agents; they end with the process.
#[derive(Default)]
pub(super) struct Agents {
    pub(super) urls: Vec<String>,
    /// How many tasks each says that it takes at once.
    pub(super) at_once: Option<u32>,
}

impl Agents {
    pub(super) async fn start(
        count: u32,
        kind: AgentKind,
        at_once: Option<u32>,
        seed: u64,
        sight: &Rc<Sight>,
    ) -> anyhow::Result<Self> {
        let script = Rc::new(Script {
            kind,
            dice: RefCell::new(StdRng::seed_from_u64(seed)),
            text: "x".repeat(200),
            sight: Rc::clone(sight),
        });
        let mut urls = Vec::new();
        for _ in 0..count {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            urls.push(format!("http://{}/", listener.local_addr()?));
            actix_web::rt::spawn(listen(listener, Rc::clone(&script)));
        }
        Ok(Self { urls, at_once })
    }
}

async fn listen(listener: TcpListener, script: Rc<Script>) {
    loop {
        // Out of files for a moment, or a caller that is gone already.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        actix_web::rt::spawn(serve(stream, Rc::clone(&script)));
    }
}

async fn serve(stream: TcpStream, script: Rc<Script>) {
    // Without it answers are as right, only later.
    let _set = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, &script));
    // The caller may leave whenever it likes.
    let _ended = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    script: &Script,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        // It has no card.
        let mut none = Response::new(Full::default());
        *none.status_mut() = StatusCode::NOT_FOUND;
        return Ok(none);
    }
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let body = std::str::from_utf8(&body).unwrap_or_default();
    let id = member(body, "\"id\":").unwrap_or_default();
    if script.kind == AgentKind::Silent {
        std::future::pending::<()>().await;
    }
    if let Some(pause) = script.pause() {
        tokio::time::sleep(pause).await;
    }
    let text = &script.text;
    let answer = if script.kind == AgentKind::Failing {
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","error":{{"code":-32603,"message":"a tool is broken"}}}}"#
        )
    } else {
        format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"kind":"message","role":"agent","messageId":"{id}","parts":[{{"kind":"text","text":"{text}"}}]}}}}"#
        )
    };
    if let Some(delegation) = member(body, "\"messageId\":") {
        script.sight.ended(delegation);
    }
    Ok(Response::new(Full::from(answer)))
}

impl Script {
    /// How long this answer takes.
    fn pause(&self) -> Option<Duration> {
        let mut dice = self.dice.borrow_mut();
        match self.kind {
            AgentKind::Uniform(least, most) => Some(dice.random_range(least..=most)),
            AgentKind::LogNormal(low, high) => {
                let (low, high) = (low.as_secs_f64().ln(), high.as_secs_f64().ln());
                let deviation = (high - low) / (2.0 * ONE_IN_A_HUNDRED);
                let drawn = f64::midpoint(low, high) + deviation * normal(&mut dice);
                Duration::try_from_secs_f64(drawn.exp()).ok()
            }
            AgentKind::Instant | AgentKind::Failing | AgentKind::Silent => None,
        }
    }
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(dice: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - dice.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * dice.random::<f64>()).cos()
}
