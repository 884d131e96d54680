//! Random operations, done by the ledger and by its naive reference.

use std::collections::BTreeMap;

use arknet_chain::{
    Action, Channel, ChannelOp, Choice, CloseAgreement, Effect, Escrow, EscrowOp, Genesis, Hash,
    Key, ModelFacts, Node, Param, ProposalBody, Role, SignedTransaction, StakeOp, TeeClaim,
    TeePlatform, VerifiedTransaction, Voucher, VoucherBody,
};
use arknet_types::{Address, Atoms, Domain, ModelDigest, ModelName, Timestamp};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    chain::{ARK, Chain, DAY, HOUR, SECOND, address, consensus_key, genesis, network, wallet},
    reference::Reference,
};

/// One action of every kind, each of which account 5 might sign.
pub(crate) fn every_kind() -> Vec<Action> {
    let (role, node, amount) = (Role::Compute, address(5), Atoms(50_000 * ARK));
    let key = Some(consensus_key(5).public());
    vec![
        Action::Transfer { to: address(6), amount: Atoms(1) },
        Action::Burn { amount: Atoms(1) },
        Action::Stake(StakeOp::Deposit { role, node, amount, key }),
        Action::Stake(StakeOp::Withdraw { role, node, amount }),
        Action::Stake(StakeOp::CompleteUnbond { role, id: 1 }),
        Action::Stake(StakeOp::Redelegate { role, from: node, to: address(6), amount }),
        Action::Stake(StakeOp::ClaimRewards { role, node }),
        Action::Stake(StakeOp::Retire { role }),
        Action::Stake(StakeOp::Unjail { role }),
        escrow(EscrowOp::Lock { payee: address(6), amount, job: JOB, timeout: Timestamp(TIMEOUT) }),
        escrow(EscrowOp::Release { job: JOB, amount }),
        escrow(EscrowOp::Claim { payer: address(6), job: JOB, voucher: voucher(6, JOB, 7) }),
        escrow(EscrowOp::Refund { job: JOB }),
        channel(ChannelOp::Open {
            payee: address(6),
            payee_peer: Some(wallet(60).public()),
            deposit: amount,
            challenge_ms: DAY,
        }),
        channel(ChannelOp::TopUp { channel: JOB, amount }),
        channel(ChannelOp::Settle { voucher: voucher(6, JOB, 7), close: true }),
        channel(together(6, JOB, 7)),
        channel(ChannelOp::StartClose { channel: JOB }),
        channel(ChannelOp::Finish { channel: JOB }),
        Action::RegisterModel(Box::new(facts())),
        Action::DeregisterModel(facts().digest),
        Action::RegisterTee(Box::new(tee(5))),
        propose(Effect::Text),
        Action::Vote { proposal: 1, choice: Choice::Yes },
        Action::Reward(vec![crate::rewards::receipt(5, 6, 7, Timestamp(TIMEOUT))]),
    ]
}

pub(crate) fn facts() -> ModelFacts {
    ModelFacts {
        digest: ModelDigest([9; 32]),
        name: ModelName::new("Qwen/Qwen3-0.6B-Q8_0").unwrap(),
        size_bytes: 637_000_000,
        mirrors: vec!["https://models.example/a.gguf".into()],
        licence: "Apache-2.0".into(),
    }
}

/// An enclave of account `n` whose quote says what it must, for a day from the genesis.
pub(crate) fn tee(n: u8) -> TeeClaim {
    let key = wallet(70).public();
    let quote = [&key.0[..], &address(n).0, &[0; 12]].concat();
    let collateral = TIMEOUT.to_le_bytes().to_vec();
    TeeClaim { platform: TeePlatform::Tdx, key, quote, collateral }
}

pub(crate) fn propose(effect: Effect) -> Action {
    let body = ProposalBody { title: "t".into(), text: "x".into(), effect };
    Action::Propose(Box::new(body))
}

const JOB: Hash = Hash([7; 32]);
/// A day after the genesis of the tests.
const TIMEOUT: u64 = 1_700_000_000_000 + DAY;

pub(crate) fn escrow(op: EscrowOp) -> Action {
    Action::Escrow(Box::new(op))
}

pub(crate) fn channel(op: ChannelOp) -> Action {
    Action::Channel(Box::new(op))
}

