//! Compiles what llama.cpp computes on the processor a second time, for AVX-512.
//!
//! The library itself is compiled for AVX2, which every processor of the last ten years knows. Its
//! kernels for the processor are a part that it can exchange while a program starts, but its own
//! way to bring several of them is shared libraries beside the program, and arknet is one file. So
//! the same sources, those of `llama-cpp-sys-2`, are compiled here with more instructions and
//! joined into one object that shows one function: no symbol of it can take the place of the
//! library's own, and the linker cannot choose an instruction that the processor lacks for a
//! template that both have.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells build scripts things through the environment"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What `native/avx512.c` shows, the only symbol that leaves the object.
const ENTRY: &str = "arknet_avx512_kernels";

/// Of `ggml/src/ggml-cpu`, everything that is compiled for x86-64.
const SOURCES: [&str; 17] = [
    "amx/amx.cpp",
    "amx/mmq.cpp",
    "arch/x86/quants.c",
    "arch/x86/repack.cpp",
    "binary-ops.cpp",
    "ggml-cpu.c",
    "ggml-cpu.cpp",
    "hbm.cpp",
    "llamafile/sgemm.cpp",
    "ops.cpp",
    "quants.c",
    "repack.cpp",
    "tiled/tiled-kernel.cpp",
    "tiled/tiled.cpp",
    "traits.cpp",
    "unary-ops.cpp",
    "vec.cpp",
];

include!("src/instructions.rs");

macro_rules! list {
    ($($name:tt)*) => { [$($name),*] };
}

fn main() {
    println!("cargo:rustc-check-cfg=cfg(avx512_kernels)");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=native/avx512.c");
    println!("cargo:rerun-if-changed=src/instructions.rs");
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|found| found == value);
    // What joins the objects are tools of GNU's linker.
    let is_made = is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is_made {
        let source = library_source().join("ggml");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names a directory"));
        join(&out, &compile(&source));
        println!("cargo:rustc-link-search=native={}", out.display());
        println!("cargo:rustc-link-lib=static={ENTRY}");
        println!("cargo:rustc-cfg=avx512_kernels");
    }
}

/// Where the sources lie that the library was built of: its CMake cache knows.
fn library_source() -> PathBuf {
    let packages = env::var("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 built ggml");
    let cache = Path::new(&packages).join("../../build/CMakeCache.txt");
    let cache = fs::read_to_string(&cache).expect("CMake keeps its cache");
    let home = cache.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    home.expect("CMake knows the directory of the sources").into()
}

fn compile(ggml: &Path) -> Vec<PathBuf> {
    let cpu = ggml.join("src/ggml-cpu");
    let mut both = cc::Build::new();
    both.include(ggml.join("src"))
        .include(&cpu)
        .include(ggml.join("include"))
        .define("GGML_SCHED_MAX_COPIES", "4")
        .define("GGML_USE_CPU_REPACK", None)
        .define("GGML_USE_LLAMAFILE", None)
        .define("GGML_AVX512", None)
        .define("_GNU_SOURCE", None)
        .define("_XOPEN_SOURCE", "600")
        .define("NDEBUG", None)
        .opt_level(3)
        .debug(false)
        .pic(true)
        .warnings(false)
        .flag("-w")
        .flag("-fno-lto");
    for instruction in instructions!(list) {
        both.flag(format!("-m{instruction}"));
    }
    let (cpp, c): (Vec<&str>, Vec<&str>) =
        SOURCES.into_iter().partition(|name| name.ends_with(".cpp"));
    let mut plain = both.clone();
    plain
        .std("gnu11")
        // Where a matrix is multiplied, ours is asked before llamafile's.
        .define("llamafile_sgemm", "arknet_sgemm")
        .files(c.iter().map(|name| cpu.join(name)))
        .file("native/avx512.c");
    both.cpp(true)
        .std("gnu++17")
        .flag("-fno-gnu-unique")
        .cpp_link_stdlib(None)
        .files(cpp.iter().map(|name| cpu.join(name)));
    let mut objects = plain.compile_intermediates();
    objects.extend(both.compile_intermediates());
    objects
}

/// Makes a library of one object whose only global symbol is [`ENTRY`].
fn join(out: &Path, objects: &[PathBuf]) {
    let object = out.join("kernels.o");
    let archive = out.join(format!("lib{ENTRY}.a"));
    // Groups of sections are what a linker keeps one of, whichever it sees first. Only GNU's linker
    // dissolves them, and another may be called `ld`.
    let is_joined = ["ld.bfd", "ld"].into_iter().any(|ld| {
        let mut ld = Command::new(ld);
        ld.args(["-r", "--force-group-allocation", "-o"]).arg(&object).args(objects);
        ld.status().is_ok_and(|status| status.success())
    });
    assert!(is_joined, "GNU's ld, of the package binutils, cannot join the kernels");
    let objcopy =
        Command::new("objcopy").arg(format!("--keep-global-symbol={ENTRY}")).arg(&object).status();
    assert!(objcopy.is_ok_and(|status| status.success()), "objcopy cannot hide symbols");
    let _ = fs::remove_file(&archive);
    let ar = Command::new("ar").arg("crs").arg(&archive).arg(&object).status();
    assert!(ar.is_ok_and(|status| status.success()), "ar cannot make {}", archive.display());
}
