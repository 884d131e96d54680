use arknet_chain::{
    Action, Inapplicable, Mempool, Rejected, SignedTransaction, VerifiedTransaction,
    limits::{
        MEMPOOL_AGE_MS_MAX, MEMPOOL_PER_ACCOUNT_MAX, MEMPOOL_PER_PEER_MAX, MEMPOOL_TICK_MS_MAX,
        MEMPOOL_TRANSACTIONS_MAX,
    },
};
use arknet_types::{Atoms, KeyPair, NetworkId, PublicKey, Timestamp};
use proptest::prelude::*;

use crate::chain::{ARK, Chain, SECOND, address, genesis, network, wallet};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A transfer of account `n` with this nonce and tip.
fn pay(chain: &Chain, n: u8, nonce: u64, tip: u64) -> VerifiedTransaction {
    let mut body = chain.body(n, Action::Transfer { to: address(20), amount: Atoms(1) });
    (body.nonce, body.tip, body.fee_max) = (nonce, Atoms(tip), Atoms(1_000));
    SignedTransaction::sign(body, &wallet(n)).verify().unwrap()
}

fn add(pool: &mut Mempool, chain: &Chain, n: u8, nonce: u64, tip: u64) -> Result<(), Rejected> {
    pool.insert(&chain.state, pay(chain, n, nonce, tip), None, NOW)
}

fn order(pool: &Mempool) -> Vec<(u8, u64)> {
    let who = |one: &VerifiedTransaction| (1..=20).find(|n| address(*n) == one.signer()).unwrap();
    pool.best(Atoms(1)).map(|one| (who(&one), one.body().nonce)).collect()
}

#[test]
fn the_highest_tip_goes_first_and_each_account_in_order() {
    let (chain, mut pool) = (Chain::grown_up(), Mempool::new());
    for (n, nonce, tip) in [(5, 0, 10), (5, 1, 90), (6, 0, 50), (7, 1, 99), (8, 0, 50), (6, 1, 5)] {
        add(&mut pool, &chain, n, nonce, tip).unwrap();
    }
    // 7 has no nonce 0 yet; of equals the first to come is first.
    assert_eq!(order(&pool), [(6, 0), (8, 0), (5, 0), (5, 1), (6, 1)]);
    add(&mut pool, &chain, 7, 0, 1).unwrap();
    assert_eq!(order(&pool)[5..], [(7, 0), (7, 1)]);
    assert_eq!(pool.best(Atoms(1_001)).count(), 0, "none pays that base fee");
    assert_eq!(pool.next_nonce(&address(5), &chain.account(5)), 2);
    assert_eq!(pool.next_nonce(&address(9), &chain.account(9)), 0);
}

#[test]
fn what_cannot_be_in_a_block_does_not_wait() {
    let (mut chain, mut pool) = (Chain::grown_up(), Mempool::new());
    chain.act(5, Action::Burn { amount: Atoms(1) }).unwrap();
    let stale = Inapplicable::Nonce { expected: 1, found: 0 };
    assert_eq!(add(&mut pool, &chain, 5, 0, 1), Err(stale.into()));
    let far = 1 + MEMPOOL_PER_ACCOUNT_MAX as u64;
    let ahead = Inapplicable::Nonce { expected: 1, found: far };
    assert_eq!(add(&mut pool, &chain, 5, far, 1), Err(ahead.into()));
    assert!(add(&mut pool, &chain, 5, far - 1, 1).is_ok());
    assert!(Rejected::from(stale).is_innocent());
    let mut body = pay(&chain, 5, 1, 1).body().clone();
    body.network = NetworkId::new("arknet-other-1").unwrap();
    let foreign = SignedTransaction::sign(body.clone(), &wallet(5)).verify().unwrap();
    let rejected = pool.insert(&chain.state, foreign, None, NOW).unwrap_err();
    assert_eq!(rejected, Inapplicable::Network.into());
    assert!(!rejected.is_innocent());
    (body.network, body.fee_max) = (network(), Atoms(0));
    let cheap = SignedTransaction::sign(body, &wallet(5)).verify().unwrap();
    let rejected = pool.insert(&chain.state, cheap, None, NOW);
    assert!(matches!(rejected, Err(Rejected::Inapplicable(Inapplicable::BaseFee { .. }))));
    assert!(matches!(add(&mut pool, &chain, 99, 0, 1), Err(Rejected::Balance { balance: 0, .. })));
    let once = pay(&chain, 6, 0, 1);
    pool.insert(&chain.state, once.clone(), None, NOW).unwrap();
    assert_eq!(pool.find(&once.id()), Some(&once));
    assert_eq!(pool.insert(&chain.state, once, None, NOW), Err(Rejected::Known));
}

