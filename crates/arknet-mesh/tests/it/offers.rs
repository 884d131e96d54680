use std::time::Duration;

use arknet_types::encode;
use futures::StreamExt;
use libp2p::{SwarmBuilder, gossipsub, noise, swarm::SwarmEvent, tcp, yamux};

use crate::support::{TCP, hears, key, offer, options, seeds, started, within};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_hear_each_other_through_a_seed() {
    let (seed, _seed_inbound) = started(options(1, &[TCP])).await;
    let (mut one, mut two) = (options(2, &[TCP]), options(3, &[TCP]));
    one.seeds = seeds(&seed);
    two.seeds = seeds(&seed);
    let (one, _one_inbound) = started(one).await;
    let (two, _two_inbound) = started(two).await;
    let first = offer(&key(2), &one.listen_addresses(), "m");
    let second = offer(&key(3), &two.listen_addresses(), "m");
    one.publish_offer(first.clone()).await;
    two.publish_offer(second.clone()).await;
    within(2, hears(&two, one.peer(), first.body.sequence)).await;
    within(2, hears(&one, two.peer(), second.body.sequence)).await;
    for mesh in [one, two, seed] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_learns_all_offers_at_once_from_whom_it_dials() {
    let (seed, _seed_inbound) = started(options(1, &[TCP])).await;
    let mut serving = options(2, &[TCP]);
    serving.seeds = seeds(&seed);
    let (serving, _inbound) = started(serving).await;
    let known = offer(&key(2), &serving.listen_addresses(), "m");
    serving.publish_offer(known.clone()).await;
    within(2, hears(&seed, serving.peer(), known.body.sequence)).await;
    let mut client = options(3, &[]);
    client.seeds = seeds(&seed);
    let (client, _) = started(client).await;
    within(2, hears(&client, serving.peer(), known.body.sequence)).await;
    for mesh in [client, serving, seed] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_takes_a_peer_out_of_routing() {
    let (seed, _seed_inbound) = started(options(1, &[TCP])).await;
    let mut serving = options(2, &[TCP]);
    serving.seeds = seeds(&seed);
    let (serving, _inbound) = started(serving).await;
    let known = offer(&key(2), &serving.listen_addresses(), "m");
    serving.publish_offer(known.clone()).await;
    within(2, hears(&seed, serving.peer(), known.body.sequence)).await;
    let mut goodbye = offer(&key(2), &[], "m").body;
    goodbye.models.clear();
    serving.publish_offer(arknet_types::Offer::sign(goodbye, &key(2))).await;
    serving.shutdown().await;
    let mut changed = seed.offers().changed();
    let nobody = |_: &u64| {
        seed.offers().with(|table| table.living(arknet_mesh::Offers::now()).next().is_none())
    };
    within(2, changed.wait_for(nobody)).await.unwrap();
    seed.shutdown().await;
}

/// A peer that publishes whatever bytes it likes under its own name.
struct Hostile {
    swarm: libp2p::Swarm<gossipsub::Behaviour>,
    topic: gossipsub::IdentTopic,
}

impl Hostile {
    async fn connected(seed: u8, to: libp2p::Multiaddr) -> Self {
        let keypair = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        let config = gossipsub::ConfigBuilder::default().max_transmit_size(1 << 20).build();
        let authenticity = gossipsub::MessageAuthenticity::Signed(keypair.clone());
        let mut behaviour = gossipsub::Behaviour::new(authenticity, config.unwrap()).unwrap();
        let topic = gossipsub::IdentTopic::new("arknet/pool/offer/1");
        behaviour.subscribe(&topic).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| behaviour)
            .unwrap()
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        swarm.dial(to).unwrap();
        loop {
            let event = swarm.select_next_some().await;
            if matches!(event, SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. })) {
                return Self { swarm, topic };
            }
        }
    }

    fn publish(&mut self, bytes: Vec<u8>) {
        let topic = self.topic.clone();
        self.swarm.behaviour_mut().publish(topic, bytes).unwrap();
    }

    /// Runs until the other side has closed the connection or `done` is.
    async fn run<T>(&mut self, done: impl Future<Output = T>) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                result = &mut done => return result,
                _ = self.swarm.select_next_some() => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_forged_stolen_stale_and_oversize_are_dropped() {
    let (victim, _inbound) = started(options(1, &[TCP])).await;
    let mut hostile = within(5, Hostile::connected(6, seeds(&victim)[0].clone())).await;
    let mut claimed = offer(&key(6), &[], "forged");
    claimed.body.peer = key(5).public();
    // Signed by one key for another.
    hostile.publish(encode(&claimed));
    // Signed by its own key, and published by another peer.
    hostile.publish(encode(&offer(&key(5), &[], "stolen")));
    // An honest offer goes through and shows that what came before it was seen.
    let good = offer(&key(6), &[], "good");
    hostile.publish(encode(&good));
    within(5, hostile.run(hears(&victim, key(6).public(), good.body.sequence))).await;
    assert_eq!(victim.offers().with(|table| table.len()), 1, "and nothing else is known");
    victim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_and_oversize_offers_change_nothing() {
    let (victim, _inbound) = started(options(1, &[TCP])).await;
    let mut hostile = within(5, Hostile::connected(6, seeds(&victim)[0].clone())).await;
    let (old, new) = (offer(&key(6), &[], "old"), offer(&key(6), &[], "new"));
    let last = offer(&key(6), &[], "last");
    hostile.publish(encode(&new));
    hostile.publish(encode(&old));
    within(5, hostile.run(hears(&victim, key(6).public(), new.body.sequence))).await;
    hostile.publish(encode(&last));
    within(5, hostile.run(hears(&victim, key(6).public(), last.body.sequence))).await;
    // Too large for the topic: the whole stream of such a peer is given up.
    hostile.publish(vec![0; 100_000]);
    let known = victim.offers().with(|table| table.get(&key(6).public()).cloned());
    assert_eq!(known, Some(last));
    victim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_is_cut_and_others_are_still_heard() {
    let (victim, _inbound) = started(options(1, &[TCP])).await;
    let mut hostile = within(5, Hostile::connected(6, seeds(&victim)[0].clone())).await;
    for number in 0..500_u32 {
        let topic = hostile.topic.clone();
        let _ = hostile.swarm.behaviour_mut().publish(topic, number.to_le_bytes().to_vec());
    }
    let mut honest = options(2, &[TCP]);
    honest.seeds = seeds(&victim);
    let (honest, _honest_inbound) = started(honest).await;
    let known = offer(&key(2), &honest.listen_addresses(), "m");
    honest.publish_offer(known.clone()).await;
    within(5, hostile.run(hears(&victim, honest.peer(), known.body.sequence))).await;
    assert_eq!(victim.offers().with(|table| table.len()), 1);
    for mesh in [honest, victim] {
        mesh.shutdown().await;
    }
}
