//! A second ledger, written as naively as the rules allow: plain maps, no tree, no layers, and a
//! copy of everything to fall back to. It says what the real one must come to.

use std::collections::BTreeMap;

use arknet_chain::{Action, Channel, ChannelOp, EscrowOp, Hash, Param, Params, Role, StakeOp};
use arknet_types::{Address, Atoms, PublicKey, Timestamp};

use crate::chain::ARK;

type Answer = Result<Option<u64>, ()>;
const INDEX: u128 = 1_000_000_000_000_000_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Person {
    pub(crate) money: u128,
    pub(crate) nonce: u64,
    withdrawals: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    key: PublicKey,
    pub(crate) staked: u128,
    /// Each one's shares, and the index up to which it has been paid.
    pub(crate) holders: BTreeMap<Address, (u128, u128)>,
    pub(crate) leaving: u128,
    leaving_shares: u128,
    pub(crate) rewards: u128,
    index: u128,
    weight: u128,
    retired: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Leaving {
    role: Role,
    from: Address,
    shares: u128,
    began: u64,
    free_at: u64,
    to: Option<Address>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) now: u64,
    began: u64,
    params: Params,
    bootstrap: bool,
    pub(crate) base_fee: u128,
    pub(crate) people: BTreeMap<Address, Person>,
    pub(crate) places: BTreeMap<(Role, Address), Place>,
    leaving: BTreeMap<(Address, u64), Leaving>,
    /// What is on its way, by when it arrives and in which order it left.
    moving: BTreeMap<(u64, u64), (Address, u64)>,
    moved: u64,
    /// Deposit and settled part; none when it has closed.
    pub(crate) channels: BTreeMap<Hash, Option<(Atoms, Atoms)>>,
    sides: BTreeMap<Hash, (Address, Address, u64, Option<u64>)>,
    pub(crate) escrows: BTreeMap<(Address, Hash), Option<Atoms>>,
    waiting: BTreeMap<(Address, Hash), (Address, Timestamp)>,
    pub(crate) treasury: u128,
    pub(crate) minted: u128,
    pub(crate) burned: u128,
    tips: u128,
    gas: u128,
    pub(crate) set: Vec<(Address, u128)>,
}

impl Reference {
    pub(crate) fn new(genesis: &arknet_chain::Genesis) -> Self {
        let bootstrap = genesis.params.of(Param::BootstrapMs) > 0;
        let mut new = Self {
            now: genesis.time.0,
            began: genesis.time.0,
            params: genesis.params.clone(),
            bootstrap,
            base_fee: if bootstrap { 0 } else { 1 },
            people: BTreeMap::new(),
            places: BTreeMap::new(),
            leaving: BTreeMap::new(),
            moving: BTreeMap::new(),
            moved: 0,
            channels: BTreeMap::new(),
            sides: BTreeMap::new(),
            escrows: BTreeMap::new(),
            waiting: BTreeMap::new(),
            treasury: 0,
            minted: 0,
            burned: 0,
            tips: 0,
            gas: 0,
            set: vec![],
        };
        for (owner, amount) in &genesis.allocations {
            new.person(*owner).money = amount.0.into();
            new.minted += u128::from(amount.0);
        }
        for one in &genesis.validators {
            let mut place = Place::new(one.key, one.weight.into());
            let staked = u128::from(one.stake.0);
            if staked > 0 {
                place.holders.insert(one.operator, (staked, 0));
            }
            place.staked = staked;
            new.minted += staked;
            new.places.insert((Role::Validator, one.operator), place);
        }
        new.set = new.best();
        new
    }

    /// Role, node, owner and worth of every stake.
    pub(crate) fn stakes(&self) -> Vec<(Role, Address, Address, u64)> {
        let of_place = |((role, node), place): (&(Role, Address), &Place)| {
            let holders = place.holders.iter();
            let each = holders.map(|(owner, (shares, _))| {
                (*role, *node, *owner, u64::try_from(place.worth(*shares)).unwrap())
            });
            each.collect::<Vec<_>>()
        };
        self.places.iter().flat_map(of_place).collect()
    }

    /// Owner, number and role of all that is on its way out.
    pub(crate) fn leavings(&self) -> Vec<(Address, u64, Role)> {
        self.leaving.iter().map(|((owner, id), leaving)| (*owner, *id, leaving.role)).collect()
    }

