//! Just enough of Rust's grammar to find functions and paths in a text.

/// Puts blanks in the place of comments, strings and characters, and keeps the lines.
pub(crate) fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = opaque(rest).unwrap_or(0);
        if length == 0 {
            code.push(character);
            rest = &rest[character.len_utf8()..];
            // A name that ends in r or b does not begin a string.
            let in_name = |character: char| character.is_alphanumeric() || character == '_';
            if in_name(character) {
                let end = rest.find(|next| !in_name(next)).unwrap_or(rest.len());
                code.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            continue;
        }
        let (hidden, after) = rest.split_at(length);
        code.extend(
            hidden
                .chars()
                .map(|hidden| if hidden == '\n' { '\n' } else { ' ' }),
        );
        rest = after;
    }
    code
}

/// How long the comment, string or character at the start of `rest` is, if there is one.
fn opaque(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix)
            .is_some_and(|after| after.starts_with(['"', '#', '\'']))
    })?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    if prefix.ends_with('r') && after[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix.len() + hashes + 1;
        return Some(
            rest[body..]
                .find(&end)
                .map_or(rest.len(), |found| body + found + end.len()),
        );
    }
    match after.chars().next()? {
        '"' => Some(prefix.len() + quoted(after, '"')),
        '\'' if is_character(after) => Some(prefix.len() + quoted(after, '\'')),
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut index = 0;
    while index < rest.len() {
        let here = &rest[index..];
        if here.starts_with("/*") {
            depth += 1;
            index += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            index += 2;
            if depth == 0 {
                return index;
            }
        } else {
            index += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of what begins and ends with `quote`.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Tells a character from a lifetime.
fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// Where `word` stands and no name goes before it.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(index, _)| index)
        .filter(|index| {
            let before = code[..*index].chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
        })
}

pub(crate) fn identifier(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|next| next.is_alphanumeric() || *next == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Where the body of the function at the start of `code` ends; `None` if it has none.
pub(crate) fn body_end(code: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    for (index, character) in code.char_indices() {
        match character {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 => return None,
            '{' => return Some(index + closing_brace(&code[index..])?),
            _ => {}
        }
    }
    None
}

/// Where the brace at the start of `code` is closed.
pub(crate) fn closing_brace(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}
