//! What an agent's card says, as far as Baton has a use for it.
//!
//! Cards are written by strangers and by hand: whatever in one cannot be read is left out, and the rest counts.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The extension by which an agent declares that it drops a repeated messageId (product.md rule 6).
pub const IDEMPOTENT_MESSAGE_ID: &str = "urn:baton:ext:idempotent-message-id:v1";

/// How many of a card's interfaces are looked at.
const INTERFACES: usize = 8;
/// A longer address, or name of a tenant, is not used.
const WORD_BYTES: usize = 1_024;

/// A version of A2A, as far as they differ on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// 0.3, and 0.2 before it.
    #[default]
    V03,
    /// 1.0 and those that are compatible with it.
    V10,
}

/// What A2A is spoken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Binding {
    /// JSON-RPC: one address for everything.
    #[default]
    JsonRpc,
    /// HTTP with JSON: an address for each operation.
    Rest,
}

/// One way to speak to an agent, by its card.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Where, as the card says; nothing is proved by that.
    pub url: Box<str>,
    /// In which version.
    pub version: Protocol,
    /// Over what.
    pub binding: Binding,
    /// To be repeated in every request.
    pub tenant: Option<Box<str>>,
}

/// What a card says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Card {
    /// The ways to speak to the agent that Baton knows, in the order of the card; none when it does not say how.
    pub interfaces: Vec<Interface>,
    /// Whether the agent tells of its work while it goes on.
    pub streaming: bool,
    /// Whether it sends notifications.
    pub push: bool,
    /// Whether it drops a repeated messageId ([`IDEMPOTENT_MESSAGE_ID`]).
    pub deduplicates: bool,
}

/// A card as it is written, 1.0 and 0.3 side by side.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Written<'a> {
    #[serde(borrow)]
    supported_interfaces: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    preferred_transport: Option<&'a RawValue>,
    #[serde(borrow)]
    protocol_version: Option<&'a RawValue>,
    #[serde(borrow)]
    additional_interfaces: Option<&'a RawValue>,
    #[serde(borrow)]
    capabilities: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenInterface<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    /// 1.0.
    #[serde(borrow)]
    protocol_binding: Option<&'a RawValue>,
    #[serde(borrow)]
    protocol_version: Option<&'a RawValue>,
    #[serde(borrow)]
    tenant: Option<&'a RawValue>,
    /// 0.3.
    #[serde(borrow)]
    transport: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities<'a> {
    #[serde(borrow)]
    streaming: Option<&'a RawValue>,
    #[serde(borrow)]
    push_notifications: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Extension<'a> {
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
}

impl Card {
    /// Reads a card. One that cannot be read says nothing.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let written: Written<'_> = serde_json::from_str(text).unwrap_or_default();
        let Capabilities {
            streaming,
            push_notifications,
            extensions,
        } = lenient(written.capabilities);
        let declared = list::<Extension<'_>>(extensions);
        let mut uris = declared.filter_map(|extension| word(extension.uri));
        Self {
            streaming: lenient(streaming),
            push: lenient(push_notifications),
            deduplicates: uris.any(|uri| &*uri == IDEMPOTENT_MESSAGE_ID),
            interfaces: interfaces(&written),
        }
    }
}

fn interfaces(card: &Written<'_>) -> Vec<Interface> {
    let new = list::<WrittenInterface<'_>>(card.supported_interfaces).filter_map(|written| {
        // There are such lists only since 1.0.
        let version = version(written.protocol_version, Protocol::V10)?;
        interface(
            written.url,
            written.protocol_binding,
            version,
            written.tenant,
        )
    });
    let old_version = version(card.protocol_version, Protocol::V03);
    let old =
        old_version.into_iter().flat_map(|version| {
            let main = interface(card.url, card.preferred_transport, version, None);
            let others = list::<WrittenInterface<'_>>(card.additional_interfaces);
            main.into_iter().chain(others.filter_map(move |written| {
                interface(written.url, written.transport, version, None)
            }))
        });
    new.chain(old).take(INTERFACES).collect()
}

/// None for one that Baton cannot speak.
fn interface(
    url: Option<&RawValue>,
    binding: Option<&RawValue>,
    version: Protocol,
    tenant: Option<&RawValue>,
) -> Option<Interface> {
    let binding = match binding.map(|binding| word(Some(binding)).unwrap_or_default()) {
        None => Binding::JsonRpc,
        Some(name) if name.eq_ignore_ascii_case("JSONRPC") => Binding::JsonRpc,
        Some(name) if name.eq_ignore_ascii_case("HTTP+JSON") => Binding::Rest,
        Some(_) => return None,
    };
    // A dialect of its own, which next to nobody speaks alone.
    if (binding, version) == (Binding::Rest, Protocol::V03) {
        return None;
    }
    Some(Interface {
        url: word(url)?,
        version,
        binding,
        tenant: word(tenant),
    })
}

/// None for one that Baton does not speak; `unsaid` if the card does not say.
fn version(written: Option<&RawValue>, unsaid: Protocol) -> Option<Protocol> {
    let Some(text) = word(written) else {
        return Some(unsaid);
    };
    match text.split('.').next() {
        Some("0") => Some(Protocol::V03),
        Some("1") => Some(Protocol::V10),
        _ => None,
    }
}

