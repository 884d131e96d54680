//! Every limit on what a peer may send, in one place.

/// Largest request frame in bytes: a prompt of about a million tokens, or a few pictures.
pub const REQUEST_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of everything in a request's input: texts, tools, pictures.
pub const INPUT_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Bytes of a JSON Schema or grammar that an answer must follow.
pub const FORMAT_BYTES_MAX: usize = 256 * 1024;
/// Texts to embed, or documents to rank, in one request.
pub const TEXTS_MAX: usize = 2048;
/// Bytes of a text to split into tokens in one request: no context bounds those.
pub const TOKENIZE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Tokens to put together in one request.
pub const TOKENS_MAX: usize = 1_048_576;
/// Bytes of one piece of a file.
pub const FILE_PIECE_BYTES_MAX: usize = 60 * 1024;
/// Bytes of a file that are hashed together, and the least that can be asked for.
pub const FILE_GROUP_BYTES: u64 = 64 * 1024;
/// Numbers in one vector.
pub const EMBEDDING_DIMENSIONS_MAX: usize = 16_000;
/// Tokens in one reply that carries tokens, and scores in one that carries scores.
pub const VALUES_PER_REPLY_MAX: usize = 8_192;
/// Other likely tokens told for each token.
pub const TOP_LOGPROBS_MAX: u8 = 20;
/// Tokens whose likelihood one reply tells.
pub const LOGPROBS_PER_REPLY_MAX: usize = 16;
/// Bytes of one token.
pub const TOKEN_BYTES_MAX: usize = 128;
/// Tools in one request.
pub const TOOLS_MAX: usize = 512;
/// Bytes of a tool's name.
pub const TOOL_NAME_BYTES_MAX: usize = 128;
/// Tool calls in one message.
pub const TOOL_CALLS_PER_MESSAGE_MAX: usize = 128;
/// Texts and pictures in one message.
pub const PARTS_PER_MESSAGE_MAX: usize = 256;
/// Largest reply frame in bytes; a frame carries a few tokens, or one vector.
pub const REPLY_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Largest encoded offer in bytes, which is also the largest gossip message.
pub const OFFER_BYTES_MAX: usize = 32 * 1024;
/// Offers sent in one answer of the offer exchange.
pub const OFFERS_PER_EXCHANGE_MAX: usize = 512;
/// Peers whose offers are remembered.
pub const OFFERS_MAX: usize = 4096;
/// Models in one offer.
pub const MODELS_PER_OFFER_MAX: usize = 64;
/// Addresses in one offer.
pub const ADDRESSES_PER_OFFER_MAX: usize = 16;
/// Bytes of one address in text form.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// How long an offer may be valid, from its issue.
pub const OFFER_LIFETIME_MS_MAX: u64 = 180_000;
/// Time between two heartbeats of an unchanged offer.
pub const OFFER_HEARTBEAT_MS: u64 = 60_000;
/// How far two clocks may disagree, both ways.
pub const CLOCK_SKEW_MS_MAX: u64 = 30_000;
/// Longest lifetime of a session delegation: 30 days.
pub const DELEGATION_LIFETIME_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// Bytes of a model name.
pub const MODEL_NAME_BYTES_MAX: usize = 128;
/// Bytes of a network id.
pub const NETWORK_ID_BYTES_MAX: usize = 32;
/// Bytes of the name a node gives itself: one label of DNS.
pub const NODE_ID_BYTES_MAX: usize = 63;
/// Messages in one chat request.
pub const MESSAGES_MAX: usize = 4096;
/// Stop sequences in one request.
pub const STOPS_MAX: usize = 16;
/// Bytes of one stop sequence.
pub const STOP_BYTES_MAX: usize = 256;
/// Logit biases in one request.
pub const LOGIT_BIASES_MAX: usize = 1024;
/// Tokens one request may ask for.
pub const COMPLETION_TOKENS_MAX: u32 = 1_048_576;
/// Bytes of the explanation inside a refusal.
pub const REFUSAL_DETAIL_BYTES_MAX: usize = 256;
/// Request streams one peer may hold open, idle ones included.
pub const STREAMS_PER_PEER_MAX: usize = 1024;
/// Sessions whose nonces are remembered, over all peers.
pub const SESSIONS_MAX: usize = 65_536;
/// Sessions whose nonces are remembered for one peer.
pub const SESSIONS_PER_PEER_MAX: usize = 1024;
/// Nonces behind the newest one that are still told apart.
pub const NONCE_WINDOW: u64 = 4096;
/// Bytes of what shows that a wallet took a free job.
pub const FREE_USE_BYTES_MAX: usize = 574;
/// How long it counts, from when its request was signed. What counted is told apart for as long.
pub const FREE_USE_AGE_MS_MAX: u64 = 120_000;
/// Seeds in one `seeds.json`.
pub const SEEDS_MAX: usize = 256;
/// A serving peer says at least this often that it is still at work.
pub const ALIVE_MS: u64 = 400;
/// A serving peer that is silent for longer is taken for dead.
pub const SILENCE_MS_MAX: u64 = 1_500;
/// Bytes of the host name of a registry.
pub const REGISTRY_NAME_BYTES_MAX: usize = 253;
/// Bytes of an entry or a withdrawal in JSON.
pub const REGISTRY_ENTRY_BYTES_MAX: usize = 16 * 1024;
/// How long an entry may count, from its issue: a day.
pub const REGISTRY_LIFETIME_MS_MAX: u64 = 24 * 3600 * 1000;
/// The largest sequence number and time in an entry: what a double holds exactly.
pub const REGISTRY_SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// Entries in one page of a registry.
pub const REGISTRY_ENTRIES_PER_PAGE_MAX: usize = 100;
/// Bytes of one page of a registry in JSON.
pub const REGISTRY_PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
