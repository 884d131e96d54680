//! One step: what goes in, and what comes of it.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use arknet_chat::ConstraintError;
use arknet_types::{Refusal, RefusalCode};

use super::{
    super::{
        guess::worthwhile,
        native::{DecodeError, PicturePart},
        picture::{self, before_picture},
        sampling::Drawn,
        schedule::{VECTOR_STEP_TOKENS_MAX, picture_share, share},
        sequence::{Next, Sequence},
        stats::Counters,
    },
    Engine, Occupant, Slot,
    place::number,
};

/// Tokens of a step that are worth stopping it for, at least. Shorter steps are through sooner than
/// it takes to notice.
const STOP_TOKENS_MIN: usize = 16;

/// What a step computes.
enum Work<'a> {
    /// What was put into the batch, of which so many are answers' own tokens.
    Batch(usize),
    /// So many tokens of a picture.
    Picture(PicturePart<'a>, usize),
}

impl Engine {
    /// Brings all answers one step further. False when none can go on.
    pub(super) fn answer_step(&mut self) -> bool {
        let rows = self.fill_answers();
        if self.context.batch_tokens() == 0 {
            return false;
        }
        let answers: usize = rows.iter().map(|(_, rows)| rows.len()).sum();
        match self.compute(Work::Batch(answers)) {
            Ok(()) => self.finish_answers(&rows),
            Err(error) => self.give_up_answers(error),
        }
        true
    }

