//! Which models are in memory: a state machine that is given the time and returns what to do.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use arknet_types::{ModelName, Refusal, RefusalCode};

use super::restarts::Restarts;
use crate::limits::{FLEET_MODELS_MAX, LOADS_WAITING_MAX};

/// How long a model that nobody uses stays in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeepAlive {
    /// So long; zero sends it away as soon as its work is done.
    For(Duration),
    /// Until its memory is needed.
    Forever,
}

/// What the fleet must do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Start the model's process; say [`Policy::loaded`] or [`Policy::failed`].
    Load(ModelName),
    /// End the model's process, which has no work; say [`Policy::unloaded`].
    Unload(ModelName),
    /// Send this ask's request to the model, which is in memory. Of an ask without request: it is
    /// answered.
    Run(u64),
    /// Answer this ask so.
    Refuse(u64, Refusal),
}

/// Why a model is not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The name is taken, perhaps by a model whose last work is not done.
    #[error("there is a model of this name")]
    Exists,
    /// There are as many models as can be.
    #[error("there are {FLEET_MODELS_MAX} models already")]
    Full,
    /// Pinned models do not fit in the budget together.
    #[error("pinned models need {needed_bytes} bytes of memory, {max_bytes} are there")]
    PinnedTooLarge {
        /// What they need together.
        needed_bytes: u64,
        /// The budget.
        max_bytes: u64,
    },
    /// No such model.
    #[error("there is no such model")]
    Unknown,
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// That a request of the owner is answered.
    Request,
    /// That a request of somebody else is answered.
    Guest,
    /// That the model is in memory, and nothing else: the owner's wish.
    Load,
}

impl Wish {
    const fn is_request(self) -> bool {
        !matches!(self, Self::Load)
    }
}

/// The bounds of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct PolicyOptions {
    /// Memory of all models together.
    pub memory_bytes_max: u64,
    /// Of that, for models the owner has pinned or uses: what only others ask for stays out of it.
    pub memory_bytes_reserved: u64,
    /// For models of which nobody says otherwise.
    pub keep_alive: KeepAlive,
    /// How long an ask waits before busy models make room for it, and how long a model stays at
    /// least before it makes room for others.
    pub patience: Duration,
    /// How failing models are tried again.
    pub restarts: Restarts,
}

/// A model, as far as memory goes.
#[derive(Clone, Copy, Debug)]
pub struct PolicyModel {
    /// What it takes in memory.
    pub memory_bytes: u64,
    /// Requests it answers at once.
    pub slots: u16,
    /// Whether it is in memory always.
    pub is_pinned: bool,
}

/// Where a model is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// On disk.
    Out,
    /// Its process has been started.
    Loading,
    /// In memory.
    In,
    /// Its process is being ended.
    Leaving,
}

/// The machine itself.
#[derive(Debug)]
pub struct Policy {
    options: PolicyOptions,
    models: BTreeMap<ModelName, Model>,
    asks: HashMap<u64, ModelName>,
}

#[derive(Debug)]
struct Model {
    memory_bytes: u64,
    slots: u16,
    is_pinned: bool,
    /// The owner has asked for it since it was loaded; a crash in between does not count.
    is_owners: bool,
    is_removed: bool,
    place: Place,
    /// To be loaded without anybody waiting for it, since when.
    wanted_since: Option<Duration>,
    /// To be sent away as soon as it has no work, pinned or not.
    is_dismissed: bool,
    /// New work waits, because another model needs the memory.
    is_draining: bool,
    keep: KeepAlive,
    used_at: Duration,
    loaded_at: Duration,
    waiting: VecDeque<Waiting>,
    running: BTreeMap<u64, (Duration, Wish)>,
    failures: super::restarts::Failures,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    since: Duration,
    wish: Wish,
}

impl Model {
    /// Whether it stays, whatever others ask for.
    const fn is_the_owners(&self) -> bool {
        self.is_pinned || self.is_owners
    }

    /// Whether the owner waits for it, or wants it always.
    fn is_awaited_by_owner(&self) -> bool {
        self.is_pinned || self.waiting.iter().any(|waiting| waiting.wish != Wish::Guest)
    }

