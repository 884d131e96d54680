use std::collections::BTreeMap;

use arknet_chain::{
    Account, Action, Block, CommitCertificate, CommitSignature, Evidence, Failure, Genesis,
    GenesisValidator, Hash, Header, Ingredients, Key, MemoryState, Meta, Node, Outcome, Param,
    Params, Parent, QuoteFacts, QuoteVerifier, Role, SignedTransaction, SignedVote, TcbStatus,
    TeeClaim, TransactionBody, ValidatorSet, VerifiedTransaction, build_block, execute_block, read,
    state_root, which_hold,
};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, Timestamp};

pub(crate) const ARK: u64 = Atoms::PER_ARK;
pub(crate) const SECOND: u64 = 1_000;
pub(crate) const HOUR: u64 = 3_600 * SECOND;
pub(crate) const DAY: u64 = 24 * HOUR;

/// Takes the bytes of a quote for what it says, and those of its collateral for when it ends.
struct Quotes;

impl QuoteVerifier for Quotes {
    fn verify(&self, claim: &TeeClaim, _now: Timestamp) -> Option<QuoteFacts> {
        Some(QuoteFacts {
            report_data: claim.quote.clone().try_into().ok()?,
            measurement: Hash([4; 32]),
            tcb: TcbStatus::SwHardeningNeeded,
            expires_at: Timestamp(u64::from_le_bytes(claim.collateral.clone().try_into().ok()?)),
        })
    }
}

pub(crate) const QUOTES: &dyn QuoteVerifier = &Quotes;

/// A chain in memory with all the keys of its people.
pub(crate) struct Chain {
    pub(crate) state: MemoryState,
    pub(crate) tip: Hash,
    /// The certificate of the tip.
    pub(crate) commit: Option<CommitCertificate>,
    pub(crate) headers: Vec<Header>,
    /// Validators that sign nothing.
    pub(crate) silent: Vec<Address>,
    /// Price that transactions offer for one gas.
    pub(crate) fee_max: Atoms,
    pub(crate) tip_price: Atoms,
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("arknet-test-1").unwrap()
}

/// Somebody's wallet.
pub(crate) fn wallet(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n; 32])
}

pub(crate) fn address(n: u8) -> Address {
    wallet(n).public().address()
}

/// The consensus key of the validator that `n` operates.
pub(crate) fn consensus_key(n: u8) -> KeyPair {
    let mut seed = [n; 32];
    seed[0] = 0xcc;
    KeyPair::from_seed(&seed)
}

/// The consensus key of an operator.
pub(crate) fn key_of(operator: &Address) -> KeyPair {
    consensus_key((0..=u8::MAX).find(|n| address(*n) == *operator).unwrap())
}

/// Validators 1 to `count` of weight 10, and accounts 1 to 20 with a million ARK each.
pub(crate) fn genesis(count: u8) -> Genesis {
    let validator = |n| GenesisValidator {
        operator: address(n),
        key: consensus_key(n).public(),
        weight: 10,
        stake: Atoms::ZERO,
    };
    Genesis {
        network: network(),
        time: Timestamp(1_700_000_000_000),
        params: Params::default(),
        validators: (1..=count).map(validator).collect(),
        allocations: (1..=20).map(|n| (address(n), Atoms(1_000_000 * ARK))).collect(),
    }
}

