//! A tolerant view of the JSON that a target sends back, and the trace context that it is sent.
//!
//! Answers are not deserialised into a tree: only the members that matter are looked up, in text that stays borrowed.
//! What is skipped is skipped by a loop, so depth costs no stack; numbers are never evaluated; of duplicate keys the last
//! one counts; and memory does not grow with the number of members (lesson U03).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::sanitize;

/// The W3C trace context to pass on: the trace and its flags stay, `span` becomes the parent. `None` for text that is no
/// trace context, which is then not passed on at all.
pub(super) fn child_traceparent(traceparent: &str, span: u64) -> Option<String> {
    let mut fields = traceparent.trim().split('-');
    let (version, trace, parent, flags) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let readable = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    // Version 00 has four fields; a later one may have more, and is answered in 00.
    let known = version != "ff" && (version != "00" || fields.next().is_none());
    (readable && known && !zero(trace) && !zero(parent))
        .then(|| format!("00-{trace}-{:016x}-{flags}", span.max(1)))
}

/// The members of the object `text` that are `wanted`, in that order; JSON `null` counts as absent.
pub(super) fn pick<'a, const N: usize>(
    text: &'a str,
    wanted: [&str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(Pick(wanted))?;
    reader.end()?;
    Ok(found.map(|value| value.filter(|raw| raw.get() != "null")))
}

/// [`pick`] where anything but an object has no members.
pub(super) fn members<'a, const N: usize>(
    value: &'a RawValue,
    wanted: [&str; N],
) -> [Option<&'a RawValue>; N] {
    pick(value.get(), wanted).unwrap_or([None; N])
}

/// The members of an object, each as it is written; none of anything else.
pub(super) fn entries(value: &RawValue) -> Vec<(String, &RawValue)> {
    let mut reader = serde_json::Deserializer::from_str(value.get());
    reader.deserialize_map(Entries).unwrap_or_default()
}

/// Whether it is an object.
pub(super) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

/// Calls `visit` for each element of `list`, and for none if it is no array.
pub(super) fn each<'a>(list: &'a RawValue, visit: impl FnMut(&'a RawValue)) {
    let mut reader = serde_json::Deserializer::from_str(list.get());
    // The syntax was checked when the list was found, so the only error is that it is no array.
    reader.deserialize_seq(Each(visit)).unwrap_or_default();
}

/// The text of a JSON string, without NUL.
pub(super) fn string(value: &RawValue) -> Option<String> {
    let text: String = serde_json::from_str(value.get()).ok()?;
    Some(match sanitize(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(repaired) => repaired,
    })
}

struct Pick<'w, const N: usize>([&'w str; N]);

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(key) = map.next_key::<String>()? {
            let slot = self
                .0
                .iter()
                .zip(found.iter_mut())
                .find(|(wanted, _)| **wanted == key);
            match slot {
                Some((_, slot)) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

struct Each<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_keeps_its_id_and_gets_a_new_parent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let child = |text: &str| child_traceparent(text, 0xab);
        let expected = Some(format!("00-{trace}-00000000000000ab-01"));
        assert_eq!(child(&format!("00-{trace}-00f067aa0ba902b7-01")), expected);
        assert_eq!(
            child(&format!("cc-{trace}-00f067aa0ba902b7-01-later")),
            expected
        );
        for wrong in [
            String::new(),
            "00-abc-def-01".to_owned(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{trace}-00f067aa0ba902b7-01\r\nX: y"),
        ] {
            assert_eq!(child(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn members_are_found_and_everything_else_is_skipped() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!(r#"{{"a":1,"x":{deep},"\u0061":1e400,"b":null,"c":{deep}}}"#);
        let [a, b, c] = pick(&text, ["a", "b", "c"]).unwrap();
        assert_eq!(a.unwrap().get(), "1e400");
        assert!(b.is_none());
        assert_eq!(c.unwrap().get(), deep);
        assert!(pick(&deep, ["a"]).is_err());
        assert!(pick(r#"{"a":1} x"#, ["a"]).is_err());
    }
}
