//! What computes a model on the processor: llama.cpp's kernels as they were compiled into it, or the
//! same ones compiled for more instructions with ours beside them, whichever the processor knows.
//!
//! One choice for a process, made before it loads a model. The bits of results depend on it, so it
//! has a name that stays ([`Kernels::instruction_set`]).
#![allow(unsafe_code)]

#[cfg(avx512_kernels)]
#[macro_use]
mod instructions;
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

#[cfg(avx512_kernels)]
fn knows_avx512() -> bool {
    macro_rules! all_known {
        ($($name:tt)*) => { $(std::arch::is_x86_feature_detected!($name))&&* };
    }
    instructions!(all_known)
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

#[cfg(avx512_kernels)]
#[cfg(test)]
mod tests {
    use std::ptr::null;

    use super::*;

    const LENGTH: usize = 96;
    const ROWS: usize = 150;
    const PLANES: usize = 2;
    /// Planes of columns, two of which share a plane of rows.
    const COLUMN_PLANES: usize = 4;

    /// A number between -127 and 127; the first of each block is as large as they get, so that the
    /// library finds one as the scale of every block, and all results are exact.
    fn element(line: usize, at: usize) -> i8 {
        if at.is_multiple_of(32) {
            return 127;
        }
        let number = i16::try_from((line * 37 + at * 11) % 255).unwrap() - 127;
        i8::try_from(number).unwrap()
    }

    /// What the library makes of rows in Q8_0 and columns of floats.
    fn multiplied(columns: usize, threads: c_int) -> Vec<f32> {
        let rows = (0..ROWS * PLANES).flat_map(|row| {
            (0..LENGTH).flat_map(move |at| {
                let scale: &[u8] = if at.is_multiple_of(32) { &[0, 0x3c] } else { &[] };
                [scale, &[element(row, at).cast_unsigned()]].concat()
            })
        });
        let rows: Vec<u8> = rows.collect();
        let inputs: Vec<f32> = (0..columns * COLUMN_PLANES)
            .flat_map(|column| (0..LENGTH).map(move |at| f32::from(element(column + 5, at))))
            .collect();
        let mut out = vec![0.0_f32; ROWS * columns * COLUMN_PLANES];
        let size = |n: usize| i64::try_from(n).unwrap();
        // SAFETY: the tensors have the sizes of what is copied; all is freed in the end.
        unsafe {
            let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
            let backend = sys::ggml_backend_dev_init(device, null());
            let set = address(c"ggml_backend_set_n_threads").unwrap();
            let set: sys::ggml_backend_set_n_threads_t = std::mem::transmute(set);
            set.unwrap()(backend, threads);
            let context = sys::ggml_init(sys::ggml_init_params {
                mem_size: 8 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead(),
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            });
            let tensor = |kind, count, planes| {
                sys::ggml_new_tensor_3d(context, kind, size(LENGTH), size(count), size(planes))
            };
            let a = tensor(sys::GGML_TYPE_Q8_0, ROWS, PLANES);
            let b = tensor(sys::GGML_TYPE_F32, columns, COLUMN_PLANES);
            let product = sys::ggml_mul_mat(context, a, b);
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, product);
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
            sys::ggml_backend_tensor_set(a, rows.as_ptr().cast(), 0, rows.len());
            sys::ggml_backend_tensor_set(b, inputs.as_ptr().cast(), 0, size_of_val(&inputs[..]));
            assert_eq!(sys::ggml_backend_graph_compute(backend, graph), sys::GGML_STATUS_SUCCESS);
            let bytes = size_of_val(&out[..]);
            sys::ggml_backend_tensor_get(product, out.as_mut_ptr().cast(), 0, bytes);
            sys::ggml_backend_buffer_free(buffer);
            sys::ggml_free(context);
            sys::ggml_backend_free(backend);
        }
        out
    }

    /// Rows dealt out to threads, planes one after the other, few columns and many.
    #[test]
    fn the_library_asks_our_kernel_and_gets_all_planes() {
        if Kernels::best().start() != Kernels::Avx512 {
            return;
        }
        for columns in [1, 4, 5, 33] {
            for threads in [1, 2, 3, 3, 3, 3] {
                let found = multiplied(columns, threads);
                for (i, found) in found.iter().enumerate() {
                    let (line, row) = (i / ROWS, i % ROWS);
                    let plane = line / columns * PLANES / COLUMN_PLANES;
                    let terms = (0..LENGTH).map(|at| {
                        i32::from(element(plane * ROWS + row, at))
                            * i32::from(element(line + 5, at))
                    });
                    let expected: i32 = terms.sum();
                    assert_eq!(f64::from(*found), f64::from(expected), "{columns} {threads} {i}");
                }
            }
        }
    }
}
