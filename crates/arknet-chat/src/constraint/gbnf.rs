//! Grammars in llama.cpp's notation (GBNF), translated to Lark's.
//!
//! GBNF speaks of characters; the library that follows grammars reads words first, and a word takes
//! as many characters as it can. Words are what makes it fast. So whatever is regular becomes one
//! word (a terminal): every rule that does not lead back to itself, and in the other rules each run
//! of such parts. Where a word could swallow what belongs to the next one, every character becomes a
//! word of its own: slower, and right.

mod overlap;
mod parser;

use super::{ConstraintError, calls::quoted};
use crate::limits::GRAMMAR_WORD_SIZE_MAX;

/// A part of a rule.
#[derive(Clone, Debug)]
enum Node {
    Literal(String),
    /// Characters, from and to, and whether those or all others.
    Class(Vec<(char, char)>, bool),
    Rule(usize),
    Sequence(Vec<Self>),
    Either(Vec<Self>),
    Repeat(Box<Self>, u64, Option<u64>),
    /// Something regular, as one word.
    Word(Box<Self>),
}

/// Translates a grammar.
pub(super) fn to_lark(text: &str) -> Result<String, ConstraintError> {
    let (rules, root) = parser::parse(text)?;
    check_size(&rules)?;
    // Most often what could swallow too much is white space, which many rules end with.
    let empty = overlap::may_be_empty(&rules);
    for apart in [&vec![false; rules.len()], &empty] {
        let (regular, _) = regular(&rules, apart);
        let in_words: Vec<Node> = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| match (regular[at], apart[at]) {
                (true, _) => rule.clone(),
                (false, true) => characters(rule),
                (false, false) => words(rule, &regular),
            })
            .collect();
        if overlap::is_safe(&in_words, &regular) {
            return Ok(write(&in_words, root, &regular));
        }
    }
    let by_character: Vec<Node> = rules.iter().map(characters).collect();
    Ok(write(&by_character, root, &vec![false; rules.len()]))
}

/// A rule that leads back to itself, with its regular parts as words.
fn words(node: &Node, regular: &[bool]) -> Node {
    let word = |node: Node| match node {
        // A rule that is regular is a word anyway.
        Node::Rule(_) => node,
        node => Node::Word(Box::new(node)),
    };
    if is_regular(node, regular) {
        return word(node.clone());
    }
    match node {
        Node::Sequence(parts) => {
            let mut written = Vec::new();
            let mut rest = parts.as_slice();
            while let Some(first) = rest.first() {
                let run = rest.iter().take_while(|part| is_regular(part, regular)).count();
                match run {
                    0 => written.push(words(first, regular)),
                    1 => written.push(word(first.clone())),
                    run => written.push(word(Node::Sequence(rest[..run].to_vec()))),
                }
                rest = &rest[run.max(1)..];
            }
            Node::Sequence(written)
        }
        Node::Either(parts) => {
            Node::Either(parts.iter().map(|part| words(part, regular)).collect())
        }
        Node::Repeat(part, least, most) => {
            Node::Repeat(Box::new(words(part, regular)), *least, *most)
        }
        other => other.clone(),
    }
}

/// The same with every character as a word.
fn characters(node: &Node) -> Node {
    let word = |node| Node::Word(Box::new(node));
    match node {
        Node::Literal(text) => {
            let each = text.chars().map(|c| word(Node::Literal(c.to_string())));
            Node::Sequence(each.collect())
        }
        Node::Class(..) => word(node.clone()),
        Node::Sequence(parts) => Node::Sequence(parts.iter().map(characters).collect()),
        Node::Either(parts) => Node::Either(parts.iter().map(characters).collect()),
        Node::Repeat(part, least, most) => Node::Repeat(Box::new(characters(part)), *least, *most),
        Node::Rule(_) | Node::Word(_) => node.clone(),
    }
}

fn is_regular(node: &Node, regular: &[bool]) -> bool {
    let mut used = Vec::new();
    references(node, &mut used);
    used.into_iter().all(|rule| regular[rule])
}

/// Which rules do not lead back to themselves, nor to one that does or is to be kept apart.
/// Also in which order they use each other, those that use none first.
fn regular(rules: &[Node], apart: &[bool]) -> (Vec<bool>, Vec<usize>) {
    let mut users: Vec<Vec<usize>> = vec![vec![]; rules.len()];
    let mut open = vec![0_usize; rules.len()];
    for (at, rule) in rules.iter().enumerate() {
        let mut used = Vec::new();
        references(rule, &mut used);
        open[at] = used.len() + usize::from(apart[at]);
        for other in used {
            users[other].push(at);
        }
    }
    let mut is_regular = vec![false; rules.len()];
    let mut order = Vec::new();
    let mut ready: Vec<usize> = (0..rules.len()).filter(|at| open[*at] == 0).collect();
    while let Some(at) = ready.pop() {
        is_regular[at] = true;
        order.push(at);
        for user in &users[at] {
            open[*user] -= 1;
            if open[*user] == 0 {
                ready.push(*user);
            }
        }
    }
    (is_regular, order)
}

