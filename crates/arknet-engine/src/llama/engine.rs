//! The loop of one model: every sequence that can go on takes part in every step.

mod exact;
mod place;
mod step;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    thread,
};

use arknet_types::{Profile, Refusal, RefusalCode, Usage};

use super::{
    cache::{Aside, View, is_worth_waiting},
    guess::Costs,
    native::{CacheType, Context, Model, Projector, Settings, Token},
    outbox::Outbox,
    picture::Picture,
    plan::Plan,
    sequence::{self, Sequence},
    stats::Counters,
    vectors::{self, Vectors},
};
use crate::gguf::Purpose;

/// What the engine's thread shares with others.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub is_closing: AtomicBool,
    pub counters: Counters,
    /// What followed from which tokens, as the bits of all logits.
    #[cfg(test)]
    pub seen: std::sync::Mutex<Seen>,
}

#[cfg(test)]
pub(crate) type Seen = std::collections::BTreeMap<Vec<Token>, std::collections::BTreeSet<u64>>;

/// Something to do.
pub(crate) enum Job {
    Answer(Box<sequence::Job>),
    Vectors(Box<vectors::Job>),
    /// All is done but the telling.
    Deliver(Outbox),
}

/// How to run a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub plan: Plan,
    pub purpose: Purpose,
    pub is_read_whole: bool,
    pub profile: Profile,
    /// Tokens that an answer guesses at once, at most.
    pub draft_tokens_max: u16,
}

/// What looks at pictures, and where it is asked to.
pub(crate) struct Eyes {
    pub projector: Arc<Projector>,
    pub pictures: SyncSender<Arc<Picture>>,
}

/// Owns the native context, on a thread of its own. Whoever changes what it waits for (a new job, a
/// reply taken, a request dropped, the end) unparks that thread.
pub(crate) struct Engine {
    context: Context,
    /// By their number in the native context.
    slots: Vec<Slot>,
    /// Answers that ended and are not told yet. Their requests hold seats, so there are no more than
    /// slots.
    deliveries: Vec<Outbox>,
    aside: Aside,
    jobs: Receiver<Job>,
    eyes: Option<Eyes>,
    /// Answers whose input begins as one that is just being read does.
    waiting: Vec<sequence::Job>,
    shared: Arc<Shared>,
    running: Running,
    can_be_cut: bool,
    costs: Costs,
    /// Counts admissions, to know what was used last.
    clock: u64,
    /// Steps for which sequences were not neighbours.
    gap_steps: u32,
    /// Which slot is asked first for texts to read.
    turn: usize,
}

/// A sequence of the native context.
#[derive(Default)]
struct Slot {
    occupant: Option<Occupant>,
    /// The tokens it remembers, also when nobody is in it any more.
    held: Vec<Token>,
    used: u64,
}

enum Occupant {
    Answer(Box<Sequence>),
    Vectors(Box<Vectors>),
}

impl Occupant {
    fn outbox(&mut self) -> &mut Outbox {
        match self {
            Self::Answer(sequence) => sequence.outbox(),
            Self::Vectors(vectors) => vectors.outbox(),
        }
    }

    fn into_outbox(self) -> Outbox {
        match self {
            Self::Answer(sequence) => sequence.into_outbox(),
            Self::Vectors(vectors) => vectors.into_outbox(),
        }
    }

    fn is_cancelled(&self) -> bool {
        match self {
            Self::Answer(sequence) => sequence.is_cancelled(),
            Self::Vectors(vectors) => vectors.is_cancelled(),
        }
    }
}

impl Slot {
    fn view(&self) -> View<'_> {
        View { held: &self.held, is_free: self.occupant.is_none(), used: self.used }
    }

    fn answer(&mut self) -> Option<&mut Sequence> {
        match &mut self.occupant {
            Some(Occupant::Answer(sequence)) => Some(sequence),
            _ => None,
        }
    }

    fn vectors(&mut self) -> Option<&mut Vectors> {
        match &mut self.occupant {
            Some(Occupant::Vectors(vectors)) => Some(vectors),
            _ => None,
        }
    }
}

impl Engine {
    /// Allocates the caches. None when there is no memory for them.
    pub(crate) fn new(
        model: Arc<Model>,
        running: Running,
        jobs: Receiver<Job>,
        eyes: Option<Eyes>,
        shared: Arc<Shared>,
    ) -> Option<Self> {
        let Running { plan, purpose, profile, .. } = running;
        let settings = Settings {
            context_tokens: plan.context_tokens,
            sequences: plan.slots,
            step_tokens: plan.step_tokens,
            rows: plan.rows,
            threads: plan.threads,
            cache: match profile {
                Profile::Default => CacheType::F16,
                Profile::Exact => CacheType::Q8,
            },
            vectors: purpose != Purpose::Generate,
            pooled: purpose == Purpose::Rank,
        };
        let can_be_cut = model.can_be_cut();
        let context = Context::new(model, settings)?;
        let all = u64::from(plan.context_tokens) * u64::from(plan.slots);
        Counters::set(&shared.counters.kv_tokens_max, all);
        Some(Self {
            context,
            slots: (0..plan.slots).map(|_| Slot::default()).collect(),
            deliveries: Vec::new(),
            aside: Aside::new(plan.prefix_cache_bytes),
            jobs,
            eyes,
            waiting: Vec::new(),
            shared,
            running,
            can_be_cut,
            costs: Costs::new(),
            clock: 0,
            gap_steps: 0,
            turn: 0,
        })
    }

