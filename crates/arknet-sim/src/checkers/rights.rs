use std::collections::{BTreeMap, BTreeSet};

use arknet_protocol::Price;
use arknet_types::{
    Atoms, Delegation, ModelName, NetworkId, PublicKey, Request, RequestBody, Timestamp, Usage,
    encode, limits::CLOCK_SKEW_MS_MAX,
};

use super::Checkers;
use crate::{network::NodeId, trace::fingerprint};

/// One request as a serving node saw it when it admitted it.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) node: NodeId,
    pub(crate) life: u32,
    pub(crate) me: PublicKey,
    pub(crate) network: &'a NetworkId,
    pub(crate) now: Timestamp,
    pub(crate) booted_at: Timestamp,
    pub(crate) from: PublicKey,
    pub(crate) per_peer_max: u32,
    /// The model, by its name at this node.
    pub(crate) model: &'a ModelName,
    pub(crate) price: Price,
    pub(crate) usage_max: Usage,
    pub(crate) request: &'a Request,
}

/// What one session was let do at one node.
#[derive(Debug, Default)]
struct Account {
    life: u32,
    reserved: u64,
    spent: u64,
}

/// What was really signed, and what was done under it.
#[derive(Debug, Default)]
pub(super) struct Rights {
    requests_signed: BTreeSet<u64>,
    delegations_signed: BTreeSet<u64>,
    executed: BTreeSet<(NodeId, PublicKey, u64)>,
    accounts: BTreeMap<(NodeId, u64), Account>,
    running: BTreeMap<(NodeId, PublicKey), u32>,
}

impl Rights {
    pub(super) fn executed(&self) -> u64 {
        self.executed.len() as u64
    }

    pub(super) fn crashed(&mut self, server: NodeId) {
        self.running.retain(|(node, _), _| *node != server);
        for ((node, _), account) in &mut self.accounts {
            if *node == server {
                // What was under way may have been delivered: count it as spent.
                account.spent += std::mem::take(&mut account.reserved);
            }
        }
    }
}

impl Checkers {
    /// A wallet has really signed this.
    pub(crate) fn delegation_signed(&mut self, delegation: &Delegation) {
        let signed = fingerprint(&encode(delegation));
        self.rights.delegations_signed.insert(signed);
    }

    /// A session has really signed this.
    pub(crate) fn request_signed(&mut self, body: &RequestBody) {
        self.rights.requests_signed.insert(fingerprint(&encode(body)));
    }

    /// A serving node has admitted a request.
    pub(crate) fn admitted(&mut self, seen: &Seen<'_>) {
        self.genuine(seen);
        self.in_time_and_scope(seen);
        self.within_the_cap(seen);
        let running = self.rights.running.entry((seen.node, seen.from)).or_default();
        *running += 1;
        let running = *running;
        self.within_the_grant(seen, running);
        self.hold(running <= seen.per_peer_max, || {
            format!("{running} requests of one peer at node {}", seen.node)
        });
    }

    fn genuine(&mut self, seen: &Seen<'_>) {
        let Request { body, delegation, salt, infer, .. } = seen.request;
        let signed = self.rights.requests_signed.contains(&fingerprint(&encode(body)))
            && self.rights.delegations_signed.contains(&fingerprint(&encode(delegation)))
            && body.delegation_digest == delegation.digest()
            && body.infer_digest == infer.digest(salt);
        self.hold(signed, || format!("node {} admitted what nobody signed", seen.node));
        self.hold(body.audience == seen.me, || {
            format!("node {} admitted a request to another peer", seen.node)
        });
        let network = &body.network == seen.network && &delegation.body.network == seen.network;
        self.hold(network, || format!("node {} admitted a request for another network", seen.node));
    }

    fn in_time_and_scope(&mut self, seen: &Seen<'_>) {
        let Request { body, delegation, infer, .. } = seen.request;
        let delegation = &delegation.body;
        let (now, sent) = (seen.now.0, body.sent_at.0);
        self.hold(now.abs_diff(sent) <= CLOCK_SKEW_MS_MAX && sent >= seen.booted_at.0, || {
            format!(
                "node {} admitted at {now} a request of {sent}, started {}",
                seen.node, seen.booted_at.0
            )
        });
        let counts = now < delegation.expires_at.0
            && delegation.issued_at.0 <= now + CLOCK_SKEW_MS_MAX
            && delegation.peer_scope.is_none_or(|peer| peer == seen.me)
            && delegation.model_scope.as_ref().is_none_or(|model| *model == infer.model);
        self.hold(counts, || {
            format!("node {} admitted under a delegation out of time or scope", seen.node)
        });
    }

    fn within_the_cap(&mut self, seen: &Seen<'_>) {
        let cost = seen.price.of(seen.usage_max).0;
        self.hold(cost <= seen.request.body.cost_max.0, || {
            format!("node {} admitted above the price allowed", seen.node)
        });
        if seen.price.is_free() {
            return;
        }
        let key = (seen.node, fingerprint(&encode(&seen.request.delegation)));
        let account = self
            .rights
            .accounts
            .entry(key)
            .or_insert_with(|| Account { life: seen.life, ..Account::default() });
        account.reserved += cost;
        let is_this_life = account.life == seen.life;
        let committed = account.reserved + account.spent;
        let cap = seen.request.delegation.body.spending_cap.0;
        self.hold(committed <= cap, || {
            format!("node {}: {committed} atoms committed under a cap of {cap}", seen.node)
        });
        self.hold(is_this_life, || format!("node {} forgot spending when it restarted", seen.node));
    }

    /// The work of an admitted request begins.
    pub(crate) fn started(&mut self, node: NodeId, request: &Request) {
        let key = (node, request.delegation.body.session, request.body.nonce);
        let is_first = self.rights.executed.insert(key);
        self.hold(is_first, || format!("node {node} executed one request twice"));
    }

    /// An admitted request is over; `cost` is what the gate said it cost.
    pub(crate) fn settled(&mut self, seen: &Seen<'_>, usage: Usage, cost: Atoms) {
        let reserved = seen.price.of(seen.usage_max);
        let owed = seen.price.of(usage).min(reserved);
        self.hold(cost == owed, || format!("node {} took {cost} where {owed} are owed", seen.node));
        if let Some(running) = self.rights.running.get_mut(&(seen.node, seen.from)) {
            *running -= 1;
        }
        self.used_of_the_grant(seen, usage);
        let key = (seen.node, fingerprint(&encode(&seen.request.delegation)));
        if let Some(account) = self.rights.accounts.get_mut(&key) {
            account.reserved -= reserved.0;
            account.spent += owed.0;
        }
    }

    /// What the gate of a node says it has running, against the plain count.
    pub(crate) fn gate_counts(&mut self, node: NodeId, running: u32) {
        let mine = (node, PublicKey([0; 32]))..=(node, PublicKey([255; 32]));
        let counted: u32 = self.rights.running.range(mine).map(|(_, n)| n).sum();
        self.hold(running == counted, || {
            format!("the gate of node {node} counts {running} running, there are {counted}")
        });
    }
}
