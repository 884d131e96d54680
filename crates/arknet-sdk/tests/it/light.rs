use std::sync::Mutex;

use arknet_chain::{
    Account, Header, Key, LightBlock, Validator, ValidatorSet,
    rpc::{HexBytes, LightAnswer, ProofAnswer},
};
use arknet_sdk::chain::{ChainError, ChainRpc, LightChain};
use arknet_types::{Atoms, encode};
use serde_json::{Value, json};

use crate::{
    ledger::{World, address, certificate, consensus_key, genesis, wallet},
    liar,
};

/// A client that knows nothing but the genesis.
fn client(world: &World, url: &str) -> LightChain {
    LightChain::new(ChainRpc::new(url).unwrap(), &world.genesis, None).unwrap()
}

/// What a fresh client says about account 5.
fn balance(world: &World, url: &str) -> Result<Option<Account>, ChainError> {
    let mut light = client(world, url);
    let key = Key::Account(address(5));
    world.run(light.value(&key)).map(|at| at.value)
}

fn light_block(answer: &Value) -> LightBlock {
    let answer: LightAnswer = serde_json::from_value(answer.clone()).unwrap();
    LightBlock::parse(&answer.bytes.0).unwrap()
}

fn is_proof(path: &str) -> bool {
    path.starts_with("/proof")
}

fn is_light(path: &str) -> bool {
    path.starts_with("/light/")
}

#[test]
fn an_honest_rpc_is_followed_and_what_it_says_is_proved() {
    let world = World::new();
    (0..5).for_each(|_| world.block());
    let mut light = client(&world, &world.url());
    assert_eq!(world.run(light.follow()).unwrap(), 6);
    let found = world.run(light.value::<Account>(&Key::Account(address(5)))).unwrap();
    assert_eq!((found.height, found.value.unwrap()), (6, world.account(5)));
    let nobody = world.run(light.value::<Account>(&Key::Account(address(99)))).unwrap();
    assert_eq!(nobody.value, None);
    assert_eq!(light.next_validators().unwrap().members().len(), 4);
}

#[test]
fn a_forged_balance_is_found_out() {
    let world = World::new();
    let url = liar::before(&world, |path, answer| {
        if is_proof(path) {
            let rich = Account { balance: Atoms(u64::MAX), ..Account::default() };
            answer["value"] = String::from(HexBytes(encode(&rich))).into();
        }
    });
    assert!(matches!(balance(&world, &url), Err(ChainError::ForgedValue(_))));
}

#[test]
fn an_absent_proof_is_found_out() {
    let world = World::new();
    let kept_back = liar::before(&world, |path, answer| {
        if is_proof(path) {
            answer["value"] = Value::Null;
        }
    });
    assert!(matches!(balance(&world, &kept_back), Err(ChainError::Unproved)));
    let empty = liar::before(&world, |path, answer| {
        if is_proof(path) {
            answer["proof"] = json!("");
        }
    });
    assert!(matches!(balance(&world, &empty), Err(ChainError::Unproved)));
}

#[test]
fn a_forged_certificate_is_found_out() {
    let world = World::new();
    type Forge = fn(&mut LightBlock);
    let forge = |forge: Forge| {
        let url = liar::before(&world, move |path, answer| {
            if is_light(path) {
                let mut block = light_block(answer);
                forge(&mut block);
                *answer = serde_json::to_value(LightAnswer::from(&block)).unwrap();
            }
        });
        balance(&world, &url).unwrap_err()
    };
    let forgeries: [Forge; 4] = [
        |block| block.certificate.signatures[0].signature.0[3] ^= 1,
        |block| block.certificate.signatures.truncate(2),
        |block| block.header.state_root.0[0] ^= 1,
        |block| block.certificate.height += 1,
    ];
    for forgery in forgeries {
        let error = forge(forgery);
        assert!(matches!(error, ChainError::ForgedCertificate(_)), "{error:?}");
        assert_eq!(error.code(), "forged_certificate");
    }
}

