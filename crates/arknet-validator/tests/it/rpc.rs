use std::{net::SocketAddr, sync::Arc};

use arknet_chain::{
    Account, Action, ChannelOp, Genesis, Key, LightBlock, LightClient, Mempool, ModelFacts, Proof,
    ProposalBody, Role, SignedTransaction, StakeOp,
    rpc::{
        AccountAnswer, BlockAnswer, ChannelPage, LightAnswer, ModelPage, NodeAnswer, ParamsAnswer,
        ProofAnswer, ProposalAnswer, ProposalPage, ProposalStage, ROUTES, StatusAnswer,
        SubmitAnswer, TransactionAnswer, TransactionState, ValidatorsAnswer,
    },
};
use arknet_types::{Atoms, ModelDigest, ModelName, Timestamp, encode};
use arknet_validator::{
    Ask, Asked, Link, NotAccepted, Progress, RpcOptions, RpcServer, Store, StoreOptions, Waiting,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{ARK, Chain, address, consensus_key, genesis},
    http::{Answer, Events, get, post, raw},
};

/// A store with some blocks, and an RPC over it, for which a task with nothing but waiting
/// transactions stands in for a driver.
struct World {
    _home: tempfile::TempDir,
    store: Store,
    chain: Chain,
    at: SocketAddr,
    progress: tokio::sync::watch::Sender<Progress>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut RpcOptions)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path(), genesis(2), StoreOptions::default()).unwrap();
        let (link, asked) = Link::new();
        let Asked { questions, progress } = asked;
        tokio::spawn(answer(questions, store.clone()));
        let mut options = RpcOptions::new(Arc::new(|| Timestamp(1_700_000_000_000)));
        change(&mut options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = RpcServer::new(listener, options, store.clone(), link).unwrap();
        let (at, stop) = (server.address(), CancellationToken::new());
        let served = tokio::spawn(server.run(stop.clone()));
        let chain = Chain::new(&genesis(2));
        Self { _home: home, store, chain, at, progress, stop, served }
    }

    fn keep(&mut self, transactions: Vec<SignedTransaction>) {
        let decided = self.chain.block(transactions);
        decided.keep(&self.store).unwrap();
        let height = decided.height();
        self.progress.send_replace(Progress { height, peers: 3, ..Progress::default() });
    }

    async fn get(&self, path: &str) -> Answer {
        get(self.at, path).await
    }

    async fn submit(&self, transaction: &SignedTransaction) -> Answer {
        let body = json!({ "transaction": hex::encode(encode(transaction)) });
        post(self.at, "/transactions", &body.to_string()).await
    }
}

async fn answer(mut questions: tokio::sync::mpsc::Receiver<Ask>, store: Store) {
    let mut mempool = Mempool::new();
    while let Some(question) = questions.recv().await {
        let reader = store.read().unwrap();
        match question {
            Ask::Submit { transaction, answer } => {
                let result = match transaction.verify() {
                    None => Err(NotAccepted::Signature),
                    Some(verified) => {
                        let id = verified.id();
                        let inserted = mempool.insert(&reader, verified, None, Timestamp(0));
                        inserted.map(|()| id).map_err(NotAccepted::Rejected)
                    }
                };
                let _ = answer.send(result);
            }
            Ask::Find { id, answer } => {
                let found = mempool.find(&id);
                let found =
                    found.map(|one| Waiting { transaction: one.signed().clone(), ahead: 0 });
                let _ = answer.send(found);
            }
            Ask::NextNonce { owner, answer } => {
                let account: Account =
                    arknet_chain::read(&reader, &Key::Account(owner)).unwrap_or_default();
                let _ = answer.send(mempool.next_nonce(&owner, &account));
            }
        }
    }
}

