//! Good inputs to begin with: those of the golden vectors, and a few written here.

pub(crate) mod chat;
mod doors;
pub(crate) mod upstream;

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::Value;

pub(crate) use doors::*;

/// The bytes under `field` of each case in a vector file.
pub(crate) fn bytes(file: &str, field: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    bytes_in(file, "cases", field)
}

/// The bytes under `field` of each item of a list in a vector file.
pub(crate) fn bytes_in(file: &str, name: &str, field: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let fields = list(file, name, |case| case[field].as_str())?;
    fields.iter().map(|digits| hex::decode(digits).context("a vector that is not hex")).collect()
}

/// The text under `field` of each case in a vector file.
pub(crate) fn texts(file: &str, field: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let fields = list(file, "cases", |case| case[field].as_str())?;
    Ok(fields.into_iter().map(String::into_bytes).collect())
}

/// The text under `json` of each case in a list of a vector file.
pub(crate) fn jsons(file: &str, name: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let texts = list(file, name, |case| case["json"].as_str())?;
    Ok(texts.into_iter().map(String::into_bytes).collect())
}

/// The texts a vector file says are good.
pub(crate) fn accepted(file: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let texts = list(file, "accepted", Value::as_str)?;
    Ok(texts.into_iter().map(String::into_bytes).collect())
}

fn list(
    file: &str,
    name: &str,
    item: impl Fn(&Value) -> Option<&str>,
) -> anyhow::Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let document: Value = serde_json::from_str(&text).context("reading a vector file")?;
    let items = document[name].as_array().context("a vector file without cases")?;
    items.iter().map(|i| item(i).map(str::to_owned).context("a case without its field")).collect()
}

/// The description of a projector, without tensors.
pub(crate) fn projector() -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend([0_u64, 7].map(u64::to_le_bytes).concat());
    text(&mut out, "general.architecture");
    out.extend(8_u32.to_le_bytes());
    text(&mut out, "clip");
    text(&mut out, "clip.has_vision_encoder");
    out.extend(7_u32.to_le_bytes());
    out.push(1);
    for (name, value) in [
        ("embedding_length", 8_u32),
        ("feed_forward_length", 16),
        ("image_size", 32),
        ("patch_size", 8),
        ("projection_dim", 64),
    ] {
        text(&mut out, &format!("clip.vision.{name}"));
        out.extend(4_u32.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out
}

/// A whole GGUF file with one tensor, a few hundred bytes: every change hits something.
pub(crate) fn gguf() -> Vec<u8> {
    const U32: u32 = 4;
    const TEXT: u32 = 8;
    const ARRAY: u32 = 9;
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend([1_u64, 7].map(u64::to_le_bytes).concat());
    let key = |out: &mut Vec<u8>, name: &str, kind: u32| {
        text(out, name);
        out.extend(kind.to_le_bytes());
    };
    key(&mut out, "general.architecture", TEXT);
    text(&mut out, "x");
    for (name, value) in [
        ("x.context_length", 2048_u32),
        ("x.block_count", 3),
        ("x.embedding_length", 64),
        ("x.attention.head_count", 4),
    ] {
        key(&mut out, name, U32);
        out.extend(value.to_le_bytes());
    }
    key(&mut out, "tokenizer.ggml.tokens", ARRAY);
    out.extend(TEXT.to_le_bytes());
    out.extend(2_u64.to_le_bytes());
    text(&mut out, "a");
    text(&mut out, "b");
    key(&mut out, "tokenizer.chat_template", TEXT);
    text(&mut out, "{{ messages }}");
    // One row of eight floats, at the beginning of the data.
    text(&mut out, "t");
    out.extend(1_u32.to_le_bytes());
    out.extend(8_u64.to_le_bytes());
    out.extend([0; 12]);
    // Up to where the data begins, the data, and some room for changes that move it.
    out.resize(out.len().next_multiple_of(32) + 32 + 64, 0);
    out
}

/// Texts as inputs.
pub(crate) fn inputs<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
