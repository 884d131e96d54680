//! The tokens of a model, in the form constraints need.

use std::{collections::HashMap, sync::Arc};

use llguidance::{
    ParserFactory,
    api::ParserLimits,
    earley::SlicedBiasComputer,
    toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie},
};

use crate::{
    ConstraintError,
    limits::{
        CONSTRAINT_BUILD_FUEL, CONSTRAINT_ROW_ITEMS_MAX, CONSTRAINT_STATES_MAX,
        CONSTRAINT_STEP_FUEL, CONSTRAINT_STEP_ITEMS_MAX, CONSTRAINT_SYMBOLS_MAX,
        VOCABULARY_BYTES_MAX, VOCABULARY_TOKEN_BYTES_MAX, VOCABULARY_TOKENS_MAX,
    },
};

/// The tokens of a model. Costs a moment and some megabytes to build, nothing to clone: build it
/// once for each model.
#[derive(Clone)]
pub struct Vocabulary(Arc<Inner>);

struct Inner {
    factory: ParserFactory,
    specials: HashMap<Vec<u8>, u32>,
    all_but_ends: SimpleVob,
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
        let mut specials = HashMap::new();
        for id in special {
            specials.insert(tokens[*id as usize].clone(), *id);
        }
        for (id, token) in tokens.iter_mut().enumerate() {
            let is_special = specials.get(token).is_some_and(|special| *special as usize == id);
            // The marker of special tokens is no byte of a text, and must not seem to be one.
            let is_misleading = token.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER);
            if token.len() > VOCABULARY_TOKEN_BYTES_MAX || (is_misleading && token.len() > 1) {
                token.clear();
            }
            if is_special && !token.is_empty() {
                token.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        let info = TokRxInfo::new(u32::try_from(count).unwrap_or(u32::MAX), ends[0]);
        let trie = TokTrie::from(&info, &tokens).with_eos_tokens(ends);
        let mut all_but_ends = trie.alloc_token_set();
        for (id, token) in (0..).zip(&tokens) {
            if !token.is_empty() && !ends.contains(&id) {
                all_but_ends.allow_token(id);
            }
        }
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
                .map_err(|_| ConstraintError::Vocabulary)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self(Arc::new(Inner { factory, specials, all_but_ends })))
    }

    /// A vocabulary of bytes, for checks that do not depend on the model.
    pub(crate) fn of_bytes() -> Result<Self, ConstraintError> {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        tokens.push(b"<end>".to_vec());
        Self::new(tokens, &[256], &[256])
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trie().vocab_size()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn factory(&self) -> &ParserFactory {
        &self.0.factory
    }

    pub(crate) fn trie(&self) -> &TokTrie {
        self.0.factory.tok_env().tok_trie()
    }

    /// The special token with this text.
    pub(crate) fn special(&self, text: &str) -> Option<u32> {
        self.0.specials.get(text.as_bytes()).copied()
    }

    /// What a token writes, special or not.
    pub(crate) fn text(&self, token: u32) -> &[u8] {
        if (token as usize) >= self.len() {
            return &[];
        }
        let bytes = self.trie().token(token);
        match bytes {
            [TokTrie::SPECIAL_TOKEN_MARKER, text @ ..] if !text.is_empty() => text,
            bytes => bytes,
        }
    }

    /// Whether a token ends the answer.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.trie().eos_tokens().contains(&token)
    }

    pub(crate) fn all_but_ends(&self) -> SimpleVob {
        self.0.all_but_ends.clone()
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vocabulary({} tokens)", self.len())
    }
}

fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: CONSTRAINT_ROW_ITEMS_MAX,
        initial_lexer_fuel: CONSTRAINT_BUILD_FUEL,
        step_lexer_fuel: CONSTRAINT_STEP_FUEL,
        step_max_items: CONSTRAINT_STEP_ITEMS_MAX,
        max_lexer_states: CONSTRAINT_STATES_MAX,
        max_grammar_size: CONSTRAINT_SYMBOLS_MAX,
        precompute_large_lexemes: true,
        // They quote what a user wrote.
        verbose_errors: false,
    }
}
