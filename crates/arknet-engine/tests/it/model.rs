//! The model and shorthands for requests.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use arknet_engine::{LlamaOptions, LlamaProvider, embedded_model, gguf::GgufInfo};
use arknet_provider::{Generation, Provider};
use arknet_types::{
    Chat, FinishReason, InferRequest, Input, LogitBias, Message, ModelName, Refusal, Reply, Role,
    Sampling, TokenLogprob, Usage,
};

pub(crate) const QUESTION: &str = "What is arknet?";

/// The file, written once for all tests.
pub(crate) fn file() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        std::fs::write(&path, embedded_model().bytes).unwrap();
        (folder, path)
    });
    path
}

pub(crate) fn name() -> ModelName {
    ModelName::new(embedded_model().name).unwrap()
}

pub(crate) fn options() -> LlamaOptions {
    LlamaOptions {
        threads: Some(1),
        slots: Some(2),
        context_tokens: Some(256),
        ..LlamaOptions::new(name(), embedded_model().sha256, file())
    }
}

pub(crate) fn open() -> LlamaProvider {
    LlamaProvider::open(options()).unwrap()
}

/// Takes the likeliest token each time.
pub(crate) fn greedy(input: Input) -> InferRequest {
    InferRequest {
        max_tokens: Some(48),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        ..InferRequest::new(name(), input)
    }
}

pub(crate) fn chat(content: &str) -> InferRequest {
    talk(&[(Role::User, content)])
}

/// A conversation.
pub(crate) fn talk(messages: &[(Role, &str)]) -> InferRequest {
    let messages = messages.iter().map(|(role, content)| Message::new(*role, *content));
    greedy(Input::Chat(Chat::new(messages.collect())))
}

/// A request that does not end by itself before the context does: the end is forbidden.
pub(crate) fn endless() -> InferRequest {
    let mut request = greedy(Input::Text("a".into()));
    request.max_tokens = None;
    // The control tokens are the last three.
    let controls = vocabulary() - 3..vocabulary();
    let never = |token| LogitBias { token, bias: -100.0 };
    request.sampling.logit_bias = controls.map(never).collect();
    request
}

/// Tokens of the model.
pub(crate) fn vocabulary() -> u32 {
    let bytes = embedded_model().bytes;
    let info = GgufInfo::parse(bytes, bytes.len() as u64).unwrap();
    u32::try_from(info.vocabulary_tokens).unwrap()
}

/// An answer, complete.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub text: String,
    pub finish: FinishReason,
    pub usage: Usage,
    pub logprobs: Vec<TokenLogprob>,
    /// Whatever else came.
    pub others: Vec<Reply>,
}

impl Answer {
    /// What does not depend on what was remembered.
    pub(crate) fn content(&self) -> (&str, FinishReason, u32) {
        (&self.text, self.finish, self.usage.completion_tokens)
    }
}

/// Reads an answer to its end, and checks what holds for every answer.
pub(crate) async fn read(mut generation: Generation) -> Result<Answer, Refusal> {
    let mut answer = Answer {
        text: String::new(),
        finish: FinishReason::Stop,
        usage: Usage::default(),
        logprobs: Vec::new(),
        others: Vec::new(),
    };
    let mut told = 0;
    loop {
        match generation.next().await.expect("an end comes first") {
            Reply::Text { text, tokens } => {
                answer.text.push_str(&text);
                told += tokens;
            }
            Reply::Alive => panic!("providers do not say this"),
            Reply::Logprobs(more) => answer.logprobs.extend(more),
            Reply::Done { finish, usage } => {
                (answer.finish, answer.usage) = (finish, usage);
                if usage.completion_tokens > 0 && answer.others.is_empty() {
                    assert_eq!(told, usage.completion_tokens);
                }
                assert!(usage.cached_tokens <= usage.prompt_tokens);
                assert_eq!(generation.next().await, None);
                return Ok(answer);
            }
            Reply::Refused(refusal) => return Err(refusal),
            other => answer.others.push(other),
        }
    }
}

pub(crate) async fn ask(
    provider: &LlamaProvider,
    request: InferRequest,
) -> Result<Answer, Refusal> {
    read(provider.generate(request)?).await
}
