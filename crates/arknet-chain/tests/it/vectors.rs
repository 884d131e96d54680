//! The golden vectors of the chain. `UPDATE=1 cargo test -p arknet-chain vectors` writes them anew,
//! which only a change of the protocol may ask for.

use std::{fs, path::PathBuf};

use arknet_chain::{
    Block, Failure, Genesis, Hash, Header, Outcome, OutcomeProof, Proof, SignedTransaction,
    outcomes_root, prove,
};
use arknet_types::{Atoms, Domain, decode, encode};
use serde_json::{Value, json};

use crate::{
    chain::{Chain, QUOTES, SECOND, address, genesis, wallet},
    random::every_kind,
};

const GENESIS: &str = r#"{"network":"arknet-test-1","time_ms":1700000000000,"params":{"jail_ms":5000},"validators":[{"operator":"0xfef6dfa48b073924c436539010d7812fbe50096a","key":"2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12","weight":1}]}"#;

fn document() -> Value {
    let mut chain = Chain::new(&genesis(2));
    let transactions: Vec<Value> = every_kind()
        .into_iter()
        .map(|action| {
            let transaction = chain.sign(5, action);
            let hash = Hash::of(arknet_chain::Purpose::TRANSACTION, &transaction.signed().body);
            json!({
                "signer_seed": hex::encode(&wallet(5).seed()[..]),
                "body_bytes": hex::encode(encode(transaction.body())),
                "signing_message": hex::encode(Domain::TRANSACTION.message(&hash)),
                "signature": hex::encode(transaction.signed().signature.0),
                "bytes": hex::encode(encode(transaction.signed())),
                "id": transaction.id().to_string(),
                "gas": transaction.body().action.gas().to_string(),
            })
        })
        .collect();
    let mut blocks = Vec::new();
    for action in [&every_kind()[0], &every_kind()[1]] {
        let list = vec![chain.sign(5, action.clone())];
        let ingredients = chain.ingredients(SECOND, list);
        let (block, _) =
            arknet_chain::build_block(&chain.parent(), ingredients.clone(), QUOTES).unwrap();
        chain.commit(ingredients);
        let block = block.into_block();
        blocks.push(
            json!({ "id": block.header.id().to_string(), "bytes": hex::encode(encode(&block)) }),
        );
    }
    let proof = |key: arknet_chain::Key| {
        let (value, proof) = prove(&chain.state, &key);
        json!({
            "key": hex::encode(key.bytes()),
            "value": value.map(hex::encode),
            "bytes": hex::encode(encode(&proof)),
        })
    };
    let outcomes = outcomes();
    let outcome = |index: usize| {
        let proof = OutcomeProof::new(&outcomes, u32::try_from(index).unwrap()).unwrap();
        json!({
            "id": outcomes[index].id.to_string(),
            "outcome": hex::encode(encode(&outcomes[index])),
            "bytes": hex::encode(encode(&proof)),
        })
    };
    let nobody = arknet_types::Address([7; 20]);
    json!({
        "what": "spec/chain.md",
        "transactions": transactions,
        "genesis": { "text": GENESIS, "id": Genesis::parse(GENESIS).unwrap().id().to_string() },
        "blocks": blocks,
        "state_root": chain.headers[1].state_root.to_string(),
        "proofs": [
            proof(arknet_chain::Key::Account(address(5))),
            proof(arknet_chain::Key::Account(nobody)),
        ],
        "empty_outcomes_root": outcomes_root(&[]).to_string(),
        "outcomes_root": outcomes_root(&outcomes).to_string(),
        "outcomes": (0..outcomes.len()).map(outcome).collect::<Vec<Value>>(),
    })
}

/// What may become of transactions, five of them: a row that is odd twice.
fn outcomes() -> Vec<Outcome> {
    let results = [Ok(None), Ok(Some(7)), Err(Failure::Balance), Ok(None), Err(Failure::NoWeight)];
    let outcomes = (1..).zip(results).map(|(n, result)| Outcome {
        id: Hash([n; 32]),
        gas: 21_000,
        fee: Atoms(21_000 * u64::from(n)),
        result,
    });
    outcomes.collect()
}

#[test]
fn the_file_holds_what_the_code_makes() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/chain.json"));
    let document = document();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&document).unwrap() + "\n").unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let file: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(file == document, "if the protocol was meant to change, UPDATE=1 writes the file");
}

#[test]
fn the_bytes_in_the_file_read_as_what_they_are() {
    let file = document();
    let bytes = |value: &Value| hex::decode(value["bytes"].as_str().unwrap()).unwrap();
    for one in file["transactions"].as_array().unwrap() {
        let read = SignedTransaction::parse(&bytes(one)).unwrap();
        assert_eq!(encode(&read), bytes(one));
        assert_eq!(read.verify().unwrap().id().to_string(), one["id"]);
    }
    for one in file["blocks"].as_array().unwrap() {
        let read = Block::parse(&bytes(one)).unwrap();
        assert_eq!(encode(&read), bytes(one));
        assert_eq!(read.header.id().to_string(), one["id"]);
    }
    let root = hex::decode(file["state_root"].as_str().unwrap()).unwrap();
    let root = Hash(root.try_into().unwrap());
    for one in file["proofs"].as_array().unwrap() {
        let proof: Proof = decode(&bytes(one)).unwrap();
        let key = hex::decode(one["key"].as_str().unwrap()).unwrap();
        let value = one["value"].as_str().map(|text| hex::decode(text).unwrap());
        assert_eq!(proof.verify(&root, &key, value.as_deref()), Ok(()));
    }
    let header = Block::parse(&bytes(&file["blocks"][0])).unwrap().header;
    let header = Header { outcomes: outcomes_root(&outcomes()), ..header };
    for (one, outcome) in file["outcomes"].as_array().unwrap().iter().zip(outcomes()) {
        let proof: OutcomeProof = decode(&bytes(one)).unwrap();
        assert_eq!(proof.verify(&header, &outcome.id), Ok(outcome));
    }
}
