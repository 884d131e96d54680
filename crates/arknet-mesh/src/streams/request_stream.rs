//! One request and its answer.

use std::{future::poll_fn, io, pin::Pin, task::Poll};

use arknet_types::{DecodeError, FrameHeader, decode, frame};
use borsh::{BorshDeserialize, BorshSerialize};
use futures::{AsyncRead, AsyncWriteExt};
use libp2p::Stream;

use super::permits::Permit;

/// Bytes read from the connection at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer ended the stream between two frames.
    #[error("the peer closed the stream")]
    Closed,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The connection failed, or the peer reset the stream.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The peer sent something else than was expected.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A stream that carries one request to a peer, or from one, and the answer back.
///
/// Both sides send frames. The requester keeps its side open until it has the whole answer: the end
/// of its side, however it came about, is how the server learns that nobody waits any more. So
/// dropping the stream cancels the request.
///
/// All methods except [`Self::write_frame`] and [`Self::write_raw`] may be cancelled and called
/// again; after a cancelled write the stream must be dropped, because part of a frame may have left.
pub struct RequestStream {
    stream: Stream,
    /// What arrived and was not asked for yet, from `start` on.
    arrived: Vec<u8>,
    start: usize,
    _permit: Option<Permit>,
}

impl RequestStream {
    pub(crate) fn opened(stream: Stream) -> Self {
        Self { stream, arrived: Vec::new(), start: 0, _permit: None }
    }

    pub(crate) fn accepted(stream: Stream, permit: Permit) -> Self {
        Self { _permit: Some(permit), ..Self::opened(stream) }
    }

    /// Sends one value as a frame, waiting while the peer reads slower than we write.
    pub async fn write_frame<T: BorshSerialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), FrameError> {
        self.write_raw(&frame(value)).await
    }

    /// Sends bytes that are whole frames already.
    pub async fn write_raw(&mut self, frames: &[u8]) -> Result<(), FrameError> {
        self.stream.write_all(frames).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads one value; a frame beyond `body_bytes_max` is refused before its body is read, and a
    /// body takes memory only as it arrives.
    pub async fn read_frame<T: BorshDeserialize>(
        &mut self,
        body_bytes_max: usize,
    ) -> Result<T, FrameError> {
        let body = self.read_raw(body_bytes_max).await?;
        Ok(decode(&body)?)
    }

    /// Reads the body of one frame.
    pub async fn read_raw(&mut self, body_bytes_max: usize) -> Result<Vec<u8>, FrameError> {
        let end = FrameHeader::BYTES + self.next_length(body_bytes_max).await?;
        while self.unread().len() < end {
            if self.fill().await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        let body = self.unread()[FrameHeader::BYTES..end].to_vec();
        self.consume(end);
        Ok(body)
    }

    /// Waits for the next frame and tells how long its body is, without reading it: a server
    /// decides then what memory it has for it.
    pub async fn next_length(&mut self, body_bytes_max: usize) -> Result<usize, FrameError> {
        loop {
            if let Some(header) = self.unread().first_chunk() {
                return Ok(FrameHeader::parse(*header, body_bytes_max)?.body_bytes);
            }
            if self.fill().await? == 0 {
                let between_frames = self.unread().is_empty();
                return Err(if between_frames {
                    FrameError::Closed
                } else {
                    FrameError::Truncated
                });
            }
        }
    }

    /// Waits until so many bytes of the next frame, its header included, have arrived.
    pub(crate) async fn arrived(&mut self, bytes: usize) -> Result<(), FrameError> {
        while self.unread().len() < bytes {
            if self.fill().await? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        Ok(())
    }

    /// Returns when the peer has ended, reset or lost the stream, or sends more than it may. A
    /// server waits for this beside its work, and stops the work when it comes.
    pub async fn gone(&mut self) {
        if self.unread().is_empty() {
            // Whatever comes now, bytes included, breaks the rule that a requester is silent.
            let _ = self.fill().await;
        }
    }

    /// Ends our side after the last frame; what was written still arrives.
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.stream.close().await?;
        Ok(())
    }

    fn unread(&self) -> &[u8] {
        &self.arrived[self.start..]
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.arrived.len() {
            self.start = 0;
            self.arrived.clear();
            // One large frame must not keep its memory for the rest of a long answer.
            self.arrived.shrink_to(CHUNK_BYTES);
        }
    }

    /// Takes what has arrived, at most one chunk. The chunk lies on the stack for the moment of the
    /// read only, so a stream that waits holds no buffer.
    async fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.arrived.drain(..self.start);
            self.start = 0;
        }
        let Self { stream, arrived, .. } = self;
        poll_fn(|cx| {
            let mut chunk = [0; CHUNK_BYTES];
            match Pin::new(&mut *stream).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(bytes)) => {
                    arrived.extend_from_slice(&chunk[..bytes]);
                    Poll::Ready(Ok(bytes))
                }
                other => other,
            }
        })
        .await
    }
}

impl std::fmt::Debug for RequestStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestStream").field("unread", &self.unread().len()).finish()
    }
}
