//! A chain whose every transaction comes into a block at once, behind the real store and the real
//! RPC.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use arknet_chain::{
    Account, CommitCertificate, CommitSignature, Genesis, GenesisValidator, Hash, Header,
    Ingredients, Key, Mempool, Meta, NoQuotes, Param, Params, Parent, SignedVote, StateView,
    ValidatorSet, build_block, read,
};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, Timestamp, encode};
use arknet_validator::{
    Ask, Asked, Link, NotAccepted, Progress, RpcOptions, RpcServer, Store, StoreCommit,
    StoreOptions, Waiting,
};
use tokio_util::sync::CancellationToken;

pub(crate) const ARK: u64 = Atoms::PER_ARK;
pub(crate) const HOUR: u64 = 3_600_000;

/// Somebody's wallet.
pub(crate) fn wallet(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n; 32])
}

pub(crate) fn address(n: u8) -> Address {
    wallet(n).public().address()
}

/// The consensus key of the validator that `n` operates.
pub(crate) fn consensus_key(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n ^ 0x80; 32])
}

/// Four validators, twenty accounts of a million ARK each, times as short as they may be, and a
/// beginning so many hours ago.
pub(crate) fn genesis(hours_ago: u64) -> Genesis {
    let validator = |n| GenesisValidator {
        operator: address(n),
        key: consensus_key(n).public(),
        weight: 10,
        stake: Atoms(200_000 * ARK),
    };
    let mut params = Params::default();
    for (param, value) in [
        (Param::BootstrapMs, 0),
        (Param::UnbondingMs, HOUR),
        (Param::RedelegationMs, HOUR),
        (Param::ChallengeMsMin, 1_000),
        (Param::DiscussionMs, 1_000),
        (Param::VotingMs, HOUR),
        (Param::QuorumPpm, 100_000),
    ] {
        params.set(param, value).unwrap();
    }
    Genesis {
        network: NetworkId::new("arknet-test-1").unwrap(),
        time: Timestamp(arknet_sdk::now().0 - hours_ago * HOUR),
        params,
        validators: (1..=4).map(validator).collect(),
        allocations: (1..=20).map(|n| (address(n), Atoms(1_000_000 * ARK))).collect(),
    }
}

/// What a task knows that makes blocks.
struct Maker {
    store: Store,
    network: NetworkId,
    tip: Hash,
    commit: Option<CommitCertificate>,
    mempool: Mempool,
    /// Whether what comes waits for [`World::block`].
    holds: bool,
    progress: tokio::sync::watch::Sender<Progress>,
}

/// The chain, served.
pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) at: SocketAddr,
    runtime: tokio::runtime::Runtime,
    maker: Arc<Mutex<Maker>>,
    _home: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(genesis(6))
    }

    pub(crate) fn with(genesis: Genesis) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), genesis.clone(), StoreOptions::default()).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (link, Asked { questions, progress }) = Link::new();
        let maker = Maker {
            store: store.clone(),
            network: genesis.network.clone(),
            tip: genesis.id(),
            commit: None,
            mempool: Mempool::new(),
            holds: false,
            progress,
        };
        let maker = Arc::new(Mutex::new(maker));
        runtime.spawn(answer(questions, Arc::clone(&maker)));
        let options = RpcOptions::new(Arc::new(arknet_sdk::now));
        let at = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = RpcServer::new(listener, options, store, link).unwrap();
            let at = server.address();
            tokio::spawn(server.run(CancellationToken::new()));
            at
        });
        let world = Self { genesis, at, runtime, maker, _home: home };
        world.block();
        world
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A block, a second later, with what waits.
    pub(crate) fn block(&self) {
        self.later(1_000);
    }

    /// A block with what waits, that much later.
    pub(crate) fn later(&self, ms: u64) {
        self.maker.lock().unwrap().block(ms);
    }

    /// Whether what comes waits for [`World::block`].
    pub(crate) fn hold(&self, holds: bool) {
        self.maker.lock().unwrap().holds = holds;
    }

    pub(crate) fn height(&self) -> u64 {
        self.meta().height
    }

    pub(crate) fn meta(&self) -> Meta {
        self.read(&Key::Meta).unwrap()
    }

    pub(crate) fn read<T: borsh::BorshDeserialize>(&self, key: &Key) -> Option<T> {
        read(&self.maker.lock().unwrap().store.read().unwrap(), key)
    }

    pub(crate) fn account(&self, n: u8) -> Account {
        self.read(&Key::Account(address(n))).unwrap_or_default()
    }
}

