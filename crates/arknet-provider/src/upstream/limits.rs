//! Every limit on what an upstream may send or hold, and on how it may be configured.

use std::time::Duration;

use arknet_types::limits::EMBEDDING_DIMENSIONS_MAX;

/// Bytes of a response's head. More headers end the connection.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of a response.
pub const HEADERS_MAX: usize = 100;
/// Bytes of one line of a streamed answer.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one streamed answer, all of it.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of an answer that comes in one piece: vectors, scores, tokens.
pub const BODY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of one vector in it, as text.
pub const VECTOR_BYTES_MAX: usize = EMBEDDING_DIMENSIONS_MAX * 32;
/// Bytes of one score in it, with the document that some repeat.
pub const SCORE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all that is around those.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer about the upstream itself: its models, what it can do.
pub const DESCRIPTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an error that are read.
pub const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are still read after an answer's end, so that its connection can be used again.
pub const TAIL_BYTES_MAX: usize = 16 * 1024;
/// How long an answer's connection may take to end after the answer did.
pub const TAIL_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of text in one reply.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a model's template; a longer one is not told of.
pub const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// Models of one upstream.
pub const MODELS_MAX: usize = 256;
/// Bytes of a model's name at the upstream.
pub const MODEL_ID_BYTES_MAX: usize = 256;
/// Models that are asked about at the same time while an upstream is discovered.
pub const LOOKUPS_AT_ONCE_MAX: usize = 4;
/// Tool calls in one answer.
pub const TOOL_CALLS_MAX: u16 = 128;
/// Bytes of a tool call's id.
pub const TOOL_CALL_ID_BYTES_MAX: usize = 128;
/// Bytes of the upstream's URL.
pub const URL_BYTES_MAX: usize = 1024;
/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 4096;
/// Requests answered at the same time.
pub const SLOTS_MAX: u16 = 4096;
/// The longest time any stage may be given.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The longest time an upstream may ask to be left alone.
pub const RETRY_AFTER_MS_MAX: u64 = 3_600_000;
/// Where an upstream is busy and does not say for how long.
pub const RETRY_AFTER_MS_DEFAULT: u64 = 1_000;
/// Largest number of checks that may be asked for before an upstream changes its state.
pub const CHECKS_MAX: u32 = 100;
/// A connection without use is closed after this.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Where an upstream does not count tokens, its input is taken to have one in this many bytes. Few,
/// so that nobody pays for more than there was.
pub const ESTIMATED_BYTES_PER_TOKEN: usize = 6;
/// Tokens of an answer where an upstream insists on a limit, and neither it nor the request has one.
pub const ANSWER_TOKENS_DEFAULT: u32 = 8_192;
/// Fewest tokens an Anthropic model may be given to think.
pub const THINKING_TOKENS_MIN: u32 = 1_024;
/// A token's number where the upstream tells its text alone.
pub const TOKEN_UNKNOWN: u32 = u32::MAX;
