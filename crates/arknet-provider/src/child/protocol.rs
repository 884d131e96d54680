//! The frames between a node and the process of a model: a length (u32, little endian), then Borsh.
//!
//! Both sides are the same program, so there is no negotiation: another version refuses to open.

use arknet_types::{
    DecodeError, FrameHeader, InferRequest, Refusal, RefusalCode, Reply,
    limits::{REPLY_FRAME_BYTES_MAX, REQUEST_FRAME_BYTES_MAX},
};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Buf, Bytes, BytesMut};

use crate::ModelInfo;

/// Changes with every change of a frame.
pub const VERSION: u16 = 3;

/// From the node to a child.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum ToChild {
    /// Opens the model. The first frame, and the only one of its kind.
    Open {
        /// [`VERSION`] of the node.
        version: u16,
        /// What to open and how, in a form that the child's program knows.
        setup: Vec<u8>,
    } = 0,
    /// Starts a request.
    Run {
        /// Names it from here on; never used again.
        id: u64,
        /// What is asked.
        request: Box<InferRequest>,
    } = 1,
    /// Ends a request whose answer nobody wants any more.
    Cancel {
        /// Which.
        id: u64,
    } = 2,
    /// There is room for more replies.
    Credit {
        /// Of which request.
        id: u64,
        /// How many more.
        replies: u32,
    } = 3,
    /// Asks for the child's numbers.
    Stats = 4,
}

/// From a child to the node.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum FromChild {
    /// The model is there.
    Opened(Box<ModelInfo>) = 0,
    /// It is not, and why.
    OpenFailed(String) = 1,
    /// The next reply of a request.
    Reply {
        /// Which.
        id: u64,
        /// What it says.
        reply: Reply,
    } = 2,
    /// The child's numbers.
    Stats {
        /// What [`crate::Provider::progress`] says.
        progress: u64,
        /// What [`crate::Provider::stats`] says.
        stats: Vec<u8>,
    } = 3,
}

/// Why a value cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It holds a float that is no number.
    #[error("a value is not a number")]
    NotANumber,
    /// More bytes than the limit.
    #[error("{found} bytes where at most {max} are allowed")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
        /// The size in bytes.
        found: usize,
    },
}

/// Appends `frame` to `out`, or leaves `out` as it was.
pub fn put<T: BorshSerialize>(
    out: &mut Vec<u8>,
    frame: &T,
    body_bytes_max: usize,
) -> Result<(), FrameError> {
    let start = out.len();
    let body = start + FrameHeader::BYTES;
    out.resize(body, 0);
    // Borsh refuses floats that are no number; writing to memory cannot fail otherwise.
    if borsh::to_writer(&mut *out, frame).is_err() {
        out.truncate(start);
        return Err(FrameError::NotANumber);
    }
    let found = out.len() - body;
    match u32::try_from(found) {
        Ok(length) if found <= body_bytes_max => {
            out[start..body].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameError::TooLarge { max: body_bytes_max, found })
        }
    }
}

/// The frame that starts `request`, made once and kept for a second try.
pub fn run_frame(id: u64, request: InferRequest) -> Result<Bytes, Refusal> {
    let mut out = Vec::new();
    let frame = ToChild::Run { id, request: Box::new(request) };
    match put(&mut out, &frame, crate::limits::FRAME_TO_CHILD_BYTES_MAX) {
        Ok(()) => Ok(out.into()),
        Err(FrameError::NotANumber) => {
            Err(Refusal::new(RefusalCode::InvalidRequest, "a parameter is not a number"))
        }
        Err(FrameError::TooLarge { found, .. }) => Err(Refusal::new(
            RefusalCode::TooLarge,
            format!("the request has {found} bytes, {REQUEST_FRAME_BYTES_MAX} at most are allowed"),
        )),
    }
}

/// Appends a reply. One that cannot be sent becomes the refusal that is returned too.
pub fn put_reply(out: &mut Vec<u8>, id: u64, reply: Reply) -> Option<Refusal> {
    // The reply goes on to peers, whose limit is the one that counts.
    let error =
        put(out, &FromChild::Reply { id, reply }, REPLY_FRAME_BYTES_MAX + ENVELOPE_BYTES).err()?;
    let refusal = Refusal::new(RefusalCode::ProviderFailed, format!("the model's answer: {error}"));
    let frame = FromChild::Reply { id, reply: Reply::Refused(refusal.clone()) };
    put(out, &frame, REPLY_FRAME_BYTES_MAX).expect("a refusal is small and holds no floats");
    Some(refusal)
}

