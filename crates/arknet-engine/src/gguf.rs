//! Reads what a GGUF file says about itself, without trusting it.
//!
//! Model files come from strangers, and the native loader was not written for hostile ones. This
//! reader is: it never panics, reads each byte at most once, keeps nothing whose size the file
//! chooses, and fails on the first thing that is out of bounds. A file it accepts has all the bytes
//! its tensors need, so a truncated download is caught here.

mod metadata;
mod reader;
mod tensors;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use metadata::Metadata;
use reader::Reader;

/// Why a file is not a model we can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// A number, length or count that no real model has, or that contradicts another.
    #[error("{what} is damaged or made up: {found}")]
    Absurd {
        /// Which part of the file.
        what: &'static str,
        /// What it says there.
        found: u64,
    },
    /// Written on a machine of the other byte order.
    #[error("the file is big-endian; convert it to little-endian")]
    BigEndian,
    /// One key twice.
    #[error("the metadata key {key} occurs twice")]
    Duplicate {
        /// The key.
        key: String,
    },
    /// The file could not be read.
    #[error("the file could not be read: {0}")]
    Io(#[from] io::Error),
    /// A key without which no model runs.
    #[error("the metadata has no {key}")]
    Missing {
        /// The key.
        key: String,
    },
    /// Some other kind of file.
    #[error("this is not a GGUF file")]
    NotGguf,
    /// One part of a model that was split over several files.
    #[error("this is one of {parts} parts of a model; join them with llama-gguf-split --merge")]
    Part {
        /// How many parts there are.
        parts: u64,
    },
    /// Text that is not UTF-8, or a key with unusual characters.
    #[error("{what} is not text")]
    Text {
        /// Which part of the file.
        what: &'static str,
    },
    /// The file ends too early.
    #[error("the file is truncated: it has {length} bytes and needs {needed} at least")]
    Truncated {
        /// Bytes there are.
        length: u64,
        /// Bytes there should be.
        needed: u64,
    },
    /// A version of the format or a tensor type that is not known here.
    #[error("{what} {found} is not supported")]
    Unsupported {
        /// Of what kind.
        what: &'static str,
        /// Which one.
        found: u32,
    },
}

/// What a model file says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GgufInfo {
    /// The kind of network: `qwen3`, `llama`.
    pub architecture: String,
    /// What its maker calls it.
    pub name: Option<String>,
    /// Tokens it was trained to see at once.
    pub context_tokens: u32,
    /// Layers.
    pub layers: u32,
    /// Tokens in the vocabulary.
    pub vocabulary_tokens: u64,
    /// Whether it says how conversations are written.
    pub has_chat_template: bool,
    /// Whether it continues text. Embedding models and translators do not.
    pub is_causal: bool,
    /// Tensors.
    pub tensors: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Elements of keys and values that one token adds to the cache, over all layers.
    kv_elements_per_token: u64,
}

impl GgufInfo {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Self::parse(BufReader::with_capacity(1 << 16, file), length)
    }

    /// Reads a file of `length` bytes, as far as its description goes. What `source` holds beyond
    /// `length` does not matter.
    pub fn parse(source: impl Read, length: u64) -> Result<Self, GgufError> {
        let mut reader = Reader::new(source, length);
        if reader.bytes::<4>().ok() != Some(*b"GGUF") {
            return Err(GgufError::NotGguf);
        }
        match reader.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
            found => {
                return Err(GgufError::Unsupported { what: "GGUF version", found });
            }
        }
        let tensors = reader.count("the number of tensors", tensors::TENSORS_MAX)?;
        let keys = reader.count("the number of metadata keys", metadata::KEYS_MAX)?;
        let metadata = Metadata::read(&mut reader, keys)?;
        let tensor_bytes = tensors::check(&mut reader, tensors, metadata.alignment()?)?;
        Self::gather(&metadata, tensors, tensor_bytes)
    }

    /// Bytes one token takes in the cache of one sequence, at two bytes an element.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.kv_elements_per_token.saturating_mul(2)
    }

    fn gather(metadata: &Metadata, tensors: u64, tensor_bytes: u64) -> Result<Self, GgufError> {
        if let Some(parts @ 2..) = metadata.integer("split.count") {
            return Err(GgufError::Part { parts });
        }
        let missing = |key: &str| GgufError::Missing { key: key.into() };
        let architecture = metadata
            .text("general.architecture")
            .ok_or_else(|| missing("general.architecture"))?
            .to_owned();
        let need = |suffix: &str| {
            let key = format!("{architecture}.{suffix}");
            let value = metadata.integer(&key);
            let value = value.ok_or(GgufError::Missing { key })?;
            u32::try_from(value)
                .map_err(|_| GgufError::Absurd { what: "the model's shape", found: value })
        };
        let context_tokens = need("context_length")?;
        let layers = need("block_count")?;
        Ok(Self {
            name: metadata.text("general.name").map(str::to_owned),
            context_tokens,
            layers,
            vocabulary_tokens: metadata
                .elements("tokenizer.ggml.tokens")
                .ok_or_else(|| missing("tokenizer.ggml.tokens"))?,
            has_chat_template: metadata.has("tokenizer.chat_template"),
            is_causal: metadata.integer(&format!("{architecture}.attention.causal")) != Some(0)
                && !architecture.starts_with("t5"),
            tensors,
            tensor_bytes,
            kv_elements_per_token: metadata.kv_elements_per_token(&architecture, layers),
            architecture,
        })
    }
}
