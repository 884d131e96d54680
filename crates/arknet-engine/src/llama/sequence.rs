use arknet_types::{FinishReason, Refusal, Reply, Usage};
use llama_cpp_2::{token::LlamaToken, vocab::LlamaVocab};
use tokio::sync::mpsc;

use super::{sampling::Draw, text::TextAssembly};

/// A request, ready to be answered.
pub(crate) struct Job {
    /// The input. Never empty, and leaves room in the context for one token at least.
    pub prompt: Vec<LlamaToken>,
    /// Tokens to generate at most. Never 0.
    pub tokens_max: u32,
    pub draw: Draw,
    pub text: TextAssembly,
    pub replies: mpsc::Sender<Reply>,
}

/// A request while it is answered.
pub(crate) struct Sequence {
    job: Job,
    /// Tokens of the input.
    prompt_tokens: u32,
    /// Tokens of the input that were read.
    read: usize,
    /// Tokens that are in the cache, or will be after this step.
    position: i32,
    /// The last token generated, which the next step begins with.
    last: Option<LlamaToken>,
    generated: u32,
    /// Tokens whose text is still held back.
    unsaid: u32,
    /// Whether it takes part in this step.
    is_in_step: bool,
    /// Which row of this step the next token is drawn from.
    row: Option<i32>,
}

/// The end of an answer: what to send after its place was freed.
pub(crate) struct Ending {
    replies: mpsc::Sender<Reply>,
    last: Vec<Reply>,
    pub usage: Usage,
}

/// What a sequence brings to a step.
pub(crate) struct Turn {
    pub token: LlamaToken,
    pub position: i32,
    /// Whether a token will be drawn from this row.
    pub is_drawn_from: bool,
}

/// A step sends two replies at most: text, and the end.
const REPLIES_PER_STEP: usize = 2;

impl Sequence {
    pub(crate) fn new(job: Job) -> Self {
        debug_assert!(!job.prompt.is_empty() && job.tokens_max > 0);
        Self {
            prompt_tokens: u32::try_from(job.prompt.len()).expect("inputs fit their context"),
            job,
            read: 0,
            position: 0,
            last: None,
            generated: 0,
            unsaid: 0,
            is_in_step: false,
            row: None,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.job.replies.is_closed()
    }

    /// Whether the reader has kept up. One that has not waits alone.
    pub(crate) fn has_room(&self) -> bool {
        self.job.replies.capacity() >= REPLIES_PER_STEP
    }

    /// Tokens of input that are still to be read.
    pub(crate) fn input_left(&self) -> usize {
        self.job.prompt.len() - self.read
    }

    pub(crate) fn begin_step(&mut self) {
        self.is_in_step = false;
        self.row = None;
    }

    pub(crate) fn is_in_step(&self) -> bool {
        self.is_in_step
    }

    /// The row of the step that the next token is drawn from, if there is one.
    pub(crate) fn take_row(&mut self) -> Option<i32> {
        self.row.take()
    }

    /// What it brings to the step: `share` tokens of its input or, when that is read, its last
    /// token. `row` is where its first token comes to lie.
    pub(crate) fn take_turns(&mut self, share: usize, row: i32) -> Vec<Turn> {
        let tokens: Vec<LlamaToken> = match self.last.take() {
            Some(token) => vec![token],
            None => {
                let from = self.read;
                self.read += share;
                self.job.prompt[from..self.read].to_vec()
            }
        };
        self.is_in_step = !tokens.is_empty();
        let is_drawn = self.is_in_step && self.input_left() == 0;
        let mut turns: Vec<Turn> = (self.position..)
            .zip(tokens)
            .map(|(position, token)| Turn { token, position, is_drawn_from: false })
            .collect();
        let count = i32::try_from(turns.len()).expect("a step has 512 tokens");
        self.position += count;
        if is_drawn {
            turns.last_mut().expect("in the step").is_drawn_from = true;
            self.row = Some(row + count - 1);
        }
        turns
    }

    pub(crate) fn draw(&mut self) -> &mut Draw {
        &mut self.job.draw
    }

    /// Takes a token that was drawn: says what can be said, or gives itself back to be ended.
    pub(crate) fn advance(
        mut self,
        token: LlamaToken,
        vocab: &LlamaVocab<'_>,
    ) -> Result<Self, Ending> {
        if vocab.is_eog(token) {
            return Err(self.end(FinishReason::Stop, String::new(), false));
        }
        self.generated += 1;
        self.unsaid += 1;
        let piece = self.job.text.push(&vocab.token_to_piece(token, false, None));
        if piece.is_stopped {
            return Err(self.end(FinishReason::Stop, piece.text, true));
        }
        if self.generated >= self.job.tokens_max {
            return Err(self.end(FinishReason::Length, piece.text, false));
        }
        self.last = Some(token);
        if !piece.text.is_empty() {
            let reply = Reply::Text { text: piece.text, tokens: std::mem::take(&mut self.unsaid) };
            // Room was checked before the step; a reader that left is noticed before the next.
            let _ = self.job.replies.try_send(reply);
        }
        Ok(self)
    }

    /// Ends without being complete.
    pub(crate) fn refuse(self, refusal: Refusal) -> Ending {
        Ending {
            usage: self.usage(),
            replies: self.job.replies,
            last: vec![Reply::Refused(refusal)],
        }
    }

    fn end(mut self, mut finish: FinishReason, mut text: String, is_stopped: bool) -> Ending {
        let usage = self.usage();
        if !is_stopped {
            let rest = self.job.text.finish();
            text.push_str(&rest.text);
            if rest.is_stopped {
                finish = FinishReason::Stop;
            }
        }
        let tokens = std::mem::take(&mut self.unsaid);
        let mut last = Vec::with_capacity(REPLIES_PER_STEP);
        // Tokens without text are told too, so that those of all replies add up to the usage.
        if tokens > 0 || !text.is_empty() {
            last.push(Reply::Text { text, tokens });
        }
        last.push(Reply::Done { finish, usage });
        Ending { replies: self.job.replies, last, usage }
    }

    fn usage(&self) -> Usage {
        Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.generated }
    }
}

impl Ending {
    /// Sends the last replies. There is room for them, and who left does not mind.
    pub(crate) fn send(self) {
        for reply in self.last {
            let _ = self.replies.try_send(reply);
        }
    }
}
