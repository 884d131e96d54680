use std::path::PathBuf;

use arknet_chain::{
    Genesis, Hash, Header, Key, LightBlock, LightClient, LightError, Proof, ValidatorSet,
    rpc::{BlockAnswer, TransactionAnswer},
};
use arknet_types::{NetworkId, Timestamp};
use borsh::BorshDeserialize;

use super::{
    ChainError, ChainRpc,
    limits::{BLOCKS_BACK_MAX, HEADERS_PER_WAY_MAX, LOOK_TIME, PROOF_TRIES_MAX},
    trusted::{self, Trusted},
};
use crate::clock;

/// A value of the state, or that there is none, and when that stood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct At<T> {
    /// The height after which it stands.
    pub height: u64,
    /// That block's time.
    pub time: Timestamp,
    /// The value; none where there is none.
    pub value: Option<T>,
}

/// Follows a chain by what its validators sign, and believes the RPC nothing else.
///
/// What is known is kept in a file where one is given. A proof shows what stood at a height; that
/// there is a later one can be hidden by whoever is asked, so look at [`LightChain::time`].
#[derive(Debug)]
pub struct LightChain {
    rpc: ChainRpc,
    client: LightClient,
    network: NetworkId,
    genesis: Hash,
    known: Option<Trusted>,
    file: Option<PathBuf>,
}

impl LightChain {
    /// Goes on from what `file` holds of this chain, or begins with its genesis.
    pub fn new(
        rpc: ChainRpc,
        genesis: &Genesis,
        file: Option<PathBuf>,
    ) -> Result<Self, ChainError> {
        let id = genesis.id();
        let known = file.as_deref().map(|file| trusted::load(file, &id)).transpose()?.flatten();
        let client = known
            .as_ref()
            .and_then(|Trusted { header, next }| LightClient::from_trusted(header, next.clone()));
        let client = match client {
            Some(client) => client,
            None => LightClient::from_genesis(genesis)?,
        };
        Ok(Self { rpc, client, network: genesis.network.clone(), genesis: id, known, file })
    }

    /// Takes the block that somebody trusted says is the chain's, instead of following to it: for
    /// who was away for longer than validators answer for what they signed.
    pub async fn trust(&mut self, height: u64, id: Hash) -> Result<(), ChainError> {
        let block = self.rpc.light(Some(height)).await?;
        let LightBlock { header, next_validators: next, .. } = block;
        let found = header.id();
        if header.height != height || found != id {
            return Err(ChainError::Trusted { height, expected: id, found });
        }
        if header.network != self.network {
            let (expected, found) = (self.network.clone(), header.network);
            return Err(ChainError::WrongChain { expected, found });
        }
        let client = LightClient::from_trusted(&header, next.clone());
        self.client = client.ok_or(ChainError::StaleValidators)?;
        self.known = Some(Trusted { header, next });
        self.save()
    }

    /// Takes the newest header there is. Returns its height.
    pub async fn follow(&mut self) -> Result<u64, ChainError> {
        let newest = self.rpc.light(None).await?.header.height;
        if newest < self.client.height() {
            let known = self.client.height();
            return Err(ChainError::Behind { known, found: newest });
        }
        self.reach(newest).await?;
        Ok(newest)
    }

    /// Takes the header of a height. Where too few of those who are known have signed it, one in
    /// between is taken first.
    pub async fn reach(&mut self, height: u64) -> Result<(), ChainError> {
        let (mut targets, mut asked) = (vec![height], 0);
        while let Some(target) = targets.last().copied() {
            let known = self.client.height();
            if known >= target {
                targets.pop();
                continue;
            }
            if asked == HEADERS_PER_WAY_MAX {
                return Err(ChainError::StaleValidators);
            }
            asked += 1;
            let block = self.rpc.light(Some(target)).await?;
            if block.header.height != target {
                return Err(ChainError::ForgedCertificate(LightError::Block));
            }
            let taken =
                Trusted { header: block.header.clone(), next: block.next_validators.clone() };
            match self.client.advance(block, clock::now()) {
                Ok(()) => self.known = Some(taken),
                Err(LightError::Validators) if target - known > 1 => {
                    targets.push(known + (target - known) / 2);
                }
                Err(error) => return Err(ChainError::of_header(error)),
            }
        }
        if asked > 0 { self.save() } else { Ok(()) }
    }

    /// The value of `key`, or that there is none, by proof.
    pub async fn value<T: BorshDeserialize>(&mut self, key: &Key) -> Result<At<T>, ChainError> {
        let mut found = 0;
        for attempt in 0..PROOF_TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(LOOK_TIME).await;
            }
            let answer = self.rpc.proof(key).await?;
            self.reach(answer.height).await?;
            found = answer.height;
            if found < self.client.height() {
                continue;
            }
            let proof: Proof =
                arknet_types::decode(&answer.proof.0).map_err(|_| ChainError::Unproved)?;
            let value = answer.value.map(|value| value.0);
            let is_there = value.is_some();
            let value = self.client.value(key, value.as_deref(), &proof);
            let value = value.map_err(|error| ChainError::of_value(error, is_there))?;
            return Ok(At { height: found, time: self.client.time(), value });
        }
        Err(ChainError::Behind { known: self.client.height(), found })
    }

    /// Checks all that is said of the transaction `id`, which is in a block: where it is, what it is
    /// and what became of it. What is for people is written anew from what is proved.
    pub async fn check_transaction(
        &mut self,
        id: &Hash,
        said: TransactionAnswer,
    ) -> Result<TransactionAnswer, ChainError> {
        let header = self.header(said.height.ok_or(ChainError::Unproved)?).await?;
        said.proved(id, &header).map_err(ChainError::of_outcome)
    }

    /// Checks that a block is the chain's at this height, with these transactions, of which became
    /// what is said.
    pub async fn check_block(
        &mut self,
        block: BlockAnswer,
        height: u64,
    ) -> Result<BlockAnswer, ChainError> {
        let header = self.header(height).await?;
        block.proved(&header).ok_or(ChainError::ForgedCertificate(LightError::Block))
    }

    /// The header of a height: a newer one is followed to, an older one is named by those after it.
    pub async fn header(&mut self, height: u64) -> Result<Header, ChainError> {
        self.reach(height).await?;
        let known = self.known.as_ref().ok_or(ChainError::NoBlock)?;
        let mut header = known.header.clone();
        if header.height.saturating_sub(height) > BLOCKS_BACK_MAX {
            return Err(ChainError::TooFarBack { known: header.height, height });
        }
        while header.height > height {
            let before = self.rpc.light(Some(header.height - 1)).await?.header;
            if before.id() != header.parent {
                return Err(ChainError::ForgedCertificate(LightError::Block));
            }
            header = before;
        }
        Ok(header)
    }

    /// The newest header that is known.
    #[must_use]
    pub fn newest(&self) -> Option<&Header> {
        self.known.as_ref().map(|known| &known.header)
    }

    /// The set that votes on the block after the newest that is known.
    #[must_use]
    pub fn next_validators(&self) -> Option<&ValidatorSet> {
        self.known.as_ref().map(|known| &known.next)
    }

    /// The height that is known.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.client.height()
    }

    /// The time of the newest block that is known.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.client.time()
    }

    /// The name of the chain's genesis.
    #[must_use]
    pub const fn genesis(&self) -> Hash {
        self.genesis
    }

    fn save(&self) -> Result<(), ChainError> {
        match (&self.file, &self.known) {
            (Some(file), Some(known)) => trusted::save(file, &self.genesis, known),
            _ => Ok(()),
        }
    }
}
