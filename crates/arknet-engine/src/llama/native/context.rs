//! The memory of running sequences, and the computing.

use std::{ffi::c_void, ptr::NonNull, slice, sync::Arc};

use arknet_kernels::ThreadPool;
use llama_cpp_sys_2 as sys;

use super::{DIRECTIONS, Model, Token};

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CacheType {
    F16,
    /// Smaller, and the way to bits that do not depend on how the work is divided.
    Q8,
}

/// What a context is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Tokens of one sequence.
    pub context_tokens: u32,
    pub sequences: u16,
    /// Tokens of one step.
    pub step_tokens: u32,
    /// Rows of one step that are asked for, at most.
    pub rows: u32,
    pub threads: u16,
    pub cache: CacheType,
    /// Whether vectors come out in place of logits, for as long as the context lives.
    pub vectors: bool,
    /// Whether the model's own pooling runs; otherwise a vector comes for every token.
    pub pooled: bool,
}

/// Why a step was not computed. The sequences are as they were before it, up to whole micro-batches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DecodeError {
    /// The caller wanted it so.
    Aborted,
    /// There was no room although all was planned, or the library failed.
    Failed(i32),
}

/// Some tokens of a picture.
pub(crate) struct PicturePart<'a> {
    /// The vectors of its tokens, one after the other.
    pub vectors: &'a [f32],
    /// A position for each, or one in each of [`DIRECTIONS`].
    pub positions: &'a [i32],
    pub sequence: u16,
    /// Whether each of them sees all others.
    pub is_whole: bool,
}

/// A native context with its batch and threads.
pub(crate) struct Context {
    raw: NonNull<sys::llama_context>,
    memory: Option<NonNull<sys::llama_memory_i>>,
    pool: Option<ThreadPool>,
    batch: sys::llama_batch,
    settings: Settings,
    model: Arc<Model>,
}

// SAFETY: nothing in a context is bound to a thread; it moves to the engine's thread once and is
// used there alone.
unsafe impl Send for Context {}

impl Context {
    /// Allocates. None when there is no memory, or the model cannot do what is asked.
    pub(crate) fn new(model: Arc<Model>, settings: Settings) -> Option<Self> {
        let threads = i32::from(settings.threads);
        // SAFETY: parameters are the library's own with plain numbers changed; what it gives is
        // held against null. It catches what it throws.
        unsafe {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = settings.context_tokens.checked_mul(u32::from(settings.sequences))?;
            params.n_batch = settings.step_tokens;
            params.n_ubatch = settings.step_tokens;
            params.n_seq_max = u32::from(settings.sequences);
            params.n_outputs_max = settings.rows.max(u32::from(settings.sequences));
            params.n_threads = threads;
            params.n_threads_batch = threads;
            params.flash_attn_type = match settings.cache {
                CacheType::F16 => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
                CacheType::Q8 => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            };
            let cache = match settings.cache {
                CacheType::F16 => sys::GGML_TYPE_F16,
                CacheType::Q8 => sys::GGML_TYPE_Q8_0,
            };
            params.type_k = cache;
            params.type_v = cache;
            // What left the window of attention stays, so that every sequence can be cut anywhere. The
            // plan counts it.
            params.swa_full = true;
            // One cache for all sequences would make each of them look through those of all others.
            params.kv_unified = false;
            params.no_perf = true;
            params.embeddings = settings.vectors;
            if settings.vectors && !settings.pooled {
                params.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
            }
            let raw = NonNull::new(sys::llama_init_from_model(model.raw(), params))?;
            let batch = sys::llama_batch_init(i32::try_from(settings.step_tokens).ok()?, 0, 1);
            let mut context = Self {
                memory: NonNull::new(sys::llama_get_memory(raw.as_ptr())),
                raw,
                pool: None,
                batch,
                settings,
                model,
            };
            context.attach_threads(threads);
            Some(context)
        }
    }

    /// Keeps the threads between steps: starting them costs more than a step of a small model.
    fn attach_threads(&mut self, threads: i32) {
        if threads < 2 {
            return;
        }
        // SAFETY: parameters are initialised by the library; the pool is freed after the context.
        unsafe {
            let mut params = sys::ggml_threadpool_params_default(threads);
            // Threads sleep between steps: what runs then (sampling, sending) needs the processors.
            params.poll = 0;
            self.pool = ThreadPool::new(params);
            if let Some(pool) = &self.pool {
                let none = std::ptr::null_mut();
                sys::llama_attach_threadpool(self.raw.as_ptr(), pool.raw(), none);
            }
        }
    }

