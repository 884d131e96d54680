use std::{num::NonZero, thread};

use arknet_chain::Claim;

use crate::limits::SIGNATURES_PER_THREAD_MIN;

/// Which of the claims hold, as [`arknet_chain::which_hold`] says it, on as many processors as there
/// are.
#[must_use]
pub fn which_hold(claims: &[Claim]) -> Vec<bool> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let part = claims.len().div_ceil(processors).max(SIGNATURES_PER_THREAD_MIN);
    if claims.len() <= part {
        return arknet_chain::which_hold(claims);
    }
    thread::scope(|scope| {
        let (first, rest) = claims.split_at(part);
        let parts = rest.chunks(part);
        let others: Vec<_> =
            parts.map(|part| scope.spawn(|| arknet_chain::which_hold(part))).collect();
        let mut answers = arknet_chain::which_hold(first);
        for other in others {
            match other.join() {
                Ok(part) => answers.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        answers
    })
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
}
