use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::{ApiError, Limits};

/// How much of a body that is too large is still taken off the wire, and for how long: a client that
/// is answered while it still sends would see a reset connection instead of the answer.
const DISCARD_BYTES_MAX: usize = 128 * 1024 * 1024;
const DISCARD: Duration = Duration::from_secs(2);

/// Reads a whole request body, within the limits.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
) -> Result<Bytes, ApiError> {
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
    timeout(limits.body_read(), gather(&mut body, max)).await.unwrap_or_else(|_| {
        Err(ApiError::invalid(
            StatusCode::REQUEST_TIMEOUT,
            "The request body did not arrive in time.",
        ))
    })
}

async fn gather(body: &mut Body, max: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else {
            continue;
        };
        if first.len().max(whole.len()) + data.len() > max {
            discard(body).await;
            return Err(too_large(max));
        }
        // Most bodies arrive in one piece and need no copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&data);
        first = Bytes::new();
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

async fn discard(body: &mut Body) {
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
