//! The last word of every bench: what was promised is there, once, and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::database::{Connection, RowsOf};
use super::http::{self, Call};
use super::rig::{Book, Rig};
use super::server::Kind;

/// The kinds of rows of which each ending has one.
const KINDS: [(&str, &str); 2] = [("delegation", "result row"), ("a2a_receive", "reply")];

/// How often, and how long apart, the yardstick is asked again.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// How many rows of each kind each workspace has.
pub(super) struct Stock(Vec<HashMap<String, RowsOf>>);

impl Stock {
    pub(super) fn take(kind: Kind, database: &mut Connection) -> anyhow::Result<Self> {
        let counts = KINDS.iter().map(|(activity_type, _)| {
            let rows = database.rows_of_workspaces(&count(kind, activity_type))?;
            let by_workspace = rows.into_iter().map(|row| (row.workspace.clone(), row));
            Ok(by_workspace.collect())
        });
        counts.collect::<anyhow::Result<_>>().map(Self)
    }
}

fn count(kind: Kind, activity_type: &str) -> String {
    // The original keeps the id inside the JSON, and repeats a row when asked to.
    let delegations = match kind {
        Kind::Baton => "count(DISTINCT delegation_id)",
        Kind::Baseline => "count(*)",
    };
    format!(
        "SELECT CAST(workspace_id AS text) AS workspace, count(*) AS row_count, {delegations} AS delegation_count \
         FROM activity_logs WHERE method = 'delegate_result' AND activity_type = '{activity_type}' GROUP BY workspace_id"
    )
}

/// What does not hold; nothing is what is promised.
pub(super) async fn audit(rig: &Rig, before: Option<&Stock>) -> anyhow::Result<Vec<String>> {
    let mut complaints = match rig.kind {
        Kind::Baton => violations(rig).await?,
        Kind::Baseline => Vec::new(),
    };
    if let (Some(own), Some(before)) = (&rig.server.own, before) {
        let mut database = own.database.open()?;
        let mut unsettled = differences(rig, &mut database, before)?;
        // The original shows an ending before it writes the reply.
        let mut looks = 0;
        while rig.kind == Kind::Baseline && !unsettled.is_empty() && looks < LOOKS {
            tokio::time::sleep(PAUSE).await;
            unsettled = differences(rig, &mut database, before)?;
            looks += 1;
        }
        complaints.extend(unsettled);
    }
    Ok(complaints)
}

fn differences(
    rig: &Rig,
    database: &mut Connection,
    before: &Stock,
) -> anyhow::Result<Vec<String>> {
    let after = Stock::take(rig.kind, database)?;
    let kinds = KINDS.iter().zip(before.0.iter().zip(&after.0));
    let found = kinds.flat_map(|((_, what), (before, after))| unsettled(rig, what, before, after));
    Ok(found.collect())
}

/// What the server itself finds.
async fn violations(rig: &Rig) -> anyhow::Result<Vec<String>> {
    let admin = http::bearer(&rig.server.admin_token)?;
    let mut connection = http::Connection::to(rig.server.address);
    let (mut path, mut found) = ("/admin/invariants".to_owned(), Vec::new());
    loop {
        let answer = connection.ask(&Call::get(path, &admin)?).await?;
        let violations = answer.get("violations").and_then(Value::as_array);
        let violations = violations.ok_or_else(|| anyhow::anyhow!("no list of violations"))?;
        found.extend(violations.iter().map(Value::to_string));
        match answer.get("next").and_then(Value::as_i64) {
            Some(next) if found.is_empty() => path = format!("/admin/invariants?after={next}"),
            _ => return Ok(found),
        }
    }
}

/// The callers that have more or fewer rows than the books say.
fn unsettled(
    rig: &Rig,
    what: &str,
    before: &HashMap<String, RowsOf>,
    after: &HashMap<String, RowsOf>,
) -> Vec<String> {
    let books = rig.books.borrow();
    let entries = rig.seats.iter().zip(books.iter());
    entries
        .filter_map(|(seat, book)| {
            let figures = |stock: &HashMap<String, RowsOf>| {
                let rows = stock.get(&seat.id);
                rows.map_or((0, 0), |rows| (rows.row_count, rows.delegation_count))
            };
            let ((rows_before, ids_before), (rows, ids)) = (figures(before), figures(after));
            complaint(*book, rows - rows_before, ids - ids_before)
                .map(|complaint| format!("caller {}: {complaint} {what}s", seat.id))
        })
        .collect()
}

fn complaint(book: Book, rows: i64, delegations: i64) -> Option<String> {
    let Book {
        promised,
        uncertain,
    } = book;
    let found = u64::try_from(rows).unwrap_or(0);
    let settled = (promised..=promised + uncertain).contains(&found) && rows == delegations;
    (!settled).then(|| {
        format!(
            "{promised} endings were promised and {uncertain} are uncertain, but there are {rows} of {delegations} delegations as"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_are_exact() {
        let book = Book {
            promised: 5,
            uncertain: 1,
        };
        assert_eq!(complaint(book, 5, 5), None);
        assert_eq!(complaint(book, 6, 6), None);
        assert!(complaint(book, 4, 4).is_some(), "one is missing");
        assert!(complaint(book, 7, 7).is_some(), "one is too many");
        assert!(complaint(book, 6, 5).is_some(), "one is there twice");
    }
}
