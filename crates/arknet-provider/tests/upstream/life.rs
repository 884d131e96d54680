//! What an upstream's provider does over time: connections, health, slots, keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arknet_provider::{
    Provider as _,
    upstream::{Ability, MappedModel, Upstream, UpstreamKind},
};
use arknet_types::{Capabilities, RefusalCode, Reply};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::timeout};

use crate::{
    TIME_MAX, collect, dialects, name, options, request,
    server::{Answer, Seen, Server, read_request},
    text, up,
};

/// A server that lists a model and answers chats like this.
async fn answering(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    let normal = dialects::openai("someone");
    Server::start(
        move |seen| {
            if seen.path == "/v1/chat/completions" { answer(seen) } else { normal(seen) }
        },
    )
    .await
}

fn one_piece() -> Vec<String> {
    vec!["data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One\"}}]}\n\n".into()]
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(dialects::openai("someone")).await;
    let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
    for _ in 0..5 {
        let (replies, end) = collect(upstream.generate(request("fish")).unwrap()).await;
        assert!(end.is_ok());
        assert_eq!(text(&replies).trim_end().split(' ').count(), 16);
    }
    // Two, where an answer's last bytes were still on their way when the next was asked for.
    assert!(server.made.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_dropped_answer_closes_its_connection_at_once() {
    let hangs = |_: &Seen| Answer { hangs: true, ..Answer::pieces(one_piece()) };
    let server = answering(hangs).await;
    let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
    let mut generation = upstream.generate(request("fish")).unwrap();
    assert!(matches!(generation.next().await, Some(Reply::Text { .. })));
    let mut open = server.open.subscribe();
    let before = *open.borrow_and_update();
    drop(generation);
    assert_eq!(upstream.free_slots(), 3);
    let closed = timeout(TIME_MAX, open.wait_for(|open| *open < before)).await;
    assert!(closed.is_ok());
}

#[tokio::test]
async fn silence_ends_an_answer_and_empty_lines_are_silence() {
    for pieces in [vec![], one_piece()] {
        let script = pieces.clone();
        let server =
            answering(move |_| Answer { hangs: true, ..Answer::pieces(script.clone()) }).await;
        let mut options = options(UpstreamKind::OpenAi, &server.url);
        options.timeouts.connect_s = 1;
        options.timeouts.first_token_s = 1;
        options.timeouts.idle_s = 1;
        let upstream = up(options).await;
        let began = Instant::now();
        let (replies, end) = collect(upstream.generate(request("fish")).unwrap()).await;
        assert_eq!(replies.len(), pieces.len());
        let refusal = end.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        assert!(refusal.detail.contains("silent"));
        assert!((1..20).contains(&began.elapsed().as_secs()));
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_down_in_time() {
    // A listener that nobody accepts from: connections stand, and nothing comes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut options = options(UpstreamKind::Ollama, &url);
    options.timeouts.health_s = 1;
    let upstream = Upstream::start(options).unwrap();
    assert!(!upstream.is_up());
    let refusal = upstream.generate(request("fish")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownModel);
}

#[tokio::test]
async fn who_is_busy_is_not_ill() {
    for status in [429, 503, 529] {
        let server = answering(move |_| Answer {
            headers: vec![("retry-after", "2".into())],
            ..Answer::json(status, &json!({ "error": { "message": "sk-secret" } }))
        })
        .await;
        let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
        for _ in 0..5 {
            let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
            let refusal = end.unwrap_err();
            assert_eq!(refusal.code, RefusalCode::Busy);
            assert_eq!(refusal.retry_after_ms, Some(2000));
            assert!(!refusal.detail.contains("secret"));
        }
        assert!(upstream.is_up());
        assert_eq!(upstream.free_slots(), 3);
    }
}

#[tokio::test]
async fn a_key_that_is_not_accepted_takes_the_models_off_the_list() {
    let server = answering(|_| Answer::json(401, &json!({ "error": "bad key sk-test" }))).await;
    let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
    let mut models = upstream.models();
    let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
    let refusal = end.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(refusal.detail.contains("key") && !refusal.detail.contains("sk-"));
    timeout(TIME_MAX, models.wait_for(|all| all.is_empty())).await.unwrap().unwrap();
    let refusal = upstream.generate(request("fish")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms > 10_000));
    // Its list of models is open to all, so checks would go well. They wait, whoever doubts.
    let checks = || server.seen("/v1/models").len();
    let before = checks();
    let returns = timeout(Duration::from_secs(3), models.wait_for(|all| !all.is_empty()));
    assert!(returns.await.is_err());
    assert_eq!(checks(), before);
}

#[tokio::test]
async fn one_failed_request_takes_nothing_down() {
    let server = answering(|_| Answer::json(500, &json!({}))).await;
    let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
    for _ in 0..10 {
        let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
        assert_eq!(end.unwrap_err().code, RefusalCode::ProviderFailed);
    }
    assert!(upstream.is_up());
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back() {
    let server = Server::start(dialects::openai("someone")).await;
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let mut options = options(UpstreamKind::OpenAi, &server.url);
    options.health.failures = 2;
    options.health.interval_s = 1;
    let upstream = up(options).await;
    let mut models = upstream.models();
    drop(server);
    timeout(TIME_MAX, models.wait_for(|all| all.is_empty())).await.unwrap().unwrap();
    let _server = Server::start_at(address, dialects::openai("someone")).await;
    timeout(TIME_MAX, models.wait_for(|all| all.len() == 3)).await.unwrap().unwrap();
    let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
    assert!(end.is_ok());
}

#[tokio::test]
async fn a_key_goes_to_its_host_and_nowhere_else() {
    let other = Server::start(dialects::openai("someone")).await;
    let location = format!("{}/v1/chat/completions", other.url);
    let server = answering(move |_| Answer {
        headers: vec![("location", location.clone())],
        ..Answer::json(307, &json!({}))
    })
    .await;
    let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
    let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
    assert_eq!(end.unwrap_err().code, RefusalCode::ProviderFailed);
    assert!(other.seen.lock().unwrap().is_empty());
    let asked = server.seen("/v1/chat/completions");
    assert_eq!(asked[0].headers["authorization"], "Bearer sk-test");
}

/// Answers one request on each connection, and closes it when another comes.
async fn forgetful(first_answers: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let made = Arc::new(AtomicUsize::new(0));
    let counted = made.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let number = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let path = read_request(&mut stream).await;
                if number < first_answers {
                    let body = if path.as_deref() == Some("/v1/models") {
                        "{\"data\":[{\"id\":\"fish\"}]}"
                    } else {
                        "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
                    };
                    let length = body.len();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                    stream.write_all((head + body).as_bytes()).await.unwrap();
                    read_request(&mut stream).await;
                }
            });
        }
    });
    (url, made)
}

