//! What is measured, and what leaves the machine.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Instant,
};

use crate::network::{Node, PATIENCE, ask, flags, question};

fn fetch(url: String) -> (String, String) {
    let mut response = ureq::get(url).call().unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, response.body_mut().read_to_string().unwrap())
}

#[test]
fn both_addresses_tell_the_same_and_nothing_a_user_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &flags("compute,gateway", None));
    let word = "xylophone";
    assert_eq!(ask(node.gateway(), question(word, false)).status, 200);
    for address in [node.gateway(), node.admin()] {
        let (kind, text) = fetch(format!("http://{address}/metrics"));
        assert!(kind.contains("openmetrics-text"), "{kind}");
        for part in [
            "arknet_http_requests_total{door=\"openai\"",
            "arknet_time_to_first_token_seconds_bucket{",
            "kind=\"completion\"",
            "arknet_engine_resident_bytes{model=\"arknet/tiny\"}",
            "# EOF",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        for name in ["kv_tokens_capacity", "kv_tokens_used"] {
            let line = format!("arknet_{name}{{model=\"arknet/tiny\"}} ");
            let value = text.lines().find_map(|text| text.strip_prefix(&line));
            let value: u64 = value.unwrap().parse().unwrap();
            assert!(value > 0, "the process of the model tells its {name}");
        }
        assert!(!text.contains(word));
    }
}

#[test]
fn traces_go_where_they_are_wanted_and_hold_no_words() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    let (sender, batches) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for stream in collector.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            // The head, then as much as it says.
            loop {
                let read = stream.read(&mut chunk).unwrap_or(0);
                request.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let Some((head, _)) = text.split_once("\r\n\r\n") else {
                    if read == 0 {
                        break;
                    }
                    continue;
                };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
                if read == 0 || request.len() >= head.len() + 4 + length {
                    break;
                }
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let config = format!("[telemetry]\notlp_url = \"http://{address}\"\n");
    std::fs::write(directory.path().join("arknet.toml"), config).unwrap();
    let node = Node::start(directory.path(), &flags("compute,gateway", None));
    // Part of a trace that the app began.
    let response = ureq::post(format!("http://{}/v1/chat/completions", node.gateway()))
        .header("traceparent", "00-4172636e65742d7472616365206f6e65-6172636e65747370-01")
        .header("tracestate", "app=marimba")
        .send(question("xylophone", false).to_string());
    assert_eq!(response.unwrap().status(), 200);
    // The rest is sent when the node stops.
    node.signal("-TERM");
    let batch = batches.recv_timeout(PATIENCE).unwrap();
    let text = String::from_utf8_lossy(&batch);
    assert!(text.starts_with("POST /v1/traces"), "{text}");
    assert!(text.contains("arknet/tiny") && text.contains("openai"), "{text}");
    assert!(text.contains("Arcnet-trace one") && text.contains("arcnetsp"), "{text}");
    assert!(!text.contains("xylophone") && !text.contains("marimba"));
}

/// How long processors may take to wake up at this moment, in microseconds, if that can be known.
fn wake_latency_us() -> Option<i32> {
    let mut told = [0; 4];
    std::fs::File::open("/dev/cpu_dma_latency").ok()?.read_exact(&mut told).unwrap();
    Some(i32::from_ne_bytes(told))
}

#[test]
fn processors_stay_awake_for_requests_where_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let config = "[gateway]\nwake_latency_us_max = 12345\n";
    std::fs::write(directory.path().join("arknet.toml"), config).unwrap();
    let node = Node::start(directory.path(), &flags("compute,gateway", None));
    let before = wake_latency_us();
    assert_eq!(ask(node.gateway(), question("hello", false)).status, 200);
    // Only some may tell the system, and some systems are not to be told: the answer comes anyway.
    if let Some(before) = before {
        assert!(before > 12_345, "nobody asks yet: {before}");
        assert!(wake_latency_us().unwrap() <= 12_345);
        let deadline = Instant::now() + PATIENCE;
        while wake_latency_us() != Some(before) {
            assert!(Instant::now() < deadline, "processors may sleep again");
            std::thread::yield_now();
        }
    }
}
