//! What the log says of one request.

use std::time::{Duration, Instant};

use arknet_protocol::audit::Event;
use arknet_types::{Input, PublicKey, Refusal, Request, Usage};
use tokio::sync::oneshot;

use super::{AuditLog, Opening, unwritable};

/// Bytes of a job's name.
const JOB_BYTES: usize = 16;

/// Follows one request of another peer from its arrival to its end. However it ends, the log says
/// so: what was opened and goes out of scope is closed.
pub(crate) struct Trail {
    log: Option<AuditLog>,
    peer: PublicKey,
    node_id: Option<String>,
    asked: Option<Asked>,
    opened: Option<Opened>,
    outcome: &'static str,
    used: Usage,
    first_token: Option<Duration>,
}

/// What the request says of itself.
struct Asked {
    job: String,
    model: String,
    asks: &'static str,
    at: Instant,
}

struct Opened {
    asked: Asked,
    durable: Option<oneshot::Receiver<bool>>,
}

impl Trail {
    /// A request of `peer` that has not arrived yet.
    pub(crate) fn new(log: Option<AuditLog>, peer: PublicKey, node_id: Option<String>) -> Self {
        Self {
            log,
            peer,
            node_id,
            asked: None,
            opened: None,
            // Unless something else is said, the requester has gone.
            outcome: "left",
            used: Usage::default(),
            first_token: None,
        }
    }

    /// This has arrived.
    pub(crate) fn arrived(&mut self, request: &Request) {
        self.asked = Some(Asked {
            job: job(request),
            model: request.infer.model.to_string(),
            asks: asks(&request.infer.input),
            at: Instant::now(),
        });
    }

    /// Writes the line that opens it. To be called before the work begins.
    pub(crate) async fn open(&mut self) -> Result<(), Refusal> {
        let (Some(log), Some(asked)) = (&self.log, self.asked.take()) else { return Ok(()) };
        let event = Event::Open {
            job: asked.job.clone(),
            peer: self.peer.to_string(),
            node_id: self.node_id.clone(),
            model: asked.model.clone(),
            asks: asked.asks.into(),
        };
        match log.opening(event).await {
            Opening::Written { durable } => {
                self.opened = Some(Opened { asked, durable: Some(durable) });
                Ok(())
            }
            Opening::Late => {
                self.opened = Some(Opened { asked, durable: None });
                Err(unwritable())
            }
            Opening::None => {
                self.asked = Some(asked);
                Err(unwritable())
            }
        }
    }

    /// Returns when that line is on the disk. To be called before anything of the answer leaves.
    pub(crate) async fn durable(&mut self) -> Result<(), Refusal> {
        let Some(durable) = self.opened.as_mut().and_then(|opened| opened.durable.take()) else {
            return Ok(());
        };
        if !self.log.as_ref().is_some_and(|log| log.waits_for_disk) {
            return Ok(());
        }
        match durable.await {
            Ok(true) => Ok(()),
            _ => Err(unwritable()),
        }
    }

    /// How it went, as far as that is known. What the question took is known of a complete answer
    /// alone.
    pub(crate) fn went(
        &mut self,
        outcome: &'static str,
        used: Usage,
        first_token: Option<Duration>,
    ) {
        let is_complete = outcome == "done";
        self.used =
            Usage { prompt_tokens: if is_complete { used.prompt_tokens } else { 0 }, ..used };
        self.first_token = first_token;
        if is_complete {
            self.outcome = outcome;
        }
    }

    /// It was refused, before or after the work began.
    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.outcome = refusal.code.as_str();
        if self.opened.is_some() {
            return;
        }
        if let Some(log) = &self.log {
            let model = self.asked.take().map(|asked| asked.model);
            log.refused(self.peer, self.node_id.clone(), model, refusal.code);
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let (Some(log), Some(Opened { asked, .. })) = (&self.log, self.opened.take()) else {
            return;
        };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        log.closing(Event::Close {
            job: asked.job,
            peer: self.peer.to_string(),
            node_id: self.node_id.take(),
            model: asked.model,
            outcome: self.outcome.into(),
            tokens_generated: self.used.completion_tokens,
            tokens_read: self.used.prompt_tokens,
            latency_ms: ms(asked.at.elapsed()),
            first_token_ms: self.first_token.map(ms),
            receipt: None,
        });
    }
}

/// The name of a request: both who sent it and who got it can compute it, and nobody can try out
/// with it what was asked. The session's signature is not in the log, and without the session's key
/// none can be made for a guess.
fn job(request: &Request) -> String {
    hex::encode(&blake3::hash(&request.signature.0).as_bytes()[..JOB_BYTES])
}

const fn asks(input: &Input) -> &'static str {
    match input {
        Input::Chat(_) => "chat",
        Input::Text(_) => "text",
        Input::Embed(_) => "embed",
        Input::Rerank { .. } => "rerank",
        Input::Tokenize { .. } => "tokenize",
        Input::Detokenize(_) => "detokenize",
        Input::Count(_) => "count",
        Input::File { .. } => "file",
    }
}