    /// Payer, job, payee and amount of every escrow.
    pub(crate) fn locked(&self) -> Vec<(Address, Hash, Address, u64)> {
        let open = self.escrows.iter().filter_map(|(place, amount)| Some((place, (*amount)?)));
        open.map(|(place, amount)| (place.0, place.1, self.waiting[place].0, amount.0)).collect()
    }

    /// Name, payer, payee, deposit and settled part of every channel.
    pub(crate) fn open(&self) -> Vec<(Hash, Address, Address, u64, u64)> {
        let open = self.channels.iter().filter_map(|(id, sums)| Some((*id, (*sums)?)));
        open.map(|(id, (deposit, settled))| {
            let (payer, payee, ..) = self.sides[&id];
            (id, payer, payee, deposit.0, settled.0)
        })
        .collect()
    }

    fn person(&mut self, owner: Address) -> &mut Person {
        self.people.entry(owner).or_default()
    }

    fn param(&self, param: Param) -> u128 {
        self.params.of(param).into()
    }

    /// The beginning of a block.
    pub(crate) fn begin(&mut self, now: u64) {
        self.now = now;
        (self.tips, self.gas) = (0, 0);
        let over = u128::from(now - self.began) >= self.param(Param::BootstrapMs)
            || self.set.len() as u128 >= self.param(Param::BootstrapValidators);
        if self.bootstrap && over {
            self.bootstrap = false;
            self.base_fee = self.base_fee.max(1);
        }
        let due: Vec<(u64, u64)> = self.moving.range(..(now + 1, 0)).map(|(k, _)| *k).collect();
        for when in due {
            let (owner, id) = self.moving.remove(&when).unwrap();
            self.arrive(owner, id);
        }
    }

    fn arrive(&mut self, owner: Address, id: u64) {
        let before = self.clone();
        let leaving = self.leaving[&(owner, id)].clone();
        let amount = self.take_out(owner, id);
        if self.put_in(owner, leaving.role, leaving.to.unwrap(), amount).is_err() {
            *self = before;
            let free_at = leaving.began + self.period(leaving.role);
            self.leaving.insert((owner, id), Leaving { to: None, free_at, ..leaving });
        }
    }

    /// One transaction; none when it cannot be in the block.
    pub(crate) fn transaction(
        &mut self,
        owner: Address,
        nonce: u64,
        (fee_max, tip): (u64, u64),
        action: &Action,
    ) -> Option<Answer> {
        let gas = u128::from(action.gas());
        let (fee_max, tip) = (u128::from(fee_max), u128::from(tip));
        let price = fee_max.min(self.base_fee + tip);
        let base_fee = self.base_fee;
        let person = self.person(owner);
        if fee_max < base_fee || person.nonce != nonce || person.money < gas * price {
            return None;
        }
        person.money -= gas * price;
        person.nonce += 1;
        self.burned += gas * base_fee;
        self.tips += gas * (price - base_fee);
        self.gas += gas;
        let before = self.clone();
        let answer = self.act(owner, nonce, action);
        if answer.is_err() {
            *self = before;
        }
        Some(answer)
    }

    /// The end of a block.
    pub(crate) fn end(&mut self, proposer: Address) {
        let tips = self.tips;
        let place = self.places.get_mut(&(Role::Validator, proposer));
        match place.filter(|place| place.shares() > 0) {
            Some(place) if tips > 0 => place.earn(tips),
            _ => self.person(proposer).money += tips,
        }
        let target = self.param(Param::BlockGasTarget);
        let fee = self.base_fee;
        self.base_fee = match self.gas.cmp(&target) {
            std::cmp::Ordering::Equal => fee,
            std::cmp::Ordering::Greater => fee + (fee * (self.gas - target) / target / 8).max(1),
            std::cmp::Ordering::Less => fee - fee * (target - self.gas) / target / 8,
        };
        if !self.bootstrap {
            self.base_fee = self.base_fee.max(self.param(Param::BaseFeeMin));
        }
        let best = self.best();
        if !best.is_empty() {
            self.set = best;
        }
    }

    fn best(&self) -> Vec<(Address, u128)> {
        let mut best = Vec::new();
        for ((role, operator), place) in &self.places {
            let own = place.holders.get(operator).map_or(0, |(shares, _)| place.worth(*shares));
            let power =
                place.staked / u128::from(ARK) + if self.bootstrap { place.weight } else { 0 };
            if *role == Role::Validator
                && !place.retired
                && power > 0
                && own >= self.least(Role::Validator)
            {
                best.push((*operator, power));
            }
        }
        best.sort_by_key(|(operator, power)| (u128::MAX - power, *operator));
        best.truncate(self.param(Param::ValidatorsMax) as usize);
        best
    }

