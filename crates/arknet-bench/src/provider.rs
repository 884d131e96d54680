//! Providers that cost nothing, so that what is measured is the way to them.

use std::{sync::Arc, time::Duration};

use arknet_provider::{Generation, ModelDetails, ModelInfo, Models, Provider};
use arknet_types::{
    Capabilities, FinishReason, InferRequest, ModelDigest, ModelName, Refusal, Reply, Usage,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// The model that answers at once.
pub(crate) const INSTANT: &str = "bench/instant";
/// The model that gives a token each [`PACE`].
pub(crate) const PACED: &str = "bench/paced";
/// Time between two tokens of [`PACED`].
pub(crate) const PACE: Duration = Duration::from_millis(20);

const SLOTS: u16 = 1024;

pub(crate) struct BenchProvider {
    models: Models,
}

impl BenchProvider {
    pub(crate) fn new() -> Self {
        let info = |name: &str, digest| ModelInfo {
            name: ModelName::new(name).expect("the names are valid"),
            digest: Some(ModelDigest([digest; 32])),
            projector: None,
            capabilities: Capabilities::GENERATE,
            context_tokens: 8192,
            slots: SLOTS,
            details: ModelDetails::default(),
        };
        let models: Arc<[ModelInfo]> = Arc::new([info(INSTANT, 1), info(PACED, 2)]);
        Self { models: watch::channel(models).1 }
    }
}

impl Provider for BenchProvider {
    fn models(&self) -> Models {
        self.models.clone()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        let tokens = request.max_tokens.unwrap_or(1);
        let usage = Usage { prompt_tokens: 1, completion_tokens: tokens, ..Usage::default() };
        let done = Reply::Done { finish: FinishReason::Length, usage };
        if request.model.as_str() == INSTANT {
            let (sender, replies) = mpsc::channel(tokens as usize + 1);
            for _ in 0..tokens {
                let _ = sender.try_send(Reply::Text { text: "word ".into(), tokens: 1 });
            }
            let _ = sender.try_send(done);
            return Ok(Generation::from_channel(replies));
        }
        let (sender, replies) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut next = Instant::now();
            for number in 0..tokens {
                sleep_until(next).await;
                next += PACE;
                // Numbered, so that a lost or repeated frame is seen.
                let text = format!("{number} ");
                if sender.send(Reply::Text { text, tokens: 1 }).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(done).await;
        });
        Ok(Generation::from_channel(replies))
    }
}