/// A block of validators that the chain does not have, well signed by them.
fn foreign(header: &Header, height: u64) -> LightBlock {
    let member = |n| Validator { operator: address(n), key: consensus_key(n).public(), power: 9 };
    let set = ValidatorSet::new((11..=14).map(member).collect()).unwrap();
    let mut header = header.clone();
    header.height = height;
    (header.validators, header.next_validators) = (set.hash(), set.hash());
    let certificate = certificate(&header.network.clone(), &set, &header);
    LightBlock { header, certificate, validators: set.clone(), next_validators: set }
}

#[test]
fn stale_or_foreign_validators_are_found_out() {
    let world = World::new();
    (0..8).for_each(|_| world.block());
    let url = liar::before(&world, |path, answer| {
        if is_light(path) {
            let block = light_block(answer);
            let height = block.header.height;
            let block = foreign(&block.header, height);
            *answer = serde_json::to_value(LightAnswer::from(&block)).unwrap();
        }
    });
    let error = balance(&world, &url).unwrap_err();
    assert!(matches!(error, ChainError::StaleValidators), "{error:?}");
}

#[test]
fn an_old_state_is_not_taken_for_the_present_one() {
    let world = World::new();
    let first: &'static Mutex<Option<Value>> = Box::leak(Box::default());
    let url = liar::before(&world, move |path, answer| {
        if is_proof(path) {
            let mut first = first.lock().unwrap();
            *answer = first.get_or_insert_with(|| answer.clone()).clone();
        }
    });
    let mut light = client(&world, &url);
    let key = Key::Account(address(5));
    world.run(light.value::<Account>(&key)).unwrap();
    world.block();
    world.run(light.follow()).unwrap();
    let error = world.run(light.value::<Account>(&key)).unwrap_err();
    assert!(matches!(error, ChainError::Behind { known: 2, found: 1 }), "{error:?}");
}

#[test]
fn what_is_known_is_kept_and_another_chain_begins_anew() {
    let world = World::new();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("deep/light.bin");
    let open = |genesis: &arknet_chain::Genesis| {
        let rpc = ChainRpc::new(&world.url()).unwrap();
        LightChain::new(rpc, genesis, Some(file.clone())).unwrap()
    };
    let mut light = open(&world.genesis);
    assert_eq!((light.height(), world.run(light.follow()).unwrap()), (0, 1));
    assert_eq!(open(&world.genesis).height(), 1);
    assert_eq!(open(&genesis(5)).height(), 0);
    std::fs::write(&file, "damaged").unwrap();
    assert_eq!(open(&world.genesis).height(), 0);
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no draft stays");
}

#[test]
fn who_was_away_too_long_begins_with_a_header_that_is_trusted() {
    let world = World::with(genesis(8 * 24));
    world.later(7 * 24 * 3_600_000);
    let mut light = client(&world, &world.url());
    assert!(matches!(world.run(light.follow()), Err(ChainError::TooOld)));
    let newest = world.run(ChainRpc::new(&world.url()).unwrap().light(None)).unwrap().header;
    let wrong = world.run(light.trust(1, newest.id())).unwrap_err();
    assert!(matches!(wrong, ChainError::Trusted { height: 1, .. }), "{wrong:?}");
    world.run(light.trust(2, newest.id())).unwrap();
    world.block();
    assert_eq!(world.run(light.follow()).unwrap(), 3);
}

