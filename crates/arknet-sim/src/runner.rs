use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use crate::{Mutant, Report, Sim, Violation};

/// Runs one seed twice: both runs must hold every rule and have the same trace.
pub fn run_seed(seed: u64) -> Result<Report, Violation> {
    let first = run_once(seed, None)?;
    let second = run_once(seed, None)?;
    if first == second {
        return Ok(first);
    }
    Err(Violation {
        flag: "seed",
        seed,
        what: format!("two runs differ: {first:?} and {second:?}"),
    })
}

/// Runs one seed once, with a driver that does one thing wrong if a `mutant` is given.
pub(crate) fn run_once(seed: u64, mutant: Option<Mutant>) -> Result<Report, Violation> {
    let run = AssertUnwindSafe(|| Sim::new(seed, mutant).run());
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let what = format!("a panic: {}", text.unwrap_or_default());
        Err(Violation { flag: "seed", seed, what })
    })
}

/// Runs the seeds from `first` on, `count` of them, on `threads` threads. Returns the reports in
/// the order of the seeds, or the violation with the lowest seed.
pub fn run_seeds(first: u64, count: u64, threads: u64) -> Result<Vec<Report>, Violation> {
    assert!(threads > 0, "somebody has to run them");
    let lane = |lane: u64| {
        let mine = (first..first + count).filter(move |seed| seed % threads == lane);
        mine.map(|seed| (seed, run_seed(seed))).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads).map(|n| scope.spawn(move || lane(n))).collect();
        let done = lanes.into_iter().map(|lane| lane.join());
        done.flat_map(|lane| lane.expect("a run catches its panics")).collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds within which each faulty driver must be caught.
    const LIMIT: u64 = 300;

    /// The mutants of `all` that are not caught by the rule they break.
    fn escaped(all: &[(Mutant, &str)]) -> Vec<Mutant> {
        let is_caught = |mutant, words| {
            let mut runs = (0..LIMIT).filter_map(|seed| run_once(seed, Some(mutant)).err());
            runs.any(|violation| violation.what.contains(words))
        };
        let escaped = all.iter().filter(|(mutant, words)| !is_caught(*mutant, words));
        escaped.map(|(mutant, _)| *mutant).collect()
    }

    #[test]
    fn faulty_drivers_are_caught_by_the_rule_they_break() {
        assert_eq!(escaped(&Mutant::ALL[..7]), []);
    }

    #[test]
    fn other_faulty_drivers_are_caught_too() {
        assert_eq!(escaped(&Mutant::ALL[7..]), []);
    }
}
