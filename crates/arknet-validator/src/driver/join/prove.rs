//! Whether the header of a snapshot is the chain's: a light client is led there by certificates.

use arknet_chain::{Hash, LightBlock, LightClient, LightError};
use arknet_consensus::Peer;
use arknet_types::Timestamp;

use super::Offer;
use crate::limits::SNAPSHOT_ANSWER_MS_MAX;

/// Headers in between that one proof may need: validators change by thirds at most so often.
const STEPS_MAX: usize = 64;

pub(super) struct Proving {
    pub(super) offer: Offer,
    /// Who is asked.
    pub(super) from: Peer,
    pub(super) until: Timestamp,
    client: LightClient,
    trusted: Option<(u64, Hash)>,
    /// Headers that the client is to take, the next one last.
    steps: Vec<LightBlock>,
    /// The height that was asked for.
    asked: Option<u64>,
    /// Whoever was asked does not have it: it may have forgotten it.
    is_lacking: bool,
}

/// What comes next.
pub(super) enum Step {
    /// To ask for the header of this height.
    Ask(u64),
    /// The snapshot's header is the chain's.
    Proved(Box<LightClient>),
    /// What is known, and what others still have, does not prove it; nobody is to blame.
    Unproved,
    /// It is not the chain's.
    Forged,
}

impl Proving {
    pub(super) fn begin(
        offer: Offer,
        client: LightClient,
        trusted: Option<(u64, Hash)>,
        now: Timestamp,
    ) -> Self {
        let from = *offer.peers.first().expect("somebody offers it");
        let steps = vec![offer.manifest.block.clone()];
        let until = now.plus_ms(SNAPSHOT_ANSWER_MS_MAX);
        let trusted = trusted.filter(|(height, _)| *height > client.height());
        Self { offer, from, until, client, trusted, steps, asked: None, is_lacking: false }
    }

    /// Takes what was asked for; false where nothing was.
    pub(super) fn take(&mut self, light: Option<LightBlock>, now: Timestamp) -> bool {
        let Some(asked) = self.asked.take() else { return false };
        match light.filter(|light| light.header.height == asked) {
            Some(light) => self.steps.push(light),
            None => self.is_lacking = true,
        }
        self.until = now.plus_ms(SNAPSHOT_ANSWER_MS_MAX);
        true
    }

    pub(super) fn step(&mut self, now: Timestamp) -> Step {
        if self.is_lacking || self.steps.len() > STEPS_MAX {
            return Step::Unproved;
        }
        if let Some((height, id)) = self.trusted {
            let found = self.steps.iter().rfind(|light| light.header.height == height);
            let Some(found) = found else {
                self.asked = Some(height);
                return Step::Ask(height);
            };
            let client = LightClient::from_trusted(&found.header, found.next_validators.clone());
            match client {
                Some(client) if client.id() == id => self.client = client,
                _ => return Step::Forged,
            }
            self.trusted = None;
            let known = self.client.height();
            self.steps.retain(|light| light.header.height > known);
        }
        while let Some(next) = self.steps.last() {
            let height = next.header.height;
            match self.client.advance(next.clone(), now) {
                Ok(()) => drop(self.steps.pop()),
                Err(LightError::Old | LightError::Future) => return Step::Unproved,
                Err(LightError::Validators) => {
                    // Halfway there more of them are known.
                    let middle = self.client.height().midpoint(height);
                    if middle <= self.client.height() {
                        return Step::Forged;
                    }
                    self.asked = Some(middle);
                    return Step::Ask(middle);
                }
                Err(_) => return Step::Forged,
            }
        }
        Step::Proved(Box::new(self.client.clone()))
    }
}
