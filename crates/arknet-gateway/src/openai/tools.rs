use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use arknet_types::{Tool, ToolChoice, is_tool_name};
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
    tools: Option<Vec<Object<Self>>>,
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

/// Tools that OpenAI runs itself.
const SERVER_TOOLS: [&str; 4] =
    ["web_search", "file_search", "image_generation", "code_interpreter"];

/// What clients call tools that come in groups: by the name that a model has for one, its group and the
/// name that it has there.
pub(crate) type Grouped = BTreeMap<String, (String, String)>;

/// The tools of a response. What OpenAI would run itself does not exist here: it is left out, as the
/// model is free not to use it (a `tool_choice` that demands it is refused). Tools in a group run on the
/// client as others do.
pub(crate) fn response_tools(
    wire: Vec<Object<WireTool>>,
) -> Result<(Vec<Tool>, Grouped), ApiError> {
    let (mut tools, mut grouped) = (Vec::new(), Grouped::new());
    let mut names = BTreeSet::new();
    for (index, Object(mut tool)) in wire.into_iter().enumerate() {
        if SERVER_TOOLS.iter().any(|known| tool.r#type.starts_with(known)) {
            continue;
        }
        if tool.r#type != "namespace" {
            let tool = tool.into_tool(index)?;
            names.insert(tool.name.clone());
            tools.push(tool);
            continue;
        }
        let missing = |field: &str| ApiError::missing(format!("tools[{index}].{field}"));
        let group = tool.name.take().ok_or_else(|| missing("name"))?;
        // It is kept with each of its tools.
        if !is_tool_name(&group) {
            let message = format!("Invalid value for 'tools[{index}].name'.");
            return Err(ApiError::parameter(format!("tools[{index}].name"), message));
        }
        for Object(one) in tool.tools.take().ok_or_else(|| missing("tools"))? {
            let mut one = one.into_tool(index)?;
            let alone = one.name.clone();
            if names.contains(&alone) {
                one.name = in_group(&group, &alone);
            }
            if !names.insert(one.name.clone()) {
                let message = format!("'tools[{index}]' has two tools of one name.");
                return Err(ApiError::parameter(format!("tools[{index}].tools"), message));
            }
            grouped.insert(one.name.clone(), (group.clone(), alone));
            tools.push(one);
        }
    }
    Ok((tools, grouped))
}

fn in_group(group: &str, name: &str) -> String {
    format!("{group}__{name}")
}

/// What a model calls a tool of a group.
pub(crate) fn flat(grouped: &Grouped, group: &str, name: String) -> String {
    let is_it =
        |flat: &str| grouped.get(flat).is_some_and(|(of, alone)| of == group && *alone == name);
    let long = in_group(group, &name);
    if !is_it(&name) && is_it(&long) { long } else { name }
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
