//! Transactions, from what is wanted to what became of it.

use std::{path::PathBuf, time::Duration};

use arknet_chain::{
    Account, Action, ChannelOp, EscrowOp, Genesis, Hash, Key, Meta, Param, Params, Purpose,
    SignedTransaction, StakeOp, TransactionBody,
    limits::MEMPOOL_PER_ACCOUNT_MAX,
    rpc::{ErrorCode, OutcomeAnswer, TransactionState},
};
use arknet_types::{Address, Atoms, NetworkId, Timestamp, encode};
use borsh::BorshDeserialize;
use tokio::time::Instant;

use super::{
    At, ChainError, ChainRpc, LightChain,
    limits::{LOOK_TIME, SUBMIT_TRIES_MAX},
};
use crate::wallet::Wallet;

/// How the ledger is asked.
#[derive(Clone, Debug, Default)]
pub struct ChainOptions {
    /// The RPC; the one of a node on this machine where none is given.
    pub url: Option<String>,
    /// What the chain began with: the document that everything is checked by.
    pub genesis: Option<Genesis>,
    /// Where what is known is kept.
    pub file: Option<PathBuf>,
    /// Believe whatever the RPC says. For an RPC of one's own only.
    pub danger_trust_rpc: bool,
}

/// What a transaction may cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fees {
    /// What the proposer gets for one gas, to be sooner than others.
    pub tip: Atoms,
    /// Highest price of one gas, tip included; about twice the present one where none is given.
    pub max: Option<Atoms>,
}

/// A signed transaction that nobody has yet.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// It.
    pub transaction: SignedTransaction,
    /// Its name.
    pub id: Hash,
    /// What it moves or locks.
    pub moves: Atoms,
    /// The least fee, at the present price.
    pub fee: Atoms,
    /// The highest fee.
    pub fee_max: Atoms,
    /// What the account has.
    pub balance: Atoms,
}

/// A transaction that is in a block, for ever.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its name.
    pub id: Hash,
    /// The block.
    pub height: u64,
    /// What became of it, by proof unless the RPC is believed.
    pub outcome: OutcomeAnswer,
}

/// The ledger as a wallet sees it.
#[derive(Debug)]
pub struct Chain {
    rpc: ChainRpc,
    network: NetworkId,
    light: Option<LightChain>,
}

impl Chain {
    /// Ready to ask. Without a genesis nothing can be checked, which must be said to be wanted.
    pub async fn open(options: ChainOptions) -> Result<Self, ChainError> {
        let rpc = ChainRpc::new(&options.url.unwrap_or_else(ChainRpc::local_url))?;
        if options.danger_trust_rpc {
            let network = rpc.status().await?.network;
            return Ok(Self { rpc, network, light: None });
        }
        let genesis = options.genesis.ok_or(ChainError::NoGenesis)?;
        let light = LightChain::new(rpc.clone(), &genesis, options.file)?;
        Ok(Self { rpc, network: genesis.network, light: Some(light) })
    }

