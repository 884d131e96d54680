use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

use crate::{ApiError, error::Kind};

/// Whose API a route belongs to, hence the shape of its failures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// Whose API lives at this path.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/api/") {
            return Self::Ollama;
        }
        match path.strip_prefix("/v1/messages") {
            Some("") => Self::Anthropic,
            Some(rest) if rest.starts_with('/') => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }

    /// The name in metrics and traces.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
        }
    }

    /// The status of a failure.
    pub(crate) fn status(self, error: &ApiError) -> StatusCode {
        match (self, error.code) {
            // What Anthropic's clients take for "come again".
            (Self::Anthropic, Some("shutting_down")) => {
                StatusCode::from_u16(529).expect("it has three digits")
            }
            _ => error.status,
        }
    }

    /// Appends a failure as JSON.
    pub(crate) fn write_error(self, error: &ApiError, out: &mut Vec<u8>) {
        self.write(error, None, out);
    }

    fn write(self, error: &ApiError, request_id: Option<&str>, out: &mut Vec<u8>) {
        let written = match self {
            Self::OpenAi => serde_json::to_writer(
                out,
                &OpenAi {
                    error: OpenAiFields {
                        message: &error.message,
                        r#type: openai_type(error.kind),
                        param: error.param.as_deref(),
                        code: error.code,
                    },
                },
            ),
            Self::Anthropic => serde_json::to_writer(
                out,
                &Anthropic {
                    r#type: "error",
                    error: AnthropicFields {
                        r#type: anthropic_type(self.status(error)),
                        message: &error.message,
                    },
                    request_id,
                },
            ),
            Self::Ollama => serde_json::to_writer(out, &Ollama { error: &error.message }),
        };
        written.expect("strings are always JSON");
    }

    /// A failure as a whole response.
    pub(crate) fn refuse(self, error: &ApiError) -> Response {
        self.response(error, None)
    }

    /// The same, for a request that has an id.
    pub(crate) fn refuse_request(self, error: &ApiError, id: &str) -> Response {
        self.response(error, Some(id))
    }

    fn response(self, error: &ApiError, request_id: Option<&str>) -> Response {
        let mut body = Vec::with_capacity(256);
        self.write(error, request_id, &mut body);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status(error);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = error.retry_after_ms {
            headers.insert(header::RETRY_AFTER, ms.div_ceil(1000).max(1).into());
            headers.insert(HeaderName::from_static("retry-after-ms"), ms.into());
        }
        if !error.is_worth_a_retry() {
            headers.insert(
                HeaderName::from_static("x-should-retry"),
                HeaderValue::from_static("false"),
            );
        }
        if error.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const fn openai_type(kind: Kind) -> &'static str {
    match kind {
        // OpenAI calls an unknown key a mistake in the request, and names it in the code.
        Kind::Invalid | Kind::Authentication => "invalid_request_error",
        Kind::Permission => "permission_error",
        Kind::Quota => "insufficient_quota",
        Kind::RateLimit => "rate_limit_error",
        Kind::Server => "api_error",
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        status if status >= 500 => "api_error",
        _ => "invalid_request_error",
    }
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: OpenAiFields<'a>,
}

#[derive(Serialize)]
struct OpenAiFields<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    r#type: &'static str,
    error: AnthropicFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicFields<'a> {
    r#type: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Ollama<'a> {
    error: &'a str,
}

#[cfg(test)]
mod tests {
    use arknet_types::{Refusal, RefusalCode};

    use super::*;
    use crate::KeyError;

    #[test]
    fn a_path_tells_whose_api_it_is() {
        for (path, dialect) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messagesx", Dialect::OpenAi),
            ("/api/chat", Dialect::Ollama),
            ("/api", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }

    #[test]
    fn each_api_has_its_own_shape() {
        let error = ApiError::invalid(StatusCode::NOT_FOUND, "a \"quote\"");
        for (dialect, golden) in [
            (
                Dialect::OpenAi,
                r#"{"error":{"message":"a \"quote\"","type":"invalid_request_error","param":null,"code":null}}"#,
            ),
            (
                Dialect::Anthropic,
                r#"{"type":"error","error":{"type":"not_found_error","message":"a \"quote\""}}"#,
            ),
            (Dialect::Ollama, r#"{"error":"a \"quote\""}"#),
        ] {
            let mut out = Vec::new();
            dialect.write_error(&error, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), golden);
        }
    }

    #[test]
    fn patience_is_said_in_seconds_and_milliseconds() {
        for (ms, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (0, "1")] {
            let refusal = Refusal::new(RefusalCode::Busy, "").retry_after_ms(ms);
            let response = Dialect::Ollama.refuse(&ApiError::from_refusal(refusal));
            assert_eq!(response.headers()["retry-after"], seconds);
            assert_eq!(response.headers()["retry-after-ms"], ms.to_string().as_str());
        }
    }

    #[test]
    fn who_would_ask_again_in_vain_is_told_not_to() {
        let limit = |retry_after_ms| ApiError::from_key(&KeyError::Tokens { retry_after_ms });
        let refused = |code| ApiError::from_refusal(Refusal::new(code, ""));
        for (error, in_vain) in [
            (ApiError::from_key(&KeyError::Unknown), true),
            (ApiError::unknown_model("x"), true),
            (limit(60_000), false),
            (limit(60_001), true),
            (refused(RefusalCode::Busy), false),
            (refused(RefusalCode::ProviderFailed), false),
        ] {
            for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama] {
                let response = dialect.refuse(&error);
                let said = response.headers().get("x-should-retry");
                assert_eq!(said.is_some_and(|said| said == "false"), in_vain, "{error:?}");
            }
        }
    }

    #[test]
    fn a_node_that_goes_away_is_overloaded_to_anthropics_clients() {
        let error = ApiError::from_refusal(Refusal::new(RefusalCode::ShuttingDown, ""));
        assert_eq!(Dialect::Anthropic.refuse(&error).status().as_u16(), 529);
        assert_eq!(Dialect::OpenAi.refuse(&error).status().as_u16(), 503);
    }
}
