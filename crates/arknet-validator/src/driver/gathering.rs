//! Transactions on their way to the state machine. Many signatures are checked together in half the
//! time, are made safe with one sync and are told to others in one message; so when many come, they
//! are taken at intervals.

use arknet_chain::SignedTransaction;
use arknet_consensus::Source;
use arknet_types::Timestamp;

use crate::limits::{GATHER_FROM_PER_WINDOW, GATHER_MS, GATHER_WINDOW_MS, GATHERED_MAX};

#[derive(Debug, Default)]
pub(super) struct Gathering {
    transactions: Vec<(Source, SignedTransaction)>,
    /// When some were taken last.
    taken_at: Timestamp,
    /// Since when they are counted, how many were taken since, and in such a time before it.
    window: Timestamp,
    in_window: usize,
    in_window_before: usize,
}

impl Gathering {
    pub(super) fn add(&mut self, more: impl IntoIterator<Item = (Source, SignedTransaction)>) {
        self.transactions.extend(more);
    }

    /// Whether there are so many that they do not wait for more.
    pub(super) fn is_full(&self) -> bool {
        self.transactions.len() >= GATHERED_MAX
    }

    /// When they do not wait any longer. While few come none waits.
    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        let are_many = self.in_window.max(self.in_window_before) >= GATHER_FROM_PER_WINDOW;
        let wait_ms = if are_many { GATHER_MS } else { 0 };
        (!self.transactions.is_empty()).then(|| self.taken_at.plus_ms(wait_ms))
    }

    pub(super) fn is_ripe(&self, now: Timestamp) -> bool {
        self.is_full() || self.next_wakeup().is_some_and(|at| at <= now)
    }

    /// The first ones, as many as are checked together.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<Vec<(Source, SignedTransaction)>> {
        if self.transactions.is_empty() {
            return None;
        }
        let first = self.transactions.len().min(GATHERED_MAX);
        self.count(now, first);
        let rest = self.transactions.split_off(first);
        Some(std::mem::replace(&mut self.transactions, rest))
    }

    fn count(&mut self, now: Timestamp, taken: usize) {
        self.taken_at = now;
        let windows = now.since_ms(self.window) / GATHER_WINDOW_MS;
        if windows > 0 {
            self.in_window_before = if windows == 1 { self.in_window } else { 0 };
            (self.window, self.in_window) = (now, 0);
        }
        self.in_window = self.in_window.saturating_add(taken);
    }
}

#[cfg(test)]
mod tests {
    use arknet_chain::{Action, TransactionBody};
    use arknet_types::{Address, Atoms, KeyPair, NetworkId};

    use super::*;

    fn transactions(count: usize) -> Vec<(Source, SignedTransaction)> {
        let key = KeyPair::from_seed(&[1; 32]);
        let body = TransactionBody {
            network: NetworkId::new("test").unwrap(),
            signer: key.public(),
            nonce: 0,
            gas_limit: 21_000,
            fee_max: Atoms(1),
            tip: Atoms::ZERO,
            action: Action::Transfer { to: Address([0; 20]), amount: Atoms(1) },
        };
        let one = SignedTransaction::sign(body, &key);
        (0..count).map(|n| (Source::Local(n as u64), one.clone())).collect()
    }

    /// Many have come until now.
    fn busy(now: Timestamp) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.add(transactions(GATHER_FROM_PER_WINDOW));
        assert!(gathering.is_ripe(now));
        assert_eq!(gathering.take(now).unwrap().len(), GATHER_FROM_PER_WINDOW);
        assert!(gathering.take(now).is_none() && gathering.next_wakeup().is_none());
        gathering
    }

    #[test]
    fn while_few_come_none_waits() {
        let mut gathering = Gathering::default();
        let at = Timestamp(1_000_000);
        for n in 1..GATHER_FROM_PER_WINDOW {
            gathering.add(transactions(1));
            assert!(gathering.is_ripe(at), "{n}");
            assert_eq!(gathering.take(at).unwrap().len(), 1);
        }
        gathering.add(transactions(1));
        assert!(gathering.take(at).is_some());
        gathering.add(transactions(1));
        assert!(!gathering.is_ripe(at));
    }

    #[test]
    fn while_many_come_they_are_taken_together() {
        let at = Timestamp(1_000_000);
        let mut gathering = busy(at);
        gathering.add(transactions(1));
        gathering.add(transactions(2));
        let due = at.plus_ms(GATHER_MS);
        assert_eq!(gathering.next_wakeup(), Some(due));
        assert!(!gathering.is_ripe(Timestamp(due.0 - 1)) && gathering.is_ripe(due));
        assert_eq!(gathering.take(due).unwrap().len(), 3);
        // Then it is quiet for a while.
        let later = at.plus_ms(2 * GATHER_WINDOW_MS);
        gathering.add(transactions(1));
        assert!(gathering.is_ripe(later) && gathering.take(later).is_some());
        gathering.add(transactions(1));
        assert!(gathering.is_ripe(later));
    }

    #[test]
    fn as_many_as_are_checked_together_do_not_wait() {
        let at = Timestamp(1_000_000);
        let mut gathering = busy(at);
        gathering.add(transactions(GATHERED_MAX - 1));
        assert!(!gathering.is_full() && !gathering.is_ripe(at));
        gathering.add(transactions(2));
        assert!(gathering.is_full() && gathering.is_ripe(at));
        let taken: Vec<_> =
            std::iter::from_fn(|| gathering.take(at)).map(|all| all.len()).collect();
        assert_eq!(taken, [GATHERED_MAX, 1]);
    }
}
