use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn name(name: &str) -> ModelName {
    name.parse().unwrap()
}

fn policy(memory_bytes_max: u64) -> Policy {
    Policy::new(PolicyOptions {
        memory_bytes_max,
        memory_bytes_reserved: 0,
        keep_alive: KeepAlive::For(300 * SECOND),
        patience: 5 * SECOND,
        restarts: Restarts::default(),
    })
}

fn model(memory_bytes: u64) -> PolicyModel {
    PolicyModel { memory_bytes, slots: 2, is_pinned: false }
}

fn pinned(memory_bytes: u64) -> PolicyModel {
    PolicyModel { is_pinned: true, ..model(memory_bytes) }
}

fn load(of: &str) -> Action {
    Action::Load(name(of))
}

fn unload(of: &str) -> Action {
    Action::Unload(name(of))
}

fn refusal(actions: &[Action]) -> Refusal {
    match actions {
        [Action::Refuse(_, refusal)] => refusal.clone(),
        other => panic!("no refusal: {other:?}"),
    }
}

/// A policy with these models in memory, loaded one second after the other from second 0 on.
fn with(max: u64, models: &[(&str, u64)]) -> Policy {
    let mut policy = policy(max);
    for (second, (of, bytes)) in (0..).zip(models) {
        let now = second * SECOND;
        policy.add(now, name(of), model(*bytes)).unwrap();
        let id = u64::from(second) + 1000;
        assert_eq!(policy.ask(now, &name(of), id, None, Wish::Request), [load(of)]);
        assert_eq!(policy.loaded(now, &name(of), 2), [Action::Run(id)]);
        assert_eq!(policy.ended(now, id), []);
    }
    policy
}

#[test]
fn a_model_is_loaded_when_asked_for_and_goes_when_unused() {
    let mut policy = with(10, &[("a", 4)]);
    assert_eq!(policy.next_tick(SECOND), Some(300 * SECOND));
    assert_eq!(policy.ask(100 * SECOND, &name("a"), 1, None, Wish::Request), [Action::Run(1)]);
    assert_eq!(policy.tick(500 * SECOND), [], "it has work");
    assert_eq!(policy.ended(500 * SECOND, 1), []);
    assert_eq!(policy.tick(799 * SECOND), []);
    assert_eq!(policy.tick(800 * SECOND), [unload("a")]);
    assert_eq!(
        policy.ask(800 * SECOND, &name("a"), 2, None, Wish::Request),
        [],
        "it waits for the end"
    );
    assert_eq!(policy.unloaded(801 * SECOND, &name("a")), [load("a")]);
}

#[test]
fn who_asks_may_say_how_long_a_model_stays() {
    for (keep, unloaded_at) in [
        (Some(KeepAlive::For(Duration::ZERO)), Some(10)),
        (Some(KeepAlive::For(60 * SECOND)), Some(70)),
        (Some(KeepAlive::Forever), None),
        (None, Some(310)),
    ] {
        let mut policy = with(10, &[("a", 4)]);
        policy.ask(SECOND, &name("a"), 1, keep, Wish::Request);
        let mut actions = policy.ended(10 * SECOND, 1);
        let mut at = 10 * SECOND;
        if actions.is_empty() {
            at = policy.next_tick(at).unwrap_or(at);
            actions = policy.tick(at);
        }
        assert_eq!(actions.contains(&unload("a")).then_some(at.as_secs()), unloaded_at, "{keep:?}");
    }
}

#[test]
fn the_longest_unused_idle_model_makes_room() {
    let mut policy = with(10, &[("a", 4), ("b", 4)]);
    policy.ask(10 * SECOND, &name("a"), 1, None, Wish::Request);
    policy.ended(10 * SECOND, 1);
    policy.add(11 * SECOND, name("c"), model(4)).unwrap();
    assert_eq!(policy.ask(11 * SECOND, &name("c"), 2, None, Wish::Request), [unload("b")]);
    assert_eq!(policy.unloaded(12 * SECOND, &name("b")), [load("c")]);
}

