//! What is remembered of earlier inputs, and where the next one is best continued.
//!
//! A slot keeps what it holds after its sequence has ended. The next input goes where most of it is
//! remembered already; what would be lost by that is first put aside, as bytes, up to a bound. All
//! decisions are here, without the native library.

use super::native::Token;

/// Tokens that are worth the copying of a state. Fewer are read again in less time.
pub(crate) const COPY_TOKENS_MIN: usize = 32;
/// Copying a state takes this much less time than computing it, at least.
const COPY_IS_FASTER: usize = 8;

/// A slot as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// The tokens it remembers.
    pub held: &'a [Token],
    pub is_free: bool,
    /// When it was last used, as a count.
    pub used: u64,
}

/// Where to put an input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    pub slot: usize,
    pub from: Origin,
    /// Tokens of the input that need not be read again.
    pub tokens: usize,
}

/// Where what is remembered comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Nothing of use is remembered.
    Nowhere,
    /// The slot holds it itself.
    Here,
    /// A copy of another slot's.
    Slot(usize),
    /// What was put aside.
    Aside(usize),
}

/// Tokens at the beginning that are the same in both.
pub(crate) fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Of what is held, how much an input can use. The last token of an input is always read, because
/// the first of the answer follows from it. A state that cannot be cut is used whole or not at all.
fn usable(prompt: &[Token], held: &[Token], can_be_cut: bool) -> usize {
    let common = common(prompt, held).min(prompt.len().saturating_sub(1));
    if can_be_cut || common == held.len() { common } else { 0 }
}

