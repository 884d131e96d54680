use std::time::Duration;

use arknet_chain::{Action, Failure};
use arknet_sdk::{
    chain::{Chain, ChainError, ChainOptions, Fees, PATIENCE},
    wallet::Wallet,
};
use arknet_types::Atoms;

use crate::{
    ledger::{ARK, World, address, wallet},
    liar,
};

fn open(world: &World, url: String) -> Chain {
    let genesis = Some(world.genesis.clone());
    let options = ChainOptions { url: Some(url), genesis, ..Default::default() };
    world.run(Chain::open(options)).unwrap()
}

fn pay(n: u8, amount: u64) -> Action {
    Action::Transfer { to: address(n), amount: Atoms(amount) }
}

fn account(n: u8) -> Wallet {
    Wallet::from_key(wallet(n))
}

#[test]
fn money_is_sent_and_its_way_into_a_block_is_proved() {
    let world = World::new();
    let mut chain = open(&world, world.url());
    let settled = world.run(async {
        let prepared = chain.prepare(&account(5), pay(6, 7 * ARK), Fees::default()).await.unwrap();
        assert_eq!((prepared.moves, prepared.balance), (Atoms(7 * ARK), Atoms(1_000_000 * ARK)));
        assert_eq!((prepared.fee, prepared.fee_max), (Atoms(21_000), Atoms(3 * 21_000)));
        let id = chain.submit(&prepared.transaction).await.unwrap();
        assert_eq!(id, prepared.id);
        chain.wait(id, PATIENCE).await.unwrap()
    });
    assert!(settled.outcome.done);
    assert_eq!((settled.height, settled.outcome.fee), (2, Atoms(21_000)));
    let paid = world.run(chain.account(address(6))).unwrap();
    assert_eq!(paid.value.unwrap().balance, Atoms(1_000_007 * ARK));
    // Blocks later it is still found in its block, by the names that headers give their parents.
    (0..3).for_each(|_| world.block());
    world.run(chain.account(address(6))).unwrap();
    world.run(chain.wait(settled.id, PATIENCE)).unwrap();
}

#[test]
fn what_the_account_cannot_pay_for_is_not_sent() {
    let world = World::new();
    let mut chain = open(&world, world.url());
    let all = world.account(5).balance.0;
    let refused = world.run(chain.prepare(&account(5), pay(6, all), Fees::default())).unwrap_err();
    assert_eq!(refused.balance(), Some((Atoms(all), Atoms(all + 21_000))));
    assert_eq!(refused.code(), "insufficient_balance");
    let nobody = world.run(chain.prepare(&account(99), pay(6, 1), Fees::default())).unwrap_err();
    assert_eq!(nobody.balance(), Some((Atoms(0), Atoms(21_001))));
}

#[test]
fn several_wait_at_once_and_one_that_stays_out_is_said_to() {
    let world = World::new();
    world.hold(true);
    let mut chain = open(&world, world.url());
    let ids: Vec<_> = (0..3)
        .map(|_| {
            world.run(async {
                let made = chain.prepare(&account(5), pay(6, 1), Fees::default()).await.unwrap();
                chain.submit(&made.transaction).await.unwrap()
            })
        })
        .collect();
    let late = world.run(chain.wait(ids[2], Duration::ZERO)).unwrap_err();
    assert!(matches!(late, ChainError::NotCommitted { seconds: 0, .. }), "{late:?}");
    world.block();
    for id in ids {
        assert!(world.run(chain.wait(id, PATIENCE)).unwrap().outcome.done);
    }
    assert_eq!(world.account(5).nonce, 3);
}

#[test]
fn what_the_ledger_does_not_do_is_told_with_its_reason() {
    let world = World::new();
    let mut chain = open(&world, world.url());
    let settled = world.run(async {
        let vote = Action::Vote { proposal: 9, choice: arknet_chain::Choice::Yes };
        let made = chain.prepare(&account(5), vote, Fees::default()).await.unwrap();
        let id = chain.submit(&made.transaction).await.unwrap();
        chain.wait(id, PATIENCE).await.unwrap()
    });
    assert!(!settled.outcome.done);
    assert_eq!(settled.outcome.failure_number, Some(Failure::UnknownProposal as u8));
}

