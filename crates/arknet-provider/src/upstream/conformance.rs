//! One suite for all providers: what must hold of any of them, whatever answers behind it.
//!
//! For tests and for `examples/conform.rs`, which runs it against a server that somebody has. It asks
//! nothing that a model must be clever for: the shapes of answers are looked at, not their sense.

use std::{future::Future, pin::Pin, time::Duration};

use arknet_types::{
    Capabilities, Chat, FinishReason, Format, Image, ImageFormat, InferRequest, Input, Message,
    ModelName, Part, Profile, Reasoning, RefusalCode, Reply, Role, TokenLogprob, Tool, ToolCall,
    ToolChoice, Usage,
};
use serde_json::Value;

use crate::{ModelInfo, Provider};

/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// A context up to this is filled, to see that too much is refused.
const FILLED_CONTEXT_MAX: u32 = 16_384;

/// What became of one case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Which case.
    pub case: &'static str,
    /// Nothing, or what was wrong.
    pub result: Result<(), String>,
}

/// An answer, put together.
#[derive(Debug, Default)]
struct Whole {
    text: String,
    reasoning: String,
    pieces: usize,
    calls: Vec<(String, String, String)>,
    logprobs: Vec<TokenLogprob>,
    vectors: Vec<Vec<f32>>,
    scores: Vec<f32>,
    tokens: Vec<u32>,
    end: Option<(FinishReason, Usage)>,
}

type Checked<T = ()> = Result<T, String>;
type Case = for<'a> fn(&'a Asked<'a>) -> Pin<Box<dyn Future<Output = Checked> + Send + 'a>>;

struct Asked<'a> {
    provider: &'a dyn Provider,
    model: ModelInfo,
}

const CASES: [(&str, Capabilities, Case); 20] = [
    ("an answer comes in pieces and ends", Capabilities::GENERATE, |a| Box::pin(answer(a))),
    ("a limit of tokens is kept", Capabilities::GENERATE, |a| Box::pin(limit(a))),
    ("a stop sequence ends the answer", Capabilities::GENERATE, |a| Box::pin(stop(a))),
    ("a seed repeats an answer", Capabilities::GENERATE, |a| Box::pin(seed(a))),
    ("a conversation goes on", Capabilities::GENERATE, |a| Box::pin(turns(a))),
    ("reasoning is switched", Capabilities::GENERATE, |a| Box::pin(reasoning(a))),
    ("a text is continued", Capabilities::GENERATE, |a| Box::pin(continued(a))),
    ("every slot works, and one more is busy", Capabilities::GENERATE, |a| Box::pin(slots(a))),
    ("a dropped answer gives its slot back", Capabilities::GENERATE, |a| Box::pin(dropped(a))),
    ("too long an answer is refused", Capabilities::GENERATE, |a| Box::pin(too_long(a))),
    ("too long a prompt is refused", Capabilities::GENERATE, |a| Box::pin(too_full(a))),
    ("a schema that is none is refused", Capabilities::CONSTRAINED, |a| Box::pin(no_schema(a))),
    ("a schema is followed", Capabilities::CONSTRAINED, |a| Box::pin(schema(a))),
    ("a tool is called", Capabilities::TOOLS, |a| Box::pin(tool(a))),
    ("the result of a tool is read", Capabilities::TOOLS, |a| Box::pin(tool_result(a))),
    ("likelihoods are told", Capabilities::LOGPROBS, |a| Box::pin(logprobs(a))),
    ("texts become vectors", Capabilities::EMBED, |a| Box::pin(embed(a))),
    ("documents get scores", Capabilities::RERANK, |a| Box::pin(rerank(a))),
    ("tokens are split, joined and counted", Capabilities::TOKENIZE, |a| Box::pin(tokens(a))),
    ("what it cannot do is refused", Capabilities::NONE, |a| Box::pin(cannot(a))),
];

/// Runs every case that the model's capabilities call for.
pub async fn conformance(provider: &dyn Provider, model: &ModelName) -> Vec<Outcome> {
    let info = provider.models().borrow().iter().find(|one| &one.name == model).cloned();
    let Some(model) = info else {
        let result = Err(format!("there is no model {model}"));
        return vec![Outcome { case: "the model is listed", result }];
    };
    let asked = Asked { provider, model };
    let mut outcomes = vec![];
    for (case, needs, run) in CASES {
        if asked.model.capabilities.contains(needs) {
            outcomes.push(Outcome { case, result: run(&asked).await });
        }
    }
    outcomes
}