/// A string that says something and is not too long.
fn word(raw: Option<&RawValue>) -> Option<Box<str>> {
    let text: Box<str> = serde_json::from_str(raw?.get()).ok()?;
    Some(text).filter(|text| !text.is_empty() && text.len() <= WORD_BYTES)
}

/// The value, or its default when it is not there or of another type.
fn lenient<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> T {
    let value = raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
    value.unwrap_or_default()
}

/// The elements of a list, each by itself.
fn list<'a, T: Deserialize<'a> + Default>(
    raw: Option<&'a RawValue>,
) -> impl Iterator<Item = T> + use<'a, T> {
    let elements: Vec<&RawValue> = lenient(raw);
    elements.into_iter().map(|element| lenient(Some(element)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(card: &Value) -> Card {
        Card::read(&card.to_string())
    }

    fn at(url: &str, version: Protocol, binding: Binding) -> Interface {
        let (url, tenant) = (url.into(), None);
        Interface {
            url,
            version,
            binding,
            tenant,
        }
    }

    #[test]
    fn only_a_readable_declaration_counts() {
        let declared = format!(
            r#"{{"name":"a","capabilities":{{"streaming":"odd","extensions":[7,{{"uri":"{IDEMPOTENT_MESSAGE_ID}"}}]}}}}"#
        );
        assert!(Card::read(&declared).deduplicates);
        for card in [
            "{}",
            "null",
            "not json",
            r#"{"capabilities":{"extensions":[{"uri":"urn:other"}]}}"#,
            r#"{"extensions":[{"uri":"urn:baton:ext:idempotent-message-id:v1"}]}"#,
        ] {
            assert!(!Card::read(card).deduplicates, "{card}");
        }
    }

    #[test]
    fn a_card_of_both_versions_names_all_its_interfaces() {
        let card = read(&json!({
            "supportedInterfaces": [
                {"url": "http://a/grpc", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
                {"url": "http://a/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0", "tenant": "t/1"},
                {"url": "http://a/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0.1"},
                {"url": "http://a/old", "protocolBinding": "JSONRPC", "protocolVersion": "0.3"},
                {"url": "http://a/later", "protocolBinding": "JSONRPC", "protocolVersion": "2.0"},
            ],
            "url": "http://a/v03", "preferredTransport": "JSONRPC", "protocolVersion": "0.3.0",
            "additionalInterfaces": [
                {"url": "http://a/v03rest", "transport": "HTTP+JSON"},
                {"url": "http://a/v03too", "transport": "jsonrpc"},
            ],
            "capabilities": {"streaming": true, "pushNotifications": true},
        }));
        let rest = Interface {
            tenant: Some("t/1".into()),
            ..at("http://a/rest", Protocol::V10, Binding::Rest)
        };
        let rpc = |url, version| at(url, version, Binding::JsonRpc);
        assert_eq!(
            card.interfaces,
            [
                rest,
                rpc("http://a/rpc", Protocol::V10),
                rpc("http://a/old", Protocol::V03),
                rpc("http://a/v03", Protocol::V03),
                rpc("http://a/v03too", Protocol::V03),
            ]
        );
        assert!(card.streaming && card.push && !card.deduplicates);
    }

    #[test]
    fn what_is_odd_is_left_out_and_the_rest_counts() {
        let rpc = |url, version| vec![at(url, version, Binding::JsonRpc)];
        let long = "x".repeat(WORD_BYTES + 1);
        for (card, interfaces) in [
            // 0.2, and cards written by hand.
            (json!({"url": "http://a/"}), rpc("http://a/", Protocol::V03)),
            (json!({"url": "", "capabilities": []}), vec![]),
            (
                json!({"url": 7, "supportedInterfaces": {"url": "http://a/"}}),
                vec![],
            ),
            (
                json!({"supportedInterfaces": ["x", {"url": ["http://b/"]}, {"url": "http://a/", "tenant": {}}]}),
                rpc("http://a/", Protocol::V10),
            ),
            (
                json!({"url": "http://a/", "preferredTransport": "GRPC"}),
                vec![],
            ),
            (json!({"url": "http://a/", "preferredTransport": 7}), vec![]),
            (
                json!({"url": "http://a/", "protocolVersion": "two"}),
                vec![],
            ),
            (json!({"url": long}), vec![]),
            (json!([]), vec![]),
        ] {
            assert_eq!(read(&card).interfaces, interfaces, "{card}");
        }
        let many = json!({"supportedInterfaces": vec![json!({"url": "http://a/"}); 100]});
        assert_eq!(read(&many).interfaces.len(), INTERFACES);
        let deep = format!(
            r#"{{"url":"http://a/","x":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(
            Card::read(&deep).interfaces.len() <= 1,
            "read or not, it does no harm"
        );
    }

    #[test]
    fn capabilities_are_what_is_plainly_true() {
        let streams =
            |streaming: Value| read(&json!({"capabilities": {"streaming": streaming}})).streaming;
        assert!(streams(json!(true)));
        for odd in [
            json!(false),
            json!("true"),
            json!(1),
            json!(null),
            json!([true]),
        ] {
            assert!(!streams(odd));
        }
    }
}
