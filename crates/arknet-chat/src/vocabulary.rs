//! The tokens of a model, in the form constraints need.

use std::sync::Arc;

use llguidance::{
    ParserFactory,
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};

use crate::{
    ConstraintError,
    limits::{VOCABULARY_BYTES_MAX, VOCABULARY_TOKEN_BYTES_MAX, VOCABULARY_TOKENS_MAX},
};

/// The tokens of a model. Costs a moment and some megabytes to build, nothing to clone: build it
/// once for each model.
#[derive(Clone)]
pub struct Vocabulary {
    factory: Arc<ParserFactory>,
}

impl Vocabulary {
    /// A vocabulary of these tokens, by number. `special` are control tokens, whose bytes are their
    /// text; `ends` those that end an answer, of which there must be one. Tokens without bytes are
    /// never allowed.
    pub fn new(
        tokens: Vec<Vec<u8>>,
        special: &[u32],
        ends: &[u32],
    ) -> Result<Self, ConstraintError> {
        let mut tokens = tokens;
        let count = tokens.len();
        let bytes: usize = tokens.iter().map(Vec::len).sum();
        let is_known = |id: &u32| (*id as usize) < count;
        if count > VOCABULARY_TOKENS_MAX
            || bytes > VOCABULARY_BYTES_MAX
            || ends.is_empty()
            || !ends.iter().chain(special).all(is_known)
        {
            return Err(ConstraintError::Vocabulary);
        }
        for token in tokens.iter_mut().filter(|t| t.len() > VOCABULARY_TOKEN_BYTES_MAX) {
            token.clear();
        }
        for id in special {
            let token = &mut tokens[*id as usize];
            if !token.is_empty() {
                token.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        let info = TokRxInfo::new(u32::try_from(count).unwrap_or(u32::MAX), ends[0]);
        let trie = TokTrie::from(&info, &tokens).with_eos_tokens(ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &[])
            .map_err(|_| ConstraintError::Vocabulary)?;
        factory.quiet();
        Ok(Self { factory: Arc::new(factory) })
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.factory.tok_env().tok_trie().vocab_size()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