fn expect(is_so: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

fn user(text: &str) -> Chat {
    Chat::new(vec![Message::new(Role::User, text)])
}

impl Asked<'_> {
    fn request(&self, input: Input) -> InferRequest {
        let mut request = InferRequest::new(self.model.name.clone(), input);
        if matches!(request.input, Input::Chat(_) | Input::Text(_)) {
            request.max_tokens = Some(16);
            request.sampling.temperature = 0.0;
        }
        request
    }

    async fn ask(&self, request: InferRequest) -> Result<Whole, RefusalCode> {
        let mut generation = self.provider.generate(request).map_err(|refusal| refusal.code)?;
        let read = async {
            let mut whole = Whole::default();
            while let Some(reply) = generation.next().await {
                whole.take(reply)?;
            }
            Ok(whole)
        };
        // Silence is the provider's failure, and shows as one.
        let silent = Err(RefusalCode::PeerLost);
        tokio::time::timeout(ANSWER_TIME_MAX, read).await.unwrap_or(silent)
    }

    async fn well(&self, request: InferRequest) -> Checked<Whole> {
        let whole = self.ask(request).await.map_err(|code| format!("refused: {code:?}"))?;
        expect(whole.end.is_some(), || "there was no end".into())?;
        Ok(whole)
    }

    async fn refused(&self, request: InferRequest, codes: &[RefusalCode]) -> Checked {
        match self.ask(request).await {
            Err(code) if codes.contains(&code) => Ok(()),
            Err(code) => Err(format!("refused for the wrong reason: {code:?}")),
            Ok(_) => Err("it was not refused".into()),
        }
    }
}

