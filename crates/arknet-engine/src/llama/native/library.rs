//! The one-time start of the library, where its log goes, and what it was built for.

use std::{
    ffi::{CStr, c_char, c_void},
    sync::Once,
};

use arknet_kernels::Kernels;
use llama_cpp_sys_2 as sys;

/// Starts the library, once in a process, and gives the kernels it computes with: those of the first
/// call. It is never stopped: other models may use it.
pub(crate) fn start(kernels: Kernels) -> Kernels {
    static START: Once = Once::new();
    START.call_once(|| {
        // SAFETY: the callback is a function that lives as long as the process, reads the text
        // only during the call and ignores the user data, which may then be null. Initialising
        // needs nothing and may be repeated by others.
        unsafe {
            sys::llama_log_set(Some(log), std::ptr::null_mut());
            sys::mtmd_log_set(Some(log), std::ptr::null_mut());
            sys::llama_backend_init();
        }
    });
    kernels.start()
}

/// Passes a line on. What the library calls information is about shapes and buffers, so it is
/// debugging here. It never logs prompts or tokens.
unsafe extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
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
        sys::GGML_LOG_LEVEL_ERROR | sys::GGML_LOG_LEVEL_WARN => {
            tracing::warn!(target: "llama_cpp", "{text}");
        }
        _ => tracing::debug!(target: "llama_cpp", "{text}"),
    }
}

/// Names what decides the bits of every result: the library's version, the kernels that compute it,
/// and how it was compiled. Computed without starting anything.
pub(crate) fn build_class(kernels: Kernels) -> String {
    // SAFETY: gives a constant text that ends in zero.
    let version = unsafe { CStr::from_ptr(sys::llama_version()) }.to_string_lossy();
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let device = if cfg!(feature = "cuda") {
        "-cuda"
    } else if cfg!(feature = "vulkan") {
        "-vulkan"
    } else if cfg!(feature = "metal") {
        "-metal"
    } else {
        ""
    };
    format!(
        "llama.cpp-{version}/{}-{}{device}/{profile}",
        std::env::consts::ARCH,
        kernels.instruction_set()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_a_name_that_stays() {
        for kernels in [Kernels::Portable, Kernels::best()] {
            let class = build_class(kernels);
            assert_eq!(class, build_class(kernels));
            assert!(class.starts_with("llama.cpp-"), "{class}");
            assert_eq!(class.split('/').count(), 3, "{class}");
            assert!(class.is_ascii() && class.len() < 128, "{class}");
        }
    }
}