#[test]
fn a_set_that_changed_at_once_is_reached_by_the_headers_in_between() {
    let world = World::new();
    let chain = || arknet_sdk::chain::ChainOptions {
        url: Some(world.url()),
        genesis: Some(world.genesis.clone()),
        ..Default::default()
    };
    let mut ledger = world.run(arknet_sdk::chain::Chain::open(chain())).unwrap();
    let mut act = |n: u8, op| {
        let wallet = arknet_sdk::wallet::Wallet::from_key(wallet(n));
        let action = arknet_chain::Action::Stake(op);
        let prepared = world.run(ledger.prepare(&wallet, action, Default::default())).unwrap();
        world.run(ledger.submit(&prepared.transaction)).unwrap();
    };
    let role = arknet_chain::Role::Validator;
    for n in 5..=9 {
        let (node, key) = (address(n), Some(consensus_key(n).public()));
        let amount = Atoms(900_000 * crate::ledger::ARK);
        act(n, arknet_chain::StakeOp::Deposit { role, node, amount, key });
    }
    for n in 1..=4 {
        act(n, arknet_chain::StakeOp::Retire { role });
    }
    world.block();
    let mut light = client(&world, &world.url());
    assert_eq!(world.run(light.follow()).unwrap(), world.height());
    assert_eq!(light.next_validators().unwrap().members().len(), 5);
}

#[test]
fn an_answer_that_is_none_is_an_error_and_no_more() {
    let world = World::new();
    let url = liar::before(&world, |_, answer| *answer = json!({ "height": "many" }));
    assert!(matches!(balance(&world, &url), Err(ChainError::Malformed { .. })));
    let huge = liar::before(&world, |_, answer| *answer = json!("x".repeat(3 << 20)));
    assert!(matches!(balance(&world, &huge), Err(ChainError::TooLarge { .. })));
    assert!(matches!(balance(&world, "http://127.0.0.1:1"), Err(ChainError::Unreachable { .. })));
    for bad in ["127.0.0.1:26657", "ftp://x", "http://", "nonsense"] {
        assert!(matches!(ChainRpc::new(bad), Err(ChainError::Url(_))), "{bad}");
    }
}

#[test]
fn a_block_with_a_transaction_that_it_does_not_have_is_found_out() {
    let world = World::new();
    let made_up = arknet_chain::Hash([9; 32]);
    let url = liar::before(&world, move |path, answer| {
        if path.starts_with("/blocks/") {
            let outcome = json!({ "done": true, "gas": 1, "fee": "1" });
            answer["transactions"] = json!([
                { "id": made_up, "from": address(5), "kind": "transfer", "outcome": outcome },
            ]);
        }
    });
    let forged = world.run(client(&world, &url).check_in_block(&made_up, 1)).unwrap_err();
    assert!(matches!(forged, ChainError::ForgedCertificate(_)), "{forged:?}");
    let honest = world.run(client(&world, &world.url()).check_in_block(&made_up, 1)).unwrap_err();
    assert!(matches!(honest, ChainError::NotInBlock { height: 1, .. }), "{honest:?}");
}

#[test]
fn an_older_header_is_the_one_that_those_after_it_name() {
    let world = World::new();
    (0..4).for_each(|_| world.block());
    let url = liar::before(&world, |path, answer| {
        if path == "/light/2" {
            let mut block = light_block(answer);
            block.header.gas_used += 1;
            *answer = serde_json::to_value(LightAnswer::from(&block)).unwrap();
        }
    });
    let mut light = client(&world, &url);
    world.run(light.follow()).unwrap();
    assert_eq!(world.run(light.header(3)).unwrap().height, 3);
    let forged = world.run(light.header(2)).unwrap_err();
    assert!(matches!(forged, ChainError::ForgedCertificate(_)), "{forged:?}");
    // What is too far back to be named is not asked for, one by one.
    (0..300).for_each(|_| world.block());
    world.run(light.follow()).unwrap();
    let far = world.run(light.header(5)).unwrap_err();
    assert!(matches!(far, ChainError::TooFarBack { known: 305, height: 5 }), "{far:?}");
}

#[test]
fn a_proof_of_another_key_proves_nothing() {
    let world = World::new();
    let other: ProofAnswer = {
        let rpc = ChainRpc::new(&world.url()).unwrap();
        world.run(rpc.proof(&Key::Account(address(6)))).unwrap()
    };
    let url = liar::before(&world, move |path, answer| {
        if is_proof(path) {
            *answer = serde_json::to_value(&other).unwrap();
        }
    });
    assert!(matches!(balance(&world, &url), Err(ChainError::ForgedValue(_))));
}
