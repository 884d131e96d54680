//! Models and enclaves that somebody vouches for.

use std::io;

use arknet_types::{
    Address, Atoms, ModelDigest, ModelName, PublicKey, Timestamp, decode_list, decode_text,
};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Failure, Hash, Key, Param, StateView,
    hash::Purpose,
    ledger::Ledger,
    limits::{
        COLLATERAL_BYTES_MAX, LICENCE_BYTES_MAX, MIRROR_BYTES_MAX, MIRRORS_MAX, QUOTE_BYTES_MAX,
    },
    records::Due,
};

/// What is said of a model file.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ModelFacts {
    /// SHA-256 of the file.
    pub digest: ModelDigest,
    /// What people call it.
    pub name: ModelName,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Where it can be had.
    #[borsh(deserialize_with = "mirrors")]
    pub mirrors: Vec<String>,
    /// Under which licence, as SPDX names it.
    #[borsh(deserialize_with = "decode_text::<_, LICENCE_BYTES_MAX>")]
    pub licence: String,
}

fn mirrors<R: io::Read>(reader: &mut R) -> io::Result<Vec<String>> {
    let mirrors = decode_list::<_, Mirror, MIRRORS_MAX>(reader)?;
    Ok(mirrors.into_iter().map(|mirror| mirror.0).collect())
}

#[derive(BorshDeserialize)]
struct Mirror(#[borsh(deserialize_with = "decode_text::<_, MIRROR_BYTES_MAX>")] String);

/// A registered model.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Model {
    /// What is said of it.
    pub facts: ModelFacts,
    /// Who says it.
    pub registrant: Address,
    /// What is at stake for that; nothing once it is accepted.
    pub deposit: Atoms,
    /// Since when.
    pub registered_at: Timestamp,
    /// Whether nobody threw it out in its time.
    pub accepted: bool,
}

pub(crate) fn register<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    registrant: &Address,
    facts: &ModelFacts,
) -> Result<(), Failure> {
    let key = Key::Model(facts.digest);
    if ledger.read::<Model>(&key).is_some() {
        return Err(Failure::Exists);
    }
    if facts.size_bytes == 0 {
        return Err(Failure::Zero);
    }
    let deposit = ledger.params().atoms(Param::ModelDeposit);
    ledger.debit(registrant, deposit)?;
    let registered_at = ledger.now();
    let model = Model {
        facts: facts.clone(),
        registrant: *registrant,
        deposit,
        registered_at,
        accepted: false,
    };
    ledger.write(&key, &model);
    let at = registered_at.plus_ms(ledger.param(Param::ModelReviewMs));
    ledger.schedule(at, &Due::ModelReview { digest: facts.digest, registered_at });
    Ok(())
}

/// Takes a model back, with what is left of its deposit.
pub(crate) fn deregister<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    registrant: &Address,
    digest: &ModelDigest,
) -> Result<(), Failure> {
    let key = Key::Model(*digest);
    let model: Model = ledger.read(&key).ok_or(Failure::UnknownModel)?;
    if model.registrant != *registrant {
        return Err(Failure::NotYours);
    }
    ledger.remove(&key);
    ledger.credit(registrant, model.deposit)
}

/// Nobody threw it out in its time: it is accepted.
pub(crate) fn review<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    digest: &ModelDigest,
    registered_at: Timestamp,
) {
    let model: Option<Model> = ledger.read(&Key::Model(*digest));
    if model.is_some_and(|model| model.registered_at == registered_at) {
        decide(ledger, digest, true).expect("the model is there, and all money fits");
    }
}

/// Accepts a model and returns its deposit, or throws it out and burns what is left of it.
pub(crate) fn decide<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    digest: &ModelDigest,
    accept: bool,
) -> Result<(), Failure> {
    let key = Key::Model(*digest);
    let mut model: Model = ledger.read(&key).ok_or(Failure::UnknownModel)?;
    let deposit = std::mem::take(&mut model.deposit);
    if accept {
        ledger.credit(&model.registrant, deposit)?;
        model.accepted = true;
        ledger.write(&key, &model);
    } else {
        ledger.burn(deposit);
        ledger.remove(&key);
    }
    Ok(())
}

