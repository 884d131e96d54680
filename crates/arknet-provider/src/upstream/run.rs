//! One answer: asks, reads, and hands over what comes, in the task of whoever takes it.

use std::{mem, sync::Arc, time::Duration};

use arknet_types::{ModelName, Refusal, RefusalCode, Reply};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Shared,
    answer::failed,
    errors::{self, Fault},
    health::Sign,
    http::{self, Body, HttpError},
    limits::ERROR_BYTES_MAX,
    read::{Reader, Stream},
    target::Call,
};

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        Self { refusal: failed(&error.to_string()), sign: Some(Sign::Failed) }
    }
}

/// The answer to one request. Dropping it ends the request at once, connection and all. Nothing is
/// read ahead of whoever takes the replies.
pub(super) fn answer(
    shared: Arc<Shared>,
    model: ModelName,
    call: Call,
) -> BoxStream<'static, Reply> {
    let work = Work { shared, model, stage: Stage::Asking(call) };
    let replies = stream::unfold(work, async |mut work| {
        let replies = work.step().await?;
        Some((stream::iter(replies), work))
    });
    replies.flatten().boxed()
}

struct Work {
    shared: Arc<Shared>,
    model: ModelName,
    stage: Stage,
}

enum Stage {
    Asking(Call),
    Reading(Reading),
    Over,
}

/// An answer that comes in pieces.
struct Reading {
    body: Body,
    stream: Box<Stream>,
}

impl Work {
    /// The replies that come next, at least one of them.
    async fn step(&mut self) -> Option<Vec<Reply>> {
        let mut replies = vec![];
        let result = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Asking(call) => self.ask(call, &mut replies).await,
            Stage::Reading(reading) => {
                // From now, not from the last reply: how long that took to be taken is not the
                // upstream's silence.
                let idle = Duration::from_secs(self.shared.options.timeouts.idle_s);
                self.read(reading, Instant::now() + idle, &mut replies).await
            }
            Stage::Over => return None,
        };
        if let Err(fault) = result {
            replies.push(Reply::Refused(self.refusal(fault)));
        }
        Some(replies)
    }

    async fn ask(&mut self, call: Call, replies: &mut Vec<Reply>) -> Result<(), Fault> {
        let times = self.shared.options.timeouts;
        // Connecting has its own limit within; together they bound the wait for the first piece.
        let first = Duration::from_secs(times.connect_s + times.first_token_s);
        let deadline = Instant::now() + first;
        let Call { place, body, reader } = call;
        let asked = timeout_at(deadline, self.shared.http.ask(place, Bytes::from(body))).await;
        let response = asked.map_err(|_| silent())??;
        if !http::is_well(&response) {
            let retry_after_ms = http::retry_after_ms(&response);
            let status = response.status().as_u16();
            let time = Duration::from_secs(times.health_s);
            // What can be read of the reason in that time; without one the status speaks alone.
            let body = timeout(time, http::beginning(response.into_body(), ERROR_BYTES_MAX)).await;
            return Err(errors::refusal(place, status, retry_after_ms, &body.unwrap_or_default()));
        }
        let body = response.into_body();
        match reader {
            Reader::Stream(stream) => self.read(Reading { body, stream }, deadline, replies).await,
            Reader::Whole(whole) => {
                let body = timeout_at(deadline, http::whole(body, whole.bytes_max()));
                let body = body.await.map_err(|_| silent())??;
                replies.extend(whole.read(&body)?);
                Ok(())
            }
        }
    }

    /// Reads until there is a reply. Comments and pings do not move the deadline: a server that says
    /// only that it is alive is given up like one that says nothing.
    async fn read(
        &mut self,
        mut reading: Reading,
        deadline: Instant,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Fault> {
        while replies.is_empty() {
            let piece = timeout_at(deadline, reading.body.piece()).await.map_err(|_| silent())?;
            match piece {
                Some(Ok(bytes)) => reading.stream.feed(&bytes, replies)?,
                Some(Err(error)) => return Err(error.into()),
                None => reading.stream.end(replies)?,
            }
            if reading.stream.is_over() {
                reading.body.finish();
                return Ok(());
            }
        }
        self.stage = Stage::Reading(reading);
        Ok(())
    }

    /// What a fault means to the requester, and to what is known of the upstream.
    fn refusal(&self, fault: Fault) -> Refusal {
        if let Some(sign) = fault.sign {
            self.shared.note(sign);
        }
        let refusal = fault.refusal;
        if !matches!(refusal.code, RefusalCode::InvalidRequest | RefusalCode::Unsupported) {
            return refusal;
        }
        // Which of several models it is that does not take pictures, for example.
        let words = format!("{}: {}", refusal.detail, self.model);
        Refusal { retry_after_ms: refusal.retry_after_ms, ..Refusal::new(refusal.code, words) }
    }
}

fn silent() -> Fault {
    let refusal = Refusal::new(RefusalCode::ProviderFailed, "the upstream was silent for too long");
    Fault { refusal, sign: Some(Sign::Failed) }
}
