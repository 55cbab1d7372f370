//! Parts and artifacts from one dialect into the other (a2a.md §1). What is not understood is passed on as data, so that
//! nothing is lost.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::wire::{each, is_object, members, string};

/// A part in the words of 1.0.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

impl<'a> Part<'a> {
    /// Reads a part of either dialect.
    pub(super) fn read(part: &'a RawValue) -> Self {
        let [text, raw, url, data, file] = members(part, ["text", "raw", "url", "data", "file"]);
        let [filename, media_type, metadata] = members(part, ["filename", "mediaType", "metadata"]);
        let named = Self {
            filename: filename.filter(|name| is_string(name)),
            media_type: media_type.filter(|name| is_string(name)),
            metadata: metadata.filter(|data| is_object(data)),
            ..Self::default()
        };
        if let Some(file) = file.filter(|file| is_object(file)) {
            return named.with_file(part, file);
        }
        let text = text.filter(|text| is_string(text));
        let raw = raw.filter(|raw| text.is_none() && is_base64(raw));
        let url = url.filter(|url| text.is_none() && raw.is_none() && is_string(url));
        let known = text.is_some() || raw.is_some() || url.is_some();
        Self {
            text,
            raw,
            url,
            data: (!known).then(|| data.unwrap_or(part)),
            ..named
        }
    }

    /// A file of 0.3.
    fn with_file(self, part: &'a RawValue, file: &'a RawValue) -> Self {
        let [bytes, uri, name, media_type] = members(file, ["bytes", "uri", "name", "mimeType"]);
        let raw = bytes.filter(|bytes| is_base64(bytes));
        let url = uri.filter(|uri| raw.is_none() && is_string(uri));
        Self {
            raw,
            url,
            data: (raw.is_none() && url.is_none()).then_some(part),
            filename: name.filter(|name| is_string(name)).or(self.filename),
            media_type: media_type
                .filter(|name| is_string(name))
                .or(self.media_type),
            ..self
        }
    }
}

/// A part in the words of 0.3.
#[derive(Serialize, Default)]
pub(super) struct OldPart<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<OldFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<OldData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct OldFile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a RawValue>,
    #[serde(rename = "mimeType", skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a RawValue>,
}

/// Data is an object in 0.3, and any value in 1.0.
#[derive(Serialize)]
#[serde(untagged)]
enum OldData<'a> {
    Object(&'a RawValue),
    Wrapped { value: &'a RawValue },
}

impl<'a> From<Part<'a>> for OldPart<'a> {
    fn from(part: Part<'a>) -> Self {
        let metadata = part.metadata;
        if part.text.is_some() {
            return Self {
                kind: "text",
                text: part.text,
                metadata,
                ..Self::default()
            };
        }
        if let Some(data) = part.data {
            let data = if is_object(data) {
                OldData::Object(data)
            } else {
                OldData::Wrapped { value: data }
            };
            return Self {
                kind: "data",
                data: Some(data),
                metadata,
                ..Self::default()
            };
        }
        let file = OldFile {
            bytes: part.raw,
            uri: part.url,
            name: part.filename,
            media_type: part.media_type,
        };
        Self {
            kind: "file",
            file: Some(file),
            metadata,
            ..Self::default()
        }
    }
}

/// An artifact in the words of 1.0, on its own feet.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Artifact {
    #[serde(rename = "artifactId")]
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    parts: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<String>,
}

impl Artifact {
    /// Reads an artifact of either dialect.
    pub(super) fn read(artifact: &RawValue) -> Self {
        let [id, name, description] = members(artifact, ["artifactId", "name", "description"]);
        let [parts, metadata, extensions] = members(artifact, ["parts", "metadata", "extensions"]);
        let mut read = Self {
            id: id.and_then(string).unwrap_or_default(),
            name: name.and_then(string),
            description: description.and_then(string),
            parts: Vec::new(),
            metadata: metadata
                .filter(|data| is_object(data))
                .map(ToOwned::to_owned),
            extensions: Vec::new(),
        };
        if read.id.is_empty() {
            // Those without a name are one.
            "artifact".clone_into(&mut read.id);
        }
        if let Some(parts) = parts {
            each(parts, |part| {
                // What was JSON can be written as JSON.
                read.parts.extend(to_raw_value(&Part::read(part)));
            });
        }
        if let Some(extensions) = extensions {
            each(extensions, |uri| read.extensions.extend(string(uri)));
        }
        read
    }

