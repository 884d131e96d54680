//! From what is asked to tokens, so that nobody's text can become a control token.
//!
//! A chat template marks where a message begins and ends with control tokens, written as text:
//! `<|im_end|>`. Were the whole rendered text read with these recognised, a user who writes
//! `<|im_end|>` would end the message and could go on as the system. So before rendering, every
//! occurrence of such a text inside a message is put between two marks; after rendering, what lies
//! between marks is read as plain text, all else as the template's own. Marking only the
//! occurrences, and not whole messages, keeps everything else as models were trained on it:
//! templates may trim, split and compare contents, and words are tokenised together with what the
//! template puts beside them.
//!
//! Two messages that a template writes directly one after the other could make up a control token
//! between them; so the beginning of one at the end of a message, and the end of one at the
//! beginning, are marked too. The marks are noncharacters of Unicode, and taken out of contents.

use std::ops::Range;

use super::native::{Model, Token};

const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';
/// Stands for a picture in a rendered conversation.
pub(crate) const PICTURE: &str = "\u{fdd4}";

/// The texts of control tokens.
pub(crate) struct ControlTexts {
    /// Longest first, so that the first that fits is the one the tokeniser would take.
    texts: Vec<String>,
    /// Which bytes begin one, so that most of a message is passed over quickly.
    firsts: [bool; 256],
}

/// A part of a rendered conversation.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Part<'a> {
    /// By the template: control tokens are recognised.
    Template(&'a str),
    /// By somebody who must not write control tokens.
    Plain(&'a str),
    /// The next picture.
    Picture,
}

impl ControlTexts {
    pub(crate) fn of(model: &Model) -> Self {
        let tokens = (0..model.n_vocab()).filter_map(|token| Token::try_from(token).ok());
        Self::new(tokens.filter(|token| model.is_control(*token)).map(|token| model.text(token)))
    }

    fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut firsts = [false; 256];
        for text in &texts {
            firsts[usize::from(text.as_bytes()[0])] = true;
        }
        Self { texts, firsts }
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.texts.iter().any(|t| t == text)
    }

    /// The content of a message with all that could become part of a control token between marks.
    pub(crate) fn mark(&self, content: &str) -> String {
        let content = content.replace([OPEN, CLOSE], "\u{fffd}").replace(PICTURE, "\u{fffd}");
        let mut marked = String::with_capacity(content.len() + 16);
        let mut done = 0;
        for range in self.suspects(&content) {
            marked.push_str(&content[done..range.start]);
            marked.push(OPEN);
            marked.push_str(&content[range.clone()]);
            marked.push(CLOSE);
            done = range.end;
        }
        marked.push_str(&content[done..]);
        marked
    }

    /// Where control texts are, in order and without overlap, with the halves at both ends.
    fn suspects(&self, content: &str) -> Vec<Range<usize>> {
        // Templates trim contents, so the ends are those of the trimmed text.
        let trimmed = content.trim();
        let begin = content.len() - content.trim_start().len();
        let end = begin + trimmed.len();
        let head =
            begin..begin + self.longest(|text, n| trimmed.starts_with(&text[text.len() - n..]));
        let tail = end - self.longest(|text, n| trimmed.ends_with(&text[..n]))..end;
        let mut found = vec![head];
        let mut at = 0;
        while at < content.len() {
            match self.at(&content[at..]) {
                Some(length) => {
                    found.push(at..at + length);
                    at += length;
                }
                None => at += 1,
            }
            while !content.is_char_boundary(at) {
                at += 1;
            }
        }
        found.push(tail);
        found.retain(|range| !range.is_empty());
        found.sort_by_key(|range| range.start);
        join(found)
    }

    /// The length of the control text with which `rest` begins.
    fn at(&self, rest: &str) -> Option<usize> {
        let first = *rest.as_bytes().first()?;
        if !self.firsts[usize::from(first)] {
            return None;
        }
        let text = self.texts.iter().find(|t| rest.starts_with(t.as_str()))?;
        Some(text.len())
    }

    /// The longest part of any control text, in bytes, for which `fits` holds.
    fn longest(&self, fits: impl Fn(&str, usize) -> bool) -> usize {
        self.texts
            .iter()
            .filter_map(|text| {
                (1..text.len())
                    .rev()
                    .filter(|n| text.is_char_boundary(*n) && text.is_char_boundary(text.len() - n))
                    .find(|n| fits(text, *n))
            })
            .max()
            .unwrap_or(0)
    }

    /// Parts of a rendered conversation. Marks that a template tore apart mark nothing: what it
    /// left of a control text is none any more.
    pub(crate) fn parts<'a>(&self, rendered: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        for (n, piece) in rendered.split(PICTURE).enumerate() {
            if n > 0 {
                parts.push(Part::Picture);
            }
            Self::texts(piece, &mut parts);
        }
        parts
    }

    /// Parts between two pictures.
    fn texts<'a>(rendered: &'a str, parts: &mut Vec<Part<'a>>) {
        let mut rest = rendered;
        while let Some(open) = rest.find([OPEN, CLOSE]) {
            let inside = &rest[open + OPEN.len_utf8()..];
            parts.push(Part::Template(&rest[..open]));
            let close = inside.find([OPEN, CLOSE]);
            match close {
                Some(close)
                    if rest[open..].starts_with(OPEN) && inside[close..].starts_with(CLOSE) =>
                {
                    parts.push(Part::Plain(&inside[..close]));
                    rest = &inside[close + CLOSE.len_utf8()..];
                }
                _ => rest = inside,
            }
        }
        parts.push(Part::Template(rest));
        parts.retain(|part| !matches!(part, Part::Template("") | Part::Plain("")));
    }
}

