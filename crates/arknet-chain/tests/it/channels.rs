use arknet_chain::{
    Channel, ChannelOp, CloseAgreement, Failure, Hash, Key, Voucher, VoucherBody, VoucherError,
};
use arknet_types::{
    Address, Atoms, Delegation, DelegationBody, Domain, ModelName, NetworkId, PublicKey, Timestamp,
};

use crate::{
    chain::{ARK, Chain, DAY, HOUR, SECOND, address, network, wallet},
    random::{channel, together, voucher},
};

const PAYER: u8 = 5;
const PAYEE: u8 = 6;
const SESSION: u8 = 50;
const PEER: u8 = 60;

/// A channel of 100 ARK from 5 to 6.
fn open() -> (Chain, Hash) {
    let mut chain = Chain::grown_up();
    let id = Channel::id(&address(PAYER), 0);
    let op = ChannelOp::Open {
        payee: address(PAYEE),
        payee_peer: Some(wallet(PEER).public()),
        deposit: Atoms(100 * ARK),
        challenge_ms: DAY,
    };
    assert_eq!(chain.act(PAYER, channel(op)), Ok(None));
    (chain, id)
}

fn settle(voucher: Voucher) -> ChannelOp {
    ChannelOp::Settle { voucher, close: false }
}

fn session_body(chain: &Chain) -> DelegationBody {
    DelegationBody {
        network: network(),
        wallet: wallet(PAYER).public(),
        session: wallet(SESSION).public(),
        spending_cap: Atoms(50 * ARK),
        issued_at: chain.now(),
        expires_at: chain.now().plus_ms(2 * HOUR),
        peer_scope: None,
        model_scope: None,
    }
}

fn voucher_body(id: Hash, ark: u64) -> VoucherBody {
    VoucherBody { network: network(), channel: id, total: Atoms(ark * ARK), model: None }
}

fn by_session(body: VoucherBody, delegation: DelegationBody) -> Voucher {
    let delegation = Delegation::sign(delegation, &wallet(PAYER));
    Voucher::by_session(body, delegation, &wallet(SESSION))
}

/// What somebody gained in a block, the fee aside.
fn gain(chain: &mut Chain, n: u8, of: u8, op: ChannelOp) -> u64 {
    let before = chain.balance(of);
    let outcome = chain.block(vec![chain.sign(n, channel(op))])[0];
    assert_eq!(outcome.result, Ok(None));
    chain.balance(of) + if n == of { outcome.fee.0 } else { 0 } - before
}

#[test]
fn vouchers_pay_the_difference_less_what_is_burned() {
    let (mut chain, id) = open();
    assert_eq!(gain(&mut chain, PAYEE, PAYEE, settle(voucher(PAYER, id, 10 * ARK))), 97 * ARK / 10);
    assert_eq!(
        gain(&mut chain, PAYEE, PAYEE, settle(voucher(PAYER, id, 30 * ARK))),
        194 * ARK / 10
    );
    for stale in [30 * ARK, 29 * ARK, 0] {
        let result = chain.act(PAYEE, channel(settle(voucher(PAYER, id, stale))));
        assert_eq!(result, Err(Failure::VoucherStale));
    }
    let much = chain.act(PAYEE, channel(settle(voucher(PAYER, id, 100 * ARK + 1))));
    assert_eq!(much, Err(Failure::Overdrawn));
    // The last one closes, and the rest returns in the same transaction.
    let last = ChannelOp::Settle { voucher: voucher(PAYER, id, 40 * ARK), close: true };
    assert_eq!(gain(&mut chain, PAYEE, PAYER, last), 60 * ARK);
    let gone = chain.act(PAYEE, channel(settle(voucher(PAYER, id, 50 * ARK))));
    assert_eq!(gone, Err(Failure::UnknownChannel));
}

