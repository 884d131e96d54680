//! Reads grammars in llama.cpp's notation.

use std::collections::HashMap;

use super::Node;
use crate::{
    ConstraintError,
    limits::{GRAMMAR_RULES_MAX, REPEAT_MAX},
};

/// Brackets inside brackets.
const DEPTH_MAX: usize = 20;

/// The rules of a grammar, the root first to begin with.
pub(super) fn parse(text: &str) -> Result<(Vec<Node>, usize), ConstraintError> {
    let mut parser = Parser { text, at: 0, known: HashMap::new(), rules: vec![] };
    parser.grammar()?;
    let undefined = || invalid("the grammar names a rule that it does not define");
    let rules: Option<Vec<Node>> = parser.rules.into_iter().collect();
    let rules = rules.ok_or_else(undefined)?;
    let root = parser.known.get("root");
    let root = *root.ok_or_else(|| invalid("the grammar has no rule named root"))?;
    Ok((rules, root))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    known: HashMap<&'a str, usize>,
    rules: Vec<Option<Node>>,
}

fn invalid(words: &str) -> ConstraintError {
    ConstraintError::Invalid(words.into())
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, words: &str) -> Result<T, ConstraintError> {
        let line = self.text[..self.at].matches('\n').count() + 1;
        Err(ConstraintError::Invalid(format!("the grammar is not valid in line {line}: {words}")))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eats(&mut self, text: &str) -> bool {
        let does = self.text[self.at..].starts_with(text);
        if does {
            self.at += text.len();
        }
        does
    }

    /// Passes over blanks and comments, and line breaks where they mean nothing.
    fn space(&mut self, with_lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                '#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                '\n' | '\r' if !with_lines => return,
                ' ' | '\t' | '\n' | '\r' => self.at += 1,
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    fn rule_number(&mut self, name: &'a str) -> Result<usize, ConstraintError> {
        let next = self.rules.len();
        let number = *self.known.entry(name).or_insert(next);
        if number == next {
            if next >= GRAMMAR_RULES_MAX {
                let words = format!("the grammar has more than {GRAMMAR_RULES_MAX} rules");
                return Err(ConstraintError::TooComplex(words));
            }
            self.rules.push(None);
        }
        Ok(number)
    }

    fn grammar(&mut self) -> Result<(), ConstraintError> {
        self.space(true);
        while self.peek().is_some() {
            let Some(name) = self.name() else { return self.fail("a rule should begin here") };
            self.space(false);
            if !self.eats("::=") {
                return self.fail("::= is missing");
            }
            self.space(true);
            let number = self.rule_number(name)?;
            let node = self.either(0)?;
            self.rules[number] = Some(node);
            if !matches!(self.peek(), None | Some('\n' | '\r')) {
                return self.fail("the rule should end here");
            }
            self.space(true);
        }
        Ok(())
    }

    fn either(&mut self, depth: usize) -> Result<Node, ConstraintError> {
        if depth > DEPTH_MAX {
            return Err(ConstraintError::TooComplex("the grammar is nested too deeply".into()));
        }
        let mut options = vec![self.sequence(depth)?];
        loop {
            // A new line may begin with the next option.
            let before = self.at;
            self.space(true);
            if !self.eats("|") {
                if depth == 0 {
                    self.at = before;
                }
                break;
            }
            self.space(true);
            options.push(self.sequence(depth)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Either(options) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, ConstraintError> {
        let mut parts = Vec::new();
        loop {
            self.space(depth > 0);
            let Some(c) = self.peek() else { break };
            let part = match c {
                '"' => self.literal()?,
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    Node::Class(vec![('\0', char::MAX)], false)
                }
                '(' => {
                    self.at += 1;
                    self.space(true);
                    let inner = self.either(depth + 1)?;
                    self.space(true);
                    if !self.eats(")") {
                        return self.fail("a bracket is not closed");
                    }
                    inner
                }
                '<' | '!' => {
                    let words = "tokens in grammars are not supported";
                    return Err(ConstraintError::Unsupported(words.into()));
                }
                _ => {
                    let Some(name) = self.name() else { break };
                    Node::Rule(self.rule_number(name)?)
                }
            };
            parts.push(self.repeated(part)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::Sequence(parts) })
    }

    fn repeated(&mut self, mut part: Node) -> Result<Node, ConstraintError> {
        loop {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    self.space(false);
                    let least = self.number()?;
                    self.space(false);
                    let most = if self.eats(",") {
                        self.space(false);
                        if self.peek() == Some('}') { None } else { Some(self.number()?) }
                    } else {
                        Some(least)
                    };
                    self.space(false);
                    if self.peek() != Some('}') || most.is_some_and(|most| most < least) {
                        return self.fail("this is no number of repetitions");
                    }
                    (least, most)
                }
                _ => return Ok(part),
            };
            self.at += 1;
            part = Node::Repeat(Box::new(part), least, most);
        }
    }

    fn number(&mut self) -> Result<u64, ConstraintError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        match rest[..end].parse::<u64>() {
            Ok(number) if number <= REPEAT_MAX => Ok(number),
            Ok(_) => {
                let words = format!("the grammar repeats something more than {REPEAT_MAX} times");
                Err(ConstraintError::TooComplex(words))
            }
            Err(_) => self.fail("a number is missing"),
        }
    }

    fn literal(&mut self) -> Result<Node, ConstraintError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => return self.fail("a text is not closed"),
                Some('"') => {
                    self.at += 1;
                    return Ok(Node::Literal(text));
                }
                Some(_) => text.push(self.character()?),
            }
        }
    }

    fn class(&mut self) -> Result<Node, ConstraintError> {
        self.at += 1;
        let negated = self.eats("^");
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                None | Some('\n') => return self.fail("a class of characters is not closed"),
                Some(']') => break,
                Some(_) => {}
            }
            let from = self.character()?;
            let is_range =
                self.text[self.at..].starts_with('-') && !self.text[self.at..].starts_with("-]");
            let to = if is_range {
                self.at += 1;
                self.character()?
            } else {
                from
            };
            if to < from {
                return self.fail("a range of characters is the wrong way round");
            }
            ranges.push((from, to));
        }
        self.at += 1;
        if ranges.is_empty() && !negated {
            return self.fail("a class of characters is empty");
        }
        let is_all = ranges.is_empty();
        Ok(if is_all {
            Node::Class(vec![('\0', char::MAX)], false)
        } else {
            Node::Class(ranges, negated)
        })
    }

    fn character(&mut self) -> Result<char, ConstraintError> {
        let Some(c) = self.next() else { return self.fail("a character is missing") };
        if c != '\\' {
            return Ok(c);
        }
        let digits = match self.next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('"' | '\\' | '[' | ']' | '-' | '^' | '/' | '.')) => return Ok(c),
            _ => return self.fail("this escape is not known"),
        };
        let number = self.text.get(self.at..self.at + digits);
        let number = number.filter(|n| n.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = number.and_then(|n| u32::from_str_radix(n, 16).ok());
        match number.and_then(char::from_u32) {
            Some(c) => {
                self.at += digits;
                Ok(c)
            }
            None => self.fail("this is no character"),
        }
    }
}
