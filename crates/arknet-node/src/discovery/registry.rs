//! The registry, from a node: enters it, leaves it, and tells the peer book who else is there.

use std::{sync::Arc, time::Duration};

use arknet_mesh::Mesh;
use arknet_protocol::{ENTRY_LIFETIME_MS, RegistryRounds, RegistryWork, Sighting, Source};
use arknet_registry::{ClientError, RegistryClient};
use arknet_types::{
    Endpoint, EntryBody, KeyPair, ModelName, NodeId, PublicKey, Reach, RegistryEntry,
    RegistryWithdrawal, WithdrawalBody, limits::MODELS_PER_OFFER_MAX,
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Discovery;
use crate::serving::Serving;

/// Entries that are read at once. Each time they begin elsewhere.
const ENTRIES_MAX: usize = 500;
/// How long leaving may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// How long the word that one leaves counts.
const WITHDRAWAL_MS: u64 = 60_000;

/// Speaks to one registry.
pub(crate) struct RegistryDriver {
    pub(crate) client: Arc<RegistryClient>,
    pub(crate) key: KeyPair,
    pub(crate) node_id: NodeId,
    /// Where the node says it is; what the mesh knows when none.
    pub(crate) endpoint: Option<Endpoint>,
    /// Whether the node is entered, or only reads.
    pub(crate) enters: bool,
    pub(crate) mesh: Mesh,
    pub(crate) serving: Serving,
    pub(crate) discovery: Discovery,
}

/// What a node tells of itself.
#[derive(Clone, Eq, PartialEq)]
struct Facts {
    endpoint: Endpoint,
    models: Vec<ModelName>,
}

impl RegistryDriver {
    /// Works until told to stop, then takes the node out of the registry.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut rounds = RegistryRounds::new(arknet_sdk::now(), self.enters);
        let mut addresses = self.mesh.addresses_changed();
        let mut models = self.serving.changed();
        let mut told: Option<Facts> = None;
        let (mut sequence, mut is_entering) = (0, false);
        loop {
            let now = arknet_sdk::now();
            let facts = self.facts();
            if told.is_some() && facts != told {
                rounds.changed(now);
            }
            let work = match rounds.due(now, facts.is_some()) {
                Ok(work) => work,
                Err(until) => {
                    let pause = Duration::from_millis(until.since_ms(now));
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(pause) => {}
                        Ok(()) = addresses.changed() => {}
                        Ok(()) = models.changed() => {}
                    }
                    continue;
                }
            };
            is_entering = work == RegistryWork::Enter;
            let done = tokio::select! {
                () = stop.cancelled() => break,
                done = self.work(work, &mut told, &mut sequence) => done,
            };
            is_entering = false;
            let now = arknet_sdk::now();
            match done {
                Ok(()) => rounds.succeeded(now, work),
                Err(again) => {
                    let again_ms = again.map(|again| again.as_millis());
                    let again_ms = again_ms.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
                    rounds.failed(now, work, again_ms, salt());
                }
            }
        }
        if is_entering || rounds.is_entered(arknet_sdk::now()) {
            self.leave(sequence).await;
        }
    }

    /// Does one piece of work. Where it fails, says when the registry wants to be asked again.
    async fn work(
        &self,
        work: RegistryWork,
        told: &mut Option<Facts>,
        sequence: &mut u64,
    ) -> Result<(), Option<Duration>> {
        let result = match work {
            RegistryWork::Enter => {
                let Some(facts) = self.facts() else { return Err(None) };
                *sequence = arknet_sdk::now().0.max(*sequence + 1);
                *told = Some(facts.clone());
                self.enter(facts, *sequence).await
            }
            RegistryWork::Read => self.read().await,
        };
        result.map_err(|error| {
            tracing::warn!(%error, ?work, "the registry was asked in vain");
            match error {
                ClientError::Refused { again, .. } => again,
                _ => None,
            }
        })
    }

    async fn enter(&self, facts: Facts, sequence: u64) -> Result<(), ClientError> {
        let now = arknet_sdk::now();
        let entry = RegistryEntry::sign(
            EntryBody {
                network: self.client.network().clone(),
                registry: self.client.name().clone(),
                public_key: self.key.public(),
                node_id: self.node_id.clone(),
                endpoint: facts.endpoint,
                models: facts.models,
                sequence,
                issued_at: now,
                expires_at: now.plus_ms(ENTRY_LIFETIME_MS),
            },
            &self.key,
        );
        self.ask(move |client| client.register(&entry)).await?;
        tracing::info!(registry = %self.client.name(), "registered");
        Ok(())
    }

    async fn read(&self) -> Result<(), ClientError> {
        let now = arknet_sdk::now();
        // Anywhere, so that nobody who enters many keys stands before all others.
        let mut start = [0; 32];
        let start = getrandom::fill(&mut start).ok().map(|()| PublicKey(start));
        let listing = self.ask(move |client| client.list(None, start, ENTRIES_MAX, now)).await?;
        tracing::debug!(entries = listing.entries.len(), refused = listing.refused, "read");
        for entry in listing.entries {
            let body = entry.body;
            self.discovery.saw(Sighting {
                source: Source::Registry,
                peer: body.public_key,
                node_id: Some(body.node_id),
                addresses: vec![body.endpoint.multiaddr()],
                offer: None,
                version: None,
                at: now,
            });
        }
        Ok(())
    }

    async fn leave(&self, sequence: u64) {
        let now = arknet_sdk::now();
        let body = WithdrawalBody {
            network: self.client.network().clone(),
            registry: self.client.name().clone(),
            public_key: self.key.public(),
            sequence: now.0.max(sequence + 1),
            issued_at: now,
            expires_at: now.plus_ms(WITHDRAWAL_MS),
        };
        let withdrawal = RegistryWithdrawal::sign(body, &self.key);
        let left = timeout(LEAVE_MAX, self.ask(move |client| client.withdraw(&withdrawal)));
        match left.await {
            Ok(Ok(())) => tracing::info!(registry = %self.client.name(), "unregistered"),
            Ok(Err(error)) => tracing::warn!(%error, "the entry stays until it expires"),
            Err(_) => tracing::warn!("the registry is silent; the entry stays until it expires"),
        }
    }

    /// What would be told now; nothing without an address that others can use.
    fn facts(&self) -> Option<Facts> {
        let served = self.serving.models();
        let shared = served.values().filter(|served| served.is_shared);
        let mut models: Vec<_> = shared.map(|served| served.info.name.clone()).collect();
        models.sort();
        models.dedup();
        models.truncate(MODELS_PER_OFFER_MAX);
        let known = || {
            let addresses = self.mesh.listen_addresses();
            // On a registry of this machine all nodes are of this machine.
            let is_here =
                matches!(self.client.name().as_str(), "127.0.0.1" | "[::1]" | "localhost");
            let least = if is_here { Reach::Machine } else { Reach::Network };
            best(addresses.iter().map(ToString::to_string), least)
        };
        let endpoint = self.endpoint.clone().or_else(known)?;
        Some(Facts { endpoint, models })
    }

    /// Asks the registry on a thread of its own: one that is silent must not hold up a stop.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&RegistryClient) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let client = Arc::clone(&self.client);
        let (answered, answer) = oneshot::channel();
        let thread = std::thread::Builder::new().name("registry".into());
        let asked = thread.spawn(move || {
            // Nobody waits for it any more when the node stops.
            let _ = answered.send(question(&client));
        });
        asked.map_err(ClientError::Thread)?;
        let lost = || Err(ClientError::Thread(std::io::Error::other("no answer")));
        answer.await.unwrap_or_else(|_| lost())
    }
}

/// Of these addresses the one that most can use, if it can be used from `least`.
fn best(addresses: impl Iterator<Item = String>, least: Reach) -> Option<Endpoint> {
    let endpoints = addresses.filter_map(|address| Endpoint::new(address).ok());
    endpoints.filter(|one| one.reach() >= least).max_by_key(Endpoint::reach)
}

fn salt() -> u64 {
    let mut bytes = [0; 8];
    // Without entropy nodes come back in step, which is a pity and no more.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_most_can_use_is_told() {
        let of = |addresses: &[&str], least| {
            let addresses = addresses.iter().map(|address| (*address).to_owned());
            best(addresses, least).map(|endpoint| endpoint.to_string())
        };
        let (here, near, far) =
            ("/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/1");
        assert_eq!(of(&[here, near, far], Reach::Network).as_deref(), Some(far));
        assert_eq!(of(&[near, here], Reach::Network).as_deref(), Some(near));
        assert_eq!(of(&[here], Reach::Network), None);
        assert_eq!(of(&[here], Reach::Machine).as_deref(), Some(here));
        assert_eq!(of(&["/ip4/10.0.0.1/tcp/1/ws"], Reach::Machine), None);
    }
}
