//! The values the vectors hold: for each structure a plain one, and one with every field set or at
//! its edge.

use arknet_types::{
    Alternative, Atoms, Capabilities, Chat, Delegation, DelegationBody, FinishReason, Format,
    Image, ImageFormat, InferRequest, Input, KeyPair, LogitBias, Message, ModelDigest, ModelName,
    ModelOffer, NetworkId, OfferBody, Part, Profile, Reasoning, Refusal, RefusalCode, Reply,
    Request, Role, Salt, Sampling, Timestamp, TokenLogprob, Tool, ToolCall, ToolCallPiece,
    ToolChoice, Usage,
};

/// 2025-01-01, in the milliseconds the wire counts.
pub(crate) const NOW: Timestamp = Timestamp(1_735_689_600_000);

pub(crate) fn wallet() -> KeyPair {
    KeyPair::from_seed(&[0x42; 32])
}

pub(crate) fn session() -> KeyPair {
    KeyPair::from_seed(&[0x43; 32])
}

pub(crate) fn peer() -> KeyPair {
    KeyPair::from_seed(&[0x44; 32])
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("arknet-test-1").unwrap()
}

fn model() -> ModelName {
    ModelName::new("Qwen/Qwen3-0.6B-Q8_0").unwrap()
}

pub(crate) fn delegations() -> Vec<(&'static str, DelegationBody)> {
    let plain = DelegationBody {
        network: network(),
        wallet: wallet().public(),
        session: session().public(),
        spending_cap: Atoms(100_000_000),
        issued_at: NOW,
        expires_at: NOW.plus_ms(3_600_000),
        peer_scope: None,
        model_scope: None,
    };
    let scoped = DelegationBody {
        peer_scope: Some(peer().public()),
        model_scope: Some(model()),
        ..plain.clone()
    };
    let edges = DelegationBody {
        network: NetworkId::new("a").unwrap(),
        spending_cap: Atoms(u64::MAX),
        issued_at: Timestamp(0),
        expires_at: Timestamp(u64::MAX),
        ..plain.clone()
    };
    vec![("plain", plain), ("scoped", scoped), ("edges", edges)]
}

pub(crate) fn offers() -> Vec<(&'static str, OfferBody)> {
    let served = ModelOffer {
        name: model(),
        digest: Some(ModelDigest([0xd1; 32])),
        projector: Some(ModelDigest([0xd2; 32])),
        capabilities: Capabilities::GENERATE.with(Capabilities::TOOLS),
        context_tokens: 40_960,
        slots_total: 4,
        slots_free: 3,
        input_price: Atoms(50_000),
        output_price: Atoms(200_000),
    };
    let free = ModelOffer {
        name: ModelName::new("arknet/tiny").unwrap(),
        digest: None,
        projector: None,
        capabilities: Capabilities::EMBED,
        context_tokens: 512,
        input_price: Atoms::ZERO,
        output_price: Atoms::ZERO,
        ..served.clone()
    };
    let plain = OfferBody {
        network: network(),
        peer: peer().public(),
        sequence: 1_735_689_600_000_000,
        issued_at: NOW,
        expires_at: NOW.plus_ms(180_000),
        addresses: vec![
            "/ip4/192.0.2.7/tcp/26656".into(),
            "/ip4/192.0.2.7/udp/26656/quic-v1".into(),
        ],
        models: vec![served, free],
    };
    let goodbye = OfferBody {
        sequence: plain.sequence + 1,
        addresses: vec![],
        models: vec![],
        ..plain.clone()
    };
    vec![("two models", plain), ("goodbye", goodbye)]
}