    /// Tokens in the batch.
    pub(crate) fn batch_tokens(&self) -> usize {
        usize::try_from(self.batch.n_tokens).unwrap_or(0)
    }

    /// Empties the batch.
    pub(crate) fn clear_batch(&mut self) {
        self.batch.n_tokens = 0;
    }

    /// Adds a token to the batch. `is_asked` wants its row of results.
    pub(crate) fn push(&mut self, token: Token, position: i32, sequence: u16, is_asked: bool) {
        let at = self.batch_tokens();
        assert!(at < self.settings.step_tokens as usize, "shares add up to the size of the batch");
        assert!(sequence < self.settings.sequences && self.model.has(token) && position >= 0);
        // SAFETY: the batch was made for `step_tokens` tokens of one sequence each, and `at` is
        // below that.
        unsafe {
            self.batch.token.add(at).write(token);
            self.batch.pos.add(at).write(position);
            self.batch.n_seq_id.add(at).write(1);
            (*self.batch.seq_id.add(at)).write(i32::from(sequence));
            self.batch.logits.add(at).write(i8::from(is_asked));
        }
        self.batch.n_tokens += 1;
    }

    /// Computes the batch. `stop` is asked often while it runs, and ends it when it says so.
    pub(crate) fn decode(&mut self, stop: &dyn Fn() -> bool) -> Result<(), DecodeError> {
        if self.batch.n_tokens == 0 {
            return Ok(());
        }
        self.decode_batch(self.batch, stop)
    }

    /// Computes tokens of a picture, none of which is asked for. The batch stays as it is.
    pub(crate) fn decode_picture(
        &mut self,
        part: PicturePart<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        let PicturePart { vectors, positions, sequence, is_whole } = part;
        assert!(sequence < self.settings.sequences);
        let width = self.model.n_embd_inp().max(1);
        let count = vectors.len() / width;
        let fits = count <= self.settings.step_tokens as usize && count * width == vectors.len();
        let is_placed = positions.len() == count || positions.len() == count * DIRECTIONS;
        assert!(count > 0 && fits && is_placed, "a vector and its positions for each token");
        let mut sequence = i32::from(sequence);
        let mut sequences = vec![&raw mut sequence; count];
        let (mut one_each, mut not_asked) = (vec![1_i32; count], vec![0_i8; count]);
        let batch = sys::llama_batch {
            n_tokens: i32::try_from(count).expect("a step has 512 tokens"),
            token: std::ptr::null_mut(),
            // The library reads these and changes none.
            embd: vectors.as_ptr().cast_mut(),
            pos: positions.as_ptr().cast_mut(),
            n_seq_id: one_each.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: not_asked.as_mut_ptr(),
        };
        if !is_whole {
            return self.decode_batch(batch, stop);
        }
        // SAFETY: sets a flag, and sets it back.
        unsafe { sys::llama_set_causal_attn(self.raw.as_ptr(), false) };
        let result = self.decode_batch(batch, stop);
        // SAFETY: as above.
        unsafe { sys::llama_set_causal_attn(self.raw.as_ptr(), true) };
        result
    }