    /// Somebody waits no longer. What the owner waited for in vain is not the owner's when a guest
    /// has it loaded.
    fn give_up(&mut self, was_awaited_by_owner: bool) {
        if was_awaited_by_owner && self.place == Place::Out && !self.is_awaited_by_owner() {
            self.is_owners = false;
        }
    }

    /// Whether it is wanted for others alone.
    fn is_for_guests(&self) -> bool {
        !self.waiting.is_empty() && !self.is_awaited_by_owner()
    }

    fn is_idle(&self) -> bool {
        self.place == Place::In && self.running.is_empty() && self.waiting.is_empty()
    }

    /// When it goes by itself, if nothing happens until then.
    fn expires_at(&self) -> Option<Duration> {
        match self.keep {
            _ if !self.is_idle() => None,
            _ if self.is_removed || self.is_dismissed => Some(Duration::ZERO),
            _ if self.is_pinned => None,
            KeepAlive::Forever => None,
            KeepAlive::For(keep) => Some(self.used_at.saturating_add(keep)),
        }
    }

    /// Nobody waits for it and nobody pinned it: it is loaded if there is room, at nobody's cost.
    fn is_mere_wish(&self) -> bool {
        self.waiting.is_empty() && !self.is_pinned
    }

    /// Since when it should be loaded.
    fn claim_since(&self) -> Option<Duration> {
        if self.place != Place::Out || self.is_removed {
            return None;
        }
        let asked = self.waiting.front().map(|waiting| waiting.since);
        asked.into_iter().chain(self.wanted_since).min()
    }
}

impl Policy {
    /// No models yet.
    #[must_use]
    pub fn new(options: PolicyOptions) -> Self {
        Self { options, models: BTreeMap::new(), asks: HashMap::new() }
    }

    /// Takes a model on. A pinned one is loaded at once.
    pub fn add(
        &mut self,
        now: Duration,
        name: ModelName,
        model: PolicyModel,
    ) -> Result<Vec<Action>, FleetError> {
        if self.models.contains_key(&name) {
            return Err(FleetError::Exists);
        }
        if self.models.len() >= FLEET_MODELS_MAX {
            return Err(FleetError::Full);
        }
        let PolicyModel { memory_bytes, slots, is_pinned } = model;
        if is_pinned {
            self.check_pin(&name, memory_bytes)?;
        }
        let model = Model {
            memory_bytes,
            slots,
            is_pinned,
            is_owners: false,
            is_removed: false,
            place: Place::Out,
            wanted_since: is_pinned.then_some(now),
            is_dismissed: false,
            is_draining: false,
            keep: self.options.keep_alive,
            used_at: now,
            loaded_at: now,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            failures: Default::default(),
        };
        self.models.insert(name, model);
        Ok(self.settle(now))
    }

    /// Lets a model go: nothing new is asked of it, and it is gone when its work is done.
    pub fn remove(&mut self, now: Duration, name: &ModelName) -> Result<Vec<Action>, FleetError> {
        let model = self.models.get_mut(name).filter(|model| !model.is_removed);
        let model = model.ok_or(FleetError::Unknown)?;
        model.is_removed = true;
        model.wanted_since = None;
        let mut actions = vec![];
        for Waiting { id, .. } in model.waiting.drain(..) {
            self.asks.remove(&id);
            actions.push(Action::Refuse(id, unknown(name)));
        }
        if model.place == Place::Out {
            self.models.remove(name);
        }
        actions.extend(self.settle(now));
        Ok(actions)
    }

    /// Keeps a model in memory always, or no longer.
    pub fn pin(
        &mut self,
        now: Duration,
        name: &ModelName,
        is_pinned: bool,
    ) -> Result<Vec<Action>, FleetError> {
        let model = self.models.get(name).filter(|model| !model.is_removed);
        let memory_bytes = model.ok_or(FleetError::Unknown)?.memory_bytes;
        if is_pinned {
            self.check_pin(name, memory_bytes)?;
        }
        let model = self.models.get_mut(name).expect("looked up above");
        model.is_pinned = is_pinned;
        model.wanted_since = (is_pinned && model.place != Place::In).then_some(now);
        model.is_dismissed = false;
        Ok(self.settle(now))
    }

