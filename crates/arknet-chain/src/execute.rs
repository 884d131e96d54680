//! One block applied to the state of its parent.

use arknet_types::{Address, Atoms, NetworkId, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Action, CertificateError, Changes, CommitCertificate, Evidence, Failure, Hash, Header,
    Inapplicable, Key, Meta, Node, Param, QuoteVerifier, StateView, TransactionBody, ValidatorSet,
    VerifiedBlock, VerifiedTransaction,
    block::Body,
    duties, emission, governance,
    ledger::Ledger,
    limits::{BLOCK_BYTES_MAX, EVIDENCE_PER_BLOCK_MAX, TRANSACTIONS_PER_BLOCK_MAX},
    models,
    outcomes::outcomes_root,
    payments,
    records::Role,
    stake,
};

/// The state a block is applied to, and the name of the block that left it: the genesis document's
/// hash before the first.
#[derive(Debug)]
pub struct Parent<'a, V> {
    /// The state.
    pub view: &'a V,
    /// The block.
    pub id: Hash,
}

/// What a block comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Executed {
    /// What to write.
    pub changes: Changes,
    /// What became of each transaction, in order.
    pub outcomes: Vec<Outcome>,
    /// The set that votes on the next block.
    pub next_validators: ValidatorSet,
    /// Whether that is another set than the one that voted on this.
    pub validators_changed: bool,
}

/// What became of a transaction in a block.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Which transaction.
    pub id: Hash,
    /// Gas it took.
    pub gas: u64,
    /// What it paid for it.
    pub fee: Atoms,
    /// Whether its action was done, and the number of what it made, if that has one.
    pub result: Result<Option<u64>, Failure>,
}

/// Why a block is invalid: no honest validator votes for it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The block does not hold what its header names: somebody changed it on its way.
    #[error("the block's {field} are not what its header names")]
    Body {
        /// The first part that differs.
        field: &'static str,
    },
    /// The certificate of the parent is missing, superfluous, about another block, or worth nothing.
    #[error("the parent's certificate is not in the block as it must be")]
    Commit,
    /// The certificate of the parent proves nothing.
    #[error("the parent's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Evidence that proves nothing, or nothing new.
    #[error("evidence {index} does not prove anything new")]
    Evidence {
        /// Which.
        index: usize,
    },
    /// The header does not say what executing the block comes to.
    #[error("the header's {field} is not what the block comes to")]
    Header {
        /// The first field that differs.
        field: &'static str,
    },
    /// The proposer is not in the set.
    #[error("{0} is no validator at this height")]
    Proposer(Address),
    /// A transaction's signature does not match.
    #[error("the signature of transaction {index} does not match")]
    Signature {
        /// Which.
        index: usize,
    },
    /// The block is not later than its parent.
    #[error("a block must be later than its parent")]
    Time,
    /// More of something than a block may hold.
    #[error("the block is too large")]
    TooLarge,
    /// A transaction that cannot be in this block.
    #[error("transaction {index}: {reason}")]
    Transaction {
        /// Which.
        index: usize,
        /// Why.
        reason: Inapplicable,
    },
}

/// Applies `block` to its parent's state: what proposer, voter, committer and whoever replays the
/// chain all call. The same arguments give the same answer anywhere.
pub fn execute_block<'a, V: StateView>(
    parent: &Parent<'a, V>,
    block: &VerifiedBlock,
    quotes: &'a dyn QuoteVerifier,
) -> Result<Executed, BlockError> {
    let VerifiedBlock { header, body } = block;
    if body.transactions.len() > TRANSACTIONS_PER_BLOCK_MAX
        || body.evidence.len() > EVIDENCE_PER_BLOCK_MAX
    {
        return Err(BlockError::TooLarge);
    }
    let inputs = (header.time, header.proposer, body.commit.as_ref());
    let mut run = Run::begin(parent, inputs, quotes)?;
    for (index, evidence) in body.evidence.iter().enumerate() {
        run.punish(evidence).ok_or(BlockError::Evidence { index })?;
    }
    run.do_what_is_due();
    for (index, transaction) in body.transactions.iter().enumerate() {
        let outcome = run.transaction(transaction);
        let outcome = outcome.map_err(|reason| BlockError::Transaction { index, reason })?;
        run.outcomes.push(outcome);
    }
    let (found, executed) = run.finish(body);
    match first_difference(header, &found) {
        Some(field) => Err(BlockError::Header { field }),
        None => Ok(executed),
    }
}

