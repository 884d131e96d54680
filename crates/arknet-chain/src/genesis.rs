use std::collections::BTreeMap;

use arknet_types::{Address, Atoms, NetworkId, PublicKey, Timestamp};
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};

use crate::{
    Changes, Hash, Key, Param, ParamError, Params, StateView, Validator, ValidatorSet, governance,
    hash::Purpose,
    ledger::Ledger,
    limits::{GENESIS_BYTES_MAX, GENESIS_WEIGHT_MAX, VALIDATORS_MAX},
    records::{Account, Node, Role, Stake},
};

/// What a chain begins with.
#[derive(BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// The chain's name.
    pub network: NetworkId,
    /// When it begins; the first block is later.
    pub time: Timestamp,
    /// The parameters.
    pub params: Params,
    /// Who votes on the first block.
    pub validators: Vec<GenesisValidator>,
    /// Money that is there from the beginning. A network that people are to trust has none.
    pub allocations: BTreeMap<Address, Atoms>,
}

/// A validator of the beginning.
#[derive(BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct GenesisValidator {
    /// The account that answers for it.
    pub operator: Address,
    /// Its consensus key.
    pub key: PublicKey,
    /// Its weight while the bootstrap period lasts.
    pub weight: u64,
    /// Stake from the beginning, made from nothing like an allocation.
    pub stake: Atoms,
}

/// Why a document is no genesis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Not the JSON that is expected.
    #[error("not a genesis document: {0}")]
    Malformed(String),
    /// More than may ever be made.
    #[error("the genesis makes more money than may ever be")]
    Money,
    /// A parameter that there is not, or a value out of its range.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// More bytes than allowed.
    #[error("a genesis document has {GENESIS_BYTES_MAX} bytes at most")]
    TooLarge,
    /// No validators, too many, or one twice.
    #[error("a genesis needs 1 to {VALIDATORS_MAX} validators, each of its own operator and key")]
    Validators,
    /// A weight of zero or above the limit.
    #[error("a validator's weight lies between 1 and {GENESIS_WEIGHT_MAX}")]
    Weight,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    network: NetworkId,
    time_ms: u64,
    #[serde(default)]
    params: BTreeMap<String, u64>,
    validators: Vec<DocumentValidator>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    danger_allocations: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DocumentValidator {
    operator: String,
    key: String,
    weight: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    danger_stake: Option<String>,
}

impl Genesis {
    /// Reads a genesis document.
    pub fn parse(text: &str) -> Result<Self, GenesisError> {
        if text.len() > GENESIS_BYTES_MAX {
            return Err(GenesisError::TooLarge);
        }
        let malformed = |what: &str| GenesisError::Malformed(what.to_owned());
        let document: Document = serde_json::from_str(text)
            .map_err(|error| GenesisError::Malformed(error.to_string()))?;
        let address =
            |text: &str| text.parse::<Address>().map_err(|error| malformed(&error.to_string()));
        let atoms = |text: &str| {
            text.parse().map(Atoms).map_err(|_| malformed("amounts are whole atoms, as text"))
        };
        let mut validators = Vec::new();
        for one in document.validators {
            let mut key = [0; 32];
            hex::decode_to_slice(&one.key, &mut key)
                .map_err(|_| malformed("a validator's key is 64 hex digits"))?;
            validators.push(GenesisValidator {
                operator: address(&one.operator)?,
                key: PublicKey(key),
                weight: one.weight,
                stake: one.danger_stake.as_deref().map_or(Ok(Atoms::ZERO), atoms)?,
            });
        }
        let mut allocations = BTreeMap::new();
        for (owner, amount) in &document.danger_allocations {
            allocations.insert(address(owner)?, atoms(amount)?);
        }
        let genesis = Self {
            network: document.network,
            time: Timestamp(document.time_ms),
            params: Params::from_named(&document.params)?,
            validators,
            allocations,
        };
        genesis.state().map(|_| genesis)
    }

