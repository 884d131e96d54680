//! Blocks of orders that somebody might really sign: everything but chance is right, so that what
//! executes them is reached.

use std::{collections::BTreeMap, sync::OnceLock};

use arknet_chain::{
    Action, Block, BlockError, Channel, ChannelOp, CloseAgreement, CommitCertificate,
    CommitSignature, EscrowOp, Hash, Header, Ingredients, Key, MemoryState, Meta, NoQuotes,
    Outcome, Parent, Role, SignedTransaction, SignedVote, StakeOp, TransactionBody, ValidatorSet,
    VerifiedTransaction, Voucher, VoucherBody, build_block, execute_block, read, state_root,
};
use arknet_types::{Address, Atoms, Domain, KeyPair, Signature, Timestamp, encode};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::chain::{beginning, consensus_key, genesis, network, wallet};

const PEOPLE: u8 = 20;
const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 3_600 * SECOND;
/// The channel or job of the vectors, which stands for the channel opened last.
const THAT: Hash = Hash([7; 32]);
/// Blocks of one case.
const BLOCKS_MAX: usize = 64;

/// What somebody orders, and how much later than what came before.
#[derive(BorshDeserialize, BorshSerialize)]
struct Order {
    who: u8,
    pause: u8,
    action: Action,
}

impl Order {
    fn who(&self) -> u8 {
        self.who % PEOPLE + 1
    }

    /// None: in the same block.
    fn pause_ms(&self) -> Option<u64> {
        [None, Some(SECOND), Some(DAY), Some(15 * DAY)][usize::from(self.pause % 4)]
    }
}

/// Stories in which most orders are done. `kinds` are actions of every kind.
pub(crate) fn corpus(kinds: &[Action]) -> Vec<Vec<u8>> {
    let order = |who: u8, pause: u8, action: &Action| {
        encode(&Order { who: who - 1, pause, action: action.clone() })
    };
    let all = |who, pause| kinds.iter().flat_map(|action| order(who, pause, action)).collect();
    let of = |story: &[(u8, u8, Action)]| -> Vec<u8> {
        story.iter().flat_map(|(who, pause, action)| order(*who, *pause, action)).collect()
    };
    let mut corpus: Vec<Vec<u8>> = vec![all(5, 0), all(6, 1), all(5, 2), all(5, 3)];
    corpus.extend([of(&stakes()), of(&payments())]);
    corpus
}

fn stakes() -> Vec<(u8, u8, Action)> {
    let (role, node) = (Role::Validator, wallet(5).public().address());
    let (amount, to) = (Atoms(50_000 * Atoms::PER_ARK), wallet(1).public().address());
    let key = Some(consensus_key(5).public());
    let own = StakeOp::Deposit { role: Role::Validator, node: to, amount, key: None };
    [
        (1, 0, own),
        (5, 1, StakeOp::Deposit { role, node, amount, key }),
        (6, 0, StakeOp::Deposit { role, node, amount, key: None }),
        (6, 2, StakeOp::Redelegate { role, from: node, to, amount }),
        (5, 1, StakeOp::Withdraw { role, node, amount: Atoms(7) }),
        (5, 3, StakeOp::CompleteUnbond { role, id: 1 }),
        (6, 1, StakeOp::ClaimRewards { role, node: to }),
        (6, 1, StakeOp::Withdraw { role, node: to, amount }),
        (5, 1, StakeOp::Retire { role }),
    ]
    .map(|(who, pause, op)| (who, pause, Action::Stake(op)))
    .into()
}

