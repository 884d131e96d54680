//! The exchange of offers: all that are known, for one who comes new.
//!
//! A short-lived client cannot wait for the next heartbeat, so whoever dials a peer asks it for the
//! offers it knows. The answer is a list of offers, each in a frame, ended by the end of the stream.
//! Each offer is checked like one from gossip; its signature binds it, whoever passes it on.

use std::{sync::Arc, time::Duration};

use arknet_types::{
    frame,
    limits::{OFFER_BYTES_MAX, OFFERS_PER_EXCHANGE_MAX},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    limits::EXCHANGE_TIMEOUT,
    offers::Offers,
    streams::{Accepted, Lane, RequestStream},
};

/// Answers whoever asks, until nobody can ask any more. How many at once is bounded by the permits
/// that the streams hold.
pub(crate) async fn serve(
    mut accepted: mpsc::Receiver<Accepted>,
    offers: Offers,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    while let Some(Some(Accepted { stream, permit })) =
        closing.run_until_cancelled(accepted.recv()).await
    {
        let stream = RequestStream::accepted(stream, permit);
        let answer = within(EXCHANGE_TIMEOUT, closing.clone(), answer(stream, offers.clone()));
        tasks.spawn(answer);
    }
}

async fn answer(mut stream: RequestStream, offers: Offers) {
    let now = Offers::now();
    let own = offers.own(now);
    let room = OFFERS_PER_EXCHANGE_MAX - usize::from(own.is_some());
    let known = offers.with(|table| table.living(now).take(room).cloned().collect::<Vec<_>>());
    for offer in own.iter().chain(&known) {
        if stream.write_raw(&frame(offer)).await.is_err() {
            return;
        }
    }
    let _ = stream.close().await;
}

/// Asks the peer at the other end of a connection for the offers it knows.
pub(crate) async fn ask(lane: Arc<Lane>, offers: Offers, closing: CancellationToken) {
    within(EXCHANGE_TIMEOUT, closing, async {
        let Ok(answer) = lane.ask_exchange() else { return };
        let Ok(Ok(stream)) = answer.await else { return };
        let news = take_all(RequestStream::opened(stream), &offers).await;
        tracing::debug!(news, "offers exchanged");
    })
    .await;
}

async fn take_all(mut stream: RequestStream, offers: &Offers) -> usize {
    let mut news = 0;
    for _ in 0..OFFERS_PER_EXCHANGE_MAX {
        let Ok(bytes) = stream.read_raw(OFFER_BYTES_MAX).await else { break };
        let now = Offers::now();
        match offers.parse(&bytes, now) {
            Ok(offer) => news += usize::from(offers.insert(offer, now).is_news()),
            Err(error) => tracing::debug!(%error, "offer from an exchange dropped"),
        }
    }
    news
}

async fn within(time: Duration, closing: CancellationToken, work: impl Future<Output = ()>) {
    // Late or cancelled, what is left of the exchange is of no use; gossip brings it.
    let _ = closing.run_until_cancelled(timeout(time, work)).await;
}
