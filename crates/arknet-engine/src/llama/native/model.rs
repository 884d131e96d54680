//! Weights and vocabulary: read by many, changed by nobody.

use std::{
    ffi::{CStr, CString, c_char},
    path::Path,
    ptr::NonNull,
};

use arknet_kernels::Kernels;
use llama_cpp_sys_2 as sys;

/// A token's number in the vocabulary of its model.
pub(crate) type Token = i32;

/// The longest chat template that is read.
const TEMPLATE_BYTES_MAX: usize = 1 << 20;

/// A model file in memory.
pub(crate) struct Model {
    raw: NonNull<sys::llama_model>,
    vocab: NonNull<sys::llama_vocab>,
}

// SAFETY: after loading, the library only reads models and vocabularies; every function used here
// takes them const.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Loads a file that was checked before. `gpu_layers` of it go to the graphics card, all when
    /// none. None when the library refuses; its reasons are in the log.
    pub(crate) fn load(path: &Path, gpu_layers: Option<u32>) -> Option<Self> {
        super::start(Kernels::best());
        Self::load_with(path, |params| {
            params.n_gpu_layers = gpu_layers.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
        })
    }

    /// Loads the vocabulary alone.
    #[cfg(test)]
    pub(crate) fn load_vocabulary(path: &Path) -> Option<Self> {
        super::start(Kernels::best());
        Self::load_with(path, |params| params.vocab_only = true)
    }

    fn load_with(path: &Path, change: impl Fn(&mut sys::llama_model_params)) -> Option<Self> {
        let path = CString::new(path.to_str()?).ok()?;
        // SAFETY: the path is a text that ends in zero, the parameters are the library's own with
        // plain numbers changed. The library catches what it throws.
        unsafe {
            let mut params = sys::llama_model_default_params();
            change(&mut params);
            let raw = NonNull::new(sys::llama_model_load_from_file(path.as_ptr(), params))?;
            let vocab = NonNull::new(sys::llama_model_get_vocab(raw.as_ptr()).cast_mut());
            let Some(vocab) = vocab else {
                sys::llama_model_free(raw.as_ptr());
                return None;
            };
            Some(Self { raw, vocab })
        }
    }

    pub(super) fn raw(&self) -> *mut sys::llama_model {
        self.raw.as_ptr()
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        self.vocab.as_ptr()
    }

    /// Tokens of the vocabulary.
    pub(crate) fn n_vocab(&self) -> u32 {
        // SAFETY: the vocabulary lives as long as the model.
        u32::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocab()) }).unwrap_or(0)
    }

    /// Whether this is one of the model's tokens. All functions below that take a token give a
    /// neutral answer for others, which would end the process in native code.
    pub(crate) fn has(&self, token: Token) -> bool {
        u32::try_from(token).is_ok_and(|token| token < self.n_vocab())
    }

    pub(crate) fn is_eog(&self, token: Token) -> bool {
        // SAFETY: the token is one of the vocabulary's.
        self.has(token) && unsafe { sys::llama_vocab_is_eog(self.vocab(), token) }
    }

    pub(crate) fn is_control(&self, token: Token) -> bool {
        // SAFETY: as above.
        self.has(token) && unsafe { sys::llama_vocab_is_control(self.vocab(), token) }
    }

    /// A token as the vocabulary writes it; empty when that is no text.
    pub(crate) fn text(&self, token: Token) -> String {
        if !self.has(token) {
            return String::new();
        }
        // SAFETY: the token is one of the vocabulary's; the text ends in zero and lives as long.
        unsafe {
            let text = sys::llama_vocab_get_text(self.vocab(), token);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_str().map_or_else(|_| String::new(), str::to_owned)
        }
    }

    /// The bytes a token stands for; with `special`, those of control tokens too.
    pub(crate) fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        if !self.has(token) {
            return Vec::new();
        }
        let mut bytes = vec![0_u8; 32];
        loop {
            let room = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            // SAFETY: writes at most `room` bytes, which there are.
            let written = unsafe {
                let to = bytes.as_mut_ptr().cast::<c_char>();
                sys::llama_token_to_piece(self.vocab(), token, to, room, 0, special)
            };
            match usize::try_from(written) {
                Ok(written) => {
                    bytes.truncate(written);
                    return bytes;
                }
                // The negative of what it takes.
                Err(_) => match usize::try_from(written.unsigned_abs()) {
                    Ok(needed) if needed > bytes.len() => bytes.resize(needed, 0),
                    _ => return Vec::new(),
                },
            }
        }
    }

    /// The token that begins a text, where there is one.
    pub(crate) fn bos(&self) -> Option<Token> {
        // SAFETY: the vocabulary lives as long as the model.
        Some(unsafe { sys::llama_vocab_bos(self.vocab()) }).filter(|token| self.has(*token))
    }

    /// The token that ends a text.
    pub(crate) fn eos(&self) -> Option<Token> {
        // SAFETY: as above.
        Some(unsafe { sys::llama_vocab_eos(self.vocab()) }).filter(|token| self.has(*token))
    }

    /// The token that stands between two texts.
    pub(crate) fn sep(&self) -> Option<Token> {
        // SAFETY: as above.
        Some(unsafe { sys::llama_vocab_sep(self.vocab()) }).filter(|token| self.has(*token))
    }

    pub(crate) fn adds_bos(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab()) }
    }

    pub(crate) fn adds_eos(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_vocab_get_add_eos(self.vocab()) }
    }

    pub(crate) fn adds_sep(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_vocab_get_add_sep(self.vocab()) }
    }

    /// The tokens of a text, without any at its beginning and end. `recognise` makes control tokens
    /// of what is written like them.
    pub(crate) fn tokenize(&self, text: &str, recognise: bool) -> Vec<Token> {
        if text.is_empty() { Vec::new() } else { self.tokens(text, false, recognise) }
    }

    /// The tokens of a whole text, with those that begin and end texts of this model.
    pub(crate) fn tokenize_whole(&self, text: &str) -> Vec<Token> {
        self.tokens(text, true, false)
    }

    fn tokens(&self, text: &str, is_whole: bool, recognise: bool) -> Vec<Token> {
        let Ok(length) = i32::try_from(text.len()) else {
            return Vec::new();
        };
        // Most texts have a token for every two bytes at least.
        let mut tokens = vec![0; text.len() / 2 + 8];
        loop {
            let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            // SAFETY: reads `length` bytes of the text and writes at most `room` tokens.
            let count = unsafe {
                let from = text.as_ptr().cast::<c_char>();
                let to = tokens.as_mut_ptr();
                sys::llama_tokenize(self.vocab(), from, length, to, room, is_whole, recognise)
            };
            match usize::try_from(count) {
                Ok(count) => {
                    tokens.truncate(count);
                    return tokens;
                }
                Err(_) => match usize::try_from(count.unsigned_abs()) {
                    // The smallest number stands for more than can be counted.
                    Ok(needed) if needed > tokens.len() && count != i32::MIN => {
                        tokens.resize(needed, 0);
                    }
                    _ => return Vec::new(),
                },
            }
        }
    }

    /// The template for conversations, from the file.
    pub(crate) fn chat_template(&self) -> Option<String> {
        // SAFETY: a null name asks for the default; the text lives as long as the model.
        unsafe {
            let text = sys::llama_model_chat_template(self.raw(), std::ptr::null());
            if text.is_null() {
                return None;
            }
            let text = CStr::from_ptr(text).to_str().ok()?;
            (text.len() <= TEMPLATE_BYTES_MAX).then(|| text.to_owned())
        }
    }

    /// Numbers in one vector that comes out.
    pub(crate) fn n_embd_out(&self) -> usize {
        // SAFETY: the model lives.
        usize::try_from(unsafe { sys::llama_model_n_embd_out(self.raw()) }).unwrap_or(0)
    }

    /// Numbers in one vector that takes a token's place.
    pub(crate) fn n_embd_inp(&self) -> usize {
        // SAFETY: as above.
        usize::try_from(unsafe { sys::llama_model_n_embd_inp(self.raw()) }).unwrap_or(0)
    }

    /// Numbers of a classification, of which a ranking model has one.
    pub(crate) fn n_cls_out(&self) -> usize {
        // SAFETY: as above.
        unsafe { sys::llama_model_n_cls_out(self.raw()) as usize }
    }

    /// Whether what it remembers of a text can be cut off anywhere and gone on from. Not so for
    /// recurrent models.
    pub(crate) fn can_be_cut(&self) -> bool {
        // SAFETY: as above.
        unsafe {
            !sys::llama_model_is_recurrent(self.raw())
                && !sys::llama_model_is_hybrid(self.raw())
                && !sys::llama_model_is_diffusion(self.raw())
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: loaded by the library and freed once. Contexts hold an `Arc` of this.
        unsafe { sys::llama_model_free(self.raw()) };
    }
}
