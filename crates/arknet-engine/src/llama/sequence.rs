//! One answer, from its input to its last token.

use std::sync::Arc;

use arknet_chat::{AnswerParser, ConstraintError};
use arknet_types::{
    Alternative, FinishReason, Refusal, RefusalCode, Reply, TokenLogprob, Usage,
    limits::{LOGPROBS_PER_REPLY_MAX, TOKEN_BYTES_MAX},
};

use super::{
    guess::Guesser,
    native::{Model, Token},
    outbox::Outbox,
    picture::{Picture, Placed, position},
    sampling::{Draw, Drawn, Likelihood},
    text::TextAssembly,
};

/// A request, ready to be answered.
pub(crate) struct Job {
    /// The input. Never empty, and leaves room in the context for one token at least.
    pub prompt: Vec<Token>,
    /// Pictures of the input, in order. None is at its end.
    pub pictures: Vec<Placed>,
    /// Tokens to generate at most. Never 0.
    pub tokens_max: u32,
    pub draw: Draw,
    pub text: TextAssembly,
    /// How many of the stop sequences are the request's; others are the template's.
    pub stops: usize,
    /// Takes the text of a conversation's answer apart; a continued text is told as it is.
    pub parser: Option<AnswerParser>,
    /// Control tokens whose text the parser must see.
    pub shown: Vec<Token>,
    pub outbox: Outbox,
}

/// A request while it is answered.
pub(crate) struct Sequence {
    job: Job,
    /// Tokens of the input that are in the cache.
    read: usize,
    /// Of those, the ones that were there before.
    cached: usize,
    /// The last token generated, which the next step begins with.
    last: Option<Token>,
    /// What may follow that, and is computed with it.
    drafts: Vec<Token>,
    guesser: Guesser,
    /// Tokens it brings to this step.
    share: usize,
    /// Whether it may bring any.
    takes_part: bool,
    generated: u32,
    reasoning: u32,
    /// Tokens whose text is still held back.
    unsaid: u32,
    likelihoods: Vec<TokenLogprob>,
}

/// What an answer goes on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// So many tokens of its input, until that ends or a picture comes.
    Text(usize),
    /// A picture, which has a step of its own.
    Picture,
    /// The token that was generated last.
    Token,
}

/// How an answer ends.
pub(crate) enum End {
    Done(FinishReason),
    Refused(Refusal),
}