    /// The arrays of the batch must have as many elements as it says, of things that exist.
    fn decode_batch(
        &mut self,
        batch: sys::llama_batch,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        let mut stop: &dyn Fn() -> bool = stop;
        // SAFETY: the callback's data is a local that outlives the call, and the callback is taken
        // out before it ends. The batch holds `n_tokens` tokens of the vocabulary or their vectors.
        let code = unsafe {
            let raw = self.raw.as_ptr();
            sys::llama_set_abort_callback(raw, Some(ask), (&raw mut stop).cast::<c_void>());
            let code = sys::llama_decode(raw, batch);
            sys::llama_synchronize(raw);
            sys::llama_set_abort_callback(raw, None, std::ptr::null_mut());
            code
        };
        match code {
            0 => Ok(()),
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Failed(code)),
        }
    }

    /// The logits of these rows of the batch, which were asked for, in ascending order. They may be
    /// changed; the next step writes them anew. None when one of them is not there.
    pub(crate) fn logits(&mut self, rows: &[usize]) -> Option<Vec<&mut [f32]>> {
        assert!(rows.is_sorted_by(|a, b| a < b), "no row is given out twice");
        let length = self.model.n_vocab() as usize;
        let row = |row: &usize| {
            let row = i32::try_from(*row).ok().filter(|row| *row < self.batch.n_tokens)?;
            // SAFETY: the library gives null for rows it has not; otherwise as many numbers as the
            // vocabulary has, which live until the next step, which needs `&mut self`. Each row
            // that was asked for has numbers of its own.
            unsafe {
                let logits = NonNull::new(sys::llama_get_logits_ith(self.raw.as_ptr(), row))?;
                Some(slice::from_raw_parts_mut(logits.as_ptr(), length))
            }
        };
        rows.iter().map(row).collect()
    }

    /// The vector of the batch's row `row`.
    pub(crate) fn vector(&mut self, row: usize) -> Option<&[f32]> {
        let row = i32::try_from(row).ok().filter(|row| *row < self.batch.n_tokens)?;
        // SAFETY: as above, with the model's vector size.
        unsafe {
            let vector = NonNull::new(sys::llama_get_embeddings_ith(self.raw.as_ptr(), row))?;
            Some(slice::from_raw_parts(vector.as_ptr(), self.model.n_embd_out()))
        }
    }

    /// The pooled result of a sequence of the last step: its score, of a ranking model.
    pub(crate) fn score(&mut self, sequence: u16) -> Option<f32> {
        if self.model.n_cls_out() == 0 {
            return None;
        }
        // SAFETY: the library gives null where there is none, otherwise `n_cls_out` numbers.
        unsafe {
            let raw = self.raw.as_ptr();
            let scores = NonNull::new(sys::llama_get_embeddings_seq(raw, i32::from(sequence)))?;
            Some(*scores.as_ptr())
        }
    }

    /// Whether the next steps give vectors (and logits) for every token.
    pub(crate) fn set_vectors(&mut self, on: bool) {
        // SAFETY: sets a flag.
        unsafe { sys::llama_set_embeddings(self.raw.as_ptr(), on || self.settings.vectors) };
    }

    /// Forgets what a sequence remembers from `position` on. False when it cannot be cut there.
    pub(crate) fn cut(&mut self, sequence: u16, position: u32) -> bool {
        assert!(sequence < self.settings.sequences);
        let Some(memory) = self.memory else {
            return true;
        };
        let from = i32::try_from(position).unwrap_or(i32::MAX);
        // SAFETY: the memory belongs to this context and the sequence is one of its.
        unsafe { sys::llama_memory_seq_rm(memory.as_ptr(), i32::from(sequence), from, -1) }
    }

    /// What a sequence remembers, as bytes. None when it could not be copied.
    pub(crate) fn save(&mut self, sequence: u16) -> Option<Vec<u8>> {
        assert!(sequence < self.settings.sequences);
        let (raw, number) = (self.raw.as_ptr(), i32::from(sequence));
        // SAFETY: the sequence is one of this context's; the library writes at most as many bytes
        // as it is given room for.
        unsafe {
            let size = sys::llama_state_seq_get_size(raw, number);
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(size).ok()?;
            let written = sys::llama_state_seq_get_data(raw, bytes.as_mut_ptr(), size, number);
            if written != size || size == 0 {
                return None;
            }
            bytes.set_len(written);
            Some(bytes)
        }
    }

    /// Bytes that [`Self::save`] would take.
    pub(crate) fn saved_bytes(&mut self, sequence: u16) -> usize {
        assert!(sequence < self.settings.sequences);
        // SAFETY: as above.
        unsafe { sys::llama_state_seq_get_size(self.raw.as_ptr(), i32::from(sequence)) }
    }

    /// Puts back what [`Self::save`] gave, from this context, into any sequence. On failure the
    /// sequence is empty.
    pub(crate) fn restore(&mut self, sequence: u16, bytes: &[u8]) -> bool {
        self.cut(sequence, 0);
        // SAFETY: bytes that this context wrote itself are of its own shape; the library reads no
        // further than their length.
        let read = unsafe {
            let raw = self.raw.as_ptr();
            sys::llama_state_seq_set_data(raw, bytes.as_ptr(), bytes.len(), i32::from(sequence))
        };
        let is_whole = read == bytes.len();
        if !is_whole {
            self.cut(sequence, 0);
        }
        is_whole
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed once, and before the threads, which are a field.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.raw.as_ptr());
        }
    }
}

/// Asks the closure behind `data`.
unsafe extern "C" fn ask(data: *mut c_void) -> bool {
    // SAFETY: `decode` passes a reference to a closure that lives during the call.
    let stop = unsafe { &*data.cast::<&dyn Fn() -> bool>() };
    stop()
}
