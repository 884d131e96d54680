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
}

/// An input that broke a decoder.
#[derive(Debug)]
pub struct Failure {
    decoder: &'static str,
    case: u64,
    input: Vec<u8>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decoder, case, input } = self;
        write!(f, "{decoder} panicked in case {case}: {}", hex::encode(input))
    }
}

impl std::error::Error for Failure {}

/// Feeds `cases` inputs that grow from `seed` to a decoder.
pub fn run(decoder: &Decoder, cases: u64, seed: u64) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let mut random = Random::new(seed);
    let mut input = Vec::new();
    let mut accepted = 0;
    for case in 0..cases {
        next_case(&mut random, &decoder.corpus, &mut input);
        match catch_unwind(AssertUnwindSafe(|| (decoder.accepts)(&input))) {
            Ok(taken) => accepted += u64::from(taken),
            Err(_) => return Err(Failure { decoder: decoder.name, case, input }),
        }
    }
    Ok(Outcome { accepted, refused: cases - accepted, time: began.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_found() {
        let decoder = Decoder {
            name: "picky",
            corpus: vec![b"abc".to_vec()],
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