/// Bytes around a reply: the frame's kind and the request's id.
const ENVELOPE_BYTES: usize = 9;

/// Bytes as they arrive, until they are frames.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    body_bytes_max: usize,
}

impl FrameBuffer {
    /// Room that is kept; what a larger frame needed is given back after it.
    const KEPT_BYTES: usize = 256 * 1024;
    const READ_BYTES: usize = 64 * 1024;

    /// An empty one, for frames of at most so many bytes.
    #[must_use]
    pub fn new(body_bytes_max: usize) -> Self {
        Self { bytes: BytesMut::new(), body_bytes_max }
    }

    /// Where to read into.
    pub fn space(&mut self) -> &mut BytesMut {
        self.bytes.reserve(Self::READ_BYTES);
        &mut self.bytes
    }

    /// The next whole frame, where there is one. After an error the stream is of no use.
    pub fn take<T: BorshDeserialize>(&mut self) -> Result<Option<T>, DecodeError> {
        let Some(header) = self.bytes.first_chunk() else {
            return Ok(None);
        };
        let body_bytes = FrameHeader::parse(*header, self.body_bytes_max)?.body_bytes;
        let end = FrameHeader::BYTES + body_bytes;
        let Some(body) = self.bytes.get(FrameHeader::BYTES..end) else {
            // Grown by what has arrived, not by what is announced.
            return Ok(None);
        };
        let frame = arknet_types::decode(body)?;
        self.bytes.advance(end);
        if self.bytes.is_empty() && self.bytes.capacity() > Self::KEPT_BYTES {
            self.bytes = BytesMut::new();
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use arknet_types::{FinishReason, Input, Usage};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ModelDetails,
        limits::{FRAME_FROM_CHILD_BYTES_MAX, FRAME_TO_CHILD_BYTES_MAX},
    };

    fn hex<T: BorshSerialize>(frame: &T) -> String {
        let mut out = vec![];
        put(&mut out, frame, 1 << 20).unwrap();
        out.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn info() -> ModelInfo {
        ModelInfo {
            name: "m".parse().unwrap(),
            digest: None,
            projector: None,
            capabilities: arknet_types::Capabilities::GENERATE,
            context_tokens: 4096,
            slots: 4,
            details: ModelDetails { parameters: Some(7), ..ModelDetails::default() },
        }
    }

    /// Both sides are one program, but a node that was updated while it runs meets a newer child:
    /// these bytes may change only with the version.
    #[test]
    fn frames_have_these_bytes() {
        let run = InferRequest::new("m".parse().unwrap(), Input::Text("hi".into()));
        for (frame, bytes) in [
            (ToChild::Open { version: VERSION, setup: vec![9] }, "080000000003000100000009"),
            (
                ToChild::Run { id: 1, request: Box::new(run) },
                "3e000000 01 0100000000000000 010000006d 01 020000006869 00 00000000 \
                 0000803f 0000803f 00000000 00000000 00000000 00000000 0000803f 00 00000000 \
                 00 00 00",
            ),
            (ToChild::Cancel { id: 3 }, "09000000020300000000000000"),
            (ToChild::Credit { id: 3, replies: 32 }, "0d00000003030000000000000020000000"),
            (ToChild::Stats, "0100000004"),
        ] {
            assert_eq!(hex(&frame), bytes.replace(' ', ""), "{frame:?}");
        }
        let done = Reply::Done { finish: FinishReason::Stop, usage: Usage::default() };
        for (frame, bytes) in [
            (
                FromChild::Opened(Box::new(info())),
                "1f000000 00 010000006d 00 00 0100 00100000 0400 00 010700000000000000 0000000000",
            ),
            (FromChild::OpenFailed("no".into()), "0700000001020000006e6f"),
            (
                FromChild::Reply { id: 2, reply: done },
                "1b000000 02 0200000000000000 02 00 00000000 00000000 00000000 00000000",
            ),
            (
                FromChild::Stats { progress: 5, stats: vec![1, 2] },
                "0f000000 03 0500000000000000 02000000 0102",
            ),
        ] {
            assert_eq!(hex(&frame), bytes.replace(' ', ""), "{frame:?}");
        }
    }

    #[test]
    fn frames_come_out_of_any_division_of_the_bytes() {
        let frames = [
            FromChild::Stats { progress: 9, stats: vec![7; 300] },
            FromChild::Reply { id: 1, reply: Reply::Alive },
            FromChild::OpenFailed("x".into()),
        ];
        let mut sent = vec![];
        for frame in &frames {
            put(&mut sent, frame, FRAME_FROM_CHILD_BYTES_MAX).unwrap();
        }
        for piece in [1, 2, 3, 5, 64, sent.len()] {
            let mut buffer = FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX);
            let mut got = vec![];
            for bytes in sent.chunks(piece) {
                buffer.space().extend_from_slice(bytes);
                while let Some(frame) = buffer.take::<FromChild>().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_too_large_or_malformed_is_an_error_before_it_is_read() {
        let mut buffer = FrameBuffer::new(100);
        buffer.space().extend_from_slice(&101_u32.to_le_bytes());
        assert!(matches!(buffer.take::<FromChild>(), Err(DecodeError::TooLarge { .. })));
        for body in [&[9_u8][..], &[2, 1], &[3, 255, 255, 255, 255], &[3, 0, 0, 0, 0, 0]] {
            let mut buffer = FrameBuffer::new(100);
            let length = u32::try_from(body.len()).unwrap();
            buffer.space().extend_from_slice(&length.to_le_bytes());
            buffer.space().extend_from_slice(body);
            assert!(matches!(buffer.take::<FromChild>(), Err(DecodeError::Malformed(_))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut whole = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
            whole.extend(&bytes);
            for input in [&bytes, &whole] {
                let mut buffer = FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX);
                buffer.space().extend_from_slice(input);
                while let Ok(Some(frame)) = buffer.take::<FromChild>() {
                    prop_assert!(put(&mut vec![], &frame, FRAME_FROM_CHILD_BYTES_MAX).is_ok());
                }
                let mut buffer = FrameBuffer::new(FRAME_TO_CHILD_BYTES_MAX);
                buffer.space().extend_from_slice(input);
                while let Ok(Some(frame)) = buffer.take::<ToChild>() {
                    prop_assert!(put(&mut vec![], &frame, FRAME_TO_CHILD_BYTES_MAX).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_reply_that_cannot_be_sent_becomes_a_refusal() {
        let large = "x".repeat(REPLY_FRAME_BYTES_MAX);
        for reply in [Reply::Scores(vec![0.5, f32::NAN]), Reply::Text { text: large, tokens: 1 }] {
            let mut out = vec![1, 2];
            let refusal = put_reply(&mut out, 7, reply).expect("refused");
            assert_eq!(refusal.code, RefusalCode::ProviderFailed);
            let mut buffer = FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX);
            buffer.space().extend_from_slice(&out[2..]);
            let expected = FromChild::Reply { id: 7, reply: Reply::Refused(refusal) };
            assert_eq!(buffer.take::<FromChild>().unwrap(), Some(expected));
            assert_eq!(buffer.take::<FromChild>().unwrap(), None);
        }
        let mut out = vec![];
        assert_eq!(put_reply(&mut out, 7, Reply::Alive), None);
    }

    #[test]
    fn a_request_with_a_nan_or_of_too_many_bytes_is_refused() {
        let mut request = InferRequest::new("m".parse().unwrap(), Input::Text(String::new()));
        request.sampling.top_p = f32::NAN;
        assert_eq!(run_frame(1, request.clone()).unwrap_err().code, RefusalCode::InvalidRequest);
        request.sampling.top_p = 1.0;
        assert!(run_frame(1, request.clone()).is_ok());
        request.input = Input::Text("x".repeat(FRAME_TO_CHILD_BYTES_MAX));
        assert_eq!(run_frame(1, request).unwrap_err().code, RefusalCode::TooLarge);
    }
}
