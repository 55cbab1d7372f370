//! Many delegations at once: to withdraw what lives, to begin again what ended. Each goes the way that it goes alone, several
//! side by side, so that they share commits.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::wanted::{Asked, Cursor, keys};
use crate::auth::Principal;
use crate::delegation::Applied;
use crate::domain::{DelegationKey, Event, Position, Status};
use crate::http::answer;
use crate::http::body::{self, Fields};
use crate::http::error::{ApiError, Fault};
use crate::http::extract::Anybody;
use crate::http::openapi::{BulkBody, BulkCancelBody, Limited, Refused};
use crate::http::retry::{Again, repeat};
use crate::http::state::AppState;
use crate::store::{self, Acceptance, LineFilter, Parties, Reader, Tally};

const INVALID: &str = "invalid request body";

/// What a body may say. Anything else is refused: a misspelt `dry_run` would act.
const KNOWN: [&str; 7] = [
    "ids",
    "status",
    "workspace_id",
    "q",
    "before",
    "reason",
    "dry_run",
];

/// How many one call acts on, or names.
const AT_ONCE: usize = 500;
/// How many of them are under way side by side.
const SIDE_BY_SIDE: usize = 8;
/// How many are counted, well within the time that a read has.
const COUNTED: usize = 20_000;
/// How many are looked at for a text when they are only counted.
const COUNTED_LOOK: usize = 5_000;
/// How many refusals are told with their reasons.
const TOLD: usize = 20;

/// What is done to each.
#[derive(Clone, Debug)]
enum Act {
    Cancel(String),
    Retry,
}

impl Act {
    /// Whether it can be done to those that stand so.
    const fn fits(&self, status: Status) -> bool {
        match self {
            Self::Cancel(_) => !status.is_terminal(),
            Self::Retry => status.is_terminal(),
        }
    }
}

/// To which, and what.
struct Errand {
    act: Act,
    filter: LineFilter,
    named: Option<Vec<DelegationKey>>,
    dry_run: bool,
}

impl Errand {
    fn read(fields: &Fields, principal: Principal, act: Act) -> Result<Self, ApiError> {
        let invalid = |fault: Fault| fault.under(INVALID);
        must_be_known(fields)?;
        let asked = Asked::of(|name| fields.text(name))?;
        let named = keys(fields, AT_ONCE)?;
        if named.is_some() && asked.is_filter() {
            let reason = "cannot be given together with status, workspace_id or q";
            return Err(invalid(Fault::new("ids", reason)));
        }
        if named.is_none() && !asked.has_status() {
            let reason = "is required unless ids are given: in_flight or ended mean all of these";
            return Err(invalid(Fault::new("status", reason)));
        }
        let mut filter = asked.filter(principal, AT_ONCE)?;
        // What it was given, it may see; to act is its caller's business.
        if let Principal::Workspace(own) = principal {
            filter.parties = Parties::Caller(own);
        }
        let all = filter.statuses.is_empty();
        let wanted = Status::ALL.iter().copied();
        let wanted = wanted.filter(|status| all || filter.statuses.contains(status));
        filter.statuses = wanted.filter(|status| act.fits(*status)).collect();
        filter.repeatable = matches!(act, Act::Retry);
        Ok(Self {
            named,
            dry_run: fields.flag("dry_run").map_err(invalid)?.unwrap_or(false),
            filter,
            act,
        })
    }

    /// Whether there can be none: no filter would stand for all.
    const fn is_void(&self) -> bool {
        self.filter.statuses.is_empty()
    }
}

fn must_be_known(fields: &Fields) -> Result<(), ApiError> {
    let Some(name) = fields.unknown(&KNOWN) else {
        return Ok(());
    };
    let reason = format!("is not known; known are: {}", KNOWN.join(", "));
    let extra = json!({"field": name, "reason": reason});
    Err(ApiError::with(StatusCode::BAD_REQUEST, INVALID, extra))
}

/// Those that are meant, newest first, and where the next call goes on.
#[derive(Default)]
struct Meant {
    found: Vec<(DelegationKey, Position)>,
    /// Whether those of exactly an id may be among them.
    is_first: bool,
    next: Option<Cursor>,
}

fn meant(
    reader: &mut dyn Reader,
    filter: &LineFilter,
    named: Option<&[DelegationKey]>,
) -> Result<Meant, store::Error> {
    let of = |line: &store::Line| (line.line.key.clone(), line.line.number);
    let Some(named) = named else {
        let page = reader.lines(filter)?;
        return Ok(Meant {
            found: page.lines.iter().map(of).collect(),
            is_first: filter.is_first,
            next: page.next.map(Cursor::next),
        });
    };
    let mut lines = reader.lines_of(named)?;
    lines.retain(|line| {
        filter.before.is_none_or(|before| line.line.number < before) && filter.means(&line.line)
    });
    if filter.repeatable {
        let may = reader.repeatable(named)?;
        lines.retain(|line| may.contains(&line.line.key));
    }
    Ok(Meant {
        found: lines.iter().map(of).collect(),
        is_first: filter.is_first,
        next: None,
    })
}

