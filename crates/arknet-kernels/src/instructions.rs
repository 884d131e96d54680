// What the processor must know for the kernels of `Kernels::Avx512`: the compiler is told the same
// names that the processor is asked for. Part of the crate and of build.rs.
macro_rules! instructions {
    ($of:ident) => {
        $of! {
            "sse4.2" "f16c" "fma" "bmi2" "avx" "avx2" "avx512f" "avx512cd" "avx512vl" "avx512dq"
            "avx512bw" "avx512vnni"
        }
    };
}
