//! How a target is spoken to, by what its card says. Pure.
//!
//! A card never decides whom Baton speaks to, only how: an address in it counts only where it leads to the same scheme,
//! host and port as the target's own; and where the card is not below that, but the origin's, only to the target's own
//! address or below it, because agents may share an origin. So nothing that is meant for the target goes elsewhere, and a
//! card that was written on another machine (`localhost`) does no harm.

use std::path::Path;

use url::Url;

use crate::domain::{Binding, Card, Interface, Protocol};

/// How a target is spoken to. Without a card: in 0.3, over JSON-RPC, waiting for the answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// Where, when it is not the target's own address.
    pub(super) url: Option<Box<str>>,
    pub(super) version: Protocol,
    pub(super) binding: Binding,
    pub(super) tenant: Option<Box<str>>,
    pub(super) delivery: Delivery,
    /// Whether nothing could be learned of the agent for now, so that it may have to be spoken to in another way.
    pub(super) guessed: bool,
    /// Whether the agent says that it sends notifications.
    pub push: bool,
    /// Whether the agent says that it drops a repeated messageId.
    pub deduplicates: bool,
}

/// What a message is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Delivery {
    /// What it came to in the end. To an agent of which nothing is known, its only way to say that.
    #[default]
    Blocking,
    /// The task that it became, which is asked after.
    NonBlocking,
    /// Everything that becomes of it, as it happens.
    Streaming,
}

impl Manner {
    /// How to speak to the agent at `own` by the card that was found at `place`; none if the card does not say, or only what
    /// Baton does not speak.
    pub(super) fn by(card: &Card, own: &Url, place: &Url) -> Option<Self> {
        let is_own = is_below(place, own);
        let interfaces = card.interfaces.iter().map(|interface| {
            let url = Url::parse(&interface.url).ok();
            let leads = |url: &Url| is_within(url, own) && (is_own || is_below(url, own));
            (interface, url.filter(leads))
        });
        // Where it is said truly first, then in which words; of equals the card's first.
        let (best, url) =
            interfaces.min_by_key(|(interface, url)| (url.is_none(), rank(interface)))?;
        let (own_is_card, names_own) = (is_card(own), url.is_some());
        let url = url.or_else(|| own_is_card.then(|| moved(&best.url, own)).flatten());
        Some(Self {
            url: url.map(|url| String::from(url).into()),
            version: best.version,
            binding: best.binding,
            tenant: best.tenant.clone(),
            delivery: if card.streaming {
                Delivery::Streaming
            } else {
                Delivery::NonBlocking
            },
            guessed: false,
            push: card.push,
            // Another agent may have promised that.
            deduplicates: card.deduplicates && (is_own || names_own),
        })
    }

    /// Whether it is how an agent is spoken to of which nothing is known.
    pub(super) fn is_plain(&self) -> bool {
        self.delivery == Delivery::Blocking
    }

    /// Whether it differs from the plain manner only in what is waited for.
    fn is_at_home(&self) -> bool {
        let plain = Self::default();
        (self.version, self.binding) == (plain.version, plain.binding) && self.url.is_none()
    }

    /// How to speak to an agent that does not know what its card promised; none if nothing is left to try.
    pub(super) fn lesser(&self) -> Option<Self> {
        let plain = Self {
            deduplicates: self.deduplicates,
            ..Self::default()
        };
        match self.delivery {
            Delivery::Streaming => Some(Self {
                delivery: Delivery::NonBlocking,
                ..self.clone()
            }),
            // It may be the offer to be told that it does not know.
            Delivery::NonBlocking if self.push => Some(Self {
                push: false,
                ..self.clone()
            }),
            Delivery::NonBlocking if !self.is_at_home() => Some(plain),
            Delivery::NonBlocking | Delivery::Blocking => None,
        }
    }
}

