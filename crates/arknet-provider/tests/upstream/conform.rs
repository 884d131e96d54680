//! Every kind of upstream holds to the suite that all providers hold to.

use arknet_provider::{
    Provider as _,
    upstream::{UpstreamKind, conformance::conformance},
};

use crate::{dialects, options, server::Server, up};

async fn holds(kind: UpstreamKind, server: Server, cases: &[(&str, usize)]) {
    let upstream = up(options(kind, &server.url)).await;
    let models = upstream.models().borrow().clone();
    assert_eq!(models.len(), cases.len());
    for (model, (name, count)) in models.iter().zip(cases) {
        assert_eq!(model.name.as_str(), *name);
        let outcomes = conformance(&upstream, &model.name).await;
        for outcome in &outcomes {
            assert_eq!(outcome.result, Ok(()), "{kind:?} {name}: {}", outcome.case);
        }
        assert_eq!(outcomes.len(), *count, "{kind:?} {name}");
    }
    assert_eq!(upstream.free_slots(), 3);
}

#[tokio::test]
async fn a_server_that_speaks_like_openai() {
    let server = Server::start(dialects::openai("someone")).await;
    let cases = [("fish", 17), ("fish-embed", 2), ("fish-rerank", 2)];
    holds(UpstreamKind::OpenAi, server, &cases).await;
}

#[tokio::test]
async fn a_vllm() {
    let server = Server::start(dialects::openai("vllm")).await;
    let cases = [("fish", 18), ("fish-embed", 3), ("fish-rerank", 3)];
    holds(UpstreamKind::OpenAi, server, &cases).await;
}

#[tokio::test]
async fn an_anthropic() {
    let server = Server::start(dialects::anthropic).await;
    holds(UpstreamKind::Anthropic, server, &[("fish", 17)]).await;
}

#[tokio::test]
async fn an_ollama() {
    let server = Server::start(dialects::ollama).await;
    holds(UpstreamKind::Ollama, server, &[("fish:latest", 17), ("fish-embed", 2)]).await;
}
