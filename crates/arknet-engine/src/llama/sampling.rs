//! The next token, from the model's opinion and the request's wishes.

use std::hash::{BuildHasher, RandomState};

use arknet_types::{Refusal, RefusalCode, Sampling};
use llama_cpp_2::{
    context::LlamaContext,
    sampling::LlamaSampler,
    token::{LlamaToken, logit_bias::LlamaLogitBias},
};

/// A bias of -100 means never. Finite, so that forbidding every token is a poor wish and not a
/// division of zero by zero inside the native sampler.
const NEVER: f32 = -1.0e9;

/// Draws tokens for one sequence.
pub(crate) enum Draw {
    /// The likeliest token, with nothing to change before. Looking for it here is several times
    /// faster than sorting out candidates for a chain.
    Likeliest,
    /// A chain of native samplers.
    Chain(LlamaSampler),
}

impl Draw {
    /// Sets up what a request asks for. `vocabulary` is the number of tokens, `context_tokens` how
    /// far back penalties look.
    pub(crate) fn new(
        sampling: &Sampling,
        vocabulary: i32,
        context_tokens: u32,
    ) -> Result<Self, Refusal> {
        let mut chain = Vec::new();
        if !sampling.logit_bias.is_empty() {
            let biases = biases(sampling, vocabulary)?;
            chain.push(LlamaSampler::logit_bias(vocabulary, &biases));
        }
        if sampling.repeat_penalty != 1.0
            || sampling.frequency_penalty != 0.0
            || sampling.presence_penalty != 0.0
        {
            chain.push(LlamaSampler::penalties(
                vocabulary,
                i32::try_from(context_tokens).unwrap_or(i32::MAX),
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            ));
        }
        if sampling.temperature <= 0.0 {
            if chain.is_empty() {
                return Ok(Self::Likeliest);
            }
            chain.push(LlamaSampler::greedy());
            return Ok(Self::Chain(LlamaSampler::chain(chain, true)));
        }
        if sampling.top_k > 0 {
            let k = i32::try_from(sampling.top_k).unwrap_or(i32::MAX);
            chain.push(LlamaSampler::top_k(k));
        }
        if sampling.top_p < 1.0 {
            chain.push(LlamaSampler::top_p(sampling.top_p, 1));
        }
        if sampling.min_p > 0.0 {
            chain.push(LlamaSampler::min_p(sampling.min_p, 1));
        }
        chain.push(LlamaSampler::temp(sampling.temperature));
        let seed = sampling.seed.unwrap_or_else(any_seed);
        chain.push(LlamaSampler::dist(native_seed(seed)));
        Ok(Self::Chain(LlamaSampler::chain(chain, true)))
    }

    /// The token that follows row `row` of the last batch.
    pub(crate) fn next(&mut self, context: &LlamaContext<'_>, row: i32) -> LlamaToken {
        match self {
            Self::Likeliest => likeliest(context.get_logits_ith(row)),
            // This also tells the chain's penalties about the token. They count what was
            // generated, not the input.
            Self::Chain(chain) => chain.sample(context, row),
        }
    }
}

fn biases(sampling: &Sampling, vocabulary: i32) -> Result<Vec<LlamaLogitBias>, Refusal> {
    let of = |bias: &arknet_types::LogitBias| {
        let token = i32::try_from(bias.token).ok().filter(|t| *t < vocabulary)?;
        let value = if bias.bias <= -100.0 { NEVER } else { bias.bias };
        Some(LlamaLogitBias::new(LlamaToken(token), value))
    };
    let biases: Option<Vec<_>> = sampling.logit_bias.iter().map(of).collect();
    biases.ok_or_else(|| {
        Refusal::new(
            RefusalCode::InvalidRequest,
            format!("logit_bias names a token that the model's {vocabulary} tokens do not include"),
        )
    })
}

/// The first of the largest numbers, as the native greedy sampler has it.
fn likeliest(logits: &[f32]) -> LlamaToken {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, logit) in logits.iter().enumerate() {
        if *logit > best.1 {
            best = (index, *logit);
        }
    }
    LlamaToken(i32::try_from(best.0).expect("a vocabulary is counted in i32"))
}

/// The native generator takes 32 bits, and takes the largest number for a wish for any seed.
fn native_seed(seed: u64) -> u32 {
    let folded = (seed ^ (seed >> 32)) & u64::from(u32::MAX);
    u32::try_from(folded).expect("masked").min(u32::MAX - 1)
}

/// A seed nobody chose. It decides between words, so the hasher's randomness is good enough.
fn any_seed() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arknet_types::LogitBias;

    #[test]
    fn the_first_of_the_largest_wins() {
        assert_eq!(likeliest(&[0.0, 2.0, f32::NAN, 2.0]), LlamaToken(1));
        assert_eq!(likeliest(&[f32::NAN]), LlamaToken(0));
        assert_eq!(likeliest(&[]), LlamaToken(0));
    }

    #[test]
    fn every_bit_of_a_seed_counts_and_none_means_random() {
        assert_eq!(native_seed(7), 7);
        assert_ne!(native_seed(7), native_seed(7 | 1 << 40));
        for seed in [u64::from(u32::MAX), u64::from(u32::MAX) << 32] {
            assert_ne!(native_seed(seed), u32::MAX);
        }
        assert_ne!(any_seed(), any_seed());
    }

    #[test]
    fn plain_greedy_needs_no_chain_and_unknown_tokens_are_refused() {
        let mut sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        assert!(matches!(Draw::new(&sampling, 10, 8), Ok(Draw::Likeliest)));
        sampling.logit_bias = vec![LogitBias { token: 9, bias: 1.0 }];
        assert!(matches!(Draw::new(&sampling, 10, 8), Ok(Draw::Chain(_))));
        for token in [10, u32::MAX] {
            sampling.logit_bias[0].token = token;
            let refusal = Draw::new(&sampling, 10, 8).err().unwrap();
            assert_eq!(refusal.code, RefusalCode::InvalidRequest);
        }
    }
}
