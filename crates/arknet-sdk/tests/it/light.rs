use std::sync::Mutex;

use arknet_chain::{
    Account, Action, Hash, Header, Key, LightBlock, OutcomeError, OutcomeProof, Validator,
    ValidatorSet,
    rpc::{HexBytes, LightAnswer, ProofAnswer, TransactionAnswer},
};
use arknet_sdk::{
    chain::{Chain, ChainError, ChainOptions, ChainRpc, Fees, LightChain},
    wallet::Wallet,
};
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

/// A block with a payment of account 5.
fn pay(world: &World, amount: u64) -> Hash {
    let options = ChainOptions {
        url: Some(world.url()),
        genesis: Some(world.genesis.clone()),
        ..Default::default()
    };
    world.run(async {
        let mut chain = Chain::open(options).await.unwrap();
        let action = Action::Transfer { to: address(6), amount: Atoms(amount) };
        let wallet = Wallet::from_key(wallet(5));
        let made = chain.prepare(&wallet, action, Fees::default()).await.unwrap();
        chain.submit(&made.transaction).await.unwrap()
    })
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
    let chain = || ChainOptions {
        url: Some(world.url()),
        genesis: Some(world.genesis.clone()),
        ..Default::default()
    };
    let mut ledger = world.run(Chain::open(chain())).unwrap();
    let mut act = |n: u8, op| {
        let wallet = Wallet::from_key(wallet(n));
        let action = Action::Stake(op);
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
fn a_block_of_which_something_else_is_said_is_found_out() {
    let world = World::new();
    pay(&world, 1);
    let shown = |url: &str| {
        let block = world.run(ChainRpc::new(url).unwrap().block("2")).unwrap();
        world.run(client(&world, url).check_block(block, 2))
    };
    assert_eq!(shown(&world.url()).unwrap().transactions.len(), 1);
    type Lie = fn(&mut Value);
    let lies: [Lie; 8] = [
        |block| block["transactions"][0]["id"] = json!("09".repeat(32)),
        |block| block["transactions"] = json!([]),
        |block| block["transactions"][0]["outcome"]["fee"] = json!("1"),
        |block| block["transactions"][0]["outcome"]["done"] = json!(false),
        |block| block["transactions"][0]["outcome"]["failure_number"] = json!(1),
        |block| block["transactions"][0]["outcome"]["number"] = json!(7),
        |block| block["proposer"] = json!(address(9)),
        |block| block["time_ms"] = json!(7),
    ];
    for lie in lies {
        let url = liar::before(&world, move |path, answer| {
            if path.starts_with("/blocks/") {
                lie(answer);
            }
        });
        let error = shown(&url).unwrap_err();
        assert!(matches!(error, ChainError::ForgedCertificate(_)), "{error:?}");
    }
    // Words are for people, and another version may have others.
    let worded = liar::before(&world, |path, answer| {
        if path.starts_with("/blocks/") {
            answer["transactions"][0]["outcome"]["failure_words"] = json!("all went wrong");
        }
    });
    assert_eq!(shown(&worded).unwrap().transactions[0].outcome.failure_words, None);
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

/// What a fresh client finds out of a transaction, of which the RPC says what `lie` makes of it.
fn told(
    world: &World,
    id: Hash,
    lie: impl Fn(&mut TransactionAnswer) + Send + Sync + 'static,
) -> Result<TransactionAnswer, ChainError> {
    let url = liar::before(world, move |path, answer| {
        if path.starts_with("/transactions/") {
            let mut said = serde_json::from_value(answer.clone()).unwrap();
            lie(&mut said);
            *answer = serde_json::to_value(said).unwrap();
        }
    });
    let said = world.run(ChainRpc::new(&url).unwrap().transaction(&id)).unwrap();
    world.run(client(world, &url).check_transaction(&id, said))
}

/// The same where the proof is changed, and the words beside it with it.
fn proved(
    world: &World,
    id: Hash,
    forge: impl Fn(&mut OutcomeProof) + Send + Sync + 'static,
) -> OutcomeError {
    let error = told(world, id, move |said| {
        let bytes = said.proof.take().unwrap();
        let mut proof: OutcomeProof = arknet_types::decode(&bytes.0).unwrap();
        forge(&mut proof);
        said.outcome = Some((&proof.outcome).into());
        said.index = Some(proof.index);
        said.proof = Some(HexBytes(encode(&proof)));
    });
    let error = error.unwrap_err();
    assert_eq!(error.code(), "forged_outcome");
    assert!(error.to_string().contains("the RPC lies"), "{error}");
    let ChainError::ForgedOutcome(error) = error else { panic!("{error:?}") };
    error
}

#[test]
fn a_forged_outcome_is_found_out() {
    let world = World::new();
    world.hold(true);
    let ids: Vec<Hash> = [1, u64::MAX / 2, 3].map(|amount| pay_or_fail(&world, amount)).into();
    world.hold(false);
    world.block();
    let honest = told(&world, ids[1], |_| {}).unwrap();
    let outcome = honest.outcome.clone().unwrap();
    assert_eq!((honest.index, outcome.done, outcome.fee), (Some(1), false, Atoms(21_000)));
    assert_eq!(honest.transaction.unwrap().from, address(5));
    // Proofs that were made up.
    assert_eq!(proved(&world, ids[1], |p| p.outcome.result = Ok(None)), OutcomeError::Root);
    assert_eq!(proved(&world, ids[1], |p| p.outcome.fee = Atoms(1)), OutcomeError::Root);
    assert_eq!(proved(&world, ids[1], |p| p.index = 0), OutcomeError::Root);
    assert_eq!(proved(&world, ids[1], |p| p.index = 9), OutcomeError::Place);
    assert_eq!(proved(&world, ids[1], |p| p.siblings.truncate(1)), OutcomeError::Length);
    let longer = proved(&world, ids[1], |p| p.siblings.push(Hash::ZERO));
    assert_eq!(longer, OutcomeError::Length);
    // What is said beside a good one.
    type Lie = fn(&mut TransactionAnswer);
    let lies: [Lie; 6] = [
        |said| said.outcome.as_mut().unwrap().done = true,
        |said| said.outcome.as_mut().unwrap().failure_number = Some(2),
        |said| said.outcome.as_mut().unwrap().fee = Atoms(1),
        |said| said.outcome = None,
        |said| said.index = Some(0),
        |said| said.transaction.as_mut().unwrap().bytes.0[0] ^= 1,
    ];
    for lie in lies {
        let error = told(&world, ids[1], lie).unwrap_err();
        assert!(matches!(error, ChainError::ForgedOutcome(OutcomeError::Differs)), "{error:?}");
    }
    let fields = told(&world, ids[1], |said| {
        said.transaction.as_mut().unwrap().from = address(9);
        said.outcome.as_mut().unwrap().failure_words = Some("it was done".into());
    });
    let fields = fields.unwrap();
    assert_eq!(fields.transaction.unwrap().from, address(5));
    assert_eq!(fields.outcome, Some(outcome));
}

/// A payment that waits, whether or not it will be done.
fn pay_or_fail(world: &World, amount: u64) -> Hash {
    let nonce = world.run(ChainRpc::new(&world.url()).unwrap().account(&address(5))).unwrap();
    let body = arknet_chain::TransactionBody {
        network: world.genesis.network.clone(),
        signer: wallet(5).public(),
        nonce: nonce.next_nonce,
        gas_limit: 21_000,
        fee_max: Atoms(10),
        tip: Atoms(0),
        action: Action::Transfer { to: address(6), amount: Atoms(amount) },
    };
    let transaction = arknet_chain::SignedTransaction::sign(body, &wallet(5));
    world.run(ChainRpc::new(&world.url()).unwrap().submit(&transaction)).unwrap().id
}

#[test]
fn an_outcome_without_a_proof_or_with_that_of_another_transaction_or_block_is_found_out() {
    let world = World::new();
    let (first, second) = (pay(&world, 1), pay(&world, 2));
    told(&world, first, |_| {}).unwrap();
    let absent = told(&world, first, |said| said.proof = None).unwrap_err();
    assert!(matches!(absent, ChainError::Unproved), "{absent:?}");
    let broken = told(&world, first, |said| said.proof = Some(HexBytes(vec![7]))).unwrap_err();
    assert!(matches!(broken, ChainError::Unproved), "{broken:?}");
    let elsewhere = told(&world, first, |said| said.height = Some(3)).unwrap_err();
    assert!(matches!(elsewhere, ChainError::ForgedOutcome(OutcomeError::Root)), "{elsewhere:?}");
    let other = world.run(ChainRpc::new(&world.url()).unwrap().transaction(&second)).unwrap();
    let swapped = told(&world, first, move |said| *said = other.clone()).unwrap_err();
    let expected = OutcomeError::OtherTransaction;
    assert!(matches!(&swapped, ChainError::ForgedOutcome(e) if *e == expected), "{swapped:?}");
}