    /// Puts the step together. Gives the slots that get a token, with the rows it is drawn from.
    fn fill_answers(&mut self) -> Vec<(usize, Range<usize>)> {
        self.context.clear_batch();
        let mut inputs_left = Vec::new();
        let mut outputs = 0;
        for slot in &mut self.slots {
            let Some(sequence) = slot.answer() else {
                continue;
            };
            sequence.leave_step();
            // Asked once: whoever reads may make room while the step is put together.
            sequence.decide();
            match sequence.next() {
                _ if !sequence.takes_part() => {}
                Next::Token => outputs += 1,
                Next::Text(left) => inputs_left.push(left),
                Next::Picture => {}
            }
        }
        let guessed = self.guess(outputs, inputs_left.len());
        let mut shares = share(&inputs_left, outputs + guessed).into_iter();
        let mut rows = Vec::new();
        // In the order of their numbers, as the native code wants it.
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let held = slot.held.len();
            let Some(sequence) = slot.answer().filter(|s| s.takes_part()) else {
                continue;
            };
            let first = sequence.position(held);
            let row = self.context.batch_tokens();
            match sequence.next() {
                Next::Token => {
                    for (token, position) in sequence.begin_token().zip(first..) {
                        self.context.push(token, position, number(at), true);
                    }
                    rows.push((at, row..self.context.batch_tokens()));
                }
                Next::Text(_) => {
                    let (tokens, is_drawn_from) = sequence.begin_step(shares.next().unwrap_or(0));
                    let last = tokens.len().saturating_sub(1);
                    for (n, (token, position)) in tokens.iter().zip(first..).enumerate() {
                        self.context.push(*token, position, number(at), is_drawn_from && n == last);
                    }
                    if is_drawn_from {
                        rows.push((at, row + last..row + last + 1));
                    }
                }
                Next::Picture => {}
            }
        }
        rows
    }

    /// Has answers guess what follows, as far as it is worth it and rows are left. Gives how many
    /// tokens they guessed.
    fn guess(&mut self, outputs: usize, inputs: usize) -> usize {
        let most = usize::from(self.running.draft_tokens_max);
        // What was guessed wrongly must be forgotten again.
        if outputs == 0 || most == 0 || !self.can_be_cut {
            return 0;
        }
        let rows = self.running.plan.rows as usize;
        let most = most.min(rows.saturating_sub(outputs + inputs) / outputs);
        let step_tokens = self.costs.step_tokens();
        let mut guessed = 0;
        for slot in &mut self.slots {
            let Some(Occupant::Answer(sequence)) = &mut slot.occupant else {
                continue;
            };
            if sequence.takes_part() && sequence.next() == Next::Token {
                let worth = |rate| worthwhile(rate, outputs, step_tokens, most);
                guessed += sequence.guess(&slot.held, worth);
            }
        }
        guessed
    }

    /// Computes a step. Stops early when the engine is to end, or when most of the step is for
    /// requests that were cancelled since it began: all of it, where the others could not go back to
    /// where they were before.
    fn compute(&mut self, work: Work<'_>) -> Result<(), DecodeError> {
        let begin = Instant::now();
        let slots = &self.slots;
        let total = match &work {
            Work::Batch(_) => self.context.batch_tokens(),
            Work::Picture(_, tokens) => *tokens,
        };
        let is_closing = &self.shared.is_closing;
        let enough = if self.can_be_cut { total.div_ceil(2) } else { total };
        let stop = || {
            let cancelled = || {
                let shares = slots.iter().map(|slot| match &slot.occupant {
                    Some(Occupant::Answer(s)) if s.is_cancelled() => s.share(),
                    Some(Occupant::Vectors(v)) if v.is_cancelled() => v.share(),
                    _ => 0,
                });
                shares.sum::<usize>()
            };
            is_closing.load(Ordering::Relaxed)
                || (total >= STOP_TOKENS_MIN && cancelled() >= enough)
        };
        // Tokens of inputs cost less: nothing is drawn from most of them.
        let is_answers = matches!(work, Work::Batch(answers) if answers == total);
        let result = match work {
            Work::Batch(_) => self.context.decode(&stop),
            Work::Picture(part, _) => self.context.decode_picture(part, &stop),
        };
        let counters = &self.shared.counters;
        Counters::add(&counters.steps, 1);
        let us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Counters::add(&counters.compute_us, us);
        if is_answers && result.is_ok() {
            self.costs.hear(total, us);
        }
        result
    }

    fn finish_answers(&mut self, rows: &[(usize, Range<usize>)]) {
        for slot in &mut self.slots {
            if let Some(Occupant::Answer(sequence)) = &mut slot.occupant {
                sequence.finish_step(&mut slot.held);
            }
        }
        #[cfg(test)]
        self.note(rows);
        let all = self.draw(rows);
        for ((slot, _), drawn) in rows.iter().zip(all) {
            let slot = *slot;
            self.settle(slot, &drawn);
            let model = self.context.model();
            let sequence = self.slots[slot].answer().expect("it has rows");
            let before = sequence.generated();
            let end = drawn.into_iter().find_map(|drawn| sequence.advance(drawn, model));
            let generated = u64::from(sequence.generated() - before);
            Counters::add(&self.shared.counters.completion_tokens, generated);
            let Some(end) = end else {
                sequence.outbox().flush();
                continue;
            };
            if let Some(Occupant::Answer(sequence)) = self.slots[slot].occupant.take() {
                let (outbox, usage) = sequence.end(end);
                self.end(outbox, usage);
            }
        }
    }

    /// Remembers what was guessed rightly, and forgets the rest.
    fn settle(&mut self, slot: usize, drawn: &[Result<Drawn, ConstraintError>]) {
        let place = &mut self.slots[slot];
        let Some(Occupant::Answer(sequence)) = &mut place.occupant else {
            return;
        };
        let counters = &self.shared.counters;
        let before = place.held.len();
        let wrong = sequence.settle(drawn, &mut place.held);
        let held = place.held.len();
        Counters::add(&counters.draft_tokens, (held - before + wrong) as u64);
        Counters::add(&counters.draft_tokens_accepted, (held - before) as u64);
        if wrong > 0 {
            let position = picture::position(sequence.pictures(), held);
            let is_cut = self.cut(slot, held, position);
            debug_assert!(is_cut, "only where sequences can be cut is anything guessed");
        }
    }

    /// Draws from all rows, on several threads where that takes long enough to be felt.
    fn draw(&mut self, rows: &[(usize, Range<usize>)]) -> Vec<Vec<Result<Drawn, ConstraintError>>> {
        let numbers: Vec<usize> = rows.iter().flat_map(|(_, rows)| rows.clone()).collect();
        let model = Arc::clone(self.context.model());
        let Some(logits) = self.context.logits(&numbers) else {
            return rows.iter().map(|_| vec![Err(ConstraintError::Stuck)]).collect();
        };
        let mut sequences: Vec<&mut Sequence> = Vec::with_capacity(rows.len());
        let mut wanted = rows.iter().map(|(slot, _)| *slot).peekable();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if wanted.next_if_eq(&at).is_some() {
                sequences.extend(slot.answer());
            }
        }
        let mut logits = logits.into_iter();
        let of_each = rows.iter().map(|(_, rows)| logits.by_ref().take(rows.len()).collect());
        let mut work: Vec<(&mut Sequence, Vec<&mut [f32]>)> =
            sequences.into_iter().zip(of_each).collect();
        let costly = work.iter().filter(|(sequence, _)| sequence.is_costly()).count();
        let threads = usize::from(self.running.plan.threads).min(costly);
        if threads < 2 {
            return work.iter_mut().map(|(sequence, rows)| sequence.draw(rows, &model)).collect();
        }
        let each = work.len().div_ceil(threads);
        let model = &*model;
        thread::scope(|scope| {
            let parts: Vec<_> = work
                .chunks_mut(each)
                .map(|part| {
                    scope.spawn(move || {
                        let draw = |(sequence, rows): &mut (&mut Sequence, Vec<&mut [f32]>)| {
                            sequence.draw(rows, model)
                        };
                        part.iter_mut().map(draw).collect::<Vec<_>>()
                    })
                })
                .collect();
            let join = |part: thread::ScopedJoinHandle<'_, _>| match part.join() {
                Ok(drawn) => drawn,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            parts.into_iter().flat_map(join).collect()
        })
    }

    /// Puts all that took part back to where it was before the step, or refuses it where that is
    /// not possible.
    fn give_up_answers(&mut self, error: DecodeError) {
        for slot in 0..self.slots.len() {
            let held = self.slots[slot].held.len();
            let Some(sequence) = self.slots[slot].answer().filter(|s| s.share() > 0) else {
                continue;
            };
            // Half a picture cannot be told from a whole one by where it is.
            let back = before_picture(sequence.pictures(), held);
            let position = picture::position(sequence.pictures(), back);
            if back < held {
                sequence.go_back(back);
            }
            let is_back = error == DecodeError::Aborted && self.cut(slot, back, position);
            if !is_back {
                self.fail(slot, error);
            }
        }
    }

    /// Reads some more of a picture. False when none is ready.
    pub(super) fn picture_step(&mut self) -> bool {
        let Some(projector) = self.eyes.as_ref().map(|eyes| Arc::clone(&eyes.projector)) else {
            return false;
        };
        let count = self.slots.len();
        let is_ready = |slot: &usize| match &self.slots[*slot].occupant {
            Some(Occupant::Answer(sequence)) if sequence.next() == Next::Picture => {
                sequence.picture().is_some_and(|(picture, _)| picture.vectors().is_some())
            }
            _ => false,
        };
        let mut order = (0..count).map(|n| (self.turn + n) % count);
        let Some(slot) = order.find(is_ready) else {
            return false;
        };
        self.turn = (slot + 1) % count;
        self.slots.iter_mut().filter_map(Slot::answer).for_each(Sequence::leave_step);
        let answers = self.slots.iter_mut().filter_map(Slot::answer);
        let outputs = answers.filter(|sequence| sequence.next() == Next::Token).count();
        let held = self.slots[slot].held.len();
        let Some(sequence) = self.slots[slot].answer() else {
            return false;
        };
        let Some((picture, from)) = sequence.picture() else {
            return false;
        };
        let (picture, first) = (Arc::clone(picture), sequence.position(held));
        let tokens = picture.chunk().tokens();
        let share = picture_share(tokens - from, outputs, picture.is_read_whole());
        sequence.begin_picture(share);
        let range = from..from + share;
        let positions = projector.positions(picture.chunk(), first, range.clone());
        let width = self.context.model().n_embd_inp();
        let vectors = picture.vectors().flatten();
        let vectors = vectors.and_then(|all| all.get(range.start * width..range.end * width));
        let result = match (vectors, positions) {
            (Some(vectors), Some(positions)) => {
                let is_whole = picture.is_read_whole();
                let sequence = number(slot);
                let part = PicturePart { vectors, positions: &positions, sequence, is_whole };
                self.compute(Work::Picture(part, share))
            }
            _ => Err(DecodeError::Failed(0)),
        };
        match result {
            Ok(()) => self.finish_answers(&[]),
            Err(error) => self.give_up_answers(error),
        }
        true
    }

    fn give_up_vectors(&mut self, error: DecodeError) {
        for slot in 0..self.slots.len() {
            let Some(vectors) = self.slots[slot].vectors().filter(|v| v.share() > 0) else {
                continue;
            };
            let read = u32::try_from(vectors.leave_step()).expect("positions fit the context");
            let is_back = error == DecodeError::Aborted && self.context.cut(number(slot), read);
            if !is_back {
                self.fail(slot, error);
            }
        }
    }

    fn fail(&mut self, slot: usize, error: DecodeError) {
        tracing::warn!(?error, "a step of the model failed");
        self.forget(slot);
        let words = "the model failed to compute";
        self.refuse(slot, Refusal::new(RefusalCode::ProviderFailed, words));
    }

    /// Reads some more of the texts that become vectors. False when there are none.
    pub(super) fn vector_step(&mut self) -> bool {
        self.context.clear_batch();
        let is_whole = self.running.is_read_whole;
        let mut room =
            if is_whole { self.running.plan.step_tokens as usize } else { VECTOR_STEP_TOKENS_MAX };
        // Who could not take part last time is first.
        let count = self.slots.len();
        let mut shares = vec![0; count];
        for slot in (0..count).map(|n| (self.turn + n) % count) {
            let Some(vectors) = self.slots[slot].vectors() else {
                continue;
            };
            vectors.leave_step();
            let left = vectors.input_left();
            if vectors.has_room() && (!is_whole || left <= room) {
                shares[slot] = left.min(room);
                room -= shares[slot];
            }
        }
        if shares.iter().all(|share| *share == 0) {
            return false;
        }
        let mut order = (0..count).map(|n| (self.turn + n) % count);
        let first = order.find(|slot| shares[*slot] > 0).unwrap_or(self.turn);
        self.turn = (first + 1) % count;
        for (slot, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
            let row = self.context.batch_tokens();
            let Some(Occupant::Vectors(vectors)) = &mut self.slots[slot].occupant else {
                continue;
            };
            let (tokens, first) = vectors.begin_step(*share, row);
            for (token, position) in tokens.iter().zip(first..) {
                let position = i32::try_from(position).expect("positions fit the context");
                self.context.push(*token, position, number(slot), true);
            }
        }
        self.context.set_vectors(true);
        let result = self.compute(Work::Batch(0));
        match result {
            Ok(()) => self.finish_vectors(&shares),
            Err(error) => self.give_up_vectors(error),
        }
        self.context.set_vectors(false);
        true
    }

    fn finish_vectors(&mut self, shares: &[usize]) {
        for (slot, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
            Counters::add(&self.shared.counters.prompt_tokens, *share as u64);
            let Some(Occupant::Vectors(vectors)) = &mut self.slots[slot].occupant else {
                continue;
            };
            let Ok(is_through) = vectors.finish_step(&mut self.context, number(slot)) else {
                self.fail(slot, DecodeError::Failed(0));
                continue;
            };
            vectors.outbox().flush();
            let is_last = vectors.input_left() == 0;
            if is_through {
                self.forget(slot);
            }
            if is_last && let Some(Occupant::Vectors(vectors)) = self.slots[slot].occupant.take() {
                let (outbox, usage) = vectors.end();
                self.end(outbox, usage);
            }
        }
    }
}
