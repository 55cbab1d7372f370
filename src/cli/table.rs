//! Text for a terminal.

use std::fmt::Write as _;

/// Rows under their headings, each column as wide as it must be.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let heading = headings.iter().map(|heading| heading.to_uppercase());
    let all: Vec<Vec<String>> = std::iter::once(heading.collect())
        .chain(
            rows.iter()
                .map(|row| row.iter().map(|cell| in_one_line(cell)).collect()),
        )
        .collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row: &Vec<String>| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a text does not fail.
            let _written = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text from somebody else, which cannot pretend to be more than one line of what is printed.
pub(super) fn in_one_line(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}

/// A text from somebody else, without what a terminal would obey: only line ends and tabs are left of its control
/// characters.
pub(super) fn harmless(text: &str) -> String {
    let obeyed = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    text.replace(obeyed, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns() {
        let rows = [
            vec!["1".to_owned(), "é\u{1b}[31m\n2".to_owned()],
            vec!["333".to_owned(), "x".to_owned()],
        ];
        let text = table(&["id", "name"], &rows);
        assert_eq!(text, "ID   NAME\n1    é\u{fffd}[31m 2\n333  x\n");
    }
}
