//! What the node API answers with when it cannot do what is asked, and how it reads what it is sent.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, to_bytes},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

/// Bytes of a body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Words for a person and a code for a program.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) words: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, words: impl Into<String>) -> Self {
        Self { status, code, words: words.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, words } = self;
        (status, Json(serde_json::json!({ "error": words, "code": code }))).into_response()
    }
}

/// Reads a body that must be this.
pub(crate) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let late = |_| {
        let words = "the body did not arrive in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_late", words)
    };
    let bytes = tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
    let bytes = bytes.map_err(late)?.map_err(|_| {
        let words = format!("a body has {BODY_BYTES_MAX} bytes at most");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", words)
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", error.to_string()))
}
