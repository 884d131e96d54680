use arknet_types::{
    Atoms, Capabilities, ModelDigest, ModelOffer, NetworkId, Offer, OfferBody, RefusalCode,
    Signature,
};
use proptest::prelude::*;

use super::*;
use crate::{OfferTable, Router};

const NOW: Timestamp = Timestamp(1_000_000_000_000);
const HOUR_MS: u64 = 3_600_000;

fn peer(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

#[test]
fn a_peer_of_which_nothing_is_known_is_tried() {
    let reputation = Reputation::new();
    assert_eq!(reputation.step(&peer(1), NOW), 0);
    assert!(reputation.explain(&peer(1), NOW).is_none());
}

#[test]
fn answers_raise_failures_lower_and_time_heals() {
    let mut reputation = Reputation::new();
    let mut before = reputation.score(&peer(1), NOW);
    for _ in 0..5 {
        reputation.record(peer(1), Deed::Answered, NOW);
        let score = reputation.score(&peer(1), NOW);
        assert!(score > before && score < 1.0);
        before = score;
    }
    for _ in 0..40 {
        reputation.record(peer(1), Deed::Lost, NOW);
        let score = reputation.score(&peer(1), NOW);
        assert!(score <= before && score > 0.0);
        before = score;
    }
    assert_eq!(reputation.step(&peer(1), NOW), 1);
    assert_eq!(reputation.step(&peer(1), NOW.plus_ms(24 * HOUR_MS)), 0, "a day later");
    let neutral = reputation.score(&peer(9), NOW);
    let later = reputation.score(&peer(1), NOW.plus_ms(3_000 * HOUR_MS));
    assert!((later - neutral).abs() < 0.001, "in the end nothing is held against it");
}

#[test]
fn a_lie_weighs_more_than_many_answers_of_a_liar_do() {
    let mut reputation = Reputation::new();
    for _ in 0..2 {
        reputation.record(peer(1), Deed::Lied, NOW);
    }
    assert_eq!(reputation.step(&peer(1), NOW), 2);
    assert_eq!(reputation.step(&peer(1), NOW.plus_ms(24 * HOUR_MS)), 2, "not forgotten in a day");
    assert!(reputation.step(&peer(1), NOW.plus_ms(60 * 24 * HOUR_MS)) == 0, "but in two months");
}

#[test]
fn an_explanation_names_what_counts_and_by_how_much() {
    let mut reputation = Reputation::new();
    for deed in [Deed::Answered, Deed::Answered, Deed::Failed, Deed::Verified, Deed::Refuted] {
        reputation.record(peer(1), deed, NOW);
    }
    let later = NOW.plus_ms(24 * HOUR_MS);
    let explained = reputation.explain(&peer(1), later).unwrap();
    assert_eq!(explained.counts[0].deed, Deed::Refuted, "the strongest first");
    assert!(explained.counts[0].effect < -0.2);
    let answered = explained.counts.iter().find(|c| c.deed == Deed::Answered).unwrap();
    assert!((answered.weight - 1.0).abs() < 0.001, "two answers, a half-life ago");
    assert!(answered.effect > 0.0 && answered.seen == 2.0);
    let failed = explained.counts.iter().find(|c| c.deed == Deed::Failed).unwrap();
    assert!(failed.weight < 0.0 && failed.effect < 0.0);
    assert_eq!(explained.recent.first().map(|r| r.deed), Some(Deed::Refuted));
    assert!((explained.score - reputation.score(&peer(1), later)).abs() < f64::EPSILON);
    // The score can be computed again from what is shown.
    let good: f64 = explained.counts.iter().map(|c| c.weight.max(0.0)).sum();
    let all: f64 = explained.counts.iter().map(|c| c.weight.abs()).sum();
    let again = (explained.neutral * 3.0 + good) / (3.0 + all);
    assert!((again - explained.score).abs() < 1e-9);
}

#[test]
fn presence_is_seen_by_looking_and_not_while_this_node_sleeps_or_is_cut_off() {
    let mut reputation = Reputation::new();
    for n in [1, 2] {
        reputation.record(peer(n), Deed::Answered, NOW);
    }
    let mut now = NOW;
    let mut look = |reputation: &mut Reputation, ms, connected: &[u8]| {
        now = now.plus_ms(ms);
        let connected: Vec<_> = connected.iter().map(|n| peer(*n)).collect();
        reputation.look(|peer| connected.contains(peer), now);
    };
    let minutes = |reputation: &Reputation, n, deed| {
        let explained = reputation.explain(&peer(n), NOW).unwrap();
        explained.counts.iter().find(|c| c.deed == deed).map_or(0.0, |c| c.seen)
    };
    for _ in 0..11 {
        look(&mut reputation, 60_000, &[1]);
    }
    let close = |a: f64, b: f64| (a - b).abs() < 0.001;
    assert!(close(minutes(&reputation, 1, Deed::Present), 10.0));
    assert!(close(minutes(&reputation, 2, Deed::Absent), 10.0));
    look(&mut reputation, 10 * HOUR_MS, &[1]);
    assert!(close(minutes(&reputation, 2, Deed::Absent), 15.0), "the night does not count");
    look(&mut reputation, 60_000, &[]);
    assert!(close(minutes(&reputation, 2, Deed::Absent), 15.0), "nobody is connected at all");
}

#[test]
fn refusals_about_the_request_say_nothing_of_the_peer() {
    assert_eq!(Deed::of_refusal(RefusalCode::InvalidRequest), None);
    assert_eq!(Deed::of_refusal(RefusalCode::ContextOverflow), None);
    assert_eq!(Deed::of_refusal(RefusalCode::Busy), Some(Deed::Busy));
    assert_eq!(Deed::of_refusal(RefusalCode::PeerLost), Some(Deed::Lost));
    assert!(Deed::ALL.iter().all(|deed| !deed.words().is_empty() && deed.weight() != 0.0));
}

#[test]
fn what_is_stored_comes_back_and_nonsense_does_not() {
    let mut reputation = Reputation::new();
    for n in 1..4 {
        for deed in Deed::ALL {
            reputation.record(peer(n), deed, NOW.plus_ms(u64::from(n)));
        }
    }
    let stored = reputation.to_stored();
    let text = serde_json::to_string(&stored).unwrap();
    let read: StoredReputation = serde_json::from_str(&text).unwrap();
    assert_eq!(read, stored);
    let later = NOW.plus_ms(HOUR_MS);
    let again = Reputation::from_stored(&read, later);
    assert_eq!(again.explain(&peer(2), later), reputation.explain(&peer(2), later));

    let mut edited = read;
    edited.peers[0].peer = "nobody".into();
    edited.peers[1].tallies[0].weight = -5.0;
    edited.peers[1].tallies[1].weight = 1e300;
    edited.peers[1].tallies[2].at_ms = u64::MAX;
    let again = Reputation::from_stored(&edited, later);
    assert_eq!(again.known().count(), 2);
    for n in 1..4 {
        let score = again.score(&peer(n), later);
        assert!((0.0..=1.0).contains(&score));
    }
}

#[test]
fn the_number_of_peers_is_bounded_and_who_counts_least_is_forgotten() {
    let mut reputation = Reputation::new();
    let key = |n: usize| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    };
    for _ in 0..3 {
        reputation.record(key(0), Deed::Lied, NOW);
    }
    for n in 1..PEERS_MAX + 50 {
        reputation.record(key(n), Deed::Answered, NOW.plus_ms(n as u64));
    }
    assert_eq!(reputation.known().count(), PEERS_MAX);
    assert_eq!(reputation.step(&key(0), NOW), 2, "a liar does not wash itself clean with new keys");
}

