//! The requests, one by one.

use std::{str::FromStr, sync::Arc};

use arknet_chain::{
    Hash, Role, SignedTransaction,
    rpc::{
        AccountAnswer, BlockAnswer, ChannelAnswer, ChannelPage, ErrorCode, LightAnswer,
        ModelAnswer, ModelPage, NodeAnswer, ParamsAnswer, ProofAnswer, ProposalAnswer,
        ProposalPage, StatusAnswer, SubmitAnswer, SubmitRequest, TransactionAnswer,
        TransactionFields, TransactionState, ValidatorsAnswer,
    },
};
use arknet_types::{Address, ModelDigest};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::header,
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    answer::Refused,
    desk::Desk,
    events,
    reads::{self, Which},
};
use crate::{
    NotAccepted,
    limits::{BODY_BYTES_MAX, KEY_BYTES_MAX},
};

const DOCUMENT: &str = include_str!("../../../../spec/openapi-chain.json");
const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

type At = State<Arc<Desk>>;
type Answer<T> = Result<Json<T>, Refused>;
type Parameters<T> = Result<Query<T>, QueryRejection>;

pub(super) fn router(desk: Arc<Desk>) -> Router {
    let unknown = async || Refused::unknown(ErrorCode::UnknownPath, "path");
    let not_so =
        async || Refused::new(ErrorCode::WrongMethod, "this path is not used with this method");
    Router::new()
        .route("/status", get(status))
        .route("/genesis", get(genesis))
        .route("/params", get(params))
        .route("/validators", get(validators))
        .route("/accounts/{address}", get(account))
        .route("/nodes/{role}/{operator}", get(node))
        .route("/proof", get(proof))
        .route("/light/{height}", get(light))
        .route("/blocks/{block}", get(block))
        .route("/transactions/{id}", get(transaction))
        .route("/transactions", axum::routing::post(submit))
        .route("/proposals", get(proposals))
        .route("/proposals/{id}", get(proposal))
        .route("/channels", get(channels))
        .route("/channels/{id}", get(channel))
        .route("/models", get(models))
        .route("/models/{digest}", get(model))
        .route("/events", get(events::stream))
        .route("/openapi.json", get(async || (JSON, DOCUMENT)))
        .fallback(unknown)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
}

/// A part of the path as what it must be.
fn part<T: FromStr>(text: &str, what: &str) -> Result<T, Refused> {
    text.parse().map_err(|_| Refused::new(ErrorCode::InvalidParameter, format!("not {what}")))
}

fn query<T>(parameters: Parameters<T>) -> Result<T, Refused> {
    let refuse =
        |error: QueryRejection| Refused::new(ErrorCode::InvalidParameter, error.body_text());
    parameters.map(|Query(parameters)| parameters).map_err(refuse)
}

fn body<T: DeserializeOwned>(bytes: Result<Bytes, BytesRejection>) -> Result<T, Refused> {
    let bytes = bytes.map_err(|error| {
        if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            let words = format!("a body has {BODY_BYTES_MAX} bytes at most");
            return Refused::new(ErrorCode::BodyTooLarge, words);
        }
        Refused::new(ErrorCode::BodyLate, "the body did not arrive")
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refused::new(ErrorCode::InvalidBody, error.to_string()))
}

async fn status(State(desk): At) -> Answer<StatusAnswer> {
    let (genesis, progress) = (desk.store.genesis_id(), desk.link.progress());
    desk.read(move |reader| reads::status(reader, genesis, progress)).await.map(Json)
}

async fn genesis(State(desk): At) -> impl IntoResponse {
    (JSON, desk.store.genesis().to_json())
}

