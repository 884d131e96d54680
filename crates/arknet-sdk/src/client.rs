use std::time::Duration;

use arknet_types::{
    Capabilities, Chat, FinishReason, InferRequest as WireRequest, Input, Message, ModelName,
    NameError, PublicKey, Refusal, RefusalCode, Reply, Role, Sampling, Usage,
};

use crate::{Answer, Client, clock};

/// How long a request waits for a first offer of its model, for a client that has just connected.
const DISCOVERY_WAIT: Duration = Duration::from_secs(5);

/// What to ask of a model.
#[derive(Clone, Debug)]
pub struct InferRequest {
    /// Which model: a name such as `Qwen/Qwen3-0.6B-Q8_0`, or `sha256:` and its digest.
    pub model: String,
    /// What was said before, oldest first. May be empty.
    pub messages: Vec<Message>,
    /// What to ask: the last message of the user.
    pub prompt: String,
    /// Continue the prompt as it stands, without the model's chat template.
    pub raw: bool,
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How the next token is drawn.
    pub sampling: Sampling,
}

impl Default for InferRequest {
    fn default() -> Self {
        Self {
            model: String::new(),
            messages: Vec::new(),
            prompt: String::new(),
            raw: false,
            max_tokens: 256,
            stop: Vec::new(),
            sampling: Sampling::default(),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The answer.
    pub text: String,
    /// What the model thought before, where it does that apart from its answer.
    pub reasoning: String,
    /// Who answered.
    pub peer: PublicKey,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took.
    pub usage: Usage,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// Not a model's name.
    #[error(transparent)]
    Model(#[from] NameError),
    /// Refused, or broken off.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Client {
    /// Asks and waits for the whole answer.
    pub async fn infer(&self, request: InferRequest) -> Result<Response, InferError> {
        let mut stream = self.infer_stream(request).await?;
        let mut text = String::new();
        while let Some(piece) = stream.next().await {
            text.push_str(&piece?);
        }
        let (finish_reason, usage) = stream.end.expect("a stream without error has an end");
        let (peer, reasoning) = (stream.peer(), stream.reasoning);
        Ok(Response { text, reasoning, peer, finish_reason, usage })
    }

    /// Asks and returns as soon as the answer begins.
    pub async fn infer_stream(&self, request: InferRequest) -> Result<InferStream, InferError> {
        let request = request.into_wire()?;
        self.wait_for_model(&request.model, DISCOVERY_WAIT).await;
        let answer = self.request(request).await?;
        Ok(InferStream { answer, end: None, failed: false, reasoning: String::new() })
    }

    /// The models offered now, with the peers that offer them.
    #[must_use]
    pub fn models(&self) -> Vec<(ModelName, Vec<PublicKey>)> {
        let mut models = std::collections::BTreeMap::<ModelName, Vec<PublicKey>>::new();
        self.mesh().offers().with(|offers| {
            let living = offers.living(clock::now());
            for offer in living.filter(|offer| self.may_ask(&offer.body.peer)) {
                for model in &offer.body.models {
                    models.entry(model.name.clone()).or_default().push(offer.body.peer);
                }
            }
        });
        models.into_iter().collect()
    }

    /// Waits until somebody offers `model`. Returns whether somebody does.
    pub async fn wait_for_model(&self, model: &ModelName, patience: Duration) -> bool {
        let is_served = || {
            self.mesh().offers().with(|offers| {
                let mut serving = offers.serving(model, Capabilities::NONE, clock::now());
                serving.any(|(offer, _)| self.may_ask(&offer.body.peer))
            })
        };
        let mut changes = self.mesh().offers().changed();
        let wait = async {
            while !is_served() {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(patience, wait).await.unwrap_or(false)
    }
}

impl InferRequest {
    fn into_wire(self) -> Result<WireRequest, InferError> {
        let input = if self.raw {
            Input::Text(self.prompt)
        } else {
            let mut messages = self.messages;
            if !self.prompt.is_empty() {
                messages.push(Message::new(Role::User, self.prompt));
            }
            Input::Chat(Chat::new(messages))
        };
        Ok(WireRequest {
            max_tokens: Some(self.max_tokens),
            stop: self.stop,
            sampling: self.sampling,
            ..WireRequest::new(ModelName::new(self.model)?, input)
        })
    }
}

/// An answer as it is made. Dropping it stops the work at the peer.
pub struct InferStream {
    answer: Answer,
    end: Option<(FinishReason, Usage)>,
    failed: bool,
    reasoning: String,
}

impl InferStream {
    /// The next piece of text; nothing after the end.
    ///
    /// Not cancel safe: finish the future, or drop the stream with it.
    pub async fn next(&mut self) -> Option<Result<String, InferError>> {
        if self.end.is_some() || self.failed {
            return None;
        }
        loop {
            match self.answer.next().await {
                Some(Reply::Text { text, .. }) => return Some(Ok(text)),
                Some(Reply::Reasoning { text, .. }) => self.reasoning.push_str(&text),
                Some(Reply::Done { finish, usage }) => {
                    self.end = Some((finish, usage));
                    return None;
                }
                Some(Reply::Refused(refusal)) => {
                    self.failed = true;
                    return Some(Err(refusal.into()));
                }
                Some(_) => {}
                None => {
                    self.failed = true;
                    let words = "the answer ended without its end";
                    return Some(Err(Refusal::new(RefusalCode::PeerLost, words).into()));
                }
            }
        }
    }

    /// What the model has thought so far, apart from its answer.
    #[must_use]
    pub fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// Who answers.
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.answer.peer()
    }

    /// What the answer took, once it has ended.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.end.map(|(_, usage)| usage)
    }

    /// Why the answer ended, once it has.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.end.map(|(finish, _)| finish)
    }
}
