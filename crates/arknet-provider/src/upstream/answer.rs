//! Builds the replies of one answer out of what an upstream says, whatever its language.

use arknet_types::{
    Alternative, FinishReason, InferRequest, Input, Refusal, RefusalCode, Reply, TokenLogprob,
    ToolCallPiece, Usage, is_tool_name,
    limits::{LOGPROBS_PER_REPLY_MAX, TOKEN_BYTES_MAX},
};

use super::{
    limits::{TEXT_BYTES_MAX, TOKEN_UNKNOWN, TOOL_CALL_ID_BYTES_MAX, TOOL_CALLS_MAX},
    target::estimated_tokens,
};

/// The replies of one answer, as they come.
#[derive(Debug)]
pub(super) struct Answer {
    stops: Vec<String>,
    alternatives: Option<u8>,
    calls_before: usize,
    call: Option<OpenCall>,
    calls: u16,
    tokens: u32,
    reasoning_tokens: u32,
    estimated_prompt: u32,
    finish: Option<FinishReason>,
    usage: Told,
    is_over: bool,
}

#[derive(Debug)]
struct OpenCall {
    index: u64,
    id: Option<String>,
    has_arguments: bool,
}

/// What an upstream told of an answer's tokens.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Told {
    /// Of the input.
    pub(super) prompt: Option<u32>,
    /// Of the answer.
    pub(super) completion: Option<u32>,
    /// Of the input, those not computed again.
    pub(super) cached: Option<u32>,
    /// Of the answer, those of reasoning.
    pub(super) reasoning: Option<u32>,
}

/// How likely a token was, as an upstream told it.
#[derive(Debug)]
pub(super) struct ToldLogprob {
    /// Its number, where told.
    pub(super) token: Option<u32>,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// The logarithm of its probability. Not a number where it was not told.
    pub(super) logprob: f32,
    /// The others in its place.
    pub(super) top: Vec<Self>,
}

/// A failure of the upstream, in our words.
pub(super) fn failed(words: &str) -> Refusal {
    Refusal::new(RefusalCode::ProviderFailed, words)
}

impl Answer {
    /// Of this request.
    #[must_use]
    pub(super) fn new(request: &InferRequest) -> Self {
        let calls_before = match &request.input {
            Input::Chat(chat) => chat.messages.iter().map(|m| m.tool_calls.len()).sum(),
            _ => 0,
        };
        Self {
            stops: request.stop.clone(),
            alternatives: request.logprobs,
            calls_before,
            call: None,
            calls: 0,
            tokens: 0,
            reasoning_tokens: 0,
            estimated_prompt: estimated_tokens(request),
            finish: None,
            usage: Told::default(),
            is_over: false,
        }
    }

