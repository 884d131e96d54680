//! Bytes that must be refused, and why. Each is a good value with one thing wrong.

use arknet_types::{
    Chat, Delegation, FreeUse, FreeUseError, InferRequest, Input, KeyError, KeyPair, LogitBias,
    Offer, PublicKey, Refusal, Reply, Request, SeedFile, Timestamp, decode, encode,
    limits::{
        ADDRESS_BYTES_MAX, ADDRESSES_PER_OFFER_MAX, CLOCK_SKEW_MS_MAX, DELEGATION_LIFETIME_MS_MAX,
        FREE_USE_AGE_MS_MAX, LOGIT_BIASES_MAX, MESSAGES_MAX, MODELS_PER_OFFER_MAX,
        OFFER_LIFETIME_MS_MAX, REFUSAL_DETAIL_BYTES_MAX, SEEDS_MAX, STOP_BYTES_MAX, STOPS_MAX,
        VALUES_PER_REPLY_MAX,
    },
};
use borsh::BorshDeserialize;
use serde_json::{Value, json};

use crate::samples;

/// One thing to make wrong, and its name.
type Change<T> = (&'static str, fn(&mut T));

pub(crate) fn key_files() -> Vec<Value> {
    let good = samples::wallet().to_file_bytes().to_vec();
    let mut damaged = good.clone();
    damaged[63] ^= 1;
    let cases = [
        ("63 bytes", good[..63].to_vec()),
        ("65 bytes", [&good[..], &[0]].concat()),
        ("the public half belongs to another seed", damaged),
    ];
    let check = |(reason, bytes): (&str, Vec<u8>)| {
        assert!(KeyPair::from_file_bytes(&bytes).is_err(), "{reason}");
        json!({ "reason": reason, "bytes": hex::encode(bytes) })
    };
    cases.map(check).to_vec()
}

pub(crate) fn peer_ids() -> Vec<Value> {
    let good = samples::peer().public().peer_id();
    let cases = [
        ("empty", String::new()),
        ("not base58", good.replace('1', "0")),
        ("one character short", good[..good.len() - 1].into()),
        ("one character long", format!("{good}1")),
        ("an RSA key's", "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".into()),
    ];
    let check = |(reason, text): (&str, String)| {
        assert_eq!(PublicKey::from_peer_id(&text), Err(KeyError::PeerId), "{reason}");
        json!({ "reason": reason, "text": text })
    };
    cases.map(check).to_vec()
}

/// Asserts that `bytes` do not decode and writes them down.
fn undecodable<T: BorshDeserialize>(reason: &str, bytes: &[u8]) -> Value {
    assert!(decode::<T>(bytes).is_err(), "{reason}");
    json!({ "reason": reason, "bytes": hex::encode(bytes) })
}

/// What no structure lets pass: too few bytes, too many.
fn cut_and_longer<T: BorshDeserialize>(good: &[u8]) -> Vec<Value> {
    vec![
        undecodable::<T>("no bytes", &[]),
        undecodable::<T>("the last byte is missing", &good[..good.len() - 1]),
        undecodable::<T>("a byte is left over", &[good, &[0]].concat()),
    ]
}

/// `good` with the bytes `from` replaced, which must stand in it once.
fn with(good: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> =
        (0..=good.len() - from.len()).filter(|at| good[*at..].starts_with(from)).collect();
    assert_eq!(places.len(), 1, "the bytes to replace stand there once");
    [&good[..places[0]], to, &good[places[0] + from.len()..]].concat()
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap().to_le_bytes()
}

pub(crate) fn delegations() -> Vec<Value> {
    let (_, body) = samples::delegations().swap_remove(0);
    let good = encode(&Delegation::sign(body, &samples::wallet()));
    let name = encode(&samples::network());
    let capitals = with(&good, &name, &encode("ARKNET-TEST-1"));
    let long = with(&good, &name, &encode(&"a".repeat(33)));
    let mut option = good.clone();
    // The two scopes are the two bytes before the signature.
    let at = option.len() - 64 - 2;
    option[at] = 2;
    let mut rejected = cut_and_longer::<Delegation>(&good);
    rejected.extend([
        undecodable::<Delegation>("a network id with capitals", &capitals),
        undecodable::<Delegation>("an empty network id", &with(&good, &name, &length(0))),
        undecodable::<Delegation>("a network id of 33 bytes", &long),
        undecodable::<Delegation>("an option that is neither 0 nor 1", &option),
        undecodable::<Delegation>("a length beyond the bytes", &with(&good, &name, &[255; 4])),
    ]);
    rejected
}

/// When a delegation counts: `result` is `ok`, `expired`, `future_dated` or `lifetime`.
pub(crate) fn delegation_times() -> Vec<Value> {
    const MAX: u64 = DELEGATION_LIFETIME_MS_MAX;
    let issued = samples::NOW.0;
    let cases = [
        (issued, issued + 1000, issued, "ok"),
        (issued, issued + 1000, issued + 999, "ok"),
        (issued, issued + 1000, issued + 1000, "expired"),
        (issued, issued + 1000, issued - CLOCK_SKEW_MS_MAX, "ok"),
        (issued, issued + 1000, issued - CLOCK_SKEW_MS_MAX - 1, "future_dated"),
        (issued, issued + MAX, issued, "ok"),
        (issued, issued + MAX + 1, issued, "lifetime"),
        (issued, issued, issued, "lifetime"),
        (issued, issued - 1, issued, "lifetime"),
    ];
    let check = |(issued_at, expires_at, now, result): (u64, u64, u64, &str)| {
        let (_, mut body) = samples::delegations().swap_remove(0);
        body.issued_at = Timestamp(issued_at);
        body.expires_at = Timestamp(expires_at);
        let delegation = Delegation::sign(body, &samples::wallet());
        let found = match delegation.check_times(Timestamp(now)) {
            Ok(()) => "ok".into(),
            Err(error) => variant(&error),
        };
        assert_eq!(found, result);
        json!({
            "issued_at": issued_at.to_string(),
            "expires_at": expires_at.to_string(),
            "now": now.to_string(),
            "result": result,
        })
    };
    cases.map(check).to_vec()
}

/// The name of an error's variant, as the vectors write it.
fn variant(error: &impl std::fmt::Debug) -> String {
    let debug = format!("{error:?}");
    let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    match name {
        "FutureDated" => "future_dated".into(),
        name => name.to_lowercase(),
    }
}

/// `result` is what is wrong: `decode`, `network`, `lifetime`, `expired`, `future_dated` or
/// `signature`.
pub(crate) fn offers() -> Vec<Value> {
    let (_, body) = samples::offers().swap_remove(0);
    let peer = samples::peer();
    let signed = |change: fn(&mut arknet_types::OfferBody)| {
        let mut body = body.clone();
        change(&mut body);
        encode(&Offer::sign(body, &peer))
    };
    let mut forged = Offer::sign(body.clone(), &peer);
    forged.body.peer = samples::wallet().public();
    let mut altered = Offer::sign(body.clone(), &peer);
    altered.body.models[0].slots_free += 1;
    let good = signed(|_| {});
    let many_addresses = signed(|b| b.addresses = vec!["a".into(); ADDRESSES_PER_OFFER_MAX + 1]);
    let many_models = signed(|b| b.models = vec![b.models[1].clone(); MODELS_PER_OFFER_MAX + 1]);
    let cases = [
        ("no bytes", "decode", vec![]),
        ("the last byte is missing", "decode", good[..good.len() - 1].to_vec()),
        ("a byte is left over", "decode", [&good[..], &[0]].concat()),
        ("17 addresses", "decode", many_addresses),
        (
            "an address of 257 bytes",
            "decode",
            signed(|b| b.addresses = vec!["a".repeat(ADDRESS_BYTES_MAX + 1)]),
        ),
        ("65 models", "decode", many_models),
        (
            "another network",
            "network",
            signed(|b| b.network = arknet_types::NetworkId::new("other").unwrap()),
        ),
        (
            "it would live a millisecond too long",
            "lifetime",
            signed(|b| b.expires_at = b.issued_at.plus_ms(OFFER_LIFETIME_MS_MAX + 1)),
        ),
        ("it ends as it begins", "lifetime", signed(|b| b.expires_at = b.issued_at)),
        (
            "it ended now",
            "expired",
            signed(|b| {
                b.issued_at = Timestamp(samples::NOW.0 - 1000);
                b.expires_at = samples::NOW;
            }),
        ),
        (
            "30001 ms in the future",
            "future_dated",
            signed(|b| {
                b.issued_at = samples::NOW.plus_ms(CLOCK_SKEW_MS_MAX + 1);
                b.expires_at = b.issued_at.plus_ms(1000);
            }),
        ),
        ("signed by one key, published for another", "signature", encode(&forged)),
        ("changed after it was signed", "signature", encode(&altered)),
    ];
    let check = |(reason, result, bytes): (&str, &str, Vec<u8>)| {
        let error = Offer::parse(&bytes, &samples::network(), samples::NOW).unwrap_err();
        assert_eq!(variant(&error), result, "{reason}");
        json!({ "reason": reason, "result": result, "bytes": hex::encode(bytes) })
    };
    cases.map(check).to_vec()
}

pub(crate) fn infers() -> Vec<Value> {
    let (_, chat) = samples::infers().swap_remove(0);
    let good = encode(&chat);
    let mut biased = chat.clone();
    biased.sampling.logit_bias = vec![LogitBias { token: 7, bias: 1.0 }; LOGIT_BIASES_MAX + 1];
    let mut stops = chat.clone();
    stops.stop = vec!["x".into(); STOPS_MAX + 1];
    let mut stop = chat.clone();
    stop.stop = vec!["x".repeat(STOP_BYTES_MAX + 1)];
    let model = encode(&chat.model);
    let before_input = model.len();
    // Directly after the model: the kind of input, the number of messages, the first role.
    let kind = [&good[..before_input], &[8], &good[before_input + 1..]].concat();
    let messages =
        [&good[..=before_input], &length(MESSAGES_MAX + 1)[..], &good[before_input + 5..]].concat();
    let role = [&good[..before_input + 5], &[4], &good[before_input + 6..]].concat();
    let utf8 = with(&good, b"What is arknet?", b"What is \xffrknet?");
    // Temperature is the first float: 1.0, then top_p: 1.0.
    let floats = [1.0_f32.to_le_bytes(), 1.0_f32.to_le_bytes()].concat();
    let nan = with(&good, &floats, &[f32::NAN.to_le_bytes(), 1.0_f32.to_le_bytes()].concat());
    let mut rejected = cut_and_longer::<InferRequest>(&good);
    rejected.extend([
        undecodable::<InferRequest>(
            "a space in the model name",
            &with(&good, &model, &encode("a b")),
        ),
        undecodable::<InferRequest>(
            "a model name of 129 bytes",
            &with(&good, &model, &encode(&"a".repeat(129))),
        ),
        undecodable::<InferRequest>("an unknown kind of input", &kind),
        undecodable::<InferRequest>("4097 messages", &messages),
        undecodable::<InferRequest>("an unknown role", &role),
        undecodable::<InferRequest>("a text that is not UTF-8", &utf8),
        undecodable::<InferRequest>("17 stop sequences", &encode(&stops)),
        undecodable::<InferRequest>("a stop sequence of 257 bytes", &encode(&stop)),
        undecodable::<InferRequest>("a float that is no number", &nan),
        undecodable::<InferRequest>("1025 logit biases", &encode(&biased)),
    ]);
    rejected
}

/// Values that decode but are refused with `code`.
pub(crate) fn infers_out_of_bounds() -> Vec<Value> {
    let changes: [Change<InferRequest>; 12] = [
        ("temperature above 2", |r| r.sampling.temperature = 2.01),
        ("top_p below 0", |r| r.sampling.top_p = -0.01),
        ("min_p above 1", |r| r.sampling.min_p = 1.01),
        ("presence_penalty below -2", |r| r.sampling.presence_penalty = -2.01),
        ("frequency_penalty above 2", |r| r.sampling.frequency_penalty = 2.01),
        ("repeat_penalty of 0", |r| r.sampling.repeat_penalty = 0.0),
        ("an infinite temperature", |r| r.sampling.temperature = f32::INFINITY),
        ("max_tokens of 0", |r| r.max_tokens = Some(0)),
        ("an empty stop sequence", |r| r.stop = vec![String::new()]),
        ("21 alternatives for each token", |r| r.logprobs = Some(21)),
        ("nothing to embed", |r| r.input = Input::Embed(vec![])),
        ("a conversation without messages", |r| r.input = Input::Chat(Chat::default())),
    ];
    let check = |(reason, change): Change<InferRequest>| {
        let (_, mut infer) = samples::infers().swap_remove(0);
        change(&mut infer);
        let bytes = encode(&infer);
        assert_eq!(decode::<InferRequest>(&bytes).unwrap(), infer, "{reason}");
        let code = infer.check().unwrap_err().code;
        json!({ "reason": reason, "bytes": hex::encode(bytes), "code": code as u8 })
    };
    changes.map(check).to_vec()
}

fn signed_request() -> Request {
    let (_, body) = samples::delegations().swap_remove(0);
    let (_, infer) = samples::infers().swap_remove(0);
    samples::request(&Delegation::sign(body, &samples::wallet()), infer)
}

pub(crate) fn requests() -> Vec<Value> {
    cut_and_longer::<Request>(&encode(&signed_request()))
}

/// Requests that decode but whose session did not sign what they say.
pub(crate) fn requests_not_signed() -> Vec<Value> {
    let changes: [Change<Request>; 9] = [
        ("another audience", |r| r.body.audience = samples::wallet().public()),
        ("another nonce", |r| r.body.nonce += 1),
        ("another time", |r| r.body.sent_at = r.body.sent_at.plus_ms(1)),
        ("another cost", |r| r.body.cost_max.0 += 1),
        ("another delegation", |r| r.delegation.body.spending_cap.0 += 1),
        ("another delegation signature", |r| r.delegation.signature.0[0] ^= 1),
        ("another salt", |r| r.salt.0[0] ^= 1),
        ("another question", |r| r.infer.max_tokens = Some(1)),
        ("another signature", |r| r.signature.0[63] ^= 1),
    ];
    let check = |(reason, change): Change<Request>| {
        let mut request = signed_request();
        change(&mut request);
        assert!(!request.is_signed(), "{reason}");
        json!({ "reason": reason, "bytes": hex::encode(encode(&request)) })
    };
    changes.map(check).to_vec()
}

/// `result` is what is wrong: `network`, `expired`, `future_dated`, `delegation` or `signature`.
pub(crate) fn free_uses() -> Vec<Value> {
    let age = FREE_USE_AGE_MS_MAX;
    let signed = |change: fn(&mut arknet_types::RequestBody), later: u64| {
        let mut free_use = FreeUse::of(&signed_request());
        free_use.body.sent_at = samples::NOW.plus_ms(later);
        change(&mut free_use.body);
        free_use.signature = samples::session().sign(arknet_types::Domain::REQUEST, &free_use.body);
        free_use
    };
    let mut old = signed(|_| {}, 0);
    old.body.sent_at = Timestamp(samples::NOW.0 - age - 1);
    let mut forged = signed(|_| {}, 0);
    forged.body.nonce += 1;
    let mut stolen = signed(|_| {}, 0);
    stolen.delegation.body.wallet = samples::peer().public();
    stolen.body.delegation_digest = stolen.delegation.digest();
    stolen.signature = samples::session().sign(arknet_types::Domain::REQUEST, &stolen.body);
    let other = |body: &mut arknet_types::RequestBody| {
        body.network = arknet_types::NetworkId::new("other").unwrap();
    };
    let future = CLOCK_SKEW_MS_MAX + 1;
    let cases = [
        ("another network", "network", FreeUseError::Network, signed(other, 0)),
        ("too old", "expired", FreeUseError::Expired, old),
        ("of the future", "future_dated", FreeUseError::FutureDated, signed(|_| {}, future)),
        ("asked before its session", "delegation", FreeUseError::Delegation, {
            let mut early = signed(|_| {}, 0);
            early.delegation.body.issued_at = samples::NOW.plus_ms(CLOCK_SKEW_MS_MAX + 1);
            early
        }),
        ("another nonce", "signature", FreeUseError::Signature, forged),
        ("a wallet that did not sign", "signature", FreeUseError::Signature, stolen),
    ];
    let check = |(reason, result, error, free_use): (&str, &str, FreeUseError, FreeUse)| {
        let checked = free_use.check(&samples::network(), samples::NOW);
        assert_eq!(checked, Err(error), "{reason}");
        json!({ "reason": reason, "result": result, "bytes": hex::encode(encode(&free_use)) })
    };
    cases.map(check).to_vec()
}

pub(crate) fn replies() -> Vec<Value> {
    let text = encode(&Reply::Text { text: "ab".into(), tokens: 1 });
    let mut rejected = cut_and_longer::<Reply>(&text);
    rejected.extend([
        undecodable::<Reply>("an unknown kind", &[11]),
        undecodable::<Reply>("an unknown finish reason", &[&[2, 4], &[0; 16][..]].concat()),
        undecodable::<Reply>(
            "a score that is no number",
            &[&[8, 1, 0, 0, 0], &f32::NAN.to_le_bytes()[..]].concat(),
        ),
        undecodable::<Reply>(
            "8193 tokens",
            &[&[9], &length(VALUES_PER_REPLY_MAX + 1)[..]].concat(),
        ),
        undecodable::<Reply>("a text that is not UTF-8", &with(&text, b"ab", b"\xc3\x28")),
        undecodable::<Reply>("a text longer than the frame", &with(&text, &length(2), &[255; 4])),
    ]);
    rejected
}

pub(crate) fn refusals() -> Vec<Value> {
    let good = encode(&samples::refusals()[0]);
    let unknown = |code| [&[code], &good[1..]].concat();
    let long = "x".repeat(REFUSAL_DETAIL_BYTES_MAX + 1);
    let mut rejected = cut_and_longer::<Refusal>(&good);
    rejected.extend([
        undecodable::<Refusal>("the code 0", &unknown(0)),
        undecodable::<Refusal>("the code 255", &unknown(255)),
        undecodable::<Refusal>("257 bytes of words", &[&[1], &encode(&long)[..], &[0]].concat()),
    ]);
    rejected
}

pub(crate) fn seeds() -> Vec<Value> {
    let seed = r#"{"multiaddr":"/ip4/192.0.2.7/tcp/26656","operator":"Ada"}"#;
    let many = vec![seed; SEEDS_MAX + 1].join(",");
    let cases = [
        ("no object", "[]".to_owned()),
        ("an unknown version", r#"{"version":2,"chain_id":"a","seeds":[]}"#.into()),
        ("no seeds", r#"{"version":1,"chain_id":"a"}"#.into()),
        ("an unknown key", r#"{"version":1,"chain_id":"a","seeds":[],"more":1}"#.into()),
        ("a bad network id", r#"{"version":1,"chain_id":"A","seeds":[]}"#.into()),
        ("a seed without operator", {
            r#"{"version":1,"chain_id":"a","seeds":[{"multiaddr":"/ip4/192.0.2.7"}]}"#.into()
        }),
        ("257 seeds", format!(r#"{{"version":1,"chain_id":"a","seeds":[{many}]}}"#)),
    ];
    let check = |(reason, text): (&str, String)| {
        assert!(SeedFile::parse(&text).is_err(), "{reason}");
        json!({ "reason": reason, "text": text })
    };
    cases.map(check).to_vec()
}
