//! The one-time start of the library, where its log goes, and what it was built for.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    sync::Once,
};

use llama_cpp_sys_2 as sys;

/// Starts the library, once in a process. It is never stopped: other models may use it.
pub(crate) fn start() {
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

/// Names what decides the bits of every result: the library's version, the instruction set it was
/// compiled for, and how it was compiled. Computed from constants, without starting anything.
pub(crate) fn build_class() -> String {
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
        instruction_set()
    )
}

/// What the kernels were compiled for, each level with all that changes results.
fn instruction_set() -> String {
    type Asks = unsafe extern "C" fn() -> c_int;
    let asked: [(Asks, &str); 14] = [
        (sys::ggml_cpu_has_avx512, "avx512"),
        (sys::ggml_cpu_has_avx512_vbmi, "vbmi"),
        (sys::ggml_cpu_has_avx512_vnni, "vnni"),
        (sys::ggml_cpu_has_avx512_bf16, "bf16"),
        (sys::ggml_cpu_has_amx_int8, "amx"),
        (sys::ggml_cpu_has_avx_vnni, "avxvnni"),
        (sys::ggml_cpu_has_avx2, "avx2"),
        (sys::ggml_cpu_has_fma, "fma"),
        (sys::ggml_cpu_has_f16c, "f16c"),
        (sys::ggml_cpu_has_neon, "neon"),
        (sys::ggml_cpu_has_dotprod, "dotprod"),
        (sys::ggml_cpu_has_matmul_int8, "i8mm"),
        (sys::ggml_cpu_has_sve, "sve"),
        (sys::ggml_cpu_has_riscv_v, "rvv"),
    ];
    let names: Vec<&str> = asked
        .into_iter()
        // SAFETY: these take nothing and give a constant.
        .filter(|(has, _)| unsafe { has() } != 0)
        .map(|(_, name)| name)
        .collect();
    if names.is_empty() { "baseline".into() } else { names.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_a_name_that_stays() {
        let class = build_class();
        assert_eq!(class, build_class());
        assert!(class.starts_with("llama.cpp-"), "{class}");
        assert_eq!(class.split('/').count(), 3, "{class}");
        assert!(class.is_ascii() && class.len() < 128, "{class}");
    }
}
