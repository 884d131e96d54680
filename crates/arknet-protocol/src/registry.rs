//! When a node speaks to a registry: to enter it again before its entry expires, and to read who
//! else is there.

use arknet_types::Timestamp;

use crate::Backoff;

/// How long an entry counts: should the node vanish, it is listed for so long.
pub const ENTRY_LIFETIME_MS: u64 = 6 * 3_600_000;
/// Time between two entries of a node that nothing changes about.
const ENTER_MS: u64 = 2 * 3_600_000;
/// Time between two entries when something changes all the time.
const CHANGE_MS: u64 = 60_000;
/// Time between two readings.
const READ_MS: u64 = 10 * 60_000;
/// The first pause after a failure, and the longest.
const BACKOFF_MS: (u64, u64) = (10_000, 30 * 60_000);

/// Something to ask of a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RegistryWork {
    /// Enter this node.
    Enter,
    /// Read who is there.
    Read,
}

/// What is due when.
#[derive(Debug)]
pub struct RegistryRounds {
    enter: Option<Round>,
    read: Round,
}

#[derive(Debug)]
struct Round {
    due: Timestamp,
    /// When it last went well.
    done: Option<Timestamp>,
    has_failed: bool,
    backoff: Backoff,
}

impl RegistryRounds {
    /// Both are due at once; a node that does not enter only reads.
    #[must_use]
    pub fn new(now: Timestamp, enters: bool) -> Self {
        Self { enter: enters.then(|| Round::new(now)), read: Round::new(now) }
    }

    /// What is due, or until when nothing is. A node that has nothing to tell does not enter.
    pub fn due(&self, now: Timestamp, can_enter: bool) -> Result<RegistryWork, Timestamp> {
        match self.enter.as_ref().filter(|_| can_enter) {
            Some(enter) if enter.due <= now => Ok(RegistryWork::Enter),
            _ if self.read.due <= now => Ok(RegistryWork::Read),
            Some(enter) => Err(enter.due.min(self.read.due)),
            None => Err(self.read.due),
        }
    }

    /// It went well.
    pub fn succeeded(&mut self, now: Timestamp, work: RegistryWork) {
        let pause = match work {
            RegistryWork::Enter => ENTER_MS,
            RegistryWork::Read => READ_MS,
        };
        if let Some(round) = self.round(work) {
            round.backoff.succeed();
            round.has_failed = false;
            round.done = Some(now);
            round.due = now.plus_ms(pause);
        }
    }

    /// It did not; `again_ms` is when the registry wants to be asked again. The salt spreads nodes
    /// that lost one registry.
    pub fn failed(&mut self, now: Timestamp, work: RegistryWork, again_ms: Option<u64>, salt: u64) {
        if let Some(round) = self.round(work) {
            // A registry that wants to be asked in a year is asked as if it had said nothing.
            let (_, longest) = BACKOFF_MS;
            let asked = again_ms.unwrap_or(0).min(longest);
            round.has_failed = true;
            round.due = now.plus_ms(round.backoff.fail(salt).max(asked));
        }
    }

    /// What the node tells has changed, so that it enters again soon.
    pub fn changed(&mut self, now: Timestamp) {
        if let Some(enter) = &mut self.enter
            && !enter.has_failed
            && let Some(done) = enter.done
        {
            enter.due = enter.due.min(done.plus_ms(CHANGE_MS).max(now));
        }
    }

    /// Whether the registry may list this node now.
    #[must_use]
    pub fn is_entered(&self, now: Timestamp) -> bool {
        let done = self.enter.as_ref().and_then(|enter| enter.done);
        done.is_some_and(|done| now.since_ms(done) < ENTRY_LIFETIME_MS)
    }

    fn round(&mut self, work: RegistryWork) -> Option<&mut Round> {
        match work {
            RegistryWork::Enter => self.enter.as_mut(),
            RegistryWork::Read => Some(&mut self.read),
        }
    }
}

