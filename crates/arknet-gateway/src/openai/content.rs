use std::{fmt, marker::PhantomData};

use arknet_types::{
    LogitBias,
    limits::{LOGIT_BIASES_MAX, STOPS_MAX},
};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error, MapAccess, SeqAccess, Unexpected, Visitor,
        value::MapAccessDeserializer,
    },
};

/// A JSON object. Derived code would take an array of the values in order as well.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// The content of a message: a text, or parts of which the texts are joined by line breaks.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) text: String,
    /// The first part that is no text.
    pub(crate) other: Option<(usize, PartKind)>,
}

/// What a part of a message is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartKind {
    File,
    ImageUrl,
    InputAudio,
    Refusal,
    Text,
    VideoUrl,
}

#[derive(Deserialize)]
struct Part {
    r#type: PartKind,
    text: Option<String>,
    refusal: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                self.visit_string(text.into())
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
                Ok(Content { text, other: None })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut content = Content::default();
                let mut index = 0;
                while let Some(Object(part)) = parts.next_element::<Object<Part>>()? {
                    let text = match part.r#type {
                        PartKind::Text => part.text.ok_or_else(|| Error::missing_field("text"))?,
                        PartKind::Refusal => {
                            part.refusal.ok_or_else(|| Error::missing_field("refusal"))?
                        }
                        other => {
                            content.other.get_or_insert((index, other));
                            String::new()
                        }
                    };
                    if index > 0 {
                        content.text.push('\n');
                    }
                    content.text.push_str(&text);
                    index += 1;
                }
                Ok(content)
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

/// One text, or an array of at most `MAX`. What goes beyond is counted, not kept.
#[derive(Debug, Default)]
pub(crate) struct Texts<const MAX: usize> {
    pub(crate) texts: Vec<String>,
    pub(crate) length: usize,
}

/// Up to one more than allowed, so that the check of the request sees that there are too many.
pub(crate) type Stops = Texts<{ STOPS_MAX + 1 }>;
pub(crate) type Prompt = Texts<1>;

impl<'de, const MAX: usize> Deserialize<'de> for Texts<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for OneOrMany<MAX> {
            type Value = Texts<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                self.visit_string(text.into())
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Texts { texts: vec![text], length: 1 })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut found = Texts::default();
                while let Some(text) = items.next_element::<String>()? {
                    found.length += 1;
                    if found.texts.len() < MAX {
                        found.texts.push(text);
                    }
                }
                Ok(found)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// `{"token number": bias}`, kept up to one more than allowed.
#[derive(Debug, Default)]
pub(crate) struct Biases(pub(crate) Vec<LogitBias>);

impl<'de> Deserialize<'de> for Biases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Biases;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of token numbers and biases")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Biases, A::Error> {
                let mut biases = Vec::new();
                while let Some((TokenNumber(token), bias)) =
                    pairs.next_entry::<TokenNumber, f32>()?
                {
                    if biases.len() <= LOGIT_BIASES_MAX {
                        biases.push(LogitBias { token, bias });
                    }
                }
                Ok(Biases(biases))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// A number in the only form JSON has for keys: text.
struct TokenNumber(u32);

impl<'de> Deserialize<'de> for TokenNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = TokenNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("token numbers as keys")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TokenNumber, E> {
                text.parse()
                    .map(TokenNumber)
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Digits)
    }
}
