//! Random operations, done by the ledger and by its naive reference.

use arknet_chain::{
    Action, Channel, ChannelOp, Choice, CloseAgreement, Effect, Escrow, EscrowOp, Genesis, Hash,
    Key, ModelFacts, Node, Param, ProposalBody, Role, SignedTransaction, StakeOp, TeeClaim,
    TeePlatform, VerifiedTransaction, Voucher, VoucherBody,
};
use arknet_types::{Address, Atoms, Domain, ModelDigest, ModelName, Timestamp};
use proptest::prelude::*;

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

    /// Something about money that is locked: channels are opened by few nonces and jobs have few
    /// names, so that operations meet.
    fn payment(&self, now: Timestamp) -> Action {
        let (amount, payee) = (self.amount(), address(self.other));
        let job = Hash([self.id % 3; 32]);
        let id = Channel::id(&address(self.node), u64::from(self.id));
        let total = Atoms(amount.0 / 2);
        match self.kind {
            16 | 17 => {
                let timeout = now.plus_ms(u64::from(self.amount) * HOUR);
                escrow(EscrowOp::Lock { payee, amount, job, timeout })
            }
            18 => escrow(EscrowOp::Release { job, amount: total }),
            19 | 20 => {
                let name = Escrow::id(&address(self.node), &job);
                let voucher = voucher(self.node, name, total.0);
                escrow(EscrowOp::Claim { payer: address(self.node), job, voucher })
            }
            21 => escrow(EscrowOp::Refund { job }),
            22..=24 => {
                let challenge_ms = u64::from(self.amount) * HOUR;
                channel(ChannelOp::Open { payee, payee_peer: None, deposit: amount, challenge_ms })
            }
            25 => channel(ChannelOp::TopUp { channel: id, amount }),
            26..=28 => {
                let close = self.amount > 200;
                channel(ChannelOp::Settle { voucher: voucher(self.node, id, total.0), close })
            }
            29 => channel(together(self.node, id, total.0)),
            30 => channel(ChannelOp::StartClose { channel: id }),
            _ => channel(ChannelOp::Finish { channel: id }),
        }
    }

    fn action(&self, now: Timestamp) -> Action {
        if self.kind >= 16 {
            return self.payment(now);
        }
        let (role, amount) = (ROLES[usize::from(self.role)], self.amount());
        // Mostly one's own node, or the first: where nothing meets, nothing is tested.
        let node = address(match self.node % 3 {
            0 => self.who,
            1 => 1,
            _ => self.node,
        });
        let to = address(self.other);
        let key = self.id.is_multiple_of(2).then(|| consensus_key(self.who).public());
        Action::Stake(match self.kind {
            0 | 1 => return Action::Transfer { to, amount },
            2 if self.amount < 200 => return Action::Burn { amount },
            3..=6 => {
                let key = key.filter(|_| node == address(self.who));
                StakeOp::Deposit { role, node, amount, key }
            }
            7 | 8 => StakeOp::Withdraw { role, node, amount },
            9 | 10 => StakeOp::CompleteUnbond { role, id: self.id.into() },
            11 | 12 => StakeOp::Redelegate { role, from: node, to, amount },
            13 if self.amount < 80 => StakeOp::Retire { role },
            14 if self.amount < 40 => StakeOp::Unjail { role },
            _ => StakeOp::ClaimRewards { role, node },
        })
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

/// Both ledgers, side by side.
struct Pair {
    real: Chain,
    naive: Reference,
    waiting: Vec<VerifiedTransaction>,
    pause: u64,
}

impl Pair {
    fn new(genesis: &Genesis) -> Self {
        let (real, naive) = (Chain::new(genesis), Reference::new(genesis));
        Self { real, naive, waiting: vec![], pause: SECOND }
    }

    fn add(&mut self, op: &Op) {
        if let Some(pause) = op.pause() {
            self.close();
            self.pause = pause;
        }
        let mut body = self.real.body(op.who, op.action(self.real.now()));
        let before = self.waiting.iter().filter(|one| one.signer() == address(op.who));
        body.nonce += before.count() as u64;
        match op.wrong {
            0 => body.nonce += 1,
            1 => body.nonce = body.nonce.wrapping_sub(1),
            2 => body.fee_max = Atoms::ZERO,
            3 => body.tip = Atoms(1 << 32),
            _ => {}
        }
        let signed = SignedTransaction::sign(body, &wallet(op.who));
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

/// Operations in one run.
const OPS: usize = 120;

fn check(ops: &[Op], bootstrap: bool) {
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
}

/// How many runs: `make ledger` asks for more.
fn runs() -> u32 {
    let ops = std::env::var_os("ARKNET_LEDGER_OPS").and_then(|n| n.to_str()?.parse().ok());
    let ops: usize = ops.unwrap_or(40 * OPS);
    u32::try_from(ops.div_ceil(OPS)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_and_its_naive_reference_agree(
        ops in prop::collection::vec(op(), OPS),
        bootstrap in any::<bool>(),
    ) {
        check(&ops, bootstrap);
    }
}
