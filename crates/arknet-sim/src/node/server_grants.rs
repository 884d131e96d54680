//! The owner of a node decides about peers.

use std::collections::BTreeSet;

use arknet_protocol::{Grant, Grants, Permissions, SharedModels};
use arknet_types::{NodeId, PublicKey, Refusal, RefusalCode, Reply, Timestamp};

use super::server::Server;
use crate::{mutant::Mutant, world::World};

impl Server {
    /// The owner thinks again about a peer: takes its grant away, or gives one that may be narrow.
    pub(crate) fn rethink(&mut self, world: &mut World, peer: PublicKey) {
        let may = world.rng.chance(650).then(|| some_permissions(world));
        self.decide(world, peer, may);
    }

    /// The peer may do this from now on; nothing when none.
    pub(crate) fn decide(&mut self, world: &mut World, peer: PublicKey, may: Option<Permissions>) {
        world.checks.decided(self.id, peer, may.as_ref());
        match may {
            Some(permissions) => {
                let grant = Grant {
                    node_id: NodeId::new(&peer.peer_id()[..52]).expect("a peer id is a label"),
                    key: peer,
                    name: String::new(),
                    approved_at: Timestamp(world.now),
                    permissions,
                };
                self.grants.insert(grant).expect("few peers, each with its own label");
            }
            None => drop(self.grants.remove(&peer)),
        }
        let now = self.clock.read(world.now);
        let Some(life) = &mut self.life else { return };
        let lost = life.gate.set_grants(told(world, &self.grants), now);
        let tasks = life.tasks.iter().filter(|(_, task)| {
            task.remote.as_ref().is_some_and(|(_, admitted)| lost.contains(&admitted.id))
        });
        let tickets: Vec<_> = tasks.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            if !world.is(Mutant::KeepsRevoked) {
                let refusal = Refusal::new(RefusalCode::NotPermitted, "the right was taken away");
                self.finish(world, ticket, Reply::Refused(refusal));
            }
        }
        world.checks.cut(self.id);
    }
}

/// The grants as the gate hears of them.
pub(super) fn told(world: &World, grants: &Grants) -> Grants {
    if !world.is(Mutant::LiftsLimits) {
        return grants.clone();
    }
    let mut lifted = Grants::new();
    for grant in grants.iter() {
        let permissions =
            Permissions { models_shared: grant.permissions.models_shared.clone(), ..everything() };
        let grant = Grant { permissions, ..grant.clone() };
        lifted.insert(grant).expect("as many as before");
    }
    lifted
}

/// A grant without bounds.
pub(crate) fn everything() -> Permissions {
    Permissions {
        can_request_inference: true,
        can_pull_models: true,
        models_shared: SharedModels::All,
        max_concurrent_requests: 100,
        requests_per_minute: None,
        requests_per_day: None,
        tokens_per_minute: None,
        tokens_per_day: None,
    }
}

fn some_permissions(world: &mut World) -> Permissions {
    let names: BTreeSet<_> = world.models.iter().map(|model| model.name.clone()).collect();
    let names: BTreeSet<_> = names.into_iter().filter(|_| world.rng.chance(600)).collect();
    let mut maybe = |low, high| world.rng.chance(400).then(|| world.rng.between(low, high));
    let small = |number: u64| u32::try_from(number).expect("few");
    Permissions {
        requests_per_minute: maybe(1, 4).map(small),
        requests_per_day: maybe(1, 10).map(small),
        tokens_per_minute: maybe(20, 300),
        tokens_per_day: maybe(50, 600),
        can_request_inference: world.rng.chance(900),
        models_shared: match world.rng.chance(500) {
            true => SharedModels::All,
            false => SharedModels::Only(names),
        },
        max_concurrent_requests: small(world.rng.between(0, 4)),
        ..everything()
    }
}
