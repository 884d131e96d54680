use std::{sync::Arc, time::Duration};

use arknet_mesh::{Mesh, MeshOptions, RequestStream};
use arknet_node::{Config, DataDir, Node, Role};
use arknet_provider::{Generation, ModelDetails, ModelInfo, Models, Provider};
use arknet_sdk::{
    Atoms, PublicKey, keyfile,
    session::{Scope, SessionKey},
    wallet::Wallet,
};
use arknet_types::{
    Capabilities, Delegation, DelegationBody, FinishReason, InferRequest, Input, KeyPair,
    ModelDigest, ModelName, NetworkId, Refusal, Reply, Request, Salt, Timestamp, Usage,
    limits::REPLY_FRAME_BYTES_MAX,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

pub(crate) const MODEL: &str = "test/echo";
/// A model whose answer never ends by itself.
pub(crate) const ENDLESS: &str = "test/endless";
/// A model whose whole answer of [`FLOOD_WORDS`] numbered words is there at once.
pub(crate) const FLOOD: &str = "test/flood";
pub(crate) const FLOOD_WORDS: usize = 200;
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A model as [`Scripted`] serves it.
pub(crate) fn info(name: &str, slots: u16) -> ModelInfo {
    ModelInfo {
        name: ModelName::new(name).unwrap(),
        digest: Some(ModelDigest([1; 32])),
        projector: None,
        capabilities: Capabilities::GENERATE,
        context_tokens: 4096,
        slots,
        details: ModelDetails::default(),
    }
}

/// Answers at once, or without end; counts what runs.
pub(crate) struct Scripted {
    pub(crate) running: watch::Sender<u32>,
    pub(crate) models: watch::Sender<Arc<[ModelInfo]>>,
}

impl Provider for Scripted {
    fn models(&self) -> Models {
        self.models.subscribe()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        if request.model.as_str() == FLOOD {
            let (sender, replies) = mpsc::channel(FLOOD_WORDS + 1);
            for number in 0..FLOOD_WORDS {
                sender.try_send(Reply::Text { text: format!("{number} "), tokens: 1 }).unwrap();
            }
            let usage = Usage { completion_tokens: 200, ..Usage::default() };
            sender.try_send(Reply::Done { finish: FinishReason::Stop, usage }).unwrap();
            return Ok(Generation::from_channel(replies));
        }
        let (sender, replies) = mpsc::channel(2);
        let running = self.running.clone();
        running.send_modify(|running| *running += 1);
        tokio::spawn(async move {
            let word = Reply::Text { text: "word ".into(), tokens: 1 };
            let endless = request.model.as_str() == ENDLESS;
            while sender.send(word.clone()).await.is_ok() && endless {}
            let usage = Usage { prompt_tokens: 1, completion_tokens: 1, ..Usage::default() };
            let _ = sender.send(Reply::Done { finish: FinishReason::Stop, usage }).await;
            running.send_modify(|running| *running -= 1);
        });
        Ok(Generation::from_channel(replies))
    }
}

/// A node that serves [`Scripted`], stopped in order at the end of the test.
pub(crate) struct TestNode {
    pub(crate) peer: PublicKey,
    pub(crate) address: String,
    pub(crate) running: watch::Receiver<u32>,
    /// What the provider serves, to be changed.
    pub(crate) models: watch::Sender<Arc<[ModelInfo]>>,
    pub(crate) admin: std::net::SocketAddr,
    pub(crate) data: DataDir,
    stop: tokio::sync::oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl TestNode {
    /// A node that serves whoever asks: where it is not the approval that is tested.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let danger = |config: &mut Config| {
            config.compute.danger_serve_anyone = true;
            change(config);
        };
        Self::start_in(directory, danger).await
    }

    /// A node that serves the peers whose entries these are.
    pub(crate) async fn start_approving(entries: &[Value]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = json!({ "peers": entries }).to_string();
        std::fs::write(directory.path().join("approved_peers.json"), file).unwrap();
        Self::start_in(directory, |_| {}).await
    }

    pub(crate) async fn start_in(
        directory: tempfile::TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let data = DataDir::open(Some(directory.path().to_owned())).unwrap();
        let mut config = Config { roles: [Role::Compute].into(), ..Config::default() };
        config.mesh.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
        config.admin.listen.set_port(0);
        config.shutdown_grace_ms = 100;
        change(&mut config);
        let (running_sender, running) = watch::channel(0);
        let models =
            watch::Sender::new(Arc::from([info(MODEL, 64), info(ENDLESS, 1), info(FLOOD, 1)]));
        let provider = Scripted { running: running_sender, models: models.clone() };
        let node = Node::start_with(&data, config, vec![Arc::new(provider)]).unwrap();
        node.wait_listening(PATIENCE).await;
        let status = node.status();
        let admin = node.admin_address();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let run = node.run_until(async { drop(stopped.await) });
        Self {
            peer: status.peer.parse().unwrap(),
            address: status.addresses[0].clone(),
            running,
            models,
            admin,
            stop,
            ended: tokio::spawn(async { run.await.unwrap() }),
            data,
            directory,
        }
    }

    /// Stops the node. Its directory is there for the next one.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        self.ended.await.unwrap();
        self.directory
    }
}

