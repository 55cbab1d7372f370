//! Hearing out an answer that is a stream: what is told is handed on, and only then is the next of it read. So nothing
//! waits here but what a socket holds, and an agent that tells more than can be committed has to wait.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};

use super::answer::Body;
use super::body::Received;
use super::exchange::{Asking, Opened, Reply, masked};
use super::{A2aClient, Called, LARGE_REPLY_BYTES, unknown};
use crate::dispatch::credential::Credential;
use crate::dispatch::reply::{News, Telling, Told};
use crate::dispatch::sse::{Events, TooLong};
use crate::domain::ErrorClass;

/// How often it is told that the agent lives, when it says nothing else.
const LIVES_EVERY: Duration = Duration::from_secs(30);

impl A2aClient {
    /// Asks, and hears out the answer. Says, too, whether the agent did not know what it was asked for. A whole answer is
    /// as good as a stream.
    pub(super) async fn listen(
        &self,
        asking: Asking<'_>,
        telling: Telling,
        hear: &mut impl AsyncFnMut(News),
    ) -> (Called, bool) {
        let total = sleep(asking.deadline_in);
        tokio::pin!(total);
        let (binding, request_id) = telling.request();
        let credential = asking.credential;
        let mut outgoing = match self.outgoing(asking) {
            Ok(outgoing) => outgoing,
            Err(outcome) => return (Called::without_reply(outcome), false),
        };
        let mut opened = match self.open(&mut outgoing, total.as_mut()).await {
            Ok(opened) => opened,
            Err(outcome) => return (Called::without_reply(outcome), false),
        };
        let reply = if opened.head.streams && (200..=299).contains(&opened.head.status) {
            let mut spoke = false;
            let hearing = Hearing {
                telling,
                credential,
                reading: &self.reading,
                told: 0,
                spoke: &mut spoke,
            };
            let heard = self.hear_out(opened, hearing, total, hear);
            let received = match Box::pin(heard).await {
                Ok(Told::Answer(answer)) => Received::Whole(answer),
                Ok(Told::Open(why)) => {
                    let outcome = unknown(ErrorClass::Truncated, &why);
                    return (Called::without_reply(outcome), false);
                }
                Err(TooLong) => Received::TooLarge,
            };
            let reply = Reply {
                status: 200,
                retry_after: None,
                received,
                credential: None,
            };
            if spoke {
                let called = self.read_message(reply, binding, request_id);
                return (called.await, false);
            }
            reply
        } else {
            let limit = self.config.max_reply_bytes;
            let received = self.take_in(&mut opened, limit, total).await;
            let reply = self.over(outgoing, opened, received);
            Reply {
                credential: credential.cloned(),
                ..reply
            }
        };
        let declined = reply.declines(true, &request_id);
        let called = self.read_message(reply, binding, request_id);
        (called.await, declined)
    }

    /// Hears what the agent tells until it is over, or can be heard no more.
    async fn hear_out(
        &self,
        opened: Opened,
        mut hearing: Hearing<'_>,
        mut total: Pin<&mut Sleep>,
        hear: &mut impl AsyncFnMut(News),
    ) -> Result<Told, TooLong> {
        let Opened {
            mut connection,
            head,
        } = opened;
        let limit = self.config.max_reply_bytes;
        let (mut body, mut events) = (Body::new(head.framing), Events::new(limit));
        let mut at = Instant::now();
        let why = loop {
            let ended = body.advance(&mut connection.received);
            let piece = body.drain(&mut connection.received);
            let mut rest = &*piece;
            while let Some(data) = events.next(&mut rest)? {
                hearing.told = hearing.told.saturating_add(data.len());
                if hearing.told > limit {
                    return Err(TooLong);
                }
                for news in hearing.heed(data).await {
                    (*hearing.spoke, at) = (true, Instant::now());
                    hear(news).await;
                }
                if hearing.telling.is_over() {
                    return Ok(hearing.ended("it is over".to_owned()).await);
                }
            }
            match ended {
                Ok(true) => break "it was closed".to_owned(),
                Ok(false) => {}
                Err(broken) => break broken.to_owned(),
            }
            // A comment is a sign of life.
            if !piece.is_empty() && at.elapsed() >= LIVES_EVERY {
                at = Instant::now();
                hear(News::Lives).await;
            }
            tokio::select! {
                biased;
                // First: there may always be something to read.
                () = &mut total => break "the deadline passed".to_owned(),
                read = connection.read() => match read {
                    Ok(0) => break "the connection was closed".to_owned(),
                    Ok(_) => {}
                    Err(error) => break error.to_string(),
                },
            }
        };
        if let Some(data) = events.last() {
            for news in hearing.heed(data).await {
                *hearing.spoke = true;
                hear(news).await;
            }
        }
        Ok(hearing.ended(why).await)
    }
}

/// What an agent tells, as it is heard.
struct Hearing<'a> {
    telling: Telling,
    /// Masked in what it tells.
    credential: Option<&'a Arc<Credential>>,
    /// Turns for reading what is large.
    reading: &'a Semaphore,
    /// How much it told, in bytes.
    told: usize,
    /// Whether it told anything.
    spoke: &'a mut bool,
}

impl Hearing<'_> {
    /// Reads an event; a large one on a thread that may block.
    async fn heed(&mut self, data: Vec<u8>) -> Vec<News> {
        if data.len() < LARGE_REPLY_BYTES {
            return self.telling.hear(&masked(data.into(), self.credential));
        }
        let credential = self.credential.cloned();
        let _turn = self.reading.acquire().await;
        let mut away = std::mem::take(&mut self.telling);
        let reading = tokio::task::spawn_blocking(move || {
            let news = away.hear(&masked(data.into(), credential.as_ref()));
            (away, news)
        });
        let Ok((back, news)) = reading.await else {
            return Vec::new();
        };
        self.telling = back;
        news
    }

    /// What it came to; much of it is put together on a thread that may block.
    async fn ended(self, why: String) -> Told {
        let telling = self.telling;
        if self.told < LARGE_REPLY_BYTES {
            return telling.ended(&why);
        }
        let _turn = self.reading.acquire().await;
        let folding = tokio::task::spawn_blocking(move || telling.ended(&why));
        let told = folding.await;
        told.unwrap_or_else(|error| Told::Open(format!("the stream was not read: {error}")))
    }
}
