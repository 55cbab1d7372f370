//! What may stand in the head of a request.

/// Whether it can be the name of a header (RFC 9110 §5.1).
pub(super) fn is_token(name: &str) -> bool {
    let special = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || special(byte);
    !name.is_empty() && name.len() <= 256 && name.bytes().all(fits)
}

/// Whether it can be the value of a header: visible, and nothing that two readers might read differently.
pub(crate) fn is_value(value: &str, limit: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let ends = value.starts_with(' ') || value.ends_with(' ');
    !value.is_empty() && value.len() <= limit && !ends && value.bytes().all(fits)
}
