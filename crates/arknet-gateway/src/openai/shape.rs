use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The outline of a JSON value whose type does not matter: enough to tell whether a parameter that
/// is not supported was left at a value that asks for nothing.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum Shape {
    /// Missing or null.
    #[default]
    Absent,
    Bool(bool),
    Object,
    Number(f64),
    /// Its length, and whether each item is the text `text`.
    List {
        length: usize,
        text_only: bool,
    },
    Text(String),
}

impl Shape {
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(crate) const fn is_false(&self) -> bool {
        matches!(self, Self::Absent | Self::Bool(false))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.is_false() || *self == Self::Number(0.0)
    }

    pub(crate) fn is_one(&self) -> bool {
        self.is_absent() || *self == Self::Number(1.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Absent | Self::List { length: 0, .. } => true,
            Self::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    pub(crate) const fn is_text_only(&self) -> bool {
        matches!(self, Self::Absent | Self::List { text_only: true, .. })
    }

    /// A choice of functions that chooses none.
    pub(crate) fn is_no_choice(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Text(text) => text == "none" || text == "auto",
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Outline)
    }
}

struct Outline;

impl<'de> Visitor<'de> for Outline {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    // Only a few small numbers are told apart, so the loss of precision does not matter.
    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let (mut length, mut text_only) = (0, true);
        while let Some(item) = items.next_element::<Self::Value>()? {
            length += 1;
            text_only &= matches!(item, Shape::Text(text) if text == "text");
        }
        Ok(Shape::List { length, text_only })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Shape, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Object)
    }
}
