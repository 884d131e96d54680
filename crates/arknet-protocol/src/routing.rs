//! Which offer a request goes to.

use std::collections::BTreeMap;

use arknet_types::{
    Capabilities, ModelName, PublicKey, RefusalCode, Timestamp, limits::OFFERS_MAX,
};

use crate::{
    OfferTable, Price,
    reputation::{Deed, Reputation},
};

/// Weight of the newest measurement in the moving average, in percent.
const NEWEST_PERCENT: u64 = 25;
/// Waits for the first token that are longer than the shortest by no more than this count as equal.
const SAME_MS: u64 = 50;
/// After so long a measured wait says nothing any more: the peer is tried again.
const STALE_MS: u64 = 600_000;
/// How long a peer that answered busy counts as busy: what it says, within these bounds.
const BUSY_MS: std::ops::RangeInclusive<u64> = 250..=60_000;
/// How long is remembered how many requests there were, and in which steps: offers take less.
const MOMENT_MS: u64 = 250;
const MOMENTS: usize = 16;
/// How long a peer is avoided after its first failure in a row; twice as long after each further one.
const AVOID_MS: u64 = 2_000;
/// The longest a peer is avoided: everybody gets another chance.
const AVOID_MS_MAX: u64 = 300_000;

/// What this node measured of a peer.
#[derive(Clone, Debug, Default)]
struct Measured {
    /// Moving average of the wait for the first token; none before the first answer.
    first_token_ms: Option<u64>,
    /// When that was measured last.
    measured_at: Timestamp,
    /// Requests of ours running there now.
    in_flight: u32,
    /// How many there were lately.
    lately: Lately,
    /// The number of its offer that was seen last.
    sequence: u64,
    /// The requests of ours that may be among those which that offer counts.
    announced: u32,
    /// Which of all requests was the last that went there.
    turn: u64,
    /// Failures since the last success.
    failures: u32,
    avoided_until: Timestamp,
    busy_until: Timestamp,
}

impl Measured {
    /// Takes note of an offer of the peer that came at this time.
    fn see(&mut self, sequence: u64, received_at: Timestamp, now: Timestamp) {
        if self.sequence != sequence {
            self.sequence = sequence;
            self.lately.pass(now, self.in_flight);
            self.announced = self.lately.most_before(received_at).unwrap_or(self.in_flight);
        }
    }

    /// The wait for the first token to expect; none is expected of a peer that is not known.
    fn wait_ms(&self, now: Timestamp) -> u64 {
        let is_fresh = now.since_ms(self.measured_at) < STALE_MS;
        self.first_token_ms.filter(|_| is_fresh).unwrap_or(0)
    }
}

/// The most requests at the same time in each of the last moments.
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    /// The number of the last moment since the epoch.
    moment: u64,
    most: [u32; MOMENTS],
}

impl Lately {
    /// So many ran until now.
    fn pass(&mut self, now: Timestamp, in_flight: u32) {
        let moment = now.0 / MOMENT_MS;
        let passed = moment.saturating_sub(self.moment).min(MOMENTS as u64);
        for back in 0..passed {
            self.most[Self::place(moment - back)] = in_flight;
        }
        self.moment = self.moment.max(moment);
    }

    fn begin(&mut self, in_flight: u32) {
        let most = &mut self.most[Self::place(self.moment)];
        *most = in_flight.max(*most);
    }

    /// The most that ran when something was sent that came at this time; none where that is long ago.
    fn most_before(&self, at: Timestamp) -> Option<u32> {
        let moment = at.0 / MOMENT_MS;
        let known = self.moment.saturating_sub(MOMENTS as u64 - 1)..=self.moment;
        let moments = moment.saturating_sub(1)..=moment;
        moments.filter(|moment| known.contains(moment)).map(|m| self.most[Self::place(m)]).max()
    }