impl Maker {
    fn block(&mut self, later_ms: u64) -> Header {
        let reader = self.store.read().unwrap();
        let voters: ValidatorSet = read(&reader, &Key::Validators).unwrap();
        let meta: Meta = read(&reader, &Key::Meta).unwrap();
        let ingredients = Ingredients {
            time: meta.time.plus_ms(later_ms),
            proposer: voters.members()[0].operator,
            commit: self.commit.clone(),
            evidence: vec![],
            transactions: self.mempool.best(meta.base_fee),
        };
        let parent = Parent { view: &reader, id: self.tip };
        let (block, executed) = build_block(&parent, ingredients, &NoQuotes).unwrap();
        let header = block.header.clone();
        let certificate = certificate(&self.network, &voters, &header);
        let transactions = block.body.transactions.clone();
        let bytes = encode(&block.into_block());
        let commit = StoreCommit {
            header: &header,
            block: &bytes,
            certificate: &certificate,
            executed: &executed,
        };
        self.store.commit(&commit).unwrap();
        (self.tip, self.commit) = (header.id(), Some(certificate));
        self.mempool.committed(&self.store.read().unwrap(), &transactions);
        let height = header.height;
        self.progress.send_replace(Progress { height, ..Progress::default() });
        header
    }
}

/// The certificate of a block that all of `set` have signed.
pub(crate) fn certificate(
    network: &NetworkId,
    set: &ValidatorSet,
    header: &Header,
) -> CommitCertificate {
    let (height, block) = (header.height, header.id());
    let mut certificate = CommitCertificate { height, round: 0, block, signatures: vec![] };
    let mut signers: Vec<Address> = set.members().iter().map(|v| v.operator).collect();
    signers.sort();
    for validator in signers {
        let vote = certificate.vote(network, validator);
        let key = (0..=u8::MAX)
            .map(consensus_key)
            .find(|key| set.find(&validator).is_some_and(|member| member.key == key.public()));
        let signature = SignedVote::sign(vote, &key.unwrap()).signature;
        certificate.signatures.push(CommitSignature { validator, signature });
    }
    certificate
}

async fn answer(mut questions: tokio::sync::mpsc::Receiver<Ask>, maker: Arc<Mutex<Maker>>) {
    while let Some(question) = questions.recv().await {
        let mut maker = maker.lock().unwrap();
        let reader = maker.store.read().unwrap();
        match question {
            Ask::Submit { transaction, answer } => {
                let result = match transaction.verify() {
                    None => Err(NotAccepted::Signature),
                    Some(verified) => {
                        let id = verified.id();
                        let now = arknet_sdk::now();
                        let inserted = maker.mempool.insert(&reader, verified, None, now);
                        inserted.map(|()| id).map_err(NotAccepted::Rejected)
                    }
                };
                if result.is_ok() && !maker.holds {
                    maker.block(1_000);
                }
                let _ = answer.send(result);
            }
            Ask::Find { id, answer } => {
                let found = maker.mempool.find(&id);
                let found =
                    found.map(|one| Waiting { transaction: one.signed().clone(), ahead: 0 });
                let _ = answer.send(found);
            }
            Ask::NextNonce { owner, answer } => {
                let account = account_of(&reader, owner);
                let _ = answer.send(maker.mempool.next_nonce(&owner, &account));
            }
        }
    }
}

fn account_of(view: &impl StateView, owner: Address) -> Account {
    read(view, &Key::Account(owner)).unwrap_or_default()
}