impl Sequence {
    /// A request of whose input the first `cached` tokens are in the cache.
    pub(crate) fn new(job: Job, cached: usize) -> Self {
        debug_assert!(cached < job.prompt.len() && job.tokens_max > 0);
        Self {
            job,
            read: cached,
            cached,
            last: None,
            drafts: Vec::new(),
            guesser: Guesser::new(),
            share: 0,
            takes_part: false,
            generated: 0,
            reasoning: 0,
            unsaid: 0,
            likelihoods: Vec::new(),
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

    /// Whether the reader has kept up. One that has not waits alone.
    /// Settles whether it takes part in the next step: where its reader has kept up.
    pub(crate) fn decide(&mut self) {
        self.takes_part = self.job.outbox.has_room();
    }

    /// What was settled last.
    pub(crate) fn takes_part(&self) -> bool {
        self.takes_part
    }

    /// Tokens of input that are still to be read.
    pub(crate) fn input_left(&self) -> usize {
        self.job.prompt.len() - self.read
    }

    pub(crate) fn prompt(&self) -> &[Token] {
        &self.job.prompt
    }

    pub(crate) fn pictures(&self) -> &[Placed] {
        &self.job.pictures
    }

    /// The position of what follows `held` tokens.
    pub(crate) fn position(&self, held: usize) -> i32 {
        let position = position(&self.job.pictures, held);
        i32::try_from(position).expect("positions fit the context")
    }

    /// What it brings to the next step it takes part in.
    pub(crate) fn next(&self) -> Next {
        if self.last.is_some() {
            return Next::Token;
        }
        match self.unread() {
            Some(placed) if placed.span.at <= self.read => Next::Picture,
            Some(placed) => Next::Text(placed.span.at - self.read),
            None => Next::Text(self.input_left()),
        }
    }

    /// The first picture that was not read to its end.
    fn unread(&self) -> Option<&Placed> {
        self.job.pictures.iter().find(|placed| placed.span.end() > self.read)
    }

    /// The next picture to be read, and from which of its tokens on.
    pub(crate) fn picture(&self) -> Option<(&Arc<Picture>, usize)> {
        let placed = self.unread()?;
        Some((placed.picture.as_ref()?, self.read.saturating_sub(placed.span.at)))
    }

    /// Takes part in the next step with `share` tokens of a picture.
    pub(crate) fn begin_picture(&mut self, share: usize) {
        debug_assert_eq!(self.next(), Next::Picture);
        self.share = share;
    }

    /// Reads its input again from an earlier place on.
    pub(crate) fn go_back(&mut self, read: usize) {
        debug_assert!(read <= self.read && self.last.is_none());
        self.read = read;
    }

    /// Guesses what may follow the last token, as far as that is worth it: `most` of how many tokens
    /// are, given how often guesses are right. Gives how many it guessed.
    pub(crate) fn guess(&mut self, held: &[Token], most: impl Fn(f64) -> usize) -> usize {
        let left = self.job.tokens_max.saturating_sub(self.generated).saturating_sub(1);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let count = most(self.guesser.rate()).min(left);
        self.drafts = match self.last {
            Some(last) => self.guesser.guess(held, last, count),
            None => Vec::new(),
        };
        self.drafts.len()
    }

    /// Takes part in the next step with its last token and what may follow it. All of them are drawn
    /// from.
    pub(crate) fn begin_token(&mut self) -> impl Iterator<Item = Token> {
        self.share = usize::from(self.last.is_some()) + self.drafts.len();
        self.last.into_iter().chain(self.drafts.iter().copied())
    }

    /// Takes part in the next step with `share` tokens of its input. Gives them, and whether the last
    /// of them is drawn from.
    pub(crate) fn begin_step(&mut self, share: usize) -> (&[Token], bool) {
        self.share = match self.next() {
            Next::Text(left) => share.min(left),
            Next::Picture | Next::Token => 0,
        };
        let end = self.read + self.share;
        (&self.job.prompt[self.read..end], self.share > 0 && end == self.job.prompt.len())
    }

    /// Does not take part in the next step, or what it brought was not computed.
    pub(crate) fn leave_step(&mut self) {
        self.share = 0;
    }

    /// Tokens it brought to the step.
    pub(crate) fn share(&self) -> usize {
        self.share
    }

    /// What it brought was computed, and is remembered now.
    pub(crate) fn finish_step(&mut self, held: &mut Vec<Token>) {
        let share = std::mem::take(&mut self.share);
        if share == 0 {
            return;
        }
        match self.last.take() {
            Some(token) => held.push(token),
            None => {
                held.extend(&self.job.prompt[self.read..self.read + share]);
                self.read += share;
                // Its vectors are not needed any more.
                for placed in &mut self.job.pictures {
                    if placed.span.end() <= self.read {
                        placed.picture = None;
                    }
                }
            }
        }
    }

    /// Draws from the rows of a step, which are those of its last token and of what was guessed, for
    /// as long as the guesses are right.
    pub(crate) fn draw(
        &mut self,
        rows: &mut [&mut [f32]],
        model: &Model,
    ) -> Vec<Result<Drawn, ConstraintError>> {
        let mut all = Vec::with_capacity(rows.len());
        for (n, row) in rows.iter_mut().enumerate() {
            let drawn = self.draw_one(row, model);
            let goes_on = drawn
                .as_ref()
                .is_ok_and(|drawn| self.drafts.get(n) == Some(&drawn.token) && !drawn.must_stop);
            all.push(drawn);
            if !goes_on {
                break;
            }
        }
        all
    }

    fn draw_one(&mut self, row: &mut [f32], model: &Model) -> Result<Drawn, ConstraintError> {
        let mut drawn = self.job.draw.next(row)?;
        if !model.is_eog(drawn.token) {
            drawn.must_stop = self.job.draw.accept(drawn.token)?;
        }
        Ok(drawn)
    }

    /// So many tokens were drawn in a step: what was guessed rightly is remembered now. Gives how many
    /// of the guesses were wrong or not needed.
    pub(crate) fn settle(
        &mut self,
        drawn: &[Result<Drawn, ConstraintError>],
        held: &mut Vec<Token>,
    ) -> usize {
        let drafts = std::mem::take(&mut self.drafts);
        let tokens: Vec<Token> = drawn.iter().flatten().map(|drawn| drawn.token).collect();
        self.guesser.hear(&tokens, drafts.len());
        let right = tokens.len().saturating_sub(1).min(drafts.len());
        held.extend(&drafts[..right]);
        drafts.len() - right
    }

    /// Tokens of the answer so far.
    pub(crate) fn generated(&self) -> u32 {
        self.generated
    }

    /// Whether drawing takes long enough to be worth another thread.
    pub(crate) fn is_costly(&self) -> bool {
        self.job.draw.is_costly()
    }

    /// Takes a token that was drawn, and says what can be said.
    pub(crate) fn advance(
        &mut self,
        drawn: Result<Drawn, ConstraintError>,
        model: &Model,
    ) -> Option<End> {
        let Drawn { token, must_stop, likelihood } = match drawn {
            Ok(drawn) => drawn,
            Err(error) => return Some(End::Refused(stuck(&error))),
        };
        if model.is_eog(token) {
            return Some(End::Done(FinishReason::Stop));
        }
        self.generated += 1;
        self.unsaid += 1;
        self.likelihoods.extend(likelihood.map(|likelihood| logprob(token, likelihood, model)));
        let is_shown = self.job.shown.contains(&token);
        let piece = self.job.text.push(&model.piece(token, is_shown));
        self.say(&piece.text);
        if let Some(stop) = piece.stop {
            return Some(End::Done(self.stopped(stop)));
        }
        if must_stop || self.job.parser.as_ref().is_some_and(AnswerParser::is_done) {
            return Some(End::Done(FinishReason::Stop));
        }
        if self.generated >= self.job.tokens_max {
            return Some(End::Done(FinishReason::Length));
        }
        self.last = Some(token);
        None
    }

    /// Says all that is left, and the end. The outbox is to be emptied by somebody else.
    pub(crate) fn end(mut self, end: End) -> (Outbox, Usage) {
        let mut finish = match end {
            End::Done(finish) => finish,
            End::Refused(refusal) => {
                let usage = self.usage();
                self.job.outbox.refuse(refusal);
                return (self.job.outbox, usage);
            }
        };
        if !matches!(finish, FinishReason::StopSequence(_)) {
            let rest = self.job.text.finish();
            self.say(&rest.text);
            if let Some(stop) = rest.stop {
                finish = self.stopped(stop);
            }
        }
        self.say_likelihoods();
        // Tokens without text are told too, so that those of all replies add up to the usage.
        if self.unsaid > 0 {
            self.tell("");
        }
        if let Some(mut parser) = self.job.parser.take() {
            let mut replies = Vec::new();
            let hint = parser.finish(&mut replies);
            self.count_reasoning(&replies);
            self.job.outbox.extend(replies);
            if hint.tool_calls > 0 && finish == FinishReason::Stop {
                finish = FinishReason::ToolCalls;
            }
        }
        let usage = self.usage();
        self.job.outbox.push(Reply::Done { finish, usage });
        (self.job.outbox, usage)
    }

    fn stopped(&self, stop: usize) -> FinishReason {
        match u8::try_from(stop) {
            Ok(number) if stop < self.job.stops => FinishReason::StopSequence(number),
            _ => FinishReason::Stop,
        }
    }

    fn say(&mut self, text: &str) {
        if self.likelihoods.len() == LOGPROBS_PER_REPLY_MAX || !text.is_empty() {
            self.say_likelihoods();
        }
        if !text.is_empty() {
            self.tell(text);
        }
    }

    fn say_likelihoods(&mut self) {
        if !self.likelihoods.is_empty() {
            self.job.outbox.push(Reply::Logprobs(std::mem::take(&mut self.likelihoods)));
        }
    }

    fn tell(&mut self, text: &str) {
        let tokens = std::mem::take(&mut self.unsaid);
        match &mut self.job.parser {
            None => self.job.outbox.push(Reply::Text { text: text.to_owned(), tokens }),
            Some(parser) => {
                let mut replies = Vec::new();
                parser.push(text, tokens, &mut replies);
                self.count_reasoning(&replies);
                self.job.outbox.extend(replies);
            }
        }
    }

    fn count_reasoning(&mut self, replies: &[Reply]) {
        for reply in replies {
            if let Reply::Reasoning { tokens, .. } = reply {
                self.reasoning += tokens;
            }
        }
    }

    fn usage(&self) -> Usage {
        let count = |tokens| u32::try_from(tokens).expect("inputs fit their context");
        Usage {
            prompt_tokens: count(self.job.prompt.len()),
            completion_tokens: self.generated,
            cached_tokens: count(self.cached),
            reasoning_tokens: self.reasoning,
        }
    }
}

fn stuck(error: &ConstraintError) -> Refusal {
    Refusal::new(RefusalCode::ProviderFailed, error.to_string())
}

fn logprob(token: Token, likelihood: Likelihood, model: &Model) -> TokenLogprob {
    let bytes = |token| {
        let mut bytes = model.piece(token, true);
        bytes.truncate(TOKEN_BYTES_MAX);
        bytes
    };
    let number = |token| u32::try_from(token).unwrap_or_default();
    let top = likelihood.top.into_iter().map(|(token, logprob)| Alternative {
        token: number(token),
        bytes: bytes(token),
        logprob,
    });
    TokenLogprob {
        token: number(token),
        bytes: bytes(token),
        logprob: likelihood.logprob,
        top: top.collect(),
    }
}
