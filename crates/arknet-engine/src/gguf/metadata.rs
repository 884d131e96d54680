use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::Read,
    ops::Bound,
};

use super::{GgufError, reader::Reader};

/// Keys in one file; real ones have about fifty.
pub(super) const KEYS_MAX: u64 = 16_384;
/// Bytes of a key.
const KEY_BYTES_MAX: u64 = 256;
/// Bytes of a name that is kept.
const KEPT_BYTES_MAX: u64 = 256;
/// Bytes of a chat template that is kept; longer ones are none.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of any text: chat templates and vocabulary entries are far shorter.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Elements of an array: vocabularies and their merges stay below a million.
const ARRAY_ELEMENTS_MAX: u64 = 1 << 26;
/// Layers of a model, which is how long a list of numbers per layer can be.
const LAYERS_MAX: u64 = 65_536;
/// The texts somebody asks for; all others are passed over.
const KEPT_TEXTS: [&str; 2] = ["general.architecture", "general.name"];
const TEMPLATE: &str = "tokenizer.chat_template";
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 20;

/// The description at the head of a file: numbers, a few texts, and of everything else that it is
/// there.
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
}

#[derive(Debug)]
enum Value {
    /// A whole number or a truth value.
    Integer(u64),
    /// A list: how many elements, and their sum and the largest where they are whole numbers.
    List {
        elements: u64,
        sum: Option<u64>,
        largest: u64,
    },
    /// Something we never ask for the value of.
    Other,
    Text(String),
}

/// The types of values, by their number in the file.
#[derive(Clone, Copy)]
enum Kind {
    /// This many bytes; with a sign or without.
    Integer {
        bytes: u64,
        is_signed: bool,
    },
    Float {
        bytes: u64,
    },
    Text,
    Array,
}

impl Kind {
    fn of(number: u32) -> Result<Self, GgufError> {
        let integer = |bytes, is_signed| Self::Integer { bytes, is_signed };
        Ok(match number {
            0 | 7 => integer(1, false),
            1 => integer(1, true),
            2 => integer(2, false),
            3 => integer(2, true),
            4 => integer(4, false),
            5 => integer(4, true),
            6 => Self::Float { bytes: 4 },
            8 => Self::Text,
            9 => Self::Array,
            10 => integer(8, false),
            11 => integer(8, true),
            12 => Self::Float { bytes: 8 },
            found => {
                return Err(GgufError::Unsupported { what: "metadata type", found });
            }
        })
    }
}

impl Metadata {
    pub(super) fn read<R: Read>(reader: &mut Reader<R>, keys: u64) -> Result<Self, GgufError> {
        let mut values = BTreeMap::new();
        for _ in 0..keys {
            let key = reader.text("a metadata key", KEY_BYTES_MAX)?;
            if key.is_empty() || !key.chars().all(|c| c.is_ascii_graphic()) {
                return Err(GgufError::Text { what: "a metadata key" });
            }
            let kind = Kind::of(reader.u32()?)?;
            let value = value(reader, &key, kind)?;
            match values.entry(key) {
                Entry::Vacant(place) => place.insert(value),
                Entry::Occupied(place) => {
                    return Err(GgufError::Duplicate { key: place.key().clone() });
                }
            };
        }
        Ok(Self { values })
    }

    pub(super) fn integer(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Integer(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn elements(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::List { elements, .. } => Some(*elements),
            _ => None,
        }
    }

    /// The sum of a list of whole numbers, or of truth values.
    pub(super) fn sum(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::List { sum, .. } => *sum,
            _ => None,
        }
    }

    /// Whether any key begins like this.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.values.range::<str, _>(from).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// A number, or the largest of a list of them with one for each layer.
    pub(super) fn largest(&self, key: &str) -> u32 {
        let largest = match self.values.get(key) {
            Some(Value::Integer(value) | Value::List { largest: value, .. }) => *value,
            _ => 0,
        };
        u32::try_from(largest).unwrap_or(u32::MAX)
    }

    /// Numbers in the key of one head, and in its value.
    pub(super) fn head_lengths(&self, architecture: &str) -> (u64, u64) {
        let get = |suffix: &str| self.integer(&format!("{architecture}.{suffix}"));
        let heads = get("attention.head_count").unwrap_or(1).max(1);
        let per_head = get("embedding_length").unwrap_or(0) / heads;
        let key = get("attention.key_length").unwrap_or(per_head);
        (key, get("attention.value_length").unwrap_or(per_head))
    }