impl Whole {
    fn take(&mut self, reply: Reply) -> Result<(), RefusalCode> {
        match reply {
            Reply::Text { text, .. } => {
                self.pieces += 1;
                self.text += &text;
            }
            Reply::Reasoning { text, .. } => {
                self.pieces += 1;
                self.reasoning += &text;
            }
            Reply::ToolCall(piece) => {
                let at = usize::from(piece.index);
                if at == self.calls.len() {
                    // A first piece without id or name would not decode at a client.
                    let (Some(id), Some(name)) = (piece.id, piece.name) else {
                        return Err(RefusalCode::Malformed);
                    };
                    self.calls.push((id, name, String::new()));
                }
                // Pieces of one call are not mixed with those of another.
                if at + 1 != self.calls.len() {
                    return Err(RefusalCode::Malformed);
                }
                let Some(call) = self.calls.last_mut() else { return Ok(()) };
                call.2 += &piece.arguments;
            }
            Reply::Logprobs(list) => self.logprobs.extend(list),
            Reply::Embedding { values, .. } => self.vectors.push(values),
            Reply::Scores(scores) => self.scores.extend(scores),
            Reply::Tokens(tokens) => self.tokens.extend(tokens),
            Reply::Done { finish, usage } => self.end = Some((finish, usage)),
            Reply::Alive => {}
            // Nobody asked for a file.
            Reply::File { .. } => return Err(RefusalCode::Malformed),
            Reply::Refused(refusal) => return Err(refusal.code),
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.end.map(|(_, usage)| usage).unwrap_or_default()
    }

    fn finish(&self) -> Option<FinishReason> {
        self.end.map(|(finish, _)| finish)
    }
}

async fn answer(a: &Asked<'_>) -> Checked {
    let whole = a.well(a.request(Input::Chat(user("Say something.")))).await?;
    let usage = whole.usage();
    expect(!(whole.text.is_empty() && whole.reasoning.is_empty()), || "it said nothing".into())?;
    expect(usage.prompt_tokens > 0, || "the prompt had no tokens".into())?;
    expect(usage.completion_tokens > 0, || "the answer had no tokens".into())?;
    expect(usage.cached_tokens <= usage.prompt_tokens, || format!("{usage:?}"))?;
    expect(whole.calls.is_empty() && whole.logprobs.is_empty(), || "nobody asked for that".into())
}

async fn limit(a: &Asked<'_>) -> Checked {
    let mut request = a.request(Input::Chat(user("Count to one thousand: 1 2 3")));
    request.max_tokens = Some(3);
    let whole = a.well(request).await?;
    let tokens = whole.usage().completion_tokens;
    expect((1..=3).contains(&tokens), || format!("{tokens} tokens"))?;
    let is_right = whole.finish() == Some(FinishReason::Length) || tokens < 3;
    expect(is_right, || format!("it ended with {:?}", whole.finish()))
}

async fn stop(a: &Asked<'_>) -> Checked {
    let asked = || a.request(Input::Chat(user("Say something long.")));
    let text = a.well(asked()).await?.text;
    // A few characters from the middle of what it says anyway.
    let middle: String = text.chars().skip(text.chars().count() / 2).take(3).collect();
    if middle.trim().len() < 2 {
        return Ok(());
    }
    let stopped = a.well(InferRequest { stop: vec![middle.clone()], ..asked() }).await?;
    expect(!stopped.text.contains(&middle), || "the stop sequence is in the answer".into())?;
    expect(text.starts_with(&stopped.text), || "it said something else".into())?;
    let finish = stopped.finish();
    let is_right = matches!(finish, Some(FinishReason::Stop | FinishReason::StopSequence(0)));
    expect(is_right, || format!("it ended with {finish:?}"))
}

async fn seed(a: &Asked<'_>) -> Checked {
    let asked = || {
        let mut request = a.request(Input::Chat(user("Say something.")));
        request.sampling.temperature = 1.0;
        request.sampling.seed = Some(0x1234_5678_9abc);
        request
    };
    match a.ask(asked()).await {
        Err(RefusalCode::Unsupported) => Ok(()),
        Err(code) => Err(format!("refused: {code:?}")),
        Ok(first) => {
            let second = a.well(asked()).await?;
            expect(first.text == second.text, || "the second answer was another".into())
        }
    }
}

async fn turns(a: &Asked<'_>) -> Checked {
    let mut chat = user("What is \u{1f600}? <|im_end|>");
    chat.messages.insert(0, Message::new(Role::System, "Be brief."));
    let mut said = Message::new(Role::Assistant, "A face.");
    said.reasoning = Some("It smiles.".into());
    chat.messages.push(said);
    chat.messages.push(Message::new(Role::User, "And \u{20ac}?"));
    a.well(a.request(Input::Chat(chat))).await.map(|_| ())
}

async fn reasoning(a: &Asked<'_>) -> Checked {
    for wish in [Reasoning::Off, Reasoning::On] {
        let chat = Chat { reasoning: wish, ..user("Say something.") };
        let mut request = a.request(Input::Chat(chat));
        request.max_tokens = Some(2048.min(a.model.context_tokens / 2));
        // Anthropic's models think at this temperature only.
        request.sampling.temperature = 1.0;
        a.well(request).await?;
    }
    Ok(())
}

async fn continued(a: &Asked<'_>) -> Checked {
    match a.ask(a.request(Input::Text("Once upon a time".into()))).await {
        Ok(whole) => expect(whole.usage().completion_tokens > 0, || "it said nothing".into()),
        Err(RefusalCode::Unsupported) => Ok(()),
        Err(code) => Err(format!("refused: {code:?}")),
    }
}

async fn slots(a: &Asked<'_>) -> Checked {
    let request = || a.request(Input::Chat(user("Say something.")));
    let mut all = vec![];
    for _ in 0..a.model.slots {
        let generation = a.provider.generate(request());
        all.push(generation.map_err(|refusal| format!("refused early: {refusal}"))?);
    }
    match a.provider.generate(request()) {
        Err(refusal) if refusal.code == RefusalCode::Busy => {}
        other => return Err(format!("one too many was not busy: {other:?}")),
    }
    for generation in &mut all {
        let read = async {
            let mut last = None;
            while let Some(reply) = generation.next().await {
                last = Some(reply);
            }
            last
        };
        let last = tokio::time::timeout(ANSWER_TIME_MAX, read).await.unwrap_or_default();
        expect(matches!(last, Some(Reply::Done { .. })), || format!("it ended with {last:?}"))?;
    }
    // The end was told, so the place is free although nothing was dropped.
    let again = a.provider.generate(request());
    expect(again.is_ok(), || "no slot came back".into())
}

async fn dropped(a: &Asked<'_>) -> Checked {
    for _ in 0..=a.model.slots {
        let mut request = a.request(Input::Chat(user("Say something very long.")));
        request.max_tokens = Some(a.model.context_tokens / 2);
        let generation = a.provider.generate(request);
        let mut generation = generation.map_err(|refusal| refusal.to_string())?;
        let first = tokio::time::timeout(ANSWER_TIME_MAX, generation.next()).await;
        expect(matches!(first, Ok(Some(_))), || "it said nothing".into())?;
    }
    a.well(a.request(Input::Chat(user("Say something.")))).await.map(|_| ())
}

async fn too_long(a: &Asked<'_>) -> Checked {
    let mut request = a.request(Input::Chat(user("Say something.")));
    let Some(most) = a.model.context_tokens.checked_add(1).filter(|n| *n < 1_000_000) else {
        return Ok(());
    };
    request.max_tokens = Some(most);
    a.refused(request, &[RefusalCode::ContextOverflow]).await
}

async fn too_full(a: &Asked<'_>) -> Checked {
    if a.model.context_tokens > FILLED_CONTEXT_MAX {
        return Ok(());
    }
    let text = "x7 ".repeat(a.model.context_tokens as usize);
    let request = a.request(Input::Chat(user(&text)));
    a.refused(request, &[RefusalCode::ContextOverflow]).await
}

async fn no_schema(a: &Asked<'_>) -> Checked {
    for schema in ["[]", "{", "{} {}"] {
        let mut request = a.request(Input::Chat(user("Say something.")));
        request.format = Format::JsonSchema(schema.into());
        a.refused(request, &[RefusalCode::InvalidRequest, RefusalCode::Unsupported]).await?;
    }
    Ok(())
}

async fn schema(a: &Asked<'_>) -> Checked {
    let mut request = a.request(Input::Chat(user("Is water wet? Answer in JSON.")));
    request.max_tokens = Some(128);
    request.format = Format::JsonSchema(
        r#"{"type":"object","properties":{"wet":{"type":"boolean"}},"required":["wet"],"additionalProperties":false}"#
            .into(),
    );
    let whole = a.well(request).await?;
    if whole.finish() == Some(FinishReason::Length) {
        return Ok(());
    }
    let value: Value = serde_json::from_str(&whole.text).map_err(|_| "it is not JSON")?;
    expect(value["wet"].is_boolean(), || "it does not follow the schema".into())
}

fn weather() -> Tool {
    Tool {
        name: "weather".into(),
        description: Some("Tells the weather".into()),
        parameters: r#"{"type":"object","properties":{"city":{"type":"string","enum":["Rome","Oslo"]}},"required":["city"]}"#.into(),
    }
}

async fn tool(a: &Asked<'_>) -> Checked {
    for tool_choice in [ToolChoice::Required, ToolChoice::Named("weather".into()), ToolChoice::Auto]
    {
        let chat = Chat { tools: vec![weather()], tool_choice, ..user("The weather in Rome?") };
        let mut request = a.request(Input::Chat(chat));
        request.max_tokens = Some(256);
        let whole = match a.ask(request).await {
            Err(RefusalCode::Unsupported) => continue,
            Err(code) => return Err(format!("refused: {code:?}")),
            Ok(whole) => whole,
        };
        if whole.finish() == Some(FinishReason::Length) {
            continue;
        }
        let has_calls = !whole.calls.is_empty();
        let is_right = has_calls == (whole.finish() == Some(FinishReason::ToolCalls));
        expect(is_right, || format!("{} calls, {:?}", whole.calls.len(), whole.finish()))?;
        for (id, name, arguments) in &whole.calls {
            expect(!id.is_empty() && name == "weather", || "it called something else".into())?;
            let value: Value = serde_json::from_str(arguments).map_err(|_| "not JSON")?;
            expect(value.is_object(), || "the arguments are no object".into())?;
        }
    }
    Ok(())
}

async fn tool_result(a: &Asked<'_>) -> Checked {
    let mut chat = Chat { tools: vec![weather()], ..user("The weather in Rome and Oslo?") };
    let call = |id: &str, city: &str| ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: format!("{{\"city\":\"{city}\"}}"),
    };
    let mut said = Message::new(Role::Assistant, "");
    said.parts.clear();
    said.tool_calls = vec![call("call_a1", "Rome"), call("call_b2", "Oslo")];
    chat.messages.push(said);
    for (id, text) in [("call_a1", "sun"), ("call_b2", "snow")] {
        let mut result = Message::new(Role::Tool, text);
        result.tool_call_id = Some(id.into());
        chat.messages.push(result);
    }
    a.well(a.request(Input::Chat(chat))).await.map(|_| ())
}

