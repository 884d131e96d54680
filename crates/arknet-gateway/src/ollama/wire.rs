//! The JSON of requests.

use std::fmt;

use arknet_types::limits::TEXTS_MAX;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::json::{Object, RawObject};

/// What `/api/chat` reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatParams {
    pub(super) model: Option<String>,
    pub(super) messages: Option<Vec<Object<WireMessage>>>,
    pub(super) tools: Option<Vec<Object<WireTool>>>,
    pub(super) stream: Option<bool>,
    pub(super) format: Option<Box<RawValue>>,
    pub(super) options: Option<Object<Knobs>>,
    pub(super) think: Option<Think>,
    pub(super) keep_alive: Option<Lifetime>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<u8>,
}

/// What `/api/generate` reads. `context`, which would be the tokens of an earlier answer, is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GenerateParams {
    pub(super) model: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) system: Option<String>,
    pub(super) template: Option<String>,
    pub(super) images: Option<Vec<String>>,
    pub(super) raw: Option<bool>,
    pub(super) stream: Option<bool>,
    pub(super) format: Option<Box<RawValue>>,
    pub(super) options: Option<Object<Knobs>>,
    pub(super) think: Option<Think>,
    pub(super) keep_alive: Option<Lifetime>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<u8>,
}

/// What `/api/embed` and `/api/embeddings` read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EmbedParams {
    pub(super) model: Option<String>,
    pub(super) input: Option<Texts>,
    pub(super) prompt: Option<String>,
    pub(super) dimensions: Option<Whole>,
    pub(super) truncate: Option<bool>,
    pub(super) keep_alive: Option<Lifetime>,
}

/// What everything else reads. `name` is what older clients call the model.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NameParams {
    pub(super) model: Option<String>,
    pub(super) name: Option<String>,
    pub(super) stream: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    pub(super) role: WireRole,
    #[serde(default)]
    pub(super) content: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) images: Option<Vec<String>>,
    pub(super) tool_calls: Option<Vec<Object<WireCall>>>,
    pub(super) tool_call_id: Option<String>,
    pub(super) tool_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum WireRole {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireCall {
    pub(super) id: Option<String>,
    pub(super) function: Object<WireFunction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireFunction {
    pub(super) name: String,
    pub(super) arguments: Option<RawObject>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireTool {
    pub(super) function: Object<WireSchema>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireSchema {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Option<RawObject>,
}

/// How the model answers. The others (`num_ctx`, `num_gpu`, `num_thread`, `mirostat`, ..) are the
/// business of this node, or steps that do not exist here; they are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Knobs {
    pub(super) seed: Option<Whole>,
    pub(super) num_predict: Option<Whole>,
    pub(super) top_k: Option<Whole>,
    pub(super) top_p: Option<f32>,
    pub(super) min_p: Option<f32>,
    pub(super) temperature: Option<f32>,
    pub(super) repeat_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) stop: Option<Vec<String>>,
}

#[derive(Debug)]
pub(super) enum Think {
    Flag(bool),
    Level(String),
}

#[derive(Debug)]
pub(super) enum Lifetime {
    Seconds(f64),
    Text(String),
}

/// One text, or several.
#[derive(Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Think {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrLevel;

        impl Visitor<'_> for FlagOrLevel {
            type Value = Think;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, \"low\", \"medium\" or \"high\"")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Think, E> {
                Ok(Think::Flag(flag))
            }

            fn visit_str<E: Error>(self, level: &str) -> Result<Think, E> {
                Ok(Think::Level(level.into()))
            }
        }

        deserializer.deserialize_any(FlagOrLevel)
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecondsOrText;

        impl Visitor<'_> for SecondsOrText {
            type Value = Lifetime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds or a duration such as \"5m\"")
            }

            // A hundred years are exact, and what is longer is for ever.
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Lifetime, E> {
                Ok(Lifetime::Seconds(seconds as f64))
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Lifetime, E> {
                Ok(Lifetime::Seconds(seconds as f64))
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Lifetime, E> {
                Ok(Lifetime::Seconds(seconds))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Lifetime, E> {
                Ok(Lifetime::Text(text.into()))
            }
        }

        deserializer.deserialize_any(SecondsOrText)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.into()]))
            }

            // Up to one more than allowed, so that the check of the request sees that there are too
            // many.
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    if texts.len() <= TEXTS_MAX {
                        texts.push(text);
                    }
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// A whole number, which may be written with a fraction of zero, as some languages do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            #[expect(
                clippy::cast_possible_truncation,
                reason = "it has no fraction, and saturates"
            )]
            fn visit_f64<E: Error>(self, value: f64) -> Result<Whole, E> {
                if value.fract() == 0.0 {
                    return Ok(Whole(value as i64));
                }
                Err(E::invalid_type(serde::de::Unexpected::Float(value), &self))
            }
        }

        deserializer.deserialize_any(Number)
    }
}
