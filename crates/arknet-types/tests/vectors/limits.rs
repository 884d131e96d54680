use arknet_types::limits;
use serde_json::{Value, json};

const WIRE: &str = include_str!("../../../../spec/wire.md");

macro_rules! all {
    ($($name:ident)*) => { [$((stringify!($name), limits::$name as u64)),*] };
}

/// Every limit by name. A limit missing here is found by the test below.
fn all() -> Vec<(&'static str, u64)> {
    all!(
        ADDRESSES_PER_OFFER_MAX
        ADDRESS_BYTES_MAX
        ALIVE_MS
        CLOCK_SKEW_MS_MAX
        COMPLETION_TOKENS_MAX
        DELEGATION_LIFETIME_MS_MAX
        EMBEDDING_DIMENSIONS_MAX
        FILE_GROUP_BYTES
        FILE_PIECE_BYTES_MAX
        FORMAT_BYTES_MAX
        FREE_USE_AGE_MS_MAX
        FREE_USE_BYTES_MAX
        INPUT_BYTES_MAX
        LOGIT_BIASES_MAX
        LOGPROBS_PER_REPLY_MAX
        MESSAGES_MAX
        MODELS_PER_OFFER_MAX
        MODEL_NAME_BYTES_MAX
        NETWORK_ID_BYTES_MAX
        NODE_ID_BYTES_MAX
        NONCE_WINDOW
        OFFERS_MAX
        OFFERS_PER_EXCHANGE_MAX
        OFFER_BYTES_MAX
        OFFER_HEARTBEAT_MS
        OFFER_LIFETIME_MS_MAX
        PARTS_PER_MESSAGE_MAX
        REFUSAL_DETAIL_BYTES_MAX
        REGISTRY_ENTRIES_PER_PAGE_MAX
        REGISTRY_ENTRY_BYTES_MAX
        REGISTRY_LIFETIME_MS_MAX
        REGISTRY_NAME_BYTES_MAX
        REGISTRY_PAGE_BYTES_MAX
        REGISTRY_SEQUENCE_MAX
        REPLY_FRAME_BYTES_MAX
        REQUEST_FRAME_BYTES_MAX
        SEEDS_MAX
        SESSIONS_MAX
        SESSIONS_PER_PEER_MAX
        SILENCE_MS_MAX
        STOPS_MAX
        STOP_BYTES_MAX
        STREAMS_PER_PEER_MAX
        TEXTS_MAX
        TOKENIZE_BYTES_MAX
        TOKENS_MAX
        TOKEN_BYTES_MAX
        TOOLS_MAX
        TOOL_CALLS_PER_MESSAGE_MAX
        TOOL_NAME_BYTES_MAX
        TOP_LOGPROBS_MAX
        VALUES_PER_REPLY_MAX
    )
    .to_vec()
}

pub(crate) fn document() -> Value {
    let limits: serde_json::Map<_, _> =
        all().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({ "what": "Limits: spec/wire.md, Limits", "limits": limits })
}

#[test]
fn the_document_gives_every_limit_its_value() {
    let source = include_str!("../../src/limits.rs");
    let names =
        source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    for name in names {
        let (_, value) = all().into_iter().find(|(known, _)| *known == name).expect(name);
        let row = format!("| `{name}` | {value} |");
        assert!(WIRE.contains(&row), "spec/wire.md has no row that begins {row}");
    }
}
