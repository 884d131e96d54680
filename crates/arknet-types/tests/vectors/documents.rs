//! The content of each vector file, made by the code.

use arknet_types::{
    Delegation, Domain, FrameHeader, FreeUse, KeyPair, Offer, SeedFile, encode, frame,
};
use serde_json::{Value, json};

use crate::{json, limits, registry, rejects, samples};

/// Every file by name.
pub(crate) fn all() -> [(&'static str, Value); 12] {
    [
        ("identity.json", identity()),
        ("delegation.json", delegation()),
        ("offer.json", offer()),
        ("infer.json", infer()),
        ("request.json", request()),
        ("free_use.json", free_use()),
        ("reply.json", reply()),
        ("refusal.json", refusal()),
        ("frames.json", frames()),
        ("seeds.json", seeds()),
        ("limits.json", limits::document()),
        ("registry.json", registry::document()),
    ]
}

fn identity() -> Value {
    let cases = [[0x42; 32], [0; 32], [0xff; 32], [0x80; 32]].map(|seed| {
        let key = KeyPair::from_seed(&seed);
        json!({
            "seed": hex::encode(seed),
            "public_key": hex::encode(key.public().0),
            "key_file": hex::encode(&key.to_file_bytes()[..]),
            "address": key.public().address().to_string(),
            "peer_id": key.public().peer_id(),
            "peer_id_bytes": hex::encode(key.public().peer_id_bytes()),
        })
    });
    json!({
        "what": "Keys: spec/wire.md, Keys",
        "cases": cases,
        "rejected_key_files": rejects::key_files(),
        "rejected_peer_ids": rejects::peer_ids(),
    })
}

fn delegation() -> Value {
    let cases = samples::delegations().into_iter().map(|(name, body)| {
        let delegation = Delegation::sign(body, &samples::wallet());
        json!({
            "name": name,
            "signer_seed": hex::encode(&samples::wallet().seed()[..]),
            "body": json::delegation(&delegation.body),
            "body_bytes": hex::encode(encode(&delegation.body)),
            "signing_message": hex::encode(Domain::DELEGATION.message(&delegation.body)),
            "signature": hex::encode(delegation.signature.0),
            "bytes": hex::encode(encode(&delegation)),
            "digest": hex::encode(delegation.digest()),
        })
    });
    json!({
        "what": "Delegation: spec/wire.md, Delegation",
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::delegations(),
        "times": rejects::delegation_times(),
    })
}

fn offer() -> Value {
    let cases = samples::offers().into_iter().map(|(name, body)| {
        let offer = Offer::sign(body, &samples::peer());
        json!({
            "name": name,
            "signer_seed": hex::encode(&samples::peer().seed()[..]),
            "body": json::offer(&offer.body),
            "body_bytes": hex::encode(encode(&offer.body)),
            "signing_message": hex::encode(Domain::OFFER.message(&offer.body)),
            "signature": hex::encode(offer.signature.0),
            "bytes": hex::encode(encode(&offer)),
        })
    });
    json!({
        "what": "Offer: spec/wire.md, Offer",
        "network": samples::network(),
        "now": samples::NOW.0.to_string(),
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::offers(),
    })
}

fn infer() -> Value {
    let cases = samples::infers().into_iter().map(|(name, infer)| {
        json!({
            "name": name,
            "value": json::infer(&infer),
            "bytes": hex::encode(encode(&infer)),
        })
    });
    json!({
        "what": "InferRequest: spec/wire.md, InferRequest",
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::infers(),
        "out_of_bounds": rejects::infers_out_of_bounds(),
    })
}

fn request() -> Value {
    let delegations = samples::delegations();
    let cases = samples::infers().into_iter().zip(delegations).map(|((name, infer), (_, body))| {
        let delegation = Delegation::sign(body, &samples::wallet());
        let request = samples::request(&delegation, infer);
        json!({
            "name": name,
            "signer_seed": hex::encode(&samples::session().seed()[..]),
            "body": json::request(&request.body),
            "body_bytes": hex::encode(encode(&request.body)),
            "signing_message": hex::encode(Domain::REQUEST.message(&request.body)),
            "signature": hex::encode(request.signature.0),
            "delegation_bytes": hex::encode(encode(&request.delegation)),
            "salt": hex::encode(request.salt.0),
            "infer_bytes": hex::encode(encode(&request.infer)),
            "bytes": hex::encode(encode(&request)),
            "frame": hex::encode(frame(&request)),
        })
    });
    json!({
        "what": "Request: spec/wire.md, Request",
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::requests(),
        "not_signed": rejects::requests_not_signed(),
    })
}

fn free_use() -> Value {
    let infers = samples::infers().into_iter();
    // The last delegation lives for ever, which none may.
    let delegations = samples::delegations().into_iter().take(2);
    let cases = delegations.zip(infers).map(|((name, body), (_, infer))| {
        let delegation = Delegation::sign(body, &samples::wallet());
        let free_use = FreeUse::of(&samples::request(&delegation, infer));
        json!({
            "name": name,
            "bytes": hex::encode(encode(&free_use)),
            "id": hex::encode(free_use.id()),
            "wallet": free_use.wallet(),
        })
    });
    json!({
        "what": "FreeUse: spec/wire.md, Free jobs",
        "network": samples::network(),
        "now": samples::NOW.0.to_string(),
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::free_uses(),
    })
}

fn reply() -> Value {
    let cases = samples::replies().into_iter().map(|(name, reply)| {
        json!({
            "name": name,
            "value": json::reply(&reply),
            "bytes": hex::encode(encode(&reply)),
            "frame": hex::encode(frame(&reply)),
        })
    });
    json!({
        "what": "Reply: spec/wire.md, Reply",
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::replies(),
    })
}

fn refusal() -> Value {
    let cases = samples::refusals().into_iter().map(|refusal| {
        json!({
            "value": json::refusal(&refusal),
            "bytes": hex::encode(encode(&refusal)),
            "worth_another_peer": refusal.code.is_worth_another_peer(),
        })
    });
    json!({
        "what": "Refusal: spec/wire.md, Refusal",
        "cases": cases.collect::<Vec<_>>(),
        "rejected": rejects::refusals(),
    })
}

fn frames() -> Value {
    let headers = [([0, 0, 0, 0], 0), ([4, 0, 0, 0], 4), ([5, 0, 0, 0], 4), ([255; 4], 4 << 20)];
    let headers = headers.map(|(header, max)| {
        let parsed = FrameHeader::parse(header, max).ok();
        json!({
            "header": hex::encode(header),
            "body_bytes_max": max,
            "body_bytes": parsed.map(|header| header.body_bytes),
        })
    });
    json!({ "what": "Frames: spec/wire.md, Frames", "headers": headers })
}

fn seeds() -> Value {
    let accepted = [
        r#"{"version":1,"chain_id":"arknet-1","seeds":[]}"#,
        r#"{"version":1,"chain_id":"arknet-1","seeds":[{"multiaddr":"/ip4/192.0.2.7/tcp/26656/p2p/12D3KooWExample","operator":"Ada"}]}"#,
    ];
    assert!(accepted.iter().all(|text| SeedFile::parse(text).is_ok()));
    json!({
        "what": "The file seeds.json: spec/wire.md, Seeds",
        "accepted": accepted,
        "rejected": rejects::seeds(),
    })
}
