use arknet_types::ModelName;

use crate::ApiError;

/// Names in an error's words at most.
const NAMES_MAX: usize = 20;

/// The same failure in the words that Anthropic's clients look for.
pub(super) fn explain(mut error: ApiError, model: &str, models: &[ModelName]) -> ApiError {
    match error.stable_code() {
        Some("context_length_exceeded") => error.message = too_long(&error.message),
        Some("model_not_found") => error.message = unknown_model(model, models),
        _ => {}
    }
    error
}

/// Coding agents make a conversation shorter when they read the first words, and some read the
/// numbers.
fn too_long(detail: &str) -> String {
    let numbers: Vec<u64> = detail
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers[..] {
        [one, other] if one != other => {
            let (tokens, maximum) = (one.max(other), one.min(other));
            format!("prompt is too long: {tokens} tokens > {maximum} maximum")
        }
        _ => format!("prompt is too long: {detail}"),
    }
}

fn unknown_model(model: &str, models: &[ModelName]) -> String {
    if models.is_empty() {
        return format!("model: {model}");
    }
    let mut words = format!("model: {model} is not here; there are");
    for (index, name) in models.iter().take(NAMES_MAX).enumerate() {
        words.push_str(if index == 0 { " " } else { ", " });
        words.push_str(name.as_str());
    }
    if models.len() > NAMES_MAX {
        words.push_str(", ..");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_agents_look_for() {
        for (detail, words) in [
            (
                "the input has 5000 tokens and tiny holds 2048 with the answer",
                "prompt is too long: 5000 tokens > 2048 maximum",
            ),
            (
                "Qwen3-0.6B-Q8_0 holds 2048 tokens, the input has 5000, 1 more",
                "prompt is too long: Qwen3-0.6B-Q8_0 holds 2048 tokens, the input has 5000, 1 more",
            ),
            ("no room", "prompt is too long: no room"),
        ] {
            assert_eq!(too_long(detail), words);
        }
    }

    #[test]
    fn what_is_there_is_named_within_a_limit() {
        let name = |n: usize| ModelName::new(format!("m{n}")).unwrap();
        assert_eq!(unknown_model("x", &[]), "model: x");
        assert_eq!(
            unknown_model("x", &[name(1), name(2)]),
            "model: x is not here; there are m1, m2"
        );
        let many: Vec<_> = (0..=NAMES_MAX).map(name).collect();
        assert!(unknown_model("x", &many).ends_with("m18, m19, .."));
    }
}