    /// Answers until the provider is dropped. Waits without using the processor.
    pub(crate) fn run(mut self) {
        while !self.shared.is_closing.load(Ordering::SeqCst) {
            self.deliver();
            self.drop_cancelled();
            self.admit();
            self.close_gap();
            self.count();
            self.ask_for_pictures();
            // All kinds of work in turns, so that none waits for all of another.
            let has_read = self.vector_step();
            let has_looked = self.picture_step();
            let has_answered = self.answer_step();
            if !has_read && !has_looked && !has_answered {
                // An unpark since the checks above makes this return at once.
                thread::park();
            }
        }
        let refusal = Refusal::new(RefusalCode::ShuttingDown, "the model is being unloaded");
        for slot in 0..self.slots.len() {
            self.refuse(slot, refusal.clone());
        }
        let waiting =
            std::mem::take(&mut self.waiting).into_iter().map(|job| Job::Answer(Box::new(job)));
        for job in waiting.chain(self.jobs.try_iter()) {
            let mut outbox = match job {
                Job::Answer(job) => job.outbox,
                Job::Vectors(job) => job.outbox,
                Job::Deliver(outbox) => outbox,
            };
            outbox.refuse(refusal.clone());
            outbox.flush();
        }
    }

    /// Tells what is left to tell to those who read.
    fn deliver(&mut self) {
        self.deliveries.retain_mut(|outbox| !outbox.flush());
        for slot in &mut self.slots {
            if let Some(occupant) = &mut slot.occupant {
                occupant.outbox().flush();
            }
        }
    }

    fn drop_cancelled(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].occupant.as_ref().is_some_and(Occupant::is_cancelled) {
                self.slots[slot].occupant = None;
            }
        }
    }

    fn admit(&mut self) {
        for job in std::mem::take(&mut self.waiting) {
            self.begin(job);
        }
        // Those that wait have seats, so there is a slot for each of them.
        while self.slots.iter().filter(|slot| slot.occupant.is_none()).count() > self.waiting.len()
        {
            match self.jobs.try_recv() {
                Ok(Job::Deliver(mut outbox)) => {
                    if !outbox.flush() {
                        self.deliveries.push(outbox);
                    }
                }
                Ok(Job::Answer(job)) => self.begin(*job),
                Ok(Job::Vectors(job)) if !job.outbox.is_closed() => {
                    let (slot, _) = self.place(&[], &[]);
                    let vectors = Vectors::new(*job);
                    self.slots[slot].occupant = Some(Occupant::Vectors(Box::new(vectors)));
                }
                Ok(Job::Vectors(_)) => {}
                Err(_) => return,
            }
        }
    }

    /// Begins an answer, unless another is just reading what it begins with too.
    fn begin(&mut self, job: sequence::Job) {
        if job.outbox.is_closed() {
            return;
        }
        let views: Vec<View<'_>> = self.slots.iter().map(Slot::view).collect();
        let being_read = self.slots.iter().filter_map(|slot| match &slot.occupant {
            Some(Occupant::Answer(sequence)) if sequence.input_left() > 0 => {
                Some((slot.held.as_slice(), sequence.prompt()))
            }
            _ => None,
        });
        if is_worth_waiting(&job.prompt, &views, &self.aside, self.can_be_cut, being_read) {
            self.waiting.push(job);
            return;
        }
        let (slot, cached) = self.place(&job.prompt, &job.pictures);
        let sequence = Sequence::new(job, cached);
        let counters = &self.shared.counters;
        Counters::add(&counters.prompt_tokens, sequence.prompt().len() as u64);
        Counters::add(&counters.cached_tokens, cached as u64);
        self.slots[slot].occupant = Some(Occupant::Answer(Box::new(sequence)));
    }

    /// Has the pictures computed that answers come to next.
    fn ask_for_pictures(&self) {
        let Some(eyes) = &self.eyes else {
            return;
        };
        let answers = self.slots.iter().filter_map(|slot| match &slot.occupant {
            Some(Occupant::Answer(sequence)) => Some(sequence),
            _ => None,
        });
        for (picture, _) in answers.filter_map(|sequence| sequence.picture()) {
            // Should there be no room, the thread that looks wakes this one when there is.
            if picture.ask() && eyes.pictures.try_send(Arc::clone(picture)).is_err() {
                picture.forget_asking();
            }
        }
    }

    /// Ends a request without completing it.
    fn refuse(&mut self, slot: usize, refusal: Refusal) {
        if let Some(occupant) = self.slots[slot].occupant.take() {
            let mut outbox = occupant.into_outbox();
            outbox.refuse(refusal);
            if !outbox.flush() {
                self.deliveries.push(outbox);
            }
        }
    }

    /// Tells an end. Its slot is free already, so that whoever hears of it finds the slot free.
    fn end(&mut self, mut outbox: Outbox, usage: Usage) {
        tracing::debug!(
            prompt_tokens = usage.prompt_tokens,
            cached_tokens = usage.cached_tokens,
            completion_tokens = usage.completion_tokens,
            "an answer ended"
        );
        if !outbox.flush() {
            self.deliveries.push(outbox);
        }
    }

    fn count(&self) {
        let counters = &self.shared.counters;
        let busy = self.slots.iter().filter(|slot| slot.occupant.is_some()).count();
        let held: usize = self.slots.iter().map(|slot| slot.held.len()).sum();
        Counters::set(&counters.slots_busy, busy as u64);
        Counters::set(&counters.kv_tokens, held as u64);
        Counters::set(&counters.prefix_bytes, self.aside.bytes());
        Counters::set(&counters.prefix_tokens, self.aside.tokens());
    }
}