impl Chain {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let (changes, root) = genesis.state().unwrap();
        let mut state = MemoryState::default();
        state.apply(changes);
        assert_eq!(state_root(&state), root);
        Self {
            state,
            tip: genesis.id(),
            commit: None,
            headers: Vec::new(),
            silent: Vec::new(),
            fee_max: Atoms(1_000),
            tip_price: Atoms(1),
        }
    }

    /// A chain that is past its bootstrap period, whose four validators have stake.
    pub(crate) fn grown_up() -> Self {
        let mut genesis = genesis(4);
        genesis.params.set(Param::BootstrapMs, 0).unwrap();
        for validator in &mut genesis.validators {
            validator.stake = Atoms(200_000 * ARK);
        }
        Self::new(&genesis)
    }

    pub(crate) fn parent(&self) -> Parent<'_, MemoryState> {
        Parent { view: &self.state, id: self.tip }
    }

    pub(crate) fn read<T: borsh::BorshDeserialize>(&self, key: &Key) -> Option<T> {
        read(&self.state, key)
    }

    pub(crate) fn meta(&self) -> Meta {
        self.read(&Key::Meta).unwrap()
    }

    pub(crate) fn account(&self, n: u8) -> Account {
        self.read(&Key::Account(address(n))).unwrap_or_default()
    }

    pub(crate) fn balance(&self, n: u8) -> u64 {
        self.account(n).balance.0
    }

    pub(crate) fn node(&self, role: Role, n: u8) -> Option<Node> {
        self.read(&Key::Node(role, address(n)))
    }

    pub(crate) fn validators(&self) -> ValidatorSet {
        self.read(&Key::Validators).unwrap()
    }

    pub(crate) fn is_validator(&self, n: u8) -> bool {
        self.validators().find(&address(n)).is_some()
    }

    pub(crate) fn body(&self, n: u8, action: Action) -> TransactionBody {
        TransactionBody {
            network: network(),
            signer: wallet(n).public(),
            nonce: self.account(n).nonce,
            gas_limit: 1_000_000,
            fee_max: self.fee_max,
            tip: self.tip_price,
            action,
        }
    }

    pub(crate) fn sign(&self, n: u8, action: Action) -> VerifiedTransaction {
        SignedTransaction::sign(self.body(n, action), &wallet(n)).verify().unwrap()
    }

    /// The time of the tip.
    pub(crate) fn now(&self) -> Timestamp {
        self.meta().time
    }

    pub(crate) fn ingredients(
        &self,
        after_ms: u64,
        transactions: Vec<VerifiedTransaction>,
    ) -> Ingredients<Vec<VerifiedTransaction>> {
        let presence = self.read(&Key::Presence).unwrap_or_default();
        let set = self.validators();
        Ingredients {
            time: self.now().plus_ms(after_ms),
            proposer: set.proposer(self.meta().height + 1, 0, &presence).operator,
            commit: self.commit.clone(),
            evidence: vec![],
            transactions,
        }
    }

    /// The next block with these transactions, one second later.
    pub(crate) fn block(&mut self, transactions: Vec<VerifiedTransaction>) -> Vec<Outcome> {
        self.block_after(SECOND, transactions)
    }

    pub(crate) fn block_after(
        &mut self,
        after_ms: u64,
        transactions: Vec<VerifiedTransaction>,
    ) -> Vec<Outcome> {
        let count = transactions.len();
        let outcomes = self.commit(self.ingredients(after_ms, transactions));
        assert_eq!(outcomes.len(), count, "all of them apply");
        outcomes
    }

    /// The next block with this evidence.
    pub(crate) fn accuse(&mut self, evidence: Vec<Evidence>) -> usize {
        let ingredients = Ingredients { evidence, ..self.ingredients(SECOND, vec![]) };
        self.commit(ingredients);
        self.headers.len()
    }

    /// Builds a block, executes it as every other validator would, and commits it.
    pub(crate) fn commit(
        &mut self,
        ingredients: Ingredients<Vec<VerifiedTransaction>>,
    ) -> Vec<Outcome> {
        let voters = self.validators();
        let (block, built) = build_block(&self.parent(), ingredients, QUOTES).unwrap();
        let bytes = arknet_types::encode(&block.clone().into_block());
        let received = Block::parse(&bytes).unwrap().verify(which_hold).unwrap();
        assert_eq!(received, block, "a block survives its travel");
        let executed = execute_block(&self.parent(), &received, QUOTES).unwrap();
        assert_eq!(executed, built, "who proposes and who votes come to the same");
        self.state.apply(executed.changes);
        assert_eq!(state_root(&self.state), block.header.state_root);
        assert_eq!(self.validators(), executed.next_validators);
        self.tip = block.header.id();
        let Header { height, .. } = block.header;
        self.commit = Some(self.certificate(&voters, height, self.tip));
        self.headers.push(block.header);
        executed.outcomes
    }

    /// The certificate of those who are not silent.
    pub(crate) fn certificate(
        &self,
        set: &ValidatorSet,
        height: u64,
        block: Hash,
    ) -> CommitCertificate {
        let mut certificate = CommitCertificate { height, round: 0, block, signatures: vec![] };
        let members = set.members().iter().map(|v| v.operator);
        let mut signers: Vec<Address> = members.filter(|v| !self.silent.contains(v)).collect();
        signers.sort();
        for validator in signers {
            let vote = certificate.vote(&network(), validator);
            let signature = SignedVote::sign(vote, &key_of(&validator)).signature;
            certificate.signatures.push(CommitSignature { validator, signature });
        }
        certificate
    }

    /// One action in a block of its own.
    pub(crate) fn act(&mut self, n: u8, action: Action) -> Result<Option<u64>, Failure> {
        let transaction = self.sign(n, action);
        self.block(vec![transaction])[0].result
    }

    /// Blocks without anything, `step_ms` apart, until `total_ms` have passed.
    pub(crate) fn wait(&mut self, total_ms: u64, step_ms: u64) {
        for _ in 0..total_ms.div_ceil(step_ms) {
            self.block_after(step_ms, vec![]);
        }
    }
}

/// The accounts that tests look at, with what they have.
pub(crate) fn balances(chain: &Chain) -> BTreeMap<u8, u64> {
    (1..=20).map(|n| (n, chain.balance(n))).collect()
}
