//! Blocks as they come.

use std::{convert::Infallible, sync::Arc};

use arknet_chain::rpc::{BlockEvent, ErrorCode};
use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{answer::Refused, desk::Desk, reads};
use crate::{
    Progress,
    limits::{EVENTS_BACK_MAX, STREAM_IDLE_TIME},
};

/// One event for each block, in order and without gaps: each is read from the store when its turn
/// comes, so that a slow reader holds up nobody and costs no memory.
pub(super) async fn stream(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let permit = desk.stream()?;
    let progress = desk.link.watch();
    let height = desk.read(|reader| Ok(reader.height())).await?;
    let from = match headers.get("last-event-id") {
        None => height.saturating_add(1),
        Some(last) => {
            let last: Option<u64> = last.to_str().ok().and_then(|last| last.parse().ok());
            let words = "Last-Event-ID is the height of the last block that was seen";
            let last = last.ok_or_else(|| Refused::new(ErrorCode::InvalidHeader, words))?;
            let oldest = height.saturating_sub(EVENTS_BACK_MAX);
            last.clamp(oldest, height).saturating_add(1)
        }
    };
    let events = blocks(Follow { desk, progress, next: from, _permit: permit });
    let idle = KeepAlive::new().interval(STREAM_IDLE_TIME);
    Ok(Sse::new(events).keep_alive(idle).into_response())
}

struct Follow {
    desk: Arc<Desk>,
    progress: watch::Receiver<Progress>,
    next: u64,
    _permit: OwnedSemaphorePermit,
}

fn blocks(follow: Follow) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(follow, async |mut follow| {
        let event = follow.next().await?;
        let id = event.height.to_string();
        let event = Event::default().event("block").id(id).json_data(event).ok()?;
        Some((Ok(event), follow))
    })
}

impl Follow {
    /// The next block; none when the node stops or the store does not answer.
    async fn next(&mut self) -> Option<BlockEvent> {
        loop {
            let height = self.next;
            let found = self.desk.read(move |reader| {
                let first = reader.first_block()?.unwrap_or(height);
                let height = height.max(first);
                Ok((height, reads::event(reader, height)?))
            });
            if let (height, Some(event)) = found.await.ok()? {
                self.next = height.saturating_add(1);
                return Some(event);
            }
            tokio::select! {
                biased;
                () = self.desk.closing.cancelled() => return None,
                changed = self.progress.changed() => changed.ok()?,
            }
        }
    }
}
