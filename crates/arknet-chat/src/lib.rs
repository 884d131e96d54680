//! Chat templates, tool calls, reasoning and constrained answers.
