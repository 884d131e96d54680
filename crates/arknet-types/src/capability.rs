use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// What a model can do: a set, one bit each. Bits that nobody here knows are carried and ignored, so
/// that a newer peer may announce more.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Answers and continues texts.
    pub const GENERATE: Self = Self(1);
    /// Calls tools.
    pub const TOOLS: Self = Self(1 << 1);
    /// Takes pictures.
    pub const VISION: Self = Self(1 << 2);
    /// Thinks aloud, apart from its answer.
    pub const REASONING: Self = Self(1 << 3);
    /// Follows a JSON Schema or a grammar.
    pub const CONSTRAINED: Self = Self(1 << 4);
    /// Says how likely its tokens were.
    pub const LOGPROBS: Self = Self(1 << 5);
    /// Turns texts into vectors.
    pub const EMBED: Self = Self(1 << 6);
    /// Orders documents by how well they answer a query.
    pub const RERANK: Self = Self(1 << 7);
    /// Counts tokens, splits texts into them and puts them together again.
    pub const TOKENIZE: Self = Self(1 << 8);
    /// Computes the same bits whatever else it computes: the exact profile.
    pub const EXACT: Self = Self(1 << 9);
    /// Can be had as a file.
    pub const FILE: Self = Self(1 << 10);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::GENERATE, "generate"),
        (Self::TOOLS, "tools"),
        (Self::VISION, "vision"),
        (Self::REASONING, "reasoning"),
        (Self::CONSTRAINED, "constrained"),
        (Self::LOGPROBS, "logprobs"),
        (Self::EMBED, "embed"),
        (Self::RERANK, "rerank"),
        (Self::TOKENIZE, "tokenize"),
        (Self::EXACT, "exact"),
        (Self::FILE, "file"),
    ];

    /// Both together.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// The first without the second.
    #[must_use]
    pub const fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }

    /// Whether all of `wanted` is there.
    #[must_use]
    pub const fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// The names of what is there.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(one, _)| self.contains(*one)).map(|(_, name)| name)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let both = Capabilities::EMBED.with(Capabilities::TOKENIZE);
        assert!(both.contains(Capabilities::EMBED) && both.contains(Capabilities::NONE));
        assert!(!Capabilities::EMBED.contains(both));
        assert_eq!(both.without(Capabilities::EMBED), Capabilities::TOKENIZE);
        assert_eq!(both.names().collect::<Vec<_>>(), ["embed", "tokenize"]);
    }
}
