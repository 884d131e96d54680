//! Rights and limits of approved peers, by example and against a plain count.

use std::collections::BTreeSet;

use arknet_types::{
    Delegation, DelegationBody, ModelDigest, NodeId, RequestBody, Salt, Signature, limits::ALIVE_MS,
};
use proptest::prelude::*;

use super::*;
use crate::{Permissions, SharedModels};

pub(super) const START: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;
const PEERS: u8 = 3;
const MODELS: [&str; 3] = ["a", "b", "c"];

pub(super) fn peer(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

pub(super) fn model(n: usize) -> ModelName {
    ModelName::new(MODELS[n]).unwrap()
}

pub(super) fn gate(who: Who) -> Admission {
    Admission::new(Policy {
        network: NetworkId::new("test").unwrap(),
        me: peer(200),
        started_at: START,
        who,
        requests_per_peer_max: 100,
    })
}

pub(super) fn permissions() -> Permissions {
    Permissions {
        can_request_inference: true,
        can_pull_models: false,
        models_shared: SharedModels::Only([model(0)].into()),
        max_concurrent_requests: 2,
        requests_per_minute: None,
        requests_per_day: None,
        tokens_per_minute: None,
        tokens_per_day: None,
    }
}

pub(super) fn grant(n: u8, permissions: Permissions) -> Grant {
    Grant {
        node_id: NodeId::new(format!("peer-{n}")).unwrap(),
        key: peer(n),
        name: String::new(),
        approved_at: START,
        permissions,
    }
}

pub(super) fn grants(list: impl IntoIterator<Item = Grant>) -> Grants {
    let mut grants = Grants::new();
    for grant in list {
        grants.insert(grant).unwrap();
    }
    grants
}

/// A request whose signatures nobody looks at any more; each peer has a session of its own.
pub(super) fn request(
    from: u8,
    input: Input,
    name: ModelName,
    nonce: u64,
    now: Timestamp,
) -> CheckedRequest {
    let network = NetworkId::new("test").unwrap();
    let signature = Signature([0; 64]);
    let delegation = Delegation {
        body: DelegationBody {
            network: network.clone(),
            wallet: peer(100 + from),
            session: peer(150 + from),
            spending_cap: Atoms(0),
            issued_at: START,
            expires_at: START.plus_ms(100 * DAY_MS),
            peer_scope: None,
            model_scope: None,
        },
        signature,
    };
    let (salt, infer) = (Salt([7; 32]), InferRequest::new(name, input));
    let body = RequestBody {
        network,
        audience: peer(200),
        nonce,
        sent_at: now,
        cost_max: Atoms(0),
        delegation_digest: [from; 32],
        infer_digest: infer.digest(&salt),
    };
    let request = Request { body, delegation, infer, salt, signature };
    CheckedRequest { from: peer(from), request, delegation_digest: [from; 32] }
}

fn usage(tokens: u32) -> Usage {
    Usage { prompt_tokens: tokens / 2, completion_tokens: tokens - tokens / 2, ..Usage::default() }
}

struct Asking {
    gate: Admission,
    nonce: u64,
    now: Timestamp,
}

impl Asking {
    fn new(list: impl IntoIterator<Item = Grant>) -> Self {
        let mut gate = gate(Who::Approved);
        gate.set_grants(grants(list), START);
        Self { gate, nonce: 0, now: START }
    }

    fn input(
        &mut self,
        from: u8,
        input: Input,
        name: &ModelName,
        tokens: u32,
    ) -> Result<Admitted, Refusal> {
        self.nonce += 1;
        let checked = request(from, input, name.clone(), self.nonce, self.now);
        let offered = Offered { name, price: Price::default() };
        self.gate.admit(checked, Some(offered), usage(tokens), self.now)
    }

    fn ask(&mut self, from: u8, n: usize, tokens: u32) -> Result<Admitted, Refusal> {
        self.input(from, Input::Text("hi".into()), &model(n), tokens)
    }

    fn code(&mut self, from: u8, n: usize, tokens: u32) -> RefusalCode {
        self.ask(from, n, tokens).expect_err("refused").code
    }

    fn end(&mut self, admitted: &Admitted, tokens: u32) {
        self.gate.settle(admitted, usage(tokens), self.now);
    }
}

#[test]
fn who_is_not_approved_is_turned_away_at_the_door_and_remembered() {
    let mut asking = Asking::new([grant(1, permissions())]);
    assert_eq!(asking.gate.knock(peer(1), START), Ok(()));
    let refusal = asking.gate.knock(peer(2), START).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NotPermitted);
    // Whatever it asks for, served here or not, it hears the same words.
    assert_eq!(asking.ask(2, 0, 0).unwrap_err(), refusal);
    let checked = request(2, Input::Text("hi".into()), model(2), 9, START);
    assert_eq!(asking.gate.admit(checked, None, usage(0), START).unwrap_err(), refusal);
    assert_eq!(asking.gate.knocks().get(&peer(2)).unwrap().count, 3);
    let approved = grants([grant(1, permissions()), grant(2, permissions())]);
    asking.gate.set_grants(approved, START);
    assert_eq!(asking.gate.knocks().iter().count(), 0, "who is approved is not pending");
    let admitted = asking.ask(2, 0, 0).unwrap();
    asking.end(&admitted, 0);
}

