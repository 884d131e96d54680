//! Signatures, on all processors, with the points of keys that sign often.

use std::{
    collections::HashMap,
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use arknet_chain::{CheckedKey, Claim, which_hold_by};
use arknet_types::PublicKey;

use crate::limits::{KEYS_KNOWN_MAX, SIGNATURES_PER_THREAD_MIN};

/// Keys that signed lately.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Which of the claims hold, as [`arknet_chain::which_hold`] says it, on as many processors as there
/// are.
#[must_use]
pub fn which_hold(claims: &[Claim]) -> Vec<bool> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let part = claims.len().div_ceil(processors).max(SIGNATURES_PER_THREAD_MIN);
    if claims.len() <= part {
        return which_hold_by(claims, checked);
    }
    thread::scope(|scope| {
        let (first, rest) = claims.split_at(part);
        let parts = rest.chunks(part);
        let others: Vec<_> =
            parts.map(|part| scope.spawn(|| which_hold_by(part, checked))).collect();
        let mut answers = which_hold_by(first, checked);
        for other in others {
            match other.join() {
                Ok(part) => answers.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        answers
    })
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
        for count in [0, 1, 64, 65, 300] {
            let claims: Vec<Claim> = (0..count).map(claim).collect();
            let expected: Vec<bool> = (0..count).map(|n| n % 7 != 3).collect();
            assert_eq!(which_hold(&claims), expected, "{count}");
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