    fn place(moment: u64) -> usize {
        usize::try_from(moment % MOMENTS as u64).expect("below the number of moments")
    }
}

/// The peer to ask next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// The peer.
    pub peer: PublicKey,
    /// Where its offer says it is.
    pub addresses: Vec<String>,
    /// What it asks.
    pub price: Price,
    /// Tokens of input and answer together it takes.
    pub context_tokens: u32,
}

/// Picks peers from offers, prices and what was measured. Free before busy, then cheaper, then of
/// better conduct, then less loaded, then quicker; equals take turns, in an order that the salt says.
#[derive(Debug, Default)]
pub struct Router {
    measured: BTreeMap<PublicKey, Measured>,
    /// Requests sent.
    turns: u64,
    reputation: Reputation,
}

impl Router {
    /// A router that has measured nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the conduct of peers says of them.
    #[must_use]
    pub const fn reputation(&self) -> &Reputation {
        &self.reputation
    }

    /// The same, to add to it or to put what was stored in its place.
    pub const fn reputation_mut(&mut self) -> &mut Reputation {
        &mut self.reputation
    }

    /// The best peer for `model` that can do what is needed and is not in `tried`.
    #[must_use]
    pub fn choose(
        &mut self,
        offers: &OfferTable,
        (model, needs): (&ModelName, Capabilities),
        tried: &[PublicKey],
        now: Timestamp,
        salt: u64,
    ) -> Option<Choice> {
        let candidates: Vec<_> = offers
            .serving(model, needs, now)
            .filter(|(offer, _)| !tried.contains(&offer.body.peer))
            .map(|(offer, offered)| {
                let known = self.measured.get_mut(&offer.body.peer);
                let measured = known.map(|measured| {
                    let received_at = offers.received_at(&offer.body.peer).unwrap_or(now);
                    measured.see(offer.body.sequence, received_at, now);
                    measured.clone()
                });
                let measured = measured.unwrap_or_default();
                // Our own requests may or may not be in the count the peer last announced: the
                // larger of the two is what is surely taken.
                let announced = u32::from(offered.slots_total.saturating_sub(offered.slots_free));
                let taken = announced.max(measured.in_flight);
                let full = taken >= u32::from(offered.slots_total) || measured.busy_until > now;
                let price = offered.input_price.0.saturating_add(offered.output_price.0);
                // Those of ours that ended since must not count until the next offer: of two equal
                // peers the one that happened to announce them would be left alone.
                let taken = announced.saturating_sub(measured.announced) + measured.in_flight;
                let load = u64::from(taken) * 100 / u64::from(offered.slots_total.max(1));
                let step = self.reputation.step(&offer.body.peer, now);
                let rank = (measured.avoided_until > now, full, price, step, load);
                (rank, measured.wait_ms(now), offer, offered)
            })
            .collect();
        let best = candidates.iter().map(|(rank, ..)| rank).min()?;
        let equals = candidates.iter().filter(|(rank, ..)| rank == best);
        let quickest = equals.clone().map(|(_, wait_ms, ..)| *wait_ms).min()?;
        let (.., offer, offered) = equals
            .filter(|(_, wait_ms, ..)| *wait_ms <= quickest.saturating_add(SAME_MS))
            .min_by_key(|(.., offer, _)| {
                let turn = self.measured.get(&offer.body.peer).map_or(0, |measured| measured.turn);
                (turn, spread(&offer.body.peer, salt))
            })?;
        Some(Choice {
            peer: offer.body.peer,
            addresses: offer.body.addresses.clone(),
            price: Price { input: offered.input_price, output: offered.output_price },
            context_tokens: offered.context_tokens,
        })
    }

    /// A request went to `peer`.
    pub fn on_sent(&mut self, peer: PublicKey, now: Timestamp) {
        if self.measured.len() >= OFFERS_MAX && !self.measured.contains_key(&peer) {
            self.measured.retain(|_, m| m.in_flight > 0);
        }
        self.turns += 1;
        let measured = self.measured.entry(peer).or_default();
        measured.lately.pass(now, measured.in_flight);
        measured.in_flight += 1;
        measured.lately.begin(measured.in_flight);
        measured.turn = self.turns;
    }