#[test]
fn an_account_s_waiting_fees_are_no_more_than_it_has() {
    let mut genesis = genesis(4);
    genesis.params.set(arknet_chain::Param::BootstrapMs, 0).unwrap();
    genesis.allocations.insert(address(5), Atoms(50_000_000));
    let (chain, mut pool) = (Chain::new(&genesis), Mempool::new());
    // Each may cost 21,000,000.
    add(&mut pool, &chain, 5, 0, 1).unwrap();
    add(&mut pool, &chain, 5, 1, 1).unwrap();
    let more = Rejected::Balance { balance: 50_000_000, fees: 63_000_000 };
    assert_eq!(add(&mut pool, &chain, 5, 2, 1), Err(more));
}

#[test]
fn a_waiting_transaction_is_replaced_by_one_that_pays_a_tenth_more() {
    let (chain, mut pool) = (Chain::grown_up(), Mempool::new());
    let offer = |tip, fee_max| {
        let mut body = pay(&chain, 5, 0, tip).body().clone();
        body.fee_max = Atoms(fee_max);
        SignedTransaction::sign(body, &wallet(5)).verify().unwrap()
    };
    pool.insert(&chain.state, offer(100, 1_000), None, NOW).unwrap();
    for (tip, fee_max) in [(109, 1_200), (120, 1_099), (100, 1_100), (90, 5_000)] {
        let result = pool.insert(&chain.state, offer(tip, fee_max), None, NOW);
        assert_eq!(result, Err(Rejected::Underpriced), "{tip} {fee_max}");
    }
    let better = offer(110, 1_100);
    pool.insert(&chain.state, better.clone(), None, NOW).unwrap();
    assert_eq!(pool.best(Atoms(1)).collect::<Vec<_>>(), [better]);
    assert_eq!(pool.len(), 1);
    // From nothing, too, it must be more.
    let mut pool = Mempool::new();
    pool.insert(&chain.state, offer(0, 1_000), None, NOW).unwrap();
    let same = offer(0, 1_000);
    assert_eq!(pool.insert(&chain.state, same, None, NOW), Err(Rejected::Known));
    assert!(pool.insert(&chain.state, offer(0, 1_100), None, NOW).is_ok());
}

#[test]
fn a_failed_round_loses_nothing_and_a_block_removes_what_it_did() {
    let (mut chain, mut pool) = (Chain::grown_up(), Mempool::new());
    for nonce in 0..4 {
        add(&mut pool, &chain, 5, nonce, 1).unwrap();
    }
    add(&mut pool, &chain, 6, 0, 1).unwrap();
    let list: Vec<_> = pool.best(Atoms(1)).take(3).collect();
    // A block is built, and not decided.
    let ingredients = chain.ingredients(SECOND, list);
    arknet_chain::build_block(&chain.parent(), ingredients, crate::chain::QUOTES).unwrap();
    assert_eq!(pool.len(), 5);
    // Another's block holds two of them, and one that nobody here has seen.
    let decided = vec![pay(&chain, 5, 0, 7), pay(&chain, 5, 1, 1)];
    chain.block(decided.clone());
    pool.committed(&chain.state, &decided);
    let mut left = order(&pool);
    left.sort_unstable();
    assert_eq!(left, [(5, 2), (5, 3), (6, 0)]);
}

#[test]
fn what_waits_too_long_leaves_with_what_comes_after_it() {
    let (chain, mut pool) = (Chain::grown_up(), Mempool::new());
    for nonce in 0..3 {
        add(&mut pool, &chain, 5, nonce, 1).unwrap();
    }
    let mut now = NOW;
    while now.since_ms(NOW) < MEMPOOL_AGE_MS_MAX {
        now = now.plus_ms(MEMPOOL_TICK_MS_MAX);
        pool.expire(now);
    }
    assert_eq!(now.since_ms(NOW), MEMPOOL_AGE_MS_MAX);
    pool.insert(&chain.state, pay(&chain, 6, 0, 1), None, now).unwrap();
    pool.expire(now);
    assert_eq!(pool.len(), 4);
    pool.expire(now.plus_ms(1));
    assert_eq!(order(&pool), [(6, 0)]);
}

#[test]
fn a_clock_that_jumps_makes_nothing_old() {
    let (chain, mut pool) = (Chain::grown_up(), Mempool::new());
    add(&mut pool, &chain, 5, 0, 1).unwrap();
    let years = NOW.plus_ms(10 * 365 * 86_400_000);
    // Far forward and back again, as often as one likes within an hour.
    for minute in 0..60 {
        pool.expire(if minute % 2 == 0 { years } else { NOW });
    }
    assert_eq!(pool.waiting_for(years, 30 * MEMPOOL_TICK_MS_MAX + 1).count(), 1);
    assert_eq!(pool.waiting_for(years, 31 * MEMPOOL_TICK_MS_MAX + 1).count(), 0);
    assert_eq!(order(&pool), [(5, 0)]);
}

