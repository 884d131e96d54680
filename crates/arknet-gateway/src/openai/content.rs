use std::fmt;

use arknet_types::{
    LogitBias, Part,
    limits::{LOGIT_BIASES_MAX, STOPS_MAX},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor},
};

use crate::{ApiError, json::Object, picture};

/// The content of a message: a text, or parts.
#[derive(Debug, Default)]
pub(crate) struct Content(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    /// Where a picture is.
    Image(String),
    Other(PartKind),
}

/// What a part of a message is. The names are those of chat completions and of responses.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum PartKind {
    #[serde(alias = "input_file")]
    File,
    #[serde(alias = "input_image")]
    ImageUrl,
    InputAudio,
    Refusal,
    #[serde(
        alias = "input_text",
        alias = "output_text",
        alias = "reasoning_text",
        alias = "summary_text"
    )]
    Text,
    VideoUrl,
}

#[derive(Deserialize)]
struct WirePart {
    r#type: PartKind,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<ImageUrl>,
}

impl Content {
    /// The parts as a model takes them. Texts that follow each other are joined by a line break.
    pub(crate) fn into_parts(self, param: &str, model: &str) -> Result<Vec<Part>, ApiError> {
        let mut parts = Vec::with_capacity(self.0.len().min(4));
        for (index, piece) in self.0.into_iter().enumerate() {
            match piece {
                Piece::Text(text) => match parts.last_mut() {
                    Some(Part::Text(before)) => {
                        before.push('\n');
                        before.push_str(&text);
                    }
                    _ => parts.push(Part::Text(text)),
                },
                Piece::Image(url) => {
                    let param = format!("{param}[{index}].image_url");
                    parts.push(Part::Image(picture::from_url(&url, &param)?));
                }
                Piece::Other(kind) => {
                    return Err(unsupported(format!("{param}[{index}]"), model, kind.plural()));
                }
            }
        }
        if parts.is_empty() {
            parts.push(Part::Text(String::new()));
        }
        Ok(parts)
    }

    /// The place of the first picture.
    pub(crate) fn first_picture(&self) -> Option<usize> {
        self.0.iter().position(|piece| matches!(piece, Piece::Image(_)))
    }

    /// All of it, where it may hold text alone.
    pub(crate) fn into_text(self, param: &str, model: &str) -> Result<String, ApiError> {
        let mut parts = self.into_parts(param, model)?;
        match parts.pop() {
            Some(Part::Text(text)) if parts.is_empty() => Ok(text),
            _ => Err(unsupported(param.to_owned(), model, "pictures in this place")),
        }
    }
}

/// A refusal of what a model cannot be given.
pub(crate) fn unsupported(param: String, model: &str, what: &str) -> ApiError {
    let message =
        format!("The model `{model}` reads text and pictures only: {what} are not supported.");
    ApiError::parameter(param, message).code("unsupported_content")
}

impl PartKind {
    const fn plural(self) -> &'static str {
        match self {
            Self::InputAudio => "sounds",
            Self::VideoUrl => "videos",
            Self::File | Self::ImageUrl | Self::Refusal | Self::Text => "files",
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                self.visit_string(text.into())
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
                Ok(Content(vec![Piece::Text(text)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut content = Vec::new();
                while let Some(Object(part)) = parts.next_element::<Object<WirePart>>()? {
                    content.push(part.into_piece()?);
                }
                Ok(Content(content))
            }
        }

        deserializer.deserialize_any(Parts)
    }
}

impl WirePart {
    fn into_piece<E: Error>(self) -> Result<Piece, E> {
        Ok(match self.r#type {
            PartKind::Text => Piece::Text(self.text.ok_or_else(|| E::missing_field("text"))?),
            PartKind::Refusal => {
                Piece::Text(self.refusal.ok_or_else(|| E::missing_field("refusal"))?)
            }
            PartKind::ImageUrl => {
                Piece::Image(self.image_url.ok_or_else(|| E::missing_field("image_url"))?.0)
            }
            other => Piece::Other(other),
        })
    }
}

/// `{"url": ..}`, or the URL itself.
#[derive(Debug)]
struct ImageUrl(String);

impl<'de> Deserialize<'de> for ImageUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Url;

        impl<'de> Visitor<'de> for Url {
            type Value = ImageUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or an object with one")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<ImageUrl, E> {
                Ok(ImageUrl(url.into()))
            }

            fn visit_string<E: Error>(self, url: String) -> Result<ImageUrl, E> {
                Ok(ImageUrl(url))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ImageUrl, A::Error> {
                let mut url = None;
                while let Some(key) = fields.next_key::<String>()? {
                    if key == "url" {
                        url = Some(fields.next_value()?);
                    } else {
                        fields.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                url.map(ImageUrl).ok_or_else(|| A::Error::missing_field("url"))
            }
        }

        deserializer.deserialize_any(Url)
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