    /// To multiples of how many bytes tensors are placed.
    pub(super) fn alignment(&self) -> Result<u64, GgufError> {
        match self.integer("general.alignment") {
            None => Ok(ALIGNMENT_DEFAULT),
            Some(bytes) if bytes.is_power_of_two() && bytes <= ALIGNMENT_MAX => Ok(bytes),
            Some(found) => Err(GgufError::Absurd { what: "the alignment", found }),
        }
    }

    /// Elements of keys and values per token, over all layers. Models may have another number of
    /// heads in every layer; those that cache less than this (windows, compressed heads) get a
    /// number that is too high, which costs slots and never memory.
    pub(super) fn kv_elements_per_token(&self, architecture: &str, layers: u32) -> u64 {
        let get = |suffix: &str| self.integer(&format!("{architecture}.{suffix}"));
        let layers = u64::from(layers);
        let heads = get("attention.head_count").unwrap_or(1).max(1);
        let heads_of_all_layers =
            match self.values.get(&format!("{architecture}.attention.head_count_kv")) {
                Some(Value::List { sum: Some(sum), .. }) => *sum,
                Some(Value::Integer(heads)) => heads.saturating_mul(layers),
                _ => heads.saturating_mul(layers),
            };
        let (key, value) = self.head_lengths(architecture);
        heads_of_all_layers.saturating_mul(key.saturating_add(value))
    }
}

fn value<R: Read>(reader: &mut Reader<R>, key: &str, kind: Kind) -> Result<Value, GgufError> {
    Ok(match kind {
        Kind::Integer { bytes, is_signed } => match integer(reader, bytes, is_signed)? {
            Some(value) => Value::Integer(value),
            None => Value::Other,
        },
        Kind::Float { bytes } => {
            reader.skip(bytes)?;
            Value::Other
        }
        Kind::Text if KEPT_TEXTS.contains(&key) => {
            Value::Text(reader.text("a name in the metadata", KEPT_BYTES_MAX)?)
        }
        Kind::Text => {
            let length = reader.count("the length of a text", TEXT_BYTES_MAX)?;
            if key == TEMPLATE && length <= TEMPLATE_BYTES_MAX {
                // A template that is no text is none.
                reader.text_of(length)?.map_or(Value::Other, Value::Text)
            } else {
                reader.skip(length)?;
                Value::Other
            }
        }
        Kind::Array => list(reader)?,
    })
}

/// A whole number; none when it is negative, which nothing we ask for may be.
fn integer<R: Read>(
    reader: &mut Reader<R>,
    bytes: u64,
    is_signed: bool,
) -> Result<Option<u64>, GgufError> {
    let signed = match bytes {
        1 => {
            let [byte] = reader.bytes()?;
            if is_signed { i64::from(byte.cast_signed()) } else { i64::from(byte) }
        }
        2 => {
            let bytes = reader.bytes()?;
            if is_signed {
                i64::from(i16::from_le_bytes(bytes))
            } else {
                i64::from(u16::from_le_bytes(bytes))
            }
        }
        4 => {
            let value = reader.u32()?;
            if is_signed { i64::from(value.cast_signed()) } else { i64::from(value) }
        }
        _ => {
            let value = reader.u64()?;
            if !is_signed {
                return Ok(Some(value));
            }
            value.cast_signed()
        }
    };
    Ok(u64::try_from(signed).ok())
}

fn list<R: Read>(reader: &mut Reader<R>) -> Result<Value, GgufError> {
    let kind = Kind::of(reader.u32()?)?;
    let elements = reader.count("the length of a list", ARRAY_ELEMENTS_MAX)?;
    let mut sum = None;
    let mut largest = 0;
    match kind {
        Kind::Integer { bytes, is_signed } if elements <= LAYERS_MAX => {
            let mut total = 0_u64;
            for _ in 0..elements {
                let value = integer(reader, bytes, is_signed)?.unwrap_or(0);
                total = total.saturating_add(value);
                largest = largest.max(value);
            }
            sum = Some(total);
        }
        Kind::Integer { bytes, .. } | Kind::Float { bytes } => {
            reader.skip(elements.saturating_mul(bytes))?;
        }
        Kind::Text => {
            for _ in 0..elements {
                let length = reader.count("the length of a text", TEXT_BYTES_MAX)?;
                reader.skip(length)?;
            }
        }
        // No model has lists of lists, and the native loader refuses them too.
        Kind::Array => {
            return Err(GgufError::Unsupported { what: "nested metadata type", found: 9 });
        }
    }
    Ok(Value::List { elements, sum, largest })
}