#[test]
fn a_busy_model_makes_room_after_patience_and_only_when_its_work_is_done() {
    let mut policy = with(10, &[("a", 6)]);
    policy.add(SECOND, name("b"), model(6)).unwrap();
    policy.ask(10 * SECOND, &name("a"), 1, None, Wish::Request);
    assert_eq!(policy.ask(11 * SECOND, &name("b"), 2, None, Wish::Request), []);
    assert_eq!(policy.ask(12 * SECOND, &name("a"), 3, None, Wish::Request), [Action::Run(3)]);
    policy.ended(13 * SECOND, 1);
    assert_eq!(policy.next_tick(13 * SECOND), Some(16 * SECOND));
    assert_eq!(policy.tick(16 * SECOND), []);
    assert_eq!(
        policy.ask(17 * SECOND, &name("a"), 4, None, Wish::Request),
        [],
        "now it waits behind b"
    );
    assert_eq!(policy.ended(18 * SECOND, 3), [unload("a")]);
    assert_eq!(policy.unloaded(19 * SECOND, &name("a")), [load("b")]);
    assert_eq!(policy.loaded(20 * SECOND, &name("b"), 2), [Action::Run(2)]);
    // And back: a has waited long, but b stays for its time too.
    assert_eq!(policy.ask(21 * SECOND, &name("b"), 5, None, Wish::Request), [Action::Run(5)]);
    policy.ended(22 * SECOND, 2);
    assert_eq!(policy.ended(22 * SECOND, 5), [unload("b")], "idle, it may go");
    assert_eq!(policy.unloaded(23 * SECOND, &name("b")), [load("a")]);
}

#[test]
fn small_ones_pass_a_waiting_large_one_only_while_it_is_patient() {
    let mut policy = with(10, &[("a", 6)]);
    policy.add(SECOND, name("large"), model(8)).unwrap();
    policy.add(SECOND, name("small"), model(2)).unwrap();
    policy.add(SECOND, name("tiny"), model(1)).unwrap();
    policy.ask(10 * SECOND, &name("a"), 1, None, Wish::Request);
    assert_eq!(policy.ask(10 * SECOND, &name("large"), 2, None, Wish::Request), []);
    assert_eq!(policy.ask(11 * SECOND, &name("small"), 3, None, Wish::Request), [load("small")]);
    assert_eq!(policy.ask(16 * SECOND, &name("tiny"), 4, None, Wish::Request), []);
}

#[test]
fn pinned_models_are_loaded_at_once_and_stay_unless_dismissed() {
    let mut policy = policy(10);
    assert_eq!(policy.add(SECOND, name("p"), pinned(6)).unwrap(), [load("p")]);
    policy.loaded(SECOND, &name("p"), 2);
    assert_eq!(policy.tick(10_000 * SECOND), []);
    policy.add(SECOND, name("a"), model(4)).unwrap();
    assert_eq!(policy.ask(SECOND, &name("a"), 1, None, Wish::Request), [load("a")]);
    let too_large = FleetError::PinnedTooLarge { needed_bytes: 11, max_bytes: 10 };
    assert_eq!(policy.add(SECOND, name("q"), pinned(5)), Err(too_large));
    assert_eq!(policy.dismiss(2 * SECOND, &name("p")).unwrap(), [unload("p")]);
    assert_eq!(policy.unloaded(3 * SECOND, &name("p")), [], "it stays away until it is asked for");
    assert_eq!(policy.ask(4 * SECOND, &name("p"), 2, None, Wish::Request), [load("p")]);
    policy.loaded(5 * SECOND, &name("p"), 2);
    policy.ended(6 * SECOND, 2);
    // A pinned process that fails comes back without being asked.
    assert_eq!(policy.failed(100 * SECOND, &name("p"), "", &[]), [load("p")]);
}

