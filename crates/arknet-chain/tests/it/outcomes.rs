//! What became of a transaction is proved by the header of its block, and nothing else is.

use arknet_chain::{
    Action, Failure, Hash, Header, Outcome, OutcomeError, OutcomeProof, Purpose,
    limits::{OUTCOME_SIBLINGS_MAX, TRANSACTIONS_PER_BLOCK_MAX},
    outcomes_root,
};
use arknet_types::{Atoms, decode, encode};
use proptest::prelude::*;

use crate::chain::{Chain, address, genesis};

fn header(outcomes: &[Outcome]) -> Header {
    let mut chain = Chain::new(&genesis(1));
    chain.block(vec![]);
    Header { outcomes: outcomes_root(outcomes), ..chain.headers.remove(0) }
}

fn outcome(n: u32) -> Outcome {
    let id = Hash::of(Purpose::BODY, &n);
    let result = if n.is_multiple_of(3) { Err(Failure::Balance) } else { Ok(Some(u64::from(n))) };
    Outcome { id, gas: 21_000, fee: Atoms(u64::from(n)), result }
}

/// The root by the definition: the largest power of two below the count goes left.
fn defined(outcomes: &[Outcome]) -> Hash {
    fn top(outcomes: &[Outcome]) -> Hash {
        match outcomes {
            [] => Hash::ZERO,
            [one] => Hash::of(Purpose::OUTCOME_LEAF, one),
            _ => {
                let (left, right) = outcomes.split_at(outcomes.len().next_power_of_two() / 2);
                Hash::of(Purpose::OUTCOME_FORK, &(top(left), top(right)))
            }
        }
    }
    let count = u32::try_from(outcomes.len()).unwrap();
    Hash::of(Purpose::OUTCOMES, &(count, top(outcomes)))
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let failure = (1_u8..=36).prop_map(|n| decode::<Failure>(&[n]).unwrap());
    let result = prop_oneof![any::<Option<u64>>().prop_map(Ok), failure.prop_map(Err)];
    (any::<[u8; 32]>(), any::<u64>(), any::<u64>(), result)
        .prop_map(|(id, gas, fee, result)| Outcome { id: Hash(id), gas, fee: Atoms(fee), result })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_outcome_of_a_list_is_proved_and_the_root_is_that_of_the_definition(
        outcomes in prop::collection::vec(any_outcome(), 0..70),
    ) {
        let header = header(&outcomes);
        prop_assert_eq!(header.outcomes, defined(&outcomes));
        for (index, outcome) in (0..).zip(&outcomes) {
            let proof = OutcomeProof::new(&outcomes, index).unwrap();
            let travelled: OutcomeProof = decode(&encode(&proof)).unwrap();
            prop_assert_eq!(travelled.verify(&header, &outcome.id), Ok(*outcome));
        }
        let behind = u32::try_from(outcomes.len()).unwrap();
        prop_assert_eq!(OutcomeProof::new(&outcomes, behind), None);
        prop_assert_eq!(OutcomeProof::new(&outcomes, u32::MAX), None);
    }

    #[test]
    fn a_proof_of_which_one_bit_is_changed_proves_nothing(
        outcomes in prop::collection::vec(any_outcome(), 1..20),
        place: prop::sample::Index,
    ) {
        let header = header(&outcomes);
        let index = u32::try_from(place.index(outcomes.len())).unwrap();
        let proof = OutcomeProof::new(&outcomes, index).unwrap();
        let (id, bytes) = (proof.outcome.id, encode(&proof));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(proof) = decode::<OutcomeProof>(&changed) else { continue };
            prop_assert!(proof.verify(&header, &id).is_err(), "bit {}", bit);
            // Nor does it for who asks about what it speaks of.
            prop_assert!(proof.verify(&header, &proof.outcome.id).is_err(), "bit {}", bit);
        }
    }

    #[test]
    fn another_list_has_another_root(
        outcomes in prop::collection::vec(any_outcome(), 0..20),
        more in any_outcome(),
        place: prop::sample::Index,
    ) {
        let root = outcomes_root(&outcomes);
        let longer = [&outcomes[..], &[more]].concat();
        prop_assert_ne!(outcomes_root(&longer), root);
        if let Some(last) = outcomes.last() {
            prop_assert_ne!(outcomes_root(&outcomes[1..]), root);
            prop_assert_ne!(outcomes_root(&[&outcomes[..], &[*last]].concat()), root);
            let mut changed = outcomes.clone();
            changed[place.index(outcomes.len())] = more;
            prop_assert_ne!(outcomes_root(&changed), root);
        }
    }
}