/// A voucher of a wallet.
pub(crate) fn voucher(payer: u8, channel: Hash, total: u64) -> Voucher {
    let body = VoucherBody { network: network(), channel, total: Atoms(total), model: None };
    Voucher::by_wallet(body, &wallet(payer))
}

/// An agreement that the other side has signed.
pub(crate) fn together(other: u8, channel: Hash, total: u64) -> ChannelOp {
    let agreement = CloseAgreement { network: network(), channel, total: Atoms(total) };
    let signature = wallet(other).sign(Domain::CHANNEL_CLOSE, &agreement);
    ChannelOp::CloseTogether { agreement, key: wallet(other).public(), signature }
}

/// The same with the largest numbers that it can hold.
pub(crate) fn with_largest_numbers(action: Action) -> Action {
    let amount = Atoms(u64::MAX);
    match action {
        Action::Transfer { to, .. } => Action::Transfer { to, amount },
        Action::Burn { .. } => Action::Burn { amount },
        Action::Stake(op) => Action::Stake(match op {
            StakeOp::Deposit { role, node, key, .. } => {
                StakeOp::Deposit { role, node, amount, key }
            }
            StakeOp::Withdraw { role, node, .. } => StakeOp::Withdraw { role, node, amount },
            StakeOp::CompleteUnbond { role, .. } => StakeOp::CompleteUnbond { role, id: u64::MAX },
            StakeOp::Redelegate { role, from, to, .. } => {
                StakeOp::Redelegate { role, from, to, amount }
            }
            other => other,
        }),
        Action::Escrow(op) => escrow(match *op {
            EscrowOp::Lock { payee, job, .. } => {
                EscrowOp::Lock { payee, amount, job, timeout: Timestamp(u64::MAX) }
            }
            EscrowOp::Release { job, .. } => EscrowOp::Release { job, amount },
            EscrowOp::Claim { payer, job, .. } => {
                EscrowOp::Claim { payer, job, voucher: voucher(6, job, u64::MAX) }
            }
            other => other,
        }),
        Action::Channel(op) => channel(match *op {
            ChannelOp::Open { payee, payee_peer, .. } => {
                ChannelOp::Open { payee, payee_peer, deposit: amount, challenge_ms: u64::MAX }
            }
            ChannelOp::TopUp { channel, .. } => ChannelOp::TopUp { channel, amount },
            ChannelOp::Settle { .. } => {
                ChannelOp::Settle { voucher: voucher(6, JOB, u64::MAX), close: true }
            }
            ChannelOp::CloseTogether { .. } => together(6, JOB, u64::MAX),
            other => other,
        }),
        Action::RegisterModel(facts) => {
            Action::RegisterModel(Box::new(ModelFacts { size_bytes: u64::MAX, ..*facts }))
        }
        Action::Propose(_) => propose(Effect::Spend { to: address(5), amount }),
        Action::Vote { choice, .. } => Action::Vote { proposal: u64::MAX, choice },
        Action::Reward(_) => {
            Action::Reward(vec![crate::rewards::receipt(5, 6, u64::MAX, Timestamp(u64::MAX))])
        }
        other @ (Action::DeregisterModel(_) | Action::RegisterTee(_)) => other,
    }
}

const ROLES: [Role; 4] = [Role::Validator, Role::Compute, Role::Verifier, Role::Worker];
/// Accounts that act: the genesis' validators are among them.
const PEOPLE: u8 = 7;

/// One operation, as numbers that chance draws.
#[derive(Clone, Copy, Debug)]
struct Op {
    who: u8,
    kind: u8,
    node: u8,
    other: u8,
    role: u8,
    amount: u8,
    id: u8,
    wrong: u8,
    pause: u8,
}

fn op() -> impl Strategy<Value = Op> {
    let people = 1..=PEOPLE;
    let first = (people.clone(), 0_u8..32, people.clone(), people, 0_u8..4, any::<u8>());
    (first, 0_u8..6, any::<u8>(), any::<u8>()).prop_map(
        |((who, kind, node, other, role, amount), id, wrong, pause)| Op {
            who,
            kind,
            node,
            other,
            role,
            amount,
            id,
            wrong,
            pause,
        },
    )
}

impl Op {
    fn amount(&self) -> Atoms {
        let n = u64::from(self.amount);
        Atoms(match self.amount % 8 {
            0 => n,
            1 | 2 => n * ARK,
            3 => 50_000 * ARK + n,
            4 => 100_000 * ARK + n,
            5 => 1_000 * n * ARK,
            6 => 333_333_333_333 + n,
            _ if n > 250 => u64::MAX - n,
            _ => 7 * n * ARK / 3,
        })
    }

