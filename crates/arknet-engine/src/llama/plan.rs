//! How long the context is and how many requests run at once, from memory.

use std::thread;

use arknet_types::Profile;

use super::{
    LoadError,
    native::SEQUENCES_MAX,
    picture::FILES_BYTES_MAX,
    schedule::{STEP_TOKENS_MAX, VECTOR_STEP_TOKENS_MAX},
};
use crate::gguf::{GgufInfo, ProjectorInfo};

/// Requests one model answers at once when nobody asks for another number, at most.
const SLOTS_DEFAULT_MAX: u64 = 16;
/// The context length taken when nobody asks for another; most requests are far shorter, and memory
/// is better spent on answering several at once.
const CONTEXT_TOKENS_DEFAULT: u32 = 8192;
/// The shortest context worth serving.
const CONTEXT_TOKENS_MIN: u32 = 512;
/// llama.cpp rounds the context of each sequence up to a multiple of this.
const CONTEXT_TOKENS_STEP: u32 = 256;
/// Weights that keep one thread busy. Threads meet after every operation and wait for each other
/// without sleeping; with less than this to do between two meetings they cost more than they bring,
/// and on a machine with other work to do, hundreds of times more.
const WEIGHTS_BYTES_PER_THREAD: u64 = 32 << 20;
/// Threads that compute, at most.
const THREADS_MAX: usize = 512;
/// Taken for the memory of a system that does not tell.
const MEMORY_BYTES_UNKNOWN: u64 = 8 << 30;

/// Memory for what ended conversations left, when nobody asks for another amount, at most.
const PREFIX_CACHE_BYTES_DEFAULT_MAX: u64 = 512 << 20;
/// The context length of models that read a text in one step, when nobody asks for another: all of
/// it takes room to compute at once.
const ENCODER_TOKENS_DEFAULT: u32 = 2048;
/// Tables, plans of computations and other things that do not grow.
const FIXED_BYTES: u64 = 24 << 20;

/// What of the machine and the model decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Bytes of cache one token takes in one sequence.
    pub kv_bytes_per_token: u64,
    /// Bytes of the weights, those that look at pictures among them.
    pub weights_bytes: u64,
    /// Bytes to decode pictures and to compute one.
    pub picture_bytes: u64,
    /// Bytes of one token of a picture that waits to be read.
    pub picture_token_bytes: u64,
    /// Tokens in the vocabulary.
    pub vocabulary_tokens: u64,
    /// Numbers that the widest places between two layers, and inside one, hold for one token.
    pub embedding_length: u64,
    pub feed_forward_length: u64,
    /// Whether a text must be read in one step.
    pub is_read_whole: bool,
    /// The context length the model was trained on.
    pub context_tokens_trained: u32,
    /// Memory that could be used now.
    pub memory_bytes_available: u64,
    /// Processors this process may use.
    pub processors: usize,
}

/// What the operator asks for; none leaves it to us.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub context_tokens: Option<u32>,
    pub slots: Option<u16>,
    pub memory_bytes_max: Option<u64>,
    pub threads: Option<usize>,
    pub prefix_cache_bytes_max: Option<u64>,
}

/// What is allocated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    pub context_tokens: u32,
    pub slots: u16,
    pub threads: u16,
    /// Tokens of one step.
    pub step_tokens: u32,
    /// Rows of results of one step, at most.
    pub rows: u32,
    /// For what ended conversations left.
    pub prefix_cache_bytes: u64,
    /// Everything together.
    pub memory_bytes: u64,
}

/// Too little memory for even one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Shortage {
    pub needed_bytes: u64,
    pub available_bytes: u64,
}