#[tokio::test]
async fn a_connection_closed_meanwhile_costs_nothing_and_a_broken_server_one_try() {
    let (url, made) = forgetful(usize::MAX).await;
    let upstream = up(options(UpstreamKind::OpenAi, &url)).await;
    for _ in 0..5 {
        let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
        assert!(end.is_ok(), "{end:?}");
    }
    assert!(made.load(Ordering::SeqCst) <= 6);

    let (url, made) = forgetful(1).await;
    let upstream = up(options(UpstreamKind::OpenAi, &url)).await;
    let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
    assert_eq!(end.unwrap_err().code, RefusalCode::ProviderFailed);
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

/// Answers the list of models, and one request on each connection; what comes second is read, and
/// then the connection is closed after so long.
async fn one_that_breaks_off(after: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counted = counted.clone();
            tokio::spawn(async move {
                while let Some(path) = read_request(&mut stream).await {
                    if path != "/v1/models" {
                        counted.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(after).await;
                        return;
                    }
                    let body = "{\"data\":[{\"id\":\"fish\"}]}";
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                    stream.write_all((head + body).as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, asked)
}

#[tokio::test]
async fn what_a_server_may_have_worked_on_is_not_sent_twice() {
    for (after_ms, times) in [(0, 2), (2_200, 1)] {
        let (url, asked) = one_that_breaks_off(Duration::from_millis(after_ms)).await;
        // The connection that its models came over is used again.
        let upstream = up(options(UpstreamKind::OpenAi, &url)).await;
        let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
        assert_eq!(end.unwrap_err().code, RefusalCode::ProviderFailed);
        assert_eq!(asked.load(Ordering::SeqCst), times, "cut off after {after_ms} ms");
    }
}

#[tokio::test]
async fn models_get_names_contexts_and_capabilities_of_ones_own() {
    let server = Server::start(dialects::openai("vllm")).await;
    let mut options = options(UpstreamKind::OpenAi, &server.url);
    let mapped = |own: &str, id: &str| MappedModel {
        name: name(own),
        upstream: Some(id.into()),
        context_tokens: Some(99),
        capabilities: Some(vec![Ability::Generate, Ability::Vision]),
    };
    options.models = vec![mapped("own/fish", "fish"), mapped("own/none", "not-there")];
    options.discover = Some(vec!["fish-e*".into()]);
    let upstream = up(options).await;
    let models = upstream.models().borrow().clone();
    let names: Vec<_> = models.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["own/fish", "fish-embed"]);
    assert_eq!(models[0].context_tokens, 99);
    let can = Capabilities::GENERATE.with(Capabilities::VISION);
    assert_eq!(models[0].capabilities, can);
    let (_, end) = collect(upstream.generate(request("own/fish")).unwrap()).await;
    assert!(end.is_ok());
    assert_eq!(server.seen("/v1/chat/completions")[0].body["model"], "fish");
}

#[tokio::test]
async fn new_models_are_found_while_it_runs() {
    let count = Arc::new(AtomicU16::new(1));
    let listed = count.clone();
    let server = Server::start(move |_| {
        let all: Vec<_> =
            (0..listed.load(Ordering::SeqCst)).map(|n| json!({ "id": format!("m{n}") })).collect();
        Answer::json(200, &json!({ "data": all }))
    })
    .await;
    let mut options = options(UpstreamKind::OpenAi, &server.url);
    options.health.interval_s = 1;
    let upstream = up(options).await;
    let mut models = upstream.models();
    assert_eq!(models.borrow().len(), 1);
    count.store(1000, Ordering::SeqCst);
    let many = models.wait_for(|all| all.len() > 1);
    assert_eq!(timeout(TIME_MAX, many).await.unwrap().unwrap().len(), 256);
}

#[tokio::test]
async fn a_slow_reader_stops_the_reading_and_nothing_is_lost() {
    let piece = one_piece().concat();
    let last = "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let many = 5_000;
    let script = [vec![piece; many], vec![last.to_owned()]].concat();
    let server = answering(move |_| Answer::pieces(script.clone())).await;
    let upstream = up(options(UpstreamKind::OpenAi, &server.url)).await;
    let generation = upstream.generate(request("fish")).unwrap();
    let (replies, end) = collect(generation).await;
    assert_eq!((replies.len(), end.is_ok()), (many, true));
}