/// Withdraws live delegations; a workspace those that it sent.
#[utoipa::path(post, path = "/canvas/delegations/cancel", tag = "canvas", request_body = BulkCancelBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "With `dry_run`: how many would be touched (`matched`, and `more` if there may be more than were counted), and `before`, which leaves out what is accepted later. Else how many of this call's 500 at most `matched`, were `done`, were `refused`, and `next`, unless null: call again with it as `before`", body = Value),
    Refused, Limited,
))]
pub(crate) async fn cancel(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let fields = fields(&request, payload, &state).await?;
    let reason = fields
        .text("reason")
        .map_err(|fault| fault.under(INVALID))?;
    let act = Act::Cancel(reason.unwrap_or_default());
    run(&state, Errand::read(&fields, speaker.0, act)?).await
}

/// Begins ended delegations again whose target is known; a workspace those that it sent. What was begun again is left
/// out, and may be begun again in its turn when it ended. Two calls at once begin one, unless it fails between the two.
#[utoipa::path(post, path = "/canvas/delegations/retry", tag = "canvas", request_body = BulkBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "As for `cancel`", body = Value), Refused, Limited,
))]
pub(crate) async fn retry(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let fields = fields(&request, payload, &state).await?;
    run(&state, Errand::read(&fields, speaker.0, Act::Retry)?).await
}

async fn fields(
    request: &HttpRequest,
    payload: web::Payload,
    state: &AppState,
) -> Result<Fields, ApiError> {
    let body = body::read(request, payload, state.settings.max_body_bytes).await?;
    Fields::parse(&body).map_err(|fault| fault.under(INVALID))
}

async fn run(state: &AppState, errand: Errand) -> Result<HttpResponse, ApiError> {
    let Errand { act, .. } = &errand;
    let act = act.clone();
    if errand.dry_run {
        return count(state, errand).await;
    }
    let meant = if errand.is_void() {
        Meant::default()
    } else {
        let read = state.store.read(move |reader| {
            let filter = begun_now(reader, errand.filter)?;
            meant(reader, &filter, errand.named.as_deref())
        });
        read.await?
    };
    answer::ok(&carry_out(state, &act, meant).await?)
}

/// A filter that says nothing of where it begins begins with what there is now.
fn begun_now(reader: &mut dyn Reader, mut filter: LineFilter) -> Result<LineFilter, store::Error> {
    if filter.before.is_none() {
        let Position(last) = reader.last_position()?;
        filter.before = Some(Position(last.saturating_add(1)));
    }
    Ok(filter)
}

/// How many it would be, and the cursor that holds on to these.
async fn count(state: &AppState, errand: Errand) -> Result<HttpResponse, ApiError> {
    let is_void = errand.is_void();
    let read = state.store.read(move |reader| {
        let mut filter = begun_now(reader, errand.filter)?;
        let tally = match errand.named.as_deref() {
            _ if is_void => Tally {
                matched: 0,
                more: false,
            },
            Some(named) => Tally {
                matched: meant(reader, &filter, Some(named))?.found.len(),
                more: false,
            },
            None => {
                filter.limit = COUNTED;
                filter.look = COUNTED_LOOK;
                reader.tally(&filter)?
            }
        };
        Ok((tally, filter.before))
    });
    let (tally, before) = read.await?;
    let before = before.map(|before| Cursor {
        before,
        is_first: true,
    });
    answer::ok(&json!({
        "matched": tally.matched, "more": tally.more, "before": before.map(|before| before.to_string()),
    }))
}

/// What became of one.
enum Outcome {
    Done,
    /// It moved on by itself meanwhile.
    Passed,
    Refused(String),
    /// Nothing, for now.
    Later(ApiError),
}

/// What became of all.
#[derive(Default)]
struct Report {
    done: usize,
    refused: usize,
    told: Vec<Value>,
    /// How many there was an outcome of before the first of which there was none.
    passed: usize,
    /// The first of which there was none, and why.
    later: Option<(Position, ApiError)>,
}

