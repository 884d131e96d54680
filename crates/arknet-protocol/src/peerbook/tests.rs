use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const HERE: &str = "/ip4/192.168.1.2/tcp/26656";
const THERE: &str = "/ip4/10.0.0.5/tcp/26656";

fn key(n: u16) -> PublicKey {
    let mut key = [7; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    PublicKey(key)
}

fn book() -> PeerBook {
    PeerBook::new(key(u16::MAX))
}

fn label(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

fn sighting(source: Source, peer: u16, address: &str) -> Sighting {
    Sighting {
        source,
        peer: key(peer),
        node_id: Some(label("ark")),
        addresses: vec![address.into()],
        offer: None,
        version: Some(1),
        at: NOW,
    }
}

fn proofs(book: &mut PeerBook, now: Timestamp) -> Vec<PublicKey> {
    std::iter::from_fn(|| book.next_proof(now)).map(|wanted| wanted.peer).collect()
}

#[test]
fn one_peer_seen_by_two_sources_is_one_peer_until_both_lose_it() {
    let mut book = book();
    assert_eq!(book.saw(sighting(Source::Tunnel, 1, THERE)), Noticed::New);
    assert_eq!(book.saw(sighting(Source::Mdns, 1, HERE)), Noticed::Changed);
    assert_eq!(book.saw(sighting(Source::Mdns, 1, HERE)), Noticed::Same);
    let known: Vec<_> = book.list().collect();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].sources, [Source::Mdns, Source::Tunnel]);
    assert_eq!(known[0].addresses, [HERE, THERE], "the nearest first");
    assert!(book.goodbye(Source::Mdns, &key(1)) && !book.goodbye(Source::Mdns, &key(1)));
    assert_eq!(book.get(&key(1)).unwrap().addresses, [THERE]);
    book.goodbye(Source::Tunnel, &key(1));
    assert_eq!(book.list().count(), 0);
    assert_eq!(book.get(&key(1)), None);
}

#[test]
fn each_source_forgets_in_its_own_time() {
    let mut book = book();
    for source in Source::ALL {
        book.saw(sighting(source, 1, HERE));
    }
    let mut now = NOW;
    let mut left = Vec::new();
    while let Some(next) = book.next_wakeup().filter(|_| book.entries[&key(1)].seen.len() > 1) {
        if !book.expire(next) {
            book.next_proof(next);
        }
        now = next;
        left.push(book.get(&key(1)).unwrap().sources.len());
    }
    assert_eq!(now, NOW.plus_ms(3_600_000));
    assert_eq!(*left.last().unwrap(), 1);
    assert_eq!(book.get(&key(1)).unwrap().sources, [Source::Static], "what is configured stays");
}

#[test]
fn a_connected_peer_is_there_for_as_long_as_it_is_connected_and_a_while_longer() {
    let mut book = book();
    assert_eq!(book.connected(key(1), None, None, NOW), Noticed::New);
    assert_eq!(book.connected(key(1), Some(label("b")), None, NOW), Noticed::Changed);
    let much_later = NOW.plus_ms(1 << 40);
    assert!(!book.expire(much_later));
    assert!(book.disconnected(&key(1), much_later) && !book.disconnected(&key(1), much_later));
    assert!(!book.expire(much_later));
    assert!(book.expire(book.next_wakeup().unwrap()));
    assert_eq!(book.list().count(), 0);
}

#[test]
fn what_a_peer_says_of_itself_goes_before_what_others_say() {
    let mut book = book();
    book.saw(Sighting { node_id: Some(label("liar")), ..sighting(Source::Mdns, 1, HERE) });
    assert_eq!(book.get(&key(1)).unwrap().node_id, Some(label("liar")));
    assert!(!book.get(&key(1)).unwrap().proved);
    book.connected(key(1), Some(label("true")), Some(HERE.into()), NOW);
    book.connected(key(1), None, Some(HERE.into()), NOW);
    let known = book.get(&key(1)).unwrap();
    assert_eq!((known.node_id, known.proved), (Some(label("true")), true));
}

#[test]
fn this_node_never_finds_itself() {
    let mut book = book();
    assert_eq!(book.saw(sighting(Source::Mdns, u16::MAX, HERE)), Noticed::Own);
    assert_eq!(book.connected(key(u16::MAX), None, None, NOW), Noticed::Own);
    assert_eq!(book.list().count(), 0);
}

#[test]
fn an_unapproved_peer_is_dialled_once() {
    let mut book = book();
    book.saw(sighting(Source::Mdns, 1, HERE));
    assert_eq!(proofs(&mut book, NOW), [key(1)]);
    book.connected(key(1), None, Some(HERE.into()), NOW);
    book.disconnected(&key(1), NOW);
    book.saw(sighting(Source::Mdns, 1, THERE));
    assert_eq!(proofs(&mut book, NOW.plus_ms(1 << 20)), [], "it has proved its key");
    assert_eq!(book.keep().count(), 0);
}