    /// An operation that may well succeed: about something that is there, by whom it belongs to.
    fn aimed(&self, naive: &Reference) -> Option<(Address, Action)> {
        let amount = self.amount();
        let pick = usize::from(self.id) * 8 + usize::from(self.node);
        Some(match self.kind {
            7 | 8 | 11..=13 | 15 => {
                let (role, node, owner, worth) = *pick_from(&naive.stakes(), pick)?;
                let part = Atoms(if self.amount.is_multiple_of(2) { worth } else { worth / 3 + 1 });
                let to = address(self.other);
                let op = match self.kind {
                    7 | 8 => StakeOp::Withdraw { role, node, amount: part },
                    11 | 12 => StakeOp::Redelegate { role, from: node, to, amount: part },
                    13 => StakeOp::Deposit { role, node, amount, key: None },
                    _ => StakeOp::ClaimRewards { role, node },
                };
                (owner, Action::Stake(op))
            }
            9 | 10 => {
                let (owner, id, role) = *pick_from(&naive.leavings(), pick)?;
                (owner, Action::Stake(StakeOp::CompleteUnbond { role, id }))
            }
            18..=21 => {
                let (payer, job, payee, locked) = *pick_from(&naive.locked(), pick)?;
                let cost = u64::from(self.amount) * (locked / 250);
                let by_payer = EscrowOp::Release { job, amount: Atoms(cost) };
                match self.kind {
                    18 => (payer, escrow(by_payer)),
                    19 | 20 => {
                        let voucher = voucher(number(&payer), Escrow::id(&payer, &job), cost);
                        (payee, escrow(EscrowOp::Claim { payer, job, voucher }))
                    }
                    _ => (payer, escrow(EscrowOp::Refund { job })),
                }
            }
            25..=31 => {
                let (id, payer, payee, deposit, settled) = *pick_from(&naive.open(), pick)?;
                let total = settled + u64::from(self.amount) * ((deposit - settled) / 250);
                let sides = if self.id.is_multiple_of(2) { (payer, payee) } else { (payee, payer) };
                match self.kind {
                    25 => (payer, channel(ChannelOp::TopUp { channel: id, amount })),
                    26..=28 => {
                        let close = self.id == 0;
                        let voucher = voucher(number(&payer), id, total);
                        (payee, channel(ChannelOp::Settle { voucher, close }))
                    }
                    29 => (sides.0, channel(together(number(&sides.1), id, total))),
                    30 => (payer, channel(ChannelOp::StartClose { channel: id })),
                    _ => (sides.0, channel(ChannelOp::Finish { channel: id })),
                }
            }
            _ => return None,
        })
    }

    /// An operation by whoever, about whatever.
    fn blind(&self, now: Timestamp) -> Action {
        let (role, amount, to) =
            (ROLES[usize::from(self.role)], self.amount(), address(self.other));
        let node = address(if self.node.is_multiple_of(2) { self.who } else { self.node });
        let (job, total) = (Hash([self.id % 3; 32]), Atoms(amount.0 / 2));
        let id = Channel::id(&address(self.node), u64::from(self.id));
        let hours = u64::from(self.amount);
        Action::Stake(match self.kind {
            0 | 1 => return Action::Transfer { to, amount },
            2 => return Action::Burn { amount: Atoms(amount.0 % (10 * ARK)) },
            3..=6 | 13 => {
                let own = node == address(self.who);
                let key = (own && self.id != 5).then(|| consensus_key(self.who).public());
                StakeOp::Deposit { role, node, amount, key }
            }
            7 | 8 => StakeOp::Withdraw { role, node, amount },
            9 | 10 => StakeOp::CompleteUnbond { role, id: self.id.into() },
            11 | 12 => StakeOp::Redelegate { role, from: node, to, amount },
            14 if self.amount < 150 => StakeOp::Retire { role },
            14 => StakeOp::Unjail { role },
            15 => StakeOp::ClaimRewards { role, node },
            16 | 17 => {
                let timeout = now.plus_ms(hours * HOUR);
                return escrow(EscrowOp::Lock { payee: to, amount, job, timeout });
            }
            18 => return escrow(EscrowOp::Release { job, amount: total }),
            19 | 20 => {
                let voucher = voucher(self.node, Escrow::id(&address(self.node), &job), total.0);
                return escrow(EscrowOp::Claim { payer: address(self.node), job, voucher });
            }
            21 => return escrow(EscrowOp::Refund { job }),
            22..=24 => {
                let challenge_ms = hours * HOUR;
                let open =
                    ChannelOp::Open { payee: to, payee_peer: None, deposit: amount, challenge_ms };
                return channel(open);
            }
            25 => return channel(ChannelOp::TopUp { channel: id, amount }),
            26..=28 => {
                let voucher = voucher(self.node, id, total.0);
                return channel(ChannelOp::Settle { voucher, close: self.amount > 200 });
            }
            29 => return channel(together(self.node, id, total.0)),
            30 => return channel(ChannelOp::StartClose { channel: id }),
            _ => return channel(ChannelOp::Finish { channel: id }),
        })
    }

