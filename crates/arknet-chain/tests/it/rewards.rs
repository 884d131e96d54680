use arknet_chain::{
    Action, Authority, ChannelOp, Failure, Hash, Param, Role, SignedReceipt, StakeOp, WorkReceipt,
};
use arknet_types::{Atoms, Delegation, DelegationBody, Domain, NetworkId, Timestamp};

use crate::{
    chain::{ARK, Chain, DAY, HOUR, address, genesis, network, wallet},
    random::{channel, voucher},
};

const NODE: u8 = 6;
const PAYER: u8 = 5;
const PEER: u8 = 60;

fn work(payer: u8, node: u8, price: u64, finished_at: Timestamp) -> WorkReceipt {
    WorkReceipt {
        network: network(),
        node: address(node),
        payer: address(payer),
        verifier: None,
        price: Atoms(price),
        finished_at,
        digest: Hash([1; 32]),
    }
}

fn signed(receipt: WorkReceipt, payer: u8) -> SignedReceipt {
    let node_signature = wallet(PEER).sign(Domain::WORK_RECEIPT, &receipt);
    let requester_signature = wallet(payer).sign(Domain::WORK_RECEIPT, &receipt);
    let requester = Authority::Wallet(wallet(payer).public());
    SignedReceipt { receipt, node_signature, requester, requester_signature }
}

pub(crate) fn receipt(payer: u8, node: u8, price: u64, finished_at: Timestamp) -> SignedReceipt {
    signed(work(payer, node, price, finished_at), payer)
}

fn reward(receipt: SignedReceipt) -> Action {
    Action::Reward(vec![receipt])
}

fn enrol(chain: &mut Chain) {
    let (role, node, key) = (Role::Compute, address(NODE), Some(wallet(PEER).public()));
    let deposit = StakeOp::Deposit { role, node, amount: Atoms(50_000 * ARK), key };
    chain.act(NODE, Action::Stake(deposit)).unwrap();
}

/// 5 has paid 6, who runs a compute node, 10 ARK by a channel.
fn paid() -> Chain {
    let mut chain = Chain::grown_up();
    enrol(&mut chain);
    let id = arknet_chain::Channel::id(&address(PAYER), 0);
    let open = ChannelOp::Open {
        payee: address(NODE),
        payee_peer: None,
        deposit: Atoms(10 * ARK),
        challenge_ms: DAY,
    };
    chain.act(PAYER, channel(open)).unwrap();
    let settle = ChannelOp::Settle { voucher: voucher(PAYER, id, 10 * ARK), close: true };
    chain.act(NODE, channel(settle)).unwrap();
    chain
}

#[test]
fn paid_work_brings_new_money_once_and_split_as_the_genesis_says() {
    let mut chain = paid();
    let (now, minted, treasury) = (chain.now(), chain.meta().minted.0, chain.meta().treasury.0);
    let before = chain.balance(NODE);
    let outcome =
        chain.block(vec![chain.sign(NODE, reward(receipt(PAYER, NODE, 6 * ARK, now)))])[0];
    assert_eq!(outcome.result, Ok(None));
    // Two of a hundred of the price, of which the node has 80 of a hundred.
    let made = 6 * ARK / 50;
    assert_eq!(chain.meta().minted.0 - minted, made);
    assert_eq!(chain.balance(NODE) + outcome.fee.0 - before, made * 80 / 100);
    // Without a verifier its part is the treasury's.
    assert_eq!(chain.meta().treasury.0 - treasury, made * 12 / 100);
    assert_eq!(chain.node(Role::Compute, NODE).unwrap().rewards.0, made * 5 / 100);
    // No more than was paid counts, whoever signs it.
    let more = reward(receipt(PAYER, NODE, 4 * ARK + 1, now));
    assert_eq!(chain.act(NODE, more), Err(Failure::NotSettled));
    assert_eq!(chain.act(NODE, reward(receipt(PAYER, NODE, 4 * ARK, now))), Ok(None));
    assert_eq!(chain.act(NODE, reward(receipt(PAYER, NODE, 1, now))), Err(Failure::NotSettled));
}