/// What goes into a new block.
#[derive(Clone, Debug)]
pub struct Ingredients<T> {
    /// Its time, which must be later than its parent's.
    pub time: Timestamp,
    /// Who proposes it.
    pub proposer: Address,
    /// Proof that the parent is committed; none for the first block.
    pub commit: Option<CommitCertificate>,
    /// Proofs against validators; what proves nothing new is left out.
    pub evidence: Vec<Evidence>,
    /// Transactions in the order in which they are tried; what does not apply is left out.
    pub transactions: T,
}

/// Makes the next block and executes it.
pub fn build_block<'a, V: StateView>(
    parent: &Parent<'a, V>,
    ingredients: Ingredients<impl IntoIterator<Item = VerifiedTransaction>>,
    quotes: &'a dyn QuoteVerifier,
) -> Result<(VerifiedBlock, Executed), BlockError> {
    let Ingredients { time, proposer, commit, evidence, transactions } = ingredients;
    let mut run = Run::begin(parent, (time, proposer, commit.as_ref()), quotes)?;
    let mut body = Body { commit, ..Body::default() };
    for evidence in evidence.into_iter().take(EVIDENCE_PER_BLOCK_MAX) {
        if run.punish(&evidence).is_some() {
            body.evidence.push(evidence);
        }
    }
    run.do_what_is_due();
    for transaction in transactions {
        if body.transactions.len() == TRANSACTIONS_PER_BLOCK_MAX {
            break;
        }
        match run.transaction(&transaction) {
            Ok(outcome) => {
                run.outcomes.push(outcome);
                body.transactions.push(transaction);
            }
            Err(Inapplicable::Full) => break,
            Err(_) => {}
        }
    }
    let (header, executed) = run.finish(&body);
    Ok((VerifiedBlock { header, body }, executed))
}

fn first_difference(said: &Header, found: &Header) -> Option<&'static str> {
    let same = [
        ("network", said.network == found.network),
        ("height", said.height == found.height),
        ("parent", said.parent == found.parent),
        ("base fee", said.base_fee == found.base_fee),
        ("gas", said.gas_used == found.gas_used),
        ("validators", said.validators == found.validators),
        ("next validators", said.next_validators == found.next_validators),
        ("commit hash", said.commit == found.commit),
        ("evidence hash", said.evidence == found.evidence),
        ("transactions hash", said.transactions == found.transactions),
        ("outcomes", said.outcomes == found.outcomes),
        ("state root", said.state_root == found.state_root),
    ];
    let different = same.iter().find(|(_, same)| !same).map(|(field, _)| *field);
    assert_eq!(different.is_none(), said == found, "every field is compared");
    different
}

/// Bytes of a block that are not transactions: the header, a certificate of the largest set, and
/// the evidence.
const REST_BYTES_MAX: usize = 128 * 1024;

/// A block half way through.
struct Run<'a, V> {
    ledger: Ledger<'a, V>,
    quotes: &'a dyn QuoteVerifier,
    network: NetworkId,
    parent: Hash,
    proposer: Address,
    base_fee: Atoms,
    validators: ValidatorSet,
    tips: Atoms,
    gas_used: u64,
    bytes: usize,
    outcomes: Vec<Outcome>,
}

