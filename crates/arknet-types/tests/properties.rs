//! What holds for every value and for every run of bytes, not only for the vectors.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use arknet_types::{
    Alternative, Atoms, Capabilities, Chat, Delegation, DelegationBody, FinishReason, Format,
    FrameHeader, Image, ImageFormat, InferRequest, Input, KeyPair, LogitBias, Message, ModelDigest,
    ModelName, ModelOffer, NetworkId, Offer, OfferBody, Part, Profile, PublicKey, Reasoning,
    Refusal, RefusalCode, Reply, Request, RequestBody, Role, Salt, Sampling, SeedFile, Signature,
    Timestamp, TokenLogprob, Tool, ToolCall, ToolCallPiece, ToolChoice, Usage, decode, encode,
    frame,
};
use borsh::{BorshDeserialize, BorshSerialize};
use proptest::{collection::vec, option, prelude::*};

fn network() -> impl Strategy<Value = NetworkId> {
    "[a-z0-9-]{1,32}".prop_map(|text| NetworkId::new(text).unwrap())
}

fn model_name() -> impl Strategy<Value = ModelName> {
    "[!#-\\[\\]-~]{1,128}".prop_map(|text| ModelName::new(text).unwrap())
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn signature() -> impl Strategy<Value = Signature> {
    any::<[u8; 64]>().prop_map(Signature)
}

fn delegation_body() -> impl Strategy<Value = DelegationBody> {
    let scopes = (option::of(key()), option::of(model_name()));
    (network(), key(), key(), any::<[u64; 3]>(), scopes).prop_map(
        |(network, wallet, session, [cap, issued_at, expires_at], (peer_scope, model_scope))| {
            DelegationBody {
                network,
                wallet,
                session,
                spending_cap: Atoms(cap),
                issued_at: Timestamp(issued_at),
                expires_at: Timestamp(expires_at),
                peer_scope,
                model_scope,
            }
        },
    )
}

fn delegation() -> impl Strategy<Value = Delegation> {
    (delegation_body(), signature()).prop_map(|(body, signature)| Delegation { body, signature })
}

fn model_offer() -> impl Strategy<Value = ModelOffer> {
    let digests = any::<[Option<[u8; 32]>; 2]>();
    let capabilities = any::<[u8; 2]>().prop_map(|bytes| decode::<Capabilities>(&bytes).unwrap());
    (model_name(), digests, capabilities, any::<u32>(), any::<[u16; 2]>(), any::<[u64; 2]>())
        .prop_map(
            |(name, digests, capabilities, context_tokens, [slots_total, slots_free], prices)| {
                let [digest, projector] = digests.map(|digest| digest.map(ModelDigest));
                ModelOffer {
                    name,
                    digest,
                    projector,
                    capabilities,
                    context_tokens,
                    slots_total,
                    slots_free,
                    input_price: Atoms(prices[0]),
                    output_price: Atoms(prices[1]),
                }
            },
        )
}

fn offer() -> impl Strategy<Value = Offer> {
    let lists = (vec("\\PC{0,64}", 0..16), vec(model_offer(), 0..8));
    (network(), key(), any::<[u64; 3]>(), lists, signature()).prop_map(
        |(network, peer, [sequence, issued_at, expires_at], (addresses, models), signature)| {
            Offer {
                body: OfferBody {
                    network,
                    peer,
                    sequence,
                    issued_at: Timestamp(issued_at),
                    expires_at: Timestamp(expires_at),
                    addresses,
                    models,
                },
                signature,
            }
        },
    )
}

fn float() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("NaN has no encoding", |f| !f.is_nan())
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let bias = (any::<u32>(), float()).prop_map(|(token, bias)| LogitBias { token, bias });
    let floats = [float(), float(), float(), float(), float(), float()];
    (floats, any::<u32>(), any::<Option<u64>>(), vec(bias, 0..16)).prop_map(
        |([temperature, top_p, min_p, presence, frequency, repeat], top_k, seed, logit_bias)| {
            Sampling {
                temperature,
                top_p,
                top_k,
                min_p,
                presence_penalty: presence,
                frequency_penalty: frequency,
                repeat_penalty: repeat,
                seed,
                logit_bias,
            }
        },
    )
}

fn tool_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_.-]{1,128}"
}

fn message() -> impl Strategy<Value = Message> {
    let role =
        prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant), Just(Role::Tool)];
    let format = prop_oneof![
        Just(ImageFormat::Png),
        Just(ImageFormat::Jpeg),
        Just(ImageFormat::Gif),
        Just(ImageFormat::Webp)
    ];
    let image = (format, vec(any::<u8>(), 0..8))
        .prop_map(|(format, bytes)| Part::Image(Image { format, bytes }));
    let part = prop_oneof![any::<String>().prop_map(Part::Text), image];
    let call = (any::<String>(), tool_name(), any::<String>())
        .prop_map(|(id, name, arguments)| ToolCall { id, name, arguments });
    let options = (any::<Option<String>>(), any::<Option<String>>());
    (role, vec(part, 0..4), vec(call, 0..3), options).prop_map(
        |(role, parts, tool_calls, (reasoning, tool_call_id))| Message {
            role,
            parts,
            reasoning,
            tool_calls,
            tool_call_id,
        },
    )
}