#[test]
fn a_refusal_keeps_its_code_and_numbers() {
    let world = World::new();
    let mut chain = open(&world, world.url());
    let refused = world.run(async {
        let made = chain.prepare(&account(5), pay(6, 1), Fees::default()).await.unwrap();
        chain.submit(&made.transaction).await.unwrap();
        let mut body = made.transaction.body.clone();
        body.tip = Atoms(1);
        let again = arknet_chain::SignedTransaction::sign(body, &wallet(5));
        chain.submit(&again).await.unwrap_err()
    });
    let ChainError::Refused(answer) = &refused else { panic!("{refused:?}") };
    assert_eq!((refused.code(), answer.expected_nonce), ("wrong_nonce", Some(1)));
}

#[test]
fn a_nonce_that_cannot_be_and_a_forged_outcome_are_found_out() {
    let world = World::new();
    let url = liar::before(&world, |path, answer| {
        if path.starts_with("/accounts/") {
            answer["next_nonce"] = 1_000.into();
        }
    });
    let mut chain = open(&world, url);
    let error = world.run(chain.prepare(&account(5), pay(6, 1), Fees::default())).unwrap_err();
    assert!(matches!(error, ChainError::Nonce { proved: 0, found: 1_000 }), "{error:?}");

    let mut honest = open(&world, world.url());
    let id = world.run(async {
        let made = honest.prepare(&account(5), pay(6, 1), Fees::default()).await.unwrap();
        honest.submit(&made.transaction).await.unwrap()
    });
    world.block();
    let url = liar::before(&world, |path, answer| {
        if path.starts_with("/transactions/") {
            answer["height"] = 3.into();
        }
    });
    let error = world.run(open(&world, url).wait(id, PATIENCE)).unwrap_err();
    assert!(matches!(error, ChainError::ForgedOutcome(_)), "{error:?}");
    let url = liar::before(&world, |path, answer| {
        if path.starts_with("/transactions/") {
            answer["outcome"]["done"] = false.into();
        }
    });
    let error = world.run(open(&world, url).wait(id, PATIENCE)).unwrap_err();
    assert!(matches!(error, ChainError::ForgedOutcome(_)), "{error:?}");
}

#[test]
fn what_had_no_answer_is_sent_again_and_done_once() {
    let world = World::new();
    let mut chain = open(&world, liar::mute(&world, 2));
    let settled = world.run(async {
        let made = chain.prepare(&account(5), pay(6, ARK), Fees::default()).await.unwrap();
        let id = chain.submit(&made.transaction).await.unwrap();
        chain.wait(id, PATIENCE).await.unwrap()
    });
    assert!(settled.outcome.done);
    assert_eq!(world.account(6).balance, Atoms(1_000_001 * ARK));
    let mut mute = open(&world, liar::mute(&world, 9));
    let unheard = world.run(async {
        let made = mute.prepare(&account(5), pay(6, ARK), Fees::default()).await.unwrap();
        mute.submit(&made.transaction).await.unwrap_err()
    });
    assert!(matches!(unheard, ChainError::Unreachable { .. }), "{unheard:?}");
    assert_eq!(world.account(6).balance, Atoms(1_000_002 * ARK), "it came, though nobody said so");
}

#[test]
fn without_a_genesis_nothing_is_believed_unless_that_is_said() {
    let world = World::new();
    let url = Some(world.url());
    let options = ChainOptions { url: url.clone(), ..Default::default() };
    let refused = world.run(Chain::open(options));
    assert!(matches!(refused, Err(ChainError::NoGenesis)));
    let options = ChainOptions { url, danger_trust_rpc: true, ..Default::default() };
    let mut chain = world.run(Chain::open(options)).unwrap();
    assert!(chain.light().is_none());
    let account = world.run(chain.account(address(5))).unwrap();
    assert_eq!(account.value.unwrap().balance, Atoms(1_000_000 * ARK));
}
