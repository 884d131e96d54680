//! What leaves a node for another peer, byte by byte.

use arknet_mesh::{Inbound, Mesh, MeshOptions};
use arknet_node::{Config, DataDir, NewKey, Node, Role, config::AskWhom};
use arknet_sdk::{Atoms, keyfile};
use arknet_types::{
    Capabilities, Chat, FinishReason, InferRequest, Input, KeyPair, Message, ModelDigest,
    ModelName, ModelOffer, Offer, OfferBody, Reply, Request, Role as Speaker, Usage, decode,
    limits::{OFFER_LIFETIME_MS_MAX, REQUEST_FRAME_BYTES_MAX},
};
use serde_json::json;

use crate::fixture::{MODEL, PATIENCE, network};

/// A peer that keeps what it is sent.
struct Recorder {
    mesh: Mesh,
    inbound: Inbound,
}

impl Recorder {
    async fn start() -> (Self, String) {
        let key = keyfile::generate().unwrap();
        let mut options = MeshOptions::new(key.clone(), network());
        options.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        options.serve = true;
        let (mesh, inbound) = arknet_mesh::start(options).unwrap();
        let mut addresses = mesh.addresses_changed();
        let address = {
            let known = addresses.wait_for(|known| !known.is_empty()).await.unwrap();
            known[0].to_string()
        };
        mesh.publish_offer(offer(&key, &address)).await;
        let address = format!("{address}/p2p/{}", key.public().peer_id());
        (Self { mesh, inbound }, address)
    }

    /// The bytes of the next request; it is answered with a word.
    async fn next(&mut self) -> Vec<u8> {
        let (_, mut stream) = self.inbound.next().await.expect("a stream");
        // Streams are opened ahead of need: this one waits until a request comes.
        let bytes = stream.read_raw(REQUEST_FRAME_BYTES_MAX).await.unwrap();
        stream.write_frame(&Reply::Text { text: "word".into(), tokens: 1 }).await.unwrap();
        let done = Reply::Done { finish: FinishReason::Stop, usage: Usage::default() };
        stream.write_frame(&done).await.unwrap();
        stream.close().await.unwrap();
        bytes
    }
}

fn offer(key: &KeyPair, address: &str) -> Offer {
    let now = arknet_sdk::now();
    let model = ModelOffer {
        name: ModelName::new(MODEL).unwrap(),
        digest: Some(ModelDigest([1; 32])),
        projector: None,
        capabilities: Capabilities::GENERATE,
        context_tokens: 4096,
        slots_total: 4,
        slots_free: 4,
        input_price: Atoms::ZERO,
        output_price: Atoms::ZERO,
    };
    let body = OfferBody {
        network: network(),
        peer: key.public(),
        sequence: now.0,
        issued_at: now,
        expires_at: now.plus_ms(OFFER_LIFETIME_MS_MAX),
        addresses: vec![address.to_owned()],
        models: vec![model],
    };
    Offer::sign(body, key)
}

/// Things of an app and of this host that are nobody else's business.
const SECRETS: [&str; 9] = [
    "alice@example.org",
    "Mozilla/5.0 (a browser)",
    "session=cookie",
    "203.0.113.9",
    "tenant-77",
    "a label of the app",
    "what was said before",
    "an answer from before",
    "the path of a file",
];

/// Asks as an app would that says far too much of itself.
fn ask(gateway: std::net::SocketAddr, key: &str, content: &str) {
    let agent = ureq::Agent::new_with_defaults();
    let body = json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": content, "name": "tenant-77" }],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "user": "alice@example.org",
        "metadata": { "path": "the path of a file" },
        "safety_identifier": "a label of the app",
    });
    let response = agent
        .post(format!("http://{gateway}/v1/chat/completions"))
        .header("Authorization", format!("Bearer {key}"))
        .header("Cookie", "session=cookie")
        .header("User-Agent", "Mozilla/5.0 (a browser)")
        .header("X-Forwarded-For", "203.0.113.9")
        .content_type("application/json")
        .send(body.to_string());
    assert_eq!(response.unwrap().status().as_u16(), 200);
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[tokio::test]
async fn a_peer_gets_model_messages_and_parameters_and_nothing_else() {
    let (mut peer, address) = Recorder::start().await;
    let directory = tempfile::tempdir().unwrap();
    let data = DataDir::open(Some(directory.path().to_owned())).unwrap();
    let new = NewKey { name: "tenant-77".into(), ..NewKey::default() };
    let (key, _) = data.keys().create(new).unwrap();
    let mut config = Config { roles: [Role::Gateway].into(), ..Config::default() };
    config.mesh.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    config.mesh.seeds = Some(vec![address]);
    config.admin.listen.set_port(0);
    config.gateway.listen.set_port(0);
    config.gateway.require_key = true;
    config.gateway.ask = AskWhom::Anyone;
    let node = Node::start_with(&data, config, vec![]).unwrap();
    let gateway = node.status().gateway.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(node.run_until(async { drop(stopped.await) }));
    wait_for_model(gateway, &key).await;

    let mut captured = Vec::new();
    for content in ["what was said before, and an answer from before", "only this"] {
        let (key, content) = (key.clone(), content.to_owned());
        let asked = tokio::task::spawn_blocking(move || ask(gateway, &key, &content));
        captured.push(tokio::time::timeout(PATIENCE, peer.next()).await.unwrap());
        asked.await.unwrap();
    }

    let bytes = captured.pop().unwrap();
    let mut secrets: Vec<String> = SECRETS.map(str::to_owned).into();
    secrets.extend([key, host_name(), directory.path().display().to_string()]);
    // A host name of a few letters may stand in anything.
    for secret in secrets.into_iter().filter(|secret| secret.len() > 4) {
        let is_in = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_in, "the peer was told: {secret}");
    }
    // The rest of the frame are keys, digests, times and signatures of a form that has no room for
    // anything else; what is asked is this and no more.
    let request: Request = decode(&bytes).unwrap();
    let chat = Chat::new(vec![Message::new(Speaker::User, "only this")]);
    let mut expected = InferRequest::new(ModelName::new(MODEL).unwrap(), Input::Chat(chat));
    expected.max_tokens = Some(7);
    expected.sampling.temperature = 0.5;
    expected.sampling.seed = Some(3);
    assert_eq!(request.infer, expected);
    drop(stop);
    run.await.unwrap().unwrap();
    peer.mesh.shutdown().await;
}

/// Waits until the gateway lists the model.
async fn wait_for_model(gateway: std::net::SocketAddr, key: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let url = format!("http://{gateway}/v1/models");
        let bearer = format!("Bearer {key}");
        let listed = tokio::task::spawn_blocking(move || {
            let request = ureq::get(url).header("Authorization", bearer);
            request.call().unwrap().body_mut().read_to_string().unwrap()
        });
        if listed.await.unwrap().contains(MODEL) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the gateway does not hear of the model");
        tokio::task::yield_now().await;
    }
}