#[test]
fn each_permission_counts_by_itself() {
    let file = Input::File { digest: ModelDigest([1; 32]), offset: 0, length: 0 };
    for (can_ask, can_pull) in [(true, true), (true, false), (false, true), (false, false)] {
        let given = Permissions {
            can_request_inference: can_ask,
            can_pull_models: can_pull,
            ..permissions()
        };
        let mut asking = Asking::new([grant(1, given)]);
        let may = |result: Result<Admitted, Refusal>| match result {
            Ok(_) => true,
            Err(refusal) => {
                assert_eq!(refusal.code, RefusalCode::NotPermitted);
                false
            }
        };
        assert_eq!(may(asking.ask(1, 0, 0)), can_ask);
        assert_eq!(may(asking.input(1, file.clone(), &model(0), 0)), can_pull);
        assert!(!may(asking.ask(1, 1, 0)) && !may(asking.input(1, file.clone(), &model(1), 0)));
    }
}

#[test]
fn a_model_that_is_not_shared_and_one_that_is_not_here_look_alike() {
    let mut asking = Asking::new([grant(1, permissions())]);
    let here = asking.ask(1, 1, 0).unwrap_err();
    let checked = request(1, Input::Text("hi".into()), model(2), 9, START);
    let not_here = asking.gate.admit(checked, None, usage(0), START).unwrap_err();
    assert_eq!(here, not_here);
    let checked = request(1, Input::Text("hi".into()), model(0), 10, START);
    let shared = asking.gate.admit(checked, None, usage(0), START).unwrap_err();
    assert_eq!(shared.code, RefusalCode::UnknownModel, "of what is shared it may know");
    // By its digest, too, it is the model's name here that counts.
    let by_digest = ModelName::new(ModelDigest([1; 32]).to_string()).unwrap();
    let ask = |asking: &mut Asking, name: &ModelName| {
        asking.nonce = asking.nonce.max(20) + 1;
        let input = Input::Text("hi".into());
        let checked = request(1, input, by_digest.clone(), asking.nonce, START);
        let offered = Offered { name, price: Price::default() };
        asking.gate.admit(checked, Some(offered), usage(0), START)
    };
    assert!(ask(&mut asking, &model(0)).is_ok());
    assert_eq!(ask(&mut asking, &model(1)).unwrap_err().code, RefusalCode::NotPermitted);
}