    /// Whether the last reply was given.
    #[must_use]
    pub(super) const fn is_empty(&self) -> bool {
        self.tokens == 0 && self.calls == 0
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The next piece of the answer, of so many tokens.
    pub(super) fn text(&mut self, text: &str, tokens: u32, out: &mut Vec<Reply>) {
        self.tokens = self.tokens.saturating_add(count(text, tokens));
        each_piece(text, tokens, |text, tokens| {
            out.push(Reply::Text { text: text.to_owned(), tokens });
        });
    }

    /// The next piece of what it thinks.
    pub(super) fn reasoning(&mut self, text: &str, tokens: u32, out: &mut Vec<Reply>) {
        let counted = count(text, tokens);
        self.tokens = self.tokens.saturating_add(counted);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(counted);
        each_piece(text, tokens, |text, tokens| {
            out.push(Reply::Reasoning { text: text.to_owned(), tokens });
        });
    }

    /// The next piece of a tool call. `index` and `id` tell calls apart; a call begins with the
    /// first piece that has another index, or another id.
    pub(super) fn tool(
        &mut self,
        index: u64,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
        out: &mut Vec<Reply>,
    ) -> Result<(), Refusal> {
        let id = id.filter(|id| !id.is_empty());
        let goes_on = self
            .call
            .as_ref()
            .is_some_and(|open| open.index == index && (id.is_none() || open.id.as_deref() == id));
        let mut first = None;
        if !goes_on {
            let Some(name) = name.filter(|name| is_tool_name(name)) else {
                return Err(failed("the upstream called a tool without a proper name"));
            };
            if self.calls == TOOL_CALLS_MAX {
                return Err(failed("the upstream called too many tools"));
            }
            if id.is_some_and(|id| id.len() > TOOL_CALL_ID_BYTES_MAX) {
                return Err(failed("the upstream gave a tool call too long an id"));
            }
            self.close_call(out);
            self.call = Some(OpenCall { index, id: id.map(str::to_owned), has_arguments: false });
            // Where the upstream has no ids: one that no other call of the conversation has.
            let number = self.calls_before + usize::from(self.calls);
            let id = id.map_or_else(|| format!("call_{number}"), str::to_owned);
            self.calls += 1;
            first = Some((id, name.to_owned()));
        }
        let index = self.calls - 1;
        if let Some(open) = &mut self.call {
            open.has_arguments |= !arguments.is_empty();
        }
        let mut pieces = vec![];
        each_piece(arguments, 1, |text, tokens| pieces.push((text, tokens)));
        if pieces.is_empty() && first.is_some() {
            pieces.push(("", 1));
        }
        for (arguments, tokens) in pieces {
            self.tokens = self.tokens.saturating_add(tokens);
            let (id, name) = first.take().unzip();
            let arguments = arguments.to_owned();
            out.push(Reply::ToolCall(ToolCallPiece { index, id, name, arguments, tokens }));
        }
        Ok(())
    }

    /// A tool call that comes in one piece.
    pub(super) fn whole_call(
        &mut self,
        id: Option<&str>,
        name: Option<&str>,
        arguments: &str,
        out: &mut Vec<Reply>,
    ) -> Result<(), Refusal> {
        self.close_call(out);
        self.tool(0, id, name, arguments, out)
    }

    /// A call without arguments has an empty object of them.
    fn close_call(&mut self, out: &mut Vec<Reply>) {
        if self.call.take().is_some_and(|open| !open.has_arguments) {
            let arguments = "{}".to_owned();
            let index = self.calls - 1;
            out.push(Reply::ToolCall(ToolCallPiece {
                index,
                id: None,
                name: None,
                arguments,
                tokens: 0,
            }));
        }
    }

    /// How likely the tokens were whose text comes next.
    pub(super) fn logprobs(&mut self, list: Vec<ToldLogprob>, out: &mut Vec<Reply>) {
        let Some(alternatives) = self.alternatives else { return };
        let mut list = list.into_iter().peekable();
        while list.peek().is_some() {
            let some = list.by_ref().take(LOGPROBS_PER_REPLY_MAX);
            let some = some.map(|one| TokenLogprob {
                token: one.token.unwrap_or(TOKEN_UNKNOWN),
                bytes: token_bytes(one.bytes),
                logprob: finite(one.logprob),
                top: one.top.into_iter().take(alternatives.into()).map(alternative).collect(),
            });
            out.push(Reply::Logprobs(some.collect()));
        }
    }

    /// Why it ended. The end itself may come later.
    pub(super) fn finish(&mut self, reason: FinishReason) {
        self.finish = Some(reason);
    }

    /// It ended at this stop sequence.
    pub(super) fn finish_at(&mut self, sequence: &str) {
        let at = self.stops.iter().position(|stop| stop == sequence);
        let at = at.and_then(|at| u8::try_from(at).ok());
        self.finish = Some(at.map_or(FinishReason::Stop, FinishReason::StopSequence));
    }

    /// What it took. What is told later counts, and what is not told then stays.
    pub(super) fn usage(&mut self, told: Told) {
        let known = self.usage;
        self.usage = Told {
            prompt: told.prompt.or(known.prompt),
            completion: told.completion.or(known.completion),
            cached: told.cached.or(known.cached),
            reasoning: told.reasoning.or(known.reasoning),
        };
    }

    /// The end, if a reason for it is known.
    pub(super) fn end(&mut self, out: &mut Vec<Reply>) -> Result<(), Refusal> {
        if self.is_over {
            return Ok(());
        }
        let finish = match self.finish {
            None => return Err(failed("the upstream ended before its answer was complete")),
            Some(FinishReason::Stop) if self.calls > 0 => FinishReason::ToolCalls,
            Some(finish) => finish,
        };
        self.is_over = true;
        self.close_call(out);
        out.push(Reply::Done { finish, usage: self.counted() });
        Ok(())
    }

    /// Tokens as the upstream counted them; where it did not, the pieces that came, which are not
    /// more than the tokens were, and a low estimate of the input.
    fn counted(&self) -> Usage {
        let prompt_tokens = self.usage.prompt.unwrap_or(self.estimated_prompt);
        let completion_tokens = self.usage.completion.unwrap_or(self.tokens);
        let reasoning = self.usage.reasoning.unwrap_or(self.reasoning_tokens);
        Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens: self.usage.cached.unwrap_or(0).min(prompt_tokens),
            reasoning_tokens: reasoning.min(completion_tokens),
        }
    }
}

const fn count(text: &str, tokens: u32) -> u32 {
    if text.is_empty() { 0 } else { tokens }
}

/// Cuts a text into pieces that fit a reply; the first has all the tokens.
fn each_piece<'a>(mut text: &'a str, tokens: u32, mut each: impl FnMut(&'a str, u32)) {
    let mut tokens = tokens;
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(TEXT_BYTES_MAX));
        each(piece, tokens);
        (text, tokens) = (rest, 0);
    }
}

fn alternative(one: ToldLogprob) -> Alternative {
    Alternative {
        token: one.token.unwrap_or(TOKEN_UNKNOWN),
        bytes: token_bytes(one.bytes),
        logprob: finite(one.logprob),
    }
}