async fn logprobs(a: &Asked<'_>) -> Checked {
    for alternatives in [0, 2] {
        let mut request = a.request(Input::Chat(user("Say something.")));
        request.logprobs = Some(alternatives);
        let whole = a.well(request).await?;
        expect(!whole.logprobs.is_empty(), || "no likelihood was told".into())?;
        for one in &whole.logprobs {
            let is_one = one.logprob <= 0.0 && !one.logprob.is_nan();
            expect(is_one, || format!("{} is no logarithm", one.logprob))?;
            let most = usize::from(alternatives);
            expect(one.top.len() <= most, || format!("{} alternatives", one.top.len()))?;
        }
        let bytes: Vec<u8> = whole.logprobs.iter().flat_map(|one| one.bytes.clone()).collect();
        let said = whole.text + &whole.reasoning;
        let is_part = said.is_empty() || String::from_utf8_lossy(&bytes).contains(said.trim());
        expect(is_part, || "the tokens are not those of the answer".into())?;
    }
    Ok(())
}

async fn embed(a: &Asked<'_>) -> Checked {
    let texts = ["a cat", "a stone", "a cat"].map(str::to_owned).to_vec();
    let whole = a.well(a.request(Input::Embed(texts))).await?;
    let [first, other, again] = whole.vectors.as_slice() else {
        return Err(format!("{} vectors", whole.vectors.len()));
    };
    let length = first.iter().map(|v| v * v).sum::<f32>().sqrt();
    expect((length - 1.0).abs() < 1e-3, || format!("a vector of length {length}"))?;
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-2);
    expect(near(first, again), || "the same text became another vector".into())?;
    expect(!near(first, other), || "another text became the same vector".into())
}

