use std::fmt;

use arknet_types::{Tool, ToolChoice};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    ApiError,
    json::{Object, RawObject},
};

/// The arguments of a tool that takes none.
const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;

/// A tool of chat completions (inside `function`) or of responses (flat).
#[derive(Debug, Deserialize)]
pub(crate) struct WireTool {
    r#type: String,
    function: Option<Object<WireFunction>>,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<RawObject>,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    description: Option<String>,
    parameters: Option<RawObject>,
}

/// Which tools may be called: a word, or an object.
#[derive(Debug)]
pub(crate) enum WireChoice {
    Word(String),
    Object(ChoiceObject),
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChoiceObject {
    r#type: String,
    name: Option<String>,
    function: Option<Object<Named>>,
    allowed_tools: Option<Object<Allowed>>,
    mode: Option<String>,
    tools: Option<Vec<Object<AllowedTool>>>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Allowed {
    mode: Option<String>,
    tools: Option<Vec<Object<AllowedTool>>>,
}

#[derive(Debug, Deserialize)]
struct AllowedTool {
    name: Option<String>,
    function: Option<Object<Named>>,
}

impl<'de> Deserialize<'de> for WireChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = WireChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<WireChoice, E> {
                Ok(WireChoice::Word(word.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<WireChoice, A::Error> {
                ChoiceObject::deserialize(MapAccessDeserializer::new(fields))
                    .map(WireChoice::Object)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The tools as a model takes them.
pub(crate) fn tools(wire: Vec<Object<WireTool>>) -> Result<Vec<Tool>, ApiError> {
    wire.into_iter().enumerate().map(|(index, Object(tool))| tool.into_tool(index)).collect()
}

impl WireTool {
    fn into_tool(self, index: usize) -> Result<Tool, ApiError> {
        if self.r#type != "function" {
            return Err(ApiError::unsupported(
                format!("tools[{index}].type"),
                "Only tools of the type 'function' are supported here.",
            ));
        }
        let (name, description, parameters) = match self.function {
            Some(Object(function)) => {
                (Some(function.name), function.description, function.parameters)
            }
            None => (self.name, self.description, self.parameters),
        };
        let name = name.ok_or_else(|| ApiError::missing(format!("tools[{index}].function")))?;
        let parameters = parameters.map_or_else(|| NO_ARGUMENTS.to_owned(), |RawObject(json)| json);
        Ok(Tool { name, description, parameters })
    }
}

/// Which tools may be called. Those that may not are taken away.
pub(crate) fn choose(
    choice: Option<WireChoice>,
    tools: &mut Vec<Tool>,
) -> Result<ToolChoice, ApiError> {
    match choice {
        None => Ok(ToolChoice::Auto),
        Some(WireChoice::Word(word)) => mode(&word),
        Some(WireChoice::Object(object)) => object.choose(tools),
    }
}

fn mode(word: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(ApiError::parameter(
            "tool_choice",
            "Invalid value for 'tool_choice': expected 'none', 'auto', 'required' or a tool.",
        )),
    }
}

impl ChoiceObject {
    fn choose(self, tools: &mut Vec<Tool>) -> Result<ToolChoice, ApiError> {
        match self.r#type.as_str() {
            "function" => {
                let name = self.function.map(|Object(named)| named.name).or(self.name);
                let name = name.ok_or_else(|| ApiError::missing("tool_choice.function"))?;
                Ok(ToolChoice::Named(name))
            }
            "allowed_tools" => {
                let (word, allowed) = match self.allowed_tools {
                    Some(Object(allowed)) => (allowed.mode, allowed.tools),
                    None => (self.mode, self.tools),
                };
                let allowed = allowed.ok_or_else(|| ApiError::missing("tool_choice.tools"))?;
                let names: Vec<String> = allowed
                    .into_iter()
                    .filter_map(|Object(tool)| tool.function.map(|f| f.0.name).or(tool.name))
                    .collect();
                tools.retain(|tool| names.contains(&tool.name));
                mode(word.as_deref().unwrap_or("auto"))
            }
            _ => Err(ApiError::unsupported(
                "tool_choice.type",
                "Only the types 'function' and 'allowed_tools' are supported here.",
            )),
        }
    }
}
