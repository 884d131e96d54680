//! What the ledger costs without consensus: signatures, execution, the tree, proofs.

mod memory;

use std::time::{Duration, Instant};

use anyhow::Context;
use arknet_chain::{
    Action, Block, Claim, Executed, Genesis, GenesisValidator, Header, Ingredients, Key, NoQuotes,
    Params, Parent, SignedTransaction, TransactionBody, VerifiedBlock, build_block, execute_block,
    prove, which_hold, which_hold_after,
};
use arknet_types::{Atoms, KeyPair, NetworkId, Timestamp};

use self::memory::Memory;

/// Transfers in a block: as many as its gas allows.
const TRANSFERS: usize = 4_700;
const BLOCKS: usize = 12;
const PROOFS: usize = 2_000;
const BEGAN: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn run(accounts: usize) -> anyhow::Result<()> {
    let keys: Vec<KeyPair> = (0..accounts).map(|n| key(n, 1)).collect();
    let genesis = genesis(&keys)?;
    let began = Instant::now();
    let (changes, _) = genesis.state()?;
    let mut state = Memory::default();
    state.apply(changes);
    println!(
        "the ledger: {accounts} accounts, {BLOCKS} blocks of {TRANSFERS} transfers, no consensus"
    );
    println!("  state made in {:.1} s", began.elapsed().as_secs_f64());
    let chain = make_chain(&genesis, &state, &keys)?;
    signatures(&chain);
    execution(&genesis, &state, &chain)?;
    proofs(&state, &keys)?;
    Ok(())
}

