use std::time::Duration;

use arknet_chain::{
    Account, Action, Hash, Key, Rejected, SignedTransaction, TransactionBody, read,
    rpc::{StatusAnswer, SubmitAnswer, TransactionAnswer, TransactionState},
};
use arknet_consensus::{Message, Verdict};
use arknet_types::Atoms;
use arknet_validator::{
    DriverError, NotAccepted, RpcOptions, RpcServer, Store, StoreError, StoreOptions,
};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Chain, address, network, wallet},
    http::{Events, get, post},
    network::Network,
};

/// Longer than anything takes that goes well, on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(600);

pub(crate) fn pay(from: u8, nonce: u64, to: u8) -> SignedTransaction {
    let body = TransactionBody {
        network: network(),
        signer: wallet(from).public(),
        nonce,
        gas_limit: 21_000,
        fee_max: Atoms(1_000),
        tip: Atoms(1),
        action: Action::Transfer { to: address(to), amount: Atoms(7) },
    };
    SignedTransaction::sign(body, &wallet(from))
}

/// Gives a node a transaction and waits until a block there has it.
async fn done(net: &Network, n: u8, transaction: SignedTransaction) -> u64 {
    let id = net.node(n).link().submit(transaction).await.unwrap();
    committed(net, n, id).await
}

async fn committed(net: &Network, n: u8, id: Hash) -> u64 {
    let mut seen = net.node(n).link().watch();
    loop {
        seen.borrow_and_update();
        if let Some(found) = net.node(n).store().read().unwrap().transaction(&id).unwrap() {
            assert_eq!(found.proof.outcome.result, Ok(None));
            return found.height;
        }
        seen.changed().await.unwrap();
    }
}

