//! Everything that turns bytes of strangers into values.

use std::fmt::Debug;

use arknet_engine::gguf::{GgufInfo, ProjectorInfo};
use arknet_types::{
    Delegation, FrameHeader, FreeUse, InferRequest, KeyPair, NetworkId, Offer, PublicKey, Refusal,
    Reply, Request, SeedFile, Timestamp, decode, encode, limits::REQUEST_FRAME_BYTES_MAX,
};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{chain, chat, child, corpus, doors, quotes, registry, tunnels, upstream};

/// One decoder and good inputs for it.
#[derive(Debug)]
pub struct Decoder {
    /// What it reads.
    pub name: &'static str,
    /// Inputs it accepts.
    pub corpus: Vec<Vec<u8>>,
    /// Reads bytes and says whether it accepted them.
    pub accepts: fn(&[u8]) -> bool,
    /// How many times as long as the others it takes: it gets as many fewer cases.
    pub one_in: u64,
}

impl Decoder {
    /// How many of so many cases it gets, at least a few.
    #[must_use]
    pub fn share(&self, cases: u64) -> u64 {
        (cases / self.one_in).max(cases.min(CASES_MIN))
    }
}

/// Cases of the slowest decoders.
const CASES_MIN: u64 = 50;

pub(crate) fn with(
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    accepts: fn(&[u8]) -> bool,
) -> Decoder {
    Decoder { name, corpus, accepts, one_in: 1 }
}

/// One that takes so many times as long as the others.
pub(crate) fn costly(
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    one_in: u64,
    accepts: fn(&[u8]) -> bool,
) -> Decoder {
    Decoder { name, corpus, accepts, one_in }
}

/// All of them.
pub fn decoders() -> anyhow::Result<Vec<Decoder>> {
    let groups = [
        wire()?,
        chain::decoders()?,
        quotes::decoders(),
        registry::decoders()?,
        tunnels::decoders(),
        doors::decoders(),
        child::decoders()?,
        upstream::decoders(),
        chat::decoders(),
    ];
    Ok(groups.into_iter().flatten().collect())
}

/// What peers send, and files.
fn wire() -> anyhow::Result<Vec<Decoder>> {
    let offers = corpus::bytes("offer.json", "bytes")?;
    let gguf = vec![corpus::gguf()];
    let projector = vec![corpus::projector()];
    Ok(vec![
        with("Delegation", corpus::bytes("delegation.json", "bytes")?, canonical::<Delegation>),
        with("FrameHeader", corpus::bytes("reply.json", "frame")?, frame_header),
        with("InferRequest", corpus::bytes("infer.json", "bytes")?, infer),
        with("KeyPair (file)", corpus::bytes("identity.json", "key_file")?, key_file),
        with("Offer", offers.clone(), canonical::<Offer>),
        with("Offer (signed)", offers, signed_offer),
        with("PublicKey (bytes)", corpus::bytes("identity.json", "peer_id_bytes")?, peer_bytes),
        with("PublicKey (text)", corpus::texts("identity.json", "peer_id")?, peer_text),
        with("Refusal", corpus::bytes("refusal.json", "bytes")?, canonical::<Refusal>),
        with("Reply", corpus::bytes("reply.json", "bytes")?, canonical::<Reply>),
        with("Request", corpus::bytes("request.json", "bytes")?, canonical::<Request>),
        with("FreeUse", corpus::bytes("free_use.json", "bytes")?, canonical::<FreeUse>),
        with("SeedFile", corpus::accepted("seeds.json")?, seed_file),
        with("GGUF", gguf, |bytes| GgufInfo::parse(bytes, bytes.len() as u64).is_ok()),
        with("GGUF (projector)", projector, |bytes| {
            ProjectorInfo::parse(bytes, bytes.len() as u64).is_ok()
        }),
    ])
}

/// What is accepted must be the one encoding of its value.
pub(crate) fn canonical<T: BorshSerialize + BorshDeserialize>(bytes: &[u8]) -> bool {
    decode::<T>(bytes).is_ok_and(|value| {
        assert_eq!(encode(&value), bytes, "a second encoding was accepted");
        true
    })
}

/// The wire does not change a value.
pub(crate) fn survives<T: BorshSerialize + BorshDeserialize + PartialEq + Debug>(value: &T) {
    let again = decode::<T>(&encode(value)).expect("what is written can be read");
    assert_eq!(again, *value, "the wire changed a value");
}

fn infer(bytes: &[u8]) -> bool {
    canonical::<InferRequest>(bytes)
        && decode::<InferRequest>(bytes).is_ok_and(|infer| infer.check().is_ok())
}

fn frame_header(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|header| {
        FrameHeader::parse(*header, REQUEST_FRAME_BYTES_MAX).is_ok_and(|header| {
            assert!(header.body_bytes <= REQUEST_FRAME_BYTES_MAX, "the limit holds");
            true
        })
    })
}

fn key_file(bytes: &[u8]) -> bool {
    KeyPair::from_file_bytes(bytes).is_ok_and(|key| {
        assert_eq!(&key.to_file_bytes()[..], bytes, "a damaged key was accepted");
        true
    })
}

fn signed_offer(bytes: &[u8]) -> bool {
    // The network and the time of the vectors.
    let network = NetworkId::new("arknet-test-1").expect("a good name");
    Offer::parse(bytes, &network, Timestamp(1_735_689_600_000)).is_ok()
}

fn peer_bytes(bytes: &[u8]) -> bool {
    PublicKey::from_peer_id_bytes(bytes).is_ok_and(|key| {
        assert_eq!(&key.peer_id_bytes()[..], bytes, "two ids for one key");
        true
    })
}

fn peer_text(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    PublicKey::from_peer_id(text).is_ok_and(|key| {
        assert_eq!(key.peer_id(), text, "two ids for one key");
        true
    })
}

fn seed_file(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| SeedFile::parse(text).is_ok())
}