impl Facts {
    /// A model on this machine.
    pub(crate) fn of(
        info: &GgufInfo,
        projector: Option<&ProjectorInfo>,
        profile: Profile,
        memory_bytes_available: u64,
    ) -> Self {
        let of_projector = |get: fn(&ProjectorInfo) -> u64| projector.map_or(0, get);
        Self {
            kv_bytes_per_token: match profile {
                Profile::Default => info.kv_bytes_per_token(),
                Profile::Exact => info.kv_bytes_per_token_q8(),
            },
            weights_bytes: info.tensor_bytes.saturating_add(of_projector(|info| info.tensor_bytes)),
            picture_bytes: of_projector(|info| {
                info.picture_numbers.saturating_mul(4).saturating_add(FILES_BYTES_MAX)
            }),
            picture_token_bytes: of_projector(|info| info.token_length.saturating_mul(4)),
            vocabulary_tokens: info.vocabulary_tokens,
            embedding_length: u64::from(info.embedding_length),
            feed_forward_length: u64::from(info.feed_forward_length),
            is_read_whole: info.is_read_whole,
            context_tokens_trained: info.context_tokens,
            memory_bytes_available,
            processors: thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Tokens and rows of one step.
    fn step(&self, context: u32, slots: u64) -> (u64, u64) {
        if self.is_read_whole {
            (u64::from(context), u64::from(context))
        } else {
            (STEP_TOKENS_MAX as u64, slots.max(VECTOR_STEP_TOKENS_MAX as u64))
        }
    }

    /// Bytes of everything but the weights and what ended conversations left.
    fn bytes(&self, context: u32, slots: u64) -> u64 {
        let padded = u64::from(context.next_multiple_of(CONTEXT_TOKENS_STEP));
        let (tokens, rows) = self.step(context, slots);
        let kv = padded.saturating_mul(self.kv_bytes_per_token).saturating_mul(slots);
        // Once where the library computes them and once where it puts them down.
        let logits = rows.saturating_mul(self.vocabulary_tokens).saturating_mul(8);
        let wide = self.embedding_length.saturating_mul(8);
        let inside = self.feed_forward_length.saturating_mul(3);
        // Which token sees which, as 4 bytes and as 2.
        let mask = padded.saturating_mul(6);
        let per_token = wide.saturating_add(inside).saturating_mul(4).saturating_add(mask);
        // Half of each context may be pictures that were computed and not read yet.
        let pictures = self.picture_token_bytes.saturating_mul(u64::from(context / 2) * slots);
        kv.saturating_add(logits)
            .saturating_add(pictures.saturating_add(self.picture_bytes))
            .saturating_add(per_token.saturating_mul(tokens))
            .saturating_add(FIXED_BYTES)
    }
}

/// Chooses context, slots and threads.
///
/// A wish for a context or a number of slots is kept or refused, never changed: an operator who
/// asks for 32,768 tokens must not find out from a user that it became 4,096. What is not asked for
/// shrinks to fit. Without a limit from the operator, the caches of all slots together take a
/// quarter of what is free beside the weights, because an idle node should not crowd out its owner.
pub(crate) fn plan(facts: Facts, wishes: Wishes) -> Result<Plan, Shortage> {
    let available_bytes = wishes
        .memory_bytes_max
        .unwrap_or(facts.memory_bytes_available)
        .min(facts.memory_bytes_available);
    let beside_weights = available_bytes.saturating_sub(facts.weights_bytes);
    let share = match wishes.memory_bytes_max {
        Some(_) => beside_weights,
        None => beside_weights / 4,
    };
    let prefix_cache_bytes = match wishes.prefix_cache_bytes_max {
        Some(bytes) => bytes,
        // Nothing is kept of a text that is read in one step.
        None if facts.is_read_whole => 0,
        None => (share / 8).min(PREFIX_CACHE_BYTES_DEFAULT_MAX),
    };
    let bytes = |context, slots| facts.bytes(context, slots).saturating_add(prefix_cache_bytes);
    let slots_wished = wishes.slots.map(|slots| slots.clamp(1, SEQUENCES_MAX));
    let slots_min = slots_wished.map_or(1, u64::from);
    let context_tokens = match wishes.context_tokens {
        Some(tokens) => tokens.max(1),
        None => {
            let default =
                if facts.is_read_whole { ENCODER_TOKENS_DEFAULT } else { CONTEXT_TOKENS_DEFAULT };
            let most = facts.context_tokens_trained.clamp(1, default);
            let mut tokens = most;
            while bytes(tokens, slots_min) > share && tokens > CONTEXT_TOKENS_MIN.min(most) {
                tokens = (tokens / 2).max(CONTEXT_TOKENS_MIN.min(most));
            }
            tokens
        }
    };
    // What must be is held against all that is free, what we choose against our share of it.
    let least = bytes(context_tokens, slots_min);
    if least > beside_weights {
        return Err(Shortage {
            needed_bytes: least.saturating_add(facts.weights_bytes),
            available_bytes,
        });
    }
    let slots = slots_wished.unwrap_or_else(|| {
        let fits = |slots: &u64| bytes(context_tokens, *slots) <= share;
        let slots = (1..=SLOTS_DEFAULT_MAX).rev().find(fits).unwrap_or(1);
        u16::try_from(slots).expect("16 at most")
    });
    let (step_tokens, rows) = facts.step(context_tokens, u64::from(slots));
    Ok(Plan {
        context_tokens,
        slots,
        threads: threads(facts, wishes),
        step_tokens: u32::try_from(step_tokens).unwrap_or(u32::MAX),
        rows: u32::try_from(rows).unwrap_or(u32::MAX),
        prefix_cache_bytes,
        memory_bytes: facts.weights_bytes.saturating_add(bytes(context_tokens, u64::from(slots))),
    })
}

/// All processors of a small machine; half of those of a larger one, where they are mostly pairs
/// that share the units that compute. Fewer for a small model.
fn threads(facts: Facts, wishes: Wishes) -> u16 {
    let cores = match facts.processors {
        few @ ..=4 => few,
        many => many / 2,
    };
    let worthwhile = usize::try_from(facts.weights_bytes / WEIGHTS_BYTES_PER_THREAD);
    let threads = wishes.threads.unwrap_or_else(|| cores.min(worthwhile.unwrap_or(THREADS_MAX)));
    u16::try_from(threads.clamp(1, THREADS_MAX)).expect("clamped to 512")
}

impl Shortage {
    pub(crate) fn into_error(self, path: &std::path::Path) -> LoadError {
        LoadError::Memory {
            path: path.to_owned(),
            needed_mib: self.needed_bytes.div_ceil(1 << 20),
            available_mib: self.available_bytes >> 20,
        }
    }
}

/// Memory that could be used without swapping.
#[cfg(target_os = "linux")]
#[must_use]
pub fn memory_bytes_available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    memory_bytes_available_in(&text).unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// Memory that could be used without swapping.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn memory_bytes_available() -> u64 {
    MEMORY_BYTES_UNKNOWN
}

#[cfg(target_os = "linux")]
fn memory_bytes_available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Qwen3-0.6B: 28 layers, 8 key and value heads of 128, two bytes each.
    fn facts(memory_bytes_available: u64) -> Facts {
        Facts {
            kv_bytes_per_token: 28 * 8 * (128 + 128) * 2,
            weights_bytes: 640 << 20,
            picture_bytes: 0,
            picture_token_bytes: 0,
            vocabulary_tokens: 151_936,
            embedding_length: 1024,
            feed_forward_length: 3072,
            is_read_whole: false,
            context_tokens_trained: 40_960,
            memory_bytes_available,
            processors: 2,
        }
    }

