use super::{Leaf, fork};
use crate::Hash;

/// Ways out of a page.
pub(super) const WAYS: usize = 16;

/// What lies one way down.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Child {
    #[default]
    Nothing,
    Leaf(Leaf),
    /// Two leaves or more, on a page of their own.
    Page(Hash),
}

impl Child {
    pub(super) fn hash(&self) -> Hash {
        match self {
            Self::Nothing => Hash::ZERO,
            Self::Leaf(leaf) => leaf.hash(),
            Self::Page(hash) => *hash,
        }
    }
}

/// Sixteen neighbours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Page(pub(super) [Child; WAYS]);

impl Page {
    pub(super) fn hash(&self) -> Hash {
        part(&self.0).hash()
    }

    /// What stands for this page in the page above.
    pub(super) fn as_child(&self) -> Child {
        part(&self.0)
    }

    /// Two maps of bits (what is there, what of it is a leaf), then 32 or 64 bytes for each child.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (mut there, mut leaves) = (0_u16, 0_u16);
        let bytes = |child: &Child| match child {
            Child::Nothing => 0,
            Child::Leaf(_) => 64,
            Child::Page(_) => 32,
        };
        let length = self.0.iter().map(bytes).fold(4_usize, usize::saturating_add);
        let mut out = Vec::with_capacity(length);
        out.extend([0; 4]);
        for (bit, child) in self.0.iter().enumerate() {
            let bit = 1_u16 << bit;
            match child {
                Child::Nothing => continue,
                Child::Leaf(leaf) => {
                    leaves |= bit;
                    out.extend(leaf.place.0);
                    out.extend(leaf.value.0);
                }
                Child::Page(hash) => out.extend(hash.0),
            }
            there |= bit;
        }
        out[..2].copy_from_slice(&there.to_le_bytes());
        out[2..4].copy_from_slice(&leaves.to_le_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (there, rest) = bytes.split_first_chunk::<2>()?;
        let (leaves, mut rest) = rest.split_first_chunk::<2>()?;
        let (there, leaves) = (u16::from_le_bytes(*there), u16::from_le_bytes(*leaves));
        let mut take = || {
            let (hash, after) = rest.split_first_chunk::<32>()?;
            rest = after;
            Some(Hash(*hash))
        };
        let mut page = Self::default();
        for (bit, child) in page.0.iter_mut().enumerate() {
            let bit = 1_u16 << bit;
            if leaves & bit != 0 {
                *child = Child::Leaf(Leaf { place: take()?, value: take()? });
            } else if there & bit != 0 {
                *child = Child::Page(take()?);
            }
        }
        (rest.is_empty() && there & leaves == leaves).then_some(page)
    }
}

/// What these children are together: a lone leaf rises to where it is alone.
pub(super) fn part(children: &[Child]) -> Child {
    if let [child] = children {
        return *child;
    }
    let (left, right) = children.split_at(children.len() / 2);
    match (part(left), part(right)) {
        (Child::Nothing, one @ (Child::Nothing | Child::Leaf(_)))
        | (one @ Child::Leaf(_), Child::Nothing) => one,
        (left, right) => Child::Page(fork(&left.hash(), &right.hash())),
    }
}