    fn draw(&self, naive: &Reference, now: Timestamp) -> (u8, Action) {
        let aimed = (self.wrong < 220).then(|| self.aimed(naive)).flatten();
        aimed
            .map_or_else(|| (self.who, self.blind(now)), |(owner, action)| (number(&owner), action))
    }

    /// The time from the block before, where this begins a block.
    fn pause(&self) -> Option<u64> {
        match self.pause {
            0..=99 => None,
            100..=199 => Some(SECOND),
            200..=229 => Some(HOUR),
            230..=249 => Some(DAY),
            _ => Some(8 * DAY),
        }
    }
}

fn pick_from<T>(list: &[T], at: usize) -> Option<&T> {
    list.get(at.checked_rem(list.len())?)
}

/// Whose address it is.
fn number(owner: &Address) -> u8 {
    (1..=20).find(|n| address(*n) == *owner).unwrap()
}

/// Both ledgers, side by side, and how often an action was done and not done.
struct Pair {
    done: BTreeMap<String, (u32, u32)>,
    real: Chain,
    naive: Reference,
    waiting: Vec<VerifiedTransaction>,
    pause: u64,
}

impl Pair {
    fn new(genesis: &Genesis) -> Self {
        let (real, naive) = (Chain::new(genesis), Reference::new(genesis));
        Self { done: BTreeMap::new(), real, naive, waiting: vec![], pause: SECOND }
    }

    fn add(&mut self, op: &Op) {
        if let Some(pause) = op.pause() {
            self.close();
            self.pause = pause;
        }
        let (who, action) = op.draw(&self.naive, self.real.now());
        let mut body = self.real.body(who, action);
        let before = self.waiting.iter().filter(|one| one.signer() == address(who));
        body.nonce += before.count() as u64;
        match op.wrong {
            0 => body.nonce += 1,
            1 => body.nonce = body.nonce.wrapping_sub(1),
            2 => body.fee_max = Atoms::ZERO,
            3 => body.tip = Atoms(1 << 32),
            _ => {}
        }
        let signed = SignedTransaction::sign(body, &wallet(who));
        self.waiting.push(signed.verify().unwrap());
    }

    /// Ends the block and compares everything.
    fn close(&mut self) {
        let list = std::mem::take(&mut self.waiting);
        let ingredients = self.real.ingredients(self.pause, list.clone());
        let proposer = ingredients.proposer;
        self.naive.begin(ingredients.time.0);
        let outcomes = self.real.commit(ingredients);
        let mut outcomes = outcomes.into_iter().peekable();
        for one in &list {
            let body = one.body();
            let price = (body.fee_max.0, body.tip.0);
            let answer = self.naive.transaction(one.signer(), body.nonce, price, &body.action);
            let outcome = outcomes.next_if(|outcome| outcome.id == one.id());
            let found = outcome.map(|outcome| outcome.result.map_err(drop));
            assert_eq!(found, answer, "{body:?} {outcome:?}");
            if let Some(answer) = found {
                let (done, not) = self.done.entry(kind(&body.action)).or_default();
                *if answer.is_ok() { done } else { not } += 1;
            }
        }
        assert_eq!(outcomes.next(), None);
        self.naive.end(proposer);
        self.compare();
    }

