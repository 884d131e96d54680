//! What computes a model on the processor: llama.cpp's kernels as they were compiled into it, or the
//! same ones compiled for more instructions with ours beside them, whichever the processor knows.
//!
//! One choice for a process, made before it loads a model. The bits of results depend on it, so it
//! has a name that stays ([`Kernels::instruction_set`]).
#![allow(unsafe_code)]

#[cfg(avx512_kernels)]
mod q8_0;

use std::{
    ffi::{CStr, c_int, c_void},
    sync::OnceLock,
};

use llama_cpp_sys_2 as sys;

/// Which kernels a process computes with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kernels {
    /// Those inside the library, for every processor of the last ten years.
    Portable,
    /// The library's for AVX-512 with VNNI, and ours for matrices in Q8_0.
    Avx512,
}

impl Kernels {
    /// The best that this processor knows and this build has.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(avx512_kernels)]
        if knows_avx512() {
            return Self::Avx512;
        }
        Self::Portable
    }

    /// The instructions and kernels that decide the bits of results. A new version of a kernel of ours
    /// that gives other bits has another number here.
    #[must_use]
    pub fn instruction_set(self) -> String {
        match self {
            Self::Portable => portable_instruction_set(),
            Self::Avx512 => "avx512+vnni+avx2+fma+f16c+q8_0.1".into(),
        }
    }

    /// Has this process compute with these, and gives what it computes with from now on: a process
    /// chooses once, and the first choice stays.
    pub fn start(self) -> Self {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        *CHOSEN.get_or_init(|| match self {
            #[cfg(avx512_kernels)]
            Self::Avx512 => {
                register_avx512();
                self
            }
            _ => Self::Portable,
        })
    }
}

/// What the processor has to know for [`Kernels::Avx512`], the same as in build.rs.
#[cfg(avx512_kernels)]
fn knows_avx512() -> bool {
    use std::arch::is_x86_feature_detected as knows;
    knows!("sse4.2")
        && knows!("f16c")
        && knows!("fma")
        && knows!("bmi2")
        && knows!("avx")
        && knows!("avx2")
        && knows!("avx512f")
        && knows!("avx512cd")
        && knows!("avx512vl")
        && knows!("avx512dq")
        && knows!("avx512bw")
        && knows!("avx512vnni")
}

#[cfg(avx512_kernels)]
fn register_avx512() {
    unsafe extern "C" {
        fn arknet_avx512_kernels(rows: q8_0::MultiplyRows) -> sys::ggml_backend_reg_t;
    }
    // SAFETY: nothing has asked for a device yet, so nothing uses what is taken away; the name is a
    // constant, and what is registered lives as long as the process.
    unsafe {
        let portable = sys::ggml_backend_reg_by_name(CPU.as_ptr());
        if !portable.is_null() {
            sys::ggml_backend_unload(portable);
        }
        sys::ggml_backend_register(arknet_avx512_kernels(q8_0::multiply_rows));
    }
}

/// What the library calls the kernels of the processor.
const CPU: &CStr = c"CPU";

/// Threads that compute, kept between steps. They belong to the kernels that made them.
#[derive(Debug)]
pub struct ThreadPool(sys::ggml_threadpool_t);

// SAFETY: a pool is bound to no thread.
unsafe impl Send for ThreadPool {}

impl ThreadPool {
    /// Starts them. None when the system has no more.
    #[must_use]
    pub fn new(mut params: sys::ggml_threadpool_params) -> Option<Self> {
        type New = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> sys::ggml_threadpool_t;
        let new = address(c"ggml_threadpool_new")?;
        // SAFETY: under this name the library keeps a function of this type, which copies what it is
        // given.
        let pool = unsafe {
            let new = std::mem::transmute::<*mut c_void, New>(new);
            new(&raw mut params)
        };
        (!pool.is_null()).then_some(Self(pool))
    }

    /// For the library, as long as this lives.
    #[must_use]
    pub fn raw(&self) -> sys::ggml_threadpool_t {
        self.0
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        type Free = unsafe extern "C" fn(sys::ggml_threadpool_t);
        if let Some(free) = address(c"ggml_threadpool_free") {
            // SAFETY: as above; the pool was made by its counterpart and is freed once.
            unsafe {
                let free = std::mem::transmute::<*mut c_void, Free>(free);
                free(self.0);
            }
        }
    }
}

/// A function of the kernels in use, by the name that the library gives it.
fn address(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: names are constants; the library holds the pointers it is given against null itself.
    let address = unsafe {
        let kernels = sys::ggml_backend_reg_by_name(CPU.as_ptr());
        if kernels.is_null() {
            return None;
        }
        sys::ggml_backend_reg_get_proc_address(kernels, name.as_ptr())
    };
    (!address.is_null()).then_some(address)
}

/// What the library itself was compiled for, each level with all that changes results.
fn portable_instruction_set() -> String {
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
