use std::time::Duration;

use arknet_provider::{
    ModelDetails, ModelInfo, Provider,
    fleet::{Fleet, FleetError, FleetModel, FleetOptions, KeepAlive, ModelStats, Restarts},
};
use arknet_types::{Capabilities, RefusalCode};
use futures::FutureExt;

use crate::support::{ask, gone, name, options, program, rest, soon};

const HOUR: Duration = Duration::from_secs(3600);

fn fleet_options() -> FleetOptions {
    let mut fleet = FleetOptions::new(program(), vec![], 10);
    fleet.child = options();
    fleet
}

fn model(of: &str, memory_bytes: u64, how: &str) -> FleetModel {
    let info = ModelInfo {
        name: name(of),
        digest: None,
        projector: None,
        capabilities: Capabilities::GENERATE,
        context_tokens: 1,
        slots: 4,
        details: ModelDetails::default(),
    };
    FleetModel {
        info,
        memory_bytes,
        resident_bytes_max: None,
        setup: format!("{of} 4 {how}").into(),
        is_pinned: false,
    }
}

fn start(models: &[(&str, u64)]) -> Fleet {
    let fleet = Fleet::start(fleet_options());
    for (of, memory_bytes) in models {
        fleet.add(model(of, *memory_bytes, "")).unwrap();
    }
    fleet
}

async fn says(fleet: &Fleet, model: &str, script: &str) -> String {
    let mut generation = fleet.generate(ask(model, script)).unwrap();
    let (text, end) = rest(&mut generation).await;
    end.unwrap();
    text
}

fn loaded(fleet: &Fleet) -> Vec<String> {
    fleet.loaded().into_iter().map(|loaded| loaded.name.to_string()).collect()
}

async fn stats(fleet: &Fleet, of: &str) -> ModelStats {
    soon(fleet.stats()).await.into_iter().find(|stats| stats.name == name(of)).unwrap()
}

/// Waits until exactly these models are listed.
async fn until_listed(fleet: &Fleet, expected: &[&str]) {
    let mut models = fleet.models();
    let is_so = |models: &std::sync::Arc<[ModelInfo]>| {
        models.iter().map(|info| info.name.as_str()).eq(expected.iter().copied())
    };
    soon(models.wait_for(is_so)).await.unwrap();
}

#[tokio::test]
async fn a_model_is_loaded_when_it_is_asked_for() {
    let fleet = start(&[("a", 4), ("b", 4)]);
    until_listed(&fleet, &["a", "b"]).await;
    assert!(loaded(&fleet).is_empty());
    assert_eq!(says(&fleet, "a", "say 2").await, "0 1 ");
    assert_eq!(loaded(&fleet), ["a"]);
    let a = fleet.models().borrow()[0].clone();
    assert_eq!(a.context_tokens, 4096, "its process knows better");
    let refusal = fleet.generate(ask("z", "say 1")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownModel);
}

#[tokio::test]
async fn the_longest_unused_model_makes_room_and_its_process_is_gone() {
    let fleet = start(&[("a", 4), ("b", 4), ("c", 4), ("d", 11)]);
    until_listed(&fleet, &["a", "b", "c"]).await;
    for of in ["a", "b", "a"] {
        says(&fleet, of, "say 1").await;
    }
    let process = stats(&fleet, "b").await.process_id.unwrap();
    says(&fleet, "c", "say 1").await;
    assert_eq!(loaded(&fleet), ["a", "c"]);
    gone(process).await;
    let refusal = fleet.generate(ask("d", "say 1")).unwrap_err();
    assert_eq!(refusal.detail, "the model needs 11 bytes of memory, 10 of 10 can be given to it");
}

#[tokio::test]
async fn memory_comes_back_when_a_model_goes() {
    let fleet = start(&[("a", 4)]);
    says(&fleet, "a", "allocate 50000000").await;
    let with = stats(&fleet, "a").await;
    assert!(with.resident_bytes.unwrap() > 50_000_000, "{with:?}");
    soon(fleet.keep(&name("a"), KeepAlive::For(Duration::ZERO))).await.unwrap();
    gone(with.process_id.unwrap()).await;
    let without = stats(&fleet, "a").await;
    assert_eq!((without.process_id, without.resident_bytes), (None, None));
}

