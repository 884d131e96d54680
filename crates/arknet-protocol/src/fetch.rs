//! Which part of a file comes from whom, when several peers have it.
//!
//! The file is a row of stretches. Each *lane*, a stream to one peer, takes a run of those that are
//! missing; one that has nothing left to take is given half of what another has yet to bring. What a
//! lane does not bring is missing again. Nothing is asked of two peers at the same time, so nothing
//! comes twice but what was under way when a lane was cut.

use std::{collections::BTreeMap, ops::Range};

/// Stretches of one file.
pub const STRETCHES_MAX: u32 = 1 << 20;
/// Stretches asked for in one request.
const RUN_MAX: u32 = 8;
/// Of what is missing, a lane takes one part in so many for each lane, so that all end together.
const SHARES: u32 = 4;

/// Names a lane.
pub type Lane = u32;

/// What each lane brings, and what is there.
#[derive(Debug)]
pub struct Fetch {
    stretches: Vec<Place>,
    missing: u32,
    /// What each lane has yet to bring; the first one is under way.
    lanes: BTreeMap<Lane, Range<u32>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Missing,
    Taken,
    Here,
}

impl Fetch {
    /// A file of so many stretches, of which some are here.
    ///
    /// # Panics
    /// When there are more than [`STRETCHES_MAX`].
    #[must_use]
    pub fn new(stretches: u32, is_here: impl Fn(u32) -> bool) -> Self {
        assert!(stretches <= STRETCHES_MAX, "a file has a largest size");
        let place = |at| if is_here(at) { Place::Here } else { Place::Missing };
        let stretches: Vec<_> = (0..stretches).map(place).collect();
        let missing = stretches.iter().filter(|place| **place == Place::Missing).count();
        let missing = u32::try_from(missing).expect("no more than there are");
        Self { stretches, missing, lanes: BTreeMap::new() }
    }

    /// Whether all of it is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && self.lanes.is_empty()
    }

    /// What `lane` brings next; none when there is nothing left to take. Then something may become
    /// missing again, as long as the file is not complete.
    ///
    /// # Panics
    /// When the lane has not brought what it took, and has not said that it failed.
    pub fn next(&mut self, lane: Lane) -> Option<Range<u32>> {
        assert!(!self.lanes.contains_key(&lane), "one run at a time");
        let run = self.missing_run().or_else(|| self.half_of_another())?;
        for at in run.clone() {
            self.stretches[at as usize] = Place::Taken;
        }
        self.lanes.insert(lane, run.clone());
        Some(run)
    }

    /// `lane` has brought the first of what it had yet to bring. Says whether it goes on.
    pub fn brought(&mut self, lane: Lane, stretch: u32) -> bool {
        let Some(run) = self.lanes.get_mut(&lane) else { return false };
        if run.start != stretch {
            return false;
        }
        run.start += 1;
        let goes_on = run.start < run.end;
        if !goes_on {
            self.lanes.remove(&lane);
        }
        self.stretches[stretch as usize] = Place::Here;
        goes_on
    }

    /// `lane` brings nothing more of what it took.
    pub fn failed(&mut self, lane: Lane) {
        for at in self.lanes.remove(&lane).into_iter().flatten() {
            self.stretches[at as usize] = Place::Missing;
            self.missing += 1;
        }
    }

    fn missing_run(&mut self) -> Option<Range<u32>> {
        if self.missing == 0 {
            return None;
        }
        let lanes = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX).saturating_add(1);
        let share = (self.missing / lanes.saturating_mul(SHARES)).clamp(1, RUN_MAX);
        let is_missing = |place: &Place| *place == Place::Missing;
        let start = self.stretches.iter().position(is_missing).expect("some are missing");
        let run = self.stretches[start..].iter().take(share as usize);
        let length = u32::try_from(run.take_while(|place| is_missing(place)).count()).unwrap_or(1);
        let start = u32::try_from(start).expect("below the largest number of stretches");
        self.missing -= length;
        Some(start..start + length)
    }

    /// The later half of what the slowest lane has yet to bring, but not what is under way.
    fn half_of_another(&mut self) -> Option<Range<u32>> {
        let longest = self.lanes.values_mut().max_by_key(|run| run.len())?;
        if longest.len() < 2 {
            return None;
        }
        let middle = longest.start + (longest.end - longest.start).div_ceil(2);
        let half = middle..longest.end;
        longest.end = middle;
        Some(half)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lanes_share_what_is_missing_and_end_together() {
        let mut fetch = Fetch::new(10, |at| at < 2);
        assert_eq!(fetch.next(0), Some(2..4), "a quarter of eight");
        assert_eq!(fetch.next(1), Some(4..5));
        for at in 2..4 {
            assert_eq!(fetch.brought(0, at), at < 3);
        }
        while let Some(run) = fetch.next(0) {
            if fetch.is_complete() || run.start < 5 {
                break;
            }
            run.for_each(|at| {
                fetch.brought(0, at);
            });
        }
        assert!(!fetch.is_complete(), "lane 1 has one yet");
        assert!(!fetch.brought(1, 4));
        assert!(fetch.is_complete());
    }

    #[test]
    fn half_of_what_a_slow_lane_has_yet_to_bring_goes_to_another() {
        let mut fetch = Fetch::new(32, |_| false);
        assert_eq!(fetch.next(0), Some(0..8));
        let mut at = 8;
        while at < 32 {
            let run = fetch.next(1).unwrap();
            assert_eq!(run.start, at);
            at = run.end;
            run.for_each(|at| {
                fetch.brought(1, at);
            });
        }
        assert_eq!(fetch.next(1), Some(4..8), "half of it");
        for at in 0..4 {
            assert_eq!(fetch.brought(0, at), at < 3, "it ends where the other begins");
        }
        fetch.failed(1);
        assert_eq!(fetch.next(0).map(|run| run.start), Some(4));
    }

    proptest! {
        #[test]
        fn every_stretch_comes_whatever_fails(
            stretches in 0..60_u32,
            here in prop::collection::vec(any::<bool>(), 60),
            steps in prop::collection::vec((0..5_u32, 0..6_u8), 0..300),
        ) {
            let mut fetch = Fetch::new(stretches, |at| here[at as usize]);
            let mut has: Vec<bool> = here[..stretches as usize].to_vec();
            let mut runs: BTreeMap<Lane, u32> = BTreeMap::new();
            let mut step = |fetch: &mut Fetch, lane: Lane, what: u8| {
                match runs.get(&lane).copied() {
                    None => {
                        if let Some(run) = fetch.next(lane) {
                            assert!(!run.is_empty() && run.end <= stretches);
                            assert!(run.clone().all(|at| !has[at as usize]), "it is here");
                            runs.insert(lane, run.start);
                        }
                    }
                    Some(_) if what == 0 => {
                        fetch.failed(lane);
                        runs.remove(&lane);
                    }
                    Some(at) => {
                        has[at as usize] = true;
                        if fetch.brought(lane, at) {
                            runs.insert(lane, at + 1);
                        } else {
                            runs.remove(&lane);
                        }
                    }
                }
            };
            for (lane, what) in steps {
                step(&mut fetch, lane, what);
            }
            for round in 0..1_000 {
                if fetch.is_complete() {
                    break;
                }
                prop_assert!(round < 999, "it never ends: {fetch:?}");
                step(&mut fetch, round % 5, 1);
            }
            prop_assert!(has.iter().all(|has| *has));
        }
    }
}