/// Refuses words that would be too large, written out. Rules that double each other make them so.
fn check_size(rules: &[Node]) -> Result<(), ConstraintError> {
    let (_, order) = regular(rules, &vec![false; rules.len()]);
    let mut sizes = vec![1_u64; rules.len()];
    for at in order {
        sizes[at] = size(&rules[at], &sizes);
        if sizes[at] > GRAMMAR_WORD_SIZE_MAX {
            let words = "the grammar is too large when its rules are written out";
            return Err(ConstraintError::TooComplex(words.into()));
        }
    }
    Ok(())
}

fn size(node: &Node, sizes: &[u64]) -> u64 {
    match node {
        Node::Literal(text) => text.len() as u64,
        Node::Class(..) => 1,
        Node::Rule(number) => sizes[*number],
        Node::Sequence(parts) | Node::Either(parts) => {
            parts.iter().fold(0, |sum, part| sum.saturating_add(size(part, sizes)))
        }
        Node::Repeat(part, least, most) => {
            // Without an end, the last one is repeated in place.
            size(part, sizes).saturating_mul(most.unwrap_or(*least).max(1))
        }
        Node::Word(part) => size(part, sizes),
    }
}

fn references(node: &Node, found: &mut Vec<usize>) {
    match node {
        Node::Literal(_) | Node::Class(..) => {}
        Node::Rule(number) => found.push(*number),
        Node::Sequence(parts) | Node::Either(parts) => {
            for part in parts {
                references(part, found);
            }
        }
        Node::Repeat(part, ..) | Node::Word(part) => references(part, found),
    }
}

/// The grammar in Lark's notation.
fn write(rules: &[Node], root: usize, regular: &[bool]) -> String {
    let mut writer = Writer { regular, words: String::new(), count: 0 };
    let mut lark = format!("start: {}\n", writer.name(root));
    for (at, rule) in rules.iter().enumerate() {
        let body = writer.node(rule, regular[at]);
        lark.push_str(&format!("{}: {body}\n", writer.name(at)));
    }
    lark + &writer.words
}

struct Writer<'a> {
    regular: &'a [bool],
    words: String,
    count: usize,
}

impl Writer<'_> {
    fn name(&self, rule: usize) -> String {
        format!("{}{rule}", if self.regular[rule] { "R" } else { "r" })
    }

    fn node(&mut self, node: &Node, in_word: bool) -> String {
        match node {
            Node::Literal(text) => quoted(text),
            Node::Class(ranges, negated) => {
                let mut class = String::from(if *negated { "/[^" } else { "/[" });
                for (from, to) in ranges {
                    let (from, to) = (u32::from(*from), u32::from(*to));
                    class.push_str(&format!("\\x{{{from:x}}}-\\x{{{to:x}}}"));
                }
                class + "]/"
            }
            Node::Rule(number) => self.name(*number),
            Node::Sequence(parts) if parts.is_empty() => "\"\"".into(),
            Node::Sequence(parts) => format!("({})", self.nodes(parts, in_word).join(" ")),
            Node::Either(parts) => format!("({})", self.nodes(parts, in_word).join(" | ")),
            Node::Repeat(part, least, most) => repeat(&self.node(part, in_word), *least, *most),
            Node::Word(part) if in_word => self.node(part, true),
            Node::Word(part) => {
                let body = self.node(part, true);
                if matches!(**part, Node::Literal(_) | Node::Class(..)) {
                    return body;
                }
                let name = format!("W{}", self.count);
                self.count += 1;
                self.words.push_str(&format!("{name}: {body}\n"));
                name
            }
        }
    }

    fn nodes(&mut self, parts: &[Node], in_word: bool) -> Vec<String> {
        parts.iter().map(|part| self.node(part, in_word)).collect()
    }
}

fn repeat(part: &str, least: u64, most: Option<u64>) -> String {
    match (least, most) {
        (0, None) => format!("({part})*"),
        (1, None) => format!("({part})+"),
        (0, Some(1)) => format!("({part})?"),
        (_, Some(0)) => "\"\"".into(),
        (least, None) => format!("({part}){{{least},}}"),
        (least, Some(most)) => format!("({part}){{{least},{most}}}"),
    }
}
