//! A state in memory that costs little, so that execution is measured and not where a state lies.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use arknet_chain::{Changes, StateView};

#[derive(Clone, Default)]
pub(super) struct Memory {
    values: HashMap<Vec<u8>, Vec<u8>>,
    /// The keys of the values, in order.
    keys: BTreeSet<Vec<u8>>,
    pages: HashMap<Vec<u8>, Vec<u8>>,
}

impl Memory {
    pub(super) fn apply(&mut self, changes: Changes) {
        for (key, value) in changes.values {
            match value {
                Some(value) => match self.values.get_mut(&key) {
                    Some(old) => *old = value,
                    None => {
                        self.keys.insert(key.clone());
                        self.values.insert(key, value);
                    }
                },
                None => {
                    self.keys.remove(&key);
                    self.values.remove(&key);
                }
            }
        }
        for (path, page) in changes.pages {
            match page {
                Some(page) => drop(self.pages.insert(path, page)),
                None => drop(self.pages.remove(&path)),
            }
        }
    }
}

impl StateView for Memory {
    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.values.get(key).cloned()
    }

    fn first(&self, from: &[u8], below: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        if from >= below {
            return None;
        }
        let bounds = (Bound::Included(from), Bound::Excluded(below));
        let key = self.keys.range::<[u8], _>(bounds).next()?;
        Some((key.clone(), self.values.get(key)?.clone()))
    }

    fn page(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.pages.get(path).cloned()
    }
}
