use arknet_types::{Tool, ToolChoice, limits::TOOLS_MAX};

use super::wire::{ChoiceKind, WireChoice, WireTool};
use crate::{
    ApiError,
    json::{Object, RawObject},
};

/// Arguments of the tools that clients run but name by a type alone.
const BASH: &str = r#"{"type":"object","properties":{"command":{"type":"string","description":"The command to run."},"restart":{"type":"boolean","description":"Whether to start the shell anew."}}}"#;
const EDITOR: &str = r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command","path"]}"#;

/// Tools, whether they may, must or must not be called, and whether several at once.
pub(super) type Tools = (Vec<Tool>, ToolChoice, bool);

/// Reads the tools. What Anthropic would run itself (searching the web, running code) does not
/// exist here: it is left out where the model is free not to use it, and refused where it must.
pub(super) fn tools(
    wire: Option<Vec<Object<WireTool>>>,
    choice: Option<Object<WireChoice>>,
) -> Result<Tools, ApiError> {
    let wire = wire.unwrap_or_default();
    let mut missing = Vec::new();
    let mut tools = Vec::with_capacity(wire.len().min(TOOLS_MAX));
    for (index, Object(tool)) in wire.into_iter().enumerate() {
        match read(tool, index)? {
            Ok(tool) => tools.push(tool),
            Err(name) => missing.push(name),
        }
    }
    let Some(Object(choice)) = choice else {
        return Ok((tools, ToolChoice::Auto, true));
    };
    let parallel = !choice.disable_parallel_tool_use.unwrap_or_default();
    let choice = match (choice.r#type, choice.name) {
        (ChoiceKind::Auto, _) => ToolChoice::Auto,
        (ChoiceKind::None, _) => ToolChoice::None,
        (ChoiceKind::Any, _) if tools.is_empty() && !missing.is_empty() => {
            return Err(not_here());
        }
        (ChoiceKind::Any, _) => ToolChoice::Required,
        (ChoiceKind::Tool, None) => return Err(ApiError::missing("tool_choice.name")),
        (ChoiceKind::Tool, Some(name)) if missing.contains(&name) => return Err(not_here()),
        (ChoiceKind::Tool, Some(name)) => ToolChoice::Named(name),
    };
    Ok((tools, choice, parallel))
}

/// A tool, or the name of one that is not here.
fn read(tool: WireTool, index: usize) -> Result<Result<Tool, String>, ApiError> {
    let kind = tool.r#type.as_deref().unwrap_or("custom");
    let (parameters, words) = if kind == "custom" {
        let RawObject(schema) = tool
            .input_schema
            .ok_or_else(|| ApiError::missing(format!("tools[{index}].input_schema")))?;
        (schema, None)
    } else if kind.starts_with("bash_") {
        (BASH.into(), Some("Run commands in a shell."))
    } else if kind.starts_with("text_editor_") {
        (EDITOR.into(), Some("View, create and edit text files."))
    } else if ["memory_", "computer_", "browser_"].iter().any(|known| kind.starts_with(known)) {
        return Err(ApiError::unsupported(
            format!("tools[{index}].type"),
            format!(
                "Tools of the type '{kind}' are known to Anthropic's models alone: pass one with an \
                 input_schema."
            ),
        ));
    } else {
        return Ok(Err(tool.name.unwrap_or_else(|| kind.into())));
    };
    let name = tool.name.ok_or_else(|| ApiError::missing(format!("tools[{index}].name")))?;
    let description = tool.description.or_else(|| words.map(Into::into));
    Ok(Ok(Tool { name, description, parameters }))
}

fn not_here() -> ApiError {
    ApiError::unsupported(
        "tool_choice",
        "tool_choice asks for a tool that runs on Anthropic's servers. There are none here: pass \
         tools with an input_schema, which run on the client.",
    )
}
