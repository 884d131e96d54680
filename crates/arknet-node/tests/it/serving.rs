use arknet_mesh::MeshOptions;
use arknet_sdk::{Client, ConnectOptions, InferRequest, RefusalCode, keyfile};
use arknet_types::{Capabilities, Input, Reply, Timestamp};

use crate::fixture::{
    ENDLESS, FLOOD, FLOOD_WORDS, MODEL, PATIENCE, Stranger, TestNode, info, network, read, session,
};

async fn client(node: &TestNode) -> Client {
    let options = ConnectOptions {
        session: Some(session(1_000)),
        seeds: Some(vec![node.address.clone()]),
        ..ConnectOptions::default()
    };
    Client::connect(options).await.unwrap()
}

fn ask(model: &str) -> InferRequest {
    InferRequest { model: model.into(), prompt: "hi".into(), max_tokens: 1, ..Default::default() }
}

#[tokio::test]
async fn many_calls_run_at_once_over_one_client() {
    let node = TestNode::start(|_| {}).await;
    let client = client(&node).await;
    // As many as there are slots for one peer, running and waiting.
    let calls = (0..64 + 128).map(|_| client.infer(ask(MODEL)));
    for response in futures::future::join_all(calls).await {
        let response = response.unwrap();
        assert_eq!((response.text.as_str(), response.peer), ("word ", node.peer));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_dropped_request_stops_the_generation_and_frees_the_slot() {
    let node = TestNode::start(|_| {}).await;
    let client = client(&node).await;
    let mut running = node.running.clone();
    for _ in 0..3 {
        let mut stream = client.infer_stream(ask(ENDLESS)).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        tokio::time::timeout(PATIENCE, running.wait_for(|running| *running == 1))
            .await
            .unwrap()
            .unwrap();
        drop(stream);
        tokio::time::timeout(PATIENCE, running.wait_for(|running| *running == 0))
            .await
            .unwrap()
            .unwrap();
    }
    node.stop().await;
}

#[tokio::test]
async fn who_waits_in_the_queue_hears_that_the_work_goes_on() {
    let node = TestNode::start(|_| {}).await;
    let mut stranger = Stranger::new(&node);
    let first = stranger.request(ENDLESS);
    let mut running = stranger.open().await;
    running.write_frame(&first).await.unwrap();
    assert!(matches!(read(&mut running).await, Reply::Text { .. }));
    let second = stranger.request(ENDLESS);
    let mut waiting = stranger.open().await;
    waiting.write_frame(&second).await.unwrap();
    assert_eq!(read(&mut waiting).await, Reply::Alive);
    assert_eq!(read(&mut waiting).await, Reply::Alive);
    drop(running);
    loop {
        match read(&mut waiting).await {
            Reply::Alive => {}
            Reply::Text { .. } => break,
            reply => panic!("{reply:?}"),
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_slow_reader_loses_its_answer_and_its_slot() {
    let node = TestNode::start(|config| config.compute.slow_reader_ms = 1_000).await;
    let mut stranger = Stranger::new(&node);
    let request = stranger.request(ENDLESS);
    let mut stream = stranger.open().await;
    stream.write_frame(&request).await.unwrap();
    let mut running = node.running.clone();
    tokio::time::timeout(PATIENCE, running.wait_for(|running| *running == 1))
        .await
        .unwrap()
        .unwrap();
    // Nothing is read: the buffers on the way fill, and then the clock runs.
    tokio::time::timeout(PATIENCE, running.wait_for(|running| *running == 0))
        .await
        .unwrap()
        .unwrap();
    node.stop().await;
}

#[tokio::test]
async fn an_unknown_model_is_said_by_the_client_itself() {
    let node = TestNode::start(|_| {}).await;
    let client = client(&node).await;
    client.wait_for_model(&MODEL.parse().unwrap(), PATIENCE).await;
    let error = client.request(arknet_types::InferRequest {
        model: "no/such".parse().unwrap(),
        ..crate::fixture::infer(MODEL)
    });
    assert_eq!(error.await.err().unwrap().code, RefusalCode::UnknownModel);
    node.stop().await;
}

#[tokio::test]
async fn a_client_does_not_ask_for_more_than_its_session_may_spend() {
    let node = TestNode::start(|config| config.compute.output_price_atoms = 400_000_000).await;
    let client = client(&node).await;
    for _ in 0..2 {
        client.infer(ask(MODEL)).await.unwrap();
    }
    let error = client.infer(ask(MODEL)).await.unwrap_err().to_string();
    assert!(error.starts_with("cap_exceeded"), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn who_may_spend_nothing_waits_for_a_free_peer_that_is_busy() {
    let priced = TestNode::start(|config| config.compute.output_price_atoms = 400_000_000).await;
    let free = TestNode::start(|_| {}).await;
    let first = client(&free).await;
    let mut running = first.infer_stream(ask(ENDLESS)).await.unwrap();
    assert!(running.next().await.unwrap().is_ok());

    let options = ConnectOptions {
        session: Some(session(0)),
        seeds: Some(vec![priced.address.clone(), free.address.clone()]),
        ..ConnectOptions::default()
    };
    let poor = Client::connect(options).await.unwrap();
    let knows_both = || {
        poor.mesh().offers().with(|offers| {
            let now = arknet_sdk::now();
            let model = ENDLESS.parse().unwrap();
            let mut slots: Vec<u16> = offers
                .serving(&model, Capabilities::NONE, now)
                .map(|(_, offered)| offered.slots_free)
                .collect();
            slots.sort_unstable();
            slots == [0, 1]
        })
    };
    let mut changes = poor.mesh().offers().changed();
    while !knows_both() {
        tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    }
    let waiting = poor.infer_stream(ask(ENDLESS));
    let (waiting, ()) = tokio::join!(waiting, async { drop(running) });
    assert_eq!(waiting.unwrap().peer(), free.peer);
    priced.stop().await;
    free.stop().await;
}

#[tokio::test]
async fn a_goodbye_reaches_who_is_connected() {
    let node = TestNode::start(|_| {}).await;
    let mut options = MeshOptions::new(keyfile::generate().unwrap(), network());
    options.seeds = vec![node.address.parse().unwrap()];
    let (mesh, _) = arknet_mesh::start(options).unwrap();
    let mut changes = mesh.offers().changed();
    let serves = || {
        let now = arknet_sdk::now();
        mesh.offers()
            .with(|o| o.serving(&MODEL.parse().unwrap(), Capabilities::NONE, now).next().is_some())
    };
    while !serves() {
        tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    }
    let sequence = |mesh: &arknet_mesh::Mesh| {
        mesh.offers().with(|o| o.get(&node.peer).map_or(0, |offer| offer.body.sequence))
    };
    let before = sequence(&mesh);
    let peer = node.peer;
    node.stop().await;
    while mesh.offers().with(|o| o.get(&peer).is_some_and(|offer| !offer.body.models.is_empty())) {
        tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    }
    let offer = mesh.offers().with(|o| o.get(&peer).cloned()).unwrap();
    assert!(offer.body.sequence > before && offer.body.issued_at > Timestamp(0));
}

#[tokio::test]
async fn the_node_api_answers_this_machine_only() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let node = TestNode::start(|_| {}).await;
    for (head, status) in [
        ("host: localhost", "200"),
        ("host: evil.example", "403"),
        ("host: localhost\r\norigin: http://evil.example", "403"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(node.admin).await.unwrap();
        let request = format!("GET /status HTTP/1.1\r\n{head}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_a_provider_gains_and_loses_is_offered_and_withdrawn() {
    let node = TestNode::start(|_| {}).await;
    let client = client(&node).await;
    client.wait_for_model(&MODEL.parse().unwrap(), PATIENCE).await;
    let late = "test/late".parse().unwrap();
    node.models.send_replace(std::sync::Arc::from([info("test/late", 3)]));
    assert!(client.wait_for_model(&late, PATIENCE).await, "offered without a restart");
    let answer = client.infer(ask("test/late")).await.unwrap();
    assert_eq!(answer.text, "word ");
    let error = client.infer(ask(MODEL)).await.unwrap_err().to_string();
    assert!(error.contains("unknown_model"), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn what_a_model_cannot_do_is_refused_by_both_sides() {
    let node = TestNode::start(|_| {}).await;
    let client = client(&node).await;
    client.wait_for_model(&MODEL.parse().unwrap(), PATIENCE).await;
    let embed =
        arknet_types::InferRequest::new(MODEL.parse().unwrap(), Input::Embed(vec!["text".into()]));
    let refusal = client.request(embed.clone()).await.err().unwrap();
    assert_eq!(refusal.code, RefusalCode::Unsupported, "the client reads the offer");
    assert!(refusal.detail.contains("embed"), "{refusal}");
    let mut stranger = Stranger::new(&node);
    stranger.nonce += 1;
    let (server, nonce, now) = (stranger.server, stranger.nonce, arknet_sdk::now());
    let request = arknet_types::Request::sign(
        &stranger.session,
        &stranger.delegation,
        server,
        nonce,
        now,
        arknet_sdk::Atoms(0),
        arknet_types::Salt([7; 32]),
        embed,
    );
    let refusal = stranger.refusal(&request).await;
    assert_eq!(refusal.code, RefusalCode::Unsupported, "the server asks its model");
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_there_at_once_loses_nothing() {
    let node = TestNode::start(|_| {}).await;
    let client = client(&node).await;
    let ask = InferRequest { max_tokens: 200, ..ask(FLOOD) };
    let answer = client.infer(ask).await.unwrap();
    let words: String = (0..FLOOD_WORDS).map(|number| format!("{number} ")).collect();
    assert_eq!(answer.text, words);
    node.stop().await;
}