#[test]
fn limits_are_those_of_each_peer_and_pass_with_the_minute() {
    let given = Permissions {
        max_concurrent_requests: 2,
        requests_per_minute: Some(3),
        tokens_per_minute: Some(100),
        ..permissions()
    };
    let mut asking = Asking::new([grant(1, given.clone()), grant(2, given)]);
    let first = asking.ask(1, 0, 10).unwrap();
    let second = asking.ask(1, 0, 10).unwrap();
    assert_eq!(asking.code(1, 0, 10), RefusalCode::RateLimited, "two at once");
    let other = asking.ask(2, 0, 100).unwrap();
    asking.end(&first, 10);
    asking.end(&second, 10);
    let refusal = asking.ask(1, 0, 81).unwrap_err();
    assert!(
        refusal.retry_after_ms.is_some() && refusal.detail.contains("20 are used"),
        "{refusal}"
    );
    let refusal = asking.ask(1, 0, 101).unwrap_err();
    assert_eq!(refusal.retry_after_ms, None, "no waiting helps against {refusal}");
    let third = asking.ask(1, 0, 80).unwrap();
    asking.end(&third, 0);
    assert_eq!(asking.code(1, 0, 1), RefusalCode::RateLimited, "three in a minute");
    asking.now = asking.now.plus_ms(MINUTE_MS);
    let again = asking.ask(1, 0, 100).unwrap();
    asking.end(&again, 100);
    // What began in one minute is held until it ends, and counts where it ends.
    assert_eq!(asking.code(2, 0, 1), RefusalCode::RateLimited);
    asking.end(&other, 30);
    assert!(asking.ask(2, 0, 70).is_ok());
    assert_eq!(asking.code(2, 0, 1), RefusalCode::RateLimited);
}

#[test]
fn a_day_is_counted_across_restarts_and_revocations() {
    let given =
        Permissions { requests_per_day: Some(2), tokens_per_day: Some(100), ..permissions() };
    let mut asking = Asking::new([grant(1, given.clone())]);
    let first = asking.ask(1, 0, 90).unwrap();
    asking.end(&first, 60);
    let used = PeerUse { running: 0, requests_today: 1, tokens_today: 60 };
    assert_eq!(asking.gate.peer_use(&peer(1), START), used);
    asking.gate.set_grants(Grants::new(), START);
    asking.gate.set_grants(grants([grant(1, given.clone())]), START);
    let uses: Vec<_> = asking.gate.day_uses(START).collect();
    asking = Asking::new([grant(1, given)]);
    for (peer, used) in uses {
        asking.gate.resume(peer, used);
    }
    assert_eq!(asking.code(1, 0, 41), RefusalCode::RateLimited);
    assert!(asking.ask(1, 0, 40).is_ok());
    assert_eq!(asking.code(1, 0, 0), RefusalCode::RateLimited);
    asking.now = Timestamp((START.0 / DAY_MS + 1) * DAY_MS);
    assert_eq!(asking.gate.peer_use(&peer(1), asking.now).tokens_today, 0);
    assert!(asking.ask(1, 0, 60).is_ok());
}

#[test]
fn who_loses_a_right_loses_what_runs_by_it() {
    let file = Input::File { digest: ModelDigest([1; 32]), offset: 0, length: 0 };
    let all = Permissions {
        can_pull_models: true,
        models_shared: SharedModels::All,
        max_concurrent_requests: 9,
        ..permissions()
    };
    let mut asking = Asking::new([grant(1, all.clone()), grant(2, all.clone())]);
    let [a, b] = [0, 1].map(|n| asking.ask(1, n, 0).unwrap());
    let pull = asking.input(1, file, &model(0), 0).unwrap();
    let other = asking.ask(2, 0, 0).unwrap();
    let mut change = |permissions: Permissions| {
        let list = [grant(1, permissions), grant(2, all.clone())];
        asking.gate.set_grants(grants(list), START)
    };
    assert!(change(all.clone()).is_empty());
    assert!(change(Permissions { max_concurrent_requests: 0, ..all.clone() }).is_empty());
    let only = SharedModels::Only([model(0)].into());
    assert_eq!(change(Permissions { models_shared: only, ..all.clone() }), [b.id]);
    assert_eq!(change(Permissions { can_pull_models: false, ..all.clone() }), [pull.id]);
    let no_inference = Permissions { can_request_inference: false, ..all.clone() };
    assert_eq!(change(no_inference), [a.id, b.id]);
    let lost = asking.gate.set_grants(grants([grant(2, all.clone())]), START);
    assert_eq!(lost, [a.id, b.id, pull.id]);
    for admitted in [&a, &b, &pull, &other] {
        asking.end(admitted, 0);
    }
    let lost = asking.gate.set_grants(Grants::new(), START);
    assert!(lost.is_empty(), "what is over is not cut");
}