impl<'a, V: StateView> Run<'a, V> {
    fn begin(
        parent: &Parent<'a, V>,
        (time, proposer, commit): (Timestamp, Address, Option<&CommitCertificate>),
        quotes: &'a dyn QuoteVerifier,
    ) -> Result<Self, BlockError> {
        let mut ledger = Ledger::new(parent.view);
        let network: NetworkId = ledger.read(&Key::Network).expect("a state has its genesis");
        let validators: ValidatorSet =
            ledger.read(&Key::Validators).expect("a state has its genesis");
        let before = *ledger.meta();
        if time <= before.time {
            return Err(BlockError::Time);
        }
        validators.find(&proposer).ok_or(BlockError::Proposer(proposer))?;
        let meta = ledger.meta_mut();
        meta.height = meta.height.saturating_add(1);
        meta.time = time;
        match commit {
            None if before.height == 0 => {}
            Some(commit)
                if before.height > 0
                    && commit.height == before.height
                    && commit.block == parent.id =>
            {
                let voters: ValidatorSet =
                    ledger.read(&Key::LastValidators).expect("written with every block");
                commit.verify(&network, &voters)?;
                duties::take_attendance(&mut ledger, commit, &voters, time.since_ms(before.time));
            }
            _ => return Err(BlockError::Commit),
        }
        duties::end_bootstrap(&mut ledger, validators.members().len());
        ledger.keep();
        Ok(Self {
            ledger,
            quotes,
            network,
            parent: parent.id,
            proposer,
            base_fee: before.base_fee,
            validators,
            tips: Atoms::ZERO,
            gas_used: 0,
            bytes: REST_BYTES_MAX,
            outcomes: Vec::new(),
        })
    }

    /// Takes a two-faced validator's stake and bans it; none where nothing new is proved.
    fn punish(&mut self, evidence: &Evidence) -> Option<()> {
        let operator = evidence.validator();
        let node: Node = self.ledger.read(&Key::Node(Role::Validator, operator))?;
        let height = self.ledger.meta().height;
        if node.banned || !evidence.proves(&self.network, height, node.key) {
            return None;
        }
        duties::ban(&mut self.ledger, operator);
        self.ledger.keep();
        Some(())
    }

    fn do_what_is_due(&mut self) {
        duties::do_what_is_due(&mut self.ledger);
    }

