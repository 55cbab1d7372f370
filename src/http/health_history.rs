//! How this node is, and how its last hour was: for the page, in one answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::admin::{after, pulse};
use super::answer;
use super::error::ApiError;
use super::extract::{Anybody, Query};
use super::openapi::{Limited, Unauthorised};
use super::state::AppState;
use super::waiting::line;
use crate::auth::Principal;
use crate::clock;
use crate::domain::{Breaker, LineView, Timestamp, audit};
use crate::store;
use crate::telemetry::{Quantiles, Sample};

/// Most lines that are shown.
const LINES: usize = 200;
/// How many of the newest delegations are checked.
const CHECKED: i64 = 1000;
/// How long the latest check is good enough.
const CHECK_EVERY: Duration = Duration::from_mins(1);

/// How this node is, and what happened within each step of the last 360.
#[utoipa::path(get, path = "/canvas/health", tag = "canvas", params(
    ("after" = Option<i64>, Query, description = "Only samples that are later, in milliseconds since 1970"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`samples`: columns of the same length; `lines`: targets that somebody waits for, or that cannot be called; `nodes`, `liveness`, `invariants`", body = Value),
    (status = 400, description = "`after` is no number", body = Value),
    (status = 403, description = "A workspace asks", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn health(
    Anybody(principal): Anybody,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    if principal != Principal::Admin {
        return Err(ApiError::Forbidden {
            error: "admin only",
            reason: Some("the health of the service is shown to the admin"),
        });
    }
    let samples = state.history.after(after(&query)?);
    let (nodes, check) = tokio::join!(nodes(&state), state.latest_check.of(&state));
    answer::ok(&Health {
        now: clock::now().to_rfc3339(),
        node: state.persistence.node().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: state.history.began().to_rfc3339(),
        step_ms: state.history.step().as_millis(),
        samples: columns(&samples),
        lines: lines(&state),
        // What the database does not tell now is null; the rest is known without it.
        nodes: nodes.ok(),
        liveness: pulse(&state),
        invariants: check.ok().map(|check| check.shown()),
    })
}

#[derive(Serialize)]
struct Health {
    now: String,
    node: String,
    version: &'static str,
    started_at: String,
    step_ms: u128,
    samples: BTreeMap<&'static str, Column>,
    lines: Vec<Value>,
    nodes: Option<Vec<Value>>,
    liveness: Value,
    invariants: Option<Value>,
}

/// Something of each sample.
#[derive(Serialize)]
#[serde(untagged)]
enum Column {
    Numbers(Vec<i64>),
    /// In milliseconds; null where nothing was measured.
    Times(Vec<Option<f64>>),
    /// By name.
    Columns(BTreeMap<&'static str, Vec<u32>>),
}

type Count = fn(&Sample) -> u32;
type Measured = fn(&Sample) -> Quantiles;

fn columns(samples: &[Sample]) -> BTreeMap<&'static str, Column> {
    let counts: [(&str, Count); 8] = [
        ("accepted", |sample| sample.accepted),
        ("completed", |sample| sample.completed),
        ("failed", Sample::failed),
        ("cancelled", |sample| sample.cancelled),
        ("live", Sample::live),
        ("shed", |sample| sample.shed),
        ("write_queue", |sample| sample.standing.write_queue),
        ("calls", |sample| sample.standing.calls),
    ];
    let measured: [(&str, &str, Measured); 4] = [
        ("accept_p50", "accept_p99", |sample| sample.acceptance),
        ("commit_p50", "commit_p99", |sample| sample.commit),
        ("call_p50", "call_p99", |sample| sample.call),
        ("lasting_p50", "lasting_p99", |sample| sample.lasting),
    ];
    let numbers = |of: &dyn Fn(&Sample) -> i64| Column::Numbers(samples.iter().map(of).collect());
    let mut columns = BTreeMap::from([("at", numbers(&|sample| sample.at))]);
    for (name, count) in counts {
        columns.insert(name, numbers(&|sample| count(sample).into()));
    }
    for (median, high, quantiles) in measured {
        let of = |one: fn(Quantiles) -> Option<Duration>| {
            let times = samples
                .iter()
                .map(|sample| one(quantiles(sample)).map(milliseconds));
            Column::Times(times.collect())
        };
        columns.insert(median, of(Quantiles::p50));
        columns.insert(high, of(Quantiles::p99));
    }
    let statuses = samples.iter().map(|sample| {
        sample
            .statuses()
            .map(|(status, count)| (status.as_str(), count))
    });
    columns.insert("statuses", named(statuses));
    let classes = samples.iter().map(|sample| {
        sample
            .classes()
            .map(|(class, count)| (class.as_str(), count))
    });
    columns.insert("classes", named(classes));
    columns
}

/// A column for each name. A name that never counts is left out.
fn named(rows: impl Iterator<Item = impl Iterator<Item = (&'static str, u32)>>) -> Column {
    let mut columns: BTreeMap<&'static str, Vec<u32>> = BTreeMap::new();
    for (name, count) in rows.flatten() {
        columns.entry(name).or_default().push(count);
    }
    columns.retain(|_, counts| counts.iter().any(|count| *count > 0));
    Column::Columns(columns)
}

/// To the microsecond, as long as that says anything.
fn milliseconds(time: Duration) -> f64 {
    match u32::try_from(time.as_micros()) {
        Ok(micros) => f64::from(micros) / 1000.0,
        Err(_long) => f64::from(u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
    }
}

/// The lines of this node that tell of something: somebody waits, or the target cannot be called. The longest come first.
fn lines(state: &AppState) -> Vec<Value> {
    let is_held_up = |view: &LineView| view.breaker != Breaker::Closed || view.hindrance.is_some();
    let mut lines = state.delegations.lines();
    lines.retain(|(_, view)| view.waiting > 0 || is_held_up(view));
    lines.sort_unstable_by_key(|(target, view)| {
        (Reverse(view.waiting), Reverse(view.failures), *target)
    });
    let shown = lines.iter().take(LINES);
    shown.map(|(target, view)| line(*target, view)).collect()
}

/// The nodes that share the database, but for the one in whose name a migration held what nobody had in charge.
async fn nodes(state: &AppState) -> Result<Vec<Value>, store::Error> {
    let own = state.persistence.node();
    let nodes = state.store.read(|reader| reader.nodes()).await?;
    let real = nodes.iter().filter(|node| !node.id.0.is_nil());
    let shown = real.map(|node| {
        json!({
            "id": node.id.to_string(), "holder": node.holder.to_string(), "expired": node.expired, "self": node.id == own,
        })
    });
    Ok(shown.collect())
}

/// The newest delegations, held against the rules: once a minute at most, and only when somebody asks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LatestCheck(Arc<Mutex<Option<Check>>>);

#[derive(Clone, Copy, Debug)]
struct Check {
    made: Instant,
    at: Timestamp,
    checked: usize,
    violations: usize,
}

impl LatestCheck {
    /// Who comes while it is made waits for it.
    async fn of(&self, state: &AppState) -> Result<Check, store::Error> {
        let mut latest = self.0.lock().await;
        if let Some(check) = latest.filter(|check| check.made.elapsed() < CHECK_EVERY) {
            return Ok(check);
        }
        let at = clock::now();
        let limits = state.settings.audit_limits(at);
        let audited = state
            .store
            .read(move |reader| reader.audit_newest(CHECKED, limits))
            .await?;
        let check = Check {
            made: Instant::now(),
            at,
            checked: audited.len(),
            violations: audited.iter().map(|audited| audit(audited).len()).sum(),
        };
        *latest = Some(check);
        Ok(check)
    }
}

impl Check {
    fn shown(&self) -> Value {
        json!({"checked": self.checked, "violations": self.violations, "at": self.at.to_rfc3339()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_numbers_of_milliseconds() {
        let shown = |time| serde_json::to_string(&milliseconds(time)).unwrap();
        assert_eq!(shown(Duration::from_micros(1203)), "1.203");
        assert_eq!(shown(Duration::from_hours(720)), "2592000000.0");
    }

    #[test]
    fn a_name_that_never_counts_has_no_column() {
        let rows = [[("a", 0), ("b", 1)], [("a", 0), ("b", 0)]];
        let column = named(rows.into_iter().map(IntoIterator::into_iter));
        assert_eq!(serde_json::to_value(&column).unwrap(), json!({"b": [1, 0]}));
    }

    #[test]
    fn without_samples_the_columns_are_there_and_empty() {
        let shown = serde_json::to_value(columns(&[])).unwrap();
        let members = shown.as_object().unwrap();
        assert_eq!(members.len(), 1 + 8 + 8 + 2);
        assert!(
            members
                .values()
                .all(|column| *column == json!([]) || *column == json!({}))
        );
    }
}