#[tokio::test]
async fn every_route_is_served_and_nothing_else() {
    let mut world = World::new().await;
    world.keep(vec![]);
    for route in ROUTES {
        let mut path = route.path.replace("{address}", &address(1).to_string());
        for (name, value) in [
            ("{role}", "validator".to_owned()),
            ("{operator}", address(1).to_string()),
            ("{height}", "latest".into()),
            ("{block}", "1".into()),
            ("{id}", "0".repeat(64)),
            ("{digest}", "0".repeat(64)),
        ] {
            path = path.replace(name, &value);
        }
        if path == "/events" {
            continue;
        }
        let answer = match route.method {
            "POST" => post(world.at, &path, "{}").await,
            _ => world.get(&path).await,
        };
        assert!(!["unknown_path", "wrong_method"].contains(&answer.code().1), "{path}: {answer:?}");
        assert!(answer.head.contains("cache-control: no-store"), "{path}");
        assert!(!answer.head.contains("access-control"), "{path}");
    }
    assert_eq!(world.get("/nothing").await.code(), (404, "unknown_path"));
    assert_eq!(post(world.at, "/status", "{}").await.code(), (405, "wrong_method"));
    let document = world.get("/openapi.json").await;
    assert_eq!(document.body["openapi"], "3.1.0");
}

#[tokio::test]
async fn a_stranger_who_believes_nothing_checks_a_balance() {
    let mut world = World::new().await;
    let payment = world.chain.pay(3, 0, 4);
    world.keep(vec![payment]);
    let genesis = Genesis::parse(&world.get("/genesis").await.body.to_string()).unwrap();
    assert_eq!(genesis.id(), world.store.genesis_id());
    let mut client = LightClient::from_genesis(&genesis).unwrap();
    let key = Key::Account(address(4));
    let proof: ProofAnswer =
        world.get(&format!("/proof?key={}", hex::encode(key.bytes()))).await.read();
    let light: LightAnswer = world.get(&format!("/light/{}", proof.height)).await.read();
    client.advance(LightBlock::parse(&light.bytes.0).unwrap(), world.chain.now()).unwrap();
    let value = proof.value.map(|value| value.0);
    let path: Proof = arknet_types::decode(&proof.proof.0).unwrap();
    let account: Account = client.value(&key, value.as_deref(), &path).unwrap().unwrap();
    let shown: AccountAnswer = world.get(&format!("/accounts/{}", address(4))).await.read();
    assert_eq!(account.balance, shown.balance);
    assert_eq!(shown.balance, Atoms(1_000_000 * ARK + 7));
    let nobody = Key::Account(arknet_types::Address([1; 20]));
    let absent: ProofAnswer =
        world.get(&format!("/proof?key={}", hex::encode(nobody.bytes()))).await.read();
    let path: Proof = arknet_types::decode(&absent.proof.0).unwrap();
    assert_eq!(
        (absent.value, client.value::<Account>(&nobody, None, &path).unwrap()),
        (None, None)
    );
    for bad in ["/proof", "/proof?key=xyz", &format!("/proof?key={}", "00".repeat(129))] {
        assert_eq!(world.get(bad).await.code(), (400, "invalid_parameter"), "{bad}");
    }
}

