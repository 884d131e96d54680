use std::collections::BTreeMap;

use borsh::BorshDeserialize;

use crate::{Hash, Key, Leaf, Proof, tree};

/// The state after some block, as whoever stores it shows it. The state is a map of bytes in order,
/// and the pages of the tree over it.
///
/// A store that fails to read cannot answer "nothing": it must not answer at all, and end the
/// process.
pub trait StateView {
    /// The value of a key.
    fn value(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// The first key, with its value, that is not below `from` but below `below`.
    fn first(&self, from: &[u8], below: &[u8]) -> Option<(Vec<u8>, Vec<u8>)>;
    /// A page of the tree by its path.
    fn page(&self, path: &[u8]) -> Option<Vec<u8>>;
}

/// What a block changes: new values, or none where one goes. To be written in one step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Of the map.
    pub values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Of the tree.
    pub pages: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// The value of `key` as what it is.
///
/// # Panics
/// When the store returns something that was not written.
#[must_use]
pub fn read<T: BorshDeserialize>(view: &impl StateView, key: &Key) -> Option<T> {
    view.value(&key.bytes())
        .map(|bytes| arknet_types::decode(&bytes).expect("the state holds what was written"))
}

/// The bytes of `key`'s value, and the proof that it has it, or that it has none.
#[must_use]
pub fn prove(view: &impl StateView, key: &Key) -> (Option<Vec<u8>>, Proof) {
    prove_bytes(view, &key.bytes())
}

/// The same for a key that somebody gave as bytes.
#[must_use]
pub fn prove_bytes(view: &impl StateView, key: &[u8]) -> (Option<Vec<u8>>, Proof) {
    (view.value(key), tree::prove(&|path: &[u8]| view.page(path), key))
}

/// The root over all of the state.
#[must_use]
pub fn state_root(view: &impl StateView) -> Hash {
    tree::update(&|path: &[u8]| view.page(path), Vec::new()).0
}

/// Where a value stands in the tree over all state: what [`grow`] is given.
#[must_use]
pub fn leaf(key: &[u8], value: &[u8]) -> Leaf {
    Leaf { place: tree::place(key), value: tree::value_hash(value) }
}

/// The root, and the pages that change, when values are there that the tree of `view` does not know
/// of: for who has a state without the pages of its tree. Leaves that are neighbours share pages.
#[must_use]
pub fn grow(
    view: &impl StateView,
    leaves: impl IntoIterator<Item = Leaf>,
) -> (Hash, BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    let leaves = leaves.into_iter().map(|leaf| (leaf.place, Some(leaf.value)));
    tree::update(&|path: &[u8]| view.page(path), leaves.collect())
}

/// A state in memory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MemoryState {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    pages: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryState {
    /// Writes what a block changes.
    pub fn apply(&mut self, changes: Changes) {
        write(&mut self.values, changes.values);
        write(&mut self.pages, changes.pages);
    }
}

fn write(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

impl StateView for MemoryState {
    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.values.get(key).cloned()
    }

    fn first(&self, from: &[u8], below: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        if from >= below {
            return None;
        }
        let mut range = self
            .values
            .range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(below)));
        range.next().map(|(key, value)| (key.clone(), value.clone()))
    }

    fn page(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.pages.get(path).cloned()
    }
}
