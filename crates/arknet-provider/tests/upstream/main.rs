//! Upstream providers against servers that are scripted: as the real ones are, and as nobody wants
//! them to be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conform;
mod dialects;
mod hostile;
mod life;
mod model;
mod server;
mod wire;

use std::time::Duration;

use arknet_provider::{
    Generation, Provider as _,
    upstream::{Secret, Upstream, UpstreamKind, UpstreamOptions},
};
use arknet_types::{Chat, InferRequest, Input, Message, ModelName, Refusal, Reply, Role};

/// Far longer than anything here takes; what is longer hangs.
const TIME_MAX: Duration = Duration::from_secs(30);

fn options(kind: UpstreamKind, url: &str) -> UpstreamOptions {
    let mut options = UpstreamOptions::new("test", kind, url);
    options.slots = 3;
    options.key = Some(Secret::new("sk-test".into()));
    options.health.backoff_min_s = 1;
    options
}

/// An upstream whose models are there.
async fn up(options: UpstreamOptions) -> Upstream {
    let upstream = Upstream::start(options).unwrap();
    let mut models = upstream.models();
    let listed = models.wait_for(|all| !all.is_empty());
    tokio::time::timeout(TIME_MAX, listed).await.unwrap().unwrap();
    upstream
}

fn name(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}

fn request(model: &str) -> InferRequest {
    let chat = Chat::new(vec![Message::new(Role::User, "hi")]);
    InferRequest { max_tokens: Some(16), ..InferRequest::new(name(model), Input::Chat(chat)) }
}

/// All replies but the last, and how it ended.
async fn collect(mut generation: Generation) -> (Vec<Reply>, Result<Reply, Refusal>) {
    let read = async {
        let mut all = vec![];
        while let Some(reply) = generation.next().await {
            all.push(reply);
        }
        all
    };
    let mut all = tokio::time::timeout(TIME_MAX, read).await.expect("an answer hangs");
    let last = match all.pop().expect("an answer has an end") {
        Reply::Refused(refusal) => Err(refusal),
        last => Ok(last),
    };
    (all, last)
}

fn text(replies: &[Reply]) -> String {
    let texts = replies.iter().filter_map(|reply| match reply {
        Reply::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}
