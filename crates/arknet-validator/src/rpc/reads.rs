//! Answers from the ledger at one height.

use arknet_chain::{
    Account, Channel, Hash, Key, Model, Node, Params, Presence, Proposal, ProposalBody, Role,
    Stake, Unbonding, read,
    rpc::{
        AccountAnswer, ActionSummary, BlockAnswer, BlockEvent, BlockTransaction, ChannelAnswer,
        ChannelPage, ErrorCode, HexBytes, LightAnswer, ModelAnswer, ModelPage, NodeAnswer,
        OutcomeAnswer, ParamsAnswer, ProofAnswer, ProposalAnswer, ProposalPage, StakeAnswer,
        StatusAnswer, SubmitAnswer, TransactionAnswer, TransactionFields, TransactionState,
        UnbondingAnswer, ValidatorsAnswer,
    },
};
use arknet_types::{Address, ModelDigest, encode};

use super::answer::Refused;
use crate::{
    Progress, Reader,
    limits::{PAGE_MAX, UNBONDINGS_SHOWN_MAX},
};

type Answer<T> = Result<T, Refused>;

/// A block by height, by name, or the last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    Height(u64),
    Id(Hash),
    Latest,
}

pub(super) fn status(reader: &Reader, genesis: Hash, progress: Progress) -> Answer<StatusAnswer> {
    let meta = reader.meta();
    let header = reader.header(reader.height())?;
    let next = reader.validators(reader.height().saturating_add(1))?;
    Ok(StatusAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: read(reader, &Key::Network).expect("a state has its genesis"),
        genesis,
        height: reader.height(),
        block: header.as_ref().map_or(genesis, arknet_chain::Header::id),
        time_ms: meta.time.0,
        state_root: header.map(|header| header.state_root),
        blocks_from: reader.first_block()?,
        catching_up: progress.catching_up,
        peers_height: progress.peers_height,
        peers: progress.peers,
        operator: progress.operator,
        votes: progress.votes,
        validators: next.map_or(0, |set| count(set.members().len())),
        waiting: progress.waiting,
        base_fee: meta.base_fee,
        minted: meta.minted,
        burned: meta.burned,
        treasury: meta.treasury,
        bonded: meta.bonded,
        bootstrap: meta.bootstrap,
        proposals: meta.proposals,
    })
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(super) fn params(reader: &Reader) -> ParamsAnswer {
    let params: Params = read(reader, &Key::Params).expect("a state has its genesis");
    ParamsAnswer::new(reader.height(), &params)
}

pub(super) fn validators(reader: &Reader, height: Option<u64>) -> Answer<ValidatorsAnswer> {
    let next = reader.height().saturating_add(1);
    let height = height.unwrap_or(next);
    let set = reader.validators(height)?;
    let set = set.ok_or_else(|| gone_or_unknown(reader, height))?;
    let presence: Option<Presence> =
        (height == next).then(|| read(reader, &Key::Presence).unwrap_or_default());
    Ok(ValidatorsAnswer::new(height, &set, presence.as_ref()))
}

/// Why there is nothing at a height.
fn gone_or_unknown(reader: &Reader, height: u64) -> Refused {
    if (1..=reader.height()).contains(&height) {
        return Refused::new(ErrorCode::Pruned, "this node does not keep that block any more");
    }
    let words = format!("there is no block {height}; the last one is {}", reader.height());
    Refused::new(ErrorCode::UnknownBlock, words)
}

/// Without what waits: `next_nonce` is the one after blocks.
pub(super) fn account(reader: &Reader, address: Address) -> AccountAnswer {
    let account: Account = read(reader, &Key::Account(address)).unwrap_or_default();
    let (from, below) = Key::stakes(&address);
    let stakes = reader.range(&from, &below, usize::MAX).into_iter().filter_map(|(key, value)| {
        let place = Key::stake_of(&key)?;
        let node: Node = read(reader, &Key::Node(place.0, place.1))?;
        let stake: Stake = arknet_types::decode(&value).ok()?;
        Some(StakeAnswer::new(place, &stake, &node))
    });
    let (from, below) = Key::unbondings(&address);
    let unbondings = reader.range(&from, &below, UNBONDINGS_SHOWN_MAX).into_iter();
    let unbondings = unbondings.filter_map(|(key, value)| {
        let unbonding: Unbonding = arknet_types::decode(&value).ok()?;
        let node: Node = read(reader, &Key::Node(unbonding.role, unbonding.node))?;
        Some(UnbondingAnswer::new(Key::unbonding_of(&key)?, &unbonding, &node))
    });
    AccountAnswer {
        height: reader.height(),
        address,
        balance: account.balance,
        nonce: account.nonce,
        next_nonce: account.nonce,
        stakes: stakes.collect(),
        unbondings: unbondings.collect(),
    }
}

