//! Every limit on what a model file, a request or an answer can make this crate do.

/// Bytes of a chat template.
pub const TEMPLATE_BYTES_MAX: usize = 1024 * 1024;
/// Steps one rendering may take: a long conversation takes some hundred for each message.
pub const TEMPLATE_FUEL: u64 = 10_000_000;
/// Steps one of the trial renderings may take that find out what a template can do.
pub const PROBE_FUEL: u64 = 200_000;
/// How deep templates may call macros.
pub const TEMPLATE_DEPTH_MAX: usize = 128;
/// Bytes a template may add to what the conversation itself has.
pub const TEMPLATE_EXTRA_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a template may write the conversation.
pub const TEMPLATE_COPIES_MAX: usize = 8;

/// Bytes of an answer that are held back while it is not yet sure what they are.
pub const HELD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of white space that are held back because a marker may follow.
pub const SPACE_BYTES_MAX: usize = 64;
/// Bytes of one piece of an answer.
pub const PIECE_BYTES_MAX: usize = 16 * 1024;
/// How deep the values in a tool call may be nested.
pub const CALL_DEPTH_MAX: usize = 128;

/// Tokens in a vocabulary.
pub const VOCABULARY_TOKENS_MAX: usize = 1 << 20;
/// Bytes of all tokens of a vocabulary.
pub const VOCABULARY_BYTES_MAX: usize = 4_000_000;
/// Bytes of one token that a constraint can use; longer ones are never allowed in constrained text.
pub const VOCABULARY_TOKEN_BYTES_MAX: usize = 1000;

/// Values nested in a schema.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Values in a schema, all taken together.
pub const SCHEMA_VALUES_MAX: usize = 50_000;
/// Largest number of repetitions in a grammar in llama.cpp's notation.
pub const REPEAT_MAX: u64 = 10_000;
/// Properties of one object in a schema, which take time by the square.
pub const SCHEMA_PROPERTIES_MAX: usize = 1_000;
/// Definitions that a schema refers to and values nested in them, one after the other.
pub const SCHEMA_CHAIN_MAX: usize = 4_000;
/// Rules of a grammar in llama.cpp's notation.
pub const GRAMMAR_RULES_MAX: usize = 1_000;
/// Characters of a rule in such a grammar, with the rules it uses and all repetitions written out.
pub const GRAMMAR_WORD_SIZE_MAX: u64 = 200_000;
/// Bytes of stack while a constraint is made. Only what is used of it is taken.
pub const CONSTRAINT_STACK_BYTES: usize = 128 * 1024 * 1024;
/// Steps to build the automata of one constraint.
pub const CONSTRAINT_BUILD_FUEL: u64 = 600_000;
/// Steps of the automata for one token.
pub const CONSTRAINT_STEP_FUEL: u64 = 200_000;
/// Items of the parser for one token.
pub const CONSTRAINT_STEP_ITEMS_MAX: usize = 100_000;
/// Items of the parser in one position.
pub const CONSTRAINT_ROW_ITEMS_MAX: usize = 2_000;
/// States of the automata of one constraint, of one or two kilobytes each.
pub const CONSTRAINT_STATES_MAX: usize = 50_000;
/// Symbols in the rules of one constraint.
pub const CONSTRAINT_SYMBOLS_MAX: usize = 200_000;
