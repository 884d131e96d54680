//! Random operations, done by the ledger and by its naive reference.

use arknet_chain::{
    Action, Genesis, Key, Node, Param, Role, SignedTransaction, StakeOp, VerifiedTransaction,
};
use arknet_types::{Address, Atoms};
use proptest::prelude::*;

use crate::{
    chain::{ARK, Chain, DAY, HOUR, SECOND, address, consensus_key, genesis, wallet},
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
    ]
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
    let first = (people.clone(), 0_u8..16, people.clone(), people, 0_u8..4, any::<u8>());
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

    fn action(&self) -> Action {
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
        let mut body = self.real.body(op.who, op.action());
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