    /// Somebody asks: a request, or for the model to be in memory and nothing else. Exactly one of
    /// [`Action::Run`] and [`Action::Refuse`] comes for `id`, now or later, unless it ends before.
    pub fn ask(
        &mut self,
        now: Duration,
        name: &ModelName,
        id: u64,
        keep: Option<KeepAlive>,
        wish: Wish,
    ) -> Vec<Action> {
        if let Err(refusal) = self.admit(now, name, wish) {
            return vec![Action::Refuse(id, refusal)];
        }
        let model = self.models.get_mut(name).expect("admitted above");
        model.waiting.push_back(Waiting { id, since: now, wish });
        model.is_owners |= wish != Wish::Guest;
        model.is_dismissed = false;
        model.keep = keep.unwrap_or(model.keep);
        self.asks.insert(id, name.clone());
        self.settle(now)
    }

    /// Sends a model away as soon as it has no work, even a pinned one.
    pub fn dismiss(&mut self, now: Duration, name: &ModelName) -> Result<Vec<Action>, FleetError> {
        let model = self.models.get_mut(name).ok_or(FleetError::Unknown)?;
        model.is_dismissed = true;
        model.wanted_since = None;
        Ok(self.settle(now))
    }

    /// The model is in memory, with so many slots.
    pub fn loaded(&mut self, now: Duration, name: &ModelName, slots: u16) -> Vec<Action> {
        let Some(model) = self.models.get_mut(name) else {
            return vec![];
        };
        debug_assert_eq!(model.place, Place::Loading);
        model.place = Place::In;
        model.slots = slots;
        model.wanted_since = None;
        model.is_draining = false;
        (model.loaded_at, model.used_at) = (now, now);
        self.settle(now)
    }

    /// The model's process could not be started, or has ended by itself. Of the running requests
    /// those in `retried` begin anew; the others are over.
    pub fn failed(
        &mut self,
        now: Duration,
        name: &ModelName,
        words: &str,
        retried: &[u64],
    ) -> Vec<Action> {
        let Some(model) = self.models.get_mut(name) else {
            return vec![];
        };
        let was_loading = model.place == Place::Loading;
        let healthy =
            if was_loading { Duration::ZERO } else { now.saturating_sub(model.loaded_at) };
        let is_looping = model.failures.one_more(&self.options.restarts, now, healthy);
        for (id, (since, wish)) in std::mem::take(&mut model.running).into_iter().rev() {
            if retried.contains(&id) {
                model.waiting.push_front(Waiting { id, since, wish });
            } else {
                self.asks.remove(&id);
            }
        }
        let mut actions = vec![];
        // Nobody waits for what has just shown that it does not work.
        if is_looping || was_loading || model.is_removed {
            let refusal = match model.failures.blocked_for(now) {
                _ if was_loading => not_loaded(words),
                Some(left) => looping(&format!(" ({words})"), left),
                None => unknown(name),
            };
            for Waiting { id, .. } in model.waiting.drain(..) {
                self.asks.remove(&id);
                actions.push(Action::Refuse(id, refusal.clone()));
            }
        }
        // What was in memory comes back by itself, unless that is the trouble.
        let is_wanted = !(is_looping || was_loading || model.is_dismissed);
        let was_owners = model.is_owners;
        self.out(now, name);
        if let Some(model) = self.models.get_mut(name)
            && is_wanted
        {
            model.wanted_since = Some(now);
            model.is_owners |= was_owners;
        }
        actions.extend(self.settle(now));
        actions
    }

    /// The process that was to be ended is gone.
    pub fn unloaded(&mut self, now: Duration, name: &ModelName) -> Vec<Action> {
        if let Some(model) = self.models.get_mut(name) {
            debug_assert!(model.running.is_empty());
            model.failures.well(&self.options.restarts, now.saturating_sub(model.loaded_at));
            self.out(now, name);
        }
        self.settle(now)
    }

    /// An ask is over: answered, or given up by the one who asked.
    pub fn ended(&mut self, now: Duration, id: u64) -> Vec<Action> {
        let Some(name) = self.asks.remove(&id) else {
            return vec![];
        };
        let model = self.models.get_mut(&name).expect("asks go before their model");
        if model.running.remove(&id).is_none() {
            let is_awaited = model.is_awaited_by_owner();
            model.waiting.retain(|waiting| waiting.id != id);
            model.give_up(is_awaited);
        }
        model.used_at = now;
        self.settle(now)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        self.settle(now)
    }

