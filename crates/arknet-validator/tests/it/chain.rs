use arknet_chain::{
    Account, Action, CommitCertificate, CommitSignature, Executed, Genesis, GenesisValidator, Hash,
    Ingredients, Key, MemoryState, NoQuotes, Param, Params, Parent, SignedTransaction, SignedVote,
    TransactionBody, ValidatorSet, VerifiedBlock, VerifiedTransaction, build_block, read,
};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, Timestamp, encode};
use arknet_validator::{Store, StoreCommit, StoreError};

pub(crate) const ARK: u64 = Atoms::PER_ARK;

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
    KeyPair::from_seed(&[n ^ 0x80; 32])
}

/// Validators 1 to `count`, and accounts 1 to 20 with a million ARK each, at a time.
pub(crate) fn genesis_at(count: u8, time: Timestamp) -> Genesis {
    let validator = |n| GenesisValidator {
        operator: address(n),
        key: consensus_key(n).public(),
        weight: 10,
        stake: Atoms(200_000 * ARK),
    };
    let mut params = Params::default();
    params.set(Param::BootstrapMs, 0).unwrap();
    Genesis {
        network: network(),
        time,
        params,
        validators: (1..=count).map(validator).collect(),
        allocations: (1..=20).map(|n| (address(n), Atoms(1_000_000 * ARK))).collect(),
    }
}

pub(crate) fn genesis(count: u8) -> Genesis {
    genesis_at(count, Timestamp(1_700_000_000_000))
}

/// A chain that goes on in memory, whose blocks are to be kept by stores.
pub(crate) struct Chain {
    pub(crate) state: MemoryState,
    pub(crate) tip: Hash,
    pub(crate) commit: Option<CommitCertificate>,
}

/// A block that was decided.
#[derive(Clone)]
pub(crate) struct Decided {
    pub(crate) block: VerifiedBlock,
    pub(crate) executed: Executed,
    pub(crate) certificate: CommitCertificate,
}

impl Decided {
    pub(crate) fn height(&self) -> u64 {
        self.block.header.height
    }

    pub(crate) fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let block = encode(&self.block.clone().into_block());
        store.commit(&StoreCommit {
            header: &self.block.header,
            block: &block,
            certificate: &self.certificate,
            executed: &self.executed,
        })
    }
}

impl Chain {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let mut state = MemoryState::default();
        state.apply(genesis.state().unwrap().0);
        Self { state, tip: genesis.id(), commit: None }
    }

    pub(crate) fn read<T: borsh::BorshDeserialize>(&self, key: &Key) -> Option<T> {
        read(&self.state, key)
    }

    pub(crate) fn account(&self, n: u8) -> Account {
        self.read(&Key::Account(address(n))).unwrap_or_default()
    }

    pub(crate) fn validators(&self) -> ValidatorSet {
        self.read(&Key::Validators).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        let meta: arknet_chain::Meta = self.read(&Key::Meta).unwrap();
        meta.time
    }

    /// Signed as the next one of an account, `later` behind that.
    pub(crate) fn sign(&self, n: u8, later: u64, action: Action) -> SignedTransaction {
        let body = TransactionBody {
            network: network(),
            signer: wallet(n).public(),
            nonce: self.account(n).nonce + later,
            gas_limit: 1_000_000,
            fee_max: Atoms(1_000),
            tip: Atoms(1),
            action,
        };
        SignedTransaction::sign(body, &wallet(n))
    }

    pub(crate) fn pay(&self, from: u8, later: u64, to: u8) -> SignedTransaction {
        self.sign(from, later, Action::Transfer { to: address(to), amount: Atoms(7) })
    }

    /// The next block, one second later, signed by all.
    pub(crate) fn block(&mut self, transactions: Vec<SignedTransaction>) -> Decided {
        let voters = self.validators();
        let transactions: Vec<VerifiedTransaction> =
            transactions.into_iter().map(|one| one.verify().unwrap()).collect();
        let count = transactions.len();
        let ingredients = Ingredients {
            time: self.now().plus_ms(1_000),
            proposer: voters.members()[0].operator,
            commit: self.commit.clone(),
            evidence: vec![],
            transactions,
        };
        let parent = Parent { view: &self.state, id: self.tip };
        let (block, executed) = build_block(&parent, ingredients, &NoQuotes).unwrap();
        assert_eq!(block.body.transactions.len(), count, "all of them apply");
        self.state.apply(executed.changes.clone());
        self.tip = block.header.id();
        let certificate = certificate(&voters, block.header.height, self.tip);
        self.commit = Some(certificate.clone());
        Decided { block, executed, certificate }
    }

    /// The next block, in which each of 1 to `count` pays its neighbour.
    pub(crate) fn busy_block(&mut self, count: u8) -> Decided {
        let payments = (1..=count).map(|n| self.pay(n, 0, n % 20 + 1)).collect();
        self.block(payments)
    }
}

fn certificate(set: &ValidatorSet, height: u64, block: Hash) -> CommitCertificate {
    let mut certificate = CommitCertificate { height, round: 0, block, signatures: vec![] };
    let mut signers: Vec<Address> = set.members().iter().map(|v| v.operator).collect();
    signers.sort();
    for validator in signers {
        let key = (0..=u8::MAX).find(|n| address(*n) == validator).map(consensus_key).unwrap();
        let vote = certificate.vote(&network(), validator);
        let signature = SignedVote::sign(vote, &key).signature;
        certificate.signatures.push(CommitSignature { validator, signature });
    }
    certificate
}
