use arknet_types::{Refusal, Reply};

use super::response::{Endpoint, Head, Piece, write_error};
use crate::{ApiError, encode::Encode};

/// Writes chat completions and completions as server-sent events.
pub(crate) struct Chunks {
    pub(crate) head: Head,
    pub(crate) include_usage: bool,
}

impl Encode for Chunks {
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        if self.head.endpoint == Endpoint::Chat {
            self.head.write_chunk(out, Piece::Role, self.include_usage);
        }
    }

    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::Text { text, .. } if !text.is_empty() => {
                self.head.write_chunk(out, Piece::Text(&text), self.include_usage);
            }
            Reply::Done { finish, usage } => {
                self.head.write_chunk(out, Piece::End(finish), self.include_usage);
                if self.include_usage {
                    self.head.write_usage(out, usage);
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            _ => {}
        }
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        write_error(out, &ApiError::from_refusal(refusal.clone()));
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keep-alive\n\n");
    }
}