    /// When [`Self::tick`] is due, if nothing else happens.
    #[must_use]
    pub fn next_tick(&self, now: Duration) -> Option<Duration> {
        let patience = self.options.patience;
        let is_crowded = self.models.values().any(|model| model.claim_since().is_some());
        let of_models = self.models.values().flat_map(|model| {
            let claim = model.claim_since().map(|since| since.saturating_add(patience));
            let stay = (is_crowded && model.place == Place::In)
                .then(|| model.loaded_at.saturating_add(patience));
            let retry = (model.place == Place::Out).then(|| model.failures.retry_at());
            [claim, stay, retry, model.expires_at()]
        });
        of_models.flatten().filter(|at| *at > now).min()
    }

    /// Where a model is, and when it goes.
    #[must_use]
    pub fn place(&self, name: &ModelName) -> Option<Place> {
        self.models.get(name).map(|model| model.place)
    }

    /// Whether a model can be asked now: it fits, and is not waiting to be tried again.
    #[must_use]
    pub fn is_listed(&self, now: Duration, name: &ModelName) -> bool {
        self.models.get(name).is_some_and(|model| {
            let is_well = model.place != Place::Out || model.failures.retry_at() <= now;
            !model.is_removed && is_well && self.room_for(name) >= model.memory_bytes
        })
    }

    /// The models in memory, with their bytes, their work, and how long they stay.
    pub fn in_memory(
        &self,
        now: Duration,
    ) -> impl Iterator<Item = (&ModelName, u64, usize, Option<Duration>)> {
        self.models.iter().filter(|(_, model)| model.place == Place::In).map(
            move |(name, model)| {
                let left = match model.keep {
                    _ if model.is_pinned => None,
                    KeepAlive::Forever => None,
                    // One with work stays at least so long.
                    KeepAlive::For(keep) if !model.is_idle() => Some(keep),
                    KeepAlive::For(keep) => {
                        Some(model.used_at.saturating_add(keep).saturating_sub(now))
                    }
                };
                (name, model.memory_bytes, model.running.len(), left)
            },
        )
    }

    /// Whether a model is to go as soon as its work is done, and nobody has asked for it since.
    #[must_use]
    pub fn is_dismissed(&self, name: &ModelName) -> bool {
        self.models.get(name).is_some_and(|model| model.is_dismissed)
    }

    /// Processes of this model that ended by themselves.
    #[must_use]
    pub fn failures(&self, name: &ModelName) -> u64 {
        self.models.get(name).map_or(0, |model| model.failures.total())
    }

    fn check_pin(&self, name: &ModelName, memory_bytes: u64) -> Result<(), FleetError> {
        let max_bytes = self.options.memory_bytes_max;
        let needed_bytes = memory_bytes.saturating_add(max_bytes - self.room_for(name));
        if needed_bytes > max_bytes {
            return Err(FleetError::PinnedTooLarge { needed_bytes, max_bytes });
        }
        Ok(())
    }

    /// Bytes this model could have if all that can go were gone.
    fn room_for(&self, name: &ModelName) -> u64 {
        let others = self.models.iter().filter(|(other, model)| *other != name && model.is_pinned);
        let pinned = others.map(|(_, model)| model.memory_bytes).sum::<u64>();
        self.options.memory_bytes_max.saturating_sub(pinned)
    }

    /// Bytes a model that others ask for could have if all that can go for it were gone.
    fn room_for_guests(&self, name: &ModelName) -> u64 {
        let others = self.models.iter().filter(|(other, model)| {
            *other != name
                && model.is_the_owners()
                && (model.is_pinned || model.place != Place::Out || model.wanted_since.is_some())
        });
        let owners = others.map(|(_, model)| model.memory_bytes).sum::<u64>();
        let taken = owners.max(self.options.memory_bytes_reserved);
        self.options.memory_bytes_max.saturating_sub(taken)
    }

