//! What the fields of a workspace may hold (contract §10.1, §10.4).

use super::body::Fields;
use super::error::{ApiError, Fault};

/// The most tasks that a workspace can say it takes at once.
const MAX_CONCURRENT_TASKS: i64 = 100_000;

/// The fields with rules.
pub(crate) struct Named<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) role: Option<&'a str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) runtime: Option<&'a str>,
}

/// The first broken rule, in the words of the contract.
fn broken(named: &Named<'_>) -> Option<(&'static str, String)> {
    let fields = [
        ("name", named.name, 255, true),
        ("role", named.role, 1000, true),
        ("model", named.model, 100, false),
        ("runtime", named.runtime, 100, false),
    ];
    let given = || {
        fields.iter().filter_map(|(field, text, limit, plain)| {
            text.map(|text| (*field, text, *limit, *plain))
        })
    };
    let newline = given().find(|(_, text, ..)| text.contains(['\n', '\r']));
    if let Some((field, ..)) = newline {
        return Some((
            field,
            format!("{field} must not contain newline characters"),
        ));
    }
    let markup = given().find(|(_, text, _, plain)| {
        *plain && text.contains(['{', '}', '[', ']', '|', '>', '*', '&', '!'])
    });
    if let Some((field, ..)) = markup {
        return Some((field, format!("{field} contains invalid characters")));
    }
    let long = given().find(|(_, text, limit, _)| text.len() > *limit);
    long.map(|(field, _, limit, _)| (field, format!("{field} must be at most {limit} characters")))
}

/// When a workspace is created: one text for all rules, the rule beside it.
pub(crate) fn check_for_creation(named: &Named<'_>) -> Result<(), ApiError> {
    match broken(named) {
        None => Ok(()),
        Some((field, rule)) => Err(Fault::new(field, rule).under("invalid workspace fields")),
    }
}

/// When a workspace is changed: the rule is the text.
pub(crate) fn check_specific(named: &Named<'_>) -> Result<(), ApiError> {
    match broken(named) {
        None => Ok(()),
        Some((field, rule)) => Err(Fault::new(field, rule.clone()).under(rule)),
    }
}

/// How many tasks at once, if it is said; 0 for no cap of its own.
pub(crate) fn max_concurrent_tasks(fields: &Fields) -> Result<Option<i32>, Fault> {
    let name = "max_concurrent_tasks";
    let cap = fields.integer(name)?;
    let allowed = |cap: &i64| (0..=MAX_CONCURRENT_TASKS).contains(cap);
    let stored = cap.filter(allowed).and_then(|cap| i32::try_from(cap).ok());
    if cap.is_some() && stored.is_none() {
        let reason = format!("must be a whole number from 0 (no cap) to {MAX_CONCURRENT_TASKS}");
        return Err(Fault::new(name, reason));
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_text() {
        let long = "x".repeat(256);
        for (name, runtime, text) in [
            (Some("plain name"), Some("langgraph"), None),
            (
                Some("two\nlines"),
                None,
                Some("name must not contain newline characters"),
            ),
            (Some("a{b}"), None, Some("name contains invalid characters")),
            (
                Some(long.as_str()),
                None,
                Some("name must be at most 255 characters"),
            ),
            (
                None,
                Some(long.as_str()),
                Some("runtime must be at most 100 characters"),
            ),
            (None, Some("a|b"), None),
        ] {
            let named = Named {
                name,
                role: None,
                model: None,
                runtime,
            };
            let error = check_specific(&named).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), text);
            let error = check_for_creation(&named)
                .err()
                .map(|error| error.to_string());
            assert_eq!(error.is_some(), text.is_some());
        }
    }
}