/// Whether a target's address is that of its card.
pub(super) fn is_card(own: &Url) -> bool {
    let ending = Path::new(own.path()).extension();
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

fn rank(interface: &Interface) -> u8 {
    match (interface.binding, interface.version) {
        (Binding::JsonRpc, Protocol::V10) => 0,
        (Binding::JsonRpc, Protocol::V03) => 1,
        (Binding::Rest, _) => 2,
    }
}

fn is_within(url: &Url, own: &Url) -> bool {
    let bare = url.username().is_empty() && url.password().is_none();
    bare && url.origin() == own.origin()
}

/// Whether a place at the target's own origin is its address, or below that.
fn is_below(place: &Url, own: &Url) -> bool {
    let rest = place.path().strip_prefix(own.path().trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The same place at the target's own origin.
fn moved(url: &str, own: &Url) -> Option<Url> {
    let url = Url::parse(url).ok()?;
    let mut moved = own.clone();
    moved.set_path(url.path());
    moved.set_query(url.query());
    moved.set_fragment(None);
    Some(moved)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::IDEMPOTENT_MESSAGE_ID;

    fn by(own: &str, card: &Value) -> Option<Manner> {
        let own = Url::parse(own).unwrap();
        Manner::by(&Card::read(&card.to_string()), &own, &own)
    }

    fn interface(url: &str, binding: &str, version: &str) -> Value {
        json!({"url": url, "protocolBinding": binding, "protocolVersion": version})
    }

    fn of(interfaces: &[Value]) -> Value {
        json!({"supportedInterfaces": interfaces})
    }

    fn is(url: Option<&str>, version: Protocol, binding: Binding) -> Manner {
        Manner {
            url: url.map(Into::into),
            version,
            binding,
            delivery: Delivery::NonBlocking,
            ..Manner::default()
        }
    }

    #[test]
    fn the_way_that_is_liked_best_is_taken() {
        use Binding::{JsonRpc, Rest};
        use Protocol::{V03, V10};
        let (new, old, rest) = (
            interface("http://a/new", "JSONRPC", "1.0"),
            interface("http://a/old", "JSONRPC", "0.3"),
            interface("http://a/rest", "HTTP+JSON", "1.0"),
        );
        for (interfaces, expected) in [
            (
                vec![rest.clone(), old.clone(), new],
                Some(is(Some("http://a/new"), V10, JsonRpc)),
            ),
            (
                vec![rest.clone(), old],
                Some(is(Some("http://a/old"), V03, JsonRpc)),
            ),
            (
                vec![interface("http://a/", "GRPC", "1.0"), rest],
                Some(is(Some("http://a/rest"), V10, Rest)),
            ),
            (vec![interface("http://a/", "GRPC", "1.0")], None),
            (vec![], None),
        ] {
            assert_eq!(by("http://a/", &of(&interfaces)), expected);
        }
    }

    #[test]
    fn no_card_leads_to_another_origin() {
        use Binding::{JsonRpc, Rest};
        use Protocol::V10;
        let at = |url: &str| of(&[interface(url, "JSONRPC", "1.0")]);
        for (url, expected) in [
            ("http://a/x?y=z", Some("http://a/x?y=z")),
            ("http://a:80/x", Some("http://a/x")),
            ("https://a/x", None),
            ("http://a:81/x", None),
            ("http://localhost/x", None),
            ("http://a.b/x", None),
            ("http://user:word@a/x", None),
            ("/x", None),
            ("no url", None),
        ] {
            assert_eq!(
                by("http://a/own", &at(url)),
                Some(is(expected, V10, JsonRpc)),
                "{url}"
            );
        }
        // What leads there counts more than what is liked better.
        let mixed = of(&[
            interface("http://b/", "JSONRPC", "1.0"),
            interface("http://a/rest", "HTTP+JSON", "1.0"),
        ]);
        assert_eq!(
            by("http://a/", &mixed),
            Some(is(Some("http://a/rest"), V10, Rest))
        );
    }

    #[test]
    fn the_card_of_an_origin_leads_to_no_other_agent_there() {
        let place = Url::parse("http://a/.well-known/agent-card.json").unwrap();
        for (own, url, leads) in [
            ("/agents/b", "/agents/a", false),
            ("/agents/b", "/agents/bc", false),
            ("/agents/b", "/agents/b/../a", false),
            ("/agents/b", "/", false),
            ("/agents/b", "/agents/b", true),
            ("/agents/b/", "/agents/b", true),
            ("/agents/b", "/agents/b/v1", true),
            ("/", "/rpc", true),
        ] {
            let url = format!("http://a{url}");
            let mut card = of(&[interface(&url, "JSONRPC", "1.0")]);
            card["capabilities"] = json!({"extensions": [{"uri": IDEMPOTENT_MESSAGE_ID}]});
            let own = Url::parse(&format!("http://a{own}")).unwrap();
            let manner = Manner::by(&Card::read(&card.to_string()), &own, &place).unwrap();
            let expected = Manner {
                deduplicates: leads,
                ..is(leads.then_some(&*url), Protocol::V10, Binding::JsonRpc)
            };
            assert_eq!(manner, expected, "{own} {url}");
        }
    }

    #[test]
    fn the_address_of_a_card_is_not_spoken_to() {
        let card = of(&[interface("http://localhost:1/x?y", "JSONRPC", "1.0")]);
        let own = "http://a/deep/agent-card.json?k";
        assert_eq!(
            by(own, &card),
            Some(is(Some("http://a/x?y"), Protocol::V10, Binding::JsonRpc))
        );
    }

    #[test]
    fn what_a_card_promised_in_vain_is_not_asked_for_again() {
        let card = json!({
            "supportedInterfaces": [interface("http://a/x", "JSONRPC", "1.0")],
            "capabilities": {"streaming": true, "pushNotifications": true},
        });
        let manner = by("http://a/", &card).unwrap();
        assert_eq!(manner.delivery, Delivery::Streaming);
        let lesser = manner.lesser().unwrap();
        assert_eq!(
            (lesser.delivery, &lesser.url),
            (Delivery::NonBlocking, &manner.url)
        );
        let lesser = lesser.lesser().unwrap();
        assert!(!lesser.push && !lesser.is_plain());
        let plain = lesser.lesser().unwrap();
        assert!(plain.is_plain() && plain.url.is_none());
        assert_eq!((plain.version, plain.lesser()), (Protocol::V03, None));
    }
}