    /// The chain's name.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        &self.network
    }

    /// The RPC, for what needs no proof.
    #[must_use]
    pub const fn rpc(&self) -> &ChainRpc {
        &self.rpc
    }

    /// What checks it; none where the RPC is believed.
    pub const fn light(&mut self) -> Option<&mut LightChain> {
        self.light.as_mut()
    }

    /// A value of the state, checked unless the RPC is believed.
    pub async fn value<T: BorshDeserialize>(&mut self, key: &Key) -> Result<At<T>, ChainError> {
        if let Some(light) = &mut self.light {
            return light.value(key).await;
        }
        let answer = self.rpc.proof(key).await?;
        let value = answer.value.map(|value| arknet_types::decode(&value.0)).transpose();
        let value = value.map_err(|_| ChainError::Unreadable)?;
        Ok(At { height: answer.height, time: Timestamp::default(), value })
    }

    /// An account. One that nobody has used yet has nothing.
    pub async fn account(&mut self, address: Address) -> Result<At<Account>, ChainError> {
        let found = self.value(&Key::Account(address)).await?;
        Ok(At { value: Some(found.value.unwrap_or_default()), ..found })
    }

    /// The numbers of the whole ledger.
    pub async fn meta(&mut self) -> Result<Meta, ChainError> {
        self.value(&Key::Meta).await?.value.ok_or(ChainError::Unreadable)
    }

    /// The parameters.
    pub async fn params(&mut self) -> Result<Params, ChainError> {
        self.value(&Key::Params).await?.value.ok_or(ChainError::Unreadable)
    }

    /// Makes the transaction by which `wallet` does `action` next, and signs it. Refuses what the
    /// account cannot pay for: it would cost its fee and do nothing.
    pub async fn prepare(
        &mut self,
        wallet: &Wallet,
        action: Action,
        fees: Fees,
    ) -> Result<Prepared, ChainError> {
        let account = self.account(wallet.address()).await?.value.unwrap_or_default();
        let base_fee = self.meta().await?.base_fee;
        let moves = self.moved(&action).await?;
        let gas = action.gas();
        let prices = prices(base_fee, fees, gas, account.balance, moves)?;
        let body = TransactionBody {
            network: self.network.clone(),
            signer: wallet.public(),
            nonce: self.next_nonce(&wallet.address(), account.nonce).await?,
            gas_limit: gas,
            fee_max: prices.max,
            tip: fees.tip,
            action,
        };
        let transaction = SignedTransaction::sign(body, wallet.key());
        let total = |price: Atoms| Atoms(price.0.saturating_mul(gas));
        Ok(Prepared {
            id: Hash::of_bytes(Purpose::TRANSACTION_ID, &encode(&transaction)),
            transaction,
            moves,
            fee: total(prices.least),
            fee_max: total(prices.max),
            balance: account.balance,
        })
    }

    /// Lets a transaction wait for a block. When this returns, no crash of that node loses it. Where
    /// no answer comes it is sent again, which does no harm; without one it may wait nevertheless.
    pub async fn submit(&self, transaction: &SignedTransaction) -> Result<Hash, ChainError> {
        let mut attempt = 1;
        loop {
            match self.rpc.submit(transaction).await {
                Err(ChainError::Unreachable { .. }) if attempt < SUBMIT_TRIES_MAX => attempt += 1,
                other => return other.map(|answer| answer.id),
            }
            tokio::time::sleep(LOOK_TIME).await;
        }
    }

    /// Waits until a transaction is in a block, and checks that it is and what became of it.
    pub async fn wait(&mut self, id: Hash, patience: Duration) -> Result<Settled, ChainError> {
        let began = Instant::now();
        loop {
            match self.rpc.transaction(&id).await {
                Ok(answer) if answer.state == TransactionState::Committed => {
                    let answer = match &mut self.light {
                        Some(light) => light.check_transaction(&id, answer).await?,
                        None => answer,
                    };
                    let (Some(height), Some(outcome)) = (answer.height, answer.outcome) else {
                        let (path, words) = (format!("/transactions/{id}"), "no outcome".into());
                        return Err(ChainError::Malformed { path, words });
                    };
                    return Ok(Settled { id, height, outcome });
                }
                Ok(_) | Err(ChainError::Unreachable { .. }) => {}
                // A node that starts again may not have read all that waited.
                Err(ChainError::Refused(answer)) if answer.is(ErrorCode::UnknownTransaction) => {}
                Err(error) => return Err(error),
            }
            if began.elapsed() >= patience {
                return Err(ChainError::NotCommitted { id, seconds: patience.as_secs() });
            }
            tokio::time::sleep(LOOK_TIME).await;
        }
    }

    /// The nonce after those that wait, which only the RPC knows; it must fit the proved one.
    async fn next_nonce(&self, address: &Address, proved: u64) -> Result<u64, ChainError> {
        let found = self.rpc.account(address).await?.next_nonce;
        let ahead = found.checked_sub(proved).and_then(|ahead| usize::try_from(ahead).ok());
        match ahead {
            Some(ahead) if ahead <= MEMPOOL_PER_ACCOUNT_MAX => Ok(found),
            _ => Err(ChainError::Nonce { proved, found }),
        }
    }

    /// What an action takes from the account beside its fee.
    async fn moved(&mut self, action: &Action) -> Result<Atoms, ChainError> {
        Ok(match action {
            Action::Transfer { amount, .. }
            | Action::Burn { amount }
            | Action::Stake(StakeOp::Deposit { amount, .. }) => *amount,
            Action::Escrow(op) => match **op {
                EscrowOp::Lock { amount, .. } => amount,
                _ => Atoms::ZERO,
            },
            Action::Channel(op) => match **op {
                ChannelOp::Open { deposit, .. } => deposit,
                ChannelOp::TopUp { amount, .. } => amount,
                _ => Atoms::ZERO,
            },
            Action::RegisterModel(_) => self.params().await?.atoms(Param::ModelDeposit),
            Action::Propose(_) => self.params().await?.atoms(Param::ProposalDeposit),
            _ => Atoms::ZERO,
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Prices {
    /// What one gas costs now, tip included.
    least: Atoms,
    /// What is offered at most.
    max: Atoms,
}

/// What to offer for one gas: enough for some full blocks in a row, each of which makes it an eighth
/// dearer, but not more than the account has left.
fn prices(
    base_fee: Atoms,
    fees: Fees,
    gas: u64,
    balance: Atoms,
    moves: Atoms,
) -> Result<Prices, ChainError> {
    let least = Atoms(base_fee.0.saturating_add(fees.tip.0));
    let needed = Atoms(least.0.saturating_mul(gas).saturating_add(moves.0));
    let rest = balance.checked_sub(moves).unwrap_or_default();
    let affordable = Atoms(rest.0.checked_div(gas).unwrap_or(u64::MAX));
    if balance < needed {
        return Err(ChainError::Balance { balance, needed });
    }
    // One more, because nothing doubles from zero.
    let usual = Atoms(least.0.saturating_add(base_fee.0).saturating_add(1));
    Ok(Prices { least, max: fees.max.unwrap_or_else(|| usual.min(affordable)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(base_fee: u64, tip: u64, balance: u64, moves: u64) -> Result<u64, (u64, u64)> {
        let fees = Fees { tip: Atoms(tip), max: None };
        let prices = prices(Atoms(base_fee), fees, 1_000, Atoms(balance), Atoms(moves));
        prices.map(|prices| prices.max.0).map_err(|error| match error {
            ChainError::Balance { balance, needed } => (balance.0, needed.0),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn twice_the_price_is_offered_where_the_balance_allows_it() {
        assert_eq!(offered(10, 3, 1_000_000, 0), Ok(24));
        assert_eq!(offered(10, 3, 1_015_000, 1_000_000), Ok(15), "what is left after the payment");
        assert_eq!(offered(10, 3, 1_013_000, 1_000_000), Ok(13), "the last atom");
        assert_eq!(offered(10, 3, 1_012_999, 1_000_000), Err((1_012_999, 1_013_000)));
    }

    #[test]
    fn who_has_nothing_can_act_while_nothing_is_asked_for() {
        assert_eq!(offered(0, 0, 0, 0), Ok(0));
        assert_eq!(offered(0, 0, 5_000, 0), Ok(1), "a price that rises from zero is met");
        assert_eq!(offered(0, 0, 0, 7), Err((0, 7)));
        assert_eq!(offered(1, 0, 0, 0), Err((0, 1_000)));
    }
}