    fn least(&self, role: Role) -> u128 {
        match role {
            _ if self.bootstrap => 0,
            Role::Validator => self.param(Param::StakeMinValidator),
            Role::Compute => self.param(Param::StakeMinCompute),
            Role::Verifier => self.param(Param::StakeMinVerifier),
            Role::Worker => self.param(Param::StakeMinWorker),
        }
    }

    fn period(&self, role: Role) -> u64 {
        let worker = role == Role::Worker;
        self.params.of(if worker { Param::UnbondingWorkerMs } else { Param::UnbondingMs })
    }

    fn pay(&mut self, owner: Address, amount: u128) -> Result<(), ()> {
        let person = self.person(owner);
        person.money = person.money.checked_sub(amount).ok_or(())?;
        Ok(())
    }

    fn act(&mut self, owner: Address, nonce: u64, action: &Action) -> Answer {
        match *action {
            Action::Transfer { to, amount } => {
                self.pay(owner, amount.0.into())?;
                self.person(to).money += u128::from(amount.0);
                if amount.0 == 0 { Err(()) } else { Ok(None) }
            }
            Action::Burn { amount } => {
                self.pay(owner, amount.0.into())?;
                self.burned += u128::from(amount.0);
                if amount.0 == 0 { Err(()) } else { Ok(None) }
            }
            Action::Stake(op) => self.stake(owner, op),
            Action::Escrow(ref op) => self.escrow(owner, op).map(|()| None),
            Action::Channel(ref op) => self.channel(owner, nonce, op).map(|()| None),
            // What has no random operations.
            _ => Err(()),
        }
    }

    /// Pays somebody from what was locked.
    fn reward(&mut self, payee: Address, amount: u64) {
        let burned = u128::from(amount) * self.param(Param::PaymentBurnPpm) / 1_000_000;
        self.burned += burned;
        self.person(payee).money += u128::from(amount) - burned;
    }

    fn lock(&mut self, owner: Address, amount: Atoms) -> Result<(), ()> {
        self.pay(owner, amount.0.into())?;
        if amount.0 == 0 { Err(()) } else { Ok(()) }
    }

    fn escrow(&mut self, owner: Address, op: &EscrowOp) -> Result<(), ()> {
        let (payer, job) = match op {
            EscrowOp::Lock { job, .. }
            | EscrowOp::Release { job, .. }
            | EscrowOp::Refund { job } => (owner, *job),
            EscrowOp::Claim { payer, job, .. } => (*payer, *job),
        };
        let place = (payer, job);
        if let EscrowOp::Lock { payee, amount, timeout, .. } = op {
            let longest = self.now + self.params.of(Param::EscrowMsMax);
            let taken = self.escrows.get(&place).is_some_and(Option::is_some);
            if taken || timeout.0 <= self.now || timeout.0 > longest || *payee == owner {
                return Err(());
            }
            self.lock(owner, *amount)?;
            self.escrows.insert(place, Some(*amount));
            self.waiting.insert(place, (*payee, *timeout));
            return Ok(());
        }
        let amount = self.escrows.get_mut(&place).ok_or(())?.take().ok_or(())?;
        let (payee, timeout) = self.waiting[&place];
        let cost = match op {
            EscrowOp::Release { amount, .. } => amount.0,
            // That the voucher is signed well is a matter of how these tests draw it.
            EscrowOp::Claim { voucher, .. } if payee == owner && voucher.body.total.0 > 0 => {
                voucher.body.total.0
            }
            EscrowOp::Refund { .. } if self.now >= timeout.0 => 0,
            _ => return Err(()),
        };
        let rest = amount.0.checked_sub(cost).ok_or(())?;
        self.reward(payee, cost);
        self.person(payer).money += u128::from(rest);
        Ok(())
    }

