//! What stands in for a model behind each of the scripted servers: it says the same words whatever it
//! is asked, but keeps limits, stops and formats.

/// Tokens of its context.
pub(crate) const CONTEXT: u64 = 4096;

const WORDS: [&str; 8] = ["One ", "fish ", "two ", "fish ", "red ", "fish ", "blue ", "fish. "];
const LENGTH: usize = 40;

/// What it says.
pub(crate) struct Said {
    pub(crate) pieces: Vec<String>,
    pub(crate) stopped_at: Option<String>,
    pub(crate) is_cut: bool,
    pub(crate) prompt_tokens: u64,
}

/// Tokens of a prompt of so many bytes.
pub(crate) fn tokens(prompt: &str) -> u64 {
    prompt.len() as u64 / 3 + 3
}

/// None where the prompt does not fit.
pub(crate) fn speak(
    prompt: &str,
    max: Option<u64>,
    stops: &[String],
    is_json: bool,
) -> Option<Said> {
    let prompt_tokens = tokens(prompt);
    if prompt_tokens >= CONTEXT {
        return None;
    }
    let words: Vec<String> = if is_json {
        ["{\"wet\"", ":", "true", "}"].map(str::to_owned).to_vec()
    } else {
        WORDS.iter().cycle().take(LENGTH).map(|word| (*word).to_owned()).collect()
    };
    let max = usize::try_from(max.unwrap_or(CONTEXT)).unwrap();
    let mut pieces: Vec<String> = words.iter().take(max).cloned().collect();
    let is_cut = pieces.len() < words.len();
    let text = pieces.concat();
    let first = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min();
    if let Some((at, stop)) = first {
        let mut room = at;
        pieces.retain_mut(|piece| {
            piece.truncate(room);
            room -= piece.len();
            !piece.is_empty()
        });
        return Some(Said { pieces, stopped_at: Some(stop.clone()), is_cut: false, prompt_tokens });
    }
    Some(Said { pieces, stopped_at: None, is_cut, prompt_tokens })
}

/// A vector for a text.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.5_f32; 8];
    for (at, byte) in text.bytes().enumerate() {
        vector[at % 8] += f32::from(byte);
    }
    vector
}
