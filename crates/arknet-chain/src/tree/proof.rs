use arknet_types::decode_list;
use borsh::{BorshDeserialize, BorshSerialize};

use super::{
    fork, goes_right,
    page::{Child, Page, WAYS, part},
    place, value_hash, way,
};
use crate::{Hash, hash::Purpose, limits::PROOF_SIBLINGS_MAX};

/// The end of a way through the tree: a place, and the hash of the value there.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// The hash of the key.
    pub place: Hash,
    /// The hash of the value.
    pub value: Hash,
}

impl Leaf {
    pub(super) fn hash(&self) -> Hash {
        let mut both = [0; 64];
        both[..32].copy_from_slice(&self.place.0);
        both[32..].copy_from_slice(&self.value.0);
        Hash::of_bytes(Purpose::STATE_LEAF, &both)
    }
}

/// The way to a key, with what lies beside it: enough to compute the root.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// What the way ends in: the key's own leaf, another leaf in its stead, or nothing.
    pub end: Option<Leaf>,
    /// The hashes beside the way, from the root down.
    #[borsh(deserialize_with = "decode_list::<_, _, PROOF_SIBLINGS_MAX>")]
    pub siblings: Vec<Hash>,
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// It ends at a leaf that does not lie on the key's way.
    #[error("the proof is about another key")]
    OtherKey,
    /// It does not lead to this root.
    #[error("the proof does not lead to the root")]
    Root,
    /// It says that the key has another value, or none.
    #[error("the proof is about another value")]
    Value,
}

impl Proof {
    /// Checks that under `root` the key has `value`; with none, that it has no value.
    pub fn verify(&self, root: &Hash, key: &[u8], value: Option<&[u8]>) -> Result<(), ProofError> {
        let place = place(key);
        match (self.end, value) {
            (Some(leaf), Some(value)) if leaf.place == place => {
                if leaf.value != value_hash(value) {
                    return Err(ProofError::Value);
                }
            }
            (Some(leaf), None) if leaf.place != place => {
                let shared = (0..self.siblings.len())
                    .all(|depth| goes_right(&leaf.place, depth) == goes_right(&place, depth));
                if !shared {
                    return Err(ProofError::OtherKey);
                }
            }
            (None, None) => {}
            (Some(_), None) => return Err(ProofError::Value),
            (_, Some(_)) => return Err(ProofError::OtherKey),
        }
        let end = self.end.map_or(Hash::ZERO, |leaf| leaf.hash());
        let found = self.siblings.iter().enumerate().rev().fold(end, |hash, (depth, sibling)| {
            if goes_right(&place, depth) { fork(sibling, &hash) } else { fork(&hash, sibling) }
        });
        if self.siblings.len() <= PROOF_SIBLINGS_MAX && found == *root {
            Ok(())
        } else {
            Err(ProofError::Root)
        }
    }
}

/// The proof for `key` from the pages that `read` gives.
pub(crate) fn prove(read: &impl Fn(&[u8]) -> Option<Vec<u8>>, key: &[u8]) -> Proof {
    let place = place(key);
    let (mut siblings, mut path) = (Vec::new(), Vec::new());
    loop {
        let page = read(&path).map_or_else(Page::default, |bytes| {
            Page::from_bytes(&bytes).expect("the store returns the pages it was given")
        });
        let way = way(&place, path.len());
        let mut children = &page.0[..];
        // Four forks on a page; a lone leaf, or nothing, ends the way before the last of them.
        while children.len() > 1 {
            match part(children) {
                Child::Nothing => return Proof { end: None, siblings },
                Child::Leaf(leaf) => return Proof { end: Some(leaf), siblings },
                Child::Page(_) => {}
            }
            let (left, right) = children.split_at(children.len() / 2);
            let right_way = way & (children.len() / 2) != 0;
            let (on, beside) = if right_way { (right, left) } else { (left, right) };
            siblings.push(part(beside).hash());
            children = on;
        }
        debug_assert!(WAYS.is_power_of_two(), "each fork halves the ways");
        match children[0] {
            Child::Nothing => return Proof { end: None, siblings },
            Child::Leaf(leaf) => return Proof { end: Some(leaf), siblings },
            Child::Page(_) => path.push(u8::try_from(way).expect("one of sixteen")),
        }
    }
}