#[tokio::test]
async fn blocks_transactions_and_numbers_are_told_as_they_are() {
    let mut world = World::new().await;
    let empty: StatusAnswer = world.get("/status").await.read();
    assert_eq!((empty.height, empty.state_root, empty.blocks_from), (0, None, None));
    assert_eq!(world.get("/light/latest").await.code(), (404, "unknown_block"));
    let (good, bad) = (
        world.chain.pay(3, 0, 4),
        world.chain.sign(3, 1, Action::Transfer { to: address(4), amount: Atoms(u64::MAX) }),
    );
    world.keep(vec![good.clone(), bad]);
    world.keep(vec![]);
    let status: StatusAnswer = world.get("/status").await.read();
    assert_eq!((status.height, status.validators, status.peers), (2, 2, 3));
    assert_eq!(status.block, world.chain.tip);
    let block: BlockAnswer = world.get("/blocks/1?bytes=true").await.read();
    let done: Vec<bool> = block.transactions.iter().map(|one| one.outcome.done).collect();
    assert_eq!((done, block.signatures), (vec![true, false], 2));
    let failed = &block.transactions[1].outcome;
    assert_eq!((failed.failure.as_deref(), failed.failure_number), (Some("balance"), Some(1)));
    let bytes = arknet_chain::Block::parse(&block.bytes.clone().unwrap().0).unwrap();
    assert_eq!((bytes.header.id(), bytes.transactions[0].clone()), (block.id, good));
    let same: BlockAnswer = world.get(&format!("/blocks/{}", block.id)).await.read();
    assert_eq!(same, BlockAnswer { bytes: None, ..block.clone() });
    let latest: BlockAnswer = world.get("/blocks/latest").await.read();
    assert_eq!((latest.height, latest.parent), (2, block.id));
    assert_eq!(world.get("/blocks/3").await.code(), (404, "unknown_block"));
    assert_eq!(world.get("/blocks/x").await.code(), (400, "invalid_parameter"));
    let id = block.transactions[0].id;
    let found: TransactionAnswer = world.get(&format!("/transactions/{id}")).await.read();
    assert_eq!(
        (found.state, found.height, found.index),
        (TransactionState::Committed, Some(1), Some(0))
    );
    assert_eq!(found.transaction.as_ref().unwrap().action.kind, "transfer");
    let bad = block.transactions[1].id;
    let undone: TransactionAnswer = world.get(&format!("/transactions/{bad}")).await.read();
    for (id, said) in [(id, found), (bad, undone)] {
        let proved = said.clone().proved(&id, &bytes.header).unwrap();
        assert_eq!(proved, said);
    }
    assert_eq!(block.clone().proved(&bytes.header), Some(block.clone()));
    let params: ParamsAnswer = world.get("/params").await.read();
    assert_eq!(params.params["validators_max"], 100);
    let set: ValidatorsAnswer = world.get("/validators?height=1").await.read();
    assert_eq!((set.validators.len(), set.validators[0].missed_in_a_row), (2, None));
    let next: ValidatorsAnswer = world.get("/validators").await.read();
    assert_eq!((next.height, next.validators[0].missed_in_a_row), (3, Some(0)));
    assert_eq!(world.get("/validators?height=9").await.code(), (404, "unknown_block"));
    let node: NodeAnswer = world.get(&format!("/nodes/validator/{}", address(1))).await.read();
    assert_eq!(node.key.0, consensus_key(1).public());
    let absent = format!("/nodes/compute/{}", address(1));
    assert_eq!(world.get(&absent).await.code(), (404, "unknown_node"));
    assert_eq!(world.get("/nodes/king/0x").await.code(), (400, "invalid_parameter"));
}