    fn planned(available: u64, wishes: Wishes) -> (u32, u16) {
        let plan = plan(facts(available), wishes).unwrap();
        (plan.context_tokens, plan.slots)
    }

    #[test]
    fn slots_follow_memory() {
        assert_eq!(planned(20 * GIB, Wishes::default()), (8192, 4));
        assert_eq!(planned(256 * GIB, Wishes::default()), (8192, 16));
        assert_eq!(planned(6 * GIB, Wishes::default()), (8192, 1));
    }

    #[test]
    fn a_context_nobody_asked_for_shrinks() {
        assert_eq!(planned(3 * GIB, Wishes::default()), (2048, 1));
        let tight = planned(900 << 20, Wishes::default());
        assert_eq!(tight, (512, 1));
    }

    #[test]
    fn wishes_are_kept_or_refused() {
        let wishes = Wishes { context_tokens: Some(32_768), slots: Some(2), ..Wishes::default() };
        assert_eq!(planned(20 * GIB, wishes), (32_768, 2));
        let shortage = plan(facts(4 * GIB), wishes).unwrap_err();
        assert!(shortage.needed_bytes > 7 * GIB, "{shortage:?}");
        assert_eq!(shortage.available_bytes, 4 * GIB);
    }

    #[test]
    fn a_memory_limit_is_used_whole_and_never_passed() {
        let limit = |gib| Wishes { memory_bytes_max: Some(gib * GIB), ..Wishes::default() };
        assert_eq!(planned(20 * GIB, limit(4)), (8192, 3));
        assert_eq!(planned(2 * GIB, limit(64)), planned(2 * GIB, limit(2)));
        assert!(plan(facts(20 * GIB), limit(0)).is_err());
        for gib in 1..20 {
            let memory_bytes = plan(facts(20 * GIB), limit(gib)).unwrap().memory_bytes;
            assert!(memory_bytes <= gib * GIB && memory_bytes > 640 << 20, "{memory_bytes}");
        }
    }

