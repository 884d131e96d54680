// Where llama.cpp's kernels for AVX-512 ask ours: see build.rs for how both are compiled.

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml-cpu-impl.h"

// build.rs renames this function in the files that call it, not where it is written.
#undef llamafile_sgemm
#include "llamafile/sgemm.h"

// Rows of a matrix in Q8_0 times columns in Q8_0 (src/q8_0.rs), and which rows come next. Strides are in blocks and floats.
typedef void (*q8_0_rows)(const void * rows, int64_t row_stride, int64_t row_count, const void * next,
                          const void * columns, int64_t column_stride, int64_t column_count, int64_t blocks, float * out,
                          int64_t out_stride);

static q8_0_rows multiply_q8_0;

// Gives these kernels as a part of ggml, to be registered in place of those it has.
ggml_backend_reg_t arknet_avx512_kernels(q8_0_rows rows) {
    multiply_q8_0 = rows;
    return ggml_backend_cpu_reg();
}

// Rows that a thread takes at once: many where a matrix has many, so that the columns are prepared
// seldom, and never more than leaves each thread some.
static int64_t rows_at_once(int64_t rows, int threads) {
    for (int64_t n = 64; n > 16; n /= 2) {
        if (rows / n >= 4 * (int64_t) threads) {
            return n;
        }
    }
    return 16;
}

bool arknet_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a,
                  int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type,
                  int c_type) {
    if (a_type != GGML_TYPE_Q8_0 || b_type != GGML_TYPE_Q8_0 || c_type != GGML_TYPE_F32) {
        return llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
    }
    const size_t block = ggml_type_size(GGML_TYPE_Q8_0);
    const int64_t step = rows_at_once(m, params->nth);
    // A matrix of several planes comes here once for each, and all planes share one counter. The
    // first finds it set and everybody waiting for nobody.
    if (b != params->wdata) {
        ggml_barrier(params->threadpool);
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);
    }
    int64_t chunk = params->ith;
    while (chunk * step < m) {
        const int64_t first = chunk * step;
        const int64_t count = m - first < step ? m - first : step;
        const int64_t next = ggml_threadpool_chunk_add(params->threadpool, 1);
        const int64_t ahead = next * step < m ? next * step : 0;
        multiply_q8_0((const char *) a + first * lda * block, lda, count, (const char *) a + ahead * lda * block, b,
                      ldb, n, k, (float *) c + first, ldc);
        chunk = next;
    }
    return true;
}