pub(super) fn node(reader: &Reader, role: Role, operator: Address) -> Answer<NodeAnswer> {
    let node: Option<Node> = read(reader, &Key::Node(role, operator));
    let node = node.ok_or_else(|| Refused::unknown(ErrorCode::UnknownNode, "node in that role"))?;
    Ok(NodeAnswer::new(reader.height(), (role, operator), &node))
}

pub(super) fn proof(reader: &Reader, key: Vec<u8>) -> ProofAnswer {
    let (value, proof) = arknet_chain::prove_bytes(reader, &key);
    ProofAnswer {
        height: reader.height(),
        key: HexBytes(key),
        value: value.map(HexBytes),
        proof: HexBytes(encode(&proof)),
    }
}

fn height_of(reader: &Reader, which: Which) -> Answer<u64> {
    match which {
        Which::Height(height) => Ok(height),
        Which::Latest => Ok(reader.height()),
        Which::Id(id) => {
            let height = reader.height_of(&id)?;
            height.ok_or_else(|| Refused::unknown(ErrorCode::UnknownBlock, "block"))
        }
    }
}

pub(super) fn light(reader: &Reader, which: Which) -> Answer<LightAnswer> {
    let height = height_of(reader, which)?;
    let block = reader.light_block(height)?;
    Ok(LightAnswer::from(&block.ok_or_else(|| gone_or_unknown(reader, height))?))
}

pub(super) fn block(reader: &Reader, which: Which, with_bytes: bool) -> Answer<BlockAnswer> {
    let height = height_of(reader, which)?;
    let gone = || gone_or_unknown(reader, height);
    let header = reader.header(height)?.ok_or_else(gone)?;
    let certificate = reader.certificate(height)?.ok_or_else(gone)?;
    let block = reader.block(height)?.ok_or_else(gone)?;
    let outcomes = reader.outcomes(height)?.ok_or_else(gone)?;
    let bytes = with_bytes.then(|| HexBytes(encode(&block)));
    let transactions =
        block.transactions.iter().zip(&outcomes).map(|(transaction, outcome)| BlockTransaction {
            id: outcome.id,
            from: transaction.body.signer.address(),
            kind: ActionSummary::new(&transaction.body.action).kind,
            outcome: OutcomeAnswer::from(outcome),
        });
    Ok(BlockAnswer {
        network: header.network.clone(),
        height,
        id: header.id(),
        parent: header.parent,
        time_ms: header.time.0,
        proposer: header.proposer,
        base_fee: header.base_fee,
        gas_used: header.gas_used,
        validators: header.validators,
        next_validators: header.next_validators,
        state_root: header.state_root,
        outcomes: header.outcomes,
        round: certificate.round,
        signatures: count(certificate.signatures.len()),
        evidence: count(block.evidence.len()),
        transactions: transactions.collect(),
        header: HexBytes(encode(&header)),
        certificate: HexBytes(encode(&certificate)),
        bytes,
    })
}

/// What is told of a block as it comes; none where it is kept no more.
pub(super) fn event(reader: &Reader, height: u64) -> Answer<Option<BlockEvent>> {
    let Some(header) = reader.header(height)? else { return Ok(None) };
    let transactions = reader.transactions_in(height)?;
    Ok(Some(BlockEvent::new(&header, transactions)))
}

/// A transaction that is in a block.
pub(super) fn transaction(reader: &Reader, id: Hash) -> Answer<Option<TransactionAnswer>> {
    let Some(found) = reader.transaction(&id)? else { return Ok(None) };
    let block = reader.block(found.height)?;
    let index = usize::try_from(found.proof.index).unwrap_or(usize::MAX);
    let transaction = block.as_ref().and_then(|block| block.transactions.get(index));
    Ok(Some(TransactionAnswer {
        id,
        state: TransactionState::Committed,
        ahead: None,
        height: Some(found.height),
        index: Some(found.proof.index),
        outcome: Some(OutcomeAnswer::from(&found.proof.outcome)),
        proof: Some(HexBytes(encode(&found.proof))),
        transaction: transaction.map(TransactionFields::new),
    }))
}

