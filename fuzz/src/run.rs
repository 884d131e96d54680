use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::{
    Decoder,
    mutate::{Random, next_case},
};

/// How one decoder did.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Inputs it took.
    pub accepted: u64,
    /// Inputs it refused.
    pub refused: u64,
    /// How long it took.
    pub time: Duration,
    /// How long the slowest case took.
    pub slowest: Duration,
}

/// How long one case may take. Far more than any should: the machine may be busy.
const CASE_TIME_MAX: Duration = Duration::from_secs(30);

/// An input that broke a decoder.
#[derive(Debug)]
pub struct Failure {
    decoder: &'static str,
    what: &'static str,
    case: u64,
    input: Vec<u8>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decoder, what, case, input } = self;
        write!(f, "{decoder} {what} in case {case}: {}", hex::encode(input))
    }
}

impl std::error::Error for Failure {}

/// Feeds `cases` inputs that grow from `seed` to a decoder.
pub fn run(decoder: &Decoder, cases: u64, seed: u64) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut input = Vec::new();
    let (mut accepted, mut slowest) = (0, Duration::ZERO);
    for case in 0..cases {
        next_case(&mut random, &decoder.corpus, &mut input);
        let started = Instant::now();
        let what = match catch_unwind(AssertUnwindSafe(|| (decoder.accepts)(&input))) {
            Ok(_) if started.elapsed() > CASE_TIME_MAX => "took too long",
            Ok(taken) => {
                accepted += u64::from(taken);
                slowest = slowest.max(started.elapsed());
                continue;
            }
            Err(_) => "panicked",
        };
        return Err(Failure { decoder: decoder.name, what, case, input });
    }
    Ok(Outcome { accepted, refused: cases - accepted, time: began.elapsed(), slowest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_found() {
        let decoder = Decoder {
            name: "picky",
            corpus: vec![b"abc".to_vec()],
            one_in: 1,
            accepts: |bytes| {
                assert_ne!(bytes.first(), Some(&0xff), "picky");
                true
            },
        };
        let failure = run(&decoder, 100_000, 1).unwrap_err();
        assert_eq!(failure.input.first(), Some(&0xff));
        assert!(failure.to_string().starts_with("picky panicked in case"), "{failure}");
    }
}
