//! The tree over all state: one root for every value of the ledger, and proofs of what is in it and
//! of what is not.
//!
//! A binary tree over the hashes of keys, in which a part that holds one leaf is that leaf, and a
//! part that holds none is zero. The root depends on nothing but the values. On disk sixteen
//! neighbours share a page, named by its place; a block rewrites the pages that change.

mod page;
mod proof;
mod update;

#[cfg(test)]
mod tests;

pub(crate) use proof::prove;
pub use proof::{Leaf, Proof, ProofError};
pub(crate) use update::update;

use crate::{Hash, hash::Purpose};

/// The place of a state key in the tree.
pub(crate) fn place(key: &[u8]) -> Hash {
    Hash::of_bytes(Purpose::STATE_KEY, key)
}

/// What a leaf says of its value.
pub(crate) fn value_hash(value: &[u8]) -> Hash {
    Hash::of_bytes(Purpose::STATE_VALUE, value)
}

/// Half a byte of a place: which of sixteen ways it goes at `depth`.
fn way(place: &Hash, depth: usize) -> usize {
    let byte = place.0.get(depth / 2).copied().unwrap_or_default();
    usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f })
}

/// Whether the bit of `place` at `depth` is set: the right way.
fn goes_right(place: &Hash, depth: usize) -> bool {
    let byte = place.0.get(depth / 8).copied().unwrap_or_default();
    byte << (depth % 8) & 0x80 != 0
}

fn fork(left: &Hash, right: &Hash) -> Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(&left.0);
    both[32..].copy_from_slice(&right.0);
    Hash::of_bytes(Purpose::STATE_FORK, &both)
}