#[tokio::test]
async fn keep_alive_is_the_fleets_or_the_requests() {
    let fleet = start(&[("a", 4), ("b", 4)]);
    says(&fleet, "a", "say 1").await;
    assert!(fleet.loaded()[0].expires_in.unwrap() > Duration::from_secs(200));
    let forever = Some(KeepAlive::Forever);
    rest(&mut fleet.generate_with(ask("a", "say 1"), forever).unwrap()).await.1.unwrap();
    assert_eq!(fleet.loaded()[0].expires_in, None);
    // No time at all: it goes when its work is done, not before.
    let nothing = Some(KeepAlive::For(Duration::ZERO));
    let mut long = fleet.generate_with(ask("a", "say 300"), nothing).unwrap();
    soon(long.next()).await.unwrap();
    let process = stats(&fleet, "a").await.process_id.unwrap();
    rest(&mut long).await.1.unwrap();
    gone(process).await;
    // A short time, without anybody asking again.
    let short = KeepAlive::For(Duration::from_millis(50));
    soon(fleet.keep(&name("b"), short)).await.unwrap();
    let process = stats(&fleet, "b").await.process_id.unwrap();
    gone(process).await;
}

#[tokio::test]
async fn models_are_loaded_and_sent_away_without_a_request() {
    let fleet = start(&[("a", 4)]);
    soon(fleet.keep(&name("a"), KeepAlive::For(HOUR))).await.unwrap();
    assert_eq!(loaded(&fleet), ["a"]);
    soon(fleet.keep(&name("a"), KeepAlive::For(Duration::ZERO))).await.unwrap();
    assert!(loaded(&fleet).is_empty());
    let refusal = soon(fleet.keep(&name("z"), KeepAlive::Forever)).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownModel);
}

#[tokio::test]
async fn who_sends_a_model_away_hears_of_it_when_somebody_wants_it_meanwhile() {
    let fleet = start(&[("a", 4)]);
    let forever = Some(KeepAlive::Forever);
    let mut running = fleet.generate_with(ask("a", "begin"), forever).unwrap();
    soon(running.next()).await.unwrap();
    let a = name("a");
    let mut away = Box::pin(fleet.keep(&a, KeepAlive::For(Duration::ZERO)));
    assert_eq!((&mut away).now_or_never(), None, "work is under way");
    let _wanted = fleet.generate_with(ask("a", "begin"), forever).unwrap();
    soon(away).await.unwrap();
    assert_eq!(loaded(&fleet), ["a"]);
}

#[tokio::test]
async fn pinned_models_are_there_at_once_and_stay() {
    let fleet = start(&[("a", 6)]);
    says(&fleet, "a", "say 1").await;
    fleet.add(FleetModel { is_pinned: true, ..model("p", 6, "") }).unwrap();
    soon(fleet.keep(&name("p"), KeepAlive::For(HOUR))).await.unwrap();
    assert_eq!(loaded(&fleet), ["p"]);
    until_listed(&fleet, &["p"]).await;
    let too_large = FleetError::PinnedTooLarge { needed_bytes: 12, max_bytes: 10 };
    assert_eq!(fleet.pin(&name("a"), true), Err(too_large));
    fleet.pin(&name("p"), false).unwrap();
    until_listed(&fleet, &["a", "p"]).await;
    says(&fleet, "a", "say 1").await;
    assert_eq!(loaded(&fleet), ["a"]);
}

#[tokio::test]
async fn a_crash_costs_its_batch_and_no_other_model_and_is_over_by_itself() {
    let fleet = start(&[("a", 4), ("b", 4)]);
    let mut of_b = fleet.generate(ask("b", "say 3000")).unwrap();
    soon(of_b.next()).await.unwrap();
    let mut begun = fleet.generate(ask("a", "begin")).unwrap();
    soon(begun.next()).await.unwrap();
    let mut fatal = fleet.generate(ask("a", "abort")).unwrap();
    let refusal = rest(&mut begun).await.1.unwrap_err();
    assert_eq!(refusal.detail, "the model's process ended; ask again");
    // Tried once more, as nobody had seen an answer; then it is refused too.
    assert!(rest(&mut fatal).await.1.is_err());
    assert_eq!(says(&fleet, "a", "say 1").await, "0 ", "it is back");
    assert_eq!(stats(&fleet, "a").await.failures, 2);
    assert_eq!(rest(&mut of_b).await.1, Ok(()));
    assert_eq!(stats(&fleet, "b").await.failures, 0);
}