/// An entry of the file of approved peers, without limits.
pub(crate) fn entry(key: PublicKey, models: &[&str]) -> Value {
    json!({
        "node_id": key.to_string(),
        "public_key": key.to_string(),
        "name": "a friend",
        "approved_at": "2026-03-15T10:30:00Z",
        "permissions": {
            "can_request_inference": true,
            "can_pull_models": false,
            "models_shared": models,
            "max_concurrent_requests": 4,
        },
    })
}

/// A peer that speaks the wire by itself, so that it can say anything.
pub(crate) struct Stranger {
    pub(crate) mesh: Mesh,
    pub(crate) server: PublicKey,
    pub(crate) wallet: KeyPair,
    pub(crate) session: KeyPair,
    pub(crate) delegation: Delegation,
    pub(crate) nonce: u64,
    address: arknet_mesh::Multiaddr,
}

impl Stranger {
    pub(crate) fn new(node: &TestNode) -> Self {
        Self::with_key(node, keyfile::generate().unwrap())
    }

    pub(crate) fn with_key(node: &TestNode, key: KeyPair) -> Self {
        let options = MeshOptions::new(key, network());
        let (mesh, _) = arknet_mesh::start(options).unwrap();
        let (wallet, session) = (keyfile::generate().unwrap(), keyfile::generate().unwrap());
        let delegation = delegation(&wallet, &session, |_| {});
        let address = node.address.split("/p2p/").next().unwrap().parse().unwrap();
        Self { mesh, server: node.peer, wallet, session, delegation, nonce: 0, address }
    }

    pub(crate) async fn open(&self) -> RequestStream {
        let open = self.mesh.open(self.server, std::slice::from_ref(&self.address));
        tokio::time::timeout(PATIENCE, open).await.unwrap().unwrap()
    }

    pub(crate) fn request(&mut self, model: &str) -> Request {
        self.request_with(model, self.server, arknet_sdk::now())
    }

    pub(crate) fn request_with(
        &mut self,
        model: &str,
        audience: PublicKey,
        sent_at: Timestamp,
    ) -> Request {
        self.nonce += 1;
        let infer = infer(model);
        let (nonce, cost, salt) = (self.nonce, Atoms(u64::MAX), Salt([7; 32]));
        Request::sign(&self.session, &self.delegation, audience, nonce, sent_at, cost, salt, infer)
    }

    /// Sends and returns the first word of the answer.
    pub(crate) async fn first_reply(&self, request: &Request) -> Reply {
        let mut stream = self.open().await;
        stream.write_frame(request).await.unwrap();
        read(&mut stream).await
    }

    /// Sends what must be refused.
    pub(crate) async fn refusal(&self, request: &Request) -> Refusal {
        match self.first_reply(request).await {
            Reply::Refused(refusal) => refusal,
            reply => panic!("not refused: {reply:?}"),
        }
    }
}

pub(crate) async fn read(stream: &mut RequestStream) -> Reply {
    let reply = stream.read_frame(REPLY_FRAME_BYTES_MAX);
    tokio::time::timeout(PATIENCE, reply).await.expect("an answer").expect("a frame")
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("arknet-1").unwrap()
}

pub(crate) fn infer(model: &str) -> InferRequest {
    let model = ModelName::new(model).unwrap();
    InferRequest { max_tokens: Some(1), ..InferRequest::new(model, Input::Text("hi".into())) }
}

pub(crate) fn delegation(
    wallet: &KeyPair,
    session: &KeyPair,
    change: impl FnOnce(&mut DelegationBody),
) -> Delegation {
    let now = arknet_sdk::now();
    let mut body = DelegationBody {
        network: network(),
        wallet: wallet.public(),
        session: session.public(),
        spending_cap: Atoms(1_000),
        issued_at: now,
        expires_at: now.plus_ms(3_600_000),
        peer_scope: None,
        model_scope: None,
    };
    change(&mut body);
    Delegation::sign(body, wallet)
}

/// A session of the SDK for the test network.
pub(crate) fn session(cap: u64) -> SessionKey {
    let scope = Scope { network: Some(network()), ..Scope::default() };
    let lifetime = Duration::from_secs(60);
    SessionKey::create_scoped(&Wallet::create(), Atoms(cap), lifetime, scope).unwrap()
}