/// Whose enclave signed a quote.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum TeePlatform {
    /// Intel TDX.
    Tdx,
    /// Intel SGX.
    Sgx,
    /// AMD SEV-SNP.
    SevSnp,
}

/// An enclave that an account says it runs.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct TeeClaim {
    /// The vendor's technology.
    pub platform: TeePlatform,
    /// The key that never leaves the enclave.
    pub key: PublicKey,
    /// The vendor's signature chain over what runs there.
    #[borsh(deserialize_with = "bytes::<_, QUOTE_BYTES_MAX>")]
    pub quote: Vec<u8>,
    /// What is needed to check it: certificates, revocations, versions.
    #[borsh(deserialize_with = "bytes::<_, COLLATERAL_BYTES_MAX>")]
    pub collateral: Vec<u8>,
}

fn bytes<R: io::Read, const MAX: usize>(reader: &mut R) -> io::Result<Vec<u8>> {
    decode_list::<_, u8, MAX>(reader)
}

/// How far a machine has the vendor's fixes, as the vendor says. What is not here does not count.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum TcbStatus {
    /// All of them.
    UpToDate,
    /// All, and some flaws are only closed by how the enclave itself is built.
    SwHardeningNeeded,
    /// All, and some flaws are only closed by settings that the quote does not show.
    ConfigurationNeeded,
    /// Both of these.
    ConfigurationAndSwHardeningNeeded,
    /// The vendor publishes no judgement that could be carried with a quote.
    Unrated,
}

/// What a quote that was checked to the vendor's root says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuoteFacts {
    /// The 64 bytes that the enclave chose.
    pub report_data: [u8; 64],
    /// The hash of what runs there.
    pub measurement: Hash,
    /// How far the machine has the vendor's fixes.
    pub tcb: TcbStatus,
    /// When the collateral ends.
    pub expires_at: Timestamp,
}

/// Checks quotes. What it says must depend on its arguments alone, for every validator asks it.
pub trait QuoteVerifier {
    /// What a good quote says; none where it does not lead to the vendor's root at `now`.
    fn verify(&self, claim: &TeeClaim, now: Timestamp) -> Option<QuoteFacts>;
}

/// Takes no quote: for chains on which nobody registers an enclave.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoQuotes;

impl QuoteVerifier for NoQuotes {
    fn verify(&self, _: &TeeClaim, _: Timestamp) -> Option<QuoteFacts> {
        None
    }
}

/// A registered enclave.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tee {
    /// The vendor's technology.
    pub platform: TeePlatform,
    /// The hash of the quote, which is in the transaction.
    pub quote: Hash,
    /// The hash of what it was checked with.
    pub collateral: Hash,
    /// The hash of what runs there.
    pub measurement: Hash,
    /// How far the machine had the vendor's fixes.
    pub tcb: TcbStatus,
    /// When it was checked.
    pub verified_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Timestamp,
}

pub(crate) fn register_tee<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    quotes: &dyn QuoteVerifier,
    owner: &Address,
    claim: &TeeClaim,
) -> Result<(), Failure> {
    let now = ledger.now();
    let facts = quotes.verify(claim, now).ok_or(Failure::Quote)?;
    // The enclave itself says whose key it holds: a quote that somebody copied says another's.
    let mut expected = [0; 64];
    expected[..32].copy_from_slice(&claim.key.0);
    expected[32..52].copy_from_slice(&owner.0);
    if facts.report_data != expected || facts.expires_at <= now {
        return Err(Failure::Quote);
    }
    let tee = Tee {
        platform: claim.platform,
        quote: Hash::of_bytes(Purpose::QUOTE, &claim.quote),
        collateral: Hash::of_bytes(Purpose::QUOTE, &claim.collateral),
        measurement: facts.measurement,
        tcb: facts.tcb,
        verified_at: now,
        expires_at: facts.expires_at,
    };
    ledger.write(&Key::Tee(*owner, claim.key), &tee);
    Ok(())
}