#[test]
fn only_the_payee_settles_and_only_with_the_payer_s_signature() {
    let (mut chain, id) = open();
    let good = voucher(PAYER, id, ARK);
    assert_eq!(chain.act(PAYER, channel(settle(good.clone()))), Err(Failure::NotYours));
    assert_eq!(chain.act(7, channel(settle(good.clone()))), Err(Failure::NotYours));
    let mut forged = good.clone();
    forged.body.total = Atoms(2 * ARK);
    let mut foreign = voucher_body(id, 1);
    foreign.network = NetworkId::new("arknet-other-1").unwrap();
    let bad = [
        voucher(PAYEE, id, ARK),
        voucher(7, id, ARK),
        forged,
        Voucher::by_wallet(foreign, &wallet(PAYER)),
    ];
    for bad in bad {
        let result = chain.act(PAYEE, channel(settle(bad)));
        assert_eq!(result, Err(Failure::VoucherSignature));
    }
    // A voucher for one channel is none for another of the same two.
    let op = ChannelOp::Open {
        payee: address(PAYEE),
        payee_peer: None,
        deposit: Atoms(ARK),
        challenge_ms: DAY,
    };
    let second = Channel::id(&address(PAYER), chain.account(PAYER).nonce);
    chain.act(PAYER, channel(op)).unwrap();
    let mut moved = good;
    moved.body.channel = second;
    assert_eq!(chain.act(PAYEE, channel(settle(moved))), Err(Failure::VoucherSignature));
}

#[test]
fn a_session_pays_within_its_cap_over_all_channels() {
    let (mut chain, id) = open();
    let op = ChannelOp::Open {
        payee: address(7),
        payee_peer: None,
        deposit: Atoms(100 * ARK),
        challenge_ms: DAY,
    };
    chain.act(PAYER, channel(op)).unwrap();
    let other = Channel::id(&address(PAYER), 1);
    let delegation = session_body(&chain);
    let pay = |id, ark| settle(by_session(voucher_body(id, ark), delegation.clone()));
    assert_eq!(chain.act(PAYEE, channel(pay(id, 51))), Err(Failure::SessionCap));
    assert_eq!(chain.act(PAYEE, channel(pay(id, 30))), Ok(None));
    assert_eq!(chain.act(7, channel(pay(other, 21))), Err(Failure::SessionCap));
    assert_eq!(chain.act(7, channel(pay(other, 20))), Ok(None));
    assert_eq!(chain.act(PAYEE, channel(pay(id, 31))), Err(Failure::SessionCap));
    // The wallet itself may go on.
    assert_eq!(chain.act(PAYEE, channel(settle(voucher(PAYER, id, 31 * ARK)))), Ok(None));
    // What a session has spent is remembered as long as its vouchers count, and no longer.
    let digest = Delegation::sign(delegation.clone(), &wallet(PAYER)).digest();
    let spent = |chain: &Chain| chain.read::<arknet_chain::Spending>(&Key::Session(digest));
    assert_eq!(spent(&chain).unwrap().spent, Atoms(50 * ARK));
    chain.wait(3 * HOUR, HOUR / 2);
    assert_eq!(spent(&chain), None);
    assert_eq!(chain.act(PAYEE, channel(pay(id, 32))), Err(Failure::SessionTime));
}

#[test]
fn a_session_pays_only_in_its_time_and_a_little_later() {
    let (mut chain, id) = open();
    let body = session_body(&chain);
    let pay = |ark, change: &dyn Fn(&mut DelegationBody)| {
        let mut body = body.clone();
        change(&mut body);
        channel(settle(by_session(voucher_body(id, ark), body)))
    };
    let late = body.issued_at.plus_ms(HOUR);
    let future = pay(1, &|b| (b.issued_at, b.expires_at) = (late, late.plus_ms(HOUR)));
    assert_eq!(chain.act(PAYEE, future), Err(Failure::SessionTime));
    let long = pay(1, &|b| b.expires_at = b.issued_at.plus_ms(31 * DAY));
    assert_eq!(chain.act(PAYEE, long), Err(Failure::SessionTime));
    chain.wait(3 * HOUR - 10 * SECOND, 3 * HOUR - 10 * SECOND);
    assert_eq!(chain.act(PAYEE, pay(1, &|_| {})), Ok(None), "within the grace");
    chain.wait(10 * SECOND, 10 * SECOND);
    assert_eq!(chain.act(PAYEE, pay(2, &|_| {})), Err(Failure::SessionTime));
}

