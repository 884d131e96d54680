//! Certificates of the engine and of the wire, each as the other.

use arc_malachitebft_core_types as core;
use arknet_chain::{CommitCertificate, Evidence};
use core::{PolkaSignature, Round, RoundCertificateType, RoundSignature};

use crate::{
    Polka, RoundCertificate, RoundCertificateKind, RoundVote,
    context::{Chain, Height, Operator, Seal, hash, in_order, kind, nil_or, number, vote_type},
};

pub(crate) fn commit(certificate: &core::CommitCertificate<Chain>) -> CommitCertificate {
    let signatures = certificate.commit_signatures.iter().map(|one| (one.address, one.signature));
    CommitCertificate {
        height: certificate.height.0,
        round: number(certificate.round),
        block: certificate.value_id,
        signatures: in_order(signatures),
    }
}

pub(crate) fn polka(certificate: &core::PolkaCertificate<Chain>) -> Polka {
    let signatures = certificate.polka_signatures.iter().map(|one| (one.address, one.signature));
    Polka {
        height: certificate.height.0,
        round: number(certificate.round),
        block: certificate.value_id,
        signatures: in_order(signatures),
    }
}

pub(crate) fn engine_polka(polka: &Polka) -> core::PolkaCertificate<Chain> {
    let signature = |one: &arknet_chain::CommitSignature| {
        PolkaSignature::new(Operator(one.validator), Seal(one.signature))
    };
    core::PolkaCertificate {
        height: Height(polka.height),
        round: Round::new(polka.round),
        value_id: polka.block,
        polka_signatures: polka.signatures.iter().map(signature).collect(),
    }
}

pub(crate) fn round(certificate: &core::RoundCertificate<Chain>) -> RoundCertificate {
    let vote = |one: &RoundSignature<Chain>| RoundVote {
        kind: kind(one.vote_type),
        block: hash(one.value_id),
        validator: one.address.0,
        signature: one.signature.0,
    };
    RoundCertificate {
        height: certificate.height.0,
        round: number(certificate.round),
        kind: match certificate.cert_type {
            RoundCertificateType::Skip => RoundCertificateKind::Skip,
            RoundCertificateType::Precommit => RoundCertificateKind::Precommits,
        },
        votes: certificate.round_signatures.iter().map(vote).collect(),
    }
}

pub(crate) fn engine_round(certificate: &RoundCertificate) -> core::RoundCertificate<Chain> {
    let signature = |one: &RoundVote| {
        let (kind, block) = (vote_type(one.kind), nil_or(one.block));
        RoundSignature::new(kind, block, Operator(one.validator), Seal(one.signature))
    };
    core::RoundCertificate {
        height: Height(certificate.height),
        round: Round::new(certificate.round),
        cert_type: match certificate.kind {
            RoundCertificateKind::Skip => RoundCertificateType::Skip,
            RoundCertificateKind::Precommits => RoundCertificateType::Precommit,
        },
        round_signatures: certificate.votes.iter().map(signature).collect(),
    }
}

/// What the engine saw somebody say twice, as the ledger takes it. Two proposals of one block that
/// differ in their valid round alone prove nothing there, and are left out.
pub(crate) fn evidence(
    chain: &Chain,
    found: &arc_malachitebft_core_consensus::MisbehaviorEvidence<Chain>,
) -> Vec<Evidence> {
    let mut all = Vec::new();
    for (a, b) in found.votes.iter().flat_map(|(_, pairs)| pairs) {
        let (a, b) = (chain.signed_vote(a), chain.signed_vote(b));
        let pair = if a.vote.block < b.vote.block { (a, b) } else { (b, a) };
        all.push(Evidence::Votes(Box::new(pair)));
    }
    for (a, b) in found.proposals.iter().flat_map(|(_, pairs)| pairs) {
        let (a, b) = (chain.signed_proposed(a), chain.signed_proposed(b));
        let pair = if a.proposed.block < b.proposed.block { (a, b) } else { (b, a) };
        if pair.0.proposed.block != pair.1.proposed.block {
            all.push(Evidence::Proposals(Box::new(pair)));
        }
    }
    all
}