proptest! {
    #[test]
    fn a_score_lies_between_0_and_1_whatever_happens(
        deeds in prop::collection::vec((0..Deed::ALL.len(), 0..10 * HOUR_MS, any::<bool>()), 0..200),
    ) {
        let mut reputation = Reputation::new();
        let mut now = NOW;
        for (deed, ms, back) in deeds {
            now = if back { Timestamp(now.0 - ms / 2) } else { now.plus_ms(ms) };
            reputation.record(peer(1), Deed::ALL[deed], now);
            let score = reputation.score(&peer(1), now);
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }
}

/// Three peers that offer the same.
fn offers(now: Timestamp) -> OfferTable {
    let mut table = OfferTable::new();
    for n in 1..4 {
        let model = ModelOffer {
            name: model(),
            digest: Some(ModelDigest([7; 32])),
            projector: None,
            capabilities: Capabilities::GENERATE,
            context_tokens: 1,
            slots_total: 4,
            slots_free: 4,
            input_price: Atoms(0),
            output_price: Atoms(0),
        };
        let body = OfferBody {
            network: NetworkId::new("test").unwrap(),
            peer: peer(n),
            sequence: now.0,
            issued_at: now,
            expires_at: now.plus_ms(100_000),
            addresses: vec![],
            models: vec![model],
        };
        table.insert(Offer { body, signature: Signature([0; 64]) }, now);
    }
    table
}

/// How peers behave in one hour of a simulated day, and how often each is asked first: peer 1 is
/// good, peer 2 does what `conduct` says.
fn simulate(router: &mut Router, begin: Timestamp, hours: u64, conduct: Conduct) -> [u32; 3] {
    let mut asked = [0; 3];
    for minute in 0..hours * 60 {
        let now = begin.plus_ms(minute * 60_000);
        let table = offers(now);
        let needs = (&model(), Capabilities::GENERATE);
        let mut tried = vec![];
        while let Some(choice) = router.choose(&table, needs, &tried, now, minute) {
            let n = choice.peer.0[0];
            if tried.is_empty() {
                asked[usize::from(n - 1)] += 1;
            }
            router.on_sent(choice.peer, now);
            let is_lost = n == 2 && conduct == Conduct::Absent;
            if is_lost {
                router.on_refused(&choice.peer, RefusalCode::PeerLost, None, now);
                router.on_ended(&choice.peer, now);
                tried.push(choice.peer);
                continue;
            }
            let ms = if n == 2 && conduct == Conduct::Slow { 4_000 } else { 200 };
            router.on_first_token(&choice.peer, ms, now);
            router.reputation_mut().first_token(choice.peer, &model(), ms, now);
            router.reputation_mut().record(choice.peer, Deed::Answered, now);
            router.on_ended(&choice.peer, now);
            break;
        }
        let is_there = |key: &PublicKey| *key != peer(2) || conduct != Conduct::Absent;
        router.reputation_mut().look(is_there, now);
    }
    asked
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Conduct {
    Good,
    Slow,
    Absent,
}

#[test]
fn absent_and_slow_peers_fall_behind_and_recover() {
    for conduct in [Conduct::Slow, Conduct::Absent] {
        let mut router = Router::new();
        let day = 24 * HOUR_MS;
        let first = simulate(&mut router, NOW, 24, Conduct::Good);
        assert!(first[1] > 400, "a third each: {first:?}");
        let bad = simulate(&mut router, NOW.plus_ms(day), 24, conduct);
        assert!(bad[1] < 100 && bad[0] > 500 && bad[2] > 500, "{bad:?}");
        // It is good again from now on, and is asked again within three days.
        let healing = simulate(&mut router, NOW.plus_ms(2 * day), 72, Conduct::Good);
        let after = simulate(&mut router, NOW.plus_ms(5 * day), 24, Conduct::Good);
        assert!(after[1] > 300, "during {healing:?}, after {after:?}");
    }
}
