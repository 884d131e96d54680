//! The free quota of a wallet while the ledger's bootstrap period lasts, over two nodes that follow it.

use arknet_chain::{Genesis, GenesisValidator, Param, Params};
use arknet_node::Config;
use arknet_sdk::{Atoms, RefusalCode, keyfile};
use arknet_types::{Delegation, KeyPair, Refusal, Reply, Timestamp};

use crate::fixture::{MODEL, PATIENCE, Stranger, TestNode, delegation, entry, network, read};

const HOUR_MS: u64 = 3_600_000;

/// A chain whose only validator is not there: it stays in its beginning.
fn genesis(bootstrap_ms: u64) -> Genesis {
    let mut params = Params::default();
    params.set(Param::BootstrapMs, bootstrap_ms).unwrap();
    let key = KeyPair::from_seed(&[7; 32]).public();
    let validator = GenesisValidator { operator: key.address(), key, weight: 1, stake: Atoms(0) };
    Genesis {
        network: network(),
        time: Timestamp(1),
        params,
        validators: vec![validator],
        allocations: [].into(),
    }
}

fn directory(genesis: &Genesis) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("genesis.json"), genesis.to_json()).unwrap();
    directory
}

/// A node that follows the ledger in its directory and serves whoever asks.
async fn follower(directory: tempfile::TempDir, seeds: &[&TestNode]) -> TestNode {
    let seeds = seeds.iter().map(|node| node.address.clone()).collect();
    let change = |config: &mut Config| {
        config.compute.danger_serve_anyone = true;
        config.ledger.rpc.set_port(0);
        config.mesh.seeds = Some(seeds);
    };
    TestNode::start_in(directory, change).await
}

/// A wallet and the session that acts for it everywhere.
struct Owner {
    session: KeyPair,
    delegation: Delegation,
}

impl Owner {
    fn new() -> Self {
        let (wallet, session) = (keyfile::generate().unwrap(), keyfile::generate().unwrap());
        let delegation = delegation(&wallet, &session, |_| {});
        Self { session, delegation }
    }

    /// Asks through this peer and waits for the end of the answer.
    async fn ask(&self, through: &mut Stranger) -> Result<(), Refusal> {
        through.session = self.session.clone();
        through.delegation = self.delegation.clone();
        let request = through.request(MODEL);
        let mut stream = through.open().await;
        stream.write_frame(&request).await.unwrap();
        loop {
            match read(&mut stream).await {
                Reply::Refused(refusal) => return Err(refusal),
                Reply::Done { .. } => return Ok(()),
                _ => {}
            }
        }
    }
}

/// Holds the refusal of an eleventh job to what it must be.
fn assert_quota(refusal: &Refusal) {
    assert_eq!(refusal.code, RefusalCode::RateLimited, "{refusal}");
    let wait = u64::from(refusal.retry_after_ms.expect("it says when to come again"));
    let end = arknet_sdk::now().plus_ms(wait).0;
    // The next hour, give or take the time that the refusal was on its way.
    assert!(wait <= HOUR_MS && end % HOUR_MS < 30_000, "{wait}");
}

#[tokio::test]
async fn ten_jobs_of_an_hour_are_ten_wherever_they_are_served() {
    let genesis = genesis(1_000_000_000);
    let one = follower(directory(&genesis), &[]).await;
    let two = follower(directory(&genesis), &[&one]).await;
    let (mut at_one, mut at_two) = (Stranger::new(&one), Stranger::new(&two));
    // Whether the nodes hear each other yet cannot be seen from outside, and what one served is on
    // its way for a moment: one wallet after the other tries, until both have heard in time.
    let spent = async {
        loop {
            let owner = Owner::new();
            for _ in 0..5 {
                owner.ask(&mut at_one).await.unwrap();
                owner.ask(&mut at_two).await.unwrap();
            }
            if let (Err(first), Err(second)) =
                (owner.ask(&mut at_two).await, owner.ask(&mut at_one).await)
            {
                break (owner, [first, second]);
            }
        }
    };
    let (owner, refusals) = tokio::time::timeout(PATIENCE, spent).await.unwrap();
    refusals.iter().for_each(assert_quota);
    let hour = arknet_sdk::now().0 / HOUR_MS;
    Owner::new().ask(&mut at_one).await.unwrap();

    // A restart resets nothing.
    let two = follower(two.stop().await, &[&one]).await;
    let mut at_two = Stranger::new(&two);
    let refusal = loop {
        match owner.ask(&mut at_two).await {
            // Signed before the node's memory begins.
            Err(refusal) if refusal.code == RefusalCode::Expired => {}
            result => break result,
        }
    };
    if arknet_sdk::now().0 / HOUR_MS == hour {
        assert_quota(&refusal.unwrap_err());
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn after_the_bootstrap_period_and_by_a_grant_nothing_is_counted() {
    let node = follower(directory(&genesis(0)), &[]).await;
    let (owner, mut stranger) = (Owner::new(), Stranger::new(&node));
    for _ in 0..12 {
        owner.ask(&mut stranger).await.unwrap();
    }
    node.stop().await;

    let friend = keyfile::generate().unwrap();
    let directory = directory(&genesis(1_000_000_000));
    let approved = serde_json::json!({ "peers": [entry(friend.public(), &[MODEL])] });
    let file = directory.path().join("approved_peers.json");
    std::fs::write(file, approved.to_string()).unwrap();
    let node = follower(directory, &[]).await;
    let mut friend = Stranger::with_key(&node, friend);
    for _ in 0..12 {
        owner.ask(&mut friend).await.unwrap();
    }
    let mut stranger = Stranger::new(&node);
    stranger.nonce = 1_000;
    for _ in 0..10 {
        owner.ask(&mut stranger).await.unwrap();
    }
    assert_quota(&owner.ask(&mut stranger).await.unwrap_err());
    owner.ask(&mut friend).await.unwrap();
    node.stop().await;
}
