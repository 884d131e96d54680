//! What we use of llama.cpp, made safe. No other file knows the native library's functions.
//!
//! Called directly and not through a wrapper crate, because what speed, memory and cancelling need
//! is not wrapped: the bound on rows of logits, the pool of threads, the abort callback, logits that
//! can be changed in place.
#![allow(unsafe_code)]

mod context;
mod library;
mod model;
mod projector;

pub(crate) use context::{CacheType, Context, DecodeError, PicturePart, Settings};
pub(crate) use library::{build_class, start};
pub(crate) use model::{Model, Token};
pub(crate) use projector::{Chunk, DIRECTIONS, Input, Piece, Pixels, Projector};

/// Sequences one context can hold.
pub(crate) const SEQUENCES_MAX: u16 = 256;
