//! What nodes sign.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arknet_types::{
    Endpoint, EntryBody, KeyPair, ModelName, NetworkId, NodeId, RegistryEntry, RegistryName,
    RegistryWithdrawal, Timestamp, WithdrawalBody,
};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// A clock that a test sets.
#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW.0)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn pass_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("test").unwrap()
}

pub(crate) fn name(text: &str) -> RegistryName {
    RegistryName::new(text).unwrap()
}

pub(crate) fn model(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}

pub(crate) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// What the key says, an hour long.
pub(crate) fn body(key: &KeyPair, sequence: u64, models: &[&str]) -> EntryBody {
    EntryBody {
        network: network(),
        registry: name("127.0.0.1"),
        public_key: key.public(),
        node_id: NodeId::new("ark-test").unwrap(),
        endpoint: Endpoint::new("192.0.2.7:26656").unwrap(),
        models: models.iter().map(|name| model(name)).collect(),
        sequence,
        issued_at: NOW,
        expires_at: NOW.plus_ms(HOUR_MS),
    }
}

pub(crate) fn entry(key: &KeyPair, sequence: u64, models: &[&str]) -> RegistryEntry {
    RegistryEntry::sign(body(key, sequence, models), key)
}

pub(crate) fn withdrawal(key: &KeyPair, sequence: u64) -> RegistryWithdrawal {
    let body = WithdrawalBody {
        network: network(),
        registry: name("127.0.0.1"),
        public_key: key.public(),
        sequence,
        issued_at: NOW,
        expires_at: NOW.plus_ms(60_000),
    };
    RegistryWithdrawal::sign(body, key)
}