fn account(net: &Network, at: u8, n: u8) -> Account {
    read(&net.node(at).store().read().unwrap(), &Key::Account(address(n))).unwrap()
}

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it takes far too long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_alone_is_a_chain() {
    in_time(async {
        let mut net = Network::new(1);
        net.start(1);
        let link = net.node(1).link().clone();
        let payments: Vec<_> = (0..20).map(|nonce| pay(3, nonce, 4)).collect();
        for payment in &payments {
            link.submit(payment.clone()).await.unwrap();
        }
        assert!(link.next_nonce(address(3)).await.unwrap() == 20);
        committed(&net, 1, payments[19].id()).await;
        assert_eq!((account(&net, 1, 3).nonce, link.find(payments[19].id()).await), (20, None));
        let progress = link.progress();
        assert!(progress.votes && !progress.catching_up && progress.operator == Some(address(1)));
        let stale = link.submit(pay(3, 5, 4)).await.unwrap_err();
        assert!(matches!(stale, NotAccepted::Rejected(Rejected::Inapplicable(_))), "{stale}");
        let mut forged = pay(3, 20, 4);
        forged.signature.0[1] ^= 1;
        assert_eq!(link.submit(forged).await, Err(NotAccepted::Signature));
        let height = net.now_at(1);
        net.stop(1).await;
        assert_eq!(link.submit(pay(3, 20, 4)).await, Err(NotAccepted::Stopping));
        net.start(1);
        net.height(1, height + 2).await;
        assert_eq!(account(&net, 1, 3).nonce, 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_and_a_follower_agree_and_who_was_away_comes_back() {
    in_time(async {
        let mut net = Network::new(4);
        (1..=5).for_each(|n| net.start(n));
        // Given to any of them, it comes into a block at all of them.
        for n in 1..=5 {
            let payment = pay(10 + n, 0, 4);
            let id = payment.id();
            done(&net, n, payment).await;
            committed(&net, n % 5 + 1, id).await;
        }
        assert!(!net.node(5).link().progress().votes);
        net.stop(2).await;
        let height = net.now_at(1);
        for nonce in 1..4 {
            done(&net, 1, pay(11, nonce, 4)).await;
        }
        net.height(5, height + 5).await;
        net.start(2);
        net.height(2, height + 5).await;
        done(&net, 2, pay(11, 4, 4)).await;
        assert!(net.check() >= height + 5);
        for n in 1..=5 {
            net.height(n, net.now_at(2)).await;
            assert_eq!(account(&net, n, 11).nonce, 5);
        }
        net.check();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_decided_and_nothing_promised_is_lost() {
    in_time(async {
        let mut net = Network::new(4);
        (1..=3).for_each(|n| net.start(n));
        net.height(1, 2).await;
        net.stop(2).await;
        net.stop(3).await;
        let ids = [pay(11, 0, 4), pay(11, 1, 4)].map(|payment| {
            let link = net.node(1).link().clone();
            async move { link.submit(payment).await.unwrap() }
        });
        let [first, second] = ids;
        let ids = [first.await, second.await];
        // All that were up go down; what one of them promised is on its disk alone.
        let height = net.node(1).store().read().unwrap().height();
        net.stop(1).await;
        net.start(1);
        for id in ids {
            assert!(net.node(1).link().find(id).await.is_some(), "it waits again");
        }
        assert!(net.now_at(1) <= height + 1, "one of four decides nothing");
        net.start(2);
        net.start(3);
        for id in ids {
            committed(&net, 1, id).await;
        }
        net.check();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_and_go_all_the_time_never_part() {
    in_time(async {
        let mut net = Network::new(4);
        (1..=4).for_each(|n| net.start(n));
        let mut nonces = [0; 4];
        for round in 0..12_u8 {
            let (gone, there) = (round % 4 + 1, (round + 1) % 4 + 1);
            let nonce = &mut nonces[usize::from(there - 1)];
            let id = net.node(there).link().submit(pay(10 + there, *nonce, 4)).await.unwrap();
            *nonce += 1;
            net.stop(gone).await;
            committed(&net, there, id).await;
            net.start(gone);
            committed(&net, gone, id).await;
            net.check();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_ends_the_node() {
    in_time(async {
        let mut net = Network::new(1);
        net.start(1);
        net.height(1, 1).await;
        // Somebody else writes into its ledger.
        let store = net.node(1).store().clone();
        let error = loop {
            let reader = store.read().unwrap();
            let mut chain = Chain::new(&net.genesis);
            chain.state = state_of(&reader);
            (chain.tip, chain.commit) =
                (reader.tip().unwrap(), reader.certificate(reader.height()).unwrap());
            // It may have been quicker.
            if chain.block(vec![]).keep(&store).is_ok() {
                break net.node_mut(1).ended().await;
            }
        };
        assert!(matches!(error, DriverError::Store(StoreError::NotNext { .. })), "{error}");
        assert_eq!(net.node(1).link().submit(pay(3, 0, 4)).await, Err(NotAccepted::Stopping));
    })
    .await;
}

fn state_of(reader: &arknet_validator::Reader) -> arknet_chain::MemoryState {
    let values = reader.range(&[], &[u8::MAX], usize::MAX);
    let leaves: Vec<_> = values.iter().map(|(k, v)| arknet_chain::leaf(k, v)).collect();
    let mut state = arknet_chain::MemoryState::default();
    let (_, pages) = arknet_chain::grow(&state, leaves);
    let values = values.into_iter().map(|(key, value)| (key, Some(value))).collect();
    state.apply(arknet_chain::Changes { values, pages });
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spread_is_judged_once_and_rightly() {
    in_time(async {
        let mut net = Network::new(2);
        net.start(1);
        let good = pay(3, 0, 4);
        let mut forged = pay(4, 0, 4);
        forged.signature.0[1] ^= 1;
        let mut abroad = pay(5, 0, 4).body;
        abroad.network = arknet_types::NetworkId::new("elsewhere").unwrap();
        let abroad = SignedTransaction::sign(abroad, &wallet(5));
        let all = [good.clone(), good.clone(), forged, abroad];
        for (tag, transaction) in (0..).zip(all) {
            net.hub.spread(1, Message::Transactions(vec![transaction]), tag);
        }
        net.until(1, |progress| progress.waiting == 1).await;
        // Asked after all of them.
        while net.hub.judged().len() < 4 {
            net.node(1).link().find(good.id()).await;
        }
        let expected = [Verdict::Accept, Verdict::Ignore, Verdict::Reject, Verdict::Reject];
        assert_eq!(net.hub.judged(), (0..).zip(expected).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rpc_of_a_node_tells_what_it_does() {
    in_time(async {
        let mut net = Network::new(1);
        net.start(1);
        let node = net.node(1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = RpcOptions::new(std::sync::Arc::new(crate::network::now));
        let (store, link) = (node.store().clone(), node.link().clone());
        let server = RpcServer::new(listener, options, store, link).unwrap();
        let (at, stop) = (server.address(), CancellationToken::new());
        let served = tokio::spawn(server.run(stop.clone()));
        let mut events = Events::open(at, None).await;
        let transaction = hex::encode(arknet_types::encode(&pay(3, 0, 4)));
        let body = serde_json::json!({ "transaction": transaction }).to_string();
        let taken: SubmitAnswer = post(at, "/transactions", &body).await.read();
        let height = loop {
            let (height, block) = events.next().await.unwrap();
            if block["transactions"] == 1 {
                break height;
            }
        };
        let path = format!("/transactions/{}", taken.id);
        let found: TransactionAnswer = get(at, &path).await.read();
        assert_eq!((found.state, found.height), (TransactionState::Committed, Some(height)));
        let status: StatusAnswer = get(at, "/status").await.read();
        assert!(status.votes && status.operator == Some(address(1)) && status.height >= height);
        stop.cancel();
        served.await.unwrap();
        net.stop(1).await;
        net.start(1);
    })
    .await;
}

#[tokio::test]
async fn two_nodes_do_not_share_a_ledger() {
    let mut net = Network::new(1);
    let home = net.home(1);
    net.start(1);
    let error = Store::open(&home, net.genesis.clone(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Busy), "{error}");
}