fn chat() -> impl Strategy<Value = Chat> {
    let tool = (tool_name(), any::<Option<String>>(), any::<String>())
        .prop_map(|(name, description, parameters)| Tool { name, description, parameters });
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        tool_name().prop_map(ToolChoice::Named)
    ];
    let reasoning = prop_oneof![Just(Reasoning::Auto), Just(Reasoning::Off), Just(Reasoning::On)];
    (vec(message(), 0..6), vec(tool, 0..3), choice, any::<bool>(), reasoning).prop_map(
        |(messages, tools, tool_choice, parallel_tool_calls, reasoning)| Chat {
            messages,
            tools,
            tool_choice,
            parallel_tool_calls,
            reasoning,
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    let texts = || vec(any::<String>(), 0..4);
    prop_oneof![
        chat().prop_map(Input::Chat),
        any::<String>().prop_map(Input::Text),
        texts().prop_map(Input::Embed),
        (any::<String>(), texts())
            .prop_map(|(query, documents)| Input::Rerank { query, documents }),
        (any::<String>(), any::<bool>())
            .prop_map(|(text, add_special)| Input::Tokenize { text, add_special }),
        vec(any::<u32>(), 0..8).prop_map(Input::Detokenize),
        chat().prop_map(Input::Count),
        any::<([u8; 32], u64, u64)>().prop_map(|(digest, offset, length)| Input::File {
            digest: ModelDigest(digest),
            offset,
            length,
        }),
    ]
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::Text),
        Just(Format::JsonObject),
        any::<String>().prop_map(Format::JsonSchema),
        any::<String>().prop_map(Format::Lark),
        any::<String>().prop_map(Format::Gbnf),
        any::<String>().prop_map(Format::Regex)
    ]
}

fn infer() -> impl Strategy<Value = InferRequest> {
    let stop = vec("\\PC{0,60}", 0..16);
    let profile = prop_oneof![Just(Profile::Default), Just(Profile::Exact)];
    let form = (format(), any::<Option<u8>>(), profile);
    (model_name(), input(), any::<Option<u32>>(), stop, sampling(), form).prop_map(
        |(model, input, max_tokens, stop, sampling, (format, logprobs, profile))| InferRequest {
            model,
            input,
            max_tokens,
            stop,
            sampling,
            format,
            logprobs,
            profile,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let digests = any::<[[u8; 32]; 2]>();
    let body = (network(), key(), any::<[u64; 3]>(), digests).prop_map(
        |(network, audience, [nonce, sent_at, cost_max], [delegation_digest, infer_digest])| {
            RequestBody {
                network,
                audience,
                nonce,
                sent_at: Timestamp(sent_at),
                cost_max: Atoms(cost_max),
                delegation_digest,
                infer_digest,
            }
        },
    );
    let salt = any::<[u8; 32]>().prop_map(Salt);
    (body, signature(), delegation(), salt, infer()).prop_map(
        |(body, signature, delegation, salt, infer)| Request {
            body,
            signature,
            delegation,
            salt,
            infer,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let code = (1_u8..=20).prop_map(|number| decode::<RefusalCode>(&[number]).unwrap());
    (code, "\\PC{0,64}", any::<Option<u32>>()).prop_map(|(code, detail, retry_after_ms)| Refusal {
        retry_after_ms,
        ..Refusal::new(code, detail)
    })
}

fn token() -> impl Strategy<Value = TokenLogprob> {
    let bytes = || vec(any::<u8>(), 0..8);
    let top = (any::<u32>(), bytes(), float()).prop_map(|(token, bytes, logprob)| Alternative {
        token,
        bytes,
        logprob,
    });
    (any::<u32>(), bytes(), float(), vec(top, 0..4))
        .prop_map(|(token, bytes, logprob, top)| TokenLogprob { token, bytes, logprob, top })
}

fn reply() -> impl Strategy<Value = Reply> {
    let finish = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ToolCalls),
        any::<u8>().prop_map(FinishReason::StopSequence)
    ];
    let done = (finish, any::<[u32; 4]>()).prop_map(
        |(finish, [prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens])| {
            let usage = Usage { prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens };
            Reply::Done { finish, usage }
        },
    );
    let names = (any::<Option<String>>(), any::<Option<String>>());
    let call = (any::<u16>(), names, any::<String>(), any::<u32>()).prop_map(
        |(index, (id, name), arguments, tokens)| ToolCallPiece {
            index,
            id,
            name,
            arguments,
            tokens,
        },
    );
    prop_oneof![
        (any::<String>(), any::<u32>()).prop_map(|(text, tokens)| Reply::Text { text, tokens }),
        (any::<String>(), any::<u32>())
            .prop_map(|(text, tokens)| Reply::Reasoning { text, tokens }),
        Just(Reply::Alive),
        done,
        refusal().prop_map(Reply::Refused),
        call.prop_map(Reply::ToolCall),
        vec(token(), 0..4).prop_map(Reply::Logprobs),
        (any::<u32>(), vec(float(), 0..8))
            .prop_map(|(index, values)| Reply::Embedding { index, values }),
        vec(float(), 0..8).prop_map(Reply::Scores),
        vec(any::<u32>(), 0..8).prop_map(Reply::Tokens),
        (any::<u64>(), any::<[u8; 32]>(), vec(any::<u8>(), 0..8))
            .prop_map(|(total_bytes, root, bytes)| Reply::File { total_bytes, root, bytes }),
    ]
}

/// A value comes back from its bytes as it was.
fn returns<T: BorshSerialize + BorshDeserialize + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = encode(value);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    let framed = frame(value);
    let (header, body) = framed.split_first_chunk().unwrap();
    assert_eq!(FrameHeader::parse(*header, body.len()).unwrap().body_bytes, body.len());
    assert_eq!(body, bytes);
}

/// Bytes either do not decode or are the one encoding of what they decode to.
fn is_canonical<T: BorshSerialize + BorshDeserialize>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        assert_eq!(encode(&value), bytes);
    }
}