fn token_bytes(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(TOKEN_BYTES_MAX);
    bytes
}

/// A logarithm of a probability is at most 0. What is none stands for a token that never comes.
fn finite(logprob: f32) -> f32 {
    if logprob.is_nan() { f32::MIN } else { logprob.clamp(f32::MIN, 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arknet_types::{Chat, Message, ModelName, Role};

    fn answer() -> Answer {
        let chat = Chat::new(vec![Message::new(Role::User, "x".repeat(60))]);
        Answer::new(&InferRequest {
            stop: vec!["a".into(), "b".into()],
            logprobs: Some(1),
            ..InferRequest::new(ModelName::new("m").unwrap(), Input::Chat(chat))
        })
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "\u{20ac}".repeat(TEXT_BYTES_MAX);
        let mut out = vec![];
        answer().text(&text, 7, &mut out);
        let mut all = (String::new(), 0);
        for reply in out {
            let Reply::Text { text, tokens } = reply else { panic!("not a text") };
            assert!(!text.is_empty() && text.len() <= TEXT_BYTES_MAX);
            all = (all.0 + &text, all.1 + tokens);
        }
        assert_eq!(all, (text, 7));
    }

    #[test]
    fn calls_are_told_apart_by_index_and_by_id() {
        let mut answer = answer();
        let mut out = vec![];
        for (index, id, name, arguments) in [
            (0, Some("a"), Some("f"), "{"),
            (0, None, None, "}"),
            (0, Some("b"), Some("g"), "{}"),
            (1, None, Some("h"), ""),
        ] {
            answer.tool(index, id, name, arguments, &mut out).unwrap();
        }
        let found: Vec<_> = out
            .into_iter()
            .map(|reply| match reply {
                Reply::ToolCall(piece) => (piece.index, piece.id, piece.arguments),
                other => panic!("{other:?}"),
            })
            .collect();
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(
            found,
            [
                (0, id("a"), "{".into()),
                (0, None, "}".into()),
                (1, id("b"), "{}".into()),
                (2, id("call_2"), String::new()),
            ]
        );
        assert!(answer.tool(0, None, None, "x", &mut vec![]).is_err());
        assert!(answer.tool(9, None, Some("a b"), "x", &mut vec![]).is_err());
    }

    #[test]
    fn tool_calls_have_a_limit() {
        let mut answer = answer();
        for index in 0..u64::from(TOOL_CALLS_MAX) {
            answer.tool(index, None, Some("f"), "{}", &mut vec![]).unwrap();
        }
        assert!(answer.tool(u64::MAX, None, Some("f"), "{}", &mut vec![]).is_err());
    }

    #[test]
    fn what_is_no_logarithm_becomes_one() {
        for (told, kept) in [
            (f32::NAN, f32::MIN),
            (f32::NEG_INFINITY, f32::MIN),
            (f32::INFINITY, 0.0),
            (-0.5, -0.5),
        ] {
            let one =
                || ToldLogprob { token: None, bytes: vec![1; 200], logprob: told, top: vec![] };
            let mut out = vec![];
            let many = (0..17).map(|_| ToldLogprob { top: vec![one(), one()], ..one() }).collect();
            answer().logprobs(many, &mut out);
            assert_eq!(out.len(), 2);
            let Reply::Logprobs(list) = &out[1] else { panic!("not logprobs") };
            assert!((list[0].logprob - kept).abs() < f32::EPSILON);
            assert_eq!((list[0].bytes.len(), list[0].top.len()), (TOKEN_BYTES_MAX, 1));
        }
    }

    #[test]
    fn tokens_are_as_told_or_else_as_counted() {
        let mut out = vec![];
        let mut counted = answer();
        counted.reasoning("r", 1, &mut out);
        counted.text("t", 2, &mut out);
        counted.text("", 2, &mut out);
        assert!(counted.end(&mut out).is_err());
        counted.finish_at("b");
        counted.end(&mut out).unwrap();
        let usage = Usage {
            prompt_tokens: 10,
            completion_tokens: 3,
            cached_tokens: 0,
            reasoning_tokens: 1,
        };
        assert_eq!(out.last(), Some(&Reply::Done { finish: FinishReason::StopSequence(1), usage }));
        let length = out.len();
        counted.end(&mut out).unwrap();
        assert_eq!(out.len(), length);

        let mut told = answer();
        told.usage(Told { prompt: Some(5), cached: Some(9), ..Told::default() });
        told.usage(Told { completion: Some(4), reasoning: Some(9), ..Told::default() });
        told.finish_at("unknown");
        told.end(&mut out).unwrap();
        let usage =
            Usage { prompt_tokens: 5, completion_tokens: 4, cached_tokens: 5, reasoning_tokens: 4 };
        assert_eq!(out.last(), Some(&Reply::Done { finish: FinishReason::Stop, usage }));
    }
}