#[tokio::test]
async fn stakes_channels_models_and_proposals_are_listed() {
    let mut world = World::new().await;
    let (role, node) = (Role::Validator, address(1));
    let actions = [
        Action::Stake(StakeOp::Deposit { role, node, amount: Atoms(9 * ARK), key: None }),
        Action::Stake(StakeOp::Withdraw { role, node, amount: Atoms(2 * ARK) }),
        Action::Channel(Box::new(ChannelOp::Open {
            payee: address(6),
            payee_peer: None,
            deposit: Atoms(5),
            challenge_ms: 3_600_000,
        })),
        Action::RegisterModel(Box::new(ModelFacts {
            digest: ModelDigest([1; 32]),
            name: ModelName::new("a/b").unwrap(),
            size_bytes: 1,
            mirrors: vec![],
            licence: "MIT".into(),
        })),
    ];
    let text = |title: &str| ProposalBody {
        title: title.into(),
        text: "because".into(),
        effect: arknet_chain::Effect::Text,
    };
    let proposals = ["one", "two", "three"].map(|title| Action::Propose(Box::new(text(title))));
    let all = actions.into_iter().chain(proposals);
    let signed = all.enumerate().map(|(n, action)| world.chain.sign(5, n as u64, action)).collect();
    world.keep(signed);
    let account: AccountAnswer = world.get(&format!("/accounts/{}", address(5))).await.read();
    assert_eq!((account.nonce, account.stakes[0].amount), (7, Atoms(7 * ARK)));
    assert_eq!((account.unbondings[0].id, account.unbondings[0].amount), (1, Atoms(2 * ARK)));
    let page: ProposalPage = world.get("/proposals?limit=2").await.read();
    let titles = |page: &ProposalPage| -> Vec<String> {
        page.proposals.iter().map(|one| one.title.clone()).collect()
    };
    assert_eq!((titles(&page), page.next), (vec!["three".into(), "two".into()], Some(2)));
    let rest: ProposalPage = world.get("/proposals?after=2").await.read();
    assert_eq!((titles(&rest), rest.next), (vec!["one".to_owned()], None));
    let one: ProposalAnswer = world.get("/proposals/1").await.read();
    assert_eq!((one.text.as_deref(), one.stage), (Some("because"), ProposalStage::Discussion));
    assert_eq!(world.get("/proposals/9").await.code(), (404, "unknown_proposal"));
    let paid: ChannelPage = world.get(&format!("/channels?payee={}", address(6))).await.read();
    let pays: ChannelPage = world.get(&format!("/channels?payer={}", address(5))).await.read();
    assert_eq!((paid.channels.len(), &paid.channels), (1, &pays.channels));
    assert_eq!(world.get(&format!("/channels/{}", paid.channels[0].id)).await.status, 200);
    assert_eq!(world.get("/channels").await.code(), (400, "invalid_parameter"));
    let models: ModelPage = world.get("/models").await.read();
    let digest = models.models[0].digest;
    assert_eq!((digest, models.next), (ModelDigest([1; 32]), None));
    assert_eq!(world.get(&format!("/models/{digest}")).await.status, 200);
    let none: ModelPage = world.get(&format!("/models?after={digest}")).await.read();
    assert_eq!(none.models, []);
}

