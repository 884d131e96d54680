use std::borrow::Cow;

use arknet_types::{Refusal, RefusalCode};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

pub(crate) const INVALID_REQUEST: &str = "invalid_request_error";
const API: &str = "api_error";
const PERMISSION: &str = "permission_error";
const QUOTA: &str = "insufficient_quota";
const RATE_LIMIT: &str = "rate_limit_error";

/// When a refusal asks for patience without saying how much.
const RETRY_AFTER_MS_DEFAULT: u32 = 1000;

/// A failure in the form OpenAI's clients understand. Its text goes to the client and nowhere else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<Cow<'static, str>>,
    pub(crate) message: String,
    pub(crate) retry_after_ms: Option<u32>,
}

impl ApiError {
    /// A mistake in the request.
    pub(crate) fn invalid(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: INVALID_REQUEST,
            code: None,
            param: None,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// A mistake in one parameter.
    pub(crate) fn parameter(
        param: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(StatusCode::BAD_REQUEST, message) }
    }

    /// A model that nobody here serves.
    pub(crate) fn unknown_model(name: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::parameter(
                "model",
                format!("The model `{name}` does not exist or you do not have access to it."),
            )
        }
    }

    /// The same with a stable code.
    pub(crate) const fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// What a refusal is called over HTTP.
    #[must_use]
    pub fn from_refusal(refusal: Refusal) -> Self {
        let (status, kind, code, param) = row(refusal.code);
        let retry_after_ms = refusal.retry_after_ms.or_else(|| {
            (status == StatusCode::TOO_MANY_REQUESTS).then_some(RETRY_AFTER_MS_DEFAULT)
        });
        let message = if refusal.detail.is_empty() {
            format!("The request was refused ({}).", refusal.code.as_str())
        } else {
            refusal.detail
        };
        Self {
            status,
            kind,
            code: Some(code),
            param: param.map(Cow::Borrowed),
            message,
            retry_after_ms,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code in the body, if it has one.
    #[must_use]
    pub const fn stable_code(&self) -> Option<&'static str> {
        self.code
    }

    /// The parameter that is at fault, if it is one.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The words for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Appends `{"error":{..}}`.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let envelope = Envelope {
            error: Fields {
                message: &self.message,
                r#type: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
        };
        serde_json::to_writer(out, &envelope).expect("strings are always JSON");
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Vec::with_capacity(256);
        self.write_json(&mut body);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, ms.div_ceil(1000).max(1).into());
            headers.insert(HeaderName::from_static("retry-after-ms"), ms.into());
        }
        response
    }
}

/// The one table from refusals to HTTP: status, type, code, parameter. A peer that finds fault with
/// what this node signed is a failure behind the door, hence 502; what its person can mend (clock,
/// rights, budget, parameters) is theirs, hence 4xx.
const fn row(code: RefusalCode) -> (StatusCode, &'static str, &'static str, Option<&'static str>) {
    use RefusalCode as R;
    use StatusCode as S;
    match code {
        R::TooLarge => (S::PAYLOAD_TOO_LARGE, INVALID_REQUEST, "too_large", None),
        R::Expired | R::FutureDated | R::NotPermitted => {
            (S::FORBIDDEN, PERMISSION, code.as_str(), None)
        }
        R::CapExceeded | R::PriceTooHigh => (S::PAYMENT_REQUIRED, QUOTA, code.as_str(), None),
        R::UnknownModel => (S::NOT_FOUND, INVALID_REQUEST, "model_not_found", Some("model")),
        R::Busy => (S::TOO_MANY_REQUESTS, RATE_LIMIT, "busy", None),
        R::RateLimited => (S::TOO_MANY_REQUESTS, RATE_LIMIT, "rate_limit_exceeded", None),
        R::ContextOverflow => (S::BAD_REQUEST, INVALID_REQUEST, "context_length_exceeded", None),
        R::InvalidRequest => (S::BAD_REQUEST, INVALID_REQUEST, "invalid_request", None),
        R::ShuttingDown => (S::SERVICE_UNAVAILABLE, API, "shutting_down", None),
        // Malformed, WrongNetwork, WrongAudience, BadSignature, Replayed, ProviderFailed, PeerLost
        // and whatever a later version adds.
        _ => (S::BAD_GATEWAY, API, code.as_str(), None),
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_status_type_and_code() {
        use RefusalCode as R;
        for (refusal, status, kind, code, param) in [
            (R::Malformed, 502, API, "malformed", None),
            (R::TooLarge, 413, INVALID_REQUEST, "too_large", None),
            (R::WrongNetwork, 502, API, "wrong_network", None),
            (R::WrongAudience, 502, API, "wrong_audience", None),
            (R::BadSignature, 502, API, "bad_signature", None),
            (R::Expired, 403, PERMISSION, "expired", None),
            (R::FutureDated, 403, PERMISSION, "future_dated", None),
            (R::Replayed, 502, API, "replayed", None),
            (R::NotPermitted, 403, PERMISSION, "not_permitted", None),
            (R::CapExceeded, 402, QUOTA, "cap_exceeded", None),
            (R::UnknownModel, 404, INVALID_REQUEST, "model_not_found", Some("model")),
            (R::Busy, 429, RATE_LIMIT, "busy", None),
            (R::ContextOverflow, 400, INVALID_REQUEST, "context_length_exceeded", None),
            (R::InvalidRequest, 400, INVALID_REQUEST, "invalid_request", None),
            (R::ShuttingDown, 503, API, "shutting_down", None),
            (R::ProviderFailed, 502, API, "provider_failed", None),
            (R::RateLimited, 429, RATE_LIMIT, "rate_limit_exceeded", None),
            (R::PeerLost, 502, API, "peer_lost", None),
            (R::PriceTooHigh, 402, QUOTA, "price_too_high", None),
        ] {
            let error = ApiError::from_refusal(Refusal::new(refusal, "words"));
            assert_eq!(error.status.as_u16(), status, "{refusal:?}");
            assert_eq!(error.kind, kind, "{refusal:?}");
            assert_eq!(error.stable_code(), Some(code), "{refusal:?}");
            assert_eq!(error.param(), param, "{refusal:?}");
            assert_eq!(error.message(), "words");
            assert_eq!(error.retry_after_ms.is_some(), status == 429, "{refusal:?}");
        }
    }

    #[test]
    fn patience_is_said_in_seconds_and_milliseconds() {
        for (ms, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (0, "1")] {
            let refusal = Refusal::new(RefusalCode::Busy, "").retry_after_ms(ms);
            let response = ApiError::from_refusal(refusal).into_response();
            assert_eq!(response.headers()["retry-after"], seconds);
            assert_eq!(response.headers()["retry-after-ms"], ms.to_string().as_str());
        }
    }

    #[test]
    fn the_body_has_all_four_fields() {
        let mut body = Vec::new();
        ApiError::invalid(StatusCode::NOT_FOUND, "a \"quote\"").write_json(&mut body);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"error":{"message":"a \"quote\"","type":"invalid_request_error","param":null,"code":null}}"#
        );
    }
}
