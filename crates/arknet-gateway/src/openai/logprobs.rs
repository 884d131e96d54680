//! How likely tokens were, in the shapes of OpenAI's endpoints.

use std::{borrow::Cow, collections::BTreeMap};

use arknet_types::TokenLogprob;
use serde::{Serialize, Serializer};

/// What OpenAI writes for "as good as impossible"; JSON has no infinity.
const LEAST: f32 = -9999.0;

/// A list in the shape of chat completions and responses.
pub(crate) struct Likely<'a>(pub(crate) &'a [TokenLogprob]);

impl Serialize for Likely<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|one| {
            Token {
                token: text(&one.bytes),
                bytes: &one.bytes,
                logprob: finite(one.logprob),
                top_logprobs: one
                    .top
                    .iter()
                    .map(|top| Other {
                        token: text(&top.bytes),
                        bytes: &top.bytes,
                        logprob: finite(top.logprob),
                    })
                    .collect(),
            }
        }))
    }
}

/// `logprobs` of a choice of chat completions.
#[derive(Serialize)]
pub(crate) struct ChatLogprobs<'a> {
    content: Likely<'a>,
    refusal: Option<()>,
}

impl<'a> ChatLogprobs<'a> {
    pub(crate) const fn new(list: &'a [TokenLogprob]) -> Self {
        Self { content: Likely(list), refusal: None }
    }
}

#[derive(Serialize)]
struct Token<'a> {
    token: Cow<'a, str>,
    bytes: &'a [u8],
    logprob: f32,
    top_logprobs: Vec<Other<'a>>,
}

#[derive(Serialize)]
struct Other<'a> {
    token: Cow<'a, str>,
    bytes: &'a [u8],
    logprob: f32,
}

/// `logprobs` of a choice of completions.
#[derive(Serialize)]
pub(crate) struct TextLogprobs<'a> {
    text_offset: Vec<usize>,
    token_logprobs: Vec<f32>,
    tokens: Vec<Cow<'a, str>>,
    top_logprobs: Vec<BTreeMap<Cow<'a, str>, f32>>,
}

impl<'a> TextLogprobs<'a> {
    /// `offset` is how many characters came before, and afterwards how many came in all.
    pub(crate) fn new(list: &'a [TokenLogprob], offset: &mut usize) -> Self {
        let mut shape = Self {
            text_offset: Vec::with_capacity(list.len()),
            token_logprobs: Vec::with_capacity(list.len()),
            tokens: Vec::with_capacity(list.len()),
            top_logprobs: Vec::with_capacity(list.len()),
        };
        for one in list {
            let token = text(&one.bytes);
            shape.text_offset.push(*offset);
            *offset += token.chars().count();
            shape.token_logprobs.push(finite(one.logprob));
            shape.tokens.push(token);
            let top = one.top.iter().map(|top| (text(&top.bytes), finite(top.logprob)));
            shape.top_logprobs.push(top.collect());
        }
        shape
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

const fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}