#[test]
fn a_session_pays_only_whom_and_for_what_it_may() {
    let (mut chain, id) = open();
    // The peer it may pay, the model it may pay for, the model that was paid for.
    type Case = (Option<PublicKey>, Option<&'static str>, Option<&'static str>, bool);
    let cases: [Case; 6] = [
        (Some(wallet(PEER).public()), None, None, true),
        (Some(wallet(61).public()), None, None, false),
        (None, Some("m"), Some("m"), true),
        (None, Some("m"), Some("n"), false),
        (None, Some("m"), None, false),
        (None, None, Some("n"), true),
    ];
    for (ark, (peer, scope, paid, good)) in (1..).zip(cases) {
        let name = |text: Option<&str>| text.map(|text| ModelName::new(text).unwrap());
        let body =
            DelegationBody { peer_scope: peer, model_scope: name(scope), ..session_body(&chain) };
        let paying = VoucherBody { model: name(paid), ..voucher_body(id, ark) };
        let expected = if good { Ok(None) } else { Err(Failure::SessionScope) };
        assert_eq!(chain.act(PAYEE, channel(settle(by_session(paying, body)))), expected);
    }
}

#[test]
fn a_session_is_the_payer_s_own_and_on_this_chain() {
    let (mut chain, id) = open();
    let good = by_session(voucher_body(id, 1), session_body(&chain));
    let with = |change: &dyn Fn(&mut DelegationBody), signer: u8, session: u8| {
        let mut body = session_body(&chain);
        body.wallet = wallet(signer).public();
        change(&mut body);
        let delegation = Delegation::sign(body, &wallet(signer));
        Voucher::by_session(voucher_body(id, 1), delegation, &wallet(session))
    };
    let mut raised = good.clone();
    if let arknet_chain::Authority::Session(delegation) = &mut raised.authority {
        delegation.body.spending_cap = Atoms(u64::MAX);
    }
    let bad = [
        with(&|_| {}, 7, SESSION),
        with(&|_| {}, PAYER, 51),
        with(&|b| b.network = NetworkId::new("arknet-other-1").unwrap(), PAYER, SESSION),
        raised,
    ];
    for bad in bad {
        let result = chain.act(PAYEE, channel(settle(bad)));
        assert_eq!(result, Err(Failure::VoucherSignature));
    }
    assert_eq!(chain.act(PAYEE, channel(settle(good))), Ok(None));
}

#[test]
fn both_close_at_once() {
    for (sender, other) in [(PAYER, PAYEE), (PAYEE, PAYER)] {
        let (mut chain, id) = open();
        chain.act(PAYEE, channel(settle(voucher(PAYER, id, 10 * ARK)))).unwrap();
        let low = chain.act(sender, channel(together(other, id, 9 * ARK)));
        assert_eq!(low, Err(Failure::VoucherStale));
        let high = chain.act(sender, channel(together(other, id, 101 * ARK)));
        assert_eq!(high, Err(Failure::Overdrawn));
        let own = chain.act(sender, channel(together(sender, id, 20 * ARK)));
        assert_eq!(own, Err(Failure::VoucherSignature));
        let stranger = chain.act(7, channel(together(other, id, 20 * ARK)));
        assert_eq!(stranger, Err(Failure::NotYours));
        let abroad = CloseAgreement {
            network: NetworkId::new("x").unwrap(),
            channel: id,
            total: Atoms(20 * ARK),
        };
        let signature = wallet(other).sign(Domain::CHANNEL_CLOSE, &abroad);
        let key = wallet(other).public();
        let op = ChannelOp::CloseTogether { agreement: abroad, key, signature };
        assert_eq!(chain.act(sender, channel(op)), Err(Failure::VoucherSignature));
        let close = together(other, id, 20 * ARK);
        assert_eq!(gain(&mut chain, sender, PAYER, close), 80 * ARK);
    }
}