#[test]
fn where_everybody_is_served_a_grant_still_binds() {
    let mut gate = gate(Who::Anyone { files: false });
    gate.set_grants(grants([grant(1, permissions())]), START);
    let file = Input::File { digest: ModelDigest([1; 32]), offset: 0, length: 0 };
    let name = model(1);
    let mut ask = |from, input: &Input, nonce| {
        let checked = request(from, input.clone(), name.clone(), nonce, START);
        let offered = Offered { name: &name, price: Price::default() };
        gate.admit(checked, Some(offered), usage(1), START).map(|admitted| admitted.held)
    };
    let text = Input::Text("hi".into());
    assert_eq!(ask(2, &text, 1), Ok(None));
    assert_eq!(ask(2, &file, 2).unwrap_err().code, RefusalCode::NotPermitted);
    assert_eq!(ask(1, &text, 3).unwrap_err().code, RefusalCode::NotPermitted);
}

/// Something that happens at the gate.
#[derive(Clone, Debug)]
enum Step {
    Ask { from: u8, model: usize, bound: u32, is_file: bool },
    End { which: usize, used: u32 },
    Approve(u8, Box<Permissions>),
    Revoke(u8),
    Wait(u64),
}

fn any_permissions() -> impl Strategy<Value = Permissions> {
    let models = prop_oneof![
        Just(SharedModels::All),
        proptest::collection::btree_set(0..MODELS.len(), 0..3).prop_map(|set| SharedModels::Only(
            set.into_iter().map(model).collect::<BTreeSet<_>>()
        )),
    ];
    let count = || proptest::option::of(0_u32..6);
    let tokens = || proptest::option::of(0_u64..200);
    (any::<bool>(), any::<bool>(), models, 0_u32..4, count(), count(), tokens(), tokens()).prop_map(
        |(ask, pull, models_shared, at_once, per_minute, per_day, tokens_minute, tokens_day)| {
            Permissions {
                can_request_inference: ask,
                can_pull_models: pull,
                models_shared,
                max_concurrent_requests: at_once,
                requests_per_minute: per_minute,
                requests_per_day: per_day,
                tokens_per_minute: tokens_minute,
                tokens_per_day: tokens_day,
            }
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0..PEERS;
    prop_oneof![
        6 => (who.clone(), 0..MODELS.len(), 0_u32..80, any::<bool>())
            .prop_map(|(from, model, bound, is_file)| Step::Ask { from, model, bound, is_file }),
        4 => (0_usize..8, 0_u32..80).prop_map(|(which, used)| Step::End { which, used }),
        2 => (who.clone(), any_permissions()).prop_map(|(n, p)| Step::Approve(n, Box::new(p))),
        1 => who.prop_map(Step::Revoke),
        2 => prop_oneof![1_u64..ALIVE_MS, Just(MINUTE_MS), Just(DAY_MS / 3)].prop_map(Step::Wait),
    ]
}

/// All that happened, in the plainest form: what was admitted, what it held, what it used and when.
#[derive(Debug)]
struct Deed {
    from: u8,
    model: usize,
    is_file: bool,
    at: Timestamp,
    bound: u64,
    ended: Option<(Timestamp, u64)>,
}

fn counted(deeds: &[Deed], from: u8, now: Timestamp, span: u64) -> (u64, u64) {
    let mine = || deeds.iter().filter(|deed| deed.from == from);
    let is_now = |at: Timestamp| at.0 / span == now.0 / span;
    let requests = mine().filter(|deed| is_now(deed.at)).count() as u64;
    let tokens = mine().map(|deed| match deed.ended {
        None => deed.bound,
        Some((at, used)) if is_now(at) => used,
        Some(_) => 0,
    });
    (requests, tokens.sum())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_is_admitted_that_a_plain_count_would_not_allow(
        steps in proptest::collection::vec(any_step(), 1..120)
    ) {
        let mut asking = Asking::new([]);
        let mut approved = BTreeMap::<u8, Permissions>::new();
        let mut deeds: Vec<Deed> = vec![];
        let mut running: Vec<(usize, Admitted)> = vec![];
        let bound = |n: Option<u32>| n.map_or(u64::MAX, u64::from);
        for step in steps {
            match step {
                Step::Wait(ms) => asking.now = asking.now.plus_ms(ms),
                Step::Ask { from, model: n, bound: tokens, is_file } => {
                    let digest = ModelDigest([1; 32]);
                    let (input, tokens) = match is_file {
                        true => (Input::File { digest, offset: 0, length: 0 }, 0),
                        false => (Input::Text("hi".into()), tokens),
                    };
                    let at = asking.now;
                    let allowed = approved.get(&from).is_some_and(|p| {
                        let may = if is_file { p.can_pull_models } else { p.can_request_inference };
                        let at_once = running.iter().filter(|(at, _)| deeds[*at].from == from).count();
                        let minute = counted(&deeds, from, at, MINUTE_MS);
                        let day = counted(&deeds, from, at, DAY_MS);
                        let tokens = u64::from(tokens);
                        may && p.models_shared.contains(&model(n))
                            && at_once < p.max_concurrent_requests as usize
                            && minute.0 < bound(p.requests_per_minute)
                            && day.0 < bound(p.requests_per_day)
                            && minute.1 + tokens <= p.tokens_per_minute.unwrap_or(u64::MAX)
                            && day.1 + tokens <= p.tokens_per_day.unwrap_or(u64::MAX)
                    });
                    let result = asking.input(from, input, &model(n), tokens);
                    prop_assert_eq!(result.is_ok(), allowed, "{:?}", result);
                    if let Ok(admitted) = result {
                        running.push((deeds.len(), admitted));
                        let bound = tokens.into();
                        deeds.push(Deed { from, model: n, is_file, at, bound, ended: None });
                    }
                }
                Step::End { which, used } if !running.is_empty() => {
                    let (at, admitted) = running.remove(which % running.len());
                    let used = u64::from(used).min(deeds[at].bound);
                    asking.end(&admitted, u32::try_from(used).unwrap());
                    deeds[at].ended = Some((asking.now, used));
                }
                Step::End { .. } => {}
                Step::Approve(..) | Step::Revoke(_) => {
                    match step {
                        Step::Approve(n, permissions) => drop(approved.insert(n, *permissions)),
                        Step::Revoke(n) => drop(approved.remove(&n)),
                        _ => unreachable!(),
                    }
                    let list = approved.iter().map(|(n, p)| grant(*n, p.clone()));
                    let lost = asking.gate.set_grants(grants(list), asking.now);
                    let expected: Vec<u64> = running.iter().filter(|(at, _)| {
                        let deed = &deeds[*at];
                        !approved.get(&deed.from).is_some_and(|p| {
                            let may = if deed.is_file { p.can_pull_models } else { p.can_request_inference };
                            may && p.models_shared.contains(&model(deed.model))
                        })
                    }).map(|(_, admitted)| admitted.id).collect();
                    let mut sorted = expected;
                    sorted.sort_unstable();
                    prop_assert_eq!(lost, sorted);
                }
            }
            prop_assert_eq!(asking.gate.running() as usize, running.len());
        }
    }
}
