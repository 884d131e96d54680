use std::{borrow::Cow, collections::BTreeMap};

use arknet_types::{Address, Atoms, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Changes, Failure, Hash, Key, Param, Params, StateView,
    keys::money_in,
    limits::MINTED_ATOMS_MAX,
    records::{Account, Due, Meta},
    tree,
};

type Layer = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The state while a block is applied to it: what the parent left, what the block has changed, and
/// what the transaction at hand has changed, which is dropped when it fails.
pub(crate) struct Ledger<'a, V> {
    view: &'a V,
    block: Layer,
    transaction: Layer,
    meta: Meta,
    meta_before: Meta,
    meta_of_parent: Meta,
    params: Params,
    /// Whether anything changed that the validator set depends on.
    pub(crate) is_set_stale: bool,
}

impl<'a, V: StateView> Ledger<'a, V> {
    pub(crate) fn new(view: &'a V) -> Self {
        let meta: Meta = crate::read(view, &Key::Meta).unwrap_or_default();
        let params = crate::read(view, &Key::Params).unwrap_or_default();
        Self {
            view,
            block: Layer::new(),
            transaction: Layer::new(),
            meta,
            meta_before: meta,
            meta_of_parent: meta,
            params,
            is_set_stale: false,
        }
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.meta.time
    }

    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    pub(crate) fn set_params(&mut self, params: Params) {
        self.params = params;
    }

    pub(crate) fn param(&self, param: Param) -> u64 {
        self.params.of(param)
    }

    fn bytes(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self.transaction.get(key).or_else(|| self.block.get(key)) {
            Some(changed) => changed.as_deref().map(Cow::Borrowed),
            None => self.view.value(key).map(Cow::Owned),
        }
    }

    pub(crate) fn read<T: BorshDeserialize>(&self, key: &Key) -> Option<T> {
        let bytes = self.bytes(&key.bytes())?;
        Some(arknet_types::decode(&bytes).expect("the state holds what was written"))
    }

    pub(crate) fn write<T: BorshSerialize>(&mut self, key: &Key, value: &T) {
        self.transaction.insert(key.bytes(), Some(arknet_types::encode(value)));
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.transaction.insert(key.bytes(), None);
    }

    /// The first key in a range, with its value.
    pub(crate) fn first(&self, from: &[u8], below: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut from = from.to_vec();
        loop {
            let stored = self.view.first(&from, below).map(|(key, _)| key);
            let changed = |layer: &Layer| {
                let range =
                    (from < below.to_vec()).then(|| layer.range(from.clone()..below.to_vec()));
                range.and_then(|mut range| range.next().map(|(key, _)| key.clone()))
            };
            let keys = [stored, changed(&self.block), changed(&self.transaction)];
            let key = keys.into_iter().flatten().min()?;
            if let Some(value) = self.bytes(&key) {
                let value = value.into_owned();
                return Some((key, value));
            }
            // It is gone; the next one lies behind it.
            from = key;
            from.push(0);
        }
    }

    /// All values in a range that is known to be short.
    pub(crate) fn all<T: BorshDeserialize>(
        &self,
        (mut from, below): (Vec<u8>, Vec<u8>),
    ) -> Vec<(Vec<u8>, T)> {
        let mut found = Vec::new();
        while let Some((key, value)) = self.first(&from, &below) {
            from.clone_from(&key);
            from.push(0);
            let value = arknet_types::decode(&value).expect("the state holds what was written");
            found.push((key, value));
        }
        found
    }

    /// Keeps what the transaction at hand has changed.
    pub(crate) fn keep(&mut self) {
        // Not `append`, which builds the larger map anew each time.
        self.block.extend(std::mem::take(&mut self.transaction));
        self.meta_before = self.meta;
    }

    /// Forgets it.
    pub(crate) fn undo(&mut self) {
        self.transaction.clear();
        self.meta = self.meta_before;
    }

    pub(crate) fn account(&self, address: &Address) -> Account {
        self.read(&Key::Account(*address)).unwrap_or_default()
    }

    pub(crate) fn set_account(&mut self, address: &Address, account: &Account) {
        self.write(&Key::Account(*address), account);
    }

    /// Takes money from an account; the caller puts it somewhere.
    pub(crate) fn debit(&mut self, address: &Address, amount: Atoms) -> Result<(), Failure> {
        let mut account = self.account(address);
        account.balance = account.balance.checked_sub(amount).ok_or(Failure::Balance)?;
        self.set_account(address, &account);
        Ok(())
    }

    /// Gives money to an account, which the caller took from somewhere.
    pub(crate) fn credit(&mut self, address: &Address, amount: Atoms) -> Result<(), Failure> {
        let mut account = self.account(address);
        account.balance = account.balance.checked_add(amount).ok_or(Failure::Overflow)?;
        self.set_account(address, &account);
        Ok(())
    }

    /// Counts money that the caller took from somewhere as burned.
    pub(crate) fn burn(&mut self, amount: Atoms) {
        let burned = self.meta.burned.checked_add(amount);
        self.meta.burned = burned.expect("no more is burned than there ever was");
    }

    /// Counts money that the caller puts somewhere as made, as far as the cap allows.
    pub(crate) fn mint(&mut self, amount: Atoms) -> Result<(), Failure> {
        let minted = self.meta.minted.checked_add(amount);
        self.meta.minted =
            minted.filter(|minted| minted.0 <= MINTED_ATOMS_MAX).ok_or(Failure::Cap)?;
        Ok(())
    }

    /// Has `due` done at `at`.
    pub(crate) fn schedule(&mut self, at: Timestamp, due: &Due) {
        let number = self.meta.due_count;
        self.meta.due_count = number.saturating_add(1);
        self.write(&Key::Due(at, number), due);
    }

    /// Writes the numbers of the whole, makes sure of the supply and computes the root.
    pub(crate) fn finish(mut self) -> (Changes, Hash) {
        let meta = self.meta;
        self.write(&Key::Meta, &meta);
        let params = std::mem::take(&mut self.params);
        self.write(&Key::Params, &params);
        self.keep();
        // What stands there already is no change.
        let view = self.view;
        let mut values = self.block;
        let mut gained = 0_i128;
        let mut leaves = Vec::with_capacity(values.len());
        values.retain(|key, value| {
            let old = view.value(key);
            if old == *value {
                return false;
            }
            let money = |value: &Option<Vec<u8>>| {
                let money = value.as_ref().map_or(0, |value| money_in(key, value));
                i128::try_from(money).expect("all money fits 64 bits")
            };
            gained = gained.saturating_add(money(value)).saturating_sub(money(&old));
            leaves.push((tree::place(key), value.as_ref().map(|value| tree::value_hash(value))));
            true
        });
        let supply = |meta: &Meta| {
            let supply = meta.minted.checked_sub(meta.burned).expect("what is burned was made");
            i128::from(supply.0)
        };
        let expected = supply(&meta).saturating_sub(supply(&self.meta_of_parent));
        assert_eq!(gained, expected, "money is neither lost nor made but as counted");
        assert!(meta.minted.0 <= MINTED_ATOMS_MAX, "no more than the cap is ever made");
        let (root, pages) = tree::update(&|path: &[u8]| view.page(path), leaves);
        (Changes { values, pages }, root)
    }
}
