//! What the swarm reports, and what follows from it.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::ConnectedPoint,
    gossipsub, identify, kad, ping,
    swarm::{ConnectionId, SwarmEvent},
};

use crate::{
    addresses,
    behaviour::{BehaviourEvent, KAD, node_id_of},
    exchange,
    gossip::Topic,
    limits::EXCHANGES_ASKED_MAX,
    mesh::ProbeError,
    offers::Offers,
    relays::HOP,
    swarm_loop::SwarmLoop,
};

/// Addresses taken from one peer's word about itself.
const IDENTIFIED_ADDRESSES_MAX: usize = 8;

impl SwarmLoop {
    pub(super) fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                let is_first = num_established.get() == 1;
                self.connected(peer_id, connection_id, &endpoint, is_first);
            }
            SwarmEvent::ConnectionClosed {
                peer_id, connection_id, num_established, cause, ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, num_established, "connection closed");
                let failed = cause.is_some();
                self.closed(peer_id, connection_id, num_established == 0, failed);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(reply) = self.probes.remove(&connection_id) {
                    let _ = reply.send(Err(ProbeError::of(&error)));
                }
                if let Some(peer) = self.dials.remove(&connection_id) {
                    self.dial_failed(peer, &error);
                    self.wake();
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.listening_on(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.not_listening_on(&[address]),
            SwarmEvent::ListenerClosed { listener_id, addresses, .. } => {
                self.not_listening_on(&addresses);
                if !self.relays.closed(listener_id, Instant::now()) {
                    tracing::warn!(?addresses, "no longer listening");
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed"),
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                self.announce();
            }
            _ => {}
        }
    }

    fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        is_first: bool,
    ) {
        self.dials.remove(&id);
        if let Some(reply) = self.probes.remove(&id) {
            let _ = reply.send(addresses::public_key(&peer).ok_or(ProbeError::Nobody));
        }
        let address = endpoint.get_remote_address().clone();
        tracing::debug!(%peer, %address, dialed = endpoint.is_dialer(), "connected");
        let relayed = endpoint.is_relayed();
        self.connections.add(peer, id, address, relayed, endpoint.is_dialer());
        self.dialer.connected(&peer);
        for reply in self.waiting.remove(&peer).into_iter().flatten() {
            let _ = reply.send(Ok(()));
        }
        self.mark(&peer, true);
        self.tend_lanes(Instant::now());
        if is_first && endpoint.is_dialer() {
            self.ask_for_offers(peer);
            self.tell_of_us(peer);
        }
    }

    /// Asks whoever we dialled; peers that come to us publish to us by themselves, and could
    /// otherwise make us work at will.
    fn ask_for_offers(&self, peer: PeerId) {
        if self.exchanges.len() >= EXCHANGES_ASKED_MAX && !self.dialer.is_seed(&peer) {
            return;
        }
        if let (Some(lane), Some(key)) = (self.lanes.best(&peer), addresses::public_key(&peer)) {
            let ask = exchange::ask(lane, key, self.offers.clone(), self.closing.clone());
            self.tasks.spawn(self.exchanges.track_future(ask));
        }
    }

    /// Tells a peer we dialled what we offer to it alone; one that came to us asks.
    fn tell_of_us(&self, peer: PeerId) {
        let Some(key) = addresses::public_key(&peer) else { return };
        let now = Offers::now();
        if self.offers.own(now).is_some() {
            return;
        }
        if let (Some(lane), Some(offer)) = (self.lanes.best(&peer), self.offers.own_for(&key, now))
        {
            self.tasks.spawn(exchange::tell(lane, offer, self.closing.clone()));
        }
    }

    fn closed(&mut self, peer: PeerId, id: ConnectionId, was_last: bool, failed: bool) {
        self.connections.remove(&peer, id);
        if was_last {
            self.relays.lost(&peer);
            if failed && self.serving.contains(&peer) {
                // Out of routing until the dial that follows says otherwise: over QUIC a dead peer
                // takes seconds to be known as dead, and no request should wait for that. A
                // connection that nobody keeps may end without meaning anything.
                self.mark(&peer, false);
            }
            self.dialer.disconnected(&peer, Instant::now());
            self.wake();
        } else {
            self.tend_lanes(Instant::now());
        }
    }

    fn listening_on(&mut self, address: Multiaddr) {
        tracing::info!(%address, "listening");
        let relayed = addresses::is_relayed(&address);
        if self.trusts_own_addresses && !relayed {
            self.swarm.add_external_address(address.clone());
        }
        self.listening.push(address);
        self.announce();
    }

    fn not_listening_on(&mut self, gone: &[Multiaddr]) {
        for address in gone {
            if self.trusts_own_addresses {
                self.swarm.remove_external_address(address);
            }
        }
        self.listening.retain(|address| !gone.contains(address));
        self.announce();
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(event) => self.gossip_event(event),
            BehaviourEvent::Ping(event) => self.pinged(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.identified(peer_id, info);
            }
            BehaviourEvent::Autonat(autonat::Event::StatusChanged { new, .. }) => {
                tracing::info!(status = ?new, "reachability");
                self.relays.set_private(matches!(new, autonat::NatStatus::Private));
                self.reserve(Instant::now());
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(result),
                ..
            }) => self.found(result),
            BehaviourEvent::Dcutr(event) => {
                tracing::debug!(peer = %event.remote_peer_id, ok = event.result.is_ok(), "punched");
            }
            _ => {}
        }
    }

    fn gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                if let Some(topic) = Topic::of(message.topic.as_str()) {
                    let named = (message_id, propagation_source);
                    let unheard = match &mut self.unjudged {
                        Some(unjudged) => unjudged.arrived(named, topic, message.data),
                        None => Some(named),
                    };
                    return self.judge(unheard, gossipsub::MessageAcceptance::Ignore);
                }
                let now = (Offers::now(), Instant::now());
                let verdict = self.gossip.judge(&message, propagation_source, now);
                let behaviour = &mut self.swarm.behaviour_mut().gossip;
                let _ = behaviour.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    verdict,
                );
            }
            gossipsub::Event::Subscribed { .. } => {
                self.gossip.subscribed(Instant::now());
                self.wake();
            }
            _ => {}
        }
    }

    fn pinged(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => self.connections.measured(&event.peer, event.connection, rtt),
            // The library keeps the first failure to itself, and the second is that no stream can be
            // negotiated for another try. TCP alone would hold on to a machine that lost power for
            // many minutes.
            Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                tracing::debug!(peer = %event.peer, "closing a connection that does not answer");
                self.swarm.close_connection(event.connection);
            }
            Err(ping::Failure::Unsupported) => {}
        }
    }

    fn identified(&mut self, peer: PeerId, info: identify::Info) {
        self.connections.named(&peer, node_id_of(&info.agent_version));
        if info.protocols.contains(&KAD) {
            let known = addresses::dialable_of(info.listen_addrs, &peer, &self.listening);
            for address in known.into_iter().take(IDENTIFIED_ADDRESSES_MAX) {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        if info.protocols.contains(&HOP) {
            self.relays.found(peer);
            self.reserve(Instant::now());
        }
    }
}
