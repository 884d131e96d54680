use arknet_chain::{Action, Failure, SignedTransaction, build_block};
use arknet_types::{Address, Atoms};

use crate::chain::{ARK, Chain, QUOTES, address, balances, genesis, wallet};

fn transfer(to: u8, amount: u64) -> Action {
    Action::Transfer { to: address(to), amount: Atoms(amount) }
}

#[test]
fn money_moves_and_fees_are_burned_and_tipped() {
    let mut chain = Chain::grown_up();
    let (before, base_fee) = (balances(&chain), chain.meta().base_fee.0);
    let outcome = chain.block(vec![chain.sign(5, transfer(6, 3 * ARK))])[0];
    assert_eq!((outcome.result, outcome.gas), (Ok(None), 21_000));
    assert_eq!(outcome.fee.0, 21_000 * (base_fee + 1));
    assert_eq!(chain.balance(5), before[&5] - 3 * ARK - outcome.fee.0);
    assert_eq!(chain.balance(6), before[&6] + 3 * ARK);
    assert_eq!(chain.meta().burned.0, 21_000 * base_fee);
    assert_eq!(chain.account(5).nonce, 1);
}

#[test]
fn a_failed_transfer_costs_its_fee_and_its_nonce_and_nothing_else() {
    let mut chain = Chain::grown_up();
    let before = balances(&chain);
    let cases = [
        (transfer(6, 2_000_000 * ARK), Failure::Balance),
        (transfer(6, u64::MAX), Failure::Balance),
        (transfer(6, 0), Failure::Zero),
        (Action::Burn { amount: Atoms(u64::MAX) }, Failure::Balance),
        (Action::Burn { amount: Atoms::ZERO }, Failure::Zero),
    ];
    let mut fees = 0;
    for (nonce, (action, failure)) in (0..).zip(cases) {
        assert_eq!(chain.account(5).nonce, nonce);
        let outcome = chain.block(vec![chain.sign(5, action)])[0];
        assert_eq!(outcome.result, Err(failure));
        fees += outcome.fee.0;
    }
    assert_eq!(chain.balance(5), before[&5] - fees);
    assert_eq!(chain.balance(6), before[&6]);
}

#[test]
fn burned_money_is_gone() {
    let mut chain = Chain::grown_up();
    let burned = chain.meta().burned.0;
    let outcome = chain.block(vec![chain.sign(5, Action::Burn { amount: Atoms(7 * ARK) })])[0];
    assert_eq!(outcome.result, Ok(None));
    let fee = 21_000 * chain.headers[0].base_fee.0;
    assert_eq!(chain.meta().burned.0, burned + 7 * ARK + fee);
}

#[test]
fn a_transfer_to_oneself_changes_nothing_but_the_fee() {
    let mut chain = Chain::grown_up();
    let before = chain.balance(5);
    let outcome = chain.block(vec![chain.sign(5, transfer(5, 9 * ARK))])[0];
    assert_eq!(chain.balance(5), before - outcome.fee.0);
}

#[test]
fn an_account_begins_with_what_it_is_sent() {
    let mut chain = Chain::grown_up();
    let stranger = Address([9; 20]);
    let action = Action::Transfer { to: stranger, amount: Atoms(1) };
    assert_eq!(chain.act(5, action), Ok(None));
    let key = arknet_chain::Key::Account(stranger);
    assert_eq!(chain.read::<arknet_chain::Account>(&key).unwrap().balance, Atoms(1));
}

#[test]
fn several_transactions_of_one_account_go_in_one_block_in_order() {
    let mut chain = Chain::grown_up();
    let mut list = Vec::new();
    for more in 0..5 {
        let mut body = chain.body(5, transfer(6, 1 + more));
        body.nonce += more;
        list.push(SignedTransaction::sign(body, &wallet(5)).verify().unwrap());
    }
    let before = chain.balance(6);
    chain.block(list.clone());
    assert_eq!(chain.balance(6), before + 15);
    // In another order only the first applies, and again none does.
    let mut chain = Chain::grown_up();
    list.swap(1, 2);
    let outcomes = chain.commit(chain.ingredients(1_000, list.clone()));
    assert_eq!(outcomes.len(), 2, "the first, and the second where it stands");
    assert_eq!(chain.commit(chain.ingredients(1_000, list[..2].to_vec())).len(), 1);
}

