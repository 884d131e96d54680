//! The free quota at the gate, by example and against a plain count.

use arknet_chain::limits::{FREE_JOBS_PER_DAY_MAX, FREE_JOBS_PER_HOUR_MAX};
use arknet_types::ModelDigest;
use proptest::prelude::*;

use super::{
    grant_tests::{START, gate, grant, grants, model, peer, permissions, request},
    *,
};

const HOUR_MS: u64 = 3_600_000;
/// From [`START`] to the next hour.
const REST_MS: u64 = HOUR_MS - START.0 % HOUR_MS;

struct Asking {
    gate: Admission,
    nonce: u64,
    now: Timestamp,
}

impl Asking {
    fn new() -> Self {
        let mut gate = gate(Who::Anyone { files: true });
        gate.set_bootstrap(true);
        Self { gate, nonce: 0, now: START }
    }

    /// What a wallet asks through a peer, each pair in a session of its own.
    fn checked(&mut self, from: u8, wallet: u8, input: Input) -> CheckedRequest {
        self.nonce += 1;
        let mut checked = request(from, input, model(0), self.nonce, self.now);
        checked.request.delegation.body.wallet = peer(100 + wallet);
        checked.request.delegation.body.session = peer(150 + 10 * from + wallet);
        checked
    }

    fn admit(&mut self, checked: CheckedRequest) -> Result<Admitted, Refusal> {
        let name = model(0);
        let offered = Offered { name: &name, price: Price::default() };
        self.gate.admit(checked, Some(offered), Usage::default(), self.now)
    }

    /// Asks, does the work, is done. Returns what others are to hear.
    fn ask(&mut self, from: u8, wallet: u8) -> Result<Option<FreeUse>, Refusal> {
        let checked = self.checked(from, wallet, Input::Text("hi".into()));
        let mut admitted = self.admit(checked)?;
        let told = admitted.begin();
        self.gate.settle(&admitted, Usage::default(), self.now);
        Ok(told)
    }

    fn left(&self, wallet: u8) -> u32 {
        let address = peer(100 + wallet).address();
        let mut quotas = self.gate.free_quotas(self.now);
        let quota = quotas.find(|(known, _)| *known == address);
        quota.map_or(FREE_JOBS_PER_HOUR_MAX, |(_, quota)| quota.left(self.now))
    }
}

#[test]
fn the_eleventh_of_a_wallet_is_refused_whoever_brings_it() {
    let mut asking = Asking::new();
    for n in 0..10 {
        let told = asking.ask(n % 2, 7).unwrap().expect("others are to hear of it");
        assert_eq!(told.wallet(), peer(107).address());
    }
    asking.now = START.plus_ms(1_000);
    for from in 0..3 {
        let refusal = asking.ask(from, 7).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::RateLimited);
        assert_eq!(refusal.retry_after_ms.map(u64::from), Some(REST_MS - 1_000));
    }
    assert_eq!(asking.gate.running(), 0);
    asking.ask(0, 8).unwrap();
    asking.now = START.plus_ms(REST_MS);
    asking.ask(0, 7).unwrap();
}

#[test]
fn grants_files_and_times_without_a_bootstrap_take_nothing() {
    let mut asking = Asking::new();
    asking.gate.set_grants(grants([grant(1, permissions())]), START);
    let digest = ModelDigest([1; 32]);
    for _ in 0..20 {
        assert_eq!(asking.ask(1, 7).unwrap(), None, "by its grant");
        let file = asking.checked(2, 7, Input::File { digest, offset: 0, length: 0 });
        let mut admitted = asking.admit(file).unwrap();
        assert_eq!(admitted.begin(), None);
        asking.gate.settle(&admitted, Usage::default(), START);
    }
    assert_eq!(asking.left(7), 10);
    while asking.ask(2, 7).is_ok() {}
    asking.ask(1, 7).unwrap();
    asking.gate.set_bootstrap(false);
    for _ in 0..20 {
        assert_eq!(asking.ask(2, 7).unwrap(), None);
    }
}

#[test]
fn what_is_refused_or_never_begins_takes_nothing() {
    let mut asking = Asking::new();
    let text = || Input::Text("hi".into());
    let unknown = asking.checked(0, 7, text());
    let refused = asking.gate.admit(unknown, None, Usage::default(), START);
    assert_eq!(refused.unwrap_err().code, RefusalCode::UnknownModel);
    let first = asking.checked(0, 7, text());
    let again = CheckedRequest { request: first.request.clone(), ..first };
    let admitted = asking.admit(first).unwrap();
    assert_eq!(asking.admit(again).unwrap_err().code, RefusalCode::Replayed);
    assert_eq!(asking.left(7), 9, "held while it waits");
    asking.gate.settle(&admitted, Usage::default(), START);
    assert_eq!(asking.left(7), 10);
}

#[derive(Clone, Debug)]
struct Ask {
    from: u8,
    wallet: u8,
    begins: bool,
    is_heard: bool,
    later_ms: u64,
}

fn ask() -> impl Strategy<Value = Ask> {
    (0..3_u8, 0..2_u8, prop::bool::weighted(0.8), any::<bool>(), 0..HOUR_MS / 8).prop_map(
        |(from, wallet, begins, is_heard, later_ms)| Ask {
            from,
            wallet,
            begins,
            is_heard,
            later_ms,
        },
    )
}

proptest! {
    /// Through whichever peers and sessions, here or elsewhere: no wallet has more than its quota, and
    /// none is refused before.
    #[test]
    fn each_wallet_has_its_quota_and_no_more(asks in prop::collection::vec(ask(), 1..300)) {
        let mut asking = Asking::new();
        let mut done = BTreeMap::<(u8, u64), u32>::new();
        for Ask { from, wallet, begins, is_heard, later_ms } in asks {
            asking.now = asking.now.plus_ms(later_ms);
            let hour = asking.now.0 / HOUR_MS;
            let of = |day: u64| move |key: &(u8, u64)| key.0 == wallet && key.1 / 24 == day;
            let is_today = of(hour / 24);
            let in_day: u32 =
                done.iter().filter(|(key, _)| is_today(key)).map(|(_, count)| count).sum();
            let in_hour = done.get(&(wallet, hour)).copied().unwrap_or(0);
            let is_left = in_hour < FREE_JOBS_PER_HOUR_MAX && in_day < FREE_JOBS_PER_DAY_MAX;
            let checked = asking.checked(from, wallet, Input::Text("hi".into()));
            if is_heard {
                let told = FreeUse::of(&checked.request);
                prop_assert_eq!(asking.gate.hear(&told, asking.now), is_left);
                prop_assert!(!asking.gate.hear(&told, asking.now));
                *done.entry((wallet, hour)).or_default() += u32::from(is_left);
                continue;
            }
            let admitted = asking.admit(checked);
            prop_assert_eq!(admitted.is_ok(), is_left);
            let Ok(mut admitted) = admitted else { continue };
            if begins {
                prop_assert!(admitted.begin().is_some());
                *done.entry((wallet, hour)).or_default() += 1;
            }
            asking.gate.settle(&admitted, Usage::default(), asking.now);
        }
    }
}
