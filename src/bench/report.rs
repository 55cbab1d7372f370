//! What was found, for people and for machines.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::figures::{Figures, Spread, spreads};

/// A workload's figures on one server.
pub(super) struct Report {
    pub(super) workload: String,
    pub(super) server: &'static str,
    pub(super) database: &'static str,
    pub(super) runs: Vec<Figures>,
    /// What the audit found, if there was one.
    pub(super) complaints: Option<Vec<String>>,
    /// What some request was told that did not succeed.
    pub(super) refusal: Option<String>,
}

impl Report {
    /// Whether nothing was found that should not be.
    pub(super) fn kept_word(&self) -> bool {
        self.complaints.as_ref().is_none_or(Vec::is_empty)
    }

    pub(super) fn json(&self) -> Value {
        let figures: Map<String, Value> = spreads(&self.runs)
            .into_iter()
            .map(
                |(
                    name,
                    Spread {
                        median,
                        least,
                        most,
                    },
                )| { (name, json!({"median": median, "min": least, "max": most})) },
            )
            .collect();
        let run = |run: &Figures| -> Map<String, Value> {
            run.0
                .iter()
                .map(|(name, figure)| (name.clone(), (*figure).into()))
                .collect()
        };
        json!({
            "workload": self.workload, "server": self.server, "database": self.database, "figures": figures,
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
            "audit": self.complaints, "refusal": self.refusal,
        })
    }

    /// A block of lines, one for each figure.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "\n{} on {} ({}), {} runs\n",
            self.workload,
            self.database,
            self.server,
            self.runs.len()
        );
        for (name, spread) in spreads(&self.runs) {
            // Writing to a text cannot fail.
            let _written = match self.runs.len() {
                1 => writeln!(text, "  {name:<36} {:>14}", shown(spread.median)),
                _ => writeln!(
                    text,
                    "  {name:<36} {:>14}  [{} .. {}]",
                    shown(spread.median),
                    shown(spread.least),
                    shown(spread.most)
                ),
            };
        }
        if let Some(refusal) = &self.refusal {
            let _written = writeln!(text, "  not every request succeeded: {refusal}");
        }
        match self.complaints.as_deref() {
            None => {}
            Some([]) => text.push_str("  audit: nothing missing, nothing too much\n"),
            Some(complaints) => {
                let _written = writeln!(text, "  AUDIT FAILED: {}", complaints.len());
                for complaint in complaints.iter().take(10) {
                    let _written = writeln!(text, "    {complaint}");
                }
            }
        }
        text
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut spreads = spreads(&self.runs).into_iter();
        let (_, spread) = spreads.find(|(other, _)| other == name)?;
        Some(spread.median)
    }
}

/// How many times as much the server does as the yardstick.
pub(super) fn ratio(server: &Report, yardstick: &Report) -> Option<f64> {
    let rate = |report: &Report| {
        let whole = report.median("replies_per_second");
        whole.or_else(|| report.median("per_second"))
    };
    Some(rate(server)? / rate(yardstick)?).filter(|ratio| ratio.is_finite())
}

fn shown(figure: f64) -> String {
    if figure.abs() >= 1000.0 || figure.fract() == 0.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.3}")
    }
}
