//! What is answered when something cannot be.

use arknet_chain::{
    Rejected,
    rpc::{ErrorAnswer, ErrorCode},
};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{NotAccepted, StoreError};

/// A request that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    answer: Box<ErrorAnswer>,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, words: impl Into<String>) -> Self {
        Self { status: status(code), answer: Box::new(ErrorAnswer::new(code, words)) }
    }

    pub(super) fn rate(retry_after_ms: u64) -> Self {
        let words = "too many requests; come again later";
        let mut refused = Self::new(ErrorCode::TooManyRequests, words);
        refused.answer.retry_after_ms = Some(retry_after_ms);
        refused
    }

    pub(super) fn unknown(code: ErrorCode, what: &str) -> Self {
        Self::new(code, format!("there is no such {what}"))
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &str {
        &self.answer.code
    }
}

const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BodyLate | ErrorCode::Timeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::BodyTooLarge | ErrorCode::TransactionTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::CrossSite | ErrorCode::HostNotAllowed => StatusCode::FORBIDDEN,
        ErrorCode::InvalidBody
        | ErrorCode::InvalidHeader
        | ErrorCode::InvalidParameter
        | ErrorCode::InvalidSignature
        | ErrorCode::InvalidTransaction => StatusCode::BAD_REQUEST,
        ErrorCode::FeeTooLow
        | ErrorCode::FeeOverflow
        | ErrorCode::GasLimitTooLow
        | ErrorCode::InsufficientBalance
        | ErrorCode::ReplacementUnderpriced
        | ErrorCode::WrongNetwork
        | ErrorCode::WrongNonce => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::MempoolFull | ErrorCode::Stopping | ErrorCode::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::Pruned => StatusCode::GONE,
        ErrorCode::TooManyRequests | ErrorCode::TooManyStreams => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::UnknownBlock
        | ErrorCode::UnknownChannel
        | ErrorCode::UnknownModel
        | ErrorCode::UnknownNode
        | ErrorCode::UnknownPath
        | ErrorCode::UnknownProposal
        | ErrorCode::UnknownTransaction => StatusCode::NOT_FOUND,
        ErrorCode::UnsupportedContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
    }
}

impl From<Rejected> for Refused {
    fn from(rejected: Rejected) -> Self {
        let (code, answer) = ErrorAnswer::of_rejected(&rejected);
        Self { status: status(code), answer: Box::new(answer) }
    }
}

impl From<NotAccepted> for Refused {
    fn from(error: NotAccepted) -> Self {
        match error {
            NotAccepted::Rejected(rejected) => rejected.into(),
            NotAccepted::Signature => Self::new(ErrorCode::InvalidSignature, error.to_string()),
            NotAccepted::Stopping => Self::new(ErrorCode::Stopping, error.to_string()),
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request could not be answered");
        Self::new(ErrorCode::Unavailable, "the store does not answer; see the log of the node")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let again = self.answer.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        let mut response = (self.status, Json(*self.answer)).into_response();
        if let Some(seconds) = again {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
