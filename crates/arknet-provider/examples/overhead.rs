//! What going through an upstream's provider costs: the same request to the same instant server, by
//! a bare socket and by the provider, in turns.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use arknet_provider::{
    Provider as _,
    upstream::{Upstream, UpstreamKind, UpstreamOptions},
};
use arknet_types::{Chat, InferRequest, Input, Message, Reply, Role};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const ROUNDS: usize = 10_000;
const WARM_UP: usize = 1_000;
const TURN: usize = 100;

const MODELS: &str = "{\"data\":[{\"id\":\"instant\"}]}";
const ANSWER: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"}}]}\n\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n\
    data: [DONE]\n\n";

fn response(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers at once, on a thread for each connection.
fn serve(listener: &TcpListener) {
    let (models, answer) = (response(MODELS), response(ANSWER));
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let (models, answer) = (models.clone(), answer.clone());
        std::thread::spawn(move || {
            let mut request = vec![];
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
                let is_get = request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n");
                // The body's last brace comes last.
                if is_get || request.ends_with(b"}") {
                    let answer = if is_get { &models } else { &answer };
                    stream.write_all(answer.as_bytes()).unwrap();
                    request.clear();
                }
            }
        });
    }
}

async fn bare(stream: &mut TcpStream, request: &[u8], length: usize) -> Duration {
    let began = Instant::now();
    stream.write_all(request).await.unwrap();
    let mut buffer = [0; 4096];
    let mut count = 0;
    while count < length {
        count += stream.read(&mut buffer).await.unwrap();
    }
    began.elapsed()
}

async fn provided(upstream: &Upstream, request: &InferRequest) -> (Duration, Duration) {
    let began = Instant::now();
    let mut generation = upstream.generate(request.clone()).unwrap();
    let mut first = None;
    while let Some(reply) = generation.next().await {
        first.get_or_insert_with(|| began.elapsed());
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    }
    (first.unwrap(), began.elapsed())
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (times.len() as f64 * part) as usize;
        times[index.min(times.len() - 1)].as_nanos() / 1000
    };
    println!("{what:<24} p50 {:>4} us  p99 {:>4} us", at(0.5), at(0.99));
}

async fn measure(url: &str) {
    let mut options = UpstreamOptions::new("instant", UpstreamKind::OpenAi, url);
    options.health.interval_s = 3600;
    let upstream = Upstream::start(options).unwrap();
    upstream.models().wait_for(|all| !all.is_empty()).await.unwrap();
    let chat = Chat::new(vec![Message::new(Role::User, "Hello, how are you today?")]);
    let request = InferRequest::new("instant".parse().unwrap(), Input::Chat(chat));
    let body = r#"{"model":"instant","messages":[{"role":"user","content":"Hello, how are you today?"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let wire = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        url.trim_start_matches("http://"),
        body.len()
    );
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let length = response(ANSWER).len();
    let (mut direct, mut first, mut whole) = (vec![], vec![], vec![]);
    // In turns of a hundred, so that a noisy moment of the machine meets both.
    for round in 0..(ROUNDS + WARM_UP) / TURN {
        for _ in 0..TURN {
            let one = bare(&mut stream, wire.as_bytes(), length).await;
            if round >= WARM_UP / TURN {
                direct.push(one);
            }
        }
        for _ in 0..TURN {
            let (to_first, to_last) = provided(&upstream, &request).await;
            if round >= WARM_UP / TURN {
                first.push(to_first);
                whole.push(to_last);
            }
        }
    }
    tell("bare socket", &mut direct);
    tell("provider, first token", &mut first);
    tell("provider, whole answer", &mut whole);
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || serve(&listener));
    println!("on one thread");
    let mut one = tokio::runtime::Builder::new_current_thread();
    one.enable_all().build().unwrap().block_on(measure(&url));
    println!("on two threads, asked from a task");
    let mut two = tokio::runtime::Builder::new_multi_thread();
    let runtime = two.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(async move { measure(&url).await }).await.unwrap() });
}
