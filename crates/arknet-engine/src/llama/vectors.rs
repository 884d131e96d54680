//! Texts to vectors, and how well documents answer a query.

use arknet_types::{FinishReason, Reply, Usage, limits::VALUES_PER_REPLY_MAX};

use super::{
    native::{Context, Token},
    outbox::Outbox,
};
use crate::gguf::Pooling;

/// What is wanted of the texts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// A vector for each.
    Vectors(Pooling),
    /// How close each is to the first, as the cosine of the angle between their vectors. For models
    /// that have no head for ranking.
    Closeness(Pooling),
    /// The score that a ranking model gives each.
    Scores,
}

/// Texts, ready to be read.
pub(crate) struct Job {
    /// In order. None is empty or longer than the context.
    pub texts: Vec<Vec<Token>>,
    pub wanted: Wanted,
    pub outbox: Outbox,
}

/// A request while its texts are read, one after the other.
pub(crate) struct Vectors {
    job: Job,
    /// Which text is read, and how far.
    text: usize,
    read: usize,
    /// Tokens it brings to this step, and the row of the first.
    share: usize,
    first_row: usize,
    sum: Vec<f64>,
    /// The vector of the first text, that the others are held against.
    query: Option<Vec<f32>>,
    scores: Vec<f32>,
}

impl Vectors {
    pub(crate) fn new(job: Job) -> Self {
        debug_assert!(job.texts.iter().all(|text| !text.is_empty()));
        Self {
            job,
            text: 0,
            read: 0,
            share: 0,
            first_row: 0,
            sum: Vec::new(),
            query: None,
            scores: Vec::new(),
        }
    }

    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.job.outbox
    }

    pub(crate) fn into_outbox(self) -> Outbox {
        self.job.outbox
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.job.outbox.is_closed()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.job.outbox.has_room()
    }

    /// Tokens of the current text that are still to be read; none when all texts are.
    pub(crate) fn input_left(&self) -> usize {
        self.job.texts.get(self.text).map_or(0, |text| text.len() - self.read)
    }

    pub(crate) fn share(&self) -> usize {
        self.share
    }

    /// Takes part in the next step with so many tokens, the first of which comes to lie in this
    /// row. Gives the tokens and the position of the first.
    pub(crate) fn begin_step(&mut self, share: usize, first_row: usize) -> (&[Token], usize) {
        self.share = share.min(self.input_left());
        self.first_row = first_row;
        let text = self.job.texts.get(self.text).map_or(&[] as &[Token], Vec::as_slice);
        (&text[self.read..self.read + self.share], self.read)
    }

    /// Does not take part in the next step, or what it brought was not computed. Gives the tokens
    /// of the current text that were.
    pub(crate) fn leave_step(&mut self) -> usize {
        self.share = 0;
        self.read
    }

    /// Takes what was computed. True when a text is through and may be forgotten.
    pub(crate) fn finish_step(&mut self, context: &mut Context, slot: u16) -> Result<bool, ()> {
        let share = std::mem::take(&mut self.share);
        if share == 0 {
            return Ok(false);
        }
        let is_last = share == self.input_left();
        match self.job.wanted {
            Wanted::Vectors(pooling) | Wanted::Closeness(pooling) => {
                self.add(context, pooling, share, is_last)?;
            }
            Wanted::Scores => {
                let score = context.score(slot).ok_or(())?;
                self.scores.push(if score.is_nan() { f32::MIN } else { score });
            }
        }
        self.read += share;
        if is_last {
            self.finish_text();
        }
        Ok(is_last)
    }

    fn add(
        &mut self,
        context: &mut Context,
        pooling: Pooling,
        share: usize,
        is_last: bool,
    ) -> Result<(), ()> {
        let rows = match pooling {
            Pooling::Mean => self.first_row..self.first_row + share,
            Pooling::First if self.read == 0 => self.first_row..self.first_row + 1,
            Pooling::Last if is_last => self.first_row + share - 1..self.first_row + share,
            Pooling::First | Pooling::Last => 0..0,
        };
        for row in rows {
            let vector = context.vector(row).ok_or(())?;
            self.sum.resize(vector.len(), 0.0);
            for (sum, value) in self.sum.iter_mut().zip(vector) {
                *sum += f64::from(*value);
            }
        }
        Ok(())
    }

    fn finish_text(&mut self) {
        let index = u32::try_from(self.text).unwrap_or(u32::MAX);
        self.text += 1;
        self.read = 0;
        let values = unit(&std::mem::take(&mut self.sum));
        match (self.job.wanted, &self.query) {
            (Wanted::Vectors(_), _) => self.job.outbox.push(Reply::Embedding { index, values }),
            (Wanted::Closeness(_), None) => self.query = Some(values),
            (Wanted::Closeness(_), Some(query)) => {
                self.scores.push(query.iter().zip(&values).map(|(a, b)| a * b).sum());
            }
            (Wanted::Scores, _) => {}
        }
    }

    /// Says the end.
    pub(crate) fn end(mut self) -> (Outbox, Usage) {
        let tokens: usize = self.job.texts.iter().map(Vec::len).sum();
        let usage =
            Usage { prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX), ..Usage::default() };
        let scores = self.scores.chunks(VALUES_PER_REPLY_MAX);
        self.job.outbox.extend(scores.map(|scores| Reply::Scores(scores.to_vec())));
        self.job.outbox.push(Reply::Done { finish: FinishReason::Stop, usage });
        (self.job.outbox, usage)
    }
}

/// A vector of length one in this direction. What has none, or is no number, becomes zero.
fn unit(sum: &[f64]) -> Vec<f32> {
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    let scale = if length.is_normal() { 1.0 / length } else { 0.0 };
    #[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
    let value = |value: &f64| (value * scale) as f32;
    sum.iter().map(value).map(|value| if value.is_finite() { value } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_or_are_zero() {
        assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(&[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(unit(&[f64::NAN, 1.0]), [0.0, 0.0]);
        assert_eq!(unit(&[f64::INFINITY, 1.0]), [0.0, 0.0]);
    }
}