pub(crate) fn key(n: usize, kind: u8) -> KeyPair {
    let mut seed = [kind; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    KeyPair::from_seed(&seed)
}

fn genesis(keys: &[KeyPair]) -> anyhow::Result<Genesis> {
    let validator = GenesisValidator {
        operator: key(0, 2).public().address(),
        key: key(0, 3).public(),
        weight: 1,
        stake: Atoms::ZERO,
    };
    Ok(Genesis {
        network: NetworkId::new("arknet-bench-1")?,
        time: BEGAN,
        params: Params::default(),
        validators: vec![validator],
        allocations: keys.iter().map(|k| (k.public().address(), Atoms(Atoms::PER_ARK))).collect(),
    })
}

/// Blocks that follow each other, from accounts that follow no order.
fn make_chain(genesis: &Genesis, state: &Memory, keys: &[KeyPair]) -> anyhow::Result<Vec<Block>> {
    let mut state = state.clone();
    let (mut parent, mut commit) = (genesis.id(), None);
    let mut blocks = Vec::new();
    let mut nonces = vec![0; keys.len()];
    let mut draw = 0x9e37_79b9_7f4a_7c15_usize;
    let mut random = || {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % keys.len()
    };
    for height in 1..=BLOCKS {
        let mut list = Vec::with_capacity(TRANSFERS);
        for _ in 0..TRANSFERS {
            let (from, to) = (random(), random());
            let body = TransactionBody {
                network: genesis.network.clone(),
                signer: keys[from].public(),
                nonce: nonces[from],
                gas_limit: 21_000,
                fee_max: Atoms(10),
                tip: Atoms(1),
                action: Action::Transfer { to: keys[to].public().address(), amount: Atoms(7) },
            };
            nonces[from] += 1;
            let signed = SignedTransaction::sign(body, &keys[from]);
            list.push(signed.verify().context("a good signature")?);
        }
        let ingredients = Ingredients {
            time: BEGAN.plus_ms(1_000 * height as u64),
            proposer: genesis.validators[0].operator,
            commit: commit.take(),
            evidence: vec![],
            transactions: list,
        };
        let view = Parent { view: &state, id: parent };
        let (block, executed) = build_block(&view, ingredients, &NoQuotes)?;
        state.apply(executed.changes);
        parent = block.header.id();
        commit = Some(certificate(&genesis.network, &block.header));
        blocks.push(block.into_block());
    }
    Ok(blocks)
}

fn certificate(network: &NetworkId, header: &Header) -> arknet_chain::CommitCertificate {
    let (height, block) = (header.height, header.id());
    let mut certificate =
        arknet_chain::CommitCertificate { height, round: 0, block, signatures: vec![] };
    let vote = certificate.vote(network, header.proposer);
    let signature = arknet_chain::SignedVote::sign(vote, &key(0, 3)).signature;
    let validator = header.proposer;
    certificate.signatures.push(arknet_chain::CommitSignature { validator, signature });
    certificate
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn signatures(chain: &[Block]) {
    let claims: Vec<Claim> = chain
        .iter()
        .take(4)
        .flat_map(|b| b.transactions.iter().map(SignedTransaction::claim))
        .collect();
    let few = &claims[..TRANSFERS.min(claims.len())];
    let began = Instant::now();
    assert!(few.iter().all(Claim::holds), "all are good");
    let alone = rate(few.len(), began.elapsed());
    let began = Instant::now();
    assert!(which_hold(&claims).iter().all(|holds| *holds), "all are good");
    let one = rate(claims.len(), began.elapsed());
    let began = Instant::now();
    assert!(
        arknet_validator::which_hold(&claims, &mut || {}).iter().all(|holds| *holds),
        "all are good"
    );
    let two = rate(claims.len(), began.elapsed());
    println!(
        "  signatures/s: one by one {alone:.0}, together {one:.0}, together on two cores {two:.0}"
    );
}

fn execution(genesis: &Genesis, state: &Memory, chain: &[Block]) -> anyhow::Result<()> {
    let count = chain.len() * TRANSFERS;
    // Alone: what is left when the signatures are checked.
    let checked: Result<Vec<VerifiedBlock>, _> =
        chain.iter().map(|block| block.clone().verify(which_hold)).collect();
    let mut replay = Replay::new(genesis, state);
    let began = Instant::now();
    for block in &checked? {
        replay.apply(block)?;
    }
    println!("  execution alone, one core: {:.0} transfers/s", rate(count, began.elapsed()));
    // One block after the other, signatures on both cores.
    for (on, check) in
        [("one core", which_hold_after as Check), ("two cores", arknet_validator::which_hold)]
    {
        let blocks = chain.to_vec();
        let mut replay = Replay::new(genesis, state);
        let began = Instant::now();
        for block in blocks {
            let view = Parent { view: &replay.state, id: replay.parent };
            let (block, executed) = block.execute_knowing(&view, &NoQuotes, |_| false, check)?;
            replay.take(&block, executed)?;
        }
        println!("  signed, {on}: {:.0} transfers/s", rate(count, began.elapsed()));
    }
    Ok(())
}

type Check = fn(&[Claim], &mut dyn FnMut()) -> Vec<bool>;

struct Replay {
    state: Memory,
    parent: arknet_chain::Hash,
}

impl Replay {
    fn new(genesis: &Genesis, state: &Memory) -> Self {
        Self { state: state.clone(), parent: genesis.id() }
    }

    fn apply(&mut self, block: &VerifiedBlock) -> anyhow::Result<()> {
        let view = Parent { view: &self.state, id: self.parent };
        let executed = execute_block(&view, block, &NoQuotes)?;
        self.take(block, executed)
    }

    fn take(&mut self, block: &VerifiedBlock, executed: Executed) -> anyhow::Result<()> {
        anyhow::ensure!(executed.outcomes.iter().all(|one| one.result.is_ok()), "all are done");
        self.state.apply(executed.changes);
        self.parent = block.header.id();
        Ok(())
    }
}

fn proofs(state: &Memory, keys: &[KeyPair]) -> anyhow::Result<()> {
    let root = arknet_chain::state_root(state);
    let places: Vec<Key> = keys
        .iter()
        .step_by((keys.len() / PROOFS).max(1))
        .map(|key| Key::Account(key.public().address()))
        .collect();
    let began = Instant::now();
    let proofs: Vec<_> = places.iter().map(|key| prove(state, key)).collect();
    let made = began.elapsed();
    let bytes: usize = proofs.iter().map(|(_, proof)| arknet_types::encode(proof).len()).sum();
    let began = Instant::now();
    for (key, (value, proof)) in places.iter().zip(&proofs) {
        proof.verify(&root, &key.bytes(), value.as_deref())?;
    }
    let verified = began.elapsed();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / places.len() as f64;
    println!(
        "  proof: {} bytes, made in {:.1} us, verified in {:.1} us",
        bytes / places.len(),
        each(made),
        each(verified),
    );
    Ok(())
}