    /// The document, from which [`Genesis::parse`] makes the same.
    ///
    /// # Panics
    /// Never: it is text and numbers.
    #[must_use]
    pub fn to_json(&self) -> String {
        let atoms = |amount: &Atoms| amount.0.to_string();
        let validator = |v: &GenesisValidator| DocumentValidator {
            operator: v.operator.to_string(),
            key: hex::encode(v.key.0),
            weight: v.weight,
            danger_stake: (v.stake > Atoms::ZERO).then(|| atoms(&v.stake)),
        };
        let params =
            Param::ALL.iter().map(|param| (param.name().to_owned(), self.params.of(*param)));
        let allocations = self.allocations.iter();
        let document = Document {
            network: self.network.clone(),
            time_ms: self.time.0,
            params: params.collect(),
            validators: self.validators.iter().map(validator).collect(),
            danger_allocations: allocations.map(|(to, of)| (to.to_string(), atoms(of))).collect(),
        };
        serde_json::to_string_pretty(&document).expect("text and numbers")
    }

    /// The document's name, which is the parent of the first block.
    #[must_use]
    pub fn id(&self) -> Hash {
        Hash::of(Purpose::GENESIS, self)
    }

    /// The state before the first block, as changes to nothing, and its root.
    pub fn state(&self) -> Result<(Changes, Hash), GenesisError> {
        let mut ledger = Ledger::new(&Nothing);
        ledger.set_params(self.params.clone());
        let least = self.params.atoms(Param::BaseFeeMin);
        let meta = ledger.meta_mut();
        meta.began = self.time;
        meta.time = self.time;
        meta.bootstrap = self.params.of(Param::BootstrapMs) > 0;
        // Nobody has money at first; who pays nothing must be able to act.
        meta.base_fee = if meta.bootstrap { Atoms::ZERO } else { least };
        ledger.write(&Key::Network, &self.network);
        for (owner, amount) in &self.allocations {
            ledger.mint(*amount).map_err(|_| GenesisError::Money)?;
            ledger
                .write(&Key::Account(*owner), &Account { balance: *amount, ..Account::default() });
        }
        for validator in &self.validators {
            self.enrol(&mut ledger, validator)?;
        }
        ledger.write(&Key::Validators, &self.validator_set()?);
        Ok(ledger.finish())
    }

    /// The set that votes on the first block.
    pub(crate) fn validator_set(&self) -> Result<ValidatorSet, GenesisError> {
        let bootstrap = self.params.of(Param::BootstrapMs) > 0;
        let member = |v: &GenesisValidator| {
            let staked = v.stake.0.checked_div(Atoms::PER_ARK).unwrap_or_default();
            let power = staked.saturating_add(if bootstrap { v.weight } else { 0 }).max(1);
            Validator { operator: v.operator, key: v.key, power }
        };
        let set = ValidatorSet::new(self.validators.iter().map(member).collect());
        set.ok_or(GenesisError::Validators)
    }

    fn enrol(
        &self,
        ledger: &mut Ledger<'_, Nothing>,
        validator: &GenesisValidator,
    ) -> Result<(), GenesisError> {
        let GenesisValidator { operator, key, weight, stake } = *validator;
        if !(1..=GENESIS_WEIGHT_MAX).contains(&weight) {
            return Err(GenesisError::Weight);
        }
        let mut node = Node::new(key, weight);
        ledger.mint(stake).map_err(|_| GenesisError::Money)?;
        let shares = node.bonded.join(stake).map_err(|_| GenesisError::Money)?;
        if shares > 0 {
            let record = Stake { shares, reward_index: 0 };
            ledger.write(&Key::Stake(operator, Role::Validator, operator), &record);
            governance::note_stake(ledger, &operator, |_| stake);
            let account = Account { stakes: 1, ..ledger.account(&operator) };
            ledger.set_account(&operator, &account);
        }
        ledger.write(&Key::Node(Role::Validator, operator), &node);
        ledger.write(&Key::ConsensusKey(key), &operator);
        let meta = ledger.meta_mut();
        meta.bonded = meta.bonded.checked_add(stake).ok_or(GenesisError::Money)?;
        meta.validator_nodes = meta.validator_nodes.saturating_add(1);
        Ok(())
    }
}

/// The state before there is any.
struct Nothing;

impl StateView for Nothing {
    fn value(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn first(&self, _: &[u8], _: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        None
    }

    fn page(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests;
