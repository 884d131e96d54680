use crate::ApiError;

/// A model that is not here, in the words for which Ollama's clients pull it.
pub(super) fn unknown_model(name: &str) -> ApiError {
    in_words(ApiError::unknown_model(name), name)
}

/// The same failure in Ollama's words.
pub(super) fn in_words(mut error: ApiError, name: &str) -> ApiError {
    if error.stable_code() == Some("model_not_found") {
        error.message = format!("model '{name}' not found");
    }
    error
}