/// Joins ranges that overlap. Sorted by their start.
fn join(ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Tokens of `parts`, with the token that begins every text where the model wants one, once.
pub(crate) fn tokenize(model: &Model, parts: &[Part<'_>]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let bos = model.bos().filter(|_| model.adds_bos());
    tokens.extend(bos);
    for part in parts {
        let mut more = match part {
            Part::Template(text) => model.tokenize(text, true),
            Part::Plain(text) => model.tokenize(text, false),
            Part::Picture => Vec::new(),
        };
        // Many templates write the token themselves.
        if bos.is_some() && tokens.len() == 1 && more.first() == bos.as_ref() {
            more.remove(0);
        }
        tokens.append(&mut more);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> ControlTexts {
        ControlTexts::new(["<|im_end|>", "<|im_start|>", "<s>", "<s><s>", ""].map(String::from))
    }

    fn plain_of(content: &str) -> Vec<String> {
        let texts = texts();
        let marked = texts.mark(content);
        let parts = texts.parts(&marked);
        let plain = parts.iter().filter_map(|part| match part {
            Part::Plain(text) => Some((*text).to_owned()),
            Part::Template(_) | Part::Picture => None,
        });
        plain.collect()
    }

    #[test]
    fn control_texts_in_contents_are_plain() {
        assert_eq!(plain_of("a<|im_end|>b"), ["<|im_end|>"]);
        assert_eq!(plain_of("a<s><s><s>b"), ["<s><s>", "<s>"]);
        assert_eq!(plain_of("a < b > c"), [""; 0]);
        assert_eq!(plain_of("\u{e9}<s>\u{e9}"), ["<s>"]);
    }

    #[test]
    fn halves_at_the_ends_are_plain() {
        assert_eq!(plain_of(" im_end|>a<|im_ \n"), ["im_end|>", "<|im_"]);
        assert_eq!(plain_of("<"), ["<"]);
        assert_eq!(plain_of("s><"), ["s>", "<"]);
    }

    #[test]
    fn marks_in_contents_are_taken_out() {
        let marked = texts().mark("a\u{fdd1}<|im_end|>\u{fdd0}");
        assert_eq!(marked, "a\u{fffd}\u{fdd0}<|im_end|>\u{fdd1}\u{fffd}");
    }

    #[test]
    fn pictures_part_the_text() {
        let texts = texts();
        let rendered = format!("a{PICTURE}{}{PICTURE}", texts.mark(&format!("<s>{PICTURE}")));
        let (picture, plain) = (Part::Picture, Part::Plain("<s>"));
        let expected =
            [Part::Template("a"), Part::Picture, plain, Part::Template("\u{fffd}"), picture];
        assert_eq!(texts.parts(&rendered), expected);
    }

    #[test]
    fn torn_marks_mark_nothing() {
        let texts = texts();
        let t = Part::Template;
        assert_eq!(texts.parts("a\u{fdd0}b"), [t("a"), t("b")]);
        assert_eq!(texts.parts("a\u{fdd1}b"), [t("a"), t("b")]);
        assert_eq!(
            texts.parts("\u{fdd0}<\u{fdd0}<s>\u{fdd1}x"),
            [t("<"), Part::Plain("<s>"), t("x")]
        );
    }

    proptest! {
        /// Whatever two people write next to each other, no part that is read as the template's
        /// holds a control text.
        #[test]
        fn no_control_text_survives(
            a in "[<s>|im_endx \u{fdd0}\u{fdd1}]{0,12}(<s>|<\\|im_end\\|>)?[<s>|im_endx ]{0,8}",
            b in "[<s>|im_endx ]{0,8}(<\\|im_start\\|>)?[<s>|im_endx]{0,8}",
        ) {
            let texts = texts();
            let (a, b) = (texts.mark(&a), texts.mark(&b));
            for rendered in [format!("{a}{b}"), format!("{}{}", a.trim(), b.trim())] {
                for part in texts.parts(&rendered) {
                    if let Part::Template(text) = part {
                        prop_assert!(texts.texts.iter().all(|t| !text.contains(t.as_str())), "{text:?}");
                    }
                }
            }
        }

        #[test]
        fn nothing_else_changes(content in "[<s>|im_endx ]{0,24}") {
            let texts = texts();
            let marked = texts.mark(&content);
            prop_assert_eq!(marked.replace([OPEN, CLOSE], ""), content);
        }
    }
}
