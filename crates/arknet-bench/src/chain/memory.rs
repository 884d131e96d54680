//! A state in memory that costs little, so that execution is measured and not where a state lies.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
    ops::Bound,
};

use arknet_chain::{Changes, StateView};

type Map = HashMap<Vec<u8>, Vec<u8>, BuildHasherDefault<Ends>>;

#[derive(Clone, Default)]
pub(super) struct Memory {
    values: Map,
    /// The keys of the values, in order.
    keys: BTreeSet<Vec<u8>>,
    pages: Map,
}

/// Most keys end with what is random already, and nobody chooses them here.
#[derive(Default)]
struct Ends(u64);

impl Hasher for Ends {
    fn write(&mut self, bytes: &[u8]) {
        for bytes in bytes.rchunks(8).take(2) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let word = u64::from_le_bytes(word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93);
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
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