async fn params(State(desk): At) -> Answer<ParamsAnswer> {
    desk.read(|reader| Ok(reads::params(reader))).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtHeight {
    height: Option<u64>,
}

async fn validators(State(desk): At, parameters: Parameters<AtHeight>) -> Answer<ValidatorsAnswer> {
    let AtHeight { height } = query(parameters)?;
    desk.read(move |reader| reads::validators(reader, height)).await.map(Json)
}

async fn account(State(desk): At, Path(address): Path<String>) -> Answer<AccountAnswer> {
    let address: Address = part(&address, "an address: 0x and 40 hex digits")?;
    let mut answer = desk.read(move |reader| Ok(reads::account(reader, address))).await?;
    if let Some(next) = desk.link.next_nonce(address).await {
        // What waited may have come into a block since.
        answer.next_nonce = next.max(answer.nonce);
    }
    Ok(Json(answer))
}

async fn node(
    State(desk): At,
    Path((role, operator)): Path<(String, String)>,
) -> Answer<NodeAnswer> {
    let words = "not a role: validator, compute, verifier or worker";
    let role: Role = serde_json::from_value(role.into())
        .map_err(|_| Refused::new(ErrorCode::InvalidParameter, words))?;
    let operator: Address = part(&operator, "an address: 0x and 40 hex digits")?;
    desk.read(move |reader| reads::node(reader, role, operator)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AtKey {
    key: String,
}

async fn proof(State(desk): At, parameters: Parameters<AtKey>) -> Answer<ProofAnswer> {
    let AtKey { key } = query(parameters)?;
    let words = format!("a state key is up to {KEY_BYTES_MAX} bytes in hex");
    let key = hex::decode(key).ok().filter(|key| key.len() <= KEY_BYTES_MAX);
    let key = key.ok_or_else(|| Refused::new(ErrorCode::InvalidParameter, words))?;
    desk.read(move |reader| Ok(reads::proof(reader, key))).await.map(Json)
}

fn which(text: &str) -> Result<Which, Refused> {
    if text == "latest" {
        return Ok(Which::Latest);
    }
    match text.parse() {
        Ok(id) => Ok(Which::Id(id)),
        Err(_) => part(text, "a height, a name of 64 hex digits or latest").map(Which::Height),
    }
}

async fn light(State(desk): At, Path(height): Path<String>) -> Answer<LightAnswer> {
    let which = which(&height)?;
    desk.read(move |reader| reads::light(reader, which)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithBytes {
    #[serde(default)]
    bytes: bool,
}

async fn block(
    State(desk): At,
    Path(block): Path<String>,
    parameters: Parameters<WithBytes>,
) -> Answer<BlockAnswer> {
    let (which, WithBytes { bytes }) = (which(&block)?, query(parameters)?);
    desk.read(move |reader| reads::block(reader, which, bytes)).await.map(Json)
}

async fn transaction(State(desk): At, Path(id): Path<String>) -> Answer<TransactionAnswer> {
    let id: Hash = part(&id, "a transaction's name: 64 hex digits")?;
    // Among those that wait first: between two looks it can only go from there into a block.
    if let Some(waiting) = desk.link.find(id).await {
        return Ok(Json(TransactionAnswer {
            id,
            state: TransactionState::Waiting,
            ahead: Some(waiting.ahead),
            height: None,
            index: None,
            outcome: None,
            proof: None,
            transaction: Some(TransactionFields::new(&waiting.transaction)),
        }));
    }
    let found = desk.read(move |reader| reads::transaction(reader, id)).await?;
    let words = "there is no such transaction: it never came here, or waited too long";
    found.map(Json).ok_or_else(|| Refused::new(ErrorCode::UnknownTransaction, words))
}

async fn submit(State(desk): At, bytes: Result<Bytes, BytesRejection>) -> Answer<SubmitAnswer> {
    let SubmitRequest { transaction } = body(bytes)?;
    let transaction = SignedTransaction::parse(&transaction.0)
        .map_err(|error| Refused::new(ErrorCode::InvalidTransaction, error.to_string()))?;
    let id = transaction.id();
    let refused = match desk.link.submit(transaction).await {
        Ok(id) => {
            let state = TransactionState::Waiting;
            return Ok(Json(SubmitAnswer { id, state, height: None }));
        }
        Err(NotAccepted::Rejected(arknet_chain::Rejected::Known)) => {
            let state = TransactionState::Waiting;
            return Ok(Json(SubmitAnswer { id, state, height: None }));
        }
        Err(refused) => refused,
    };
    // Who sends again what is done already has nothing to put right.
    let done = desk.read(move |reader| reads::submitted(reader, id)).await?;
    done.map(Json).ok_or_else(|| refused.into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page<T> {
    after: Option<T>,
    limit: Option<usize>,
}

async fn proposals(State(desk): At, parameters: Parameters<Page<u64>>) -> Answer<ProposalPage> {
    let Page { after, limit } = query(parameters)?;
    desk.read(move |reader| Ok(reads::proposals(reader, after, limit))).await.map(Json)
}

async fn proposal(State(desk): At, Path(id): Path<String>) -> Answer<ProposalAnswer> {
    let id: u64 = part(&id, "a proposal's number")?;
    desk.read(move |reader| reads::proposal(reader, id)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sides {
    payer: Option<Address>,
    payee: Option<Address>,
    after: Option<Hash>,
    limit: Option<usize>,
}

async fn channels(State(desk): At, parameters: Parameters<Sides>) -> Answer<ChannelPage> {
    let Sides { payer, payee, after, limit } = query(parameters)?;
    let of = match (payer, payee) {
        (Some(payer), None) => (payer, true),
        (None, Some(payee)) => (payee, false),
        _ => {
            let words = "give either payer or payee";
            return Err(Refused::new(ErrorCode::InvalidParameter, words));
        }
    };
    desk.read(move |reader| reads::channels(reader, of, after, limit)).await.map(Json)
}

async fn channel(State(desk): At, Path(id): Path<String>) -> Answer<ChannelAnswer> {
    let id: Hash = part(&id, "a channel's name: 64 hex digits")?;
    desk.read(move |reader| reads::channel(reader, id)).await.map(Json)
}

async fn models(State(desk): At, parameters: Parameters<Page<ModelDigest>>) -> Answer<ModelPage> {
    let Page { after, limit } = query(parameters)?;
    desk.read(move |reader| Ok(reads::models(reader, after, limit))).await.map(Json)
}

async fn model(State(desk): At, Path(digest): Path<String>) -> Answer<ModelAnswer> {
    let digest: ModelDigest = part(&digest, "a digest: 64 hex digits, sha256: before them or not")?;
    desk.read(move |reader| reads::model(reader, digest)).await.map(Json)
}