/// Chooses a slot and what to begin with. None when no slot is free. What is copied goes through the
/// memory for what is put aside, so without such memory nothing is.
pub(crate) fn choose(
    prompt: &[Token],
    slots: &[View<'_>],
    aside: &Aside,
    can_be_cut: bool,
) -> Option<Choice> {
    let blank = blank(slots)?;
    let use_of = |held| usable(prompt, held, can_be_cut);
    let mut best = Choice { slot: blank, from: Origin::Nowhere, tokens: 0 };
    let here = use_of(slots[blank].held);
    if here > 0 {
        best = Choice { slot: blank, from: Origin::Here, tokens: here };
    }
    // In place elsewhere: nothing is copied, unless the sequences would no longer be neighbours or
    // much more would be lost than is gained.
    for (slot, view) in slots.iter().enumerate().filter(|(_, view)| view.is_free) {
        let tokens = use_of(view.held);
        let is_mostly_used = view.held.len() - tokens <= tokens;
        let is_good =
            is_neighbour(slots, slot) && (is_mostly_used || !slots[blank].held.is_empty());
        // Nothing is copied, so even little is worth it where little is lost.
        let gain = if is_mostly_used { 1 } else { COPY_TOKENS_MIN };
        if is_good && tokens >= best.tokens + gain {
            best = Choice { slot, from: Origin::Here, tokens };
        }
    }
    let in_slots = slots.iter().enumerate().map(|(n, view)| (Origin::Slot(n), view.held));
    let put_aside = aside.entries.iter().enumerate();
    let put_aside = put_aside.map(|(n, entry)| (Origin::Aside(n), entry.tokens.as_slice()));
    for (from, held) in in_slots.chain(put_aside).filter(|_| aside.bytes_max > 0) {
        let tokens = use_of(held);
        let is_worth_it = tokens.saturating_mul(COPY_IS_FASTER) >= held.len();
        if is_worth_it && tokens >= best.tokens + COPY_TOKENS_MIN && from != Origin::Slot(blank) {
            best = Choice { slot: blank, from, tokens };
        }
    }
    Some(best)
}

/// Whether an input should wait for others that are being read: they will soon be remembered
/// further than all that is now, by more than it is worth to copy. Each is what is remembered of it
/// already, and the whole; one that was read past what is shared brings no more.
pub(crate) fn is_worth_waiting<'a>(
    prompt: &[Token],
    slots: &[View<'_>],
    aside: &Aside,
    can_be_cut: bool,
    being_read: impl Iterator<Item = (&'a [Token], &'a [Token])>,
) -> bool {
    if aside.bytes_max == 0 || !can_be_cut {
        return false;
    }
    let now = choose(prompt, slots, aside, can_be_cut).map_or(0, |choice| choice.tokens);
    let soon = being_read
        .map(|(held, whole)| (held.len(), usable(prompt, whole, can_be_cut)))
        .filter(|(held, shared)| held < shared)
        .map(|(_, shared)| shared);
    soon.max().unwrap_or(0) >= now + 2 * COPY_TOKENS_MIN
}

/// The free slot whose use costs least. Sequences are computed together only where their slots
/// follow each other, so a place between or beside busy ones comes first.
fn blank(slots: &[View<'_>]) -> Option<usize> {
    let free = || (0..slots.len()).filter(|slot| slots[*slot].is_free);
    let order = |slot: &usize| {
        let is_between = is_between(slots, *slot);
        (
            !is_between,
            !is_neighbour(slots, *slot),
            !slots[*slot].held.is_empty(),
            slots[*slot].used,
            *slot,
        )
    };
    free().min_by_key(order)
}

fn is_between(slots: &[View<'_>], slot: usize) -> bool {
    slots[..slot].iter().any(|view| !view.is_free) && slots[slot..].iter().any(|view| !view.is_free)
}

/// Whether a sequence in this slot would be computed together with the others.
fn is_neighbour(slots: &[View<'_>], slot: usize) -> bool {
    let is_busy = |slot: usize| slots.get(slot).is_some_and(|view| !view.is_free);
    slots.iter().all(|view| view.is_free)
        || is_busy(slot + 1)
        || slot.checked_sub(1).is_some_and(is_busy)
}

/// A sequence that is computed apart from the others because of a gap, and the free slot that would
/// close it: from, to.
pub(crate) fn gap(slots: &[View<'_>]) -> Option<(usize, usize)> {
    let first = slots.iter().position(|view| !view.is_free)?;
    let to = (first..slots.len()).find(|slot| slots[*slot].is_free)?;
    let from = (to..slots.len()).rfind(|slot| !slots[*slot].is_free)?;
    Some((from, to))
}

/// States that were put aside, the least recently used first to go.
#[derive(Debug)]
pub(crate) struct Aside {
    entries: Vec<Entry>,
    bytes: u64,
    bytes_max: u64,
}

#[derive(Debug)]
struct Entry {
    tokens: Vec<Token>,
    state: Vec<u8>,
    used: u64,
}

impl Entry {
    fn bytes(&self) -> u64 {
        (self.state.len() + size_of_val(self.tokens.as_slice())) as u64
    }
}

impl Aside {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { entries: Vec::new(), bytes: 0, bytes_max }
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tokens that are held.
    pub(crate) fn tokens(&self) -> u64 {
        self.entries.iter().map(|entry| entry.tokens.len() as u64).sum()
    }

    /// Whether a state of so many tokens and bytes would be kept: it fits, it is worth it, and it is
    /// not known already.
    pub(crate) fn wants(&self, tokens: &[Token], bytes: usize) -> bool {
        tokens.len() >= COPY_TOKENS_MIN
            && (bytes + size_of_val(tokens)) as u64 <= self.bytes_max
            && !self.entries.iter().any(|entry| entry.tokens.starts_with(tokens))
    }

    /// Puts a state aside. What is a part of it goes, if states can be cut, and what was not used
    /// for longest.
    pub(crate) fn put(&mut self, tokens: Vec<Token>, state: Vec<u8>, now: u64, can_be_cut: bool) {
        if !self.wants(&tokens, state.len()) {
            return;
        }
        if can_be_cut {
            self.remove_where(|entry| tokens.starts_with(&entry.tokens));
        }
        let entry = Entry { tokens, state, used: now };
        self.make_room(entry.bytes());
        self.bytes += entry.bytes();
        self.entries.push(entry);
    }

    /// Takes a state out, with the tokens it remembers. To be put back.
    pub(crate) fn remove(&mut self, number: usize) -> Option<(Vec<Token>, Vec<u8>)> {
        if number >= self.entries.len() {
            return None;
        }
        let entry = self.entries.swap_remove(number);
        self.bytes -= entry.bytes();
        Some((entry.tokens, entry.state))
    }

    /// Lets the oldest go until there is room for so many bytes. False when there never is.
    pub(crate) fn make_room(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes_max {
            return false;
        }
        while self.bytes + bytes > self.bytes_max {
            let oldest = (0..self.entries.len()).min_by_key(|n| self.entries[*n].used);
            self.remove(oldest.expect("there is room when all are gone"));
        }
        true
    }

    fn remove_where(&mut self, goes: impl Fn(&Entry) -> bool) {
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            let stays = !goes(entry);
            if !stays {
                *bytes -= entry.bytes();
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(range: std::ops::Range<Token>) -> Vec<Token> {
        range.collect()
    }

    fn free(held: &[Token], used: u64) -> View<'_> {
        View { held, is_free: true, used }
    }

    fn busy(held: &[Token]) -> View<'_> {
        View { held, is_free: false, used: 0 }
    }

    fn chosen(prompt: &[Token], slots: &[View<'_>]) -> Choice {
        choose(prompt, slots, &Aside::new(1 << 20), true).unwrap()
    }

    #[test]
    fn a_conversation_goes_on_where_it_was() {
        let (mine, other) = (tokens(0..200), tokens(500..900));
        let prompt = tokens(0..260);
        let choice = chosen(&prompt, &[free(&other, 1), free(&mine, 2), free(&[], 0)]);
        assert_eq!(choice, Choice { slot: 1, from: Origin::Here, tokens: 200 });
        // All but the last token, even of the same input.
        assert_eq!(chosen(&mine, &[free(&mine, 1)]).tokens, 199);
    }

    #[test]
    fn an_unknown_input_goes_where_nothing_is_lost_or_what_is_oldest() {
        let (a, b) = (tokens(100..200), tokens(300..400));
        let prompt = tokens(0..50);
        let choice = chosen(&prompt, &[free(&a, 1), free(&[], 9), free(&b, 2)]);
        assert_eq!((choice.slot, choice.from), (1, Origin::Nowhere));
        assert_eq!(chosen(&prompt, &[free(&a, 3), free(&b, 2)]).slot, 1);
        assert_eq!(choose(&prompt, &[busy(&a)], &Aside::new(0), true), None);
    }

    #[test]
    fn a_shared_beginning_is_copied_from_a_busy_slot() {
        let held = tokens(0..300);
        let mut prompt = tokens(0..120);
        prompt.extend(5000..5050);
        let choice = chosen(&prompt, &[busy(&held), free(&[], 0)]);
        assert_eq!(choice, Choice { slot: 1, from: Origin::Slot(0), tokens: 120 });
        let without = choose(&prompt, &[busy(&held), free(&[], 0)], &Aside::new(0), true);
        assert_eq!(without.unwrap().from, Origin::Nowhere);
        // Not where most of the copy would be thrown away.
        let long = tokens(0..3000);
        assert_eq!(chosen(&prompt, &[busy(&long), free(&[], 0)]).from, Origin::Nowhere);
    }

    #[test]
    fn a_long_conversation_is_not_lost_to_a_short_beginning() {
        let held = tokens(0..900);
        let mut prompt = tokens(0..200);
        prompt.extend(5000..5050);
        let choice = chosen(&prompt, &[free(&held, 5), free(&[], 0)]);
        assert_eq!(choice, Choice { slot: 1, from: Origin::Slot(0), tokens: 200 });
    }

    #[test]
    fn sequences_stay_neighbours() {
        let (a, mine) = (tokens(900..950), tokens(0..100));
        let prompt = tokens(0..130);
        let slots = [busy(&a), free(&[], 0), busy(&a), free(&[], 0), free(&mine, 7)];
        let choice = chosen(&prompt, &slots);
        assert_eq!(choice, Choice { slot: 1, from: Origin::Slot(4), tokens: 100 });
        assert_eq!(gap(&slots), Some((2, 1)));
        assert_eq!(gap(&[free(&[], 0), busy(&a), busy(&a), free(&[], 0)]), None);
        assert_eq!(gap(&[free(&[], 0)]), None);
        let slots = [free(&[], 0), busy(&a), free(&[], 0), free(&[], 0), busy(&a)];
        assert_eq!(gap(&slots), Some((4, 2)));
    }

    #[test]
    fn what_another_is_reading_is_waited_for() {
        let whole = tokens(0..500);
        let mut prompt = tokens(0..400);
        prompt.extend(9000..9010);
        let waits = |read: usize, bytes_max| {
            let slots = [busy(&whole[..read]), free(&[], 0)];
            let aside = Aside::new(bytes_max);
            let other = (&whole[..read], whole.as_slice());
            is_worth_waiting(&prompt, &slots, &aside, true, std::iter::once(other))
        };
        assert!(waits(0, 1000) && waits(300, 1000));
        assert!(!waits(380, 1000) && !waits(500, 1000) && !waits(0, 0));
    }

    #[test]
    fn nobody_waits_for_the_rest_of_a_long_input_that_is_none_of_its_own() {
        let whole = tokens(0..20_000);
        let mut prompt = tokens(0..200);
        prompt.extend(90_000..90_010);
        let waits = |read: usize| {
            let slots = [busy(&whole[..read]), free(&[], 0)];
            let other = (&whole[..read], whole.as_slice());
            let aside = Aside::new(1000);
            is_worth_waiting(&prompt, &slots, &aside, true, std::iter::once(other))
        };
        assert!(waits(0));
        // So much is held by then that its copy is not worth the little that is shared.
        assert!(!waits(5_000));
    }

    #[test]
    fn a_state_that_cannot_be_cut_is_used_whole_or_not() {
        let held = tokens(0..100);
        let choose_of = |prompt: &[Token]| {
            choose(prompt, &[free(&held, 0)], &Aside::new(0), false).unwrap().tokens
        };
        assert_eq!(choose_of(&tokens(0..101)), 100);
        assert_eq!(choose_of(&tokens(0..100)), 0);
        assert_eq!(choose_of(&tokens(0..50)), 0);
    }

    #[test]
    fn what_was_put_aside_comes_back() {
        let mut aside = Aside::new(10_000);
        aside.put(tokens(0..100), vec![1; 1000], 1, true);
        let prompt = tokens(0..110);
        let choice = choose(&prompt, &[free(&[], 0)], &aside, true).unwrap();
        assert_eq!(choice, Choice { slot: 0, from: Origin::Aside(0), tokens: 100 });
        let (held, state) = aside.remove(0).unwrap();
        assert_eq!((held.len(), state.len(), aside.bytes()), (100, 1000, 0));
        aside.put(held, state, 2, true);
        assert!(!aside.wants(&tokens(0..90), 1000), "a part of it is known");
        // A longer one takes its place.
        aside.put(tokens(0..200), vec![1; 2000], 3, true);
        assert_eq!((aside.tokens(), aside.bytes()), (200, 2800));
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_the_newest_stays(
            puts in prop::collection::vec((32..200_i32, 1..3000_usize, 0..6_i32), 1..40),
        ) {
            let mut aside = Aside::new(4000);
            for (now, (length, bytes, kind)) in (0..).zip(puts) {
                let held = tokens(kind * 1000..kind * 1000 + length);
                let is_wanted = aside.wants(&held, bytes);
                aside.put(held.clone(), vec![0; bytes], now, true);
                prop_assert!(aside.bytes() <= 4000);
                let sum: u64 = aside.entries.iter().map(Entry::bytes).sum();
                prop_assert_eq!(aside.bytes(), sum);
                prop_assert!(!is_wanted || aside.entries.iter().any(|e| e.tokens == held));
            }
        }

        #[test]
        fn a_choice_is_free_and_what_it_promises_is_there(
            prompt in prop::collection::vec(0..2_i32, 1..120),
            held in prop::collection::vec(
                (prop::collection::vec(0..2_i32, 0..120), any::<bool>(), 0..9_u64, any::<bool>()), 1..6),
        ) {
            let held: Vec<_> = held.into_iter().map(|(tokens, is_free, used, is_same)| {
                (if is_same { prompt.clone() } else { tokens }, is_free, used)
            }).collect();
            let slots: Vec<_> = held.iter()
                .map(|(held, is_free, used)| View { held, is_free: *is_free, used: *used }).collect();
            match choose(&prompt, &slots, &Aside::new(0), true) {
                None => prop_assert!(slots.iter().all(|view| !view.is_free)),
                Some(choice) => {
                    prop_assert!(slots[choice.slot].is_free);
                    prop_assert!(choice.tokens < prompt.len());
                    let source = match choice.from {
                        Origin::Nowhere => [].as_slice(),
                        Origin::Here => slots[choice.slot].held,
                        Origin::Slot(n) => slots[n].held,
                        Origin::Aside(_) => unreachable!(),
                    };
                    prop_assert!(common(&prompt, source) >= choice.tokens);
                }
            }
        }
    }
}
