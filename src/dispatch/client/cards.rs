//! What each agent's card says of how it wants to be spoken to, fetched when it is called for the first time and then kept.
//!
//! Not to get a card is never a failure: without one an agent is spoken to as if nothing were known of it. If it does not
//! know that, and its card could not be had only for now, then it was not given the message. A card that was had counts
//! until there is a newer one, so that an agent that is too busy to show it is not spoken to in another way.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::A2aClient;
use super::body::Received;
use super::exchange::Asking;
use crate::dispatch::card::{Manner, is_card};
use crate::dispatch::request::Written;
use crate::domain::{Card, Outcome, Protocol, repair_json};

/// How many agents' cards are kept; then those go that were not asked for again.
const CARDS: usize = 16_384;
/// For how many there is room at once.
const FEW: usize = 64;
/// An agent with a longer address has no card.
const URL_BYTES: usize = 4_096;
/// The largest card that is read.
const CARD_BYTES: usize = 256 * 1024;
/// How long all looks for a card may take together.
const LIMIT: Duration = Duration::from_secs(3);
/// How long a card counts that does not say, and that there is none.
const FRESH: Duration = Duration::from_mins(5);
/// The bounds of what a card may say.
const FRESH_BOUNDS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(1));
/// After what time it is looked again where an agent was there and gave no answer.
const AGAIN: Duration = Duration::from_secs(5);

/// How an agent is spoken to that has no card.
static PLAIN: LazyLock<Arc<Manner>> = LazyLock::new(Arc::default);

/// How one is spoken to whose card cannot be had for now.
static GUESSED: LazyLock<Arc<Manner>> = LazyLock::new(|| {
    Arc::new(Manner {
        guessed: true,
        ..Manner::default()
    })
});

/// The cards of agents, by the agents' addresses.
#[derive(Clone)]
pub(super) struct Cards(Arc<Cache<Arc<str>, Arc<Slot>>>);

impl Default for Cards {
    fn default() -> Self {
        // Room for few at first: most know few agents, or none.
        let most = u64::try_from(CARDS).unwrap_or(u64::MAX);
        Self(Arc::new(Cache::with_weighter(FEW, most, UnitWeighter)))
    }
}

/// What is known of one agent.
#[derive(Default)]
struct Slot {
    known: Mutex<Option<Known>>,
    /// Held by whoever looks: the others wait for what it finds.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    /// None: there is no card.
    manner: Option<Arc<Manner>>,
    /// Where it was found, and what it is called there.
    place: Option<(Url, Option<Box<str>>)>,
    found: Instant,
    until: Instant,
}

/// What came of a look at one place.
enum Look {
    /// A card of use, or the one that is known; with its name, and how long it counts.
    Found(Option<Manner>, Option<Box<str>>, Duration),
    /// No card is there.
    Nothing,
    /// The agent gave no answer that says.
    Unclear,
    /// It could not be reached.
    Away,
}

impl Slot {
    fn known(&self) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// How the agent is spoken to, if that was found since then, or still counts.
    fn manner(&self, since: Instant) -> Option<Arc<Manner>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref()?;
        let counts = known.until > Instant::now() || known.found >= since;
        counts.then(|| known.manner().clone())
    }
}

impl Known {
    fn manner(&self) -> &Arc<Manner> {
        self.manner.as_ref().unwrap_or(&PLAIN)
    }
}

impl A2aClient {
    /// How the agent at `url` is spoken to: by the card that was registered, else by the one that it shows itself.
    pub async fn manner(&self, url: &Arc<str>, registered: Option<&Card>) -> Arc<Manner> {
        if let Some(card) = registered
            && let Ok(own) = Url::parse(url)
            && let Some(manner) = Manner::by(card, &own, &own)
        {
            return Arc::new(manner);
        }
        let since = Instant::now();
        match self.cards.0.get(&**url).and_then(|slot| slot.manner(since)) {
            Some(manner) => manner,
            None => Box::pin(self.look(url, since)).await,
        }
    }