#[test]
fn what_fits_nowhere_is_refused_with_the_numbers() {
    let mut policy = policy(10);
    policy.add(SECOND, name("p"), pinned(3)).unwrap();
    policy.add(SECOND, name("a"), model(8)).unwrap();
    let refusal = refusal(&policy.ask(SECOND, &name("a"), 1, None, Wish::Request));
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    let words = "the model needs 8 bytes of memory, 7 of 10 can be given to it";
    assert_eq!(refusal.detail, words);
    assert!(!policy.is_listed(SECOND, &name("a")) && policy.is_listed(SECOND, &name("p")));
}

#[test]
fn a_pin_that_comes_after_an_ask_is_told_to_it() {
    let mut policy = with(10, &[("a", 5)]);
    policy.add(SECOND, name("b"), model(8)).unwrap();
    policy.ask(10 * SECOND, &name("a"), 1, None, Wish::Request);
    assert_eq!(policy.ask(10 * SECOND, &name("b"), 2, None, Wish::Request), []);
    let actions = policy.pin(11 * SECOND, &name("a"), true).unwrap();
    assert_eq!(refusal(&actions).code, RefusalCode::ProviderFailed);
}

#[test]
fn more_requests_than_slots_are_refused_waiting_or_running() {
    let mut policy = policy(10);
    policy.add(SECOND, name("a"), model(4)).unwrap();
    policy.ask(SECOND, &name("a"), 1, None, Wish::Request);
    policy.ask(SECOND, &name("a"), 2, None, Wish::Request);
    let busy = refusal(&policy.ask(SECOND, &name("a"), 3, None, Wish::Request));
    assert_eq!(busy.code, RefusalCode::Busy);
    assert_eq!(policy.ask(SECOND, &name("a"), 4, None, Wish::Load), [], "loading takes no slot");
    let all = [Action::Run(1), Action::Run(2), Action::Run(4)];
    assert_eq!(policy.loaded(SECOND, &name("a"), 2), all);
    assert_eq!(
        refusal(&policy.ask(SECOND, &name("a"), 5, None, Wish::Request)).code,
        RefusalCode::Busy
    );
    policy.ended(SECOND, 1);
    assert_eq!(policy.ask(SECOND, &name("a"), 6, None, Wish::Request), [Action::Run(6)]);
    assert_eq!(
        refusal(&policy.ask(SECOND, &name("z"), 7, None, Wish::Request)).code,
        RefusalCode::UnknownModel
    );
}

#[test]
fn a_crash_is_retried_at_once_and_a_loop_of_crashes_is_refused_for_a_while() {
    let mut policy = with(10, &[("a", 4), ("b", 4)]);
    let (a, mut now) = (name("a"), 10 * SECOND);
    policy.ask(now, &a, 1, None, Wish::Request);
    policy.ask(now, &a, 2, None, Wish::Request);
    assert_eq!(policy.failed(now, &a, "it aborted", &[2]), [load("a")]);
    assert_eq!(policy.loaded(now, &a, 2), [Action::Run(2)], "1 is over");
    assert_eq!(policy.failed(now, &a, "it aborted", &[]), []);
    assert!(!policy.is_listed(now, &a) && policy.is_listed(now, &name("b")));
    assert_eq!(policy.ask(now, &a, 3, None, Wish::Request), [], "it waits for the next try");
    now = policy.next_tick(now).unwrap();
    assert_eq!(policy.tick(now), [load("a")]);
    policy.loaded(now, &a, 2);
    policy.failed(now, &a, "it aborted", &[3]);
    now = policy.next_tick(now).unwrap();
    assert_eq!(policy.tick(now), [load("a")]);
    policy.loaded(now, &a, 2);
    let told = refusal(&policy.failed(now, &a, "it aborted", &[3]));
    let words = "the model's process fails again and again (it aborted); ask again later";
    assert_eq!(told.detail, words);
    assert_eq!(told.retry_after_ms, Some(2000));
    let told = refusal(&policy.ask(now, &a, 4, None, Wish::Request));
    assert_eq!((told.code, told.retry_after_ms), (RefusalCode::ProviderFailed, Some(2000)));
    assert_eq!(policy.ask(now, &name("b"), 5, None, Wish::Request), [Action::Run(5)], "b works on");
    now = policy.next_tick(now).unwrap();
    policy.tick(now);
    assert!(policy.is_listed(now, &a));
    assert_eq!(policy.ask(now, &a, 6, None, Wish::Request), [load("a")]);
    policy.loaded(now, &a, 2);
    now += 60 * SECOND;
    assert_eq!(policy.failed(now, &a, "", &[6]), [load("a")], "healthy for long, it starts anew");
    assert_eq!(policy.failures(&a), 5);
}

