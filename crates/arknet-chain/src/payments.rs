//! Channels and escrows on the ledger.

use arknet_types::{Address, Atoms, Domain, NetworkId, PublicKey, Signature, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Channel, CloseAgreement, Failure, Hash, Key, Param, Payment, StateView, Voucher, VoucherError,
    hash::Purpose,
    ledger::Ledger,
    records::{Due, Settled, Spending, share},
};

/// What an account does about a channel.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum ChannelOp {
    /// Locks money for somebody. The channel's name comes from the transaction's nonce.
    Open {
        /// Who is to be paid.
        payee: Address,
        /// The peer that works for it.
        payee_peer: Option<PublicKey>,
        /// How much.
        deposit: Atoms,
        /// Time in which the payee may answer when the payer closes alone.
        challenge_ms: u64,
    },
    /// Locks more.
    TopUp {
        /// The channel.
        channel: Hash,
        /// How much.
        amount: Atoms,
    },
    /// Pays the payee, who sends this, what the voucher is worth.
    Settle {
        /// The highest voucher.
        voucher: Voucher,
        /// Whether that was all: the rest returns to the payer at once.
        close: bool,
    },
    /// Closes at once as both want it.
    CloseTogether {
        /// What was agreed.
        agreement: CloseAgreement,
        /// The wallet of the other side.
        key: PublicKey,
        /// Its signature in [`Domain::CHANNEL_CLOSE`].
        signature: Signature,
    },
    /// Begins to close as the payer alone wants it.
    StartClose {
        /// The channel.
        channel: Hash,
    },
    /// Returns the rest to the payer, when the payee's time to answer is over.
    Finish {
        /// The channel.
        channel: Hash,
    },
}

/// What an account does about money for one job.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum EscrowOp {
    /// Locks money for a job.
    Lock {
        /// Who is to do it.
        payee: Address,
        /// How much.
        amount: Atoms,
        /// The job, which the payer names as it likes, once.
        job: Hash,
        /// When it is the payer's again.
        timeout: Timestamp,
    },
    /// Pays for it, and returns the rest.
    Release {
        /// The job.
        job: Hash,
        /// What it cost.
        amount: Atoms,
    },
    /// Fetches the pay by a voucher, where the payer does not release it.
    Claim {
        /// Who locked it.
        payer: Address,
        /// The job.
        job: Hash,
        /// What it cost, by the payer's signature.
        voucher: Voucher,
    },
    /// Returns all of it after the timeout.
    Refund {
        /// The job.
        job: Hash,
    },
}

/// Money for one job.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Escrow {
    /// Who is to do it.
    pub payee: Address,
    /// How much.
    pub amount: Atoms,
    /// When it is the payer's again.
    pub timeout: Timestamp,
}

impl Escrow {
    /// The name that a voucher for it bears.
    #[must_use]
    pub fn id(payer: &Address, job: &Hash) -> Hash {
        Hash::of(Purpose::ESCROW, &(payer, job))
    }
}

impl Channel {
    /// The name of the channel that a transaction opens.
    #[must_use]
    pub fn id(payer: &Address, nonce: u64) -> Hash {
        Hash::of(Purpose::CHANNEL, &(payer, nonce))
    }
}

impl From<VoucherError> for Failure {
    fn from(error: VoucherError) -> Self {
        match error {
            VoucherError::Cap => Self::SessionCap,
            VoucherError::Delegation(_) => Self::SessionTime,
            VoucherError::Overdrawn => Self::Overdrawn,
            VoucherError::Scope => Self::SessionScope,
            VoucherError::Signature => Self::VoucherSignature,
            VoucherError::Stale => Self::VoucherStale,
        }
    }
}

