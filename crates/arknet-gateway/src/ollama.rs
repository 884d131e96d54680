use crate::desk::Routes;

/// The routes of Ollama's API.
pub(crate) fn routes() -> Routes {
    Routes::new()
}