#[test]
fn what_crashed_comes_back_unasked_while_there_is_room() {
    let mut policy = with(10, &[("a", 4), ("b", 4)]);
    assert_eq!(policy.failed(10 * SECOND, &name("b"), "it aborted", &[]), [load("b")]);
    assert_eq!(policy.loaded(11 * SECOND, &name("b"), 2), []);
    assert_eq!(policy.next_tick(300 * SECOND), Some(311 * SECOND), "for as long as others");
    // Not at the cost of others, not when it was to go, and not in a loop.
    assert_eq!(policy.failed(12 * SECOND, &name("b"), "it aborted", &[]), []);
    policy.add(12 * SECOND, name("c"), model(5)).unwrap();
    assert_eq!(policy.ask(12 * SECOND, &name("c"), 1, None, Wish::Request), [load("c")]);
    assert_eq!(policy.tick(13 * SECOND), [], "a is idle and stays");
    policy.loaded(13 * SECOND, &name("c"), 2);
    policy.dismiss(13 * SECOND, &name("c")).unwrap();
    assert_eq!(policy.failed(14 * SECOND, &name("c"), "it aborted", &[]), []);
}

#[test]
fn models_and_those_who_wait_for_them_are_counted() {
    let mut policy = policy(10);
    for n in 0..FLEET_MODELS_MAX {
        policy.add(SECOND, name(&format!("m{n}")), model(1)).unwrap();
    }
    assert_eq!(policy.add(SECOND, name("more"), model(1)), Err(FleetError::Full));
    for id in 0..LOADS_WAITING_MAX as u64 {
        policy.ask(SECOND, &name("m0"), id, None, Wish::Load);
    }
    let busy = refusal(&policy.ask(SECOND, &name("m0"), 1000, None, Wish::Load));
    assert_eq!(busy.code, RefusalCode::Busy);
    assert_eq!(
        policy.ask(SECOND, &name("m0"), 1001, None, Wish::Request),
        [],
        "requests are apart"
    );
}

#[test]
fn when_loading_fails_those_who_wait_are_told_why() {
    let mut policy = policy(10);
    policy.add(SECOND, name("a"), model(4)).unwrap();
    policy.ask(SECOND, &name("a"), 1, None, Wish::Request);
    let told = refusal(&policy.failed(SECOND, &name("a"), "no such file", &[]));
    assert_eq!(told.detail, "the model could not be loaded: no such file");
    assert_eq!(policy.ask(SECOND, &name("a"), 2, None, Wish::Request), [load("a")]);
}

#[test]
fn a_removed_model_ends_its_work_and_is_gone() {
    let mut policy = with(10, &[("a", 4)]);
    let a = name("a");
    policy.ask(SECOND, &a, 1, None, Wish::Request);
    assert_eq!(policy.remove(SECOND, &a).unwrap(), []);
    assert_eq!(
        refusal(&policy.ask(SECOND, &a, 2, None, Wish::Request)).code,
        RefusalCode::UnknownModel
    );
    assert_eq!(policy.add(SECOND, a.clone(), model(4)), Err(FleetError::Exists));
    assert_eq!(policy.ended(SECOND, 1), [unload("a")]);
    policy.unloaded(SECOND, &a);
    assert_eq!(policy.place(&a), None);
    assert_eq!(policy.remove(SECOND, &a), Err(FleetError::Unknown));
}