fn payments() -> Vec<(u8, u8, Action)> {
    let (payee, amount) = (wallet(6).public().address(), Atoms(1_000_000));
    let timeout = genesis().time.plus_ms(10 * DAY);
    let escrow = |op| Action::Escrow(Box::new(op));
    let channel = |op| Action::Channel(Box::new(op));
    let open = ChannelOp::Open { payee, payee_peer: None, deposit: amount, challenge_ms: DAY };
    let pay = |total, close| {
        let signed = voucher(&wallet(5), THAT, Atoms(total));
        channel(ChannelOp::Settle { voucher: signed, close })
    };
    let agreement = CloseAgreement { network: network(), channel: THAT, total: Atoms(9) };
    let (key, signature) = (wallet(6).public(), Signature([0; 64]));
    let together = ChannelOp::CloseTogether { agreement, key, signature };
    vec![
        (5, 0, escrow(EscrowOp::Lock { payee, amount, job: THAT, timeout })),
        (5, 0, channel(open.clone())),
        (5, 0, channel(ChannelOp::TopUp { channel: THAT, amount })),
        (6, 1, pay(7, false)),
        (6, 1, pay(9, true)),
        (5, 1, channel(open.clone())),
        (5, 1, channel(ChannelOp::StartClose { channel: THAT })),
        (6, 0, pay(11, false)),
        (5, 2, channel(ChannelOp::Finish { channel: THAT })),
        (5, 1, channel(open)),
        (5, 1, channel(together)),
        (5, 1, escrow(EscrowOp::Release { job: THAT, amount: Atoms(5) })),
        (5, 1, escrow(EscrowOp::Lock { payee, amount, job: Hash([8; 32]), timeout })),
        (5, 3, escrow(EscrowOp::Refund { job: Hash([8; 32]) })),
    ]
}

fn voucher(payer: &KeyPair, channel: Hash, total: Atoms) -> Voucher {
    Voucher::by_wallet(VoucherBody { network: network(), channel, total, model: None }, payer)
}

/// The orders, done in as many blocks as they take; whether all of the bytes were orders.
pub(crate) fn done(bytes: &[u8]) -> bool {
    Chain::new().live(bytes)
}

/// Somebody with keys, which take long to make.
struct Person {
    address: Address,
    wallet: KeyPair,
    voting: KeyPair,
}

fn people() -> &'static [Person] {
    static PEOPLE_OF_ALL_CASES: OnceLock<Vec<Person>> = OnceLock::new();
    PEOPLE_OF_ALL_CASES.get_or_init(|| {
        let person = |n| {
            let wallet = wallet(n);
            Person { address: wallet.public().address(), wallet, voting: consensus_key(n) }
        };
        (1..=PEOPLE).map(person).collect()
    })
}

/// One of them, by number from one on.
fn person(n: u8) -> &'static Person {
    &people()[usize::from(n - 1)]
}

struct Chain {
    state: MemoryState,
    tip: Hash,
    commit: Option<CommitCertificate>,
    blocks: usize,
    pause_ms: u64,
    waiting: Vec<SignedTransaction>,
    nonces: BTreeMap<u8, u64>,
    /// The channel opened last, and by whom.
    opened: Option<(u8, Hash)>,
    outcomes: Vec<Outcome>,
}

impl Chain {
    fn new() -> Self {
        let (state, tip) = beginning().clone();
        Self {
            state,
            tip,
            commit: None,
            blocks: 0,
            pause_ms: SECOND,
            waiting: vec![],
            nonces: BTreeMap::new(),
            opened: None,
            outcomes: vec![],
        }
    }

    fn live(&mut self, mut bytes: &[u8]) -> bool {
        let mut all = true;
        while !bytes.is_empty() {
            let Ok(order) = Order::deserialize(&mut bytes) else {
                all = false;
                break;
            };
            if let Some(pause_ms) = order.pause_ms() {
                if !self.close() {
                    return false;
                }
                self.pause_ms = pause_ms;
            }
            self.add(&order);
        }
        self.close() && all
    }

    fn add(&mut self, order: &Order) {
        let (who, nonce) = (order.who(), self.nonces.entry(order.who()).or_default());
        let person = person(who);
        let mut action = order.action.clone();
        if let Action::Channel(op) = &mut action {
            if matches!(**op, ChannelOp::Open { .. }) {
                self.opened = Some((who, Channel::id(&person.address, *nonce)));
            } else if let Some((payer, id)) = self.opened {
                aim(op, payer, id);
            }
        }
        let body = TransactionBody {
            network: network(),
            signer: person.wallet.public(),
            nonce: *nonce,
            gas_limit: 1_000_000,
            fee_max: Atoms(1_000_000),
            tip: Atoms(1),
            action,
        };
        *nonce += 1;
        self.waiting.push(SignedTransaction { body, signature: Signature([0; 64]) });
    }

