use arknet_types::KeyPair;

use super::*;
use crate::addresses::peer_id;

const TCP: &str = "/ip4/1.2.3.4/tcp/1";
const QUIC: &str = "/ip4/1.2.3.4/udp/1/quic-v1";

fn peer(seed: u8) -> PeerId {
    peer_id(&KeyPair::from_seed(&[seed; 32]).public())
}

fn parse(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn dial(peer: PeerId, address: &str) -> Option<Dial> {
    Some(Dial { peer, addresses: vec![parse(address)] })
}

#[test]
fn a_seed_is_dialled_until_it_answers_and_again_when_it_is_lost() {
    let mut now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.seed(peer(1), parse(TCP), now);
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(dialer.poll(now), dial(peer(1), TCP));
        assert_eq!(dialer.poll(now), None);
        assert_eq!(dialer.failed(&peer(1), now), Failed::Unreachable);
        let next = dialer.next_wakeup().unwrap();
        waits.push(next - now);
        now = next;
    }
    assert!(waits[0] >= Duration::from_millis(250) && waits[0] <= Duration::from_millis(500));
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(30)));
    assert!(waits[11] >= Duration::from_secs(15));
    assert!(dialer.poll(now).is_some());
    dialer.connected(&peer(1));
    assert_eq!((dialer.poll(now), dialer.next_wakeup()), (None, None));
    dialer.disconnected(&peer(1), now);
    assert_eq!(dialer.poll(now), dial(peer(1), TCP), "a lost seed is dialled at once");
}

#[test]
fn tcp_comes_first_and_quic_beside_it_when_tcp_is_slow() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.once(peer(1), vec![parse(QUIC), parse(TCP)], now);
    assert_eq!(dialer.poll(now), dial(peer(1), TCP));
    assert_eq!(dialer.poll(now), None);
    assert_eq!(dialer.next_wakeup(), Some(now + DIAL_STAGE));
    assert_eq!(dialer.poll(now + DIAL_STAGE), dial(peer(1), QUIC));
    assert_eq!(dialer.failed(&peer(1), now + DIAL_STAGE), Failed::NotYet, "one is still trying");
    assert_eq!(dialer.failed(&peer(1), now + DIAL_STAGE), Failed::Unreachable);
    assert_eq!(dialer.next_wakeup(), None, "nobody asked for more than one try");
}

#[test]
fn quic_follows_at_once_when_tcp_fails() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.once(peer(1), vec![parse(QUIC), parse(TCP)], now);
    assert_eq!(dialer.poll(now), dial(peer(1), TCP));
    assert_eq!(dialer.failed(&peer(1), now), Failed::NotYet);
    assert_eq!(dialer.poll(now), dial(peer(1), QUIC));
}

#[test]
fn a_fresh_offer_of_a_lost_peer_is_dialled_at_once() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.offer(peer(1), vec![parse(TCP)], 1, now);
    for _ in 0..8 {
        let at = dialer.next_wakeup().unwrap();
        assert!(dialer.poll(at).is_some());
        dialer.failed(&peer(1), at);
    }
    dialer.offer(peer(1), vec![parse(QUIC)], 1, now);
    assert_eq!(dialer.poll(now), None, "an old offer says nothing new");
    dialer.offer(peer(1), vec![parse(QUIC)], 2, now);
    assert_eq!(dialer.poll(now), dial(peer(1), QUIC), "and at its new address");
}

#[test]
fn news_of_a_peer_does_not_wait_for_a_dial_to_its_old_address() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.offer(peer(1), vec![parse(QUIC)], 1, now);
    assert_eq!(dialer.poll(now), dial(peer(1), QUIC));
    dialer.offer(peer(1), vec![parse(TCP)], 2, now);
    assert_eq!(dialer.poll(now), dial(peer(1), TCP));
    assert_eq!(dialer.failed(&peer(1), now), Failed::NotYet, "the other goes on");
    dialer.connected(&peer(1));
    assert_eq!(dialer.next_wakeup(), None);
}

#[test]
fn peers_without_offers_are_forgotten_and_seeds_are_not() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.seed(peer(1), parse(TCP), now);
    dialer.offer(peer(1), vec![parse(QUIC)], 1, now);
    dialer.offer(peer(2), vec![parse(QUIC)], 1, now);
    assert!(dialer.is_kept(&peer(2)));
    dialer.retain_offers(|_| false);
    assert!(dialer.is_seed(&peer(1)) && dialer.is_kept(&peer(1)) && !dialer.is_kept(&peer(2)));
    assert_eq!(dialer.addresses(&peer(1)).len(), 2);
}

#[test]
fn a_peer_without_addresses_is_not_dialled() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    dialer.offer(peer(1), vec![], 1, now);
    assert_eq!(dialer.poll(now), None);
    assert!(dialer.next_wakeup().unwrap() > now);
}

#[test]
fn a_chosen_peer_is_dialled_until_it_is_chosen_no_more() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    assert!(!dialer.keep(vec![(peer(1), vec![parse(TCP)], 1)], now));
    assert_eq!(dialer.poll(now), dial(peer(1), TCP));
    assert_eq!(dialer.failed(&peer(1), now), Failed::Unreachable);
    assert_eq!(dialer.poll(now), None);
    assert!(!dialer.keep(vec![(peer(1), vec![parse(TCP)], 1)], now));
    assert_eq!(dialer.poll(now), None, "nothing new was said");
    dialer.keep(vec![(peer(1), vec![parse(TCP)], 2)], now);
    assert_eq!(dialer.poll(now), dial(peer(1), TCP), "it was seen again");
    dialer.connected(&peer(1));
    assert!(dialer.is_kept(&peer(1)));
    dialer.disconnected(&peer(1), now);
    assert!(dialer.poll(now).is_some());
    dialer.seed(peer(2), parse(TCP), now);
    assert!(dialer.keep(vec![], now));
    assert!(!dialer.is_kept(&peer(1)) && dialer.is_kept(&peer(2)), "a seed stays one");
}

#[test]
fn where_a_chosen_peer_is_comes_before_where_its_offer_says() {
    let now = Instant::now();
    let mut dialer = Dialer::new(7);
    let other = "/ip4/5.6.7.8/tcp/1";
    dialer.offer(peer(1), vec![parse(other)], 1, now);
    dialer.keep(vec![(peer(1), vec![parse(TCP)], 1)], now);
    dialer.offer(peer(1), vec![parse(other), parse(QUIC)], 2, now);
    assert_eq!(dialer.addresses(&peer(1)), [parse(TCP), parse(other), parse(QUIC)]);
    dialer.retain_offers(|_| false);
    assert!(dialer.is_kept(&peer(1)));
}
