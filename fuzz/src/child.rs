//! What a node and the process of a model say to each other.

use arknet_provider::{
    ModelDetails, ModelInfo,
    child::protocol::{FrameBuffer, FromChild, ToChild, VERSION, put},
    limits::{FRAME_FROM_CHILD_BYTES_MAX, FRAME_TO_CHILD_BYTES_MAX},
};
use arknet_types::{Capabilities, encode, frame};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Decoder, corpus,
    decoders::{canonical, with},
    pieces::pieces,
};

pub(crate) fn decoders() -> anyhow::Result<Vec<Decoder>> {
    let (to, from) = (to_child()?, from_child()?);
    let to_frames = streams(&to);
    let from_frames = streams(&from);
    Ok(vec![
        with("ToChild", to, canonical::<ToChild>),
        with("FromChild", from, canonical::<FromChild>),
        with("frames to a child", to_frames, |bytes| {
            frames::<ToChild>(bytes, FRAME_TO_CHILD_BYTES_MAX)
        }),
        with("frames of a child", from_frames, |bytes| {
            frames::<FromChild>(bytes, FRAME_FROM_CHILD_BYTES_MAX)
        }),
    ])
}

/// The bytes of these bodies as frames, some alone and some behind each other.
fn streams(bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let frame = |body: &Vec<u8>| {
        let length = u32::try_from(body.len()).expect("a small body");
        [&length.to_le_bytes()[..], body].concat()
    };
    let pairs = bodies.windows(2).map(|pair| pair.iter().map(frame).collect::<Vec<_>>().concat());
    bodies.iter().map(frame).chain(pairs).collect()
}

fn to_child() -> anyhow::Result<Vec<Vec<u8>>> {
    let plain = [
        ToChild::Open { version: VERSION, setup: b"{\"path\":\"m.gguf\"}".to_vec() },
        ToChild::Cancel { id: 1 },
        ToChild::Credit { id: u64::MAX, replies: 32 },
        ToChild::Stats,
    ];
    let runs = corpus::bytes("infer.json", "bytes")?;
    let runs =
        runs.into_iter().map(|request| [&[1, 7, 0, 0, 0, 0, 0, 0, 0][..], &request].concat());
    Ok(plain.iter().map(encode).chain(runs).collect())
}

fn from_child() -> anyhow::Result<Vec<Vec<u8>>> {
    let info = ModelInfo {
        name: "arknet/tiny".parse()?,
        digest: None,
        projector: None,
        capabilities: Capabilities::GENERATE.with(Capabilities::TOOLS),
        context_tokens: 4096,
        slots: 4,
        details: ModelDetails {
            architecture: Some("qwen3".into()),
            parameters: Some(600_000_000),
            template: Some("{{ messages }}".into()),
            build_class: Some("x".into()),
            ..ModelDetails::default()
        },
    };
    let plain = [
        FromChild::Opened(Box::new(info)),
        FromChild::OpenFailed("the file is not a model".into()),
        FromChild::Stats { progress: 1, stats: vec![1, 2, 3] },
    ];
    let replies = corpus::bytes("reply.json", "bytes")?;
    let replies =
        replies.into_iter().map(|reply| [&[2, 7, 0, 0, 0, 0, 0, 0, 0][..], &reply].concat());
    Ok(plain.iter().map(encode).chain(replies).collect())
}

/// However the bytes are cut, the same frames come out of them, which are those bytes.
fn frames<T: BorshDeserialize + BorshSerialize + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    body_bytes_max: usize,
) -> bool {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut buffer = FrameBuffer::new(body_bytes_max);
        let mut found: Vec<T> = vec![];
        for piece in pieces {
            buffer.space().extend_from_slice(piece);
            loop {
                match buffer.take() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(_) => return (found, false),
                }
            }
        }
        (found, true)
    };
    let whole = read(&mut std::iter::once(bytes));
    assert_eq!(read(&mut pieces(bytes)), whole, "a cut made a difference");
    let (found, is_sound) = whole;
    let mut again = vec![];
    for one in &found {
        put(&mut again, one, body_bytes_max).expect("what came may be sent");
        assert!(again.ends_with(&frame(one)), "another frame");
    }
    assert!(bytes.starts_with(&again), "a second encoding was accepted");
    is_sound && again.len() == bytes.len() && !found.is_empty()
}
