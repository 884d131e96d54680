//! Pictures, with projectors of random numbers: what the model says of them means nothing, but it
//! depends on them.

use std::path::{Path, PathBuf};

use arknet_engine::{LlamaOptions, LlamaProvider, LoadError, embedded_model, gguf::GgufError};
use arknet_provider::Provider;
use arknet_types::{
    Alternative, Capabilities, Chat, Image, ImageFormat, InferRequest, Input, Message, Part,
    RefusalCode, Role,
};
use image::{DynamicImage, ImageBuffer, Rgb};

use crate::{
    gguf::{Projector, projector},
    model::{Answer, ask, chat, file, greedy, options, read},
};

const KINDS: [Projector; 2] = [Projector::Whole, Projector::OwnSize];

fn looking(folder: &Path, kind: Projector, model: &Path) -> LlamaOptions {
    let path = folder.join("projector.gguf");
    projector(&path, kind);
    LlamaOptions {
        path: model.to_owned(),
        projector: Some(path),
        context_tokens: Some(512),
        ..options()
    }
}

/// Every kind of projector with the model that ships, and one with a model that counts positions in
/// several directions.
fn opened() -> Vec<(&'static str, LlamaProvider)> {
    let folder = tempfile::tempdir().unwrap();
    let turned = several_directions(folder.path());
    let open =
        |kind, model: &Path| LlamaProvider::open(looking(folder.path(), kind, model)).unwrap();
    vec![
        ("whole", open(Projector::Whole, file())),
        ("own size", open(Projector::OwnSize, file())),
        ("directions", open(Projector::OwnSize, &turned)),
    ]
}