    #[test]
    fn what_ended_conversations_left_is_in_the_plan() {
        let with = |bytes| Wishes {
            prefix_cache_bytes_max: Some(bytes),
            slots: Some(1),
            context_tokens: Some(512),
            ..Wishes::default()
        };
        let memory = |bytes| plan(facts(20 * GIB), with(bytes)).unwrap().memory_bytes;
        assert_eq!(memory(GIB), memory(0) + GIB);
        let plan = plan(facts(256 * GIB), Wishes::default()).unwrap();
        assert_eq!(plan.prefix_cache_bytes, PREFIX_CACHE_BYTES_DEFAULT_MAX);
    }

    /// The plan of a plan is the plan itself: what a survey says can be asked for.
    #[test]
    fn a_plan_can_be_asked_for() {
        for gib in [1, 2, 3, 5, 20, 256] {
            let first = plan(facts(gib * GIB), Wishes::default()).unwrap();
            let wishes = Wishes {
                context_tokens: Some(first.context_tokens),
                slots: Some(first.slots),
                memory_bytes_max: Some(first.memory_bytes),
                threads: Some(usize::from(first.threads)),
                prefix_cache_bytes_max: Some(first.prefix_cache_bytes),
            };
            assert_eq!(plan(facts(gib * GIB), wishes), Ok(first));
        }
    }

    #[test]
    fn a_text_that_is_read_whole_takes_room_for_all_of_it() {
        let facts = Facts { is_read_whole: true, kv_bytes_per_token: 0, ..facts(20 * GIB) };
        let plan = plan(facts, Wishes::default()).unwrap();
        assert_eq!((plan.context_tokens, plan.step_tokens), (2048, 2048));
        assert!(plan.memory_bytes > 2048 * 151_936 * 8 + (640 << 20));
    }

    /// Tensors that lie over each other have more bytes together than there are numbers for.
    #[test]
    fn a_projector_that_lies_fits_nowhere() {
        let bytes = crate::embedded_model().bytes;
        let info = GgufInfo::parse(bytes, bytes.len() as u64).unwrap();
        let most = u64::MAX;
        let lies = ProjectorInfo {
            tensor_bytes: most,
            file_bytes: 1,
            token_length: most,
            picture_numbers: most,
        };
        let facts = Facts::of(&info, Some(&lies), Profile::Default, 20 * GIB);
        let shortage = plan(facts, Wishes::default()).unwrap_err();
        assert_eq!((shortage.needed_bytes, shortage.available_bytes), (most, 20 * GIB));
    }

    #[test]
    fn pictures_take_room_in_every_slot() {
        let facts = facts(20 * GIB);
        let looking = Facts { picture_bytes: 300 << 20, picture_token_bytes: 4096, ..facts };
        let wishes = Wishes { slots: Some(2), context_tokens: Some(8192), ..Wishes::default() };
        let bytes = |facts| plan(facts, wishes).unwrap().memory_bytes;
        assert_eq!(bytes(looking) - bytes(facts), (300 << 20) + 2 * 4096 * 4096);
    }

    #[test]
    fn a_short_context_and_a_model_without_cache_are_fine() {
        let facts = Facts { kv_bytes_per_token: 0, context_tokens_trained: 100, ..facts(3 * GIB) };
        let plan = plan(facts, Wishes::default()).unwrap();
        assert_eq!((plan.context_tokens, plan.slots), (100, 16));
    }

    #[test]
    fn threads_follow_weights_and_processors() {
        let threads = |weights_mib: u64, processors| {
            let facts = Facts { weights_bytes: weights_mib << 20, processors, ..facts(64 * GIB) };
            plan(facts, Wishes::default()).unwrap().threads
        };
        assert_eq!([threads(6, 2), threads(6, 64)], [1, 1]);
        assert_eq!([threads(640, 1), threads(640, 2), threads(640, 16)], [1, 2, 8]);
        assert_eq!([threads(100, 64), threads(8000, 64)], [3, 32]);
        let wishes = Wishes { threads: Some(7), ..Wishes::default() };
        assert_eq!(plan(facts(20 * GIB), wishes).unwrap().threads, 7);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:  24000 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(memory_bytes_available_in(text), Some(2 << 20));
        assert_eq!(memory_bytes_available_in("MemTotal: 1 kB"), None);
        assert!(memory_bytes_available() > 0);
    }
}