fn are_canonical(bytes: &[u8]) {
    is_canonical::<Delegation>(bytes);
    is_canonical::<InferRequest>(bytes);
    is_canonical::<Offer>(bytes);
    is_canonical::<Refusal>(bytes);
    is_canonical::<Reply>(bytes);
    is_canonical::<Request>(bytes);
}

/// What happens to bytes on their way: some change, some go, some come.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<usize>().prop_map(Damage::Remove),
    ];
    vec(one, 1..4)
}

fn damaged(mut bytes: Vec<u8>, damages: Vec<Damage>) -> Vec<u8> {
    for damage in damages {
        let end = bytes.len() + 1;
        match damage {
            Damage::Cut(at) => bytes.truncate(at % end),
            Damage::Insert(at, byte) => bytes.insert(at % end, byte),
            Damage::Flip(at, bits) if !bytes.is_empty() => bytes[at % (end - 1)] ^= bits,
            Damage::Remove(at) if !bytes.is_empty() => drop(bytes.remove(at % (end - 1))),
            _ => {}
        }
    }
    bytes
}

proptest! {
    #[test]
    fn every_value_returns(
        delegation in delegation(),
        offer in offer(),
        infer in infer(),
        request in request(),
        reply in reply(),
        refusal in refusal(),
    ) {
        returns(&delegation);
        returns(&offer);
        returns(&infer);
        returns(&request);
        returns(&reply);
        returns(&refusal);
    }

    #[test]
    fn damaged_values_are_refused_or_canonical(
        request in request(),
        offer in offer(),
        reply in reply(),
        damage in damage(),
    ) {
        for bytes in [encode(&request), encode(&offer), encode(&reply)] {
            are_canonical(&damaged(bytes, damage.clone()));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..512)) {
        are_canonical(&bytes);
        let _ = KeyPair::from_file_bytes(&bytes);
        let _ = PublicKey::from_peer_id_bytes(&bytes);
        let _ = Offer::parse(&bytes, &NetworkId::new("test").unwrap(), Timestamp(0));
    }

    #[test]
    fn any_text_is_refused_or_read(text in any::<String>()) {
        let _ = SeedFile::parse(&text);
        if let Ok(key) = PublicKey::from_peer_id(&text) {
            prop_assert_eq!(key.peer_id(), text);
        }
    }

    #[test]
    fn every_key_returns(key in key(), seed in any::<[u8; 32]>()) {
        prop_assert_eq!(PublicKey::from_peer_id(&key.peer_id()), Ok(key));
        prop_assert_eq!(key.address().to_string().parse(), Ok(key.address()));
        let pair = KeyPair::from_seed(&seed);
        let read = KeyPair::from_file_bytes(&pair.to_file_bytes()[..]).unwrap();
        prop_assert_eq!(read.public(), pair.public());
    }

    #[test]
    fn a_price_never_loses_an_atom(price in any::<u64>(), tokens in any::<u32>()) {
        let exact = u128::from(price) * u128::from(tokens);
        let charged = Atoms(price).per_million(tokens.into()).map(|atoms| u128::from(atoms.0));
        let rounded = exact.div_ceil(1_000_000);
        prop_assert_eq!(charged, (rounded <= u64::MAX.into()).then_some(rounded));
    }
}
