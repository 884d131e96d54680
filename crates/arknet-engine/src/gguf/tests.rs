use proptest::prelude::*;

use super::{tensors::block_of, *};
use crate::embedded_model;

fn parse(bytes: &[u8]) -> Result<GgufInfo, GgufError> {
    GgufInfo::parse(bytes, bytes.len() as u64)
}

/// Writes small files, right or wrong.
struct Writer(Vec<u8>);

impl Writer {
    fn new(tensors: u64, keys: u64) -> Self {
        let mut writer = Self(b"GGUF".to_vec());
        writer.u32(3).u64(tensors).u64(keys);
        writer
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn text_key(&mut self, key: &str, value: &str) -> &mut Self {
        self.text(key).u32(8).text(value)
    }

    fn number_key(&mut self, key: &str, value: u32) -> &mut Self {
        self.text(key).u32(4).u32(value)
    }

    /// A whole description without tensors; `more` more keys follow.
    fn model(more: u64) -> Self {
        let mut writer = Self::new(0, 8 + more);
        writer
            .text_key("general.architecture", "x")
            .number_key("x.context_length", 2048)
            .number_key("x.block_count", 3)
            .number_key("x.embedding_length", 64)
            .number_key("x.attention.head_count", 4)
            .number_key("x.attention.key_length", 24);
        // Another number of heads in every layer.
        writer.text("x.attention.head_count_kv").u32(9).u32(5).u64(3);
        writer.u32(2).u32(0).u32(1);
        writer.text("tokenizer.ggml.tokens").u32(9).u32(8).u64(2);
        writer.text("a").text("b");
        writer
    }
}

#[test]
fn the_embedded_model_is_read() {
    let model = embedded_model();
    let info = parse(model.bytes).unwrap();
    assert_eq!(info.architecture, "qwen3");
    assert!(info.chat_template.as_ref().is_some_and(|text| text.contains("im_start")));
    assert_eq!((info.purpose, info.pooling), (Purpose::Generate, None));
    assert_eq!((info.embedding_length, info.head_lengths), (256, (64, 64)));
    assert!(info.feed_forward_length > 256 && info.parameters > 1_000_000);
    assert!(info.has_rotary_positions && !info.is_read_whole);
    assert_eq!(info.file_bytes, model.bytes.len() as u64);
    assert!(info.context_tokens >= 256 && info.layers > 0 && info.vocabulary_tokens > 256);
    assert!(info.kv_bytes_per_token() > 0);
    assert!(info.tensor_bytes > 0 && info.tensor_bytes < model.bytes.len() as u64);
}

#[test]
fn what_is_not_there_is_derived() {
    let info = parse(&Writer::model(0).0).unwrap();
    // Keys have 24 elements a head as written, values 64 / 4; 3 heads in all layers together.
    assert_eq!(info.kv_bytes_per_token(), 3 * (24 + 16) * 2);
    assert_eq!((info.context_tokens, info.layers), (2048, 3));
    assert_eq!((info.name, info.vocabulary_tokens), (None, 2));
    assert_eq!((info.purpose, info.chat_template), (Purpose::Generate, None));
    assert!(!info.has_rotary_positions);
}

#[test]
fn embedding_models_are_known() {
    let mut writer = Writer::model(1);
    writer.text("x.attention.causal").u32(7).0.push(0);
    assert_eq!(parse(&writer.0).unwrap().purpose, Purpose::Embed);
    for (number, purpose, pooling) in [
        (0, Purpose::Generate, None),
        (1, Purpose::Embed, Some(Pooling::Mean)),
        (2, Purpose::Embed, Some(Pooling::First)),
        (3, Purpose::Embed, Some(Pooling::Last)),
        (4, Purpose::Rank, None),
    ] {
        let mut writer = Writer::model(1);
        writer.number_key("x.pooling_type", number);
        let info = parse(&writer.0).unwrap();
        assert_eq!((info.purpose, info.pooling), (purpose, pooling));
    }
}

#[test]
fn a_template_is_kept_unless_it_is_no_text_or_too_long() {
    let template = |bytes: &[u8]| {
        let mut writer = Writer::model(1);
        writer.text("tokenizer.chat_template").u32(8).u64(bytes.len() as u64);
        writer.0.extend(bytes);
        parse(&writer.0).unwrap().chat_template
    };
    assert_eq!(template(b"{{ a }}").as_deref(), Some("{{ a }}"));
    assert_eq!(template(b"\xff"), None);
    assert_eq!(template(&vec![b'a'; 1 << 20]).map(|text| text.len()), Some(1 << 20));
    assert_eq!(template(&vec![b'a'; (1 << 20) + 1]), None);
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let bytes = embedded_model().bytes;
    for end in (1024..bytes.len()).step_by(1024).chain([bytes.len() - 1]) {
        let error = parse(&bytes[..end]).unwrap_err();
        assert!(matches!(error, GgufError::Truncated { .. }), "{end}: {error}");
    }
    // A file that got shorter after its length was read.
    let error = GgufInfo::parse(&bytes[..2048], bytes.len() as u64).unwrap_err();
    assert!(matches!(error, GgufError::Truncated { .. }), "{error}");
}

#[test]
fn other_files_are_refused() {
    for bytes in [b"".as_slice(), b"GGU", b"PK\x03\x04 and more", b"GGML\0\0\0\0"] {
        assert!(matches!(parse(bytes), Err(GgufError::NotGguf)));
    }
    assert!(matches!(parse(b"GGUF\0\0\0\x03"), Err(GgufError::BigEndian)));
    let error = parse(b"GGUF\x09\0\0\0").unwrap_err();
    assert!(matches!(error, GgufError::Unsupported { found: 9, .. }));
}

#[test]
fn absurd_numbers_are_refused_before_anything_is_allocated() {
    let absurd = |writer: &Writer| {
        // As long as a file could be, so that only limits refuse.
        let error = GgufInfo::parse(writer.0.as_slice(), u64::MAX / 2).unwrap_err();
        assert!(matches!(error, GgufError::Absurd { .. }), "{error}");
    };
    absurd(&Writer::new(u64::MAX, 0));
    absurd(&Writer::new(0, u64::MAX));
    absurd(Writer::new(0, 1).u64(u64::MAX));
    absurd(Writer::new(0, 1).text("k").u32(8).u64(u64::MAX));
    absurd(Writer::new(0, 1).text("k").u32(9).u32(4).u64(u64::MAX));
    absurd(Writer::new(0, 1).number_key("general.alignment", 3));
    absurd(Writer::new(0, 1).text_key("general.name", &"n".repeat(300)));
    // Five dimensions; a size beyond all bounds; a row that is no whole number of blocks.
    absurd(Writer::new(1, 0).text("t").u32(5));
    absurd(Writer::new(1, 0).text("t").u32(2).u64(1 << 40).u64(1 << 40));
    absurd(Writer::new(1, 0).text("t").u32(1).u64(33).u32(8));
    // A place that is not aligned.
    absurd(Writer::new(1, 0).text("t").u32(1).u64(32).u32(8).u64(5));
}

#[test]
fn contradictions_are_refused() {
    let mut writer = Writer::new(0, 2);
    writer.number_key("k", 1).number_key("k", 2);
    assert!(matches!(parse(&writer.0), Err(GgufError::Duplicate { .. })));
    let mut writer = Writer::new(0, 1);
    writer.text("k").u32(9).u32(9).u64(1);
    assert!(matches!(parse(&writer.0), Err(GgufError::Unsupported { .. })));
    let mut writer = Writer::new(0, 1);
    writer.text("k\n");
    assert!(matches!(parse(&writer.0), Err(GgufError::Text { .. })));
    assert!(matches!(parse(&Writer::new(0, 0).0), Err(GgufError::Missing { .. })));
    let mut writer = Writer::model(1);
    writer.number_key("split.count", 4);
    assert!(matches!(parse(&writer.0), Err(GgufError::Part { parts: 4 })));
}

#[test]
fn tensors_must_lie_inside_the_file() {
    let mut writer = Writer::new(1, 0);
    writer.text("t").u32(1).u64(32).u32(8).u64(1 << 30);
    let error = parse(&writer.0).unwrap_err();
    assert!(matches!(error, GgufError::Truncated { needed, .. } if needed > 1 << 30));
    let mut writer = Writer::new(2, 0);
    for _ in 0..2 {
        writer.text("t").u32(1).u64(32).u32(8).u64(0);
    }
    assert!(matches!(parse(&writer.0), Err(GgufError::Absurd { .. })));
}

#[test]
#[allow(unsafe_code)]
fn block_sizes_are_those_of_the_native_library() {
    for number in 0..llama_cpp_sys_2::GGML_TYPE_COUNT {
        // SAFETY: the number is below the count of types, and these only look into a table.
        let (block, bytes) = unsafe {
            (llama_cpp_sys_2::ggml_blck_size(number), llama_cpp_sys_2::ggml_type_size(number))
        };
        let native = (block > 0).then_some((block as u64, bytes as u64));
        assert_eq!(block_of(number), native, "type {number}");
    }
    assert_eq!(block_of(llama_cpp_sys_2::GGML_TYPE_COUNT), None);
}

/// Bytes at the head of the embedded model in which a change matters.
fn head() -> Vec<u8> {
    let bytes = embedded_model().bytes;
    bytes[..bytes.len().min(4096)].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(parse(&bytes).is_err());
        let mut bytes = bytes;
        bytes.splice(0..0, *b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0");
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_head_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in prop::option::of(any::<u64>()),
    ) {
        let mut bytes = head();
        for (index, value) in changes {
            *index.get_mut(&mut bytes) = value;
        }
        let all = embedded_model().bytes.len() as u64;
        let whole = length.unwrap_or(all);
        prop_assert!(GgufInfo::parse(bytes.as_slice(), whole).is_err());
    }
}

/// The description of a projector without tensors.
fn projector(kind: &str, architecture: &str) -> Writer {
    let mut writer = Writer::new(0, 8);
    writer
        .text_key("general.architecture", architecture)
        .number_key("clip.vision.embedding_length", 8)
        .number_key("clip.vision.feed_forward_length", 10)
        .number_key("clip.vision.image_size", 32)
        .number_key("clip.vision.patch_size", 8)
        .number_key("clip.vision.projection_dim", 64);
    writer.text(kind).u32(7).0.push(1);
    writer.text("clip.vision.is_deepstack_layers").u32(9).u32(7).u64(4);
    writer.0.extend([0, 1, 0, 1]);
    writer
}

#[test]
fn a_projector_says_what_it_takes() {
    let of = |writer: &Writer| ProjectorInfo::parse(writer.0.as_slice(), writer.0.len() as u64);
    let right = projector("clip.has_vision_encoder", "clip");
    let info = of(&right).unwrap();
    // What the model reads of a picture, and of two layers beside it.
    assert_eq!(info.token_length, 3 * 64);
    assert_eq!(info.picture_numbers, 16 * (8 * 8 + 3 * 10));
    assert!(matches!(parse(&right.0), Err(GgufError::Projector)));
    let deaf = of(&projector("clip.has_audio_encoder", "clip")).unwrap_err();
    assert!(deaf.to_string().contains("for sounds"), "{deaf}");
    let model = of(&projector("clip.has_vision_encoder", "llama")).unwrap_err();
    assert!(model.to_string().contains("llama"), "{model}");
    for cut in 0..right.0.len() {
        let length = cut as u64;
        assert!(ProjectorInfo::parse(&right.0[..cut], length).is_err(), "{cut} bytes");
    }
}

#[test]
fn patches_of_no_size_are_refused() {
    for (picture, patch) in [(32, 0), (8, 9)] {
        let mut writer = projector("clip.has_vision_encoder", "clip");
        for (key, value) in [("image_size", picture), ("patch_size", patch)] {
            let key = format!("clip.vision.{key}");
            let at = writer.0.windows(key.len()).position(|part| part == key.as_bytes()).unwrap();
            let at = at + key.len() + 4;
            writer.0[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        let result = ProjectorInfo::parse(writer.0.as_slice(), writer.0.len() as u64);
        assert!(matches!(result, Err(GgufError::Absurd { .. })), "{result:?}");
    }
}