    fn admit(&self, now: Duration, name: &ModelName, wish: Wish) -> Result<(), Refusal> {
        let model = self.models.get(name).filter(|model| !model.is_removed);
        let model = model.ok_or_else(|| unknown(name))?;
        let room = self.room_for(name);
        if model.memory_bytes > room {
            let words = format!(
                "the model needs {} bytes of memory, {room} of {} can be given to it",
                model.memory_bytes, self.options.memory_bytes_max
            );
            return Err(Refusal::new(RefusalCode::ProviderFailed, words));
        }
        if let Some(left) = model.failures.blocked_for(now)
            && model.place == Place::Out
        {
            return Err(looping("", left));
        }
        let is_new = model.place == Place::Out && !model.is_awaited_by_owner();
        if wish == Wish::Guest && is_new && model.memory_bytes > self.room_for_guests(name) {
            return Err(kept_for_owner());
        }
        let is_request = wish.is_request();
        let of_kind = model.waiting.iter().filter(|w| w.wish.is_request() == is_request);
        let waiting = of_kind.count();
        if is_request && model.running.len() + waiting >= usize::from(model.slots) {
            let words = format!("all {} places of the model are taken", model.slots);
            return Err(Refusal::new(RefusalCode::Busy, words));
        }
        if !is_request && waiting >= LOADS_WAITING_MAX {
            return Err(Refusal::new(
                RefusalCode::Busy,
                "too many wait for the model to be loaded",
            ));
        }
        Ok(())
    }

    /// The model has left memory.
    fn out(&mut self, now: Duration, name: &ModelName) {
        let keep = self.options.keep_alive;
        let Some(model) = self.models.get_mut(name) else {
            return;
        };
        model.place = Place::Out;
        model.is_owners = model.waiting.iter().any(|waiting| waiting.wish != Wish::Guest);
        if model.waiting.is_empty() {
            model.keep = keep;
        }
        model.wanted_since = (model.is_pinned && !model.is_dismissed).then_some(now);
        if model.is_removed {
            self.models.remove(name);
        }
    }

    /// Does whatever can be done now.
    fn settle(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = vec![];
        for (name, model) in &mut self.models {
            if model.expires_at().is_some_and(|at| at <= now) {
                model.place = Place::Leaving;
                actions.push(Action::Unload(name.clone()));
            }
        }
        // Before room is made, so that a model that was loaded for somebody has served him.
        self.run_waiting(now, &mut actions);
        for model in self.models.values_mut() {
            model.is_draining = false;
        }
        self.load(now, &mut actions);
        self.run_waiting(now, &mut actions);
        actions
    }

    fn run_waiting(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for model in self.models.values_mut() {
            if model.place != Place::In || model.is_draining {
                continue;
            }
            for Waiting { id, since, wish } in model.waiting.drain(..) {
                actions.push(Action::Run(id));
                model.used_at = now;
                if wish.is_request() {
                    model.running.insert(id, (since, wish));
                } else {
                    self.asks.remove(&id);
                }
            }
        }
    }

