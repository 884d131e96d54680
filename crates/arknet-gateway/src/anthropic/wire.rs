//! The JSON of a request. Blocks and tools are flat: which fields count is decided by `type`, so
//! that errors can name their place and nothing has to be read twice.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::json::{Object, RawObject};

/// What `/v1/messages` and `/v1/messages/count_tokens` read. Whatever else is sent (`metadata`,
/// `service_tier`, `container`, `context_management`, `mcp_servers`, ..) does not change what a
/// model here can do, is ignored and goes nowhere.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    pub(super) model: Option<String>,
    pub(super) messages: Option<Vec<Object<WireMessage>>>,
    pub(super) system: Option<Content>,
    pub(super) max_tokens: Option<u32>,
    pub(super) stream: Option<bool>,
    pub(super) stop_sequences: Option<Vec<String>>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) tools: Option<Vec<Object<WireTool>>>,
    pub(super) tool_choice: Option<Object<WireChoice>>,
    pub(super) thinking: Option<Object<Thinking>>,
    pub(super) output_config: Option<Object<OutputConfig>>,
    pub(super) output_format: Option<Object<OutputFormat>>,
    pub(super) thread: Option<Object<Thread>>,
}

/// A conversation that Anthropic keeps.
#[derive(Debug, Deserialize)]
pub(super) struct Thread {
    pub(super) r#type: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireMessage {
    pub(super) role: WireRole,
    pub(super) content: Content,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum WireRole {
    System,
    User,
    Assistant,
}

/// A text, or blocks. Results of tools that ran elsewhere may be objects, which say nothing here.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Blocks(Vec<Object<Block>>),
    Other,
}

/// A piece of a message.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    pub(super) r#type: String,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) input: Option<RawObject>,
    pub(super) tool_use_id: Option<String>,
    pub(super) is_error: Option<bool>,
    pub(super) content: Option<Content>,
    pub(super) title: Option<String>,
    pub(super) source: Option<Source>,
}

/// Where a picture or a document comes from; of a search result only its name.
#[derive(Debug)]
pub(super) enum Source {
    Name(String),
    From(Box<Origin>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Origin {
    pub(super) r#type: String,
    pub(super) data: Option<String>,
    pub(super) content: Option<Content>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireTool {
    pub(super) r#type: Option<String>,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) input_schema: Option<RawObject>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireChoice {
    pub(super) r#type: ChoiceKind,
    pub(super) name: Option<String>,
    pub(super) disable_parallel_tool_use: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChoiceKind {
    Auto,
    Any,
    Tool,
    None,
}

#[derive(Debug, Deserialize)]
pub(super) struct Thinking {
    pub(super) r#type: ThinkingKind,
    pub(super) display: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum ThinkingKind {
    Adaptive,
    BetweenTools,
    Disabled,
    Enabled,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputConfig {
    pub(super) format: Option<Object<OutputFormat>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputFormat {
    pub(super) r#type: String,
    pub(super) schema: Option<RawObject>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrBlocks;

        impl<'de> Visitor<'de> for TextOrBlocks {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content blocks")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.into()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = items.next_element()? {
                    blocks.push(block);
                }
                Ok(Content::Blocks(blocks))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Content, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Content::Other)
            }
        }

        deserializer.deserialize_any(TextOrBlocks)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrOrigin;

        impl<'de> Visitor<'de> for NameOrOrigin {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Source, E> {
                Ok(Source::Name(name.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Source, A::Error> {
                let fields = serde::de::value::MapAccessDeserializer::new(fields);
                Origin::deserialize(fields).map(|origin| Source::From(Box::new(origin)))
            }
        }

        deserializer.deserialize_any(NameOrOrigin)
    }
}
