//! The exchange of offers over a connection: what is known to whoever asks, and our own to whom we
//! tell it.
//!
//! A short-lived client cannot wait for the next heartbeat, so whoever dials a peer asks it for the
//! offers it knows: it opens a stream, ends its own side at once, and reads a list of offers, each in
//! a frame. An offer that is not for everybody is told the other way round: who opens the stream
//! sends the one frame and ends its side, and the other side ends its own when it has read it.
//!
//! Each offer is checked like one from gossip; its signature binds it, whoever passes it on. What a
//! peer tells of itself in an exchange may be meant for us alone and is not passed on.

use std::{sync::Arc, time::Duration};

use arknet_types::{
    Offer, PublicKey, frame,
    limits::{OFFER_BYTES_MAX, OFFERS_PER_EXCHANGE_MAX},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::EXCHANGE_TIMEOUT,
    offers::Offers,
    streams::{Accepted, FrameError, Lane, Purpose, RequestStream},
};

/// Answers whoever asks, until nobody can ask any more. How many at once is bounded by the permits
/// that the streams hold.
pub(crate) async fn serve(
    mut accepted: mpsc::Receiver<Accepted>,
    offers: Offers,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    while let Some(Some(Accepted { peer, stream, permit })) =
        closing.run_until_cancelled(accepted.recv()).await
    {
        let stream = RequestStream::accepted(stream, permit);
        let answer =
            within(EXCHANGE_TIMEOUT, closing.clone(), answer(stream, peer, offers.clone()));
        tasks.spawn(answer);
    }
}

async fn answer(mut stream: RequestStream, peer: PublicKey, offers: Offers) {
    match stream.read_raw(OFFER_BYTES_MAX).await {
        // It tells us of itself, and asks nothing.
        Ok(bytes) => {
            take(&bytes, peer, &offers, true);
        }
        Err(FrameError::Closed) => {
            let now = Offers::now();
            let own = offers.own_for(&peer, now);
            let room = OFFERS_PER_EXCHANGE_MAX - usize::from(own.is_some());
            for offer in own.into_iter().chain(offers.to_pass_on(now, room)) {
                if stream.write_raw(&frame(&offer)).await.is_err() {
                    return;
                }
            }
        }
        Err(_) => return,
    }
    let _ = stream.close().await;
}

/// Asks the peer at the other end of a connection for the offers it knows.
pub(crate) async fn ask(
    lane: Arc<Lane>,
    peer: PublicKey,
    offers: Offers,
    closing: CancellationToken,
) {
    within(EXCHANGE_TIMEOUT, closing, async {
        let Some(mut stream) = open(&lane).await else { return };
        if stream.close().await.is_err() {
            return;
        }
        let mut news = 0;
        for _ in 0..OFFERS_PER_EXCHANGE_MAX {
            let Ok(bytes) = stream.read_raw(OFFER_BYTES_MAX).await else { break };
            news += usize::from(take(&bytes, peer, &offers, false));
        }
        tracing::debug!(news, "offers exchanged");
    })
    .await;
}

/// Tells the peer at the other end of a connection our offer for it. Returns whether it has it.
pub(crate) async fn tell(lane: Arc<Lane>, offer: Offer, closing: CancellationToken) -> bool {
    within(EXCHANGE_TIMEOUT, closing, async {
        let mut stream = open(&lane).await?;
        stream.write_raw(&frame(&offer)).await.ok()?;
        stream.close().await.ok()?;
        // The end of the other side says that it was read; a reset says that it was not.
        match stream.read_raw(OFFER_BYTES_MAX).await {
            Err(FrameError::Closed) => Some(()),
            _ => None,
        }
    })
    .await
    .flatten()
    .is_some()
}

async fn open(lane: &Lane) -> Option<RequestStream> {
    let stream = lane.ask_once(Purpose::Exchange).ok()?.await.ok()?.ok()?;
    Some(RequestStream::opened(stream))
}

/// Takes one offer that `from` sent. Returns whether it was news.
fn take(bytes: &[u8], from: PublicKey, offers: &Offers, is_told: bool) -> bool {
    let now = Offers::now();
    match offers.parse(bytes, now) {
        // Unasked, a peer speaks for itself alone.
        Ok(offer) if is_told && offer.body.peer != from => false,
        Ok(offer) => {
            let is_public = offer.body.peer != from;
            offers.insert(offer, now, is_public).is_news()
        }
        Err(error) => {
            tracing::debug!(%error, "offer from an exchange dropped");
            false
        }
    }
}

/// Late or cancelled, what is left of the exchange is of no use.
async fn within<T>(
    time: Duration,
    closing: CancellationToken,
    work: impl Future<Output = T>,
) -> Option<T> {
    closing.run_until_cancelled(timeout(time, work)).await?.ok()
}