    fn channel(&mut self, owner: Address, nonce: u64, op: &ChannelOp) -> Result<(), ()> {
        if let ChannelOp::Open { payee, deposit, challenge_ms, .. } = op {
            let params = &self.params;
            let (min, max) = (params.of(Param::ChallengeMsMin), params.of(Param::ChallengeMsMax));
            if *challenge_ms < min || *challenge_ms > max || *payee == owner {
                return Err(());
            }
            self.lock(owner, *deposit)?;
            let id = Channel::id(&owner, nonce);
            self.channels.insert(id, Some((*deposit, Atoms::ZERO)));
            self.sides.insert(id, (owner, *payee, *challenge_ms, None));
            return Ok(());
        }
        let id = match op {
            ChannelOp::Settle { voucher, .. } => voucher.body.channel,
            ChannelOp::CloseTogether { agreement, .. } => agreement.channel,
            ChannelOp::TopUp { channel, .. }
            | ChannelOp::StartClose { channel }
            | ChannelOp::Finish { channel } => *channel,
            ChannelOp::Open { .. } => return Err(()),
        };
        let (deposit, settled) = self.channels.get(&id).copied().flatten().ok_or(())?;
        let (payer, payee, challenge_ms, closing) = self.sides[&id];
        let (total, close) = match op {
            ChannelOp::TopUp { amount, .. } if owner == payer && closing.is_none() => {
                self.lock(owner, *amount)?;
                self.channels.insert(id, Some((Atoms(deposit.0 + amount.0), settled)));
                return Ok(());
            }
            ChannelOp::StartClose { .. } if owner == payer && closing.is_none() => {
                let at = Some(self.now + challenge_ms);
                self.sides.insert(id, (payer, payee, challenge_ms, at));
                return Ok(());
            }
            ChannelOp::Settle { voucher, close } if owner == payee => {
                if voucher.body.total <= settled {
                    return Err(());
                }
                (voucher.body.total, *close)
            }
            ChannelOp::CloseTogether { agreement, key, .. } => {
                let other = key.address();
                if (owner, other) != (payer, payee) && (other, owner) != (payer, payee) {
                    return Err(());
                }
                (agreement.total, true)
            }
            ChannelOp::Finish { .. } if closing.is_some_and(|at| at <= self.now) => {
                if owner != payer && owner != payee {
                    return Err(());
                }
                (settled, true)
            }
            _ => return Err(()),
        };
        if total > deposit || total < settled {
            return Err(());
        }
        self.reward(payee, total.0 - settled.0);
        self.channels.insert(id, (!close).then_some((deposit, total)));
        if close {
            self.person(payer).money += u128::from(deposit.0 - total.0);
        }
        Ok(())
    }

    fn stake(&mut self, owner: Address, op: StakeOp) -> Answer {
        match op {
            StakeOp::Deposit { role, node, amount, key } => {
                self.pay(owner, amount.0.into())?;
                if owner == node {
                    self.register(role, node, key)?;
                } else if key.is_some() {
                    return Err(());
                }
                self.put_in(owner, role, node, amount.0.into())?;
                Ok(None)
            }
            StakeOp::Withdraw { role, node, amount } => {
                let free_at = self.now + self.period(role);
                self.take_off(owner, role, node, amount.0.into(), free_at, None).map(Some)
            }
            StakeOp::CompleteUnbond { role, id } => {
                let leaving = self.leaving.get(&(owner, id)).ok_or(())?;
                if leaving.role != role || leaving.to.is_some() || self.now < leaving.free_at {
                    return Err(());
                }
                let amount = self.take_out(owner, id);
                self.person(owner).money += amount;
                Ok(None)
            }
            StakeOp::Redelegate { role, from, to, amount } => {
                let target = self.places.get(&(role, to)).ok_or(())?;
                if from == to || target.retired {
                    return Err(());
                }
                let at = self.now + self.params.of(Param::RedelegationMs);
                let id = self.take_off(owner, role, from, amount.0.into(), at, Some(to))?;
                self.moving.insert((at, self.moved), (owner, id));
                self.moved += 1;
                Ok(Some(id))
            }
            StakeOp::ClaimRewards { role, node } => {
                let place = self.places.get_mut(&(role, node)).ok_or(())?;
                let earned = place.fetch(owner).ok_or(())?;
                self.person(owner).money += earned;
                Ok(None)
            }
            StakeOp::Retire { role } => {
                self.places.get_mut(&(role, owner)).ok_or(())?.retired = true;
                self.tidy_up(role, owner);
                Ok(None)
            }
            // Nobody is ever jailed here.
            StakeOp::Unjail { .. } => Err(()),
        }
    }

