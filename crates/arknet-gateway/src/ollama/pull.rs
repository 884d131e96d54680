use std::convert::Infallible;

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use serde::Serialize;

use super::error::in_words;
use crate::{ApiError, Pull, desk::json, dialect::Dialect, gather::broken_off};

/// Digits of a digest that its line names.
const SHORT: usize = 12;

#[derive(Serialize)]
struct Status<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
}

/// One step of a transfer as a line.
pub(super) fn line(step: &Pull, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    fn plain(status: &str) -> Status<'_> {
        Status { status, digest: None, total: None, completed: None }
    }
    let mut write = |status: &Status<'_>| {
        serde_json::to_writer(&mut out, status).expect("strings and numbers are always JSON");
    };
    match step {
        Pull::Looking => write(&plain("pulling manifest")),
        Pull::Dropped { peer, words } => write(&plain(&format!("dropped {peer}: {words}"))),
        Pull::Verifying => write(&plain("verifying sha256 digest")),
        Pull::Ready => write(&plain("success")),
        Pull::Progress { digest, done_bytes, total_bytes } => {
            let digest = digest.map(|digest| digest.to_string());
            let short = digest.as_deref().map_or(name, |digest| {
                let digits = digest.trim_start_matches("sha256:");
                digits.get(..SHORT).unwrap_or(digits)
            });
            write(&Status {
                status: &format!("pulling {short}"),
                // Clients tell the transfers of one pull apart by it.
                digest: Some(digest.as_deref().unwrap_or(name)),
                total: *total_bytes,
                completed: Some(*done_bytes),
            });
        }
        Pull::Failed(refusal) => {
            let error = in_words(ApiError::from_refusal(refusal.clone()), name);
            Dialect::Ollama.write_error(&error, &mut out);
        }
    }
    out.push(b'\n');
    out
}

/// A transfer as it goes on. Dropping the response stops it.
pub(super) fn stream(steps: BoxStream<'static, Pull>, name: String) -> Response {
    let last = stream::once(async { Pull::Failed(broken_off()) });
    let lines = steps.chain(last).scan(false, move |ended, step| {
        let line = (!*ended).then(|| Ok::<_, Infallible>(Bytes::from(line(&step, &name))));
        *ended |= matches!(step, Pull::Ready | Pull::Failed(_));
        std::future::ready(line)
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A transfer to its end.
pub(super) async fn whole(
    mut steps: BoxStream<'static, Pull>,
    name: &str,
) -> Result<Response, ApiError> {
    while let Some(step) = steps.next().await {
        match step {
            Pull::Ready => return Ok(json(br#"{"status":"success"}"#.to_vec())),
            Pull::Failed(refusal) => return Err(in_words(ApiError::from_refusal(refusal), name)),
            Pull::Looking | Pull::Progress { .. } | Pull::Dropped { .. } | Pull::Verifying => {}
        }
    }
    Err(ApiError::from_refusal(broken_off()))
}