#[test]
fn an_empty_block_has_a_root_of_its_own_under_which_nothing_is_proved() {
    let empty = header(&[]);
    assert_eq!(empty.outcomes, Hash::of(Purpose::OUTCOMES, &(0_u32, Hash::ZERO)));
    let forged = OutcomeProof { outcome: outcome(1), index: 0, count: 0, siblings: vec![] };
    assert_eq!(forged.verify(&empty, &outcome(1).id), Err(OutcomeError::Place));
    let forged = OutcomeProof { count: 1, ..forged };
    assert_eq!(forged.verify(&empty, &outcome(1).id), Err(OutcomeError::Root));
}

#[test]
fn a_proof_for_another_place_or_block_or_of_another_length_is_refused() {
    let outcomes: Vec<Outcome> = (0..7).map(outcome).collect();
    let others: Vec<Outcome> = (1..8).map(outcome).collect();
    let (header, other) = (header(&outcomes), header(&others));
    let good = OutcomeProof::new(&outcomes, 2).unwrap();
    let id = good.outcome.id;
    assert_eq!(good.verify(&header, &id), Ok(outcomes[2]));
    let refused = |change: &dyn Fn(&mut OutcomeProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        proof.verify(&header, &id).unwrap_err()
    };
    assert_eq!(refused(&|p| p.outcome.fee = Atoms(0)), OutcomeError::Root);
    assert_eq!(refused(&|p| p.outcome.result = Ok(None)), OutcomeError::Root);
    assert_eq!(refused(&|p| p.index = 3), OutcomeError::Root);
    assert_eq!(refused(&|p| p.index = 7), OutcomeError::Place);
    assert_eq!(refused(&|p| p.count = 8), OutcomeError::Root);
    assert_eq!(refused(&|p| p.count = 4), OutcomeError::Length);
    assert_eq!(refused(&|p| p.siblings.truncate(2)), OutcomeError::Length);
    assert_eq!(refused(&|p| p.siblings.push(Hash::ZERO)), OutcomeError::Length);
    assert_eq!(good.verify(&other, &id), Err(OutcomeError::Root));
    let neighbour = OutcomeProof::new(&outcomes, 3).unwrap();
    assert_eq!(neighbour.verify(&header, &id), Err(OutcomeError::OtherTransaction));
}

#[test]
fn the_fullest_block_has_the_longest_proof_and_a_longer_one_is_not_read() {
    let full = u32::try_from(TRANSACTIONS_PER_BLOCK_MAX).unwrap();
    let outcomes: Vec<Outcome> = (0..full).map(outcome).collect();
    let header = header(&outcomes);
    for index in [0, 1, full / 2, full - 1] {
        let proof = OutcomeProof::new(&outcomes, index).unwrap();
        assert!(proof.siblings.len() <= OUTCOME_SIBLINGS_MAX);
        let outcome = outcomes[usize::try_from(index).unwrap()];
        assert_eq!(proof.verify(&header, &outcome.id), Ok(outcome));
    }
    let mut longest = OutcomeProof::new(&outcomes, 0).unwrap();
    assert_eq!(longest.siblings.len(), OUTCOME_SIBLINGS_MAX);
    assert_eq!(decode::<OutcomeProof>(&encode(&longest)).unwrap(), longest);
    longest.siblings.push(Hash::ZERO);
    assert!(decode::<OutcomeProof>(&encode(&longest)).is_err());
}

#[test]
fn a_header_names_what_became_of_the_transactions_of_its_own_block() {
    let mut chain = Chain::new(&genesis(1));
    let pay = |amount| Action::Transfer { to: address(2), amount: Atoms(amount) };
    let transactions = vec![chain.sign(5, pay(1)), chain.sign(6, pay(u64::MAX))];
    let outcomes = chain.block(transactions);
    assert_eq!([outcomes[0].result.is_ok(), outcomes[1].result.is_ok()], [true, false]);
    let proof = OutcomeProof::new(&outcomes, 1).unwrap();
    assert_eq!(proof.verify(&chain.headers[0], &outcomes[1].id), Ok(outcomes[1]));
    chain.block(vec![]);
    let later = proof.verify(&chain.headers[1], &outcomes[1].id);
    assert_eq!(later, Err(OutcomeError::Root));
}
