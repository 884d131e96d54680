//! For every kind of transaction: another's signature, another nonce, another chain, a second time,
//! too little money. What only one kind can do wrong stands with its kind.

use arknet_chain::{
    Action, Block, BlockError, Inapplicable, SignedTransaction, VerifiedTransaction, execute_block,
    which_hold,
};
use arknet_types::{Atoms, NetworkId};

use crate::{
    chain::{Chain, QUOTES, address, wallet},
    random::every_kind,
};

/// What a block comes to that an honest proposer built around `good`, but that holds `bad` instead.
fn swapped(
    chain: &Chain,
    good: &VerifiedTransaction,
    bad: SignedTransaction,
) -> Result<(), BlockError> {
    let ingredients = chain.ingredients(1_000, vec![good.clone()]);
    let (block, _) = arknet_chain::build_block(&chain.parent(), ingredients, QUOTES).unwrap();
    assert_eq!(block.body.transactions.len(), 1);
    let mut block = Block { transactions: vec![bad], ..block.into_block() };
    block.name_body();
    execute_block(&chain.parent(), &block.verify(which_hold)?, QUOTES).map(|_| ())
}

fn reason(result: Result<(), BlockError>) -> Inapplicable {
    match result {
        Err(BlockError::Transaction { index: 0, reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_kind_is_taken_with_another_s_signature() {
    let chain = Chain::grown_up();
    for action in every_kind() {
        let good = chain.sign(5, action);
        let mut forged = good.signed().clone();
        forged.body.signer = wallet(6).public();
        assert!(forged.clone().verify().is_none());
        assert_eq!(swapped(&chain, &good, forged), Err(BlockError::Signature { index: 0 }));
        let mut forged = good.signed().clone();
        forged.body.tip = Atoms(7);
        assert_eq!(swapped(&chain, &good, forged), Err(BlockError::Signature { index: 0 }));
        let mut forged = good.signed().clone();
        forged.signature.0[63] ^= 0x80;
        assert_eq!(swapped(&chain, &good, forged), Err(BlockError::Signature { index: 0 }));
    }
}

#[test]
fn no_kind_is_taken_out_of_turn_or_from_another_chain_or_unpaid() {
    let chain = Chain::grown_up();
    for action in every_kind() {
        let good = chain.sign(5, action);
        let with = |change: &dyn Fn(&mut arknet_chain::TransactionBody)| {
            let mut body = good.body().clone();
            change(&mut body);
            reason(swapped(&chain, &good, SignedTransaction::sign(body, &wallet(5))))
        };
        let gas = good.body().action.gas();
        assert_eq!(with(&|b| b.nonce = 1), Inapplicable::Nonce { expected: 0, found: 1 });
        let other = NetworkId::new("arknet-test-2").unwrap();
        assert_eq!(with(&|b| b.network = other.clone()), Inapplicable::Network);
        let low = Inapplicable::GasLimit { needed: gas, limit: gas - 1 };
        assert_eq!(with(&|b| b.gas_limit = gas - 1), low);
        let cheap = Inapplicable::BaseFee { base_fee: 1, fee_max: 0 };
        assert_eq!(with(&|b| b.fee_max = Atoms(0)), cheap);
        let dear = |b: &mut arknet_chain::TransactionBody| {
            (b.fee_max, b.tip) = (Atoms(u64::MAX), Atoms(u64::MAX));
        };
        assert_eq!(with(&dear), Inapplicable::Overflow);
        let much = |b: &mut arknet_chain::TransactionBody| {
            (b.fee_max, b.tip) = (Atoms(1 << 40), Atoms(1 << 40));
        };
        assert!(matches!(with(&much), Inapplicable::Balance { .. }));
        let poor = SignedTransaction::sign(
            arknet_chain::TransactionBody { signer: wallet(99).public(), ..good.body().clone() },
            &wallet(99),
        );
        let fee = gas * 2;
        let empty = Inapplicable::Balance { balance: 0, fee };
        assert_eq!(reason(swapped(&chain, &good, poor)), empty);
    }
}

#[test]
fn no_kind_is_taken_twice() {
    for action in every_kind() {
        let mut chain = Chain::grown_up();
        let once = chain.sign(5, action);
        chain.block(vec![once.clone()]);
        let next = chain.sign(5, Action::Transfer { to: address(6), amount: Atoms(1) });
        let again = reason(swapped(&chain, &next, once.signed().clone()));
        assert_eq!(again, Inapplicable::Nonce { expected: 1, found: 0 });
    }
}

#[test]
fn no_kind_makes_or_loses_money_when_its_numbers_are_the_largest() {
    // That nothing is made or lost is asserted in every block; here the numbers are the largest.
    for action in every_kind() {
        let mut chain = Chain::grown_up();
        let _ = chain.act(5, crate::random::with_largest_numbers(action));
    }
}