#[test]
fn the_payer_closes_alone_after_the_payee_s_time_to_answer() {
    let (mut chain, id) = open();
    let (start, finish) =
        (ChannelOp::StartClose { channel: id }, ChannelOp::Finish { channel: id });
    assert_eq!(chain.act(PAYEE, channel(start.clone())), Err(Failure::NotYours));
    assert_eq!(chain.act(PAYER, channel(finish.clone())), Err(Failure::TooEarly));
    assert_eq!(chain.act(PAYER, channel(start.clone())), Ok(None));
    assert_eq!(chain.act(PAYER, channel(start)), Err(Failure::Closing));
    let more = ChannelOp::TopUp { channel: id, amount: Atoms(1) };
    assert_eq!(chain.act(PAYER, channel(more)), Err(Failure::Closing));
    chain.wait(DAY - 10 * SECOND, DAY - 10 * SECOND);
    assert_eq!(chain.act(PAYER, channel(finish.clone())), Err(Failure::TooEarly));
    // The payee answers with what it holds.
    assert_eq!(chain.act(PAYEE, channel(settle(voucher(PAYER, id, 70 * ARK)))), Ok(None));
    chain.wait(10 * SECOND, 10 * SECOND);
    assert_eq!(chain.act(7, channel(finish.clone())), Err(Failure::NotYours));
    assert_eq!(gain(&mut chain, PAYER, PAYER, finish), 30 * ARK);
}

#[test]
fn a_channel_is_opened_and_filled_by_its_payer() {
    let (mut chain, id) = open();
    let open = |payee: u8, deposit: u64, challenge_ms: u64| {
        channel(ChannelOp::Open {
            payee: address(payee),
            payee_peer: None,
            deposit: Atoms(deposit),
            challenge_ms,
        })
    };
    assert_eq!(chain.act(PAYER, open(PAYER, 1, DAY)), Err(Failure::Same));
    assert_eq!(chain.act(PAYER, open(PAYEE, 0, DAY)), Err(Failure::Zero));
    assert_eq!(chain.act(PAYER, open(PAYEE, u64::MAX, DAY)), Err(Failure::Balance));
    assert_eq!(chain.act(PAYER, open(PAYEE, 1, HOUR - 1)), Err(Failure::Time));
    assert_eq!(chain.act(PAYER, open(PAYEE, 1, 7 * DAY + 1)), Err(Failure::Time));
    let fill = |amount| channel(ChannelOp::TopUp { channel: id, amount: Atoms(amount) });
    assert_eq!(chain.act(PAYEE, fill(1)), Err(Failure::NotYours));
    assert_eq!(chain.act(PAYER, fill(0)), Err(Failure::Zero));
    assert_eq!(chain.act(PAYER, fill(u64::MAX)), Err(Failure::Balance));
    assert_eq!(chain.act(PAYER, fill(5 * ARK)), Ok(None));
    assert_eq!(chain.read::<Channel>(&Key::Channel(id)).unwrap().rest(), Atoms(105 * ARK));
    let nowhere = channel(ChannelOp::TopUp { channel: Hash::ZERO, amount: Atoms(1) });
    assert_eq!(chain.act(PAYER, nowhere), Err(Failure::UnknownChannel));
}

#[test]
fn a_payee_decides_by_the_same_rules_before_it_works() {
    let now = Timestamp(1_000_000);
    let channel = Channel {
        payer: address(PAYER),
        payee: Address([9; 20]),
        payee_peer: None,
        deposit: Atoms(100),
        settled: Atoms(40),
        challenge_ms: 1,
        closes_at: None,
    };
    let id = Hash([3; 32]);
    let worth =
        |total| channel.worth(&network(), &id, &voucher(PAYER, id, total), Atoms::ZERO, now);
    assert_eq!(worth(60).unwrap().amount, Atoms(20));
    assert_eq!(worth(40), Err(VoucherError::Stale));
    assert_eq!(worth(101), Err(VoucherError::Overdrawn));
}
