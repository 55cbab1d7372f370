//! The page that people see Baton with: its files, embedded in the binary. Debug builds read them from their folder, so
//! that a change shows when the page is loaded again.

use std::borrow::Cow;

use bytes::Bytes;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "src/web/assets"]
struct Assets;

/// One of the page's files.
#[derive(Clone, Debug)]
pub struct File {
    /// All of it.
    pub bytes: Bytes,
    /// SHA-256 of the bytes.
    pub hash: [u8; 32],
    /// What it is, for `Content-Type`.
    pub content_type: &'static str,
}

/// The file of this name, such as `canvas/view.js`.
#[must_use]
pub fn file(name: &str) -> Option<File> {
    if !is_plain(name) {
        return None;
    }
    let found = Assets::get(name)?;
    Some(File {
        hash: found.metadata.sha256_hash(),
        bytes: match found.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        },
        content_type: content_type(name),
    })
}

/// Whether a name leads nowhere but down: a folder that is read has no walls of its own.
fn is_plain(name: &str) -> bool {
    let mut steps = name.split('/');
    steps.all(|step| !step.is_empty() && !step.starts_with('.') && !step.contains(['\\', '\0']))
}

fn content_type(name: &str) -> &'static str {
    let (_, extension) = name.rsplit_once('.').unwrap_or_default();
    match extension {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type_that_browsers_take() {
        let names: Vec<_> = Assets::iter().collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            let found = file(&name).unwrap();
            assert!(!found.bytes.is_empty(), "{name}");
            assert_ne!(found.content_type, "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        assert!(file("canvas/view.js").is_some());
        for name in [
            "",
            "/",
            "canvas",
            "canvas/",
            "canvas//view.js",
            "/canvas/view.js",
            "./app.js",
            "../mod.rs",
            "canvas/../app.js",
            "..\\mod.rs",
            "app.js\0",
            "nothing.js",
        ] {
            assert!(file(name).is_none(), "{name:?}");
        }
    }
}