#[tokio::test]
async fn a_transaction_is_taken_once_and_refused_with_what_is_wrong() {
    let mut world = World::new().await;
    let good = world.chain.pay(3, 0, 4);
    let first: SubmitAnswer = world.submit(&good).await.read();
    let again: SubmitAnswer = world.submit(&good).await.read();
    assert_eq!((first.state, &first), (TransactionState::Waiting, &again));
    let waits: TransactionAnswer = world.get(&format!("/transactions/{}", first.id)).await.read();
    assert_eq!((waits.state, waits.ahead), (TransactionState::Waiting, Some(0)));
    let account: AccountAnswer = world.get(&format!("/accounts/{}", address(3))).await.read();
    assert_eq!((account.nonce, account.next_nonce), (0, 1));
    world.keep(vec![good.clone()]);
    // Somebody whose answer was lost sends it again.
    let fresh = World::new().await;
    good_is_done(&fresh, &good).await;
    let old = world.chain.sign(3, 0, Action::Burn { amount: Atoms(1) });
    let old = arknet_chain::TransactionBody { nonce: 0, ..old.body };
    let stale = SignedTransaction::sign(old, &crate::chain::wallet(3));
    let refused = world.submit(&stale).await;
    assert_eq!(
        (refused.code(), &refused.body["expected_nonce"]),
        ((422, "wrong_nonce"), &json!(1))
    );
    let mut forged = world.chain.pay(4, 0, 5);
    forged.signature.0[3] ^= 1;
    assert_eq!(world.submit(&forged).await.code(), (400, "invalid_signature"));
    let poor = crate::chain::wallet(99);
    let body = arknet_chain::TransactionBody {
        signer: poor.public(),
        nonce: 0,
        ..world.chain.pay(4, 0, 5).body
    };
    let refused = world.submit(&SignedTransaction::sign(body, &poor)).await;
    assert_eq!(refused.code(), (422, "insufficient_balance"));
    assert_eq!(refused.body["balance"], "0");
    assert_eq!(refused.body["needed"], "21000000");
    for (body, code) in [
        ("{", (400, "invalid_body")),
        ("{}", (400, "invalid_body")),
        (r#"{"transaction":"xy"}"#, (400, "invalid_body")),
        (r#"{"transaction":"00"}"#, (400, "invalid_transaction")),
    ] {
        assert_eq!(post(world.at, "/transactions", body).await.code(), code, "{body}");
    }
    let large = format!(r#"{{"transaction":"{}"}}"#, "0".repeat(70_000));
    assert_eq!(post(world.at, "/transactions", &large).await.code(), (413, "body_too_large"));
}

async fn good_is_done(world: &World, good: &SignedTransaction) {
    let decided = Chain::new(&genesis(2)).block(vec![good.clone()]);
    decided.keep(&world.store).unwrap();
    let done: SubmitAnswer = world.submit(good).await.read();
    assert_eq!((done.state, done.height), (TransactionState::Committed, Some(1)));
}

#[tokio::test]
async fn events_have_no_gaps_and_go_on_where_somebody_was() {
    let mut world = World::new().await;
    world.keep(vec![]);
    let mut events = Events::open(world.at, None).await;
    let payment = world.chain.pay(3, 0, 4);
    world.keep(vec![payment]);
    let (height, block) = events.next().await.unwrap();
    assert_eq!((height, &block["transactions"]), (2, &json!(1)));
    assert_eq!(block["id"], world.chain.tip.to_string());
    drop(events);
    for _ in 0..3 {
        world.keep(vec![]);
    }
    let mut events = Events::open(world.at, Some(2)).await;
    for expected in 3..=5 {
        assert_eq!(events.next().await.unwrap().0, expected);
    }
    world.keep(vec![]);
    assert_eq!(events.next().await.unwrap().0, 6);
    let bad =
        "GET /events HTTP/1.1\r\nhost: localhost\r\nlast-event-id: x\r\nconnection: close\r\n\r\n";
    assert_eq!(raw(world.at, bad).await.code(), (400, "invalid_header"));
    // A node that stops ends its streams at once.
    world.stop.cancel();
    assert_eq!(events.next().await, None);
    world.served.await.unwrap();
}

#[tokio::test]
async fn other_hosts_other_pages_and_too_many_requests_get_nothing() {
    let world = World::with(|options| options.requests_per_s = 5).await;
    let ask = async |head: &str| {
        raw(world.at, &format!("GET /status HTTP/1.1\r\n{head}\r\nconnection: close\r\n\r\n")).await
    };
    assert_eq!(ask("host: evil.example").await.code(), (403, "host_not_allowed"));
    let page = ask("host: localhost\r\norigin: http://evil.example").await;
    assert_eq!(page.code(), (403, "cross_site"));
    assert_eq!(ask("host: localhost\r\nx: y").await.status, 200);
    let form = "POST /transactions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\
                connection: close\r\n\r\n";
    assert_eq!(raw(world.at, form).await.code(), (415, "unsupported_content_type"));
    assert_eq!(world.get("/status").await.status, 200);
    let refused = world.get("/status").await;
    assert_eq!(refused.code(), (429, "too_many_requests"));
    assert!(refused.head.contains("retry-after: 1") && refused.body["retry_after_ms"] == 200);
}

#[tokio::test]
async fn a_pruned_block_is_said_to_be_gone() {
    let home = tempfile::tempdir().unwrap();
    let options =
        StoreOptions { keep_blocks: std::num::NonZeroU64::new(2), ..StoreOptions::default() };
    let store = Store::open(home.path(), genesis(2), options).unwrap();
    let mut chain = Chain::new(&genesis(2));
    for _ in 0..5 {
        chain.busy_block(2).keep(&store).unwrap();
    }
    let (link, _asked) = Link::new();
    let options = RpcOptions::new(Arc::new(|| Timestamp(0)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = RpcServer::new(listener, options, store, link).unwrap();
    let at = server.address();
    tokio::spawn(server.run(CancellationToken::new()));
    for path in ["/blocks/3", "/light/3"] {
        assert_eq!(get(at, path).await.code(), (410, "pruned"), "{path}");
    }
    assert_eq!(get(at, "/blocks/4").await.status, 200);
    let status: StatusAnswer = get(at, "/status").await.read();
    assert_eq!(status.blocks_from, Some(4));
    // Who missed what is gone begins with what is there.
    assert_eq!(Events::open(at, Some(1)).await.next().await.unwrap().0, 4);
}