#[tokio::test]
async fn a_request_without_a_reply_is_asked_again_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = start(&[("a", 4)]);
    let mut silent = fleet.generate(ask("a", "say 2")).unwrap();
    let script = format!("once {}", folder.path().join("begun").display());
    assert_eq!(says(&fleet, "a", &script).await, "again");
    assert_eq!(rest(&mut silent).await, ("0 1 ".into(), Ok(())));
    assert_eq!(stats(&fleet, "a").await.failures, 1);
}

#[tokio::test]
async fn garbage_from_a_child_has_it_replaced() {
    let fleet = start(&[("a", 4)]);
    let mut generation = fleet.generate(ask("a", "garbage")).unwrap();
    assert!(rest(&mut generation).await.1.is_err());
    assert_eq!(says(&fleet, "a", "say 1").await, "0 ");
}

#[tokio::test]
async fn a_crash_loop_is_refused_unlisted_and_ends_when_its_cause_does() {
    let folder = tempfile::tempdir().unwrap();
    let obstacle = folder.path().join("obstacle");
    std::fs::write(&obstacle, "").unwrap();
    let mut options = fleet_options();
    options.restarts = Restarts {
        pause_first: Duration::from_millis(1),
        pause_max: Duration::from_millis(300),
        failures_max: 2,
        healthy_after: HOUR,
    };
    options.restarts.pause_first = options.restarts.pause_max;
    let fleet = Fleet::start(options);
    fleet.add(model("a", 4, &format!("unless {}", obstacle.display()))).unwrap();
    fleet.add(model("b", 4, "")).unwrap();
    for _ in 0..2 {
        let refusal = rest(&mut fleet.generate(ask("a", "say 1")).unwrap()).await.1.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        let words = "the model could not be loaded: the file is in the way";
        assert_eq!(refusal.detail, words);
    }
    let refusal = fleet.generate(ask("a", "say 1")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(refusal.retry_after_ms.is_some_and(|ms| ms <= 300));
    until_listed(&fleet, &["b"]).await;
    std::fs::remove_file(&obstacle).unwrap();
    until_listed(&fleet, &["a", "b"]).await;
    assert_eq!(says(&fleet, "a", "say 1").await, "0 ");
}

#[tokio::test]
async fn slots_are_counted_and_given_back() {
    let fleet = start(&[("a", 4)]);
    let mut running: Vec<_> = (0..4).map(|_| fleet.generate(ask("a", "begin")).unwrap()).collect();
    let refusal = fleet.generate(ask("a", "say 1")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
    for generation in &mut running {
        soon(generation.next()).await.unwrap();
    }
    assert_eq!(fleet.loaded()[0].running, 4);
    running.pop();
    assert_eq!(says(&fleet, "a", "say 1").await, "0 ");
    drop(running);
    assert_eq!(fleet.loaded()[0].running, 0);
    // Each was told to the child in time: none found its place still taken.
    for _ in 0..300 {
        let all: Vec<_> = (0..4).map(|_| fleet.generate(ask("a", "begin")).unwrap()).collect();
        for mut generation in all {
            let reply = soon(generation.next()).await;
            assert!(matches!(reply, Some(arknet_types::Reply::Text { .. })), "{reply:?}");
        }
    }
    let stats = String::from_utf8(stats(&fleet, "a").await.stats).unwrap();
    assert_eq!(stats, "1205 1205");
}

#[tokio::test]
async fn a_removed_model_ends_its_work_first() {
    let fleet = start(&[("a", 4)]);
    let mut generation = fleet.generate(ask("a", "say 300")).unwrap();
    soon(generation.next()).await.unwrap();
    let a = name("a");
    let (removed, (_, end)) =
        soon(async { tokio::join!(fleet.remove(&a), rest(&mut generation)) }).await;
    assert_eq!((removed, end), (Ok(()), Ok(())));
    until_listed(&fleet, &[]).await;
    fleet.add(model("a", 4, "")).unwrap();
    says(&fleet, "a", "say 1").await;
}

#[tokio::test]
async fn shutting_down_ends_all_processes_and_refuses_the_rest() {
    let fleet = start(&[("a", 4), ("b", 4), ("c", 9)]);
    let mut running = fleet.generate(ask("a", "begin")).unwrap();
    soon(running.next()).await.unwrap();
    let mut waiting = fleet.generate(ask("c", "say 1")).unwrap();
    says(&fleet, "b", "say 1").await;
    let processes: Vec<_> =
        soon(fleet.stats()).await.into_iter().filter_map(|stats| stats.process_id).collect();
    assert_eq!(processes.len(), 2);
    soon(fleet.shut_down()).await;
    for process in processes {
        gone(process).await;
    }
    assert!(rest(&mut running).await.1.is_err());
    let refusal = rest(&mut waiting).await.1.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ShuttingDown);
    let refusal = fleet.generate(ask("b", "say 1")).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ShuttingDown);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_that_takes_more_memory_than_it_may_is_ended_and_back() {
    let mut options = fleet_options();
    options.memory_check_every = Duration::from_millis(5);
    let fleet = Fleet::start(options);
    let max = Some(100_000_000);
    fleet.add(FleetModel { resident_bytes_max: max, ..model("a", 4, "") }).unwrap();
    let mut begun = fleet.generate(ask("a", "begin")).unwrap();
    soon(begun.next()).await.unwrap();
    assert!(fleet.generate(ask("a", "allocate 200000000")).is_ok());
    assert_eq!(rest(&mut begun).await.1.unwrap_err().code, RefusalCode::ProviderFailed);
    says(&fleet, "a", "say 1").await;
    assert_eq!(stats(&fleet, "a").await.failures, 1);
}

/// Everything at once: more models than fit, crashes, people who leave, slow readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_a_storm_every_request_ends_and_nothing_is_left() {
    let mut options = fleet_options();
    options.patience = Duration::from_millis(20);
    options.restarts.pause_first = Duration::from_millis(1);
    options.restarts.pause_max = Duration::from_millis(5);
    let fleet = std::sync::Arc::new(Fleet::start(options));
    for (of, memory_bytes) in [("a", 4), ("b", 5), ("c", 6), ("d", 2)] {
        fleet.add(model(of, memory_bytes, "")).unwrap();
    }
    let clients = (0..16_usize).map(|client| {
        let fleet = std::sync::Arc::clone(&fleet);
        tokio::spawn(async move {
            let mut answers = 0;
            for round in 0..30 {
                let turn = client * 7 + round * 5;
                let of = ["a", "b", "c", "d"][turn % 4];
                let script = match turn % 23 {
                    0 => "abort",
                    1 => "garbage",
                    2..6 => "begin",
                    6..9 => "say 500",
                    _ => "say 3",
                };
                let Ok(mut generation) = fleet.generate(ask(of, script)) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                if script == "begin" {
                    // Gone at once, or after a word.
                    if turn % 2 == 0 {
                        soon(generation.next()).await.unwrap();
                    }
                } else if rest(&mut generation).await.1.is_ok() {
                    answers += 1;
                }
            }
            answers
        })
    });
    let answers: Vec<i32> = soon(futures::future::try_join_all(clients)).await.unwrap();
    assert!(answers.iter().sum::<i32>() > 0);
    assert!(fleet.loaded().iter().all(|loaded| loaded.running == 0));
    assert!(fleet.loaded().iter().map(|loaded| loaded.memory_bytes).sum::<u64>() <= 10);
    for of in ["a", "b", "c", "d"] {
        // A pause after the last crash may still be on.
        until_listed(&fleet, &["a", "b", "c", "d"]).await;
        assert_eq!(says(&fleet, of, "say 1").await, "0 ");
    }
    soon(fleet.shut_down()).await;
}
