use arknet_types::{
    FrameHeader, InferRequest, Refusal, RefusalCode, Reply, Request, decode, frame,
    limits::{REPLY_FRAME_BYTES_MAX, REQUEST_FRAME_BYTES_MAX},
};

/// Tokens an answer has when nothing is said.
pub(super) const TOKENS_MAX: u32 = 64;

/// Reads the one frame a requester sends.
pub(super) fn read_request(bytes: &[u8]) -> Result<Request, Refusal> {
    let body = body(bytes, REQUEST_FRAME_BYTES_MAX)?;
    decode(body).map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string()))
}

/// Reads one frame of an answer.
pub(super) fn read_reply(bytes: &[u8]) -> Option<Reply> {
    decode(body(bytes, REPLY_FRAME_BYTES_MAX).ok()?).ok()
}

pub(super) fn write_request(request: &Request) -> Vec<u8> {
    frame(request)
}

pub(super) fn write_reply(reply: &Reply) -> Vec<u8> {
    frame(reply)
}

/// Tokens of an input: one for every four bytes.
pub(super) fn prompt_tokens(infer: &InferRequest) -> u32 {
    u32::try_from(infer.input_bytes() / 4 + 1).unwrap_or(u32::MAX)
}

fn body(bytes: &[u8], max: usize) -> Result<&[u8], Refusal> {
    let malformed = || Refusal::new(RefusalCode::Malformed, "not a frame");
    let (header, body) =
        bytes.split_first_chunk::<{ FrameHeader::BYTES }>().ok_or_else(malformed)?;
    let header = FrameHeader::parse(*header, max)
        .map_err(|error| Refusal::new(RefusalCode::TooLarge, error.to_string()))?;
    if body.len() == header.body_bytes { Ok(body) } else { Err(malformed()) }
}
