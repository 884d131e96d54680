use arknet_chain::{
    Action, Choice, Effect, Failure, Key, Model, ModelFacts, TcbStatus, Tee, TeeClaim,
};
use arknet_types::Atoms;

use crate::{
    chain::{ARK, Chain, DAY, address, wallet},
    random::{facts, propose, tee},
};

fn register() -> Action {
    Action::RegisterModel(Box::new(facts()))
}

fn model(chain: &Chain) -> Option<Model> {
    chain.read(&Key::Model(facts().digest))
}

#[test]
fn a_model_that_nobody_throws_out_is_accepted_and_its_deposit_returned() {
    let mut chain = Chain::grown_up();
    let before = chain.balance(5);
    let outcome = chain.block(vec![chain.sign(5, register())])[0];
    assert_eq!(chain.balance(5), before - 10_000 * ARK - outcome.fee.0);
    assert_eq!(chain.act(6, register()), Err(Failure::Exists));
    chain.wait(13 * DAY, DAY);
    assert!(!model(&chain).unwrap().accepted);
    chain.wait(DAY, DAY);
    let found = model(&chain).unwrap();
    assert_eq!((found.accepted, found.deposit, &found.facts), (true, Atoms::ZERO, &facts()));
    assert_eq!(chain.balance(5), before - outcome.fee.0);
}

#[test]
fn a_vote_throws_a_model_out_or_accepts_it_early() {
    for accept in [true, false] {
        let mut chain = Chain::grown_up();
        chain.act(5, register()).unwrap();
        let burned = chain.meta().burned.0;
        let before = chain.balance(5);
        chain.act(7, propose(Effect::Model { digest: facts().digest, accept })).unwrap();
        chain.wait(3 * DAY, DAY);
        for n in [1, 2, 3] {
            chain.act(n, Action::Vote { proposal: 1, choice: Choice::Yes }).unwrap();
        }
        chain.wait(7 * DAY, DAY);
        assert_eq!(model(&chain).map(|m| m.accepted), accept.then_some(true));
        let (back, lost) = (chain.balance(5) - before, chain.meta().burned.0 - burned);
        assert_eq!(back, if accept { 10_000 * ARK } else { 0 });
        assert_eq!(lost >= 10_000 * ARK, !accept);
        // The review that was to come finds nothing more to do.
        chain.wait(5 * DAY, DAY);
        assert_eq!(chain.balance(5) - before, back);
    }
}

#[test]
fn who_registered_a_model_takes_it_back() {
    let mut chain = Chain::grown_up();
    let gone = Action::DeregisterModel(facts().digest);
    assert_eq!(chain.act(5, gone.clone()), Err(Failure::UnknownModel));
    chain.act(5, register()).unwrap();
    assert_eq!(chain.act(6, gone.clone()), Err(Failure::NotYours));
    let before = chain.balance(5);
    let outcome = chain.block(vec![chain.sign(5, gone)])[0];
    assert_eq!(chain.balance(5), before + 10_000 * ARK - outcome.fee.0);
    // Whoever registers it anew waits as long as anybody.
    chain.wait(5 * DAY, DAY);
    chain.act(6, register()).unwrap();
    chain.wait(10 * DAY, DAY);
    assert!(!model(&chain).unwrap().accepted);
    let empty = ModelFacts { size_bytes: 0, digest: arknet_types::ModelDigest([1; 32]), ..facts() };
    assert_eq!(chain.act(6, Action::RegisterModel(Box::new(empty))), Err(Failure::Zero));
}

#[test]
fn an_enclave_is_registered_by_a_quote_about_its_key_and_its_account() {
    let mut chain = Chain::grown_up();
    let register = |claim: TeeClaim| Action::RegisterTee(Box::new(claim));
    assert_eq!(chain.act(5, register(tee(5))), Ok(None));
    let found: Tee = chain.read(&Key::Tee(address(5), wallet(70).public())).unwrap();
    assert_eq!(found.expires_at.0, 1_700_000_000_000 + DAY);
    assert_eq!(found.verified_at, chain.now());
    assert_eq!(found.tcb, TcbStatus::SwHardeningNeeded);
    // Another's quote, another key, no quote at all.
    assert_eq!(chain.act(6, register(tee(5))), Err(Failure::Quote));
    let other = TeeClaim { key: wallet(71).public(), ..tee(5) };
    assert_eq!(chain.act(5, register(other)), Err(Failure::Quote));
    let none = TeeClaim { quote: vec![1; 63], ..tee(5) };
    assert_eq!(chain.act(5, register(none)), Err(Failure::Quote));
    chain.wait(DAY, DAY);
    assert_eq!(chain.act(5, register(tee(5))), Err(Failure::Quote), "the collateral has ended");
}

#[test]
fn a_chain_without_a_verifier_takes_no_quote() {
    let chain = Chain::grown_up();
    let list = vec![chain.sign(5, Action::RegisterTee(Box::new(tee(5))))];
    let ingredients = chain.ingredients(1, list);
    let built = arknet_chain::build_block(&chain.parent(), ingredients, &arknet_chain::NoQuotes);
    assert_eq!(built.unwrap().1.outcomes[0].result, Err(Failure::Quote));
}
