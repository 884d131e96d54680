//! Pictures: how many tokens they are for a model, and the vectors that stand for these.

use std::{
    ffi::{CString, c_char},
    path::Path,
    ptr::NonNull,
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use llama_cpp_sys_2 as sys;

use super::{Model, Token};

/// Positions of one token of a picture, in models that count in several directions at once.
pub(crate) const DIRECTIONS: usize = 4;

/// The part of a model that looks at pictures.
pub(crate) struct Projector {
    raw: NonNull<sys::mtmd_context>,
    /// Whether a token of a picture has a position in each direction.
    has_directions: bool,
    /// The library computes one picture at a time, into one place.
    computing: Mutex<()>,
    model: Arc<Model>,
}

// SAFETY: making tokens only reads, which the library allows from several threads; computing is
// behind a lock.
unsafe impl Send for Projector {}
// SAFETY: as above.
unsafe impl Sync for Projector {}

/// A part of what a model reads.
pub(crate) enum Input<'a> {
    /// Text; whether control tokens are made of what is written like them.
    Text(&'a str, bool),
    Picture(&'a Pixels),
}

/// What becomes of it.
pub(crate) enum Piece {
    Tokens(Vec<Token>),
    Picture(Chunk),
}

/// A picture for the library: its size and, unless it is only measured, its colours.
pub(crate) struct Pixels {
    raw: NonNull<sys::mtmd_bitmap>,
}

impl Pixels {
    /// `rgb` has three bytes for each of the pixels, row by row.
    pub(crate) fn new(width: u32, height: u32, rgb: &[u8]) -> Option<Self> {
        let bytes = u64::from(width).checked_mul(u64::from(height))?.checked_mul(3)?;
        if bytes == 0 || u64::try_from(rgb.len()) != Ok(bytes) {
            return None;
        }
        // SAFETY: the library copies width * height * 3 bytes, which there are.
        let raw = unsafe { sys::mtmd_bitmap_init(width, height, rgb.as_ptr()) };
        Some(Self { raw: NonNull::new(raw)? })
    }

    /// A picture of which only the size is known: enough to count its tokens.
    pub(crate) fn sized(width: u32, height: u32) -> Option<Self> {
        if width == 0 || height == 0 {
            return None;
        }
        // SAFETY: without bytes the library makes a placeholder.
        let raw = unsafe { sys::mtmd_bitmap_init(width, height, std::ptr::null()) };
        Some(Self { raw: NonNull::new(raw)? })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        // SAFETY: the bitmap lives.
        unsafe {
            let (width, height) = (
                sys::mtmd_bitmap_get_nx(self.raw.as_ptr()),
                sys::mtmd_bitmap_get_ny(self.raw.as_ptr()),
            );
            u64::from(width) * u64::from(height)
        }
    }
}

impl Drop for Pixels {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once.
        unsafe { sys::mtmd_bitmap_free(self.raw.as_ptr()) };
    }
}

/// A picture as it will be computed.
pub(crate) struct Chunk {
    raw: NonNull<sys::mtmd_input_chunk>,
}

// SAFETY: after it was made, the library only reads it.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Tokens it takes in the context.
    pub(crate) fn tokens(&self) -> usize {
        // SAFETY: the chunk lives.
        unsafe { sys::mtmd_input_chunk_get_n_tokens(self.raw.as_ptr()) }
    }

    /// By how much the position of what follows is higher than that of its first token.
    pub(crate) fn positions(&self) -> usize {
        // SAFETY: as above.
        usize::try_from(unsafe { sys::mtmd_input_chunk_get_n_pos(self.raw.as_ptr()) }).unwrap_or(0)
    }

    /// The position of its `token`th token in each direction, the first being at `first`.
    fn directions(&self, first: i32, token: usize) -> Option<[i32; DIRECTIONS]> {
        // SAFETY: as above; a chunk of a picture has tokens of one.
        let place = unsafe {
            let tokens = sys::mtmd_input_chunk_get_tokens_image(self.raw.as_ptr());
            if tokens.is_null() {
                return None;
            }
            sys::mtmd_image_tokens_get_decoder_pos(tokens, first, token)
        };
        let number = |n: u32| i32::try_from(n).ok();
        Some([number(place.t)?, number(place.y)?, number(place.x)?, number(place.z)?])
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: a copy that the library made for us, freed once.
        unsafe { sys::mtmd_input_chunk_free(self.raw.as_ptr()) };
    }
}

impl Projector {
    /// Loads a file that was checked before. Pictures become `tokens_max` tokens at most where the
    /// model leaves it open. None when the library refuses; its reasons are in the log.
    pub(crate) fn load(
        path: &Path,
        model: Arc<Model>,
        threads: u16,
        tokens_max: u32,
    ) -> Option<Self> {
        let path = CString::new(path.to_str()?).ok()?;
        // SAFETY: the path ends in zero, parameters are the library's own with plain values
        // changed, the model outlives the context. The library catches what it throws.
        unsafe {
            let mut params = sys::mtmd_context_params_default();
            params.use_gpu = cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan"));
            params.print_timings = false;
            params.n_threads = i32::from(threads);
            // It would compute a whole picture, which takes seconds.
            params.warmup = false;
            params.image_max_tokens = i32::try_from(tokens_max).unwrap_or(i32::MAX);
            let raw = NonNull::new(sys::mtmd_init_from_file(path.as_ptr(), model.raw(), params))?;
            let sees = sys::mtmd_support_vision(raw.as_ptr());
            let has_directions = sys::mtmd_decode_use_mrope(raw.as_ptr());
            let loaded = Self { raw, has_directions, computing: Mutex::new(()), model };
            sees.then_some(loaded)
        }
    }