    /// Ends the block: who proposes and who votes come to the same.
    fn close(&mut self) -> bool {
        let meta: Meta = read(&self.state, &Key::Meta).expect("there always is one");
        let set: ValidatorSet = read(&self.state, &Key::Validators).expect("so is this");
        let presence = read(&self.state, &Key::Presence).unwrap_or_default();
        let ingredients = Ingredients {
            time: meta.time.plus_ms(self.pause_ms),
            proposer: set.proposer(meta.height + 1, 0, &presence).operator,
            commit: self.commit.take(),
            evidence: vec![],
            transactions: verified(std::mem::take(&mut self.waiting)),
        };
        let parent = Parent { view: &self.state, id: self.tip };
        self.blocks += 1;
        let (block, built) = match build_block(&parent, ingredients, &NoQuotes) {
            Ok(built) => built,
            // Not enough of the keys are known here: somebody else's took over.
            Err(BlockError::Certificate(_)) => return false,
            Err(error) => panic!("a block can always be built: {error}"),
        };
        let received = Block::parse(&encode(&block.into_block())).expect("a block can be read");
        let received = received.verify(|claims| vec![true; claims.len()]).expect("all hold");
        let executed = execute_block(&parent, &received, &NoQuotes).expect("what was built holds");
        assert_eq!(executed, built, "who proposes and who votes come to the same");
        self.outcomes.extend(executed.outcomes);
        self.state.apply(executed.changes);
        assert_eq!(state_root(&self.state), received.header.state_root, "the root of the state");
        self.tip = received.header.id();
        self.commit = Some(certificate(&set, &received.header, self.tip));
        // Some may have been left out.
        for (who, nonce) in &mut self.nonces {
            let account = read(&self.state, &Key::Account(person(*who).address));
            *nonce = account.map_or(0, |account: arknet_chain::Account| account.nonce);
        }
        self.blocks < BLOCKS_MAX
    }
}

/// Signatures aside, which chance does not find.
fn verified(transactions: Vec<SignedTransaction>) -> Vec<VerifiedTransaction> {
    let header = Header {
        network: network(),
        height: 0,
        parent: THAT,
        time: Timestamp(0),
        proposer: Address([0; 20]),
        base_fee: Atoms::ZERO,
        gas_used: 0,
        validators: THAT,
        next_validators: THAT,
        state_root: THAT,
        outcomes: THAT,
        commit: THAT,
        evidence: THAT,
        transactions: THAT,
    };
    let mut block = Block { header, commit: None, evidence: vec![], transactions };
    block.name_body();
    let block = block.verify(|claims| vec![true; claims.len()]).expect("all hold");
    block.body.transactions
}

/// Has what is about the channel of the vectors be about this one, and signed by those it takes.
fn aim(op: &mut ChannelOp, payer: u8, id: Hash) {
    match op {
        ChannelOp::Open { .. } => {}
        ChannelOp::TopUp { channel, .. }
        | ChannelOp::StartClose { channel }
        | ChannelOp::Finish { channel } => {
            if *channel == THAT {
                *channel = id;
            }
        }
        ChannelOp::Settle { voucher: signed, .. } => {
            if signed.body.channel == THAT {
                *signed = voucher(&person(payer).wallet, id, signed.body.total);
            }
        }
        ChannelOp::CloseTogether { agreement, key, signature } => {
            if agreement.channel == THAT {
                agreement.channel = id;
                let other = people().iter().find(|one| one.wallet.public() == *key);
                if let Some(other) = other {
                    *signature = other.wallet.sign(Domain::CHANNEL_CLOSE, agreement);
                }
            }
        }
    }
}

fn certificate(set: &ValidatorSet, header: &Header, block: Hash) -> CommitCertificate {
    let height = header.height;
    let mut certificate = CommitCertificate { height, round: 0, block, signatures: vec![] };
    for validator in set.members() {
        let person = people().iter().find(|one| one.address == validator.operator);
        let key = person.map(|one| &one.voting).filter(|key| key.public() == validator.key);
        let Some(key) = key else { continue };
        let vote = certificate.vote(&network(), validator.operator);
        let signature = SignedVote::sign(vote, key).signature;
        certificate.signatures.push(CommitSignature { validator: validator.operator, signature });
    }
    certificate.signatures.sort_by_key(|one| one.validator);
    certificate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_story_orders_is_done() {
        for story in [stakes(), payments()] {
            let order = |(who, pause, action)| encode(&Order { who: who - 1, pause, action });
            let orders: Vec<Vec<u8>> = story.into_iter().map(order).collect();
            let mut chain = Chain::new();
            assert!(chain.live(&orders.concat()));
            let results: Vec<_> = chain.outcomes.iter().map(|one| one.result).collect();
            assert_eq!(results.len(), orders.len(), "{results:?}");
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
    }
}