    /// Looks for the agent's card, unless another has done so since then.
    async fn look(&self, url: &Arc<str>, since: Instant) -> Arc<Manner> {
        let Ok(own) = self.config.guard.check_url(url) else {
            return Arc::clone(&PLAIN);
        };
        if url.len() > URL_BYTES {
            return Arc::clone(&PLAIN);
        }
        let slot = self.cards.0.get(&**url).unwrap_or_else(|| {
            let slot = Arc::new(Slot::default());
            self.cards.0.insert(Arc::clone(url), Arc::clone(&slot));
            slot
        });
        let _turn = slot.looking.lock().await;
        if let Some(manner) = slot.manner(since) {
            return manner;
        }
        let before = slot.known();
        let looked = timeout(LIMIT, self.look_everywhere(&own, before.as_ref())).await;
        let (look, place) = looked.unwrap_or((Look::Unclear, None));
        let now = Instant::now();
        let kept = before.as_ref().and_then(|known| known.manner.clone());
        let guessed = || Some(Arc::clone(&GUESSED));
        let kept_place = before.and_then(|known| known.place);
        let (manner, place, fresh, result) = match look {
            Look::Found(manner, etag, fresh) => {
                let place = place.map(|place| (place, etag));
                (manner.map(Arc::new).or(kept), place, fresh, "found")
            }
            Look::Nothing => (None, None, FRESH, "none"),
            Look::Unclear => (kept.or_else(guessed), kept_place, AGAIN, "unclear"),
            Look::Away => (kept.or_else(guessed), kept_place, Duration::ZERO, "away"),
        };
        metrics::counter!("baton_cards_total", "result" => result).increment(1);
        let known = Known {
            manner,
            place,
            found: now,
            until: now + fresh,
        };
        let manner = Arc::clone(known.manner());
        *slot.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        manner
    }

    /// Looks where the card was before, then wherever one may be; says where it was found.
    async fn look_everywhere(&self, own: &Url, before: Option<&Known>) -> (Look, Option<Url>) {
        if let Some((place, Some(etag))) = before.and_then(|known| known.place.as_ref()) {
            let look = self.look_at(own, place, Some(etag)).await;
            if !matches!(look, Look::Nothing) {
                return (look, Some(place.clone()));
            }
        }
        let mut result = Look::Nothing;
        for place in places(own) {
            match self.look_at(own, &place, None).await {
                found @ Look::Found(..) => return (found, Some(place)),
                Look::Away => return (Look::Away, None),
                Look::Unclear => result = Look::Unclear,
                Look::Nothing => {}
            }
        }
        (result, None)
    }

    async fn look_at(&self, own: &Url, place: &Url, etag: Option<&str>) -> Look {
        let total = sleep(LIMIT);
        tokio::pin!(total);
        let known = etag.map(|etag| (Box::from("if-none-match"), Box::from(etag)));
        let outgoing = self.outgoing(Asking {
            written: Ok(Written {
                url: place.as_str().into(),
                body: None,
            }),
            version: Protocol::default(),
            streams: false,
            headers: known.as_slice(),
            credential: None,
            traceparent: None,
            deadline_in: LIMIT,
        });
        let Ok(mut outgoing) = outgoing else {
            return Look::Away;
        };
        let mut opened = match self.open(&mut outgoing, total.as_mut()).await {
            Ok(opened) => opened,
            Err(Outcome::DeliveredUnknown { .. }) => return Look::Unclear,
            Err(_unsent) => return Look::Away,
        };
        let name = opened.head.etag.take();
        let (least, most) = FRESH_BOUNDS;
        let fresh = opened.head.max_age.unwrap_or(FRESH).clamp(least, most);
        let received = self.take_in(&mut opened, CARD_BYTES, total).await;
        let reply = self.over(outgoing, opened, received);
        match (reply.status, etag, reply.received) {
            (304, Some(known), _) => {
                let name = name.or_else(|| Some(known.into()));
                Look::Found(None, name, fresh)
            }
            (200, _, Received::Whole(body)) => {
                let manner = Manner::by(&Card::read(&repair_json(&body)), own, place);
                manner.map_or(Look::Nothing, |manner| {
                    Look::Found(Some(manner), name, fresh)
                })
            }
            (200, _, Received::Cut(..)) | (429 | 500.., ..) => Look::Unclear,
            _ => Look::Nothing,
        }
    }
}

/// Where an agent's card may be: at its own address if that names it, else below that, or below its origin.
fn places(own: &Url) -> Vec<Url> {
    const KNOWN: &str = ".well-known/agent-card.json";
    let mut own = own.clone();
    own.set_fragment(None);
    if is_card(&own) {
        return vec![own];
    }
    own.set_query(None);
    let below = format!("{}/{KNOWN}", own.path().trim_end_matches('/'));
    let paths = [
        below,
        format!("/{KNOWN}"),
        "/.well-known/agent.json".to_owned(),
    ];
    let mut places: Vec<Url> = Vec::new();
    for path in paths {
        own.set_path(&path);
        if !places.contains(&own) {
            places.push(own.clone());
        }
    }
    places
}

#[cfg(test)]
mod tests;
