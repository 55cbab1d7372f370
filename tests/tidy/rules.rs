//! The rules, each from text to complaints.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::code::{blank, body_end, closing_brace, identifier, words};

/// What may import what: a module may use those further left, and nothing in its own column. So there is no cycle.
const LAYERS: [&[&str]; 12] = [
    &["domain"],
    &["clock", "faults", "web"],
    &["client", "config", "limits", "liveness", "secrets"],
    &["telemetry"],
    &["store"],
    &["auth", "dispatch", "events"],
    &["admin_token", "persistence"],
    &["delegation", "outbox"],
    &["http"],
    &["app"],
    &["bench", "cli", "demo"],
    &["main"],
];

pub(crate) const FILE_LINES_MAX: usize = 500;
pub(crate) const FUNCTION_LINES_MAX: usize = 70;
pub(crate) const README_LINES_MAX: usize = 150;

/// Taken apart, so that this file does not contain them.
pub(crate) const BANNED: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// A file of the crate, by its path below the crate's root.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

pub(crate) fn long_file(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let path = source.path.display();
    (lines > FILE_LINES_MAX)
        .then(|| format!("{path} has {lines} lines, {FILE_LINES_MAX} are allowed"))
}

pub(crate) fn long_functions(source: &Source, limit: usize) -> Vec<String> {
    let code = blank(&source.text);
    let line_of = |index: usize| 1 + code[..index].matches('\n').count();
    words(&code, "fn ")
        .filter_map(|start| {
            let name = identifier(&code[start + 3..])?;
            let end = start + body_end(&code[start..])?;
            let lines = line_of(end) - line_of(start) + 1;
            let path = source.path.display();
            (lines > limit).then(|| {
                format!(
                    "{path}:{}: {name} has {lines} lines, {limit} are allowed",
                    line_of(start)
                )
            })
        })
        .collect()
}

pub(crate) fn wrong_imports(source: &Source) -> Vec<String> {
    let path = source.path.display();
    let parts: Vec<String> = source
        .path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let module = parts
        .get(1)
        .map(|part| part.trim_end_matches(".rs"))
        .unwrap_or_default();
    if module == "lib" {
        return Vec::new();
    }
    let column = |name: &str| LAYERS.iter().position(|column| column.contains(&name));
    let Some(own) = column(module) else {
        return vec![format!(
            "{path}: module {module} is unknown: add it to LAYERS in tests/tidy/rules.rs"
        )];
    };
    let code = without_test_modules(&blank(&source.text));
    let mut complaints = Vec::new();
    if code.contains("super::super::") {
        complaints.push(format!(
            "{path}: super::super:: hides what is used: write crate::"
        ));
    }
    let at_top = parts.len() == 2 || (parts.len() == 3 && parts[2] == "mod.rs");
    let mut used = imports(&code, "crate::");
    if at_top {
        used.extend(imports(&code, "super::"));
    }
    for name in used.iter().filter(|name| *name != module) {
        match column(name) {
            Some(theirs) if theirs < own => {}
            Some(_) => complaints.push(format!("{path}: {module} may not use {name}")),
            None if name.starts_with(char::is_uppercase) => {}
            None => complaints.push(format!(
                "{path}: {name} is unknown: add it to LAYERS in tests/tidy/rules.rs"
            )),
        }
    }
    complaints
}

/// The names right after each `prefix`, also those in a braced group.
fn imports(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for start in words(code, prefix) {
        let rest = &code[start + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let end = closing_brace(rest).map_or(0, |end| end - 1);
            names.extend(first_names(&group[..end]));
        } else {
            names.extend(identifier(rest));
        }
    }
    names
}

/// The first name of each item of a group, not of the groups inside it.
fn first_names(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let outermost: String = group
        .chars()
        .filter(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        })
        .collect();
    outermost
        .split(',')
        .filter_map(|item| identifier(item.trim()))
        .collect()
}

/// Cuts `#[cfg(test)] mod name { … }` out.
fn without_test_modules(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (before, test) = rest.split_at(start);
        kept.push_str(before);
        let is_module = test["#[cfg(test)]".len()..]
            .trim_start()
            .starts_with("mod ");
        let end = body_end(test)
            .filter(|_| is_module)
            .map_or("#[cfg(test)]".len(), |end| end + 1);
        rest = &test[end..];
    }
    kept + rest
}

/// The files that some `#[cfg(test)] mod name;` declares.
pub(crate) fn test_files(sources: &[Source]) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for source in sources {
        let code = blank(&source.text);
        let stem = source
            .path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let folder = match stem.as_deref() {
            Some("mod" | "lib" | "main") | None => source.path.with_file_name(""),
            Some(_) => source.path.with_extension(""),
        };
        for (_, after) in code
            .match_indices("#[cfg(test)]")
            .map(|(index, cfg)| code.split_at(index + cfg.len()))
        {
            let declared = after
                .trim_start()
                .strip_prefix("mod ")
                .and_then(|after| after.split_once(';'));
            if let Some((name, _)) = declared.filter(|(name, _)| !name.contains('{')) {
                files.insert(folder.join(format!("{}.rs", name.trim())));
            }
        }
    }
    files
}

pub(crate) fn unpaired(sqlite: &[(String, bool)], postgres: &[(String, bool)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (backend, mine, theirs) in [("sqlite", sqlite, postgres), ("postgres", postgres, sqlite)] {
        for (name, has_up) in mine {
            if !has_up {
                complaints.push(format!("migrations/{backend}/{name} has no up.sql"));
            }
            if !theirs.iter().any(|(twin, _)| twin == name) {
                complaints.push(format!("migrations/{backend}/{name} has no twin"));
            }
        }
    }
    complaints
}

pub(crate) fn banned_words(path: &str, text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    std::iter::once((0, path))
        .chain(lines)
        .filter(|(_, line)| BANNED.iter().any(|word| line.contains(word)))
        .map(|(number, line)| format!("{path}:{number} tells of a machine: {line}"))
        .collect()
}

pub(crate) fn too_long_to_read(text: &str) -> bool {
    text.lines().count() > README_LINES_MAX
}

/// The names in the last column of the tables that are no function among `known`, and the rows that name none.
pub(crate) fn unproved(text: &str, known: &BTreeSet<String>) -> Vec<String> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let promises = rows.filter(|line| !line.starts_with("|---") && !line.contains("proved by"));
    let mut complaints = Vec::new();
    for row in promises {
        let proofs = row.trim_end_matches('|').rsplit('|').next().unwrap_or("");
        let mut names = proofs.split('`').skip(1).step_by(2).peekable();
        if names.peek().is_none() {
            complaints.push(format!("no test proves: {row}"));
        }
        let missing = names.filter(|name| !known.contains(*name));
        complaints.extend(missing.map(|name| format!("there is no test {name}")));
    }
    complaints
}

/// The names of all functions of a text.
pub(crate) fn functions(text: &str) -> BTreeSet<String> {
    let code = blank(text);
    words(&code, "fn ")
        .filter_map(|start| identifier(&code[start + 3..]))
        .collect()
}
