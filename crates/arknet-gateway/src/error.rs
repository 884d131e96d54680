use std::borrow::Cow;

use arknet_types::{Refusal, RefusalCode};
use axum::http::StatusCode;

use crate::KeyError;

/// When a refusal asks for patience without saying how much.
const RETRY_AFTER_MS_DEFAULT: u32 = 1000;

/// The official clients wait no longer than this before they ask again, whatever they are told.
const RETRY_WAIT_MS_MAX: u32 = 60_000;

/// What kind of failure it is. Each door has its own words for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A mistake in the request.
    Invalid,
    /// No key, or none that is known.
    Authentication,
    /// Somebody known who has no right to this.
    Permission,
    /// The budget does not allow it.
    Quota,
    /// Too much at once.
    RateLimit,
    /// Something behind the door failed.
    Server,
}

/// A failure, before a door gives it its own shape. Its text goes to the client and nowhere else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: Kind,
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
            kind: Kind::Invalid,
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

    /// A parameter that must be there.
    pub(crate) fn missing(param: impl Into<Cow<'static, str>>) -> Self {
        let param = param.into();
        let message = format!("Missing required parameter: '{param}'.");
        Self::parameter(param, message).code("missing_required_parameter")
    }

    /// A parameter that is known, would change the answer, and cannot be heeded.
    pub(crate) fn unsupported(
        param: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self::parameter(param, message).code("unsupported_parameter")
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

    /// Something behind the door failed.
    pub(crate) fn server(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind: Kind::Server, ..Self::invalid(status, message).code(code) }
    }

    /// The same with a stable code.
    pub(crate) const fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same, speaking of this parameter.
    pub(crate) fn about(self, param: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// What a refusal is called over HTTP. Names the parameter where its words speak of one.
    #[must_use]
    pub fn from_refusal(refusal: Refusal) -> Self {
        let (status, kind, code, param) = row(refusal.code);
        let param = match refusal.code {
            RefusalCode::InvalidRequest => at_fault(&refusal.detail),
            _ => param,
        };
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

    /// What a key that does not open the door is called over HTTP.
    #[must_use]
    pub fn from_key(error: &KeyError) -> Self {
        let (status, kind, code, wait) = match error {
            KeyError::Missing | KeyError::Unknown => {
                (StatusCode::UNAUTHORIZED, Kind::Authentication, "invalid_api_key", None)
            }
            KeyError::Expired => {
                (StatusCode::UNAUTHORIZED, Kind::Authentication, "expired_api_key", None)
            }
            KeyError::Model => (StatusCode::FORBIDDEN, Kind::Permission, "model_not_allowed", None),
            KeyError::Requests { retry_after_ms } => (
                StatusCode::TOO_MANY_REQUESTS,
                Kind::RateLimit,
                "rate_limit_exceeded",
                Some(*retry_after_ms),
            ),
            KeyError::Tokens { retry_after_ms } => (
                StatusCode::TOO_MANY_REQUESTS,
                Kind::RateLimit,
                "token_limit_exceeded",
                Some(*retry_after_ms),
            ),
        };
        let words = error.to_string();
        let mut letters = words.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        let message = first.into_iter().chain(letters).chain(['.']).collect::<String>();
        Self {
            kind,
            retry_after_ms: wait.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
            ..Self::invalid(status, message).code(code)
        }
    }

    /// Whether the same request may be answered when it comes again soon.
    pub(crate) fn is_worth_a_retry(&self) -> bool {
        match self.status.as_u16() {
            408 | 409 | 500.. => true,
            429 => self.retry_after_ms.is_none_or(|ms| ms <= RETRY_WAIT_MS_MAX),
            _ => false,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
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
}

/// The one table from refusals to HTTP: status, kind, code, parameter. A peer that finds fault with
/// what this node signed is a failure behind the door, hence 502; what its person can mend (clock,
/// rights, budget, parameters) is theirs, hence 4xx.
const fn row(code: RefusalCode) -> (StatusCode, Kind, &'static str, Option<&'static str>) {
    use RefusalCode as R;
    use StatusCode as S;
    match code {
        R::TooLarge => (S::PAYLOAD_TOO_LARGE, Kind::Invalid, "too_large", None),
        R::Expired | R::FutureDated | R::NotPermitted => {
            (S::FORBIDDEN, Kind::Permission, code.as_str(), None)
        }
        R::CapExceeded | R::PriceTooHigh => (S::PAYMENT_REQUIRED, Kind::Quota, code.as_str(), None),
        R::UnknownModel => (S::NOT_FOUND, Kind::Invalid, "model_not_found", Some("model")),
        R::Busy => (S::TOO_MANY_REQUESTS, Kind::RateLimit, "busy", None),
        R::RateLimited => (S::TOO_MANY_REQUESTS, Kind::RateLimit, "rate_limit_exceeded", None),
        R::ContextOverflow => (S::BAD_REQUEST, Kind::Invalid, "context_length_exceeded", None),
        R::InvalidRequest => (S::BAD_REQUEST, Kind::Invalid, "invalid_request", None),
        R::Unsupported => (S::BAD_REQUEST, Kind::Invalid, "unsupported", None),
        R::ShuttingDown => (S::SERVICE_UNAVAILABLE, Kind::Server, "shutting_down", None),
        // Malformed, WrongNetwork, WrongAudience, BadSignature, Replayed, ProviderFailed, PeerLost
        // and whatever a later version adds.
        _ => (S::BAD_GATEWAY, Kind::Server, code.as_str(), None),
    }
}

/// The parameter that the words of a refusal speak of.
fn at_fault(detail: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 15] = [
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("presence_penalty", "presence_penalty"),
        ("frequency_penalty", "frequency_penalty"),
        ("repeat_penalty", "repeat_penalty"),
        ("logit_bias", "logit_bias"),
        ("logprobs", "logprobs"),
        ("max_tokens", "max_tokens"),
        ("stop", "stop"),
        ("message", "messages"),
        ("messages", "messages"),
        ("tool_choice", "tool_choice"),
        ("tool", "tools"),
        ("tools", "tools"),
    ];
    let is_part_of_word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    detail
        .split(is_part_of_word)
        .find_map(|word| NAMES.into_iter().find(|(name, _)| *name == word))
        .map(|(_, param)| param)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_status_kind_and_code() {
        use RefusalCode as R;
        for (refusal, status, kind, code, param) in [
            (R::Malformed, 502, Kind::Server, "malformed", None),
            (R::TooLarge, 413, Kind::Invalid, "too_large", None),
            (R::WrongNetwork, 502, Kind::Server, "wrong_network", None),
            (R::WrongAudience, 502, Kind::Server, "wrong_audience", None),
            (R::BadSignature, 502, Kind::Server, "bad_signature", None),
            (R::Expired, 403, Kind::Permission, "expired", None),
            (R::FutureDated, 403, Kind::Permission, "future_dated", None),
            (R::Replayed, 502, Kind::Server, "replayed", None),
            (R::NotPermitted, 403, Kind::Permission, "not_permitted", None),
            (R::CapExceeded, 402, Kind::Quota, "cap_exceeded", None),
            (R::UnknownModel, 404, Kind::Invalid, "model_not_found", Some("model")),
            (R::Busy, 429, Kind::RateLimit, "busy", None),
            (R::ContextOverflow, 400, Kind::Invalid, "context_length_exceeded", None),
            (R::InvalidRequest, 400, Kind::Invalid, "invalid_request", None),
            (R::ShuttingDown, 503, Kind::Server, "shutting_down", None),
            (R::ProviderFailed, 502, Kind::Server, "provider_failed", None),
            (R::RateLimited, 429, Kind::RateLimit, "rate_limit_exceeded", None),
            (R::PeerLost, 502, Kind::Server, "peer_lost", None),
            (R::PriceTooHigh, 402, Kind::Quota, "price_too_high", None),
            (R::Unsupported, 400, Kind::Invalid, "unsupported", None),
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
    fn every_key_error_has_its_status_and_words() {
        for (error, status, code, wait) in [
            (KeyError::Missing, 401, "invalid_api_key", None),
            (KeyError::Unknown, 401, "invalid_api_key", None),
            (KeyError::Expired, 401, "expired_api_key", None),
            (KeyError::Model, 403, "model_not_allowed", None),
            (KeyError::Requests { retry_after_ms: 5 }, 429, "rate_limit_exceeded", Some(5)),
            (
                KeyError::Tokens { retry_after_ms: u64::MAX },
                429,
                "token_limit_exceeded",
                Some(u32::MAX),
            ),
        ] {
            let api = ApiError::from_key(&error);
            assert_eq!(
                (api.status.as_u16(), api.code, api.retry_after_ms),
                (status, Some(code), wait)
            );
            assert!(api.message.ends_with('.') && api.message.starts_with(char::is_uppercase));
        }
    }

    #[test]
    fn an_invalid_request_names_its_parameter() {
        let refusal = Refusal::new(RefusalCode::InvalidRequest, "top_p must lie between 0 and 1");
        assert_eq!(ApiError::from_refusal(refusal).param(), Some("top_p"));
    }
}