#[test]
fn what_the_owner_uses_does_not_go_for_others() {
    // "a" is the owner's, by use.
    let mut policy = with(10, &[("a", 6)]);
    policy.add(SECOND, name("b"), model(6)).unwrap();
    policy.add(SECOND, name("c"), model(4)).unwrap();
    let busy = refusal(&policy.ask(10 * SECOND, &name("b"), 1, None, Wish::Guest));
    assert_eq!(busy.code, RefusalCode::Busy);
    assert!(busy.retry_after_ms.is_some());
    assert_eq!(policy.ask(10 * SECOND, &name("c"), 2, None, Wish::Guest), [load("c")], "it fits");
    policy.loaded(10 * SECOND, &name("c"), 2);
    policy.ended(11 * SECOND, 2);
    // The owner's wish sends the guests' model away, although "a" was used longer ago.
    policy.add(SECOND, name("d"), model(3)).unwrap();
    assert_eq!(policy.ask(12 * SECOND, &name("d"), 3, None, Wish::Request), [unload("c")]);
    assert_eq!(policy.unloaded(12 * SECOND, &name("c")), [load("d")]);
    // Once it has gone by itself, others may have its place.
    policy.loaded(12 * SECOND, &name("d"), 2);
    policy.ended(13 * SECOND, 3);
    assert_eq!(policy.tick(300 * SECOND), [unload("a")]);
    policy.unloaded(300 * SECOND, &name("a"));
    assert_eq!(policy.ask(301 * SECOND, &name("b"), 4, None, Wish::Guest), [load("b")]);
}

#[test]
fn what_the_owner_uses_is_still_the_owners_when_it_comes_back_from_a_crash() {
    let mut policy = with(10, &[("a", 6)]);
    policy.add(SECOND, name("b"), model(6)).unwrap();
    assert_eq!(policy.failed(10 * SECOND, &name("a"), "words", &[]), [load("a")]);
    let while_it_loads = refusal(&policy.ask(10 * SECOND, &name("b"), 1, None, Wish::Guest));
    assert_eq!(while_it_loads.code, RefusalCode::Busy);
    policy.loaded(11 * SECOND, &name("a"), 2);
    let once_it_is_back = refusal(&policy.ask(12 * SECOND, &name("b"), 2, None, Wish::Guest));
    assert_eq!(once_it_is_back.code, RefusalCode::Busy);
    // Gone by itself it is nobody's.
    assert_eq!(policy.tick(400 * SECOND), [unload("a")]);
    policy.unloaded(400 * SECOND, &name("a"));
    assert_eq!(policy.ask(401 * SECOND, &name("b"), 3, None, Wish::Guest), [load("b")]);
}

#[test]
fn what_the_owner_waited_for_in_vain_is_a_guests_when_a_guest_has_it_loaded() {
    let mut policy = policy(10);
    for of in ["a", "b"] {
        policy.add(SECOND, name(of), model(6)).unwrap();
    }
    assert_eq!(policy.ask(SECOND, &name("b"), 1, None, Wish::Request), [load("b")]);
    policy.loaded(SECOND, &name("b"), 2);
    // The owner leaves before there is room.
    assert_eq!(policy.ask(SECOND, &name("a"), 2, None, Wish::Request), []);
    policy.ended(2 * SECOND, 2);
    policy.ended(2 * SECOND, 1);
    assert_eq!(policy.dismiss(2 * SECOND, &name("b")).unwrap(), [unload("b")]);
    policy.unloaded(3 * SECOND, &name("b"));
    assert_eq!(policy.ask(3 * SECOND, &name("a"), 3, None, Wish::Guest), [load("a")]);
    policy.loaded(3 * SECOND, &name("a"), 2);
    policy.ended(4 * SECOND, 3);
    let other_guest = policy.ask(100 * SECOND, &name("b"), 4, None, Wish::Guest);
    assert_eq!(other_guest, [unload("a")], "a guest's model makes room for another's");
}