/// Many accounts with a little money.
fn crowd(count: u32) -> (Chain, Vec<KeyPair>) {
    let keys: Vec<KeyPair> = (0..count)
        .map(|n| {
            let mut seed = [0xee; 32];
            seed[..4].copy_from_slice(&n.to_le_bytes());
            KeyPair::from_seed(&seed)
        })
        .collect();
    let mut genesis = genesis(1);
    genesis.params.set(arknet_chain::Param::BootstrapMs, 0).unwrap();
    for key in &keys {
        genesis.allocations.insert(key.public().address(), Atoms(ARK));
    }
    (Chain::new(&genesis), keys)
}

fn from(chain: &Chain, key: &KeyPair, nonce: u64, tip: u64) -> VerifiedTransaction {
    let mut body = pay(chain, 5, nonce, tip).body().clone();
    body.signer = key.public();
    SignedTransaction::sign(body, key).verify().unwrap()
}

#[test]
fn a_full_pool_gives_the_cheapest_place_to_who_pays_more() {
    // Accounts with 40 transactions each fill it.
    let per_account = 40;
    let accounts = u32::try_from(MEMPOOL_TRANSACTIONS_MAX / per_account).unwrap();
    let (chain, keys) = crowd(accounts + 2);
    let mut pool = Mempool::new();
    for (at, key) in keys[..accounts as usize].iter().enumerate() {
        for nonce in 0..per_account as u64 {
            let tip = if at == 3 { 5 } else { 10 };
            pool.insert(&chain.state, from(&chain, key, nonce, tip), None, NOW).unwrap();
        }
    }
    assert_eq!(pool.len(), MEMPOOL_TRANSACTIONS_MAX);
    let new = &keys[accounts as usize];
    let low = pool.insert(&chain.state, from(&chain, new, 0, 5), None, NOW);
    assert_eq!(low, Err(Rejected::Full));
    pool.insert(&chain.state, from(&chain, new, 0, 6), None, NOW).unwrap();
    assert_eq!(pool.len(), MEMPOOL_TRANSACTIONS_MAX);
    let cheapest = &keys[3].public().address();
    let account = chain.read(&arknet_chain::Key::Account(*cheapest)).unwrap();
    assert_eq!(pool.next_nonce(cheapest, &account), 39, "its last one made room");
}

#[test]
fn one_peer_has_so_many_places_and_no_more() {
    let (chain, keys) = crowd(u32::try_from(MEMPOOL_PER_PEER_MAX / 40 + 1).unwrap());
    let mut pool = Mempool::new();
    let (peer, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let all = keys.iter().flat_map(|key| (0..40).map(move |nonce| (key, nonce)));
    for (key, nonce) in all.clone().take(MEMPOOL_PER_PEER_MAX) {
        pool.insert(&chain.state, from(&chain, key, nonce, 1), Some(peer), NOW).unwrap();
    }
    let (key, nonce) = all.clone().nth(MEMPOOL_PER_PEER_MAX).unwrap();
    let one = from(&chain, key, nonce, 1);
    let refused = pool.insert(&chain.state, one.clone(), Some(peer), NOW);
    assert_eq!(refused, Err(Rejected::PeerFull));
    assert!(pool.insert(&chain.state, one, Some(other), NOW).is_ok());
    // Replacing its own takes no place.
    let (key, nonce) = all.clone().next().unwrap();
    let better = pool.insert(&chain.state, from(&chain, key, nonce, 2), Some(peer), NOW);
    assert_eq!(better, Err(Rejected::Underpriced), "its highest fee must rise too");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, what the pool gives out applies, and nothing that still applies is lost.
    #[test]
    fn what_it_gives_out_applies(
        steps in prop::collection::vec((1_u8..6, 0_u64..6, 1_u64..50, 0_u8..8), 1..80),
    ) {
        let mut chain = Chain::grown_up();
        let mut pool = Mempool::new();
        for (n, ahead, tip, kind) in steps {
            if kind == 0 {
                let base_fee = chain.meta().base_fee;
                let list: Vec<_> = pool.best(base_fee).take(5).collect();
                let before = pool.len();
                // Each of them applies: the block holds all.
                chain.block(list.clone());
                pool.committed(&chain.state, &list);
                prop_assert_eq!(pool.len(), before - list.len());
            } else {
                let nonce = chain.account(n).nonce + ahead;
                let _ = add(&mut pool, &chain, n, nonce, tip);
            }
        }
    }
}