    fn register(&mut self, role: Role, owner: Address, key: Option<PublicKey>) -> Result<(), ()> {
        if let Some(place) = self.places.get_mut(&(role, owner)) {
            place.retired = false;
            return if key.is_some_and(|key| key != place.key) { Err(()) } else { Ok(()) };
        }
        let key = key.ok_or(())?;
        let mut places = self.places.iter();
        let taken = places.any(|((r, _), p)| *r == Role::Validator && p.key == key);
        if role == Role::Validator && taken {
            return Err(());
        }
        self.places.insert((role, owner), Place::new(key, self.bootstrap.into()));
        Ok(())
    }

    fn enough(&self, owner: Address, role: Role, node: Address) -> bool {
        let place = &self.places[&(role, node)];
        let worth = place.holders.get(&owner).map_or(0, |(shares, _)| place.worth(*shares));
        worth >= if owner == node { self.least(role) } else { u128::from(ARK) }
    }

    fn put_in(
        &mut self,
        owner: Address,
        role: Role,
        node: Address,
        amount: u128,
    ) -> Result<(), ()> {
        let place = self.places.get_mut(&(role, node)).ok_or(())?;
        if place.retired {
            return Err(());
        }
        let all = place.shares();
        let earned = place.fetch(owner).unwrap_or(0);
        let more = if all == 0 { amount } else { amount * all / place.staked };
        place.staked += amount;
        let index = place.index;
        let holder = place.holders.entry(owner).or_insert((0, index));
        holder.0 += more;
        if holder.0 == 0 {
            place.holders.remove(&owner);
        }
        self.person(owner).money += earned;
        if self.enough(owner, role, node) { Ok(()) } else { Err(()) }
    }

    fn take_off(
        &mut self,
        owner: Address,
        role: Role,
        node: Address,
        amount: u128,
        free_at: u64,
        to: Option<Address>,
    ) -> Result<u64, ()> {
        let place = self.places.get_mut(&(role, node)).ok_or(())?;
        let earned = place.fetch(owner).ok_or(())?;
        let (shares, _) = place.holders[&owner];
        if amount == 0 || place.worth(shares) < amount {
            return Err(());
        }
        let gone = (amount * place.shares()).div_ceil(place.staked);
        place.holders.get_mut(&owner).unwrap().0 -= gone;
        place.staked -= amount;
        let rest = place.worth(place.holders[&owner].0);
        if rest == 0 {
            place.holders.remove(&owner);
        }
        let out = place.leaving_shares;
        let shares = if out == 0 { amount } else { amount * out / place.leaving };
        place.leaving += amount;
        place.leaving_shares += shares;
        if rest > 0 && !self.enough(owner, role, node) {
            return Err(());
        }
        let began = self.now;
        let person = self.person(owner);
        person.money += earned;
        person.withdrawals += 1;
        let id = person.withdrawals;
        self.leaving.insert((owner, id), Leaving { role, from: node, shares, began, free_at, to });
        Ok(id)
    }

    fn take_out(&mut self, owner: Address, id: u64) -> u128 {
        let leaving = self.leaving.remove(&(owner, id)).unwrap();
        let place = self.places.get_mut(&(leaving.role, leaving.from)).unwrap();
        let amount = place.leaving * leaving.shares / place.leaving_shares;
        place.leaving -= amount;
        place.leaving_shares -= leaving.shares;
        self.tidy_up(leaving.role, leaving.from);
        amount
    }

    fn tidy_up(&mut self, role: Role, node: Address) {
        let place = &self.places[&(role, node)];
        if place.retired && place.shares() == 0 && place.leaving_shares == 0 {
            self.treasury += place.staked + place.leaving + place.rewards;
            self.places.remove(&(role, node));
        }
    }
}

impl Place {
    fn new(key: PublicKey, weight: u128) -> Self {
        Self {
            key,
            staked: 0,
            holders: BTreeMap::new(),
            leaving: 0,
            leaving_shares: 0,
            rewards: 0,
            index: 0,
            weight,
            retired: false,
        }
    }

    pub(crate) fn shares(&self) -> u128 {
        self.holders.values().map(|(shares, _)| shares).sum()
    }

    fn worth(&self, shares: u128) -> u128 {
        if shares == 0 { 0 } else { self.staked * shares / self.shares() }
    }

    fn earn(&mut self, reward: u128) {
        self.index += reward * INDEX / self.shares();
        self.rewards += reward;
    }

    fn fetch(&mut self, owner: Address) -> Option<u128> {
        let index = self.index;
        let holder = self.holders.get_mut(&owner)?;
        let earned = holder.0 * (index - holder.1) / INDEX;
        holder.1 = index;
        self.rewards -= earned;
        Some(earned)
    }
}