#[test]
fn what_is_reserved_is_for_the_owner_alone() {
    let mut policy = policy(10);
    policy.options.memory_bytes_reserved = 6;
    for (of, bytes) in [("a", 5), ("b", 4), ("c", 1)] {
        policy.add(SECOND, name(of), model(bytes)).unwrap();
    }
    let busy = refusal(&policy.ask(SECOND, &name("a"), 1, None, Wish::Guest));
    assert_eq!(busy.code, RefusalCode::Busy, "5 of the 4 that are left");
    assert_eq!(policy.ask(SECOND, &name("b"), 2, None, Wish::Guest), [load("b")]);
    policy.loaded(SECOND, &name("b"), 2);
    assert_eq!(policy.ask(SECOND, &name("c"), 3, None, Wish::Guest), [], "it waits for b");
    assert_eq!(policy.ask(SECOND, &name("a"), 4, None, Wish::Request), [load("a")]);
    assert_eq!(policy.loaded(SECOND, &name("a"), 2), [Action::Run(4)]);
    let run = policy.ask(SECOND, &name("a"), 5, None, Wish::Guest);
    assert_eq!(run, [Action::Run(5)], "what the owner has loaded others may use");
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask {
        model: u8,
        keep: u8,
        wish: Wish,
    },
    /// The oldest process that is being started is there, or is not.
    Loaded {
        is_well: bool,
    },
    /// The oldest process that is being ended is gone.
    Gone,
    /// A process in memory fails.
    Crash {
        model: u8,
        is_retried: bool,
    },
    /// Work ends, or somebody gives up.
    End {
        pick: u8,
    },
    Wait {
        millis: u16,
    },
    Dismiss {
        model: u8,
    },
    Pin {
        model: u8,
        is_pinned: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let model = || 0..5_u8;
    prop_oneof![
        6 => (model(), 0..8_u8, wish())
            .prop_map(|(model, keep, wish)| Event::Ask { model, keep, wish }),
        4 => prop::bool::weighted(0.9).prop_map(|is_well| Event::Loaded { is_well }),
        4 => Just(Event::Gone),
        1 => (model(), any::<bool>())
            .prop_map(|(model, is_retried)| Event::Crash { model, is_retried }),
        5 => any::<u8>().prop_map(|pick| Event::End { pick }),
        4 => (0..20_000_u16).prop_map(|millis| Event::Wait { millis }),
        1 => model().prop_map(|model| Event::Dismiss { model }),
        1 => (model(), any::<bool>()).prop_map(|(model, is_pinned)| Event::Pin { model, is_pinned }),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![4 => Just(Wish::Request), 4 => Just(Wish::Guest), 1 => Just(Wish::Load)]
}

/// What the outside of the policy looks like, and what must always be so.
struct World {
    policy: Policy,
    now: Duration,
    max: u64,
    bytes: BTreeMap<ModelName, u64>,
    place: BTreeMap<ModelName, Place>,
    waiting: BTreeMap<u64, (ModelName, Wish)>,
    running: BTreeMap<u64, (ModelName, Wish)>,
    answered: HashSet<u64>,
    next_id: u64,
    /// Models the owner has asked for since they came into memory.
    owners: BTreeSet<ModelName>,
}

impl World {
    fn new(patience_ms: u64, reserved: u64) -> Self {
        let max = 10;
        let mut policy = policy(max);
        policy.options.memory_bytes_reserved = reserved;
        policy.options.patience = Duration::from_millis(patience_ms);
        let mut bytes = BTreeMap::new();
        for (of, size) in [("a", 2), ("b", 4), ("c", 6), ("d", 10), ("e", 5)] {
            assert_eq!(policy.add(Duration::ZERO, name(of), model(size)), Ok(vec![]));
            bytes.insert(name(of), size);
        }
        let place = bytes.keys().map(|of| (of.clone(), Place::Out)).collect();
        let (waiting, running) = (BTreeMap::new(), BTreeMap::new());
        let (now, answered, next_id) = (Duration::ZERO, HashSet::new(), 0);
        let owners = BTreeSet::new();
        Self { policy, now, max, bytes, place, waiting, running, answered, next_id, owners }
    }

    fn at(&self, place: Place) -> Vec<ModelName> {
        let there = self.place.iter().filter(|(_, at)| **at == place);
        there.map(|(of, _)| of.clone()).collect()
    }

    fn pick(&self, model: u8) -> ModelName {
        self.bytes.keys().nth(usize::from(model)).unwrap().clone()
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Load(of) => {
                    let before = self.place.insert(of, Place::Loading);
                    assert_eq!(before, Some(Place::Out), "loaded once");
                }
                Action::Unload(of) => {
                    assert!(!self.running.values().any(|(model, _)| *model == of), "it has work");
                    let before = self.place.insert(of, Place::Leaving);
                    assert_eq!(before, Some(Place::In));
                }
                Action::Run(id) => {
                    let (of, wish) = self.waiting.remove(&id).expect("asked and waiting");
                    assert_eq!(self.place[&of], Place::In);
                    if wish.is_request() {
                        self.running.insert(id, (of, wish));
                    } else {
                        assert!(self.answered.insert(id));
                    }
                }
                Action::Refuse(id, _) => {
                    assert!(self.waiting.remove(&id).is_some(), "asked and waiting");
                    assert!(self.answered.insert(id));
                }
            }
            let used = self.place.iter().filter(|(_, at)| **at != Place::Out);
            let used: u64 = used.map(|(of, _)| self.bytes[of]).sum();
            assert!(used <= self.max, "{used} bytes of {}", self.max);
        }
        for (of, place) in &self.place {
            assert_eq!(self.policy.place(of), Some(*place));
        }
    }

    /// The owner uses no more what is gone, unless he waits for it.
    fn forget_what_went(&mut self) {
        let (place, waiting) = (&self.place, &self.waiting);
        let awaits = |of: &ModelName| waiting.values().any(|(m, w)| m == of && *w != Wish::Guest);
        self.owners.retain(|of| place[of] != Place::Out || awaits(of));
    }

    /// What others ask for sends nothing away that the owner uses.
    fn spares_the_owner(&self, event: Event, actions: &[Action]) {
        let Event::Ask { model, wish: Wish::Guest, .. } = event else {
            return;
        };
        if self.policy.models[&self.pick(model)].is_pinned {
            // The owner wants it always, whoever asks.
            return;
        }
        for action in actions {
            if let Action::Unload(of) = action {
                assert!(!self.owners.contains(of), "{of} went for a guest");
            }
        }
    }

    /// What was due anyway is done, so that the next actions are those of the next event.
    fn come_due(&mut self) {
        loop {
            let actions = self.policy.tick(self.now);
            if actions.is_empty() {
                return;
            }
            self.act(actions);
        }
    }

    fn step(&mut self, event: Event) {
        self.come_due();
        let now = self.now;
        let actions = match event {
            Event::Ask { model, keep, wish } => {
                let keep = match keep {
                    0 => Some(KeepAlive::For(Duration::ZERO)),
                    1 => Some(KeepAlive::Forever),
                    2 => Some(KeepAlive::For(3 * SECOND)),
                    _ => None,
                };
                let (id, of) = (self.next_id, self.pick(model));
                self.next_id += 1;
                self.waiting.insert(id, (of.clone(), wish));
                let actions = self.policy.ask(now, &of, id, keep, wish);
                let is_refused =
                    actions.iter().any(|a| matches!(a, Action::Refuse(of, _) if *of == id));
                if wish != Wish::Guest && !is_refused {
                    self.owners.insert(of);
                }
                actions
            }
            Event::Loaded { is_well } => {
                let Some(of) = self.at(Place::Loading).pop() else { return };
                if is_well {
                    self.place.insert(of.clone(), Place::In);
                    self.policy.loaded(now, &of, 2)
                } else {
                    self.place.insert(of.clone(), Place::Out);
                    // Whoever waits for it is refused.
                    self.owners.remove(&of);
                    self.policy.failed(now, &of, "words", &[])
                }
            }
            Event::Gone => {
                let Some(of) = self.at(Place::Leaving).pop() else { return };
                self.place.insert(of.clone(), Place::Out);
                self.forget_what_went();
                self.policy.unloaded(now, &of)
            }
            Event::Crash { model, is_retried } => self.crash(&self.pick(model), is_retried),
            Event::End { pick } => {
                let all: Vec<u64> =
                    self.running.keys().chain(self.waiting.keys()).copied().collect();
                let Some(id) = all.get(usize::from(pick) % all.len().max(1)).copied() else {
                    return;
                };
                self.running.remove(&id);
                self.waiting.remove(&id);
                self.answered.insert(id);
                self.policy.ended(now, id)
            }
            Event::Wait { millis } => {
                self.now += Duration::from_millis(millis.into());
                self.policy.tick(self.now)
            }
            Event::Dismiss { model } => {
                self.owners.remove(&self.pick(model));
                self.policy.dismiss(now, &self.pick(model)).unwrap()
            }
            Event::Pin { model, is_pinned } => {
                self.policy.pin(now, &self.pick(model), is_pinned).unwrap_or_default()
            }
        };
        self.spares_the_owner(event, &actions);
        self.act(actions);
        self.forget_what_went();
    }

    fn crash(&mut self, of: &ModelName, is_retried: bool) -> Vec<Action> {
        if self.place[of] != Place::In {
            return vec![];
        }
        let (gone, stay): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.running).into_iter().partition(|(_, (model, _))| model == of);
        self.running = stay;
        let retried: Vec<u64> = if is_retried { gone.keys().copied().collect() } else { vec![] };
        for (id, asked) in gone {
            if is_retried {
                self.waiting.insert(id, asked);
            } else {
                self.answered.insert(id);
            }
        }
        self.place.insert(of.clone(), Place::Out);
        self.policy.failed(self.now, of, "words", &retried)
    }

    /// From here on everything works and every answer ends: then nobody waits for ever.
    fn come_to_rest(&mut self) {
        for _ in 0..1000 {
            if self.waiting.is_empty() && self.running.is_empty() {
                assert_eq!(self.answered.len() as u64, self.next_id, "each ask, once");
                return;
            }
            self.step(Event::Loaded { is_well: true });
            self.step(Event::Gone);
            while let Some((id, _)) = self.running.pop_first() {
                self.answered.insert(id);
                let actions = self.policy.ended(self.now, id);
                self.act(actions);
            }
            if let Some(at) = self.policy.next_tick(self.now) {
                self.now = at;
                let actions = self.policy.tick(at);
                self.act(actions);
            }
        }
        panic!("asks are lost: {:?}, {:?}", self.waiting, self.policy);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn memory_stays_within_its_budget_and_every_ask_is_answered(
        patience_ms in prop_oneof![Just(0_u64), Just(5000), 0..10_000_u64],
        reserved in prop_oneof![Just(0_u64), 0..11_u64],
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new(patience_ms, reserved);
        for event in events {
            world.step(event);
        }
        world.come_to_rest();
    }
}
