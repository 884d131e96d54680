//! What the chain RPC sends survives its travel, and says what the chain says.

use std::collections::BTreeSet;

use arknet_chain::{
    Action, Failure, Inapplicable, Key, LightBlock, LightClient, Rejected, Role, SignedTransaction,
    Stake, StakeOp,
    limits::LIGHT_BLOCK_BYTES_MAX,
    rpc::{
        ActionSummary, ErrorAnswer, ErrorCode, LightAnswer, OutcomeAnswer, ProposalAnswer,
        ProposalStage, StakeAnswer, TransactionFields,
    },
};
use arknet_types::Atoms;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    chain::{ARK, Chain, address, genesis},
    random::every_kind,
};

fn travelled<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(answer: &T) -> String {
    let text = serde_json::to_string(answer).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), answer);
    text
}

#[test]
fn every_action_has_a_kind_of_its_own_and_bytes_that_a_client_can_check() {
    let chain = Chain::new(&genesis(1));
    let mut kinds = BTreeSet::new();
    for action in every_kind() {
        let transaction = chain.sign(5, action);
        let fields = TransactionFields::from(&transaction);
        travelled(&fields);
        let parsed = SignedTransaction::parse(&fields.bytes.0).unwrap().verify().unwrap();
        assert_eq!((parsed.id(), parsed.signer()), (transaction.id(), fields.from));
        kinds.insert(fields.action.kind);
    }
    assert!(kinds.len() > 20, "{kinds:?}");
    let transfer = Action::Transfer { to: address(2), amount: Atoms(u64::MAX) };
    let text = travelled(&ActionSummary::new(&transfer));
    let to = address(2);
    assert_eq!(
        text,
        format!(r#"{{"kind":"transfer","to":"{to}","amount":"18446744073709551615"}}"#)
    );
}

#[test]
fn a_failure_has_its_number_and_its_name() {
    let mut chain = Chain::new(&genesis(1));
    let transfer = Action::Transfer { to: address(2), amount: Atoms(u64::MAX) };
    let transaction = chain.sign(5, transfer);
    let outcome = OutcomeAnswer::from(&chain.block(vec![transaction])[0]);
    travelled(&outcome);
    assert_eq!((outcome.done, outcome.failure_number), (false, Some(Failure::Balance as u8)));
    assert_eq!(outcome.failure.as_deref(), Some("balance"));
    let gone = Rejected::Inapplicable(Inapplicable::Nonce { expected: 7, found: 3 });
    let (_, error) = ErrorAnswer::of_rejected(&gone);
    let text = travelled(&error);
    assert!(error.is(ErrorCode::WrongNonce) && error.expected_nonce == Some(7));
    assert_eq!(
        text,
        r#"{"error":"nonce 7 is next, not 3","code":"wrong_nonce","expected_nonce":7}"#
    );
    let (_, poor) = ErrorAnswer::of_rejected(&Rejected::Balance { balance: 5, fees: 9 });
    assert_eq!((poor.code.as_str(), poor.balance), ("insufficient_balance", Some(Atoms(5))));
    assert_eq!(poor.needed, Some(Atoms(9)));
}

#[test]
fn a_light_block_travels_and_is_believed_for_what_it_proves() {
    let mut chain = Chain::new(&genesis(4));
    let voters = chain.validators();
    chain.block(vec![]);
    let block = LightBlock {
        header: chain.headers[0].clone(),
        certificate: chain.commit.clone().unwrap(),
        validators: voters,
        next_validators: chain.validators(),
    };
    let answer = LightAnswer::from(&block);
    travelled(&answer);
    let parsed = LightBlock::parse(&answer.bytes.0).unwrap();
    assert_eq!(parsed, block);
    let mut client = LightClient::from_genesis(&genesis(4)).unwrap();
    client.advance(parsed, chain.now()).unwrap();
    assert_eq!(client.id(), answer.id);
    assert!(LightBlock::parse(&vec![0; LIGHT_BLOCK_BYTES_MAX + 1]).is_err());
    assert!(LightBlock::parse(&answer.bytes.0[1..]).is_err());
}

#[test]
fn stakes_and_proposals_are_shown_as_they_stand() {
    let mut chain = Chain::grown_up();
    let (role, node) = (Role::Validator, address(1));
    let deposit = StakeOp::Deposit { role, node, amount: Atoms(500 * ARK), key: None };
    chain.act(5, Action::Stake(deposit)).unwrap();
    let key = Key::Stake(address(5), role, node);
    assert_eq!(Key::stake_of(&key.bytes()), Some((role, node)));
    let stake: Stake = chain.read(&key).unwrap();
    let node = chain.node(role, 1).unwrap();
    let answer = StakeAnswer::new((role, address(1)), &stake, &node);
    travelled(&answer);
    assert_eq!((answer.amount, answer.rewards), (Atoms(500 * ARK), stake.earned(&node)));
    let body = arknet_chain::ProposalBody {
        title: "a".into(),
        text: "b".into(),
        effect: arknet_chain::Effect::Text,
    };
    let id = chain.act(5, Action::Propose(Box::new(body.clone()))).unwrap().unwrap();
    let proposal = chain.read(&Key::Proposal(id)).unwrap();
    let answer = ProposalAnswer::new(id, &proposal, &body, chain.now());
    travelled(&answer);
    assert_eq!((answer.stage, answer.effect.kind.as_str()), (ProposalStage::Discussion, "text"));
    let withdraw = StakeOp::Withdraw { role, node: address(1), amount: Atoms(100 * ARK) };
    let id = chain.act(5, Action::Stake(withdraw)).unwrap().unwrap();
    let (from, below) = Key::unbondings(&address(5));
    let key = Key::Unbonding(address(5), id).bytes();
    assert!(from <= key && key < below && Key::unbonding_of(&key) == Some(id));
}