#[test]
fn a_verifier_gets_its_part() {
    let mut chain = paid();
    let (role, node, key) = (Role::Verifier, address(8), Some(wallet(61).public()));
    let deposit = StakeOp::Deposit { role, node, amount: Atoms(10_000 * ARK), key };
    chain.act(8, Action::Stake(deposit)).unwrap();
    let before = chain.balance(8);
    let checked =
        WorkReceipt { verifier: Some(address(8)), ..work(PAYER, NODE, 5 * ARK, chain.now()) };
    chain.act(NODE, reward(signed(checked, PAYER))).unwrap();
    assert_eq!(chain.balance(8) - before, 5 * ARK / 50 * 7 / 100);
}

#[test]
fn paying_oneself_loses_money() {
    let mut chain = Chain::grown_up();
    enrol(&mut chain);
    // 6 pays itself through 5, its other account.
    let all = |chain: &Chain| chain.balance(PAYER) + chain.balance(NODE);
    let before = all(&chain);
    let id = arknet_chain::Channel::id(&address(PAYER), 0);
    let open = ChannelOp::Open {
        payee: address(NODE),
        payee_peer: None,
        deposit: Atoms(1_000 * ARK),
        challenge_ms: DAY,
    };
    chain.act(PAYER, channel(open)).unwrap();
    let settle = ChannelOp::Settle { voucher: voucher(PAYER, id, 1_000 * ARK), close: true };
    chain.act(NODE, channel(settle)).unwrap();
    let now = chain.now();
    chain.act(NODE, reward(receipt(PAYER, NODE, 1_000 * ARK, now))).unwrap();
    let claim = StakeOp::ClaimRewards { role: Role::Compute, node: address(NODE) };
    chain.act(NODE, Action::Stake(claim)).unwrap();
    assert!(all(&chain) < before);
    let (made, burned) = (Param::EmissionPaidPpm.default(), Param::PaymentBurnPpm.default());
    assert!(made < burned, "whatever the parts, less is made than burned");
}

#[test]
fn what_is_not_signed_by_both_or_is_old_brings_nothing() {
    let mut chain = paid();
    let now = chain.now();
    let good = receipt(PAYER, NODE, ARK, now);
    let with = |change: &dyn Fn(&mut WorkReceipt)| {
        let mut receipt = work(PAYER, NODE, ARK, now);
        change(&mut receipt);
        signed(receipt, PAYER)
    };
    let mut raised = good.clone();
    raised.receipt.price = Atoms(2 * ARK);
    let mut alone = good.clone();
    alone.requester_signature = alone.node_signature;
    let mut one_sided = good.clone();
    one_sided.node_signature = one_sided.requester_signature;
    let bad = [
        raised,
        alone,
        one_sided,
        signed(work(PAYER, NODE, ARK, now), 7),
        with(&|r| r.network = NetworkId::new("x").unwrap()),
        with(&|r| r.finished_at = Timestamp(now.0 - DAY - 2_000)),
        with(&|r| r.finished_at = Timestamp(now.0 + HOUR)),
        with(&|r| r.payer = r.node),
    ];
    for bad in bad {
        assert_eq!(chain.act(NODE, reward(bad)), Err(Failure::Receipt));
    }
    let stranger = with(&|r| r.node = address(9));
    assert_eq!(chain.act(NODE, reward(stranger)), Err(Failure::UnknownNode));
    chain.act(NODE, Action::Stake(StakeOp::Retire { role: Role::Compute })).unwrap();
    assert_eq!(chain.act(NODE, reward(good)), Err(Failure::NodeGone));
}