pub(crate) fn channel<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    network: &NetworkId,
    (signer, nonce): (&Address, u64),
    op: &ChannelOp,
) -> Result<(), Failure> {
    match op {
        ChannelOp::Open { payee, payee_peer, deposit, challenge_ms } => {
            let channel = Channel {
                payer: *signer,
                payee: *payee,
                payee_peer: *payee_peer,
                deposit: *deposit,
                settled: Atoms::ZERO,
                challenge_ms: *challenge_ms,
                closes_at: None,
            };
            open(ledger, &Channel::id(signer, nonce), &channel)?;
        }
        ChannelOp::TopUp { channel: id, amount } => {
            let mut channel = still_open(ledger, id, signer)?;
            lock(ledger, signer, *amount)?;
            channel.deposit = channel.deposit.checked_add(*amount).ok_or(Failure::Overflow)?;
            ledger.write(&Key::Channel(*id), &channel);
        }
        ChannelOp::Settle { voucher, close } => {
            let id = voucher.body.channel;
            let mut channel = load(ledger, &id)?;
            if channel.payee != *signer {
                return Err(Failure::NotYours);
            }
            let payment = accept(ledger, network, &id, &channel, voucher)?;
            channel.settled = voucher.body.total;
            pay(ledger, &channel.payer, &channel.payee, payment.amount)?;
            if *close {
                end(ledger, &id, &channel)?;
            } else {
                ledger.write(&Key::Channel(id), &channel);
            }
        }
        ChannelOp::CloseTogether { agreement, key, signature } => {
            close_together(ledger, network, signer, agreement, (*key, signature))?;
        }
        ChannelOp::StartClose { channel: id } => {
            let mut channel = still_open(ledger, id, signer)?;
            channel.closes_at = Some(ledger.now().plus_ms(channel.challenge_ms));
            ledger.write(&Key::Channel(*id), &channel);
        }
        ChannelOp::Finish { channel: id } => {
            let channel = load(ledger, id)?;
            if channel.payer != *signer && channel.payee != *signer {
                return Err(Failure::NotYours);
            }
            if channel.closes_at.is_none_or(|at| ledger.now() < at) {
                return Err(Failure::TooEarly);
            }
            end(ledger, id, &channel)?;
        }
    }
    Ok(())
}

fn open<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    id: &Hash,
    channel: &Channel,
) -> Result<(), Failure> {
    let range = ledger.param(Param::ChallengeMsMin)..=ledger.param(Param::ChallengeMsMax);
    if !range.contains(&channel.challenge_ms) {
        return Err(Failure::Time);
    }
    if channel.payee == channel.payer {
        return Err(Failure::Same);
    }
    lock(ledger, &channel.payer, channel.deposit)?;
    ledger.write(&Key::Channel(*id), channel);
    Ok(())
}

fn close_together<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    network: &NetworkId,
    signer: &Address,
    agreement: &CloseAgreement,
    (key, signature): (PublicKey, &Signature),
) -> Result<(), Failure> {
    let mut channel = load(ledger, &agreement.channel)?;
    let other = match *signer {
        one if one == channel.payer => channel.payee,
        one if one == channel.payee => channel.payer,
        _ => return Err(Failure::NotYours),
    };
    let is_signed = agreement.network == *network
        && key.address() == other
        && key.verifies(Domain::CHANNEL_CLOSE, agreement, signature);
    if !is_signed {
        return Err(Failure::VoucherSignature);
    }
    if agreement.total > channel.deposit {
        return Err(Failure::Overdrawn);
    }
    let amount = agreement.total.checked_sub(channel.settled).ok_or(Failure::VoucherStale)?;
    channel.settled = agreement.total;
    pay(ledger, &channel.payer, &channel.payee, amount)?;
    end(ledger, &agreement.channel, &channel)
}

pub(crate) fn escrow<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    network: &NetworkId,
    signer: &Address,
    op: &EscrowOp,
) -> Result<(), Failure> {
    match op {
        EscrowOp::Lock { payee, amount, job, timeout } => {
            let key = Key::Escrow(*signer, *job);
            if ledger.read::<Escrow>(&key).is_some() {
                return Err(Failure::Exists);
            }
            let last = ledger.now().plus_ms(ledger.param(Param::EscrowMsMax));
            if *timeout <= ledger.now() || *timeout > last {
                return Err(Failure::Time);
            }
            if payee == signer {
                return Err(Failure::Same);
            }
            lock(ledger, signer, *amount)?;
            let escrow = Escrow { payee: *payee, amount: *amount, timeout: *timeout };
            ledger.write(&key, &escrow);
        }
        EscrowOp::Release { job, amount } => {
            let escrow = take(ledger, signer, job)?;
            divide(ledger, signer, &escrow, *amount)?;
        }
        EscrowOp::Claim { payer, job, voucher } => {
            let escrow = take(ledger, payer, job)?;
            if escrow.payee != *signer {
                return Err(Failure::NotYours);
            }
            let channel = Channel {
                payer: *payer,
                payee: escrow.payee,
                payee_peer: None,
                deposit: escrow.amount,
                settled: Atoms::ZERO,
                challenge_ms: 0,
                closes_at: None,
            };
            let payment = accept(ledger, network, &Escrow::id(payer, job), &channel, voucher)?;
            divide(ledger, payer, &escrow, payment.amount)?;
        }
        EscrowOp::Refund { job } => {
            let escrow = take(ledger, signer, job)?;
            if ledger.now() < escrow.timeout {
                return Err(Failure::TooEarly);
            }
            ledger.credit(signer, escrow.amount)?;
        }
    }
    Ok(())
}

