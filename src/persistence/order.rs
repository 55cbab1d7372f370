//! What several connections committed, in the order of its places.

use crate::domain::Position;
use crate::store::Span;

/// One commit among those of this process; higher ones began later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Flight(pub(super) u64);

/// Holds a commit back while one that came before it may still be on its way from the database.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    /// The last place that was given out.
    last: Position,
    /// The last place before which another node took one, or may have.
    unbroken_since: Position,
    held: Vec<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    what: T,
    span: Span,
    /// What was under way when it came.
    behind: Vec<Flight>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self {
            last: Position(-1),
            unbroken_since: Position(0),
            held: Vec::new(),
        }
    }
}

impl<T> Ordered<T> {
    /// A commit came back while these others were under way.
    pub(super) fn add(&mut self, what: T, span: Span, behind: Vec<Flight>) {
        let place = self
            .held
            .partition_point(|held| (held.span.before, held.span.last) < (span.before, span.last));
        self.held.insert(place, Held { what, span, behind });
    }

    /// This one is not under way any more: nobody waits for it.
    pub(super) fn landed(&mut self, flight: Flight) {
        for held in &mut self.held {
            held.behind.retain(|other| *other != flight);
        }
    }

    /// The next one whose turn it is, with the place since which no other node took one.
    pub(super) fn next(&mut self) -> Option<(T, Position)> {
        let first = self.held.first()?;
        if first.span.before != self.last && !first.behind.is_empty() {
            return None;
        }
        let Held { what, span, .. } = self.held.remove(0);
        if span.before != self.last || span.unbroken_since != span.before {
            self.unbroken_since = span.unbroken_since;
        }
        self.last = self.last.max(span.last);
        Some((what, self.unbroken_since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(before: i64) -> Span {
        Span::of(Position(before), 2)
    }

    fn released(ordered: &mut Ordered<i64>) -> Vec<(i64, i64)> {
        std::iter::from_fn(|| ordered.next())
            .map(|(what, unbroken_since)| (what, unbroken_since.0))
            .collect()
    }

    #[test]
    fn what_comes_early_waits_for_what_is_before_it() {
        let (first, second) = (Flight(1), Flight(2));
        let mut ordered = Ordered::default();
        ordered.add(0, span(0), vec![]);
        assert_eq!(released(&mut ordered), [(0, 0)]);
        ordered.add(4, span(4), vec![first]);
        assert_eq!(released(&mut ordered), []);
        ordered.landed(first);
        ordered.add(2, span(2), vec![second]);
        assert_eq!(released(&mut ordered), [(2, 0), (4, 0)]);
    }

    #[test]
    fn places_of_other_nodes_are_waited_for_no_longer_than_own_commits_are_under_way() {
        let own = Flight(1);
        let mut ordered = Ordered::default();
        ordered.add(0, span(0), vec![]);
        ordered.add(10, span(10), vec![own]);
        assert_eq!(released(&mut ordered), [(0, 0)]);
        // It failed, or turned out to come later.
        ordered.landed(own);
        assert_eq!(released(&mut ordered), [(10, 10)]);
        ordered.add(12, span(12), vec![]);
        assert_eq!(released(&mut ordered), [(12, 10)]);
    }
}
