//! Who may talk to whom (contract §9.5 without its two-roots rule; product.md "only inside one root").

use super::WorkspaceId;

/// How two workspaces stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kinship {
    /// One and the same.
    Same,
    /// Same parent, or one is an ancestor of the other: they may talk.
    Related,
    /// One organisation, but neither siblings nor in one line: they know of each other and may not talk.
    Distant,
    /// Different organisations: for each, the other does not exist.
    Foreign,
}

/// Compares two lines of descent, each from the workspace itself up to its root.
#[must_use]
pub fn kinship(one: &[WorkspaceId], other: &[WorkspaceId]) -> Kinship {
    let (Some(own), Some(peer)) = (one.first(), other.first()) else {
        return Kinship::Foreign;
    };
    if own == peer {
        return Kinship::Same;
    }
    if one.last() != other.last() {
        return Kinship::Foreign;
    }
    let siblings = one.get(1).is_some() && one.get(1) == other.get(1);
    if siblings || one.contains(peer) || other.contains(own) {
        Kinship::Related
    } else {
        Kinship::Distant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_or_one_parent_may_talk() {
        let [root, left, right, leaf, cousin, stranger] =
            std::array::from_fn(|_| WorkspaceId::mint());
        let line = |ids: &[WorkspaceId]| ids.to_vec();
        let leaf_line = line(&[leaf, left, root]);
        let cases = [
            (line(&[root]), line(&[root]), Kinship::Same),
            (leaf_line.clone(), line(&[root]), Kinship::Related),
            (line(&[root]), leaf_line.clone(), Kinship::Related),
            (line(&[left, root]), line(&[right, root]), Kinship::Related),
            (leaf_line.clone(), line(&[right, root]), Kinship::Distant),
            (
                leaf_line.clone(),
                line(&[cousin, right, root]),
                Kinship::Distant,
            ),
            (line(&[root]), line(&[stranger]), Kinship::Foreign),
            (leaf_line, line(&[stranger]), Kinship::Foreign),
            (line(&[]), line(&[]), Kinship::Foreign),
        ];
        for (one, other, expected) in cases {
            assert_eq!(kinship(&one, &other), expected);
            assert_eq!(kinship(&other, &one), expected);
        }
    }
}