/// The model that ships as one of a kind that counts positions in several directions.
fn several_directions(folder: &Path) -> PathBuf {
    let bytes = embedded_model().bytes;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let kind = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let size = |kind: u32| match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        10..=12 => 8,
        _ => 4,
    };
    let text_end = |at: usize| at + 8 + usize::try_from(number(at)).unwrap();
    let mut made = bytes[..16].to_vec();
    made.extend((number(16) + 1).to_le_bytes());
    let mut at = 24;
    for _ in 0..number(16) {
        let (begin, value) = (at, text_end(at));
        let key = std::str::from_utf8(&bytes[begin + 8..value]).unwrap();
        at = match kind(value) {
            8 => text_end(value + 4),
            9 => {
                let (each, mut end) = (kind(value + 4), value + 16);
                for _ in 0..number(value + 8) {
                    end = if each == 8 { text_end(end) } else { end + size(each) };
                }
                end
            }
            kind => value + 4 + size(kind),
        };
        let key = key.replace("qwen3.", "qwen3vl.");
        made.extend((key.len() as u64).to_le_bytes());
        made.extend(key.as_bytes());
        if key == "general.architecture" {
            made.extend([8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
            made.extend(b"qwen3vl");
        } else {
            made.extend(&bytes[value..at]);
        }
    }
    let key = b"qwen3vl.rope.dimension_sections";
    made.extend((key.len() as u64).to_le_bytes());
    made.extend(key);
    made.extend([9, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
    made.extend([12_i32, 10, 10, 0].map(i32::to_le_bytes).concat());
    let begin = at;
    for _ in 0..number(8) {
        let dimensions = text_end(at);
        at = dimensions + 4 + 8 * kind(dimensions) as usize + 12;
    }
    made.extend(&bytes[begin..at]);
    made.resize(made.len().next_multiple_of(32), 0);
    made.extend(&bytes[at.next_multiple_of(32)..]);
    let path = folder.join("directions.gguf");
    std::fs::write(&path, made).unwrap();
    path
}

/// A picture of stripes.
fn picture(width: u32, height: u32, stripe: u32) -> Image {
    let colour = |x: u32, y: u32| {
        if (x / stripe + y / (2 * stripe)).is_multiple_of(2) {
            Rgb([250_u8, 30, 60])
        } else {
            Rgb([0, 90, 200])
        }
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(ImageBuffer::from_fn(width, height, colour))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    Image { format: ImageFormat::Png, bytes: bytes.into_inner() }
}

fn user(parts: Vec<Part>) -> Message {
    let mut message = Message::new(Role::User, "");
    message.parts = parts;
    message
}

fn about(pictures: &[&Image], question: &str) -> InferRequest {
    let mut parts: Vec<Part> = pictures.iter().map(|image| Part::Image((*image).clone())).collect();
    parts.push(Part::Text(question.into()));
    let mut request = greedy(Input::Chat(Chat::new(vec![user(parts)])));
    request.max_tokens = Some(8);
    request.logprobs = Some(3);
    request
}

/// How far apart two answers are, in what they think of their likeliest first tokens.
fn apart(a: &Answer, b: &Answer) -> f32 {
    let (a, b) = (&a.logprobs[0].top[..2], &b.logprobs[0].top[..2]);
    let of = |pair: (&Alternative, &Alternative)| match pair.0.token == pair.1.token {
        true => (pair.0.logprob - pair.1.logprob).abs(),
        false => f32::INFINITY,
    };
    a.iter().zip(b).map(of).fold(0.0, f32::max)
}

#[tokio::test]
async fn an_answer_depends_on_the_picture() {
    for (kind, provider) in opened() {
        assert!(provider.info().capabilities.contains(Capabilities::VISION));
        let (a, b) = (picture(64, 64, 8), picture(64, 64, 16));
        let none = ask(&provider, about(&[], "What is it?")).await.unwrap();
        let of_a = ask(&provider, about(&[&a], "What is it?")).await.unwrap();
        let of_b = ask(&provider, about(&[&b], "What is it?")).await.unwrap();
        let again = ask(&provider, about(&[&a], "What is it?")).await.unwrap();
        assert!(of_a.usage.prompt_tokens > none.usage.prompt_tokens + 3, "{kind}");
        assert!(apart(&of_a, &of_b) > 0.05, "{kind}: {}", apart(&of_a, &of_b));
        assert!(apart(&of_a, &again) < 0.03, "{kind}: {}", apart(&of_a, &again));
        // All but the last token of the input, the picture among it.
        assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1, "{kind}");
        let both = ask(&provider, about(&[&a, &b], "What is it?")).await.unwrap();
        let one = of_a.usage.prompt_tokens - none.usage.prompt_tokens;
        assert_eq!(both.usage.prompt_tokens, none.usage.prompt_tokens + 2 * one, "{kind}");
    }
}

#[tokio::test]
async fn a_picture_in_its_own_size_has_tokens_for_it() {
    let (_, provider) = opened().pop().unwrap();
    let tokens = async |width, height| {
        let request = about(&[&picture(width, height, 8)], "What is it?");
        ask(&provider, request).await.unwrap().usage.prompt_tokens
    };
    // A token for every 16 x 16.
    let (small, wide) = (tokens(64, 64).await, tokens(256, 64).await);
    assert_eq!(wide - small, 64 - 16);
    // Not more than half of the context, whatever its size.
    assert!(tokens(1024, 1024).await < 300);
}

#[tokio::test]
async fn the_next_turn_does_not_look_again() {
    for (kind, provider) in opened() {
        let image = picture(96, 64, 8);
        let mut first = about(&[&image], "What is it?");
        let answer = ask(&provider, first.clone()).await.unwrap();
        let Input::Chat(chat) = &mut first.input else { unreachable!() };
        chat.messages.push(Message::new(Role::Assistant, answer.text.as_str()));
        chat.messages.push(user(vec![Part::Text("And where?".into())]));
        let turn = ask(&provider, first.clone()).await.unwrap();
        assert!(turn.usage.cached_tokens >= answer.usage.prompt_tokens, "{kind}: {:?}", turn.usage);
        let fresh = opened().into_iter().find(|(other, _)| *other == kind).unwrap().1;
        let fresh = ask(&fresh, first).await.unwrap();
        assert_eq!(fresh.usage.cached_tokens, 0);
        assert!(apart(&turn, &fresh) < 0.03, "{kind}: {}", apart(&turn, &fresh));
    }
}

#[tokio::test]
async fn pictures_and_texts_are_answered_together() {
    for (kind, provider) in opened() {
        let image = picture(160, 96, 8);
        let alone = ask(&provider, about(&[&image], "What is it?")).await.unwrap();
        let text = provider.generate(chat("What is arknet?")).unwrap();
        let look = provider.generate(about(&[&image, &picture(64, 64, 5)], "And now?")).unwrap();
        assert!(!read(text).await.unwrap().text.is_empty());
        read(look).await.unwrap();
        // Those that go away leave nothing behind.
        for _ in 0..5 {
            drop(provider.generate(about(&[&picture(200, 120, 3)], "Gone?")).unwrap());
        }
        let again = ask(&provider, about(&[&image], "What is it?")).await.unwrap();
        assert!(apart(&alone, &again) < 0.03, "{kind}: {}", apart(&alone, &again));
    }
}

#[tokio::test]
async fn tokens_of_pictures_are_counted_without_looking() {
    for (kind, provider) in opened() {
        let request = about(&[&picture(200, 90, 8)], "What is it?");
        let answer = ask(&provider, request.clone()).await.unwrap();
        let Input::Chat(chat) = request.input else { unreachable!() };
        let counted = ask(&provider, greedy(Input::Count(chat))).await.unwrap();
        assert_eq!(counted.usage.prompt_tokens, answer.usage.prompt_tokens, "{kind}");
    }
}

#[tokio::test]
async fn what_is_no_picture_is_refused_by_its_number() {
    let (_, provider) = opened().remove(0);
    let mut cut = picture(64, 64, 8);
    cut.bytes.truncate(50);
    let request = about(&[&picture(64, 64, 8), &cut], "What is it?");
    let refusal = ask(&provider, request).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.detail.starts_with("picture 2 cannot be read"), "{refusal}");
    let many = picture(64, 64, 8);
    let refusal =
        ask(&provider, about(&vec![&many; 64], "?".repeat(400).as_str())).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ContextOverflow, "{refusal}");
    let refusal = ask(&provider, about(&vec![&many; 65], "?")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidRequest, "{refusal}");
}

#[test]
fn a_file_that_is_no_projector_for_the_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = LlamaOptions { projector: Some(file().to_owned()), ..options() };
    let error = LlamaProvider::open(model).unwrap_err();
    let is_model = |cause: &GgufError| matches!(cause, GgufError::NotProjector { .. });
    assert!(matches!(&error, LoadError::Gguf { cause, .. } if is_model(cause)), "{error}");
    for kind in KINDS {
        let looking = looking(folder.path(), kind, file());
        let path = looking.projector.clone().unwrap();
        let swapped = LlamaOptions { path, projector: None, ..options() };
        let error = LlamaProvider::open(swapped).unwrap_err();
        let cause = GgufError::Projector;
        assert!(error.to_string().contains(&cause.to_string()), "{error}");
    }
}
