use arknet_types::{KeyPair, NetworkId, Offer, OfferBody, limits::OFFER_BYTES_MAX};

use super::*;

fn network() -> NetworkId {
    NetworkId::new("test").unwrap()
}

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

fn offer(signer: u8, sequence: u64) -> Offer {
    let key = key(signer);
    let body = OfferBody {
        network: network(),
        peer: key.public(),
        sequence,
        issued_at: Timestamp(1000),
        expires_at: Timestamp(61_000),
        addresses: vec![],
        models: vec![],
    };
    Offer::sign(body, &key)
}

fn message(source: u8, data: Vec<u8>) -> gossipsub::Message {
    gossipsub::Message {
        source: Some(addresses::peer_id(&key(source).public())),
        data,
        sequence_number: Some(1),
        topic: IdentTopic::new(OFFER_TOPIC).hash(),
    }
}

fn judge(gossip: &mut Gossip, message: &gossipsub::Message, at: u64) -> &'static str {
    let forwarder = addresses::peer_id(&key(9).public());
    match gossip.judge(message, forwarder, (Timestamp(at), Instant::now())) {
        MessageAcceptance::Accept => "accept",
        MessageAcceptance::Reject => "reject",
        MessageAcceptance::Ignore => "ignore",
    }
}

#[test]
fn an_offer_passes_once_and_only_from_its_own_peer() {
    let mut gossip = Gossip::new(Offers::new(key(8).public(), network()));
    let good = message(1, encode(&offer(1, 1)));
    assert_eq!(judge(&mut gossip, &good, 2000), "accept");
    assert_eq!(judge(&mut gossip, &good, 2000), "ignore", "stale");
    let stolen = message(2, encode(&offer(1, 2)));
    assert_eq!(judge(&mut gossip, &stolen, 2000), "reject", "published by another peer");
    let mut forged = offer(2, 1);
    forged.body.peer = key(1).public();
    assert_eq!(judge(&mut gossip, &message(1, encode(&forged)), 2000), "reject", "signed by other");
}

#[test]
fn what_clocks_may_disagree_about_is_ignored_and_the_rest_rejected() {
    let mut gossip = Gossip::new(Offers::new(key(8).public(), network()));
    let late = message(1, encode(&offer(1, 1)));
    assert_eq!(judge(&mut gossip, &late, 61_000), "ignore");
    assert_eq!(judge(&mut gossip, &message(1, vec![7; 100]), 2000), "reject");
    assert_eq!(judge(&mut gossip, &message(1, vec![0; OFFER_BYTES_MAX + 1]), 2000), "reject");
    let mut elsewhere = offer(1, 1).body;
    elsewhere.network = NetworkId::new("other").unwrap();
    let elsewhere = Offer::sign(elsewhere, &key(1));
    assert_eq!(judge(&mut gossip, &message(1, encode(&elsewhere)), 2000), "reject");
}

#[test]
fn the_offer_goes_out_again_for_newcomers_but_not_for_each() {
    let mut gossip = Gossip::new(Offers::new(key(8).public(), network()));
    let now = Instant::now();
    gossip.subscribed(now);
    assert_eq!(gossip.next_wakeup(), Some(now));
    gossip.publish_due = None;
    gossip.published_at = Some(now);
    (0..5).for_each(|_| gossip.subscribed(now));
    assert_eq!(gossip.next_wakeup(), Some(now + REPUBLISH_INTERVAL));
}

#[test]
fn the_behaviour_can_be_built() {
    let keypair = Keypair::ed25519_from_bytes([1; 32]).unwrap();
    let chain = ChainOptions {
        message_bytes_max: 4096,
        transactions_bytes_max: 4096,
        free_use_bytes_max: 4096,
    };
    assert!(behaviour(&keypair, None).is_ok());
    assert!(behaviour(&keypair, Some(chain)).is_ok());
}
