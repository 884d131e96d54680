//! One answer: asks, reads, and hands over what comes.

use std::{sync::Arc, time::Duration};

use arknet_types::{ModelName, Refusal, RefusalCode, Reply};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Response, body::Incoming};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Shared,
    answer::failed,
    errors::{self, Fault},
    health::Sign,
    http::{self, HttpError},
    limits::{BODY_BYTES_MAX, ERROR_BYTES_MAX, TAIL_BYTES_MAX, TAIL_TIME_MAX},
    read::{Reader, Stream},
    target::Call,
};

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        Self { refusal: failed(&error.to_string()), sign: Some(Sign::Failed) }
    }
}

/// Answers one request. Ends at once, connection and all, when nobody listens any more.
pub(super) async fn answer(
    shared: Arc<Shared>,
    model: ModelName,
    call: Call,
    replies: mpsc::Sender<Reply>,
) {
    let result = tokio::select! {
        biased;
        () = replies.closed() => return,
        result = talk(&shared, call, &replies) => result,
    };
    let Err(fault) = result else { return };
    if let Some(sign) = fault.sign {
        shared.note(sign);
    }
    let mut refusal = fault.refusal;
    if matches!(refusal.code, RefusalCode::InvalidRequest | RefusalCode::Unsupported) {
        // Which of several models it is that does not take pictures, for example.
        let words = format!("{}: {model}", refusal.detail);
        refusal =
            Refusal { retry_after_ms: refusal.retry_after_ms, ..Refusal::new(refusal.code, words) };
    }
    // Whoever went away meanwhile needs no refusal.
    let _ = replies.send(Reply::Refused(refusal)).await;
}

async fn talk(shared: &Shared, call: Call, replies: &mpsc::Sender<Reply>) -> Result<(), Fault> {
    let times = shared.options.timeouts;
    // Connecting has its own limit within; together they bound the wait for the first piece.
    let first = Duration::from_secs(times.connect_s + times.first_token_s);
    let deadline = Instant::now() + first;
    let Call { place, body, reader } = call;
    let asked = timeout_at(deadline, shared.http.ask(place, Bytes::from(body))).await;
    let response = asked.map_err(|_| silent())??;
    if !http::is_well(&response) {
        let retry_after_ms = http::retry_after_ms(&response);
        let status = response.status().as_u16();
        let time = Duration::from_secs(times.health_s);
        // What can be read of the reason in that time; without one the status speaks alone.
        let body = timeout(time, http::beginning(response.into_body(), ERROR_BYTES_MAX)).await;
        return Err(errors::refusal(place, status, retry_after_ms, &body.unwrap_or_default()));
    }
    match reader {
        Reader::Stream(stream) => {
            let idle = Duration::from_secs(times.idle_s);
            read_stream(response, *stream, deadline, idle, replies).await
        }
        Reader::Whole(whole) => {
            let body = timeout_at(deadline, http::whole(response.into_body(), BODY_BYTES_MAX));
            let body = body.await.map_err(|_| silent())??;
            let list = whole.read(&body)?;
            // Vectors may wait long for a slow reader; the text they came from need not.
            drop(body);
            hand_over(list, replies).await;
            Ok(())
        }
    }
}

async fn read_stream(
    response: Response<Incoming>,
    mut stream: Stream,
    mut deadline: Instant,
    idle: Duration,
    replies: &mpsc::Sender<Reply>,
) -> Result<(), Fault> {
    let mut body = response.into_body();
    let mut out = vec![];
    // Comments and pings do not move the deadline: a server that says only that it is alive is
    // given up like one that says nothing.
    while !stream.is_over() {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| silent())?;
        let result = match frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(bytes) => stream.feed(bytes, &mut out),
                None => Ok(()),
            },
            Some(Err(_)) => Err(HttpError::Broken.into()),
            None => stream.end(&mut out),
        };
        if !out.is_empty() {
            hand_over(out.drain(..), replies).await;
            deadline = Instant::now() + idle;
        }
        result?;
    }
    // What is left is the end of the body. Read, it leaves a connection for the next request.
    let tail = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > TAIL_BYTES_MAX {
                return;
            }
        }
    };
    let _ = timeout(TAIL_TIME_MAX, tail).await;
    Ok(())
}

async fn hand_over(list: impl IntoIterator<Item = Reply>, replies: &mpsc::Sender<Reply>) {
    for reply in list {
        if replies.send(reply).await.is_err() {
            return;
        }
    }
}

fn silent() -> Fault {
    let refusal = Refusal::new(RefusalCode::ProviderFailed, "the upstream was silent for too long");
    Fault { refusal, sign: Some(Sign::Failed) }
}
