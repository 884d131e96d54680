//! Whether a word could swallow what belongs to the next one.

use super::Node;

/// Rounds after which sets that still grow are given up on.
const ROUNDS_MAX: usize = 64;

/// Characters as ranges, in order and apart from each other.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Set(Vec<(u32, u32)>);

impl Set {
    fn of(ranges: &[(char, char)], negated: bool) -> Self {
        let all = ranges.iter().map(|(from, to)| (u32::from(*from), u32::from(*to)));
        let set = Self(all.collect()).in_order();
        if !negated {
            return set;
        }
        let mut others = Vec::new();
        let mut next = 0;
        for (from, to) in set.0 {
            if from > next {
                others.push((next, from - 1));
            }
            next = to + 1;
        }
        others.push((next, u32::MAX));
        Self(others)
    }

    fn in_order(mut self) -> Self {
        self.0.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for (from, to) in self.0 {
            match joined.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        Self(joined)
    }

    fn add(&mut self, other: &Self) {
        if !other.0.is_empty() && self != other {
            self.0.extend_from_slice(&other.0);
            *self = std::mem::take(self).in_order();
        }
    }

    fn meets(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.1 < y.0 {
                a.next();
            } else if y.1 < x.0 {
                b.next();
            } else {
                return true;
            }
        }
        false
    }
}

/// What is known of a part: how it may begin, and what could still belong to its end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Edges {
    may_be_empty: bool,
    first: Set,
    /// Characters that, after a complete match, a longer one could go on with.
    more: Set,
    /// All characters it may hold.
    all: Set,
    /// Whether somewhere inside a word could swallow what belongs to the next one.
    clash: bool,
}

/// Whether following the words as long as they go follows the grammar.
pub(super) fn is_safe(rules: &[Node], regular: &[bool]) -> bool {
    settle(rules, regular).is_some_and(|known| known.iter().all(|edges| !edges.clash))
}

/// Which rules may be nothing at all. None where that takes too long to say.
pub(super) fn may_be_empty(rules: &[Node]) -> Vec<bool> {
    match settle(rules, &vec![true; rules.len()]) {
        Some(known) => known.iter().map(|edges| edges.may_be_empty).collect(),
        None => vec![false; rules.len()],
    }
}

/// The edges of all rules: what they begin with depends on other rules.
fn settle(rules: &[Node], regular: &[bool]) -> Option<Vec<Edges>> {
    let mut known = vec![Edges::default(); rules.len()];
    for _ in 0..ROUNDS_MAX {
        let mut is_stable = true;
        for (at, rule) in rules.iter().enumerate() {
            let edges = edges(rule, regular[at], &known);
            is_stable &= edges == known[at];
            known[at] = edges;
        }
        if is_stable {
            return Some(known);
        }
    }
    None
}

fn edges(node: &Node, in_word: bool, known: &[Edges]) -> Edges {
    match node {
        Node::Literal(text) => {
            let first = text.chars().next().map(|c| (c, c));
            Edges {
                may_be_empty: first.is_none(),
                first: Set::of(first.as_slice(), false),
                all: Set(text.chars().map(|c| (u32::from(c), u32::from(c))).collect()).in_order(),
                ..Edges::default()
            }
        }
        Node::Class(ranges, negated) => {
            let first = Set::of(ranges, *negated);
            Edges { all: first.clone(), first, ..Edges::default() }
        }
        Node::Rule(number) => known[*number].clone(),
        Node::Word(part) => edges(part, true, known),
        Node::Sequence(parts) => {
            let empty = Edges { may_be_empty: true, ..Edges::default() };
            parts.iter().fold(empty, |a, part| follow(a, edges(part, in_word, known), in_word))
        }
        Node::Either(parts) => either(parts, in_word, known),
        Node::Repeat(part, least, most) => {
            let once = edges(part, in_word, known);
            let mut all = once.clone();
            if *most != Some(1) {
                all = follow(all, once.clone(), in_word);
            }
            all.may_be_empty |= *least == 0;
            if in_word {
                all.more.add(&once.first);
            }
            all
        }
    }
}

/// One part after another. Inside of a word they are matched as one.
fn follow(a: Edges, b: Edges, in_word: bool) -> Edges {
    let clash = a.clash || b.clash || (!in_word && a.more.meets(&b.first));
    let mut first = a.first;
    if a.may_be_empty {
        first.add(&b.first);
    }
    let mut more = b.more;
    if b.may_be_empty {
        more.add(&a.more);
        if in_word {
            more.add(&b.first);
        }
    }
    let mut all = a.all;
    all.add(&b.all);
    Edges { may_be_empty: a.may_be_empty && b.may_be_empty, first, more, all, clash }
}

fn either(parts: &[Node], in_word: bool, known: &[Edges]) -> Edges {
    let mut all = Edges::default();
    for part in parts {
        let one = edges(part, in_word, known);
        // Of two options that begin alike, one may be the beginning of the other.
        if in_word && (all.first.meets(&one.first)) {
            all.more.add(&all.all.clone());
            all.more.add(&one.all);
        }
        if in_word && one.may_be_empty {
            all.more.add(&all.first.clone());
        }
        if in_word && all.may_be_empty {
            all.more.add(&one.first);
        }
        all.may_be_empty |= one.may_be_empty;
        all.first.add(&one.first);
        all.more.add(&one.more);
        all.all.add(&one.all);
        all.clash |= one.clash;
    }
    all
}
