use std::{sync::Arc, time::Duration};

use arknet_types::{Refusal, RefusalCode};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{ApiError, Limits};

/// How much of a body that is too large is still taken off the wire, and for how long: a client that
/// is answered while it still sends would see a reset connection instead of the answer.
const DISCARD_BYTES_MAX: usize = 128 * 1024 * 1024;
const DISCARD: Duration = Duration::from_secs(10);

/// What a body may have without counting as large.
const SMALL_BYTES: usize = 64 * 1024;
/// What one permit of the hold stands for.
const UNIT_BYTES: usize = 64 * 1024;

/// Bounds what large bodies take together: a few may come at once, not one on every connection.
pub(crate) struct Hold(Arc<Semaphore>);

/// Room in the hold, until dropped.
pub(crate) type Room = Option<OwnedSemaphorePermit>;

impl Hold {
    pub(crate) fn new(limits: &Limits) -> Self {
        let units = (limits.large_bodies_bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(units)))
    }

    fn room(&self, bytes: usize) -> Result<Room, ApiError> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0).try_acquire_many_owned(units);
        room.map(Some).map_err(|_| {
            let words = "too many large requests are held at once";
            ApiError::from_refusal(Refusal::new(RefusalCode::Busy, words))
        })
    }
}

/// Reads a whole request body, within the limits.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
    hold: &Hold,
) -> Result<(Bytes, Room), ApiError> {
    let max = limits.body_bytes_max;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > max as u64) {
        // Whoever asks before sending has nothing under way.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body).await;
        }
        return Err(too_large(max));
    }
    let expected = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(max);
    timeout(limits.body_read(), gather(&mut body, max, expected, hold)).await.unwrap_or_else(|_| {
        Err(ApiError::invalid(
            StatusCode::REQUEST_TIMEOUT,
            "The request body did not arrive in time.",
        ))
    })
}

async fn gather(
    body: &mut Body,
    max: usize,
    expected: usize,
    hold: &Hold,
) -> Result<(Bytes, Room), ApiError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut room = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else {
            continue;
        };
        let length = first.len().max(whole.len()) + data.len();
        if length > max {
            discard(body).await;
            return Err(too_large(max));
        }
        if length > SMALL_BYTES && room.is_none() {
            match hold.room(expected) {
                Ok(taken) => room = taken,
                Err(error) => {
                    discard(body).await;
                    return Err(error);
                }
            }
        }
        // Most bodies arrive in one piece and need no copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            // What is announced is not believed before it comes.
            whole.reserve(expected.min(SMALL_BYTES));
        }
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&data);
        first = Bytes::new();
    }
    Ok((if whole.is_empty() { first } else { whole.freeze() }, room))
}

/// Takes what still comes off the wire, for a while, so that the client gets to see the answer.
pub(crate) async fn discard(body: &mut Body) {
    let mut left = DISCARD_BYTES_MAX;
    let drain = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes);
            if left == 0 {
                return;
            }
        }
    };
    // Out of time or not, the answer is the same.
    let _elapsed = timeout(DISCARD, drain).await;
}

fn too_large(max: usize) -> ApiError {
    ApiError::invalid(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The request body is too large: {max} bytes at most."),
    )
    .code("too_large")
}

fn broken() -> ApiError {
    ApiError::invalid(StatusCode::BAD_REQUEST, "The request body broke off or is malformed.")
}
