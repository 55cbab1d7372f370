//! The W3C trace context of a request, if it is one.

use actix_web::http::header::HeaderMap;

/// The `traceparent` header, unless it is malformed; then it is ignored, as the recommendation says.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<Box<str>> {
    let mut values = headers.get_all("traceparent");
    let text = values.next()?.to_str().ok()?;
    (values.next().is_none() && is_traceparent(text)).then(|| text.into())
}

/// Whether a text is one of this kind.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let known = [(version, 2), (trace, 32), (parent, 16), (flags, 2)];
    let well_formed = known
        .iter()
        .all(|(part, length)| part.len() == *length && part.bytes().all(is_lower_hex));
    let non_zero = |part: &str| part.bytes().any(|byte| byte != b'0');
    // A later version may say more after the flags; version 00 may not, and ff is forbidden.
    let ends = version != "00" || parts.next().is_none();
    well_formed
        && version != "ff"
        && ends
        && non_zero(trace)
        && non_zero(parent)
        && text.len() <= 256
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_context_is_kept() {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        for (text, valid) in [
            (format!("00-{trace}-{parent}-01"), true),
            (format!("01-{trace}-{parent}-01-more"), true),
            (format!("00-{trace}-{parent}-01-more"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
            (format!("00-{trace}-{parent}"), false),
            (format!("00-{trace}-{parent}-0"), false),
            (String::new(), false),
            ("---".to_owned(), false),
        ] {
            assert_eq!(is_traceparent(&text), valid, "{text}");
        }
    }
}