    /// `peer` has begun with what it was asked for: it is there, and not busy.
    pub fn on_begun(&mut self, peer: &PublicKey) {
        if let Some(measured) = self.measured.get_mut(peer) {
            measured.failures = 0;
            measured.busy_until = Timestamp::default();
            measured.avoided_until = Timestamp::default();
        }
    }

    /// The first token came after `ms`.
    pub fn on_first_token(&mut self, peer: &PublicKey, ms: u64, now: Timestamp) {
        self.on_begun(peer);
        if let Some(measured) = self.measured.get_mut(peer) {
            let is_fresh = now.since_ms(measured.measured_at) < STALE_MS;
            let before = measured.first_token_ms.filter(|_| is_fresh).unwrap_or(ms);
            measured.measured_at = now;
            let average = ms * NEWEST_PERCENT + before * (100 - NEWEST_PERCENT);
            measured.first_token_ms = Some(average / 100);
        }
    }

    /// The peer refused, or was lost. Call [`Router::on_ended`] as well.
    pub fn on_refused(
        &mut self,
        peer: &PublicKey,
        code: RefusalCode,
        retry_after_ms: Option<u32>,
        now: Timestamp,
    ) {
        if let Some(deed) = Deed::of_refusal(code) {
            self.reputation.record(*peer, deed, now);
        }
        let Some(measured) = self.measured.get_mut(peer) else {
            return;
        };
        match code {
            RefusalCode::Busy | RefusalCode::RateLimited | RefusalCode::ShuttingDown => {
                let wait = retry_after_ms.map_or(1_000, u64::from);
                measured.busy_until = now.plus_ms(wait.clamp(*BUSY_MS.start(), *BUSY_MS.end()));
            }
            // Whatever else it says, it did not do what it offered: a liar must not stay first.
            _ => {
                let wait = AVOID_MS << measured.failures.min(16);
                measured.failures = measured.failures.saturating_add(1);
                measured.avoided_until = now.plus_ms(wait.min(AVOID_MS_MAX));
            }
        }
    }

    /// Requests sent and not ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.measured.values().map(|measured| measured.in_flight).sum()
    }

    /// The request to `peer` is over, however it ended.
    pub fn on_ended(&mut self, peer: &PublicKey, now: Timestamp) {
        if let Some(measured) = self.measured.get_mut(peer) {
            assert!(measured.in_flight > 0, "a request ends once");
            measured.lately.pass(now, measured.in_flight);
            measured.in_flight -= 1;
        }
    }
}