    /// What a model reads, in the order it is given. None when the library cannot take a picture.
    pub(crate) fn tokenize(&self, inputs: &[Input<'_>]) -> Option<Vec<Piece>> {
        let text = |input: &Input<'_>| match input {
            Input::Text(text, recognise) => sys::mtmd_input_text {
                text: text.as_ptr().cast::<c_char>(),
                text_len: text.len(),
                add_special: false,
                parse_special: *recognise,
            },
            Input::Picture(_) => sys::mtmd_input_text {
                text: std::ptr::null(),
                text_len: 0,
                add_special: false,
                parse_special: false,
            },
        };
        let texts: Vec<_> = inputs.iter().map(text).collect();
        let parts: Vec<_> = inputs
            .iter()
            .zip(&texts)
            .map(|(input, text)| match input {
                Input::Text(..) => sys::mtmd_input_part { text, bitmap: std::ptr::null() },
                Input::Picture(pixels) => {
                    sys::mtmd_input_part { text: std::ptr::null(), bitmap: pixels.raw.as_ptr() }
                }
            })
            .collect();
        let mut pointers: Vec<_> = parts.iter().map(std::ptr::from_ref).collect();
        // SAFETY: the pointers lead to parts, texts and bitmaps that live through the call; what
        // comes out is freed when it was copied.
        unsafe {
            let chunks = Chunks(NonNull::new(sys::mtmd_input_chunks_init())?);
            let result = sys::mtmd_tokenize_from_parts(
                self.raw.as_ptr(),
                chunks.0.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                false,
            );
            if result == 0 { chunks.pieces() } else { None }
        }
    }

    /// The vectors of a picture's tokens, one after the other. None when it could not be computed.
    pub(crate) fn compute(&self, chunk: &Chunk) -> Option<Vec<f32>> {
        let _alone = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = chunk.tokens().checked_mul(self.model.n_embd_inp())?;
        // SAFETY: one thread at a time; the library gives as many numbers as a token's vector has,
        // for each token, and they stay until the next picture.
        unsafe {
            if sys::mtmd_encode_chunk(self.raw.as_ptr(), chunk.raw.as_ptr()) != 0 {
                return None;
            }
            let vectors = NonNull::new(sys::mtmd_get_output_embd(self.raw.as_ptr()))?;
            Some(slice::from_raw_parts(vectors.as_ptr(), numbers).to_vec())
        }
    }

    /// Whether the tokens of a picture see those after them too, so that all are read in one step.
    pub(crate) fn is_read_whole(&self, chunk: &Chunk) -> bool {
        // SAFETY: both live.
        unsafe { sys::mtmd_decode_use_non_causal(self.raw.as_ptr(), chunk.raw.as_ptr()) }
    }

    /// Positions of the tokens in `range` of a picture whose first token is at `first`: one for each,
    /// or those of all tokens in one direction after those in another.
    pub(crate) fn positions(
        &self,
        chunk: &Chunk,
        first: i32,
        range: std::ops::Range<usize>,
    ) -> Option<Vec<i32>> {
        if !self.has_directions {
            let position = |token: usize| first.checked_add(i32::try_from(token).ok()?);
            return range.map(position).collect();
        }
        let all: Option<Vec<_>> = range.map(|token| chunk.directions(first, token)).collect();
        let all = all?;
        Some((0..DIRECTIONS).flat_map(|n| all.iter().map(move |place| place[n])).collect())
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once, before the model it belongs to.
        unsafe { sys::mtmd_free(self.raw.as_ptr()) };
    }
}

/// What the library made of an input.
struct Chunks(NonNull<sys::mtmd_input_chunks>);

impl Chunks {
    /// Copies them. None when one is neither text nor a picture.
    fn pieces(&self) -> Option<Vec<Piece>> {
        // SAFETY: the list lives, and indices are below its size; tokens are copied.
        unsafe {
            let count = sys::mtmd_input_chunks_size(self.0.as_ptr());
            let piece = |n| {
                let chunk =
                    NonNull::new(sys::mtmd_input_chunks_get(self.0.as_ptr(), n).cast_mut())?;
                match sys::mtmd_input_chunk_get_type(chunk.as_ptr()) {
                    sys::MTMD_INPUT_CHUNK_TYPE_TEXT => {
                        let mut length = 0;
                        let tokens =
                            sys::mtmd_input_chunk_get_tokens_text(chunk.as_ptr(), &raw mut length);
                        let tokens = NonNull::new(tokens.cast_mut())?;
                        let tokens = slice::from_raw_parts(tokens.as_ptr(), length);
                        Some(Piece::Tokens(tokens.to_vec()))
                    }
                    sys::MTMD_INPUT_CHUNK_TYPE_IMAGE => {
                        let copy = sys::mtmd_input_chunk_copy(chunk.as_ptr());
                        Some(Piece::Picture(Chunk { raw: NonNull::new(copy)? }))
                    }
                    _ => None,
                }
            };
            (0..count).map(piece).collect()
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once.
        unsafe { sys::mtmd_input_chunks_free(self.0.as_ptr()) };
    }
}
