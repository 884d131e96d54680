//! The loop of one model: every sequence that can go on takes part in every step.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread,
};

use arknet_types::{Refusal, RefusalCode};
use llama_cpp_2::{
    context::{LlamaContext, params::LlamaContextParams},
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::LlamaModel,
};

use super::{
    plan::Plan,
    schedule::{STEP_TOKENS_MAX, share},
    sequence::{Ending, Job, Sequence},
};

/// Owns the native context, on a thread of its own. Whoever changes what it waits for (a new job, a
/// reply taken, a request dropped, the end) unparks that thread.
pub(crate) struct Engine<'m> {
    model: &'m LlamaModel,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// By their number in the native context. Low numbers are taken first, because the native code
    /// computes sequences together only where their numbers follow each other.
    sequences: Vec<Option<Sequence>>,
    jobs: Receiver<Job>,
    is_closing: Arc<AtomicBool>,
}

impl<'m> Engine<'m> {
    /// Allocates the caches. None when there is no memory for them.
    pub(crate) fn new(
        backend: &LlamaBackend,
        model: &'m LlamaModel,
        plan: Plan,
        jobs: Receiver<Job>,
        is_closing: Arc<AtomicBool>,
    ) -> Option<Self> {
        let slots = u32::from(plan.slots);
        let threads = i32::from(plan.threads);
        let step = u32::try_from(STEP_TOKENS_MAX).expect("512");
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(plan.context_tokens.checked_mul(slots)?))
            .with_n_batch(step)
            .with_n_ubatch(step)
            .with_n_seq_max(slots)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO)
            .with_swa_full(false)
            // One cache for all sequences would make each of them look through those of all others.
            .with_kv_unified(false)
            .with_no_perf(true);
        Some(Self {
            model,
            context: model.new_context(backend, params).ok()?,
            batch: LlamaBatch::new(STEP_TOKENS_MAX, 1),
            sequences: (0..plan.slots).map(|_| None).collect(),
            jobs,
            is_closing,
        })
    }

    /// Answers until the provider is dropped. Waits without using the processor.
    pub(crate) fn run(mut self) {
        while !self.is_closing.load(Ordering::SeqCst) {
            self.drop_cancelled();
            self.admit();
            if !self.fill_batch() {
                // An unpark since the checks above makes this return at once.
                thread::park();
                continue;
            }
            match self.context.decode(&mut self.batch) {
                Ok(()) => self.advance(),
                Err(error) => {
                    tracing::warn!(%error, "a step of the model failed");
                    self.refuse(
                        |sequence| sequence.is_in_step(),
                        &Refusal::new(RefusalCode::ProviderFailed, "the model failed to compute"),
                    );
                }
            }
        }
        let refusal = Refusal::new(RefusalCode::ShuttingDown, "the model is being unloaded");
        self.refuse(|_| true, &refusal);
        while let Ok(job) = self.jobs.try_recv() {
            Sequence::new(job).refuse(refusal.clone()).send();
        }
    }

    fn drop_cancelled(&mut self) {
        for slot in 0..self.sequences.len() {
            if self.sequences[slot].as_ref().is_some_and(Sequence::is_cancelled) {
                self.free(slot);
            }
        }
    }

    fn admit(&mut self) {
        for place in &mut self.sequences {
            while place.is_none() {
                match self.jobs.try_recv() {
                    Ok(job) if job.replies.is_closed() => {}
                    Ok(job) => *place = Some(Sequence::new(job)),
                    Err(_) => return,
                }
            }
        }
    }

    /// Puts together the next step. False when nobody can go on.
    fn fill_batch(&mut self) -> bool {
        self.batch.clear();
        let mut inputs_left = Vec::new();
        let mut outputs = 0;
        for sequence in self.sequences.iter_mut().flatten() {
            sequence.begin_step();
            match (sequence.has_room(), sequence.input_left()) {
                (false, _) => {}
                (true, 0) => outputs += 1,
                (true, left) => inputs_left.push(left),
            }
        }
        let mut shares = share(&inputs_left, outputs).into_iter();
        // In the order of their numbers, as the native code wants it.
        for (slot, place) in (0..).zip(&mut self.sequences) {
            let Some(sequence) = place.as_mut().filter(|s| s.has_room()) else {
                continue;
            };
            let share = match sequence.input_left() {
                0 => 1,
                _ => shares.next().unwrap_or(0),
            };
            for turn in sequence.take_turns(share, self.batch.n_tokens()) {
                self.batch
                    .add(turn.token, turn.position, &[slot], turn.is_drawn_from)
                    .expect("shares add up to the size of the batch");
            }
        }
        self.batch.n_tokens() > 0
    }

    fn advance(&mut self) {
        let vocab = self.model.vocab();
        for slot in 0..self.sequences.len() {
            let Some(row) = self.sequences[slot].as_mut().and_then(Sequence::take_row) else {
                continue;
            };
            let mut sequence = self.sequences[slot].take().expect("it has a row");
            let token = sequence.draw().next(&self.context, row);
            match sequence.advance(token, &vocab) {
                Ok(sequence) => self.sequences[slot] = Some(sequence),
                Err(ending) => self.end(slot, ending),
            }
        }
    }

    fn refuse(&mut self, which: impl Fn(&Sequence) -> bool, refusal: &Refusal) {
        for slot in 0..self.sequences.len() {
            if let Some(sequence) = self.sequences[slot].take_if(|s| which(s)) {
                self.end(slot, sequence.refuse(refusal.clone()));
            }
        }
    }

    /// Frees the place before telling the end, so that whoever hears of it finds the place free.
    fn end(&mut self, slot: usize, ending: Ending) {
        self.free(slot);
        tracing::debug!(
            prompt_tokens = ending.usage.prompt_tokens,
            completion_tokens = ending.usage.completion_tokens,
            "an answer ended"
        );
        ending.send();
    }

    fn free(&mut self, slot: usize) {
        self.sequences[slot] = None;
        let number = u32::try_from(slot).expect("256 slots at most");
        let removed = self.context.clear_kv_cache_seq(Some(number), None, None);
        debug_assert_eq!(removed, Ok(true), "whole sequences can always be removed");
    }
}