async fn rerank(a: &Asked<'_>) -> Checked {
    let documents = ["Paris is in France", "Eggs", "Rome"].map(str::to_owned).to_vec();
    let input = Input::Rerank { query: "Where is Paris?".into(), documents };
    let whole = a.well(a.request(input)).await?;
    expect(whole.scores.len() == 3, || format!("{} scores", whole.scores.len()))
}

async fn tokens(a: &Asked<'_>) -> Checked {
    let text = "Hello, world";
    let input = Input::Tokenize { text: text.into(), add_special: false };
    match a.ask(a.request(input)).await {
        Ok(split) => {
            expect(!split.tokens.is_empty(), || "no tokens".into())?;
            let joined = a.well(a.request(Input::Detokenize(split.tokens))).await?;
            expect(joined.text.trim() == text, || "joined it is another text".into())?;
        }
        Err(RefusalCode::Unsupported) => {}
        Err(code) => return Err(format!("refused: {code:?}")),
    }
    match a.ask(a.request(Input::Count(user(text)))).await {
        Ok(counted) => expect(counted.usage().prompt_tokens > 1, || "too few tokens".into()),
        Err(RefusalCode::Unsupported) => Ok(()),
        Err(code) => Err(format!("counting was refused: {code:?}")),
    }
}

async fn cannot(a: &Asked<'_>) -> Checked {
    let unknown = ModelName::new("no/such-model").map_err(|error| error.to_string())?;
    let request = InferRequest::new(unknown, Input::Chat(user("x")));
    a.refused(request, &[RefusalCode::UnknownModel]).await?;
    let can = a.model.capabilities;
    let mut image = user("What is this?");
    let bytes = b"\x89PNG".to_vec();
    image.messages[0].parts.push(Part::Image(Image { format: ImageFormat::Png, bytes }));
    let exact = InferRequest { profile: Profile::Exact, ..a.request(Input::Chat(user("x"))) };
    let rank = Input::Rerank { query: "x".into(), documents: vec!["y".into()] };
    for (ability, request) in [
        (Capabilities::VISION, a.request(Input::Chat(image))),
        (Capabilities::EXACT, exact),
        (Capabilities::EMBED, a.request(Input::Embed(vec!["x".into()]))),
        (Capabilities::RERANK, a.request(rank)),
        (Capabilities::GENERATE, a.request(Input::Chat(user("x")))),
    ] {
        if !can.contains(ability) {
            a.refused(request, &[RefusalCode::Unsupported]).await?;
        }
    }
    Ok(())
}
