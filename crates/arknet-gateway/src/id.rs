use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// Gives every request a number that is unique in this process, differs between processes and does
/// not tell how many requests there were.
pub(crate) struct Ids {
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        let seed = RandomState::new().build_hasher().finish();
        Self { next: AtomicU64::new(seed) }
    }

    pub(crate) fn next(&self) -> RequestId {
        RequestId(mix(self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The number of one request, shown as 16 hex digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A bijection (so numbers stay unique) that spreads neighbours apart: multiplication by an odd
/// number and xor with a shifted self both have an inverse.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_unique_and_unrelated() {
        let ids = Ids::new();
        let drawn: Vec<RequestId> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
        assert!(drawn.windows(2).all(|pair| pair[0].0.abs_diff(pair[1].0) > 1));
        assert_eq!(drawn[0].to_string().len(), 16);
    }
}
