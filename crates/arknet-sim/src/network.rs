use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arknet_types::PublicKey;

use crate::{faults::Faults, rng::Rng};

/// A place in the network; what is there may have several identities.
pub(crate) type NodeId = usize;
/// One request and its answer.
pub(crate) type StreamId = u64;

/// Messages an eavesdropper remembers of each kind.
const CAPTURED_MAX: usize = 48;

/// Something on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    /// Who sent it, as the transport has authenticated it.
    pub(crate) peer: PublicKey,
    pub(crate) to: NodeId,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Offer(Vec<u8>),
    Request(StreamId, Vec<u8>),
    Reply(StreamId, Vec<u8>),
    /// The stream was closed, by the other side or by the loss of the connection.
    Closed(StreamId),
}

impl Body {
    const fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Offer(_) => None,
            Self::Request(stream, _) | Self::Reply(stream, _) | Self::Closed(stream) => {
                Some(*stream)
            }
        }
    }

    /// What this is, for the trace.
    pub(crate) fn describe(&self) -> (&'static str, u64, &[u8]) {
        match self {
            Self::Offer(bytes) => ("offer", 0, bytes),
            Self::Request(stream, bytes) => ("request", *stream, bytes),
            Self::Reply(stream, bytes) => ("reply", *stream, bytes),
            Self::Closed(stream) => ("closed", *stream, &[]),
        }
    }
}

/// The network: it delays, loses, repeats and reorders what is sent, and lets some nodes not reach
/// others. A stream keeps its order, as a transport sees to; what it loses ends the stream.
#[derive(Debug, Default)]
pub(crate) struct PacketSim {
    /// From whom to whom nothing passes.
    blocked: BTreeSet<(NodeId, NodeId)>,
    broken: BTreeSet<StreamId>,
    arrived: BTreeMap<(NodeId, StreamId), u64>,
    streams: StreamId,
    /// Requests an eavesdropper has seen: when, to whom, the bytes.
    pub(crate) requests_seen: VecDeque<(u64, NodeId, Vec<u8>)>,
    /// Offers an eavesdropper has seen.
    pub(crate) offers_seen: VecDeque<Vec<u8>>,
}

impl PacketSim {
    pub(crate) fn open(&mut self) -> StreamId {
        self.streams += 1;
        self.streams
    }

    pub(crate) fn block(&mut self, from: NodeId, to: NodeId) {
        self.blocked.insert((from, to));
    }

    pub(crate) fn unblock(&mut self, from: NodeId, to: NodeId) {
        self.blocked.remove(&(from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }

    /// When and as what `packet`, sent at `now`, arrives: not at all, once or more often.
    pub(crate) fn send(
        &mut self,
        packet: Packet,
        now: u64,
        faults: &Faults,
        rng: &mut Rng,
    ) -> Vec<(u64, Packet)> {
        self.capture(&packet, now);
        let stream = packet.body.stream();
        if stream.is_some_and(|stream| self.broken.contains(&stream)) {
            return vec![];
        }
        let is_blocked = self.blocked.contains(&(packet.from, packet.to));
        if is_blocked || rng.chance(faults.drop) {
            return self.lose(packet, now, rng);
        }
        let mut arrivals = vec![];
        let mut at_ms = now + delay(faults, rng);
        if let Some(stream) = stream {
            let latest = self.arrived.entry((packet.to, stream)).or_insert(0);
            at_ms = at_ms.max(*latest);
            *latest = at_ms;
        }
        if rng.chance(faults.duplicate) {
            let again = now + delay(faults, rng);
            match &packet.body {
                Body::Offer(_) => arrivals.push((again, packet.clone())),
                Body::Request(_, bytes) => {
                    let body = Body::Request(self.open(), bytes.clone());
                    arrivals.push((again, Packet { body, ..packet }));
                }
                Body::Reply(..) | Body::Closed(_) => {}
            }
        }
        arrivals.push((at_ms, packet));
        arrivals
    }

    /// A lost part of a stream is the end of it. Either side may learn of that, sooner or later,
    /// or never.
    fn lose(&mut self, packet: Packet, now: u64, rng: &mut Rng) -> Vec<(u64, Packet)> {
        let Some(stream) = packet.body.stream() else {
            return vec![];
        };
        self.broken.insert(stream);
        let mut arrivals = vec![];
        for (from, to) in [(packet.from, packet.to), (packet.to, packet.from)] {
            if rng.chance(500) {
                let body = Body::Closed(stream);
                let closed = Packet { from, to, body, ..packet };
                arrivals.push((now + rng.between(100, 8_000), closed));
            }
        }
        arrivals
    }

    fn capture(&mut self, packet: &Packet, now: u64) {
        match &packet.body {
            Body::Request(_, bytes) => {
                self.requests_seen.push_back((now, packet.to, bytes.clone()));
            }
            Body::Offer(bytes) if self.offers_seen.back() != Some(bytes) => {
                self.offers_seen.push_back(bytes.clone());
            }
            _ => {}
        }
        self.requests_seen.drain(..self.requests_seen.len().saturating_sub(CAPTURED_MAX));
        self.offers_seen.drain(..self.offers_seen.len().saturating_sub(CAPTURED_MAX));
    }
}

fn delay(faults: &Faults, rng: &mut Rng) -> u64 {
    if rng.chance(faults.straggle) {
        rng.between(1, faults.straggle_ms)
    } else {
        rng.between(1, faults.delay_ms)
    }
}