pub(crate) fn infers() -> Vec<(&'static str, InferRequest)> {
    let hello = Message::new(Role::User, "What is arknet?");
    let chat = InferRequest::new(model(), Input::Chat(Chat::new(vec![hello])));
    let text = InferRequest {
        input: Input::Text("Once upon a time".into()),
        max_tokens: Some(16),
        ..chat.clone()
    };
    let full = InferRequest {
        input: Input::Chat(full_chat()),
        max_tokens: Some(1_048_576),
        stop: vec!["\n\n".into(), "\u{2026}".into()],
        sampling: Sampling {
            temperature: 0.7,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            presence_penalty: -2.0,
            frequency_penalty: 1.5,
            repeat_penalty: 1.1,
            seed: Some(u64::MAX),
            logit_bias: vec![
                LogitBias { token: 0, bias: -100.0 },
                LogitBias { token: u32::MAX, bias: 0.1 },
            ],
        },
        format: Format::JsonSchema(r#"{"type":"object"}"#.into()),
        logprobs: Some(20),
        profile: Profile::Exact,
        ..chat.clone()
    };
    let mut all = vec![("chat", chat), ("text", text), ("every field", full)];
    let inputs = [
        ("embed", Input::Embed(vec!["one".into(), "tw\u{f6}".into()])),
        ("rerank", Input::Rerank { query: "q".into(), documents: vec!["a".into(), "b".into()] }),
        ("tokenize", Input::Tokenize { text: "<s>".into(), add_special: true }),
        ("detokenize", Input::Detokenize(vec![0, u32::MAX])),
        ("count", Input::Count(full_chat())),
        (
            "file",
            Input::File { digest: ModelDigest([0xd1; 32]), offset: u64::MAX << 16, length: 65_536 },
        ),
    ];
    all.extend(inputs.map(|(name, input)| (name, InferRequest::new(model(), input))));
    let formats = [
        ("a JSON object", Format::JsonObject),
        ("a Lark grammar", Format::Lark("start: \"a\"".into())),
        ("a GBNF grammar", Format::Gbnf("root ::= \"a\"".into())),
        ("a regular expression", Format::Regex("[ab]+".into())),
    ];
    for (name, format) in formats {
        let (_, chat) = all[0].clone();
        all.push((name, InferRequest { format, ..chat }));
    }
    all
}

/// A conversation with every field set.
fn full_chat() -> Chat {
    let mut messages: Vec<Message> = [Role::System, Role::User, Role::Assistant, Role::Tool]
        .map(|role| Message::new(role, format!("gr\u{fc}\u{df} \u{1f44b} {role:?}")))
        .into();
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Webp];
    messages[1]
        .parts
        .extend(formats.map(|format| Part::Image(Image { format, bytes: vec![0, 255] })));
    messages[2].reasoning = Some("hm".into());
    messages[2].tool_calls = vec![ToolCall {
        id: "call_1".into(),
        name: "get_weather".into(),
        arguments: r#"{"city":"K\u00f6ln"}"#.into(),
    }];
    messages[3].tool_call_id = Some("call_1".into());
    Chat {
        messages,
        tools: vec![Tool {
            name: "get_weather".into(),
            description: Some("The weather of a city".into()),
            parameters: r#"{"type":"object"}"#.into(),
        }],
        tool_choice: ToolChoice::Named("get_weather".into()),
        parallel_tool_calls: true,
        reasoning: Reasoning::On,
    }
}

pub(crate) fn refusals() -> Vec<Refusal> {
    // The numbers are the wire's: whatever decodes is a code.
    let codes =
        (0..=u8::MAX).filter_map(|number| arknet_types::decode::<RefusalCode>(&[number]).ok());
    codes
        .map(|code| {
            let refusal = Refusal::new(code, format!("words about {}", code.as_str()));
            if code == RefusalCode::Busy { refusal.retry_after_ms(1_500) } else { refusal }
        })
        .collect()
}

pub(crate) fn replies() -> Vec<(String, Reply)> {
    let text = |text: &str, tokens| Reply::Text { text: text.into(), tokens };
    let usage =
        Usage { prompt_tokens: 12, completion_tokens: 345, cached_tokens: 6, reasoning_tokens: 78 };
    let token = TokenLogprob {
        token: 9,
        bytes: vec![0xc3],
        logprob: -0.5,
        top: vec![Alternative { token: 8, bytes: b"no".into(), logprob: -1.25 }],
    };
    let call = ToolCallPiece {
        index: 1,
        id: Some("call_1".into()),
        name: Some("get_weather".into()),
        arguments: "{".into(),
        tokens: 3,
    };
    let more = ToolCallPiece { id: None, name: None, arguments: "}".into(), ..call.clone() };
    let mut replies = vec![
        ("text".into(), text("arknet is", 2)),
        ("text beyond ASCII".into(), text("\u{e9}\u{4e16}\u{1f30d}", 3)),
        ("tokens without text yet".into(), text("", 1)),
        ("alive".into(), Reply::Alive),
        ("done".into(), Reply::Done { finish: FinishReason::Stop, usage }),
        ("done, cut short".into(), Reply::Done { finish: FinishReason::Length, usage }),
        ("done, for tools".into(), Reply::Done { finish: FinishReason::ToolCalls, usage }),
        ("done, stopped".into(), Reply::Done { finish: FinishReason::StopSequence(15), usage }),
        ("reasoning".into(), Reply::Reasoning { text: "hm".into(), tokens: 1 }),
        ("a tool call begins".into(), Reply::ToolCall(call)),
        ("a tool call goes on".into(), Reply::ToolCall(more)),
        ("logprobs".into(), Reply::Logprobs(vec![token])),
        ("embedding".into(), Reply::Embedding { index: 1, values: vec![0.6, -0.8] }),
        ("scores".into(), Reply::Scores(vec![1.5, -0.25])),
        ("tokens".into(), Reply::Tokens(vec![0, u32::MAX])),
        (
            "file".into(),
            Reply::File { total_bytes: u64::MAX, root: [0xb3; 32], bytes: vec![0, 255] },
        ),
    ];
    for refusal in refusals() {
        replies.push((format!("refused, {}", refusal.code.as_str()), Reply::Refused(refusal)));
    }
    replies
}

pub(crate) fn request(delegation: &Delegation, infer: InferRequest) -> Request {
    let nonce = 1_735_689_600_000_001;
    let salt = Salt([0x5a; 32]);
    Request::sign(&session(), delegation, peer().public(), nonce, NOW, Atoms(25_000), salt, infer)
}
