use std::collections::{BTreeMap, BTreeSet};

use arknet_protocol::Permissions;
use arknet_types::{ModelName, PublicKey, Timestamp, Usage};

use super::{Checkers, rights::Seen};
use crate::network::NodeId;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// What a peer did in one stretch of a node's clock.
#[derive(Debug, Default)]
struct Span {
    number: u64,
    requests: u64,
    tokens: u64,
}

/// What a peer did at one node.
#[derive(Debug, Default)]
struct Used {
    minute: Span,
    day: Span,
    held: u64,
}

/// What owners have said, and what was done under it.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// Nodes that serve approved peers only.
    careful: BTreeSet<NodeId>,
    grants: BTreeMap<(NodeId, PublicKey), Permissions>,
    used: BTreeMap<(NodeId, PublicKey), Used>,
    working: BTreeMap<(NodeId, PublicKey, ModelName), u32>,
}

impl Granted {
    pub(super) fn crashed(&mut self, server: NodeId) {
        self.used.retain(|(node, _), _| *node != server);
        self.working.retain(|(node, ..), _| *node != server);
    }
}

impl Span {
    fn turn(&mut self, number: u64) {
        if self.number != number {
            *self = Self { number, ..Self::default() };
        }
    }
}

fn tokens(usage: Usage) -> u64 {
    u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens)
}

impl Checkers {
    /// A node serves approved peers only.
    pub(crate) fn careful(&mut self, node: NodeId) {
        self.grants.careful.insert(node);
    }

    /// The owner of a node has decided about a peer, and what that ends is over.
    pub(crate) fn decided(&mut self, node: NodeId, peer: PublicKey, may: Option<&Permissions>) {
        match may {
            Some(permissions) => self.grants.grants.insert((node, peer), permissions.clone()),
            None => self.grants.grants.remove(&(node, peer)),
        };
    }

    /// What a node works on, once it has taken in a decision.
    pub(crate) fn cut(&mut self, node: NodeId) {
        let Granted { grants, working, .. } = &self.grants;
        let stays = working.iter().find(|((at, peer, model), count)| {
            let may = grants.get(&(*at, *peer)).is_some_and(|permissions| {
                permissions.can_request_inference && permissions.models_shared.contains(model)
            });
            *at == node && **count > 0 && !may
        });
        let stays = stays.map(|((_, peer, model), _)| format!("{model} for {peer:?}"));
        self.hold(stays.is_none(), || {
            format!("node {node} goes on with {}, which lost its right", stays.unwrap_or_default())
        });
    }

    /// The gate of a node was asked at this time of its clock: minutes and days turn by that.
    pub(crate) fn gate_asked(&mut self, node: NodeId, now: Timestamp) {
        for ((at, _), used) in &mut self.grants.used {
            if *at == node {
                used.minute.turn(now.0 / MINUTE_MS);
                used.day.turn(now.0 / DAY_MS);
            }
        }
    }

    pub(super) fn within_the_grant(&mut self, seen: &Seen<'_>, running: u32) {
        if !self.grants.careful.contains(&seen.node) {
            return;
        }
        let key = (seen.node, seen.from);
        let Some(may) = self.grants.grants.get(&key).cloned() else {
            return self.hold(false, || {
                format!("node {} admitted {:?}, which is not approved", seen.node, seen.from)
            });
        };
        *self.grants.working.entry((seen.node, seen.from, seen.model.clone())).or_default() += 1;
        let used = self.grants.used.entry(key).or_default();
        used.minute.turn(seen.now.0 / MINUTE_MS);
        used.day.turn(seen.now.0 / DAY_MS);
        used.held += tokens(seen.usage_max);
        for span in [&mut used.minute, &mut used.day] {
            span.requests += 1;
        }
        let requests = |max: Option<u32>| max.map_or(u64::MAX, u64::from);
        let holds = may.can_request_inference
            && may.models_shared.contains(seen.model)
            && running <= may.max_concurrent_requests
            && used.minute.requests <= requests(may.requests_per_minute)
            && used.day.requests <= requests(may.requests_per_day)
            && used.minute.tokens + used.held <= may.tokens_per_minute.unwrap_or(u64::MAX)
            && used.day.tokens + used.held <= may.tokens_per_day.unwrap_or(u64::MAX);
        let used = format!("{used:?}, {running} running");
        self.hold(holds, || {
            format!("node {} admitted beyond the grant {may:?}: {used}", seen.node)
        });
    }

    pub(super) fn used_of_the_grant(&mut self, seen: &Seen<'_>, usage: Usage) {
        let working = (seen.node, seen.from, seen.model.clone());
        if let Some(count) = self.grants.working.get_mut(&working) {
            *count -= 1;
        }
        let Some(used) = self.grants.used.get_mut(&(seen.node, seen.from)) else { return };
        used.minute.turn(seen.now.0 / MINUTE_MS);
        used.day.turn(seen.now.0 / DAY_MS);
        used.held -= tokens(seen.usage_max);
        for span in [&mut used.minute, &mut used.day] {
            span.tokens += tokens(usage);
        }
    }
}