#[test]
fn a_session_may_sign_for_its_wallet() {
    let mut chain = paid();
    let now = chain.now();
    let body = DelegationBody {
        network: network(),
        wallet: wallet(PAYER).public(),
        session: wallet(50).public(),
        spending_cap: Atoms(1),
        issued_at: now,
        expires_at: now.plus_ms(HOUR),
        peer_scope: None,
        model_scope: None,
    };
    let by = |body: DelegationBody, signer: u8| {
        let delegation = Delegation::sign(body, &wallet(signer));
        let mut one = receipt(PAYER, NODE, ARK, now);
        one.requester = Authority::Session(Box::new(delegation));
        one.requester_signature = wallet(50).sign(Domain::WORK_RECEIPT, &one.receipt);
        reward(one)
    };
    let old = DelegationBody {
        issued_at: Timestamp(now.0 - 2 * HOUR),
        expires_at: Timestamp(now.0 - HOUR),
        ..body.clone()
    };
    assert_eq!(chain.act(NODE, by(old, PAYER)), Err(Failure::Receipt));
    let other = DelegationBody { wallet: wallet(7).public(), ..body.clone() };
    assert_eq!(chain.act(NODE, by(other, 7)), Err(Failure::Receipt));
    assert_eq!(chain.act(NODE, by(body, PAYER)), Ok(None));
}

#[test]
fn a_free_job_of_the_bootstrap_period_counts_once_and_within_the_quota() {
    let mut chain = Chain::new(&genesis(4));
    enrol(&mut chain);
    let free = |n: u8, now| {
        let receipt = WorkReceipt { digest: Hash([n; 32]), ..work(PAYER, NODE, 0, now) };
        reward(signed(receipt, PAYER))
    };
    let minted = chain.meta().minted.0;
    let now = chain.now();
    assert_eq!(chain.act(NODE, free(0, now)), Ok(None));
    assert_eq!(chain.act(NODE, free(0, now)), Err(Failure::Exists));
    for n in 1..10 {
        assert_eq!(chain.act(NODE, free(n, now)), Ok(None));
    }
    assert_eq!(chain.act(NODE, free(10, now)), Err(Failure::Quota));
    assert_eq!(chain.meta().minted.0 - minted, 10 * ARK / 100);
    // The day after, its receipt is too old, so that nothing needs to be remembered of it.
    chain.wait(DAY + HOUR, HOUR);
    assert_eq!(chain.act(NODE, free(0, now)), Err(Failure::Receipt));
    assert!(chain.read::<arknet_types::Address>(&arknet_chain::Key::Job(Hash([0; 32]))).is_none());
    chain.wait(182 * DAY, 91 * DAY);
    let now = chain.now();
    assert_eq!(chain.act(NODE, free(11, now)), Err(Failure::Over));
}

#[test]
fn a_day_has_so_much_new_money_and_no_more_and_it_halves() {
    let mut genesis = genesis(4);
    genesis.params.set(Param::EmissionDailyMax, 15).unwrap();
    genesis.params.set(Param::EmissionFreeJob, 10).unwrap();
    genesis.params.set(Param::EmissionHalvingMs, 2 * DAY).unwrap();
    let mut chain = Chain::new(&genesis);
    enrol(&mut chain);
    let free = |chain: &mut Chain, n: u8| {
        let receipt = WorkReceipt { digest: Hash([n; 32]), ..work(PAYER, NODE, 0, chain.now()) };
        let before = chain.meta().minted.0;
        let result = chain.act(NODE, reward(signed(receipt, PAYER)));
        result.map(|_| chain.meta().minted.0 - before)
    };
    assert_eq!(free(&mut chain, 1), Ok(10));
    assert_eq!(free(&mut chain, 2), Ok(5));
    assert_eq!(free(&mut chain, 3), Err(Failure::Budget));
    chain.wait(DAY, DAY);
    assert_eq!(free(&mut chain, 4), Ok(10));
    chain.wait(DAY, DAY);
    assert_eq!(free(&mut chain, 5), Ok(7), "half of fifteen");
    chain.wait(6 * DAY, DAY);
    assert_eq!(free(&mut chain, 6), Err(Failure::Budget), "halved to nothing");
}
