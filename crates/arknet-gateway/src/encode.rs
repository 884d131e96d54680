use arknet_types::{Refusal, Reply};

/// How one door writes an answer as a stream: a pure state machine from replies to bytes. The bytes
/// of one call leave in one write.
pub(crate) trait Encode: Send + Unpin {
    /// `text/event-stream; charset=utf-8` or `application/x-ndjson`.
    fn content_type(&self) -> &'static str;

    /// What comes before the first reply.
    fn open(&mut self, out: &mut Vec<u8>);

    /// Which of several answers the next reply belongs to, counted from 0. Only where there are
    /// several.
    fn choose(&mut self, _index: usize) {}

    /// One reply; never `Refused` or `Alive`. Every answer ends in `Done`.
    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>);

    /// Whether the answer became larger than the form can hold: it has been failed then, and nothing
    /// follows.
    fn is_full(&self) -> bool {
        false
    }

    /// Whether clients look for this refusal of the whole request in the stream, and not in a status.
    fn tells(&self, _refusal: &Refusal) -> bool {
        false
    }

    /// The answer broke off after it had begun. Nothing follows.
    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>);

    /// Something that clients skip, for those in between who would take silence for the end. Nothing
    /// where the form has no such thing.
    fn keep_alive(&mut self, out: &mut Vec<u8>);
}