#[test]
fn an_unapproved_peer_that_does_not_answer_is_let_alone_until_it_is_elsewhere() {
    let mut book = book();
    book.saw(sighting(Source::Mdns, 1, HERE));
    let (mut now, mut dials) = (NOW, 0);
    while let Some(next) = book.next_wakeup().filter(|next| *next < NOW.plus_ms(150_000)) {
        now = now.max(next);
        assert_eq!(proofs(&mut book, now), [key(1)]);
        book.unreachable(&key(1), now);
        dials += 1;
    }
    assert_eq!(dials, PROOF_TRIES_MAX);
    book.saw(Sighting { at: now, ..sighting(Source::Mdns, 1, THERE) });
    assert_eq!(proofs(&mut book, now), [], "not at once, however often it moves");
    assert_eq!(proofs(&mut book, now.plus_ms(PROOF_BACKOFF_MS.0)), [key(1)]);
}

#[test]
fn whom_the_owner_named_is_tried_for_ever() {
    let mut book = book();
    book.saw(sighting(Source::Static, 1, HERE));
    for _ in 0..100 {
        let now = book.next_wakeup().unwrap();
        assert_eq!(proofs(&mut book, now), [key(1)]);
        book.unreachable(&key(1), now);
    }
}

#[test]
fn a_directory_is_not_dialled_through() {
    let mut book = book();
    book.saw(sighting(Source::Registry, 1, HERE));
    assert_eq!(proofs(&mut book, NOW), []);
    book.approve([key(1)].into(), NOW);
    assert_eq!(book.keep().count(), 1, "whom the owner approved is dialled wherever it is found");
}

#[test]
fn an_approved_peer_is_kept_where_it_was_last() {
    let mut book = book();
    assert!(book.approve([key(1)].into(), NOW) && !book.approve([key(1)].into(), NOW));
    assert_eq!(book.keep().count(), 0, "nobody knows where it is");
    book.saw(sighting(Source::Mdns, 1, HERE));
    book.saw(sighting(Source::Tunnel, 1, THERE));
    assert_eq!(book.keep().next().unwrap().addresses, [HERE, THERE]);
    assert_eq!(proofs(&mut book, NOW), [], "it is kept, not tried");
    book.connected(key(1), None, Some(THERE.into()), NOW);
    assert_eq!(book.keep().next().unwrap().addresses, [THERE, HERE], "where it answered first");
    book.disconnected(&key(1), NOW);
    book.expire(NOW.plus_ms(1 << 40));
    assert_eq!(book.list().count(), 0, "nobody sees it");
    assert_eq!(book.keep().next().unwrap().addresses, [THERE]);
    book.approve(BTreeSet::new(), NOW);
    assert_eq!((book.keep().count(), book.get(&key(1))), (0, None));
}

#[test]
fn news_rises_when_a_peer_comes_back_or_moves() {
    let mut book = book();
    book.approve([key(1)].into(), NOW);
    let news = |book: &PeerBook| book.keep().next().unwrap().news;
    book.saw(sighting(Source::Mdns, 1, HERE));
    let first = news(&book);
    book.saw(sighting(Source::Mdns, 1, HERE));
    book.connected(key(1), None, Some(HERE.into()), NOW);
    assert_eq!(news(&book), first);
    book.saw(sighting(Source::Mdns, 1, THERE));
    let moved = news(&book);
    book.goodbye(Source::Mdns, &key(1));
    book.saw(sighting(Source::Mdns, 1, THERE));
    assert!(first < moved && moved < news(&book));
}

#[test]
fn a_flood_takes_the_room_of_its_own_source_only() {
    let mut book = book();
    book.approve([key(1)].into(), NOW);
    book.saw(sighting(Source::Mdns, 1, HERE));
    book.saw(sighting(Source::Tunnel, 2, THERE));
    book.connected(key(3), None, None, NOW);
    let flood = 1_000..1_000 + u16::try_from(2 * PEERS_PER_SOURCE_MAX).unwrap();
    let refused = flood.filter(|n| book.saw(sighting(Source::Mdns, *n, HERE)) == Noticed::Full);
    assert!(refused.count() > PEERS_PER_SOURCE_MAX);
    for n in [1, 2, 3] {
        assert!(book.get(&key(n)).is_some());
    }
    assert_eq!(book.saw(sighting(Source::Tunnel, 4, THERE)), Noticed::New);
    assert_eq!(book.saw(sighting(Source::Mdns, 2, HERE)), Noticed::Full, "unapproved");
    book.approve([key(1), key(5)].into(), NOW);
    assert_eq!(book.saw(sighting(Source::Mdns, 5, HERE)), Noticed::New, "approved");
    let asked = proofs(&mut book, NOW);
    for vain in &asked {
        book.unreachable(vain, NOW);
    }
    assert_eq!(book.saw(sighting(Source::Mdns, 6, HERE)), Noticed::New);
    let left = asked.iter().filter(|vain| book.get(vain).is_none()).count();
    assert_eq!(left, 1, "a name that nobody answers to made room");
}

