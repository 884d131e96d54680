//! Reads what a GGUF file says about itself, without trusting it.
//!
//! Model files come from strangers, and the native loader was not written for hostile ones. This
//! reader is: it never panics, reads each byte at most once, keeps nothing whose size the file
//! chooses, and fails on the first thing that is out of bounds. A file it accepts has all the bytes
//! its tensors need, so a truncated download is caught here.

mod metadata;
mod projector;
mod reader;
mod tensors;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

pub use projector::ProjectorInfo;

use metadata::Metadata;
use reader::Reader;
use tensors::Sizes;

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
    /// A model where the projector of one should be, or a projector of something else than pictures.
    #[error("this is no projector for pictures, its architecture is {architecture}")]
    NotProjector {
        /// What it is.
        architecture: String,
    },
    /// One part of a model that was split over several files.
    #[error("this is one of {parts} parts of a model; join them with llama-gguf-split --merge")]
    Part {
        /// How many parts there are.
        parts: u64,
    },
    /// The projector of a model where a model should be.
    #[error("this is the projector of a model; add the model, and this with --projector")]
    Projector,
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
    /// How conversations are written, if it says so.
    pub chat_template: Option<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// How the vectors of its tokens become one, if it says so.
    pub pooling: Option<Pooling>,
    /// Whether every token sees those after it too, so that a text must be read in one step.
    pub is_read_whole: bool,
    /// Whether positions are computed. Those that were learned end where training did, and the
    /// native library ends the process when asked for more.
    pub has_rotary_positions: bool,
    /// How its numbers are stored, mostly: `Q8_0`.
    pub quantization: Option<&'static str>,
    /// Numbers in the vector of one token.
    pub embedding_length: u32,
    /// Numbers inside the widest part of a layer.
    pub feed_forward_length: u32,
    /// Numbers in the key of one head, and in its value.
    pub head_lengths: (u64, u64),
    /// Tensors.
    pub tensors: u64,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Elements of keys and values that one token adds to the cache, over all layers.
    kv_elements_per_token: u64,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// It continues text.
    Generate,
    /// It turns texts into vectors.
    Embed,
    /// It says how well a document answers a query.
    Rank,
    /// It turns one text into another, with an encoder and a decoder. Nothing here runs it.
    Translate,
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first.
    First,
    /// The last.
    Last,
}

/// A file, and how many bytes it has.
fn open(path: &Path) -> io::Result<(BufReader<File>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((BufReader::with_capacity(1 << 16, file), length))
}

/// What every file begins with.
struct Head {
    metadata: Metadata,
    tensors: u64,
    sizes: Sizes,
}

impl Head {
    fn read(source: impl Read, length: u64) -> Result<Self, GgufError> {
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
        let sizes = tensors::check(&mut reader, tensors, metadata.alignment()?)?;
        Ok(Self { metadata, tensors, sizes })
    }
}

impl GgufInfo {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let (file, length) = open(path)?;
        Self::parse(file, length)
    }

    /// Reads a file of `length` bytes, as far as its description goes. What `source` holds beyond
    /// `length` does not matter.
    pub fn parse(source: impl Read, length: u64) -> Result<Self, GgufError> {
        let Head { metadata, tensors, sizes } = Head::read(source, length)?;
        let info = Self::gather(&metadata, tensors)?;
        Ok(Self {
            parameters: sizes.elements,
            tensor_bytes: sizes.bytes,
            file_bytes: length,
            ..info
        })
    }

    /// Bytes one token takes in the cache of one sequence, at two bytes an element.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.kv_elements_per_token.saturating_mul(2)
    }

    /// The same with keys and values in blocks of 32 elements that take 34 bytes.
    #[must_use]
    pub fn kv_bytes_per_token_q8(&self) -> u64 {
        self.kv_elements_per_token.saturating_mul(34).div_ceil(32)
    }

    fn gather(metadata: &Metadata, tensors: u64) -> Result<Self, GgufError> {
        if let Some(parts @ 2..) = metadata.integer("split.count") {
            return Err(GgufError::Part { parts });
        }
        let missing = |key: &str| GgufError::Missing { key: key.into() };
        let architecture = metadata
            .text("general.architecture")
            .ok_or_else(|| missing("general.architecture"))?
            .to_owned();
        if architecture == projector::ARCHITECTURE {
            return Err(GgufError::Projector);
        }
        let need = |suffix: &str| {
            let key = format!("{architecture}.{suffix}");
            let value = metadata.integer(&key);
            let value = value.ok_or(GgufError::Missing { key })?;
            u32::try_from(value)
                .map_err(|_| GgufError::Absurd { what: "the model's shape", found: value })
        };
        let context_tokens = need("context_length")?;
        let layers = need("block_count")?;
        let get = |suffix: &str| metadata.integer(&format!("{architecture}.{suffix}"));
        let size = |suffix: &str| get(suffix).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let (purpose, pooling) =
            purpose(&architecture, get("pooling_type"), get("attention.causal"));
        let is_encoder = get("attention.causal") == Some(0) || architecture == "t5encoder";
        Ok(Self {
            // The pooling of ranking models is the library's, which pools within one step.
            is_read_whole: is_encoder || purpose == Purpose::Rank,
            has_rotary_positions: metadata.has_prefix(&format!("{architecture}.rope.")),
            name: metadata.text("general.name").map(str::to_owned),
            context_tokens,
            layers,
            vocabulary_tokens: metadata
                .elements("tokenizer.ggml.tokens")
                .ok_or_else(|| missing("tokenizer.ggml.tokens"))?,
            chat_template: metadata.text("tokenizer.chat_template").map(str::to_owned),
            purpose,
            pooling,
            quantization: metadata.integer("general.file_type").and_then(quantization),
            embedding_length: size("embedding_length"),
            feed_forward_length: metadata.largest(&format!("{architecture}.feed_forward_length")),
            head_lengths: metadata.head_lengths(&architecture),
            tensors,
            parameters: 0,
            tensor_bytes: 0,
            file_bytes: 0,
            kv_elements_per_token: metadata.kv_elements_per_token(&architecture, layers),
            architecture,
        })
    }
}

/// What a model is for, from the kind of its network, the number of its pooling and whether its
/// attention looks back only.
fn purpose(
    architecture: &str,
    pooling: Option<u64>,
    is_causal: Option<u64>,
) -> (Purpose, Option<Pooling>) {
    if architecture == "t5" {
        return (Purpose::Translate, None);
    }
    let is_encoder = is_causal == Some(0) || architecture == "t5encoder";
    match pooling {
        Some(1) => (Purpose::Embed, Some(Pooling::Mean)),
        Some(2) => (Purpose::Embed, Some(Pooling::First)),
        Some(3) => (Purpose::Embed, Some(Pooling::Last)),
        Some(4) => (Purpose::Rank, None),
        _ if is_encoder => (Purpose::Embed, None),
        _ => (Purpose::Generate, None),
    }
}

/// The names of `general.file_type`, as people know them.
fn quantization(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}