/// A number that orders equals differently for each salt, also for salts that follow each other: the
/// last step of `SplitMix64`.
fn spread(peer: &PublicKey, salt: u64) -> u64 {
    let mut key = [0; 8];
    key.copy_from_slice(&peer.0[8..16]);
    let mut mixed = u64::from_le_bytes(key) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use arknet_types::{Atoms, ModelDigest, ModelOffer, NetworkId, Offer, OfferBody, Signature};

    use super::*;

    const NOW: Timestamp = Timestamp(10_000);
    const NEEDS: Capabilities = Capabilities::GENERATE;

    fn peer(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    /// A table of peers 1, 2, ... with these (slots total, slots free, price).
    fn table(peers: &[(u16, u16, u64)]) -> OfferTable {
        let mut table = OfferTable::new();
        for (n, (slots_total, slots_free, price)) in (1..).zip(peers) {
            let model = ModelOffer {
                name: model(),
                digest: Some(ModelDigest([7; 32])),
                projector: None,
                capabilities: Capabilities::GENERATE,
                context_tokens: 1,
                slots_total: *slots_total,
                slots_free: *slots_free,
                input_price: Atoms(*price),
                output_price: Atoms(0),
            };
            let body = OfferBody {
                network: NetworkId::new("test").unwrap(),
                peer: peer(n),
                sequence: 1,
                issued_at: Timestamp(0),
                expires_at: Timestamp(100_000),
                addresses: vec![],
                models: vec![model],
            };
            table.insert(Offer { body, signature: Signature([0; 64]) }, NOW);
        }
        table
    }

    fn model() -> ModelName {
        ModelName::new("m").unwrap()
    }

    fn choose(router: &mut Router, offers: &OfferTable, tried: &[PublicKey]) -> Option<PublicKey> {
        router.choose(offers, (&model(), NEEDS), tried, NOW, 1).map(|choice| choice.peer)
    }

    #[test]
    fn free_comes_before_cheap_and_cheap_before_idle() {
        let mut router = Router::new();
        assert_eq!(choose(&mut router, &table(&[(2, 0, 0), (2, 1, 9)]), &[]), Some(peer(2)));
        assert_eq!(choose(&mut router, &table(&[(2, 2, 9), (2, 1, 3)]), &[]), Some(peer(2)));
        assert_eq!(choose(&mut router, &table(&[(4, 1, 3), (4, 3, 3)]), &[]), Some(peer(2)));
        assert_eq!(
            choose(&mut router, &table(&[(2, 0, 0)]), &[]),
            Some(peer(1)),
            "busy beats nobody"
        );
        assert_eq!(choose(&mut router, &table(&[(2, 2, 0)]), &[peer(1)]), None);
        let embed = (&model(), Capabilities::EMBED);
        assert_eq!(router.choose(&table(&[(2, 2, 0)]), embed, &[], NOW, 1), None);
    }

    #[test]
    fn a_quicker_peer_is_preferred_and_a_failed_one_avoided() {
        let offers = table(&[(9, 9, 0), (9, 9, 0)]);
        let mut router = Router::new();
        for (n, ms) in [(1, 900), (2, 100)] {
            router.on_sent(peer(n), NOW);
            router.on_first_token(&peer(n), ms, NOW);
            router.on_ended(&peer(n), NOW);
        }
        assert_eq!(choose(&mut router, &offers, &[]), Some(peer(2)));
        router.on_refused(&peer(2), RefusalCode::PeerLost, None, NOW);
        assert_eq!(choose(&mut router, &offers, &[]), Some(peer(1)));
        router.on_refused(&peer(1), RefusalCode::Busy, Some(500), NOW);
        let mut at =
            |ms| router.choose(&offers, (&model(), NEEDS), &[], NOW.plus_ms(ms), 1).map(|c| c.peer);
        assert_eq!(at(0), Some(peer(1)), "busy is better than failing");
        assert_eq!(at(AVOID_MS), Some(peer(2)), "both have passed, and it is quicker");
    }

    #[test]
    fn who_refuses_what_it_offers_is_avoided_longer_each_time_but_not_for_ever() {
        let offers = table(&[(9, 9, 0), (9, 9, 5)]);
        let mut router = Router::new();
        for round in 0..5 {
            router.on_sent(peer(1), NOW);
            router.on_refused(&peer(1), RefusalCode::UnknownModel, None, NOW);
            router.on_ended(&peer(1), NOW);
            let mut at = |ms| {
                router.choose(&offers, (&model(), NEEDS), &[], NOW.plus_ms(ms), 1).map(|c| c.peer)
            };
            let wait = (AVOID_MS << round).min(AVOID_MS_MAX);
            assert_eq!((at(wait - 1), at(wait)), (Some(peer(2)), Some(peer(1))), "round {round}");
        }
    }

    #[test]
    fn load_spreads_evenly_over_equals() {
        let offers = table(&[(64, 64, 0), (64, 64, 0)]);
        let mut router = Router::new();
        let mut counts = [0_u32; 2];
        for salt in 0..64 {
            let choice = router.choose(&offers, (&model(), NEEDS), &[], NOW, salt).unwrap();
            router.on_sent(choice.peer, NOW);
            counts[usize::from(choice.peer.0[0] - 1)] += 1;
        }
        assert_eq!(counts, [32, 32]);
    }

    #[test]
    fn what_was_ours_in_an_offer_is_no_load_when_it_has_ended() {
        // Peer 1 announces at `NOW + after_ms` how many slots are free, of four; the other has one
        // taken. Two of ours ran at peer 1 from `NOW` on and ended 100 ms later.
        let chosen = |slots_free, after_ms| {
            let mut router = Router::new();
            for _ in 0..2 {
                router.on_sent(peer(1), NOW);
            }
            for _ in 0..2 {
                router.on_ended(&peer(1), NOW.plus_ms(100));
            }
            let mut offers = table(&[(4, 4, 0), (4, 3, 0)]);
            let mut offer = offers.get(&peer(1)).unwrap().clone();
            offer.body.sequence = 2;
            offer.body.models[0].slots_free = slots_free;
            offers.insert(offer, NOW.plus_ms(after_ms));
            let now = NOW.plus_ms(after_ms + 3_000);
            router.choose(&offers, (&model(), NEEDS), &[], now, 1).unwrap().peer
        };
        assert_eq!(chosen(2, 200), peer(1), "those were ours, and nobody is there");
        assert_eq!(
            chosen(1, 200),
            peer(2),
            "one more than ours, as at the other, whose turn it is"
        );
        assert_eq!(chosen(0, 200), peer(2), "full is full");
        assert_eq!(chosen(2, 1_000), peer(2), "ours had ended, so others are there");
        assert_eq!(chosen(2, 60_000), peer(2));
    }

    #[test]
    fn requests_that_follow_each_other_go_to_equals_in_equal_shares() {
        for others in [2, 3, 5] {
            let offers = table(&vec![(4, 4, 0); others]);
            let mut router = Router::new();
            let mut counts = vec![0_u32; others];
            for salt in 0..2_000 {
                let salt = 1_796_000_000_000_000 + salt;
                let choice = router.choose(&offers, (&model(), NEEDS), &[], NOW, salt).unwrap();
                counts[usize::from(choice.peer.0[0] - 1)] += 1;
            }
            let even = 2_000 / u32::try_from(others).unwrap();
            for count in &counts {
                assert!(count.abs_diff(even) * 10 < even, "{counts:?}");
            }
        }
    }

    #[test]
    fn equals_take_turns_whatever_lies_between_their_waits() {
        let offers = table(&[(4, 4, 0), (4, 4, 0)]);
        let mut router = Router::new();
        let mut counts = [0_u32; 2];
        for salt in 0..100 {
            let choice = router.choose(&offers, (&model(), NEEDS), &[], NOW, salt).unwrap();
            let number = choice.peer.0[0];
            counts[usize::from(number - 1)] += 1;
            router.on_sent(choice.peer, NOW);
            router.on_first_token(&choice.peer, 20 + 40 * u64::from(number), NOW);
            router.on_ended(&choice.peer, NOW);
        }
        assert_eq!(counts, [50, 50]);
    }

    #[test]
    fn better_conduct_comes_before_less_load_and_after_a_lower_price() {
        let mut router = Router::new();
        for _ in 0..10 {
            router.reputation_mut().record(peer(1), Deed::Failed, NOW);
        }
        assert_eq!(choose(&mut router, &table(&[(4, 4, 0), (4, 1, 0)]), &[]), Some(peer(2)));
        assert_eq!(choose(&mut router, &table(&[(4, 4, 0), (4, 1, 3)]), &[]), Some(peer(1)));
        assert_eq!(choose(&mut router, &table(&[(4, 4, 0), (4, 0, 0)]), &[]), Some(peer(1)));
    }
}
