use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arknet_types::{Refusal, RefusalCode, Reply};
use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use http_body::{Body, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::{Limits, encode::Encode, gather::broken_off, trail::Trail};

/// How many bytes of ready replies are put into one frame.
const FRAME_BYTES: usize = 16 * 1024;
/// What most frames need.
const FRAME_BYTES_USUAL: usize = 1024;

/// An answer that has begun.
pub(crate) struct Begun {
    /// What was taken from the stream to see that.
    pub(crate) first: Reply,
    pub(crate) replies: BoxStream<'static, Reply>,
}

/// One answer of a stream.
enum Source {
    /// Nobody answers yet.
    Waiting(BoxFuture<'static, Result<Begun, Refusal>>),
    Running(Option<Reply>, BoxStream<'static, Reply>),
    Ended,
}

/// The body of a streamed answer. Whatever is ready goes out at once, in one frame; nothing is read
/// ahead of the client, so a slow reader slows its own generation. Dropping it cancels the answer.
pub(crate) struct Flow {
    encoder: Box<dyn Encode>,
    sources: Vec<Source>,
    /// Sources that have not ended.
    running: usize,
    /// Whose turn it is.
    turn: usize,
    /// Whether the encoder has written what comes first.
    opened: bool,
    /// Bytes that are already due.
    ready: Vec<u8>,
    keepalive: Interval,
    deadline: Instant,
    /// Whether something was sent since the last tick.
    sent: bool,
    trail: Arc<Trail>,
}

impl Flow {
    pub(crate) fn new(
        encoder: Box<dyn Encode>,
        waiting: Vec<BoxFuture<'static, Result<Begun, Refusal>>>,
        limits: &Limits,
        trail: Arc<Trail>,
    ) -> Self {
        let now = Instant::now();
        let period = limits.keepalive();
        let mut keepalive = interval_at(now + period, period);
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            encoder,
            running: waiting.len(),
            sources: waiting.into_iter().map(Source::Waiting).collect(),
            turn: 0,
            opened: false,
            ready: Vec::with_capacity(FRAME_BYTES_USUAL),
            keepalive,
            deadline: now + limits.answer(),
            sent: false,
            trail,
        }
    }

    /// Ready when an answer has begun, or one was refused: until then that can still be a status.
    pub(crate) fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let mut begun = false;
        for source in &mut self.sources {
            let Source::Waiting(waiting) = source else { continue };
            if let Poll::Ready(result) = waiting.as_mut().poll(cx) {
                let Begun { first, replies } = result?;
                *source = Source::Running(Some(first), replies);
                begun = true;
            }
        }
        if begun { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Tells a refusal that came before anything else where the form wants it in the stream, or gives
    /// it back.
    pub(crate) fn refuse(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        if !self.encoder.tells(&refusal) {
            return Err(refusal);
        }
        self.opened = true;
        self.encoder.open(&mut self.ready);
        self.fail(&refusal);
        self.trail.see(&Reply::Refused(refusal));
        Ok(())
    }

    fn take(&mut self, index: usize, reply: Reply) {
        self.trail.see(&reply);
        match reply {
            Reply::Alive => return,
            Reply::Refused(refusal) => return self.fail(&refusal),
            Reply::Done { .. } => {
                self.sources[index] = Source::Ended;
                self.running -= 1;
            }
            _ => {}
        }
        if self.sources.len() > 1 {
            self.encoder.choose(index);
        }
        self.encoder.reply(reply, &mut self.ready);
        if self.encoder.is_full() {
            self.trail.failed("answer_too_large");
            self.sources.clear();
            self.running = 0;
        }
    }

    fn fail(&mut self, refusal: &Refusal) {
        self.sources.clear();
        self.running = 0;
        self.encoder.fail(refusal, &mut self.ready);
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Reply)> {
        let count = self.sources.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if let Poll::Ready(reply) = self.sources[index].poll_reply(cx) {
                self.turn = (index + 1) % count;
                return Poll::Ready((index, reply));
            }
        }
        Poll::Pending
    }

    /// Nothing came for a while.
    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ready.is_empty() && self.running > 0 {
            ready!(self.keepalive.poll_tick(cx));
            if Instant::now() >= self.deadline {
                self.late();
            } else if !std::mem::take(&mut self.sent) {
                self.encoder.keep_alive(&mut self.ready);
            }
        }
        Poll::Ready(())
    }

    fn late(&mut self) {
        self.trail.failed("answer_too_late");
        let words = "the answer took longer than this node waits";
        self.fail(&Refusal::new(RefusalCode::ProviderFailed, words));
    }
}

impl Source {
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        if let Self::Waiting(waiting) = self {
            match ready!(waiting.as_mut().poll(cx)) {
                Ok(Begun { first, replies }) => *self = Self::Running(Some(first), replies),
                Err(refusal) => return Poll::Ready(Reply::Refused(refusal)),
            }
        }
        let Self::Running(first, replies) = self else {
            return Poll::Pending;
        };
        if let Some(first) = first.take() {
            return Poll::Ready(first);
        }
        replies
            .as_mut()
            .poll_next(cx)
            .map(|reply| reply.unwrap_or_else(|| Reply::Refused(broken_off())))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if !this.opened {
            this.opened = true;
            this.encoder.open(&mut this.ready);
        }
        while this.running > 0 && this.ready.len() < FRAME_BYTES {
            match this.poll_reply(cx) {
                Poll::Ready((index, reply)) => this.take(index, reply),
                Poll::Pending => break,
            }
        }
        ready!(this.poll_tick(cx));
        if this.ready.is_empty() {
            return Poll::Ready(None);
        }
        if this.running > 0 && Instant::now() >= this.deadline {
            this.late();
        }
        this.sent = true;
        let next = Vec::with_capacity(if this.running == 0 { 0 } else { FRAME_BYTES_USUAL });
        let frame = Bytes::from(std::mem::replace(&mut this.ready, next));
        this.trail.sent(frame.len());
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.opened && self.running == 0 && self.ready.is_empty()
    }
}
