use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::PROOF_SIBLINGS_MAX;

/// The pages of a tree in memory.
#[derive(Default)]
struct Pages(BTreeMap<Vec<u8>, Vec<u8>>);

impl Pages {
    fn read(&self) -> impl Fn(&[u8]) -> Option<Vec<u8>> {
        |path| self.0.get(path).cloned()
    }

    fn apply(&mut self, changes: &[(u16, Option<u8>)]) -> Hash {
        let leaf = |(key, value): &(u16, Option<u8>)| {
            (place(&key.to_be_bytes()), value.map(|value| value_hash(&[value])))
        };
        let (root, pages) = update(&self.read(), changes.iter().map(leaf).collect());
        for (path, page) in pages {
            match page {
                Some(page) => drop(self.0.insert(path, page)),
                None => drop(self.0.remove(&path)),
            }
        }
        root
    }
}

/// The root by the definition: split by the bits of the places, one bit at a time.
fn root_of(leaves: &[(Hash, Hash)], depth: usize) -> Hash {
    match leaves {
        [] => Hash::ZERO,
        [(place, value)] => Leaf { place: *place, value: *value }.hash(),
        _ => {
            let (left, right): (Vec<_>, Vec<_>) =
                leaves.iter().copied().partition(|(place, _)| !goes_right(place, depth));
            fork(&root_of(&left, depth + 1), &root_of(&right, depth + 1))
        }
    }
}

fn expected(values: &BTreeMap<u16, u8>) -> Hash {
    let leaves: Vec<_> =
        values.iter().map(|(k, v)| (place(&k.to_be_bytes()), value_hash(&[*v]))).collect();
    root_of(&leaves, 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_root_is_that_of_the_values_and_every_proof_leads_to_it(
        batches in prop::collection::vec(
            prop::collection::vec((0_u16..300, prop::option::weighted(0.7, any::<u8>())), 0..120),
            1..6,
        ),
        probes in prop::collection::vec(0_u16..400, 10),
    ) {
        let (mut pages, mut values) = (Pages::default(), BTreeMap::new());
        for batch in batches {
            for (key, value) in &batch {
                match value {
                    Some(value) => drop(values.insert(*key, *value)),
                    None => drop(values.remove(key)),
                }
            }
            let batch: BTreeMap<u16, Option<u8>> = batch.into_iter().collect();
            let root = pages.apply(&batch.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(root, expected(&values));
            let live = pages.0.len();
            prop_assert!(live <= values.len() + 1, "no page is left behind: {live}");
            for key in &probes {
                let proof = prove(&pages.read(), &key.to_be_bytes());
                let value = values.get(key).map(std::slice::from_ref);
                prop_assert_eq!(proof.verify(&root, &key.to_be_bytes(), value), Ok(()));
                prop_assert!(proof.verify(&Hash::ZERO, &key.to_be_bytes(), value).is_err() || values.is_empty());
                let other = if value.is_some() { None } else { Some(&[1][..]) };
                prop_assert!(proof.verify(&root, &key.to_be_bytes(), other).is_err());
                prop_assert!(proof.verify(&root, &key.to_be_bytes(), Some(&[1, 2])).is_err());
            }
        }
    }
}

fn some() -> (Pages, Hash) {
    let mut pages = Pages::default();
    let root = pages.apply(&(0..50).map(|key| (key, Some(7))).collect::<Vec<_>>());
    (pages, root)
}

#[test]
fn a_proof_with_anything_changed_is_none() {
    let (pages, root) = some();
    for key in 0..60_u16 {
        let key = key.to_be_bytes();
        let good = prove(&pages.read(), &key);
        let value = good.end.filter(|leaf| leaf.place == place(&key)).map(|_| &[7][..]);
        assert_eq!(good.verify(&root, &key, value), Ok(()));
        for at in 0..good.siblings.len() {
            let mut bad = good.clone();
            bad.siblings[at].0[5] ^= 1;
            assert_eq!(bad.verify(&root, &key, value), Err(ProofError::Root));
            let mut bad = good.clone();
            bad.siblings.remove(at);
            assert!(bad.verify(&root, &key, value).is_err());
        }
        let mut bad = good.clone();
        bad.end = if bad.end.is_some() { None } else { Some(Leaf { place: root, value: root }) };
        assert!(bad.verify(&root, &key, value).is_err());
        assert!(bad.verify(&root, &key, None).is_err());
    }
}

#[test]
fn a_proof_for_one_key_is_none_for_another() {
    let (pages, root) = some();
    let proof = prove(&pages.read(), &3_u16.to_be_bytes());
    assert!(proof.verify(&root, &4_u16.to_be_bytes(), Some(&[7])).is_err());
    assert!(proof.verify(&root, &4_u16.to_be_bytes(), None).is_err());
}

#[test]
fn a_proof_longer_than_any_way_does_not_decode() {
    let proof = Proof { end: None, siblings: vec![Hash::ZERO; PROOF_SIBLINGS_MAX + 1] };
    assert!(arknet_types::decode::<Proof>(&arknet_types::encode(&proof)).is_err());
}

#[test]
fn an_empty_tree_has_the_root_zero_and_proves_absence() {
    let mut pages = Pages::default();
    assert_eq!(pages.apply(&[]), Hash::ZERO);
    assert_eq!(prove(&pages.read(), b"x").verify(&Hash::ZERO, b"x", None), Ok(()));
    pages.apply(&[(1, Some(1)), (2, Some(2))]);
    assert_eq!(pages.apply(&[(1, None), (2, None)]), Hash::ZERO);
    assert_eq!(pages.0.len(), 1, "the page of the root alone is left");
}

#[test]
fn damaged_pages_are_not_read() {
    let (pages, _) = some();
    let bytes = pages.0.values().max_by_key(|page| page.len()).unwrap().clone();
    assert!(page::Page::from_bytes(&bytes).is_some_and(|page| page.to_bytes() == bytes));
    assert!(page::Page::from_bytes(&bytes[..bytes.len() - 1]).is_none());
    assert!(page::Page::from_bytes(&[&bytes[..], &[0]].concat()).is_none());
    assert!(page::Page::from_bytes(&[0, 0, 1, 0]).is_none());
}
