//! Signatures, on all processors, with the points of keys that sign often.

use std::{
    collections::HashMap,
    num::NonZero,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use arknet_chain::{CheckedKey, Claim, limits::SIGNATURES_PER_SUM_MAX, which_hold_by};
use arknet_types::PublicKey;

use crate::limits::{KEYS_KNOWN_MAX, SIGNATURES_PER_THREAD_MIN};

/// Keys that signed lately.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Which of the claims hold, as [`arknet_chain::which_hold`] says it, on as many processors as there
/// are. One of them does something else first.
#[must_use]
pub fn which_hold(claims: &[Claim], meanwhile: &mut dyn FnMut()) -> Vec<bool> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    if processors == 1 || claims.len() <= SIGNATURES_PER_THREAD_MIN {
        meanwhile();
        return which_hold_by(claims, checked);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(part) = take(&next, claims.len(), processors) {
            found.push((part.start, which_hold_by(&claims[part], checked)));
        }
        found
    };
    let mut found = thread::scope(|scope| {
        let helpers = (processors - 1).min(claims.len() / SIGNATURES_PER_THREAD_MIN);
        let others: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
        meanwhile();
        let mut found = work();
        for other in others {
            match other.join() {
                Ok(more) => found.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    });
    found.sort_unstable_by_key(|(start, _)| *start);
    found.into_iter().flat_map(|(_, answers)| answers).collect()
}

/// The next claims that nobody has taken: first many, which cost less together, then few, so that all
/// processors end at about the same time.
fn take(next: &AtomicUsize, all: usize, processors: usize) -> Option<Range<usize>> {
    let end = |start: usize| {
        let part = all.saturating_sub(start) / (2 * processors);
        all.min(start + part.clamp(SIGNATURES_PER_THREAD_MIN, SIGNATURES_PER_SUM_MAX))
    };
    let more = |start: usize| (start < all).then(|| end(start));
    let start = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
    Some(start..end(start))
}

fn checked(key: &PublicKey) -> Option<CheckedKey> {
    let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get_or_insert_default().get(key) {
        return Some(found);
    }
    let checked = CheckedKey::of(key)?;
    lock().get_or_insert_default().put(*key, checked);
    Some(checked)
}

/// The keys that were asked for last, in two halves: when the new one is full it takes the place of
/// the old one.
#[derive(Default)]
struct Known {
    new: HashMap<PublicKey, CheckedKey>,
    old: HashMap<PublicKey, CheckedKey>,
}

impl Known {
    fn get(&mut self, key: &PublicKey) -> Option<CheckedKey> {
        if let Some(found) = self.new.get(key) {
            return Some(*found);
        }
        let found = *self.old.get(key)?;
        self.put(*key, found);
        Some(found)
    }

    fn put(&mut self, key: PublicKey, checked: CheckedKey) {
        if self.new.len() >= KEYS_KNOWN_MAX / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, checked);
    }
}

#[cfg(test)]
mod tests {
    use arknet_chain::{Hash, Purpose};
    use arknet_types::{Domain, KeyPair};

    use super::*;

    #[test]
    fn each_claim_has_its_own_answer_however_many_there_are() {
        let key = KeyPair::from_seed(&[1; 32]);
        let claim = |n: u64| {
            let value = Hash::of(Purpose::TRANSACTION, &n);
            let signature = key.sign(Domain::TRANSACTION, &value);
            let said = if n % 7 == 3 { Hash::ZERO } else { value };
            Claim::new(key.public(), Domain::TRANSACTION, &said, signature)
        };
        for count in [0, 1, 64, 65, 300, 1_100] {
            let claims: Vec<Claim> = (0..count).map(claim).collect();
            let expected: Vec<bool> = (0..count).map(|n| n % 7 != 3).collect();
            let mut done = 0;
            assert_eq!(which_hold(&claims, &mut || done += 1), expected, "{count}");
            assert_eq!(done, 1);
        }
    }

    #[test]
    fn keys_are_known_while_they_are_asked_for_and_no_more_than_may_be() {
        let mut known = Known::default();
        let often = KeyPair::from_seed(&[1; 32]).public();
        let checked = CheckedKey::of(&often).unwrap();
        known.put(often, checked);
        for n in 0..2 * KEYS_KNOWN_MAX {
            let mut other = often;
            other.0[..8].copy_from_slice(&n.to_le_bytes());
            known.put(other, checked);
            assert!(known.get(&often).is_some(), "{n}");
            assert!(known.new.len() + known.old.len() <= KEYS_KNOWN_MAX);
        }
        assert!(known.get(&PublicKey([9; 32])).is_none());
    }
}
