use arknet_chain::{Action, Escrow, EscrowOp, Failure, Hash};
use arknet_types::{Atoms, Timestamp};

use crate::{
    chain::{ARK, Chain, DAY, address},
    random::{escrow, voucher},
};

const JOB: Hash = Hash([7; 32]);

fn lock(chain: &Chain, payee: u8, amount: u64, after_ms: u64) -> Action {
    let timeout = Timestamp(chain.now().0 + after_ms);
    escrow(EscrowOp::Lock { payee: address(payee), amount: Atoms(amount), job: JOB, timeout })
}

/// 10 ARK from 5 to 6 for two days.
fn locked() -> Chain {
    let mut chain = Chain::grown_up();
    let action = lock(&chain, 6, 10 * ARK, 2 * DAY);
    assert_eq!(chain.act(5, action), Ok(None));
    chain
}

#[test]
fn money_is_locked_for_another_once_and_for_a_time() {
    let mut chain = locked();
    let cases = [
        (lock(&chain, 6, ARK, DAY), Failure::Exists),
        (escrow(EscrowOp::Release { job: Hash::ZERO, amount: Atoms(1) }), Failure::UnknownEscrow),
        (escrow(EscrowOp::Refund { job: Hash::ZERO }), Failure::UnknownEscrow),
    ];
    for (action, failure) in cases {
        assert_eq!(chain.act(5, action), Err(failure));
    }
    let cases = [
        (lock(&chain, 7, ARK, DAY), Failure::Same),
        (lock(&chain, 6, 0, DAY), Failure::Zero),
        (lock(&chain, 6, u64::MAX, DAY), Failure::Balance),
        (lock(&chain, 6, ARK, 0), Failure::Time),
        (lock(&chain, 6, ARK, 31 * DAY), Failure::Time),
    ];
    for (action, failure) in cases {
        assert_eq!(chain.act(7, action), Err(failure));
    }
}

#[test]
fn the_payer_releases_and_gets_the_rest() {
    let mut chain = locked();
    let release = |amount| escrow(EscrowOp::Release { job: JOB, amount: Atoms(amount) });
    assert_eq!(
        chain.act(6, release(1)),
        Err(Failure::UnknownEscrow),
        "it is the payer's to release"
    );
    assert_eq!(chain.act(5, release(11 * ARK)), Err(Failure::Overdrawn));
    let (payer, payee) = (chain.balance(5), chain.balance(6));
    let outcome = chain.block(vec![chain.sign(5, release(4 * ARK))])[0];
    assert_eq!(chain.balance(5), payer + 6 * ARK - outcome.fee.0);
    assert_eq!(chain.balance(6), payee + 4 * ARK * 97 / 100);
    assert_eq!(chain.act(5, release(1)), Err(Failure::UnknownEscrow));
}

#[test]
fn the_payee_claims_by_the_payer_s_signature() {
    let mut chain = locked();
    let id = Escrow::id(&address(5), &JOB);
    let claim = |voucher| escrow(EscrowOp::Claim { payer: address(5), job: JOB, voucher });
    assert_eq!(chain.act(7, claim(voucher(5, id, ARK))), Err(Failure::NotYours));
    assert_eq!(chain.act(6, claim(voucher(6, id, ARK))), Err(Failure::VoucherSignature));
    assert_eq!(chain.act(6, claim(voucher(5, JOB, ARK))), Err(Failure::VoucherSignature));
    assert_eq!(chain.act(6, claim(voucher(5, id, 11 * ARK))), Err(Failure::Overdrawn));
    assert_eq!(chain.act(6, claim(voucher(5, id, 0))), Err(Failure::VoucherStale));
    let payer = chain.balance(5);
    assert_eq!(chain.act(6, claim(voucher(5, id, 9 * ARK))), Ok(None));
    assert_eq!(chain.balance(5), payer + ARK);
    assert_eq!(chain.act(6, claim(voucher(5, id, 9 * ARK))), Err(Failure::UnknownEscrow));
}

#[test]
fn after_the_timeout_it_is_the_payer_s_again() {
    let mut chain = locked();
    let refund = escrow(EscrowOp::Refund { job: JOB });
    assert_eq!(chain.act(5, refund.clone()), Err(Failure::TooEarly));
    chain.wait(2 * DAY, DAY);
    assert_eq!(chain.act(6, refund.clone()), Err(Failure::UnknownEscrow));
    let before = chain.balance(5);
    let outcome = chain.block(vec![chain.sign(5, refund.clone())])[0];
    assert_eq!(chain.balance(5), before + 10 * ARK - outcome.fee.0);
    assert_eq!(chain.act(5, refund), Err(Failure::UnknownEscrow));
}