    /// Takes the fee and does what is asked. What fails leaves no trace but fee and nonce.
    fn transaction(&mut self, transaction: &VerifiedTransaction) -> Result<Outcome, Inapplicable> {
        let charge = transaction.charge(&self.network, self.base_fee)?;
        let (body, signer) = (transaction.body(), transaction.signer());
        let gas_used = self.gas_used.saturating_add(charge.gas);
        let bytes = self.bytes.saturating_add(transaction.encoded_bytes());
        if gas_used > self.ledger.param(Param::BlockGasMax) || bytes > BLOCK_BYTES_MAX {
            return Err(Inapplicable::Full);
        }
        let mut account = self.ledger.account(&signer);
        if account.nonce != body.nonce {
            return Err(Inapplicable::Nonce { expected: account.nonce, found: body.nonce });
        }
        let (balance, fee) = (account.balance.0, charge.total.0);
        account.balance = account
            .balance
            .checked_sub(charge.total)
            .ok_or(Inapplicable::Balance { balance, fee })?;
        account.nonce = account.nonce.checked_add(1).ok_or(Inapplicable::Overflow)?;
        let pay = |ledger: &mut Ledger<'_, V>| {
            ledger.set_account(&signer, &account);
            ledger.burn(charge.burned);
        };
        pay(&mut self.ledger);
        self.tips = self.tips.checked_add(charge.tip).expect("tips are money, which fits");
        (self.gas_used, self.bytes) = (gas_used, bytes);
        let result = self.apply(&signer, body);
        if result.is_err() {
            self.ledger.undo();
            pay(&mut self.ledger);
        }
        self.ledger.keep();
        Ok(Outcome { id: transaction.id(), gas: charge.gas, fee: charge.total, result })
    }

    fn apply(&mut self, signer: &Address, body: &TransactionBody) -> Result<Option<u64>, Failure> {
        let (ledger, network) = (&mut self.ledger, &self.network);
        match &body.action {
            Action::Transfer { to, amount } => {
                if *amount == Atoms::ZERO {
                    return Err(Failure::Zero);
                }
                ledger.debit(signer, *amount)?;
                ledger.credit(to, *amount)?;
            }
            Action::Burn { amount } => {
                if *amount == Atoms::ZERO {
                    return Err(Failure::Zero);
                }
                ledger.debit(signer, *amount)?;
                ledger.burn(*amount);
            }
            Action::Stake(op) => return stake::apply(ledger, signer, op),
            Action::Escrow(op) => payments::escrow(ledger, network, signer, op)?,
            Action::Channel(op) => payments::channel(ledger, network, (signer, body.nonce), op)?,
            Action::RegisterModel(facts) => models::register(ledger, signer, facts)?,
            Action::DeregisterModel(digest) => models::deregister(ledger, signer, digest)?,
            Action::RegisterTee(claim) => {
                models::register_tee(ledger, self.quotes, signer, claim)?;
            }
            Action::Propose(proposal) => {
                return governance::propose(ledger, signer, proposal).map(Some);
            }
            Action::Vote { proposal, choice } => {
                governance::vote(ledger, signer, *proposal, *choice)?;
            }
            Action::Reward(receipts) => {
                for receipt in receipts {
                    emission::reward(ledger, network, receipt)?;
                }
            }
        }
        Ok(None)
    }

    fn finish(mut self, body: &Body) -> (Header, Executed) {
        duties::pay_tips(&mut self.ledger, self.proposer, self.tips);
        let base_fee = next_base_fee(&self.ledger, self.gas_used);
        self.ledger.meta_mut().base_fee = base_fee;
        let next = duties::next_set(&self.ledger, &self.validators);
        self.ledger.write(&Key::LastValidators, &self.validators);
        self.ledger.write(&Key::Validators, &next);
        let meta: Meta = *self.ledger.meta();
        let (changes, state_root) = self.ledger.finish();
        let header = Header {
            network: self.network,
            height: meta.height,
            parent: self.parent,
            time: meta.time,
            proposer: self.proposer,
            base_fee: self.base_fee,
            gas_used: self.gas_used,
            validators: self.validators.hash(),
            next_validators: next.hash(),
            state_root,
            outcomes: outcomes_root(&self.outcomes),
            commit: body.commit_hash(),
            evidence: body.evidence_hash(),
            transactions: body.transactions_hash(),
        };
        let validators_changed = next != self.validators;
        let outcomes = self.outcomes;
        (header, Executed { changes, outcomes, next_validators: next, validators_changed })
    }
}

/// The base fee after a block: an eighth up when it was full twice over, an eighth down when it was
/// empty, in between by how far it was from its target.
fn next_base_fee<V: StateView>(ledger: &Ledger<'_, V>, gas_used: u64) -> Atoms {
    let now = ledger.meta().base_fee.0;
    let target = ledger.param(Param::BlockGasTarget);
    let step = |gas: u64| {
        let step = u128::from(now).saturating_mul(u128::from(gas));
        let step = step.checked_div(u128::from(target)).and_then(|step| step.checked_div(8));
        step.and_then(|step| u64::try_from(step).ok()).unwrap_or(u64::MAX)
    };
    let next = match gas_used.checked_sub(target) {
        Some(0) => now,
        // At least one up: nothing grows from zero by an eighth.
        Some(over) => now.saturating_add(step(over).max(1)),
        None => now.saturating_sub(step(target.saturating_sub(gas_used))),
    };
    let least = if ledger.meta().bootstrap { 0 } else { ledger.param(Param::BaseFeeMin) };
    Atoms(next.clamp(least, *Param::BaseFeeMin.range().end()))
}