/// That a transaction is in a block already.
pub(super) fn submitted(reader: &Reader, id: Hash) -> Answer<Option<SubmitAnswer>> {
    let height = reader.height_of_transaction(&id)?;
    let state = TransactionState::Committed;
    Ok(height.map(|height| SubmitAnswer { id, state, height: Some(height) }))
}

fn limit_of(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)
}

fn proposal_at(reader: &Reader, id: u64) -> Option<ProposalAnswer> {
    let proposal: Proposal = read(reader, &Key::Proposal(id))?;
    let body: ProposalBody = read(reader, &Key::ProposalBody(id))?;
    Some(ProposalAnswer::new(id, &proposal, &body, reader.meta().time))
}

pub(super) fn proposals(reader: &Reader, after: Option<u64>, limit: Option<usize>) -> ProposalPage {
    let last = reader.meta().proposals;
    let from = after.map_or(last, |after| after.saturating_sub(1).min(last));
    let down = (1..=from).rev().take(limit_of(limit));
    let proposals: Vec<ProposalAnswer> = down
        .filter_map(|id| proposal_at(reader, id))
        .map(|proposal| ProposalAnswer { text: None, ..proposal })
        .collect();
    let next = proposals.last().map(|last| last.id).filter(|id| *id > 1);
    ProposalPage { height: reader.height(), proposals, next }
}

pub(super) fn proposal(reader: &Reader, id: u64) -> Answer<ProposalAnswer> {
    let found = proposal_at(reader, id);
    found.ok_or_else(|| Refused::unknown(ErrorCode::UnknownProposal, "proposal"))
}

pub(super) fn channels(
    reader: &Reader,
    (account, is_payer): (Address, bool),
    after: Option<Hash>,
    limit: Option<usize>,
) -> Answer<ChannelPage> {
    let limit = limit_of(limit);
    let mut names = reader.channels(&account, is_payer, after, limit.saturating_add(1))?;
    let more = names.len() > limit;
    names.truncate(limit);
    let channels = names.into_iter().filter_map(|id| {
        let channel: Channel = read(reader, &Key::Channel(id))?;
        Some(ChannelAnswer::new(id, &channel))
    });
    let channels: Vec<ChannelAnswer> = channels.collect();
    let next = channels.last().map(|last| last.id).filter(|_| more);
    Ok(ChannelPage { height: reader.height(), channels, next })
}

pub(super) fn channel(reader: &Reader, id: Hash) -> Answer<ChannelAnswer> {
    let found: Option<Channel> = read(reader, &Key::Channel(id));
    let found = found.ok_or_else(|| Refused::unknown(ErrorCode::UnknownChannel, "open channel"))?;
    Ok(ChannelAnswer::new(id, &found))
}

pub(super) fn models(
    reader: &Reader,
    after: Option<ModelDigest>,
    limit: Option<usize>,
) -> ModelPage {
    let limit = limit_of(limit);
    let (mut from, below) = Key::models();
    if let Some(after) = after {
        from = Key::Model(after).bytes();
        from.push(0);
    }
    let found = reader.range(&from, &below, limit.saturating_add(1)).into_iter();
    let found = found.filter_map(|(_, value)| arknet_types::decode::<Model>(&value).ok());
    let mut models: Vec<ModelAnswer> = found.map(|model| ModelAnswer::from(&model)).collect();
    let more = models.len() > limit;
    models.truncate(limit);
    let next = models.last().map(|last| last.digest).filter(|_| more);
    ModelPage { height: reader.height(), models, next }
}

pub(super) fn model(reader: &Reader, digest: ModelDigest) -> Answer<ModelAnswer> {
    let found: Option<Model> = read(reader, &Key::Model(digest));
    let found = found.ok_or_else(|| Refused::unknown(ErrorCode::UnknownModel, "model"))?;
    Ok(ModelAnswer::from(&found))
}
