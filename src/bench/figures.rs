//! Figures: of one run, and of several.

use super::costs::{Costs, float};
use super::load::{Latencies, Tally};
use super::sight::Seen;

/// Named numbers in the order in which they are shown.
#[derive(Clone, Default, Debug)]
pub(super) struct Figures(pub(super) Vec<(String, f64)>);

impl Figures {
    pub(super) fn add(&mut self, name: impl Into<String>, figure: impl Into<Option<f64>>) {
        if let Some(figure) = figure.into().filter(|figure| figure.is_finite()) {
            self.0.push((name.into(), figure));
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, figure)| *figure)
    }

    /// How long something took.
    pub(super) fn latencies(&mut self, of: &str, latencies: &Latencies) {
        if latencies.count() == 0 {
            return;
        }
        for (name, share) in [
            ("p50", 0.5),
            ("p90", 0.9),
            ("p99", 0.99),
            ("p99_9", 0.999),
            ("max", 1.0),
        ] {
            self.add(format!("{of}{name}_ms"), latencies.quantile(share));
        }
    }

    /// What the clients saw.
    pub(super) fn tally(&mut self, tally: &Tally) {
        let seconds = tally.took.as_secs_f64();
        self.add("operations", float(tally.succeeded));
        self.add("seconds", seconds);
        self.add("per_second", float(tally.succeeded) / seconds);
        self.latencies("", &tally.latencies);
        self.add("shed", float(tally.shed));
        self.add("refused", float(tally.refused));
        self.add("broken", float(tally.broken));
    }

    /// What the readers saw, the last of it this long after the beginning.
    pub(super) fn seen(&mut self, seen: &Seen, seconds: f64) {
        self.add("replies", float(seen.whole.count()));
        self.add("replies_per_second", float(seen.whole.count()) / seconds);
        self.latencies("reply_", &seen.whole);
        self.latencies("ending_to_reply_", &seen.after_ending);
    }

    /// What it cost.
    pub(super) fn costs(&mut self, costs: &Costs, seconds: f64, operations: u64) {
        let each = |whole: Option<f64>, unit: f64| Some(whole? * unit / float(operations));
        for (name, cpu) in [
            ("server", costs.server_cpu),
            ("bench", costs.bench_cpu),
            ("database", costs.database_cpu),
        ] {
            self.add(
                format!("{name}_cpu_percent"),
                cpu.map(|cpu| cpu * 100.0 / seconds),
            );
            self.add(
                format!("{name}_cpu_us_per_operation"),
                each(cpu, 1_000_000.0),
            );
        }
        self.add("commits_per_operation", each(costs.commits, 1.0));
        self.add("transactions_per_operation", each(costs.transactions, 1.0));
        self.add(
            "written_bytes_per_operation",
            each(costs.written_bytes, 1.0),
        );
    }
}

/// The middle one of several runs, and the outermost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// What several runs say together: each figure that every one of them has.
pub(super) fn spreads(runs: &[Figures]) -> Vec<(String, Spread)> {
    let names = runs.first().into_iter().flat_map(|run| &run.0);
    let spreads = names.filter_map(|(name, _)| {
        let figures: Option<Vec<f64>> = runs.iter().map(|run| run.get(name)).collect();
        Some((name.clone(), spread(figures?)?))
    });
    spreads.collect()
}

fn spread(mut figures: Vec<f64>) -> Option<Spread> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    Some(Spread {
        median: f64::midpoint(lower, upper),
        least: *figures.first()?,
        most: *figures.last()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_have_a_middle_and_ends() {
        let run = |figure: f64| Figures(vec![("a".to_owned(), figure)]);
        let odd = spreads(&[run(3.0), run(1.0), run(2.0)]);
        let [
            (
                name,
                Spread {
                    median,
                    least,
                    most,
                },
            ),
        ] = &odd[..]
        else {
            panic!("one figure");
        };
        assert_eq!(
            (name.as_str(), *median, *least, *most),
            ("a", 2.0, 1.0, 3.0)
        );
        let even = spreads(&[run(1.0), run(4.0)]);
        assert!((even[0].1.median - 2.5).abs() < 1e-9);
        assert!(spreads(&[run(1.0), Figures::default()]).is_empty());
    }
}
