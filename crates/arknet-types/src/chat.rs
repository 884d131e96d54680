//! Conversations, tools and images.

use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    codec,
    limits::{
        MESSAGES_MAX, PARTS_PER_MESSAGE_MAX, TOOL_CALLS_PER_MESSAGE_MAX, TOOL_NAME_BYTES_MAX,
        TOOLS_MAX,
    },
};

/// A conversation, and what the model may do beside talking.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub struct Chat {
    /// What was said, oldest first. Where the assistant spoke last, its message is continued.
    #[borsh(deserialize_with = "codec::list::<_, _, MESSAGES_MAX>")]
    pub messages: Vec<Message>,
    /// Tools the model may call.
    #[borsh(deserialize_with = "codec::list::<_, _, TOOLS_MAX>")]
    pub tools: Vec<Tool>,
    /// Whether it may, must or must not.
    pub tool_choice: ToolChoice,
    /// Whether it may call several in one answer.
    pub parallel_tool_calls: bool,
    /// Whether the model thinks before it answers, where it can do both.
    pub reasoning: Reasoning,
}

impl Chat {
    /// A conversation without tools.
    #[must_use]
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, parallel_tool_calls: true, ..Self::default() }
    }

    /// Whether any message holds an image.
    #[must_use]
    pub fn has_images(&self) -> bool {
        self.images().next().is_some()
    }

    /// All images, in the order of the conversation.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
            Part::Image(image) => Some(image),
            Part::Text(_) => None,
        })
    }
}

/// One message of a conversation.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    #[borsh(deserialize_with = "codec::list::<_, _, PARTS_PER_MESSAGE_MAX>")]
    pub parts: Vec<Part>,
    /// What the assistant thought before it said so.
    pub reasoning: Option<String>,
    /// Tools the assistant called.
    #[borsh(deserialize_with = "codec::list::<_, _, TOOL_CALLS_PER_MESSAGE_MAX>")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's message: the call it answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text alone.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            parts: vec![Part::Text(text.into())],
            reasoning: None,
            tool_calls: vec![],
            tool_call_id: None,
        }
    }

    /// All texts of the message, one after the other.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image(_) => None,
        });
        texts.collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Image(image) => image.bytes.len(),
        });
        let calls = self.tool_calls.iter().map(|c| c.id.len() + c.name.len() + c.arguments.len());
        let rest = self.reasoning.as_ref().map_or(0, String::len)
            + self.tool_call_id.as_ref().map_or(0, String::len);
        parts.sum::<usize>() + calls.sum::<usize>() + rest
    }
}

/// A piece of a message.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// Words.
    Text(String),
    /// A picture.
    Image(Image),
}

/// A picture as a file.
#[derive(BorshDeserialize, BorshSerialize, Clone, Eq, PartialEq)]
pub struct Image {
    /// What kind of file.
    pub format: ImageFormat,
    /// The file.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}, {} bytes)", self.format.media_type(), self.bytes.len())
    }
}

/// Kinds of picture files.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum ImageFormat {
    /// `image/png`
    Png = 0,
    /// `image/jpeg`
    Jpeg = 1,
    /// `image/gif`
    Gif = 2,
    /// `image/webp`
    Webp = 3,
}

impl ImageFormat {
    /// The name on the web.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }

    /// What the first bytes of a file say it is.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

/// Who speaks.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Role {
    /// Sets the scene.
    System = 0,
    /// The person.
    User = 1,
    /// The model.
    Assistant = 2,
    /// The result of a tool.
    Tool = 3,
}

impl Role {
    /// The name chat templates use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A function the model may call.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Tool {
    /// What it is called: letters, digits, `_`, `-` and `.`.
    #[borsh(deserialize_with = "tool_name")]
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// Its arguments as a JSON Schema of an object, in JSON.
    pub parameters: String,
}

/// Whether the model calls tools.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub enum ToolChoice {
    /// It decides.
    #[default]
    Auto,
    /// It does not.
    None,
    /// It calls at least one.
    Required,
    /// It calls this one.
    Named(#[borsh(deserialize_with = "tool_name")] String),
}

/// A call of a tool.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ToolCall {
    /// What its result refers to.
    pub id: String,
    /// Which tool.
    #[borsh(deserialize_with = "tool_name")]
    pub name: String,
    /// An object in JSON.
    pub arguments: String,
}

/// Whether a model that can think aloud does.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Reasoning {
    /// As its template has it.
    #[default]
    Auto = 0,
    /// No.
    Off = 1,
    /// Yes.
    On = 2,
}

/// Whether this may name a tool.
#[must_use]
pub fn is_tool_name(name: &str) -> bool {
    (1..=TOOL_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn tool_name<R: io::Read>(reader: &mut R) -> io::Result<String> {
    let name = codec::text::<_, TOOL_NAME_BYTES_MAX>(reader)?;
    if is_tool_name(&name) {
        Ok(name)
    } else {
        Err(codec::invalid("a tool's name has 1 to 128 of a-z, A-Z, 0-9, _, - and ."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_known_by_its_first_bytes() {
        assert_eq!(ImageFormat::of(b"\x89PNG\r\n"), Some(ImageFormat::Png));
        assert_eq!(ImageFormat::of(b"\xff\xd8\xff\xe0"), Some(ImageFormat::Jpeg));
        assert_eq!(ImageFormat::of(b"GIF89a"), Some(ImageFormat::Gif));
        assert_eq!(ImageFormat::of(b"RIFF\0\0\0\0WEBPVP8 "), Some(ImageFormat::Webp));
        assert_eq!(ImageFormat::of(b"<svg>"), None);
        assert_eq!(ImageFormat::of(b""), None);
    }

    #[test]
    fn names_of_tools_are_bounded() {
        assert!(is_tool_name(&"a".repeat(TOOL_NAME_BYTES_MAX)));
        assert!(!is_tool_name(&"a".repeat(TOOL_NAME_BYTES_MAX + 1)));
        assert!(!is_tool_name("") && !is_tool_name("a b") && !is_tool_name("\u{e9}"));
    }

    #[test]
    fn text_is_what_was_said_without_pictures() {
        let mut message = Message::new(Role::User, "a");
        message.parts.push(Part::Image(Image { format: ImageFormat::Png, bytes: vec![1; 9] }));
        message.parts.push(Part::Text("b".into()));
        assert_eq!(message.text(), "ab");
        assert_eq!(message.bytes(), 11);
        assert!(Chat::new(vec![message]).has_images());
    }
}