    /// Loads what is asked for, the owner's wishes first and then the longest waiting, and makes room
    /// for it.
    fn load(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let claims = self.models.iter().filter(|(_, model)| model.failures.retry_at() <= now);
        let mut claims: Vec<_> = claims
            .filter_map(|(name, model)| {
                Some((model.is_for_guests(), model.claim_since()?, name.clone()))
            })
            .collect();
        claims.sort_unstable();
        let mut is_first_blocked = true;
        for (is_for_guests, since, name) in claims {
            let needed = self.models[&name].memory_bytes;
            if needed > self.room_for(&name) {
                // A pin came after the ask.
                self.refuse_waiting(&name, &pinned_over(), actions);
                continue;
            }
            if is_for_guests && needed > self.room_for_guests(&name) {
                // The owner has asked for another model meanwhile.
                self.refuse_waiting(&name, &kept_for_owner(), actions);
                continue;
            }
            let free = if is_for_guests { self.free_for_guests() } else { self.free_bytes() };
            if needed <= free {
                self.models.get_mut(&name).expect("one of ours").place = Place::Loading;
                actions.push(Action::Load(name));
            } else if self.models[&name].is_mere_wish() {
                let model = self.models.get_mut(&name).expect("one of ours");
                (model.wanted_since, model.is_owners) = (None, false);
            } else if is_first_blocked {
                is_first_blocked = false;
                let is_impatient = since.saturating_add(self.options.patience) <= now;
                self.make_room(now, needed - free, is_impatient, is_for_guests, actions);
                if is_impatient {
                    // What comes free is for this one; nobody slips in before it.
                    return;
                }
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        let taken = self.models.values().filter(|model| model.place != Place::Out);
        let taken = taken.map(|model| model.memory_bytes).sum();
        self.options.memory_bytes_max.saturating_sub(taken)
    }

    /// Of the free bytes, those that are not kept for the owner.
    fn free_for_guests(&self) -> u64 {
        let there = self.models.values().filter(|model| model.place != Place::Out);
        let owners = there.filter(|model| model.is_the_owners());
        let owners = owners.map(|model| model.memory_bytes).sum::<u64>();
        let kept = self.options.memory_bytes_reserved.saturating_sub(owners);
        self.free_bytes().saturating_sub(kept)
    }

    /// Sends models away, the longest unused first, those of the owner last and for others not at
    /// all: idle ones, and for somebody who has waited long
    /// enough also busy ones, which first end what they have begun.
    fn make_room(
        &mut self,
        now: Duration,
        missing: u64,
        is_impatient: bool,
        is_for_guests: bool,
        actions: &mut Vec<Action>,
    ) {
        let leaving = self.models.values().filter(|model| model.place == Place::Leaving);
        let mut missing = missing.saturating_sub(leaving.map(|model| model.memory_bytes).sum());
        let patience = self.options.patience;
        let mut victims: Vec<_> = self
            .models
            .iter_mut()
            .filter(|(_, model)| model.place == Place::In && !model.is_pinned)
            .filter(|(_, model)| !(is_for_guests && model.is_owners))
            .filter(|(_, model)| {
                let has_stayed = model.loaded_at.saturating_add(patience) <= now;
                model.is_idle() || (is_impatient && has_stayed)
            })
            .collect();
        victims.sort_by_key(|(_, model)| (!model.is_idle(), model.is_owners, model.used_at));
        let there = victims.iter().map(|(_, model)| model.memory_bytes).sum::<u64>();
        if there < missing && !is_impatient {
            // It would not help yet, and they may be of use until it does.
            return;
        }
        for (name, model) in victims {
            if missing == 0 {
                return;
            }
            missing = missing.saturating_sub(model.memory_bytes);
            if model.running.is_empty() {
                model.place = Place::Leaving;
                actions.push(Action::Unload(name.clone()));
            } else {
                model.is_draining = true;
            }
        }
    }

    fn refuse_waiting(&mut self, name: &ModelName, why: &Refusal, actions: &mut Vec<Action>) {
        let model = self.models.get_mut(name).expect("one of ours");
        model.wanted_since = None;
        let is_awaited = model.is_awaited_by_owner();
        for Waiting { id, .. } in model.waiting.drain(..) {
            self.asks.remove(&id);
            actions.push(Action::Refuse(id, why.clone()));
        }
        model.give_up(is_awaited);
    }
}

fn pinned_over() -> Refusal {
    let words = "other models were pinned, and the memory left is not enough for this one";
    Refusal::new(RefusalCode::ProviderFailed, words)
}

/// How long whoever asks for a model stays away while the owner's own are in memory.
const KEPT_MS: u64 = 30_000;

fn kept_for_owner() -> Refusal {
    let words = "the owner's models need the memory that this one would take";
    Refusal::new(RefusalCode::Busy, words).retry_after_ms(KEPT_MS)
}

fn unknown(name: &ModelName) -> Refusal {
    Refusal::new(RefusalCode::UnknownModel, format!("there is no model {name} here"))
}

fn not_loaded(words: &str) -> Refusal {
    Refusal::new(RefusalCode::ProviderFailed, format!("the model could not be loaded: {words}"))
}

fn looping(words: &str, blocked_for: Duration) -> Refusal {
    let words = format!("the model's process fails again and again{words}; ask again later");
    let millis = u64::try_from(blocked_for.as_millis()).unwrap_or(u64::MAX);
    Refusal::new(RefusalCode::ProviderFailed, words).retry_after_ms(millis)
}

#[cfg(test)]
mod tests;