#[derive(Clone, Debug)]
enum Step {
    Saw(Sighting),
    Goodbye(Source, u16),
    Connected(u16),
    Disconnected(u16),
    Approve(BTreeSet<PublicKey>),
    Prove,
    Unreachable(u16),
    Later(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let source = || prop::sample::select(&Source::ALL[..]);
    let peer = || 0_u16..12;
    let long = "x".repeat(ADDRESS_BYTES_MAX + 1);
    let address = (0_u8..20).prop_map(move |n| match n {
        0 => long.clone(),
        n => format!("/ip4/10.0.0.{n}/tcp/1"),
    });
    let addresses = prop::collection::vec(address, 0..12);
    prop_oneof![
        6 => (source(), peer(), addresses).prop_map(|(source, peer, addresses)| {
            Step::Saw(Sighting { addresses, ..sighting(source, peer, HERE) })
        }),
        2 => (source(), peer()).prop_map(|(source, peer)| Step::Goodbye(source, peer)),
        2 => peer().prop_map(Step::Connected),
        2 => peer().prop_map(Step::Disconnected),
        1 => prop::collection::btree_set(peer().prop_map(key), 0..4).prop_map(Step::Approve),
        3 => Just(Step::Prove),
        3 => peer().prop_map(Step::Unreachable),
        2 => (0_u64..1_000_000).prop_map(Step::Later),
    ]
}

/// What must hold after every step.
fn check(book: &PeerBook) {
    for (source, count) in &book.counts {
        let real = book.entries.values().filter(|entry| entry.seen.contains_key(source)).count();
        assert_eq!(*count, real);
    }
    for (peer, entry) in &book.entries {
        let is_kept = book.approved.contains(peer) && !entry.proved_at.is_empty();
        assert!(!entry.seen.is_empty() || entry.connected || is_kept, "nothing keeps it");
        assert!(entry.proved_at.len() <= ADDRESSES_PROVED_MAX);
        for seen in entry.seen.values() {
            assert!(seen.addresses.len() <= ADDRESSES_PER_SIGHTING_MAX);
            assert!(seen.addresses.iter().all(|address| address.len() <= ADDRESS_BYTES_MAX));
        }
        assert!(entry.addresses().len() <= ADDRESSES_WANTED_MAX);
    }
    let asked = book.entries.values().filter(|entry| entry.proof == Proof::Asked);
    assert!(asked.count() <= PROOFS_AT_ONCE_MAX);
    assert!(book.list().all(|known| known.peer != book.me && !known.sources.is_empty()));
    assert!(book.keep().all(|wanted| book.approved.contains(&wanted.peer)));
}

proptest! {
    #[test]
    fn the_book_stays_within_its_bounds_whatever_is_told(
        told in prop::collection::vec(steps(), 1..80),
    ) {
        let mut book = PeerBook::new(key(0));
        let mut now = NOW;
        let mut connected = BTreeSet::new();
        for step in told {
            match step {
                Step::Saw(sighting) => drop(book.saw(Sighting { at: now, ..sighting })),
                Step::Goodbye(source, peer) => drop(book.goodbye(source, &key(peer))),
                Step::Connected(peer) => {
                    let noticed = book.connected(key(peer), None, Some(HERE.into()), now);
                    if noticed != Noticed::Own {
                        connected.insert(peer);
                    }
                }
                Step::Disconnected(peer) => {
                    prop_assert_eq!(book.disconnected(&key(peer), now), connected.remove(&peer));
                }
                Step::Approve(approved) => drop(book.approve(approved, now)),
                Step::Prove => {
                    if let Some(wanted) = book.next_proof(now) {
                        prop_assert!(!book.approved.contains(&wanted.peer));
                        prop_assert!(!wanted.addresses.is_empty());
                        prop_assert!(!book.get(&wanted.peer).unwrap().connected);
                    }
                }
                Step::Unreachable(peer) => book.unreachable(&key(peer), now),
                Step::Later(ms) => now = now.plus_ms(ms),
            }
            if book.next_wakeup().is_some_and(|at| at <= now) {
                book.expire(now);
            }
            check(&book);
            for peer in &connected {
                prop_assert!(book.get(&key(*peer)).is_some_and(|known| known.connected));
            }
        }
    }

    #[test]
    fn after_everything_ran_out_only_what_is_configured_and_connected_is_left(
        told in prop::collection::vec(steps(), 1..60),
    ) {
        let mut book = PeerBook::new(key(0));
        for step in told {
            match step {
                Step::Saw(sighting) => drop(book.saw(sighting)),
                Step::Connected(peer) => drop(book.connected(key(peer), None, None, NOW)),
                _ => {}
            }
        }
        book.expire(NOW.plus_ms(1 << 40));
        for known in book.list() {
            prop_assert!(known.connected || known.sources == [Source::Static]);
        }
    }
}
