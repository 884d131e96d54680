//! Offers that are not for everybody, and peers that are looked for.

use std::{collections::BTreeSet, sync::Arc};

use arknet_mesh::Mesh;
use arknet_types::{Offer, PublicKey};

use crate::support::{TCP, hears, key, offer, options, seeds, started, within};

/// Lets a mesh tell these peers, each of a model of its own.
fn tells(
    mesh: &Mesh,
    seed: u8,
    friends: &[PublicKey],
) -> impl Fn(&PublicKey) -> Option<Offer> + use<> {
    let (key, addresses) = (key(seed), mesh.listen_addresses());
    let friends: BTreeSet<_> = friends.iter().copied().collect();
    move |peer| friends.contains(peer).then(|| offer(&key, &addresses, &format!("for/{peer}")))
}

fn models(mesh: &Mesh, of: &PublicKey) -> Vec<String> {
    mesh.offers().with(|table| {
        let offer = table.get(of).into_iter().flat_map(|offer| offer.body.models.iter());
        offer.map(|model| model.name.to_string()).collect()
    })
}

/// Waits until both meshes know of each other's connection.
async fn meet(one: &Mesh, other: &Mesh) {
    let is_there = |mesh: &Mesh, peer| mesh.connected().iter().any(|status| status.peer == peer);
    while !is_there(one, other.peer()) || !is_there(other, one.peer()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_offer_reaches_friends_alone_whoever_dials_and_is_not_passed_on() {
    let (serving, _inbound) = started(options(1, &[TCP])).await;
    let friends = [key(2).public(), key(3).public()];
    serving.offer_to_each(Arc::new(tells(&serving, 1, &friends)));
    // One that dials asks, and hears what is for it.
    let mut dialling = options(2, &[TCP]);
    dialling.seeds = seeds(&serving);
    let (dialling, _) = started(dialling).await;
    within(5, hears(&dialling, serving.peer(), 0)).await;
    assert_eq!(models(&dialling, &serving.peer()), [format!("for/{}", dialling.peer())]);
    // A stranger asks both: the one who serves, and the friend who knows.
    let mut stranger = options(4, &[TCP]);
    stranger.seeds = [seeds(&serving), seeds(&dialling)].concat();
    let (stranger, _) = started(stranger).await;
    within(5, meet(&stranger, &serving)).await;
    within(5, meet(&stranger, &dialling)).await;
    // What is told on change goes to whom it is told, and nobody else.
    let newer = offer(&key(1), &serving.listen_addresses(), "new");
    assert!(serving.tell(&dialling.peer(), newer.clone()).await);
    within(5, hears(&dialling, serving.peer(), newer.body.sequence)).await;
    // Gossip of somebody else arrives: what could have come before it has come.
    let public = offer(&key(2), &dialling.listen_addresses(), "public");
    dialling.publish_offer(public.clone()).await;
    within(5, hears(&stranger, dialling.peer(), public.body.sequence)).await;
    within(5, hears(&serving, dialling.peer(), public.body.sequence)).await;
    assert_eq!(models(&stranger, &serving.peer()), [""; 0]);
    // A newcomer that asks the friend hears of the public offer and of no other.
    let mut newcomer = options(5, &[]);
    newcomer.seeds = seeds(&dialling);
    let (newcomer, _) = started(newcomer).await;
    within(5, hears(&newcomer, dialling.peer(), public.body.sequence)).await;
    assert_eq!(models(&newcomer, &serving.peer()), [""; 0]);
    for mesh in [newcomer, stranger, dialling, serving] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dials_tells_its_friend_what_it_offers_to_it() {
    let (friend, _inbound) = started(options(2, &[TCP])).await;
    let (serving, _serving_inbound) = arknet_mesh::start(options(1, &[TCP])).unwrap();
    serving.offer_to_each(Arc::new(tells(&serving, 1, &[friend.peer()])));
    serving.connect(friend.peer(), &friend.listen_addresses()).await.unwrap();
    within(5, hears(&friend, serving.peer(), 0)).await;
    assert_eq!(models(&friend, &serving.peer()), [format!("for/{}", friend.peer())]);
    for mesh in [serving, friend] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_others_unasked() {
    let (victim, _inbound) = started(options(1, &[TCP])).await;
    let mut hostile = options(6, &[]);
    hostile.seeds = seeds(&victim);
    let (hostile, _) = started(hostile).await;
    // It claims to speak for another peer, whose offer it once got; then for itself.
    let stolen = offer(&key(5), &[], "stolen");
    let forwarded = stolen.clone();
    hostile.offer_to_each(Arc::new(move |_| Some(forwarded.clone())));
    within(5, meet(&hostile, &victim)).await;
    let own = offer(&key(6), &[], "own");
    assert!(hostile.tell(&victim.peer(), own.clone()).await);
    within(5, hears(&victim, hostile.peer(), own.body.sequence)).await;
    assert_eq!(models(&victim, &stolen.body.peer), [""; 0]);
    for mesh in [hostile, victim] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_sought_is_found_through_a_seed() {
    let (seed, _seed_inbound) = started(options(1, &[TCP])).await;
    let (mut one, mut other) = (options(2, &[TCP]), options(3, &[TCP]));
    (one.seeds, other.seeds) = (seeds(&seed), seeds(&seed));
    let (one, _one_inbound) = started(one).await;
    let (other, _other_inbound) = started(other).await;
    within(5, meet(&one, &seed)).await;
    within(5, meet(&other, &seed)).await;
    one.seek(vec![other.peer()]).await;
    within(20, meet(&one, &other)).await;
    for mesh in [one, other, seed] {
        mesh.shutdown().await;
    }
}
