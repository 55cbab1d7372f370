//! What a target's agent card promises.

use serde::Deserialize;

/// The extension by which an agent declares that it drops a repeated messageId (product.md rule 6).
pub const IDEMPOTENT_MESSAGE_ID: &str = "urn:baton:ext:idempotent-message-id:v1";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Card {
    capabilities: Capabilities,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Capabilities {
    extensions: Vec<Extension>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Extension {
    uri: String,
}

/// Whether the card declares [`IDEMPOTENT_MESSAGE_ID`] among its capabilities' extensions. A card that cannot be read
/// promises nothing.
#[must_use]
pub fn declares_deduplication(card: &str) -> bool {
    let card: Card = serde_json::from_str(card).unwrap_or_default();
    let mut extensions = card.capabilities.extensions.iter();
    extensions.any(|extension| extension.uri == IDEMPOTENT_MESSAGE_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_readable_declaration_counts() {
        let declared = format!(
            r#"{{"name":"a","capabilities":{{"extensions":[{{"uri":"{IDEMPOTENT_MESSAGE_ID}"}}]}}}}"#
        );
        assert!(declares_deduplication(&declared));
        for card in [
            "{}",
            "null",
            "not json",
            r#"{"capabilities":{"extensions":[{"uri":"urn:other"}]}}"#,
            r#"{"extensions":[{"uri":"urn:baton:ext:idempotent-message-id:v1"}]}"#,
        ] {
            assert!(!declares_deduplication(card), "{card}");
        }
    }
}
