//! What an engine has done and holds, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use borsh::{BorshDeserialize, BorshSerialize};

/// Numbers of one model at one moment. Totals count from loading.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EngineStats {
    /// Slots that hold a request.
    pub slots_busy: u64,
    /// Tokens remembered in slots, busy or free.
    pub kv_tokens: u64,
    /// Tokens all slots could remember.
    pub kv_tokens_max: u64,
    /// Tokens remembered beside the slots.
    pub prefix_tokens: u64,
    /// Bytes that takes.
    pub prefix_bytes: u64,
    /// Steps computed.
    pub steps_total: u64,
    /// Tokens of inputs, computed or remembered.
    pub prompt_tokens_total: u64,
    /// Of those, remembered.
    pub cached_tokens_total: u64,
    /// Tokens generated.
    pub completion_tokens_total: u64,
    /// Tokens that were guessed, and computed before they were known.
    pub draft_tokens_total: u64,
    /// Of those, guessed rightly.
    pub draft_tokens_accepted_total: u64,
    /// Microseconds spent computing steps.
    pub compute_us_total: u64,
}

/// The same, kept by the engine's thread and read by others.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub slots_busy: AtomicU64,
    pub kv_tokens: AtomicU64,
    pub kv_tokens_max: AtomicU64,
    pub prefix_tokens: AtomicU64,
    pub prefix_bytes: AtomicU64,
    pub steps: AtomicU64,
    pub prompt_tokens: AtomicU64,
    pub cached_tokens: AtomicU64,
    pub completion_tokens: AtomicU64,
    pub draft_tokens: AtomicU64,
    pub draft_tokens_accepted: AtomicU64,
    pub compute_us: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> EngineStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            slots_busy: get(&self.slots_busy),
            kv_tokens: get(&self.kv_tokens),
            kv_tokens_max: get(&self.kv_tokens_max),
            prefix_tokens: get(&self.prefix_tokens),
            prefix_bytes: get(&self.prefix_bytes),
            steps_total: get(&self.steps),
            prompt_tokens_total: get(&self.prompt_tokens),
            cached_tokens_total: get(&self.cached_tokens),
            completion_tokens_total: get(&self.completion_tokens),
            draft_tokens_total: get(&self.draft_tokens),
            draft_tokens_accepted_total: get(&self.draft_tokens_accepted),
            compute_us_total: get(&self.compute_us),
        }
    }
}