    fn compare(&self) {
        let meta = self.real.meta();
        assert_eq!(u128::from(meta.base_fee.0), self.naive.base_fee);
        assert_eq!(u128::from(meta.minted.0), self.naive.minted);
        assert_eq!(u128::from(meta.burned.0), self.naive.burned);
        assert_eq!(u128::from(meta.treasury.0), self.naive.treasury);
        let staked: u128 = self.naive.places.values().map(|place| place.staked).sum();
        assert_eq!(u128::from(meta.bonded.0), staked);
        for (owner, person) in &self.naive.people {
            let account: arknet_chain::Account =
                self.real.read(&Key::Account(*owner)).unwrap_or_default();
            let found = (u128::from(account.balance.0), account.nonce);
            assert_eq!(found, (person.money, person.nonce), "{owner}");
        }
        for role in ROLES {
            for n in 1..=PEOPLE {
                let node: Option<Node> = self.real.node(role, n);
                let place = self.naive.places.get(&(role, address(n)));
                let found = node.map(|node| {
                    let Node { bonded, unbonding, rewards, .. } = node;
                    let money = [bonded.tokens, unbonding.tokens, rewards].map(|a| u128::from(a.0));
                    (money, bonded.shares)
                });
                let expected = place.map(|p| ([p.staked, p.leaving, p.rewards], p.shares()));
                assert_eq!(found, expected, "{role:?} {n}");
            }
        }
        for (id, naive) in &self.naive.channels {
            let channel: Option<Channel> = self.real.read(&Key::Channel(*id));
            assert_eq!(channel.map(|c| (c.deposit, c.settled)), *naive);
        }
        for ((payer, job), naive) in &self.naive.escrows {
            let escrow: Option<Escrow> = self.real.read(&Key::Escrow(*payer, *job));
            assert_eq!(escrow.map(|e| e.amount), *naive);
        }
        let set = self.real.validators();
        let set: Vec<(Address, u128)> =
            set.members().iter().map(|v| (v.operator, u128::from(v.power))).collect();
        assert_eq!(set, self.naive.set);
    }
}

/// The name of an action, or of the operation in it.
fn kind(action: &Action) -> String {
    let text = format!("{action:?}");
    let text =
        text.strip_prefix("Stake(").or_else(|| text.strip_prefix("Escrow(")).unwrap_or(&text);
    let text = text.strip_prefix("Channel(").unwrap_or(text);
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Operations in one run.
const OPS: usize = 120;

fn check(ops: &[Op], bootstrap: bool) -> BTreeMap<String, (u32, u32)> {
    let mut genesis = genesis(3);
    if !bootstrap {
        genesis.params.set(Param::BootstrapMs, 0).unwrap();
        for validator in &mut genesis.validators {
            validator.stake = Atoms(150_000 * ARK);
        }
    }
    let mut pair = Pair::new(&genesis);
    for op in ops {
        pair.add(op);
    }
    pair.close();
    pair.done
}

/// How many runs: `make ledger` asks for more.
fn runs() -> u32 {
    let ops = std::env::var_os("ARKNET_LEDGER_OPS").and_then(|n| n.to_str()?.parse().ok());
    let ops: usize = ops.unwrap_or(30 * OPS);
    u32::try_from(ops.div_ceil(OPS)).unwrap()
}

/// Every kind of operation is done at times and fails at times: were it never done, agreeing on it
/// would prove nothing.
#[test]
fn the_ledger_and_its_naive_reference_agree() {
    let config =
        ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let total = std::cell::RefCell::new(BTreeMap::<String, (u32, u32)>::new());
    let runs = (prop::collection::vec(op(), OPS), any::<bool>());
    runner
        .run(&runs, |(ops, bootstrap)| {
            for (kind, (done, not)) in check(&ops, bootstrap) {
                let mut total = total.borrow_mut();
                let sum = total.entry(kind).or_default();
                *sum = (sum.0 + done, sum.1 + not);
            }
            Ok(())
        })
        .unwrap();
    let total = total.into_inner();
    println!("{total:?}");
    for kind in [
        "Transfer",
        "Burn",
        "Deposit",
        "Withdraw",
        "CompleteUnbond",
        "Redelegate",
        "ClaimRewards",
        "Retire",
        "Lock",
        "Release",
        "Claim",
        "Refund",
        "Open",
        "TopUp",
        "Settle",
        "CloseTogether",
        "StartClose",
        "Finish",
    ] {
        let (done, _) = total.get(kind).copied().unwrap_or_default();
        assert!(done >= 2, "{kind} is hardly ever done: {done}");
    }
}
