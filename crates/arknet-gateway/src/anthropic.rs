use crate::desk::Routes;

/// The routes of Anthropic's API.
pub(crate) fn routes() -> Routes {
    Routes::new()
}
