//! What the ledger says of models: which files it has accepted under which names.

use std::collections::BTreeSet;

use arknet_chain::{Key, Model, StateView, read};
use arknet_types::{ModelDigest, ModelName};

/// The files that are accepted under this name. Several may be: a name belongs to nobody.
pub(crate) fn accepted(ledger: &impl StateView, name: &ModelName) -> BTreeSet<ModelDigest> {
    let (mut from, below) = Key::models();
    let mut found = BTreeSet::new();
    while let Some((key, value)) = ledger.first(&from, &below) {
        found.extend(
            arknet_types::decode(&value)
                .ok()
                .filter(|model| is_called(model, name))
                .map(|model| model.facts.digest),
        );
        from = key;
        from.push(0);
    }
    found
}

/// Whether this file is accepted under this name.
pub(crate) fn vouches(ledger: &impl StateView, name: &ModelName, digest: ModelDigest) -> bool {
    read(ledger, &Key::Model(digest)).is_some_and(|model| is_called(&model, name))
}

fn is_called(model: &Model, name: &ModelName) -> bool {
    model.accepted && model.facts.name == *name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arknet_chain::ModelFacts;
    use arknet_types::{Address, Atoms, Timestamp, encode};

    use super::*;

    /// A state of nothing but models.
    struct Models(BTreeMap<Vec<u8>, Vec<u8>>);

    impl StateView for Models {
        fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.0.get(key).cloned()
        }

        fn first(&self, from: &[u8], below: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
            let mut range = self.0.range(from.to_vec()..below.to_vec());
            range.next().map(|(key, value)| (key.clone(), value.clone()))
        }

        fn page(&self, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }

    fn model(digest: u8, name: &str, accepted: bool) -> (Vec<u8>, Vec<u8>) {
        let digest = ModelDigest([digest; 32]);
        let facts = ModelFacts {
            digest,
            name: ModelName::new(name).unwrap(),
            size_bytes: 1,
            mirrors: vec![],
            licence: String::new(),
        };
        let (registrant, registered_at) = (Address([0; 20]), Timestamp(0));
        let model = Model { facts, registrant, deposit: Atoms::ZERO, registered_at, accepted };
        (Key::Model(digest).bytes(), encode(&model))
    }

    #[test]
    fn what_counts_is_accepted_and_called_so() {
        let ledger =
            [model(0, "a", true), model(1, "b", true), model(2, "a", false), model(255, "a", true)];
        let ledger = Models(ledger.into());
        let name = |text| ModelName::new(text).unwrap();
        let digest = |n| ModelDigest([n; 32]);
        assert_eq!(accepted(&ledger, &name("a")), [digest(0), digest(255)].into());
        assert_eq!(accepted(&ledger, &name("c")), [].into());
        assert!(vouches(&ledger, &name("b"), digest(1)));
        for (called, n) in [("a", 1), ("a", 2), ("a", 3)] {
            assert!(!vouches(&ledger, &name(called), digest(n)), "{called} {n}");
        }
    }
}
