//! Model files that are made here.

use std::{io::Write, path::Path};

/// Writes a model file.
#[derive(Default)]
pub(crate) struct Writer {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
    random: u64,
}

impl Writer {
    pub(crate) fn text(to: &mut Vec<u8>, text: &str) {
        to.extend((text.len() as u64).to_le_bytes());
        to.extend(text.as_bytes());
    }

    pub(crate) fn key(&mut self, key: &str, kind: u32, value: &[u8]) {
        Self::text(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self.key_count += 1;
    }

    pub(crate) fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4, &value.to_le_bytes());
    }

    pub(crate) fn word(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        Self::text(&mut bytes, value);
        self.key(key, 8, &bytes);
    }

    pub(crate) fn list(&mut self, key: &str, kind: u32, length: usize, values: &[u8]) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((length as u64).to_le_bytes());
        bytes.extend(values);
        self.key(key, 9, &bytes);
    }

    /// A tensor of random numbers about `middle`.
    pub(crate) fn tensor(&mut self, name: &str, dimensions: &[u64], middle: f32) {
        Self::text(&mut self.tensors, name);
        self.tensors.extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
        for dimension in dimensions {
            self.tensors.extend(dimension.to_le_bytes());
        }
        self.tensors.extend(0_u32.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.tensor_count += 1;
        for _ in 0..dimensions.iter().product() {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = f32::from(u16::try_from(self.random >> 48).unwrap()) / 65_536.0 - 0.5;
            self.data.extend((middle + value).to_le_bytes());
        }
    }

    pub(crate) fn write(&self, path: &Path) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        std::fs::File::create(path).unwrap().write_all(&bytes).unwrap();
    }
}

/// Kinds of projectors: one whose pictures are read in one step, and one whose pictures have their
/// own size and, with models that can, positions in several directions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Projector {
    Whole,
    OwnSize,
}

/// Numbers of one patch.
const WIDTH: u64 = 16;
const INSIDE: u64 = 32;
const PATCH: u64 = 8;
/// Numbers of one token of the model that ships.
const MODEL: u64 = 256;

/// Writes a projector of random numbers for the model that ships.
pub(crate) fn projector(path: &Path, kind: Projector) {
    let mut w = Writer::default();
    let number = |n: u64| u32::try_from(n).unwrap();
    w.word("general.architecture", "clip");
    w.key("clip.has_vision_encoder", 7, &[1]);
    w.key("clip.use_gelu", 7, &[1]);
    w.number("clip.vision.embedding_length", number(WIDTH));
    w.number("clip.vision.feed_forward_length", number(INSIDE));
    w.number("clip.vision.block_count", 1);
    w.number("clip.vision.projection_dim", number(MODEL));
    w.number("clip.vision.attention.head_count", 1);
    w.key("clip.vision.attention.layer_norm_epsilon", 6, &1e-6_f32.to_le_bytes());
    w.number("clip.vision.image_size", number(4 * PATCH));
    w.number("clip.vision.patch_size", number(PATCH));
    let thrice = [0.5_f32; 3].map(f32::to_le_bytes).concat();
    w.list("clip.vision.image_mean", 6, 3, &thrice);
    w.list("clip.vision.image_std", 6, 3, &thrice);
    w.tensor("v.patch_embd.weight", &[PATCH, PATCH, 3, WIDTH], 0.0);
    w.tensor("v.patch_embd.bias", &[WIDTH], 0.0);
    w.tensor("v.position_embd.weight", &[WIDTH, 16], 0.0);
    w.tensor("v.post_ln.weight", &[WIDTH], 1.0);
    w.tensor("v.post_ln.bias", &[WIDTH], 0.0);
    let mut layer = |name: &str, dimensions: &[u64]| {
        w.tensor(&format!("v.blk.0.{name}.weight"), dimensions, 0.0);
        w.tensor(&format!("v.blk.0.{name}.bias"), &dimensions[dimensions.len() - 1..], 0.0);
    };
    layer("ln1", &[WIDTH]);
    layer("ln2", &[WIDTH]);
    layer("attn_out", &[WIDTH, WIDTH]);
    layer("ffn_up", &[WIDTH, INSIDE]);
    layer("ffn_down", &[INSIDE, WIDTH]);
    match kind {
        Projector::Whole => {
            for name in ["attn_q", "attn_k", "attn_v"] {
                layer(name, &[WIDTH, WIDTH]);
            }
            w.word("clip.projector_type", "gemma3");
            w.number("clip.vision.projector.scale_factor", 2);
            w.tensor("mm.soft_emb_norm.weight", &[WIDTH], 1.0);
            w.tensor("mm.input_projection.weight", &[MODEL, WIDTH], 0.0);
        }
        Projector::OwnSize => {
            layer("attn_qkv", &[WIDTH, 3 * WIDTH]);
            w.word("clip.projector_type", "qwen3vl_merger");
            w.number("clip.vision.spatial_merge_size", 2);
            w.tensor("v.patch_embd.weight.1", &[PATCH, PATCH, 3, WIDTH], 0.0);
            w.tensor("mm.0.weight", &[4 * WIDTH, 4 * WIDTH], 0.0);
            w.tensor("mm.0.bias", &[4 * WIDTH], 0.0);
            w.tensor("mm.2.weight", &[4 * WIDTH, MODEL], 0.0);
            w.tensor("mm.2.bias", &[MODEL], 0.0);
        }
    }
    w.write(path);
}
