//! What the client of the tests asks of the feed and the inbox.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Api, Reply, Workspace};

impl Api {
    /// `GET …/activity` with a query such as `type=a2a_receive&limit=7`.
    pub(crate) async fn activity(&self, workspace: &Workspace, query: &str) -> Reply {
        self.at(Method::GET, workspace, &format!("activity?{query}"), None)
            .await
    }

    /// Every row of one type, oldest first, page by page.
    pub(crate) async fn feed(&self, workspace: &Workspace, activity_type: &str) -> Vec<Value> {
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let after = rows.last().map_or(0, |row| position(row));
            let query = format!("type={activity_type}&limit=500&after_seq={after}");
            let reply = self.activity(workspace, &query).await.expect(200);
            let page = reply.rows();
            if page.is_empty() {
                return rows;
            }
            for row in page {
                let last = rows.last().map_or(0, |row| position(row));
                assert!(position(row) > last, "positions only grow: {row}");
                rows.push(row.clone());
            }
        }
    }

    /// `GET …/inbox?limit=&wait=`.
    pub(crate) async fn inbox(&self, workspace: &Workspace, limit: u32, wait: u32) -> Reply {
        let rest = format!("inbox?limit={limit}&wait={wait}");
        self.at(Method::GET, workspace, &rest, None).await
    }

    /// `POST …/activity/ack`.
    pub(crate) async fn ack(&self, workspace: &Workspace, acked_seq: i64) -> Reply {
        let body = json!({"acked_seq": acked_seq});
        self.at(Method::POST, workspace, "activity/ack", Some(&body))
            .await
    }
}

/// The `seq` of a feed row.
#[track_caller]
pub(crate) fn position(row: &Value) -> i64 {
    row["seq"]
        .as_i64()
        .unwrap_or_else(|| panic!("no seq in {row}"))
}