fn take<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    payer: &Address,
    job: &Hash,
) -> Result<Escrow, Failure> {
    let key = Key::Escrow(*payer, *job);
    let escrow = ledger.read(&key).ok_or(Failure::UnknownEscrow)?;
    ledger.remove(&key);
    Ok(escrow)
}

/// Pays what a job cost, and returns the rest.
fn divide<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    payer: &Address,
    escrow: &Escrow,
    amount: Atoms,
) -> Result<(), Failure> {
    let rest = escrow.amount.checked_sub(amount).ok_or(Failure::Overdrawn)?;
    pay(ledger, payer, &escrow.payee, amount)?;
    ledger.credit(payer, rest)
}

fn load<V: StateView>(ledger: &Ledger<'_, V>, id: &Hash) -> Result<Channel, Failure> {
    ledger.read(&Key::Channel(*id)).ok_or(Failure::UnknownChannel)
}

/// The payer's own channel, if it is not closing.
fn still_open<V: StateView>(
    ledger: &Ledger<'_, V>,
    id: &Hash,
    payer: &Address,
) -> Result<Channel, Failure> {
    let channel = load(ledger, id)?;
    if channel.payer != *payer {
        return Err(Failure::NotYours);
    }
    if channel.closes_at.is_some() { Err(Failure::Closing) } else { Ok(channel) }
}

fn lock<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    payer: &Address,
    amount: Atoms,
) -> Result<(), Failure> {
    if amount == Atoms::ZERO {
        return Err(Failure::Zero);
    }
    ledger.debit(payer, amount)
}

/// Holds a voucher against the rules and remembers what its session has spent.
fn accept<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    network: &NetworkId,
    id: &Hash,
    channel: &Channel,
    voucher: &Voucher,
) -> Result<Payment, Failure> {
    let session = voucher.session().map(Key::Session);
    let known: Option<Spending> = session.and_then(|key| ledger.read(&key));
    let spent = known.map_or(Atoms::ZERO, |known| known.spent);
    let payment = channel.worth(network, id, voucher, spent, ledger.now())?;
    if let (Some(key), Some((digest, spent, until))) = (session, payment.session) {
        ledger.write(&key, &Spending { spent });
        if known.is_none() {
            // Later than that no voucher of the session counts, so nothing needs to be remembered.
            ledger.schedule(until, &Due::SessionEnd { session: digest });
        }
    }
    Ok(payment)
}

/// Gives money that was locked to who earned it, less what is burned of every payment.
fn pay<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    payer: &Address,
    payee: &Address,
    amount: Atoms,
) -> Result<(), Failure> {
    if amount == Atoms::ZERO {
        return Ok(());
    }
    let key = Key::Settled(*payer, *payee);
    let mut settled: Settled = ledger.read(&key).unwrap_or_default();
    settled.paid = settled.paid.checked_add(amount).ok_or(Failure::Overflow)?;
    ledger.write(&key, &settled);
    let burned = share(amount, ledger.param(Param::PaymentBurnPpm));
    ledger.burn(burned);
    ledger.credit(payee, amount.checked_sub(burned).ok_or(Failure::Overflow)?)
}

fn end<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    id: &Hash,
    channel: &Channel,
) -> Result<(), Failure> {
    ledger.credit(&channel.payer, channel.rest())?;
    ledger.remove(&Key::Channel(*id));
    Ok(())
}