#[test]
fn the_price_of_gas_follows_demand() {
    let mut genesis = genesis(1);
    genesis.params.set(arknet_chain::Param::BlockGasTarget, 500_000).unwrap();
    genesis.params.set(arknet_chain::Param::BlockGasMax, 1_000_000).unwrap();
    genesis.params.set(arknet_chain::Param::BootstrapMs, 0).unwrap();
    let mut chain = Chain::new(&genesis);
    chain.fee_max = Atoms(1_000_000);
    let fill = |chain: &mut Chain| {
        let list = (0..60_u64).map(|more| {
            let mut body = chain.body(5, transfer(6, 1));
            body.nonce += more;
            SignedTransaction::sign(body, &wallet(5)).verify().unwrap()
        });
        let list = list.collect();
        let taken = chain.commit(chain.ingredients(1_000, list)).len();
        assert_eq!(taken, 47, "as many as a block has gas for");
    };
    let mut last = chain.meta().base_fee;
    for _ in 0..40 {
        fill(&mut chain);
        assert!(chain.meta().base_fee > last);
        last = chain.meta().base_fee;
    }
    assert!(last.0 > 40, "an eighth each time is more than one: {last}");
    for _ in 0..60 {
        chain.block(vec![]);
        assert!(chain.meta().base_fee <= last);
        last = chain.meta().base_fee;
    }
    assert!(last.0 < 10, "{last}");
}

#[test]
fn what_cannot_be_in_a_block_is_left_out_by_who_builds_one() {
    let mut chain = Chain::grown_up();
    let good = chain.sign(5, transfer(6, 1));
    let changes: [fn(&mut arknet_chain::TransactionBody); 5] = [
        |body| body.nonce = 1,
        |body| body.network = arknet_types::NetworkId::new("arknet-other-1").unwrap(),
        |body| body.gas_limit = 20_999,
        |body| body.fee_max = Atoms(0),
        |body| (body.fee_max, body.tip) = (Atoms(u64::MAX), Atoms(u64::MAX)),
    ];
    for change in changes {
        let mut body = good.body().clone();
        change(&mut body);
        let bad = SignedTransaction::sign(body, &wallet(5)).verify().unwrap();
        let (block, _) =
            build_block(&chain.parent(), chain.ingredients(1, vec![bad]), QUOTES).unwrap();
        assert_eq!(block.body.transactions, []);
    }
    // Somebody without money pays no fee.
    let mut body = good.body().clone();
    body.signer = wallet(99).public();
    let bad = SignedTransaction::sign(body, &wallet(99)).verify().unwrap();
    let (block, _) = build_block(&chain.parent(), chain.ingredients(1, vec![bad]), QUOTES).unwrap();
    assert_eq!(block.body.transactions, []);
    assert_eq!(chain.block(vec![good.clone()]).len(), 1);
    // And what was there once does not come again.
    let (block, _) =
        build_block(&chain.parent(), chain.ingredients(1, vec![good]), QUOTES).unwrap();
    assert_eq!(block.body.transactions, []);
}

#[test]
fn while_nobody_has_money_acting_is_free() {
    let mut genesis = genesis(2);
    genesis.allocations.clear();
    let mut chain = Chain::new(&genesis);
    chain.tip_price = Atoms::ZERO;
    let outcome = chain.block(vec![chain.sign(30, transfer(6, 1))])[0];
    assert_eq!((outcome.result, outcome.fee), (Err(Failure::Balance), Atoms::ZERO));
    assert_eq!(chain.account(30).nonce, 1);
}
