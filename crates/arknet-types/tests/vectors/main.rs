//! The golden vectors in `spec/vectors`: what every implementation must write and read, byte by
//! byte. `UPDATE=1 cargo test -p arknet-types --test vectors` writes them anew, which only a change
//! of the protocol may ask for.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod documents;
mod golden;
mod json;
mod limits;
mod registry;
mod rejects;
mod samples;

use arknet_types::{
    Delegation, Domain, FreeUse, InferRequest, KeyPair, Offer, PublicKey, Refusal, Reply, Request,
    decode, encode,
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde_json::Value;

#[test]
fn the_files_hold_what_the_code_makes() {
    for (name, document) in documents::all() {
        assert!(
            golden::read(name) == document,
            "{name} is not what the code makes. If the wire was meant to change, UPDATE=1 writes it"
        );
    }
}

/// The bytes of each case in a file, decoded, with the case itself. Asserts that they encode to the
/// same bytes again.
fn cases<T: BorshDeserialize + BorshSerialize>(file: &str) -> Vec<(T, Value)> {
    let cases = golden::read(file)["cases"].as_array().cloned().unwrap_or_default();
    assert!(!cases.is_empty(), "{file} holds cases");
    let decoded = cases.into_iter().map(|case| {
        let bytes = bytes(&case["bytes"]);
        let value: T = decode(&bytes).unwrap();
        assert_eq!(encode(&value), bytes, "{file}: {}", case["name"]);
        (value, case)
    });
    decoded.collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn signer(case: &Value) -> KeyPair {
    KeyPair::from_seed(&bytes(&case["signer_seed"]).try_into().unwrap())
}

#[test]
fn signed_structures_read_as_their_fields_say() {
    for (delegation, case) in cases::<Delegation>("delegation.json") {
        assert_eq!(json::delegation(&delegation.body), case["body"]);
        assert_eq!(delegation.check_signature(), Ok(()));
        assert_eq!(signer(&case).sign(Domain::DELEGATION, &delegation.body), delegation.signature);
        assert_eq!(delegation.digest()[..], bytes(&case["digest"]));
    }
    for (offer, case) in cases::<Offer>("offer.json") {
        assert_eq!(json::offer(&offer.body), case["body"]);
        assert_eq!(signer(&case).sign(Domain::OFFER, &offer.body), offer.signature);
        Offer::parse(&bytes(&case["bytes"]), &samples::network(), samples::NOW).unwrap();
    }
    for (request, case) in cases::<Request>("request.json") {
        assert_eq!(json::request(&request.body), case["body"]);
        assert!(request.is_signed());
        assert_eq!(request.salt.0[..], bytes(&case["salt"]));
        assert_eq!(signer(&case).sign(Domain::REQUEST, &request.body), request.signature);
    }
    for (free_use, case) in cases::<FreeUse>("free_use.json") {
        assert_eq!(free_use.check(&samples::network(), samples::NOW), Ok(()));
        assert_eq!(free_use.id()[..], bytes(&case["id"]));
        assert_eq!(free_use.wallet().to_string(), case["wallet"]);
    }
}

#[test]
fn unsigned_structures_read_as_their_fields_say() {
    for (infer, case) in cases::<InferRequest>("infer.json") {
        assert_eq!(json::infer(&infer), case["value"]);
        assert_eq!(infer.check(), Ok(()));
    }
    for (reply, case) in cases::<Reply>("reply.json") {
        assert_eq!(json::reply(&reply), case["value"]);
    }
    for (refusal, case) in cases::<Refusal>("refusal.json") {
        assert_eq!(json::refusal(&refusal), case["value"]);
    }
}

#[test]
fn a_wallet_is_the_same_everywhere() {
    let file = golden::read("identity.json");
    let case = &file["cases"][0];
    // These three are pinned here too: wallets in the world depend on them.
    assert_eq!(case["seed"], "42".repeat(32));
    assert_eq!(
        case["public_key"],
        "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12"
    );
    assert_eq!(case["address"], "0xfef6dfa48b073924c436539010d7812fbe50096a");
    for case in file["cases"].as_array().unwrap() {
        let key = KeyPair::from_file_bytes(&bytes(&case["key_file"])).unwrap();
        assert_eq!(key.public().address().to_string(), case["address"]);
        let peer = PublicKey::from_peer_id(case["peer_id"].as_str().unwrap()).unwrap();
        assert_eq!(peer, key.public());
    }
}
