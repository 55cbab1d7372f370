//! How many places of the feed's counter a write takes.

use baton::domain::Feed;
use baton::store::Write;

/// How many places a write takes, whether it needs them or not.
pub(super) fn places_of(write: &Write) -> usize {
    let feed = |feed: &Feed| feed.rows.len() + feed.reply.iter().len() + feed.events.len();
    match write {
        Write::Accept(accept) => {
            let sent = accept.sent.iter().map(|sent| feed(&sent.feed));
            (feed(&accept.feed) + sent.sum::<usize>()).max(1)
        }
        Write::Advance(advance) | Write::Visit(advance) => feed(&advance.feed),
        Write::DeliverOwed { .. } => 1,
        _ => 0,
    }
}
