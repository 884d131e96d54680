//! Where a sequence goes, and what is remembered when it does.

use super::{
    super::{
        cache::{Origin, View, choose, gap},
        native::Token,
        picture::{Placed, before_picture, position},
    },
    Engine, Slot,
};

/// Steps for which sequences may be apart before one of them is moved: others come and go.
const GAP_STEPS_MAX: u32 = 8;
/// Tokens of a sequence that is worth moving, at most.
const MOVE_TOKENS_MAX: usize = 1024;

impl Engine {
    /// Finds a free slot for an input and brings there what is remembered of it: the slot, and how
    /// many tokens need not be read again. There is a free slot.
    pub(super) fn place(&mut self, prompt: &[Token], pictures: &[Placed]) -> (usize, usize) {
        self.clock += 1;
        let views: Vec<View<'_>> = self.slots.iter().map(Slot::view).collect();
        let choice = choose(prompt, &views, &self.aside, self.can_be_cut);
        let choice = choice.expect("a slot is free");
        let slot = choice.slot;
        self.slots[slot].used = self.clock;
        let is_there = match choice.from {
            Origin::Nowhere => false,
            Origin::Here => {
                self.put_aside(slot, choice.tokens, 0);
                true
            }
            Origin::Slot(from) => {
                self.put_aside(slot, 0, 0);
                self.copy(from, slot)
            }
            Origin::Aside(number) => self.bring_back(number, slot),
        };
        if !is_there {
            self.put_aside(slot, 0, 0);
            self.forget(slot);
            return (slot, 0);
        }
        let tokens = before_picture(pictures, choice.tokens);
        let is_longer = self.slots[slot].held.len() > tokens;
        if is_longer && !self.cut(slot, tokens, position(pictures, tokens)) {
            self.forget(slot);
            return (slot, 0);
        }
        (slot, tokens)
    }

    /// Forgets what a slot remembers from `tokens` on, of which the first has this position.
    pub(super) fn cut(&mut self, slot: usize, tokens: usize, position: usize) -> bool {
        let position = u32::try_from(position).expect("positions fit the context");
        let is_cut = self.context.cut(number(slot), position);
        if is_cut {
            self.slots[slot].held.truncate(tokens);
        }
        is_cut
    }

    /// Forgets all that a slot remembers.
    pub(super) fn forget(&mut self, slot: usize) {
        self.slots[slot].held.clear();
        let is_cut = self.context.cut(number(slot), 0);
        debug_assert!(is_cut, "whole sequences can always be removed");
    }

    /// Keeps what a slot remembers if it is about to lose more than these tokens of it.
    /// `in_hand` is what else takes of the memory for that just now, in bytes.
    fn put_aside(&mut self, slot: usize, kept: usize, in_hand: u64) {
        let held = &self.slots[slot].held;
        // A state that cannot be cut is changed by whatever goes on from it.
        let lost = if self.can_be_cut { held.len() - kept } else { held.len() };
        if lost < super::super::cache::COPY_TOKENS_MIN || !self.aside.wants(held, 0) {
            return;
        }
        let bytes = self.context.saved_bytes(number(slot));
        if !self.aside.wants(&self.slots[slot].held, bytes)
            || !self.aside.make_room(self.with_tokens(slot, bytes) + in_hand)
        {
            return;
        }
        if let Some(state) = self.context.save(number(slot)) {
            let (held, used) = (self.slots[slot].held.clone(), self.slots[slot].used);
            self.aside.put(held, state, used, self.can_be_cut);
        }
    }

    fn with_tokens(&self, slot: usize, bytes: usize) -> u64 {
        (bytes + size_of_val(self.slots[slot].held.as_slice())) as u64
    }

    /// Copies what one slot remembers to another, through memory that is planned for what is put
    /// aside, where it stays as long as there is room.
    fn copy(&mut self, from: usize, to: usize) -> bool {
        let bytes = self.context.saved_bytes(number(from));
        if !self.aside.make_room(self.with_tokens(from, bytes)) {
            return false;
        }
        let Some(state) = self.context.save(number(from)) else {
            return false;
        };
        self.slots[to].held.clear();
        let is_whole = self.context.restore(number(to), &state);
        if is_whole {
            self.slots[to].held = self.slots[from].held.clone();
        }
        is_whole
    }

    /// Brings what was put aside to a slot, whose own memory is put aside in turn.
    fn bring_back(&mut self, number_aside: usize, slot: usize) -> bool {
        let Some((tokens, state)) = self.aside.remove(number_aside) else {
            return false;
        };
        let size = (state.len() + size_of_val(tokens.as_slice())) as u64;
        self.put_aside(slot, 0, size);
        self.slots[slot].held.clear();
        let is_whole = self.context.restore(number(slot), &state);
        if is_whole {
            self.slots[slot].held.clone_from(&tokens);
        }
        if self.aside.make_room(size) {
            self.aside.put(tokens, state, self.clock, self.can_be_cut);
        }
        is_whole
    }

    /// Sequences are computed together only where their slots follow each other. Moves one into a
    /// gap that stays.
    pub(super) fn close_gap(&mut self) {
        let views: Vec<View<'_>> = self.slots.iter().map(Slot::view).collect();
        let Some((from, to)) = gap(&views) else {
            self.gap_steps = 0;
            return;
        };
        self.gap_steps += 1;
        let is_short = (1..=MOVE_TOKENS_MAX).contains(&self.slots[from].held.len());
        if self.gap_steps <= GAP_STEPS_MAX || !is_short || self.slots[from].answer().is_none() {
            return;
        }
        self.gap_steps = 0;
        self.put_aside(to, 0, 0);
        if self.copy(from, to) {
            self.slots[to].occupant = self.slots[from].occupant.take();
            self.slots[to].used = self.slots[from].used;
        } else {
            self.forget(to);
        }
    }
}

/// A slot's number in the native context.
pub(super) fn number(slot: usize) -> u16 {
    u16::try_from(slot).expect("256 slots at most")
}