impl Report {
    fn take(&mut self, key: &DelegationKey, number: Position, outcome: Outcome) {
        let is_over = self.later.is_some();
        match outcome {
            Outcome::Done => self.done = self.done.saturating_add(1),
            Outcome::Later(error) if !is_over => self.later = Some((number, error)),
            // What was refused after that, the next call meets again, and tells.
            Outcome::Refused(error) if !is_over => {
                self.refused = self.refused.saturating_add(1);
                if self.told.len() < TOLD {
                    let (caller, id) = (key.caller.to_string(), key.id.to_string());
                    self.told
                        .push(json!({"caller_id": caller, "delegation_id": id, "error": error}));
                }
            }
            Outcome::Passed | Outcome::Refused(_) | Outcome::Later(_) => {}
        }
        if self.later.is_none() {
            self.passed = self.passed.saturating_add(1);
        }
    }
}

/// Once there is no room for one, no others are begun; those under way are waited for.
async fn carry_out(state: &AppState, act: &Act, meant: Meant) -> Result<Value, ApiError> {
    let Meant {
        found,
        is_first,
        mut next,
    } = meant;
    let matched = found.len();
    let is_over = Cell::new(false);
    let work = stream::iter(found).map(async |(key, number)| {
        if is_over.get() {
            return None;
        }
        let outcome = one(state, act, &key).await;
        if matches!(outcome, Outcome::Later(_)) {
            is_over.set(true);
        }
        Some((key, number, outcome))
    });
    let mut outcomes = pin!(work.buffered(SIDE_BY_SIDE));
    let mut report = Report::default();
    while let Some(outcome) = outcomes.next().await {
        if let Some((key, number, outcome)) = outcome {
            report.take(&key, number, outcome);
        }
    }
    if let Some((Position(number), error)) = report.later {
        // If nothing was done, there is nothing to tell.
        if report.passed == 0 && report.done == 0 {
            return Err(error);
        }
        next = Some(Cursor {
            before: Position(number.saturating_add(1)),
            is_first,
        });
    }
    Ok(json!({
        "matched": matched, "done": report.done, "refused": report.told, "refused_count": report.refused,
        "next": next.map(|next| next.to_string()),
    }))
}

async fn one(state: &AppState, act: &Act, key: &DelegationKey) -> Outcome {
    let outcome = match act {
        Act::Cancel(reason) => withdraw(state, key, reason).await,
        Act::Retry => begin_again(state, key).await,
    };
    outcome.unwrap_or_else(|error| match error.status_code() {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Outcome::Later(error),
        _ => Outcome::Refused(in_words(&error)),
    })
}

async fn withdraw(
    state: &AppState,
    key: &DelegationKey,
    reason: &str,
) -> Result<Outcome, ApiError> {
    let event = Event::Cancelled {
        reason: reason.into(),
    };
    Ok(match state.delegations.apply(key.clone(), event).await? {
        Applied::Moved(_) => Outcome::Done,
        Applied::NoUse(_) | Applied::Repeat(_) | Applied::Ended(_) | Applied::Unknown => {
            Outcome::Passed
        }
    })
}

/// Under a key that is the old one's own, so that two calls at once begin one. A key is given back by what fails, hence the
/// look before.
async fn begin_again(state: &AppState, key: &DelegationKey) -> Result<Outcome, ApiError> {
    let wanted = [key.clone()];
    let may = state.store.read(move |reader| reader.repeatable(&wanted));
    if may.await?.is_empty() {
        return Ok(Outcome::Passed);
    }
    let again = Again::under(format!("canvas-retry-{}", key.id));
    let begun = repeat(state, key.clone(), again, None).await?;
    Ok(match begun.acceptance {
        Acceptance::Created { .. } => Outcome::Done,
        Acceptance::Replayed { .. } => Outcome::Passed,
        Acceptance::KeyMismatch => Outcome::Refused(in_words(&ApiError::key_mismatch())),
        // The new id, not the old one's.
        Acceptance::IdTaken => Outcome::Later(ApiError::datastore(Duration::from_secs(1))),
    })
}

fn in_words(error: &ApiError) -> String {
    let body = error.body();
    let reason = body.get("reason").or_else(|| body.get("hint"));
    match reason.and_then(Value::as_str) {
        Some(reason) => format!("{error}: {reason}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DelegationId, WorkspaceId};

    #[test]
    fn what_was_under_way_is_counted_and_left_to_the_next_call_to_tell() {
        let key = DelegationKey {
            caller: WorkspaceId::mint(),
            id: DelegationId::mint(),
        };
        let no = || Outcome::Refused("no".to_owned());
        let away = || Outcome::Later(ApiError::datastore(Duration::from_secs(1)));
        let outcomes = [Outcome::Done, no(), away(), Outcome::Done, no(), away()];
        let mut report = Report::default();
        for (number, outcome) in (0..6).rev().zip(outcomes) {
            report.take(&key, Position(number), outcome);
        }
        assert_eq!((report.done, report.passed), (2, 2));
        assert_eq!((report.refused, report.told.len()), (1, 1));
        let later = report.later.map(|(number, _)| number);
        assert_eq!(later, Some(Position(3)));
    }
}