impl Round {
    const fn new(now: Timestamp) -> Self {
        let (first, longest) = BACKOFF_MS;
        let backoff = Backoff::new(first, longest);
        Self { due: now, done: None, has_failed: false, backoff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn a_node_enters_long_before_its_entry_expires_and_reads_now_and_then() {
        let mut rounds = RegistryRounds::new(NOW, true);
        assert_eq!(rounds.due(NOW, true), Ok(RegistryWork::Enter));
        assert_eq!(rounds.due(NOW, false), Ok(RegistryWork::Read), "with nothing to tell");
        assert!(!rounds.is_entered(NOW));
        rounds.succeeded(NOW, RegistryWork::Enter);
        assert!(rounds.is_entered(NOW));
        assert_eq!(rounds.due(NOW, true), Ok(RegistryWork::Read));
        rounds.succeeded(NOW, RegistryWork::Read);
        assert_eq!(rounds.due(NOW, true), Err(NOW.plus_ms(READ_MS)));
        assert_eq!(rounds.due(NOW.plus_ms(READ_MS), true), Ok(RegistryWork::Read));
        let again = NOW.plus_ms(ENTER_MS);
        assert_eq!(rounds.due(again, true), Ok(RegistryWork::Enter));
        assert!(again.since_ms(NOW) * 2 < ENTRY_LIFETIME_MS, "two may fail");
        assert!(!rounds.is_entered(NOW.plus_ms(ENTRY_LIFETIME_MS)));
    }

    #[test]
    fn a_node_that_does_not_enter_only_reads() {
        let mut rounds = RegistryRounds::new(NOW, false);
        assert_eq!(rounds.due(NOW, true), Ok(RegistryWork::Read));
        rounds.succeeded(NOW, RegistryWork::Enter);
        rounds.changed(NOW);
        assert!(!rounds.is_entered(NOW));
        rounds.succeeded(NOW, RegistryWork::Read);
        assert_eq!(rounds.due(NOW, true), Err(NOW.plus_ms(READ_MS)));
    }

    #[test]
    fn changes_are_told_soon_but_not_all_the_time() {
        let mut rounds = RegistryRounds::new(NOW, true);
        rounds.changed(NOW);
        rounds.succeeded(NOW, RegistryWork::Enter);
        rounds.succeeded(NOW, RegistryWork::Read);
        rounds.changed(NOW.plus_ms(1));
        assert_eq!(rounds.due(NOW.plus_ms(1), true), Err(NOW.plus_ms(CHANGE_MS)));
        rounds.changed(NOW.plus_ms(CHANGE_MS + 5));
        assert_eq!(rounds.due(NOW.plus_ms(CHANGE_MS), true), Ok(RegistryWork::Enter));
    }

    #[test]
    fn a_registry_that_fails_is_left_alone_for_longer_and_longer() {
        let mut rounds = RegistryRounds::new(NOW, true);
        let mut now = NOW;
        let mut waits = Vec::new();
        for salt in 0..12 {
            rounds.failed(now, RegistryWork::Enter, None, salt * 7919);
            rounds.failed(now, RegistryWork::Read, None, salt * 7919);
            rounds.changed(now);
            let Err(due) = rounds.due(now, true) else { panic!("nothing is due at once") };
            waits.push(due.since_ms(now));
            now = due;
        }
        let (first, longest) = BACKOFF_MS;
        assert!((first / 2..=first).contains(&waits[0]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= longest) && waits[11] >= longest / 2, "{waits:?}");
        rounds.failed(now, RegistryWork::Read, Some(u64::MAX), 0);
        rounds.succeeded(now, RegistryWork::Enter);
        assert_eq!(rounds.due(now, true), Err(now.plus_ms(longest)), "nobody sets it for a year");
        rounds.succeeded(now, RegistryWork::Read);
        rounds.failed(now, RegistryWork::Read, None, u64::MAX);
        assert!(rounds.due(now, true).unwrap_err() <= now.plus_ms(first));
    }
}
