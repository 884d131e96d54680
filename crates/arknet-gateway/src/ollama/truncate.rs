use arknet_types::{InferRequest, Input, ModelName, limits::TOKENIZE_BYTES_MAX};

use crate::{ApiError, Ask, desk::Call};

/// Tokens of the context that are left to what a model puts around a text, and to a cut that falls
/// into other tokens than it was made between.
const SPARE_TOKENS: usize = 16;

/// The request with every text cut to what the model can hold.
pub(super) async fn cut(call: &Call, mut ask: Ask) -> Result<Ask, ApiError> {
    let model = ask.infer.model.clone();
    let models = call.models();
    let Some(listed) = models.iter().find(|one| one.name == model) else {
        return Ok(ask);
    };
    let room = (listed.context_tokens as usize).saturating_sub(SPARE_TOKENS);
    if let Input::Embed(texts) = &mut ask.infer.input {
        // A token has one byte at least.
        for text in texts.iter_mut().filter(|text| text.len() > room) {
            *text = head(call, &model, std::mem::take(text), room).await?;
        }
    }
    Ok(ask)
}

async fn head(
    call: &Call,
    model: &ModelName,
    mut text: String,
    room: usize,
) -> Result<String, ApiError> {
    // More than any model reads at once that makes vectors.
    text.truncate(text.floor_char_boundary(TOKENIZE_BYTES_MAX));
    let ask = |input| Ask { infer: InferRequest::new(model.clone(), input), keep_alive: None };
    let split = Input::Tokenize { text: text.clone(), add_special: false };
    let mut tokens = call.gather(ask(split)).await?.tokens;
    if tokens.len() <= room {
        return Ok(text);
    }
    tokens.truncate(room);
    Ok(call.gather(ask(Input::Detokenize(tokens))).await?.text)
}
