//! The one-time start of the native library, and where its log goes.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_void},
    sync::OnceLock,
};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2::{GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_WARN, ggml_log_level, llama_log_set};

/// The native library, started once in a process and never stopped: other models may use it.
/// None when something else in the process started it, and then its life is not ours to manage.
pub(crate) fn backend() -> Option<&'static LlamaBackend> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            // SAFETY: the callback is a function that lives as long as the process, reads the text
            // only during the call and ignores the user data, which may then be null.
            unsafe { llama_log_set(Some(log), std::ptr::null_mut()) };
            LlamaBackend::init().ok()
        })
        .as_ref()
}

/// Passes a line on. What the library calls information is about shapes and buffers, so it is
/// debugging here. It never logs prompts or tokens.
unsafe extern "C" fn log(level: ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: the library passes a text that ends in zero and lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim();
    // Lines of dots show progress on terminals.
    if text.trim_matches('.').is_empty() {
        return;
    }
    match level {
        GGML_LOG_LEVEL_ERROR | GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama_cpp", "{text}"),
        _ => tracing::debug!(target: "llama_cpp", "{text}"),
    }
}
