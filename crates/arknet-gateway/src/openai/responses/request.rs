use std::{collections::BTreeMap, fmt};

use arknet_types::{
    Chat, Format, InferRequest, Input, Message, Part, Reasoning, RefusalCode, Role, Sampling,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::{
    super::{
        format::WireFormat,
        params::{WireProfile, WireReasoning, answer_limit},
        request::model,
        shape::Shape,
        tools::{WireChoice, WireTool, choose, response_tools},
    },
    items::{Recall, WireItem, messages},
};
use crate::{
    ApiError,
    json::{self, Object, RawObject},
};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseAsked {
    /// What goes to the model, but for what was said before.
    pub request: InferRequest,
    /// The answer this goes on from.
    pub previous: Option<String>,
    /// Where the first picture of what it says itself stands.
    pub picture: Option<String>,
    /// What sets the scene of this turn alone.
    pub instructions: Option<String>,
    /// Whether the answer is sent piece by piece.
    pub stream: bool,
    /// Whether the answer is kept, so that another can go on from it.
    pub store: bool,
    /// What the client calls the form of the answer.
    pub format_name: Option<String>,
    /// What the client wants to find in the answer again, in JSON.
    pub metadata: Option<String>,
    /// Tools that come in groups: by the name that the model has for one, its group and its name there.
    pub grouped: BTreeMap<String, (String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    model: Option<String>,
    input: Option<WireInput>,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    stream: Option<bool>,
    store: Option<bool>,
    max_output_tokens: Option<i64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    seed: Option<i64>,
    top_logprobs: Option<u8>,
    include: Option<Vec<String>>,
    tools: Option<Vec<Object<WireTool>>>,
    tool_choice: Option<WireChoice>,
    parallel_tool_calls: Option<bool>,
    text: Option<Object<WireText>>,
    reasoning: Option<Object<WireReasoning>>,
    metadata: Option<RawObject>,
    profile: Option<WireProfile>,
    background: Shape,
    conversation: Shape,
    moderation: Shape,
    prompt: Shape,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireText {
    format: Option<Object<NamedFormat>>,
}

#[derive(Debug, Deserialize)]
struct NamedFormat {
    name: Option<String>,
    r#type: super::super::format::FormatKind,
    schema: Option<RawObject>,
}

/// A text, or items.
#[derive(Debug)]
enum WireInput {
    Text(String),
    Items(Vec<Object<WireItem>>),
}

impl<'de> Deserialize<'de> for WireInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = WireInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of items")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<WireInput, E> {
                Ok(WireInput::Text(text.into()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<WireInput, E> {
                Ok(WireInput::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WireInput, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(WireInput::Items(items))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Reads the body of `POST /v1/responses`, without items of earlier answers.
pub fn response(body: &[u8]) -> Result<ResponseAsked, ApiError> {
    response_after(body, &|_| None)
}

/// The same with the items of earlier answers that it may refer to.
pub(crate) fn response_after(body: &[u8], recall: Recall<'_>) -> Result<ResponseAsked, ApiError> {
    let mut params: Params = json::object(body)?;
    params.check_supported()?;
    let model = model(params.model.take())?;
    let (mut tools, grouped) = response_tools(params.tools.take().unwrap_or_default())?;
    let (messages, picture) = match params.input.take() {
        None => return Err(ApiError::missing("input")),
        Some(WireInput::Text(text)) => (vec![Message::new(Role::User, text)], None),
        Some(WireInput::Items(items)) => messages(items, model.as_str(), &grouped, recall)?,
    };
    let tool_choice = choose(params.tool_choice.take(), &mut tools)?;
    let effort = params.reasoning.take().and_then(|Object(reasoning)| reasoning.effort);
    let chat = Chat {
        messages,
        tools,
        tool_choice,
        parallel_tool_calls: params.parallel_tool_calls.unwrap_or(true),
        reasoning: effort.map_or_else(Reasoning::default, Into::into),
    };
    let (format, format_name) = params.format();
    let neutral = Sampling::default();
    let request = InferRequest {
        max_tokens: answer_limit(params.max_output_tokens),
        sampling: Sampling {
            temperature: params.temperature.unwrap_or(neutral.temperature),
            top_p: params.top_p.unwrap_or(neutral.top_p),
            top_k: params.top_k.map_or(0, |k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            min_p: params.min_p.unwrap_or(neutral.min_p),
            seed: params.seed.map(i64::cast_unsigned),
            ..neutral
        },
        format,
        logprobs: params.logprobs(),
        profile: params.profile.map(Into::into).unwrap_or_default(),
        ..InferRequest::new(model, Input::Chat(chat))
    };
    Ok(ResponseAsked {
        request,
        previous: params.previous_response_id,
        picture,
        instructions: params.instructions,
        stream: params.stream.unwrap_or_default(),
        store: params.store.unwrap_or(true),
        format_name,
        metadata: params.metadata.map(|RawObject(json)| json),
        grouped,
    })
}

impl Params {
    /// Refuses what would change the answer and cannot be done.
    fn check_supported(&self) -> Result<(), ApiError> {
        for (name, value) in [
            ("background", &self.background),
            ("conversation", &self.conversation),
            ("moderation", &self.moderation),
            ("prompt", &self.prompt),
        ] {
            if !value.is_false() {
                let message = format!("'{name}' is not supported here: leave it out.");
                return Err(ApiError::unsupported(name, message));
            }
        }
        Ok(())
    }

    fn format(&mut self) -> (Format, Option<String>) {
        let format = self.text.take().and_then(|Object(text)| text.format);
        format.map_or((Format::Text, None), |Object(NamedFormat { name, r#type, schema })| {
            (WireFormat::flat(r#type, schema).into_format(), name)
        })
    }

    fn logprobs(&self) -> Option<u8> {
        let wanted = self.include.iter().flatten().any(|one| one == "message.output_text.logprobs");
        self.top_logprobs.filter(|top| *top > 0).or_else(|| wanted.then_some(0))
    }
}

impl ResponseAsked {
    /// Takes away again what set the scene of this turn alone.
    pub(crate) fn forget_instructions(&self, messages: &mut Vec<Message>) {
        if self.instructions.is_none() {
            return;
        }
        match messages.first_mut() {
            Some(first) if first.parts.len() > 1 => drop(first.parts.remove(0)),
            Some(_) => drop(messages.remove(0)),
            None => {}
        }
    }

    /// Puts what was said before in front, and what sets the scene in front of that.
    pub(crate) fn after(&mut self, before: &[Message]) -> Result<(), ApiError> {
        let Input::Chat(chat) = &mut self.request.input else {
            return Ok(());
        };
        if !before.is_empty() {
            chat.messages.splice(0..0, before.iter().cloned());
        }
        if let Some(instructions) = &self.instructions {
            // Many templates want one scene, and it first.
            match chat.messages.first_mut() {
                Some(Message { role: Role::System, parts, .. }) => {
                    parts.insert(0, Part::Text(format!("{instructions}\n\n")));
                }
                _ => chat.messages.insert(0, Message::new(Role::System, instructions.as_str())),
            }
        }
        self.request.check().map_err(|refusal| {
            let too_large = refusal.code == RefusalCode::TooLarge;
            let error = ApiError::from_refusal(refusal);
            match error.param() {
                _ if too_large => error.about("input"),
                Some("messages") => error.about("input"),
                Some("max_tokens") => error.about("max_output_tokens"),
                Some("logprobs") => error.about("top_logprobs"),
                _ => error,
            }
        })
    }
}