    /// Puts more of the same behind it.
    pub(super) fn append(&mut self, more: Self) {
        self.parts.extend(more.parts);
        self.name = more.name.or_else(|| self.name.take());
        self.description = more.description.or_else(|| self.description.take());
        self.metadata = more.metadata.or_else(|| self.metadata.take());
    }
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn is_base64(value: &RawValue) -> bool {
    string(value).is_some_and(|text| STANDARD.decode(text).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    /// Pairs that are the same in 0.3 and in 1.0.
    fn pairs() -> [(Value, Value); 5] {
        [
            (
                json!({"kind": "text", "text": "a\"b", "metadata": {"k": [1]}}),
                json!({"text": "a\"b", "metadata": {"k": [1]}}),
            ),
            (
                json!({"kind": "file", "file": {"bytes": "AAEC", "name": "n", "mimeType": "a/b"}}),
                json!({"raw": "AAEC", "filename": "n", "mediaType": "a/b"}),
            ),
            (
                json!({"kind": "file", "file": {"uri": "http://f/"}}),
                json!({"url": "http://f/"}),
            ),
            (
                json!({"kind": "data", "data": {"n": 1}}),
                json!({"data": {"n": 1}}),
            ),
            (
                json!({"kind": "data", "data": {}, "metadata": {}}),
                json!({"data": {}, "metadata": {}}),
            ),
        ]
    }

    #[test]
    fn parts_are_the_same_in_both_dialects() {
        for (old, new) in pairs() {
            let (raw_old, raw_new) = (raw(&old), raw(&new));
            assert_eq!(json!(OldPart::from(Part::read(&raw_new))), old);
            assert_eq!(json!(Part::read(&raw_old)), new);
            assert_eq!(json!(Part::read(&raw_new)), new);
        }
    }

    #[test]
    fn what_is_odd_becomes_data() {
        for (odd, new) in [
            (
                json!({"type": "text", "text": "0.2"}),
                json!({"text": "0.2"}),
            ),
            (json!("bare"), json!({"data": "bare"})),
            (
                json!({"kind": "new", "x": 1}),
                json!({"data": {"kind": "new", "x": 1}}),
            ),
            (
                json!({"raw": "no base64"}),
                json!({"data": {"raw": "no base64"}}),
            ),
            (
                json!({"text": 7, "filename": 8}),
                json!({"data": {"text": 7, "filename": 8}}),
            ),
            (json!({"data": [1]}), json!({"data": [1]})),
            (
                json!({"kind": "file", "file": {"bytes": 7}}),
                json!({"data": {"kind": "file", "file": {"bytes": 7}}}),
            ),
        ] {
            let odd = raw(&odd);
            assert_eq!(json!(Part::read(&odd)), new, "{odd}");
        }
        let list = raw(&json!({"data": [1]}));
        let old = json!({"kind": "data", "data": {"value": [1]}});
        assert_eq!(json!(OldPart::from(Part::read(&list))), old);
    }

    #[test]
    fn artifacts_grow() {
        let read = |value: Value| Artifact::read(&raw(&value));
        let mut artifact = read(json!({
            "artifactId": "a", "name": "n", "description": 7, "parts": [{"kind": "text", "text": "1"}],
            "metadata": {"k": 1}, "extensions": ["urn:x", 7],
        }));
        artifact.append(read(json!({"artifactId": "a", "parts": [{"text": "2"}]})));
        let expected = json!({
            "artifactId": "a", "name": "n", "parts": [{"text": "1"}, {"text": "2"}], "metadata": {"k": 1},
            "extensions": ["urn:x"],
        });
        assert_eq!(json!(artifact), expected);
        assert_eq!(
            json!(read(json!({"parts": 7}))),
            json!({"artifactId": "artifact", "parts": []})
        );
    }
}
