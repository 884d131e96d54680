use arknet_types::{
    Capabilities, ModelOffer, Offer, OfferBody, Timestamp, encode,
    limits::{OFFER_HEARTBEAT_MS, OFFER_LIFETIME_MS_MAX},
};

use super::server::{Server, ServerTimer};
use crate::{network::Body, network::Packet, world::World};

/// Offers on change keep this distance, so that listeners do not take them for a flood.
const CHANGE_MS_MIN: u64 = 2_000;

/// What a node last said of itself.
#[derive(Debug, Default)]
pub(super) struct OfferState {
    sequence: u64,
    said_at: Timestamp,
    said_free: Vec<u32>,
    is_change_planned: bool,
}

impl Server {
    pub(super) fn on_heartbeat(&mut self, world: &mut World) {
        if self.is_gone {
            return;
        }
        self.offer(world, false);
        self.remind(world, OFFER_HEARTBEAT_MS, ServerTimer::Heartbeat);
    }

    pub(super) fn on_offer_changed(&mut self, world: &mut World) {
        let life = self.life.as_mut().expect("timers are those of a life");
        life.offers.is_change_planned = false;
        let free = life.queues.iter().map(|q| q.free());
        if !self.is_gone && !free.eq(life.offers.said_free.iter().copied()) {
            self.offer(world, false);
        }
    }

    /// Plans an offer if a model went from free to full or back.
    pub(super) fn slots_changed(&mut self, world: &mut World) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("slots are those of a life");
        let said = &mut life.offers;
        let is_news = life
            .queues
            .iter()
            .zip(&said.said_free)
            .any(|(queue, free)| (queue.free() == 0) != (*free == 0));
        if is_news && !said.is_change_planned {
            said.is_change_planned = true;
            let wait = CHANGE_MS_MIN.saturating_sub(now.since_ms(said.said_at));
            self.remind(world, wait.max(1), ServerTimer::OfferChanged);
        }
    }

    /// Says goodbye, and takes nothing new.
    pub(crate) fn depart(&mut self, world: &mut World) {
        if self.life.is_some() {
            self.offer(world, true);
        }
        self.is_gone = true;
    }

    fn offer(&mut self, world: &mut World, is_goodbye: bool) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("only the living make offers");
        let said = &mut life.offers;
        said.sequence = now.0.max(said.sequence + 1);
        said.said_at = now;
        said.said_free = life.queues.iter().map(|q| q.free()).collect();
        let models = self.served.iter().zip(&life.queues).map(|(served, queue)| {
            let model = &world.models[served.model];
            ModelOffer {
                name: model.name.clone(),
                digest: Some(model.digest),
                projector: None,
                capabilities: Capabilities::GENERATE,
                context_tokens: 4096,
                slots_total: u16::try_from(queue.total()).expect("few slots"),
                slots_free: u16::try_from(queue.free()).expect("few slots"),
                input_price: model.price.input,
                output_price: model.price.output,
            }
        });
        let body = OfferBody {
            network: world.network.clone(),
            peer: self.key.public(),
            sequence: said.sequence,
            issued_at: now,
            expires_at: now.plus_ms(OFFER_LIFETIME_MS_MAX),
            addresses: vec![format!("/ip4/10.0.0.{}/tcp/26656", self.id)],
            models: if is_goodbye { vec![] } else { models.collect() },
        };
        let offer = Offer::sign(body, &self.key);
        world.checks.offer_signed(&offer);
        world.gossip(self.id, self.key.public(), &encode(&offer));
    }

    pub(super) fn reply_packet(&self, to: usize, body: Body) -> Packet {
        Packet { from: self.id, peer: self.key.public(), to, body }
    }
}
