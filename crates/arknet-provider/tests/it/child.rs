use std::{process::Stdio, time::Duration};

use arknet_provider::child::{Child, ChildOptions, Exit, OpenError};
use arknet_types::{RefusalCode, Reply};
use rustix::process::{Pid, Signal, getpgid, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{ask, gone, name, options, program, rest, soon};

async fn open(setup: &str) -> (Child, Exit) {
    soon(Child::open(&options(), setup.into())).await.unwrap()
}

/// Requests the child has begun and ended.
async fn counts(child: &Child) -> (u64, u64) {
    let stats = String::from_utf8(soon(child.stats()).await).unwrap();
    let (begun, ended) = stats.split_once(' ').unwrap();
    (begun.parse().unwrap(), ended.parse().unwrap())
}

fn kill(process: u32) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_child_answers_as_its_provider_does() {
    let (child, _exit) = open("m 4").await;
    assert_eq!((&child.info().name, child.info().slots), (&name("m"), 4));
    let mut generation = child.generate(ask("m", "say 300")).unwrap();
    let (text, end) = rest(&mut generation).await;
    let expected: String = (0..300).map(|n| format!("{n} ")).collect();
    assert_eq!((text, end), (expected, Ok(())), "many windows of replies, none lost");
}

#[tokio::test]
async fn what_the_model_prints_is_not_taken_for_frames() {
    let (child, _exit) = open("m 4").await;
    let mut generation = child.generate(ask("m", "print")).unwrap();
    assert_eq!(rest(&mut generation).await, ("0 ".into(), Ok(())));
}

#[tokio::test]
async fn a_slow_reader_stops_its_own_generation_and_no_other() {
    let (child, _exit) = open("m 4").await;
    let mut slow = child.generate(ask("m", "say 5000")).unwrap();
    soon(slow.next()).await.unwrap();
    for _ in 0..50 {
        let mut other = child.generate(ask("m", "say 100")).unwrap();
        assert_eq!(rest(&mut other).await.1, Ok(()));
    }
    assert_eq!(child.running(), 1);
    let (text, end) = rest(&mut slow).await;
    assert_eq!((text.split_whitespace().count(), end), (4999, Ok(())));
}

#[tokio::test]
async fn a_dropped_answer_is_cancelled_in_the_child_before_the_next_request_is_looked_at() {
    let (child, _exit) = open("m 1").await;
    for round in 0..100 {
        let mut generation = child.generate(ask("m", "begin")).unwrap();
        assert!(matches!(soon(generation.next()).await, Some(Reply::Text { .. })), "round {round}");
        drop(generation);
    }
    assert_eq!(counts(&child).await, (100, 100));
    assert_eq!(child.running(), 0);
}

#[tokio::test]
async fn a_thousand_requests_leave_nothing_behind() {
    let (child, _exit) = open("m 16").await;
    for batch in 0..100 {
        let mut running: Vec<_> = (0..10)
            .map(|n| {
                let script = if n % 3 == 0 { "begin" } else { "say 3" };
                child.generate(ask("m", script)).unwrap()
            })
            .collect();
        for (n, generation) in running.iter_mut().enumerate() {
            if n % 3 != 0 {
                assert_eq!(rest(generation).await.1, Ok(()), "batch {batch}");
            }
        }
    }
    assert_eq!(child.running(), 0);
    assert_eq!(counts(&child).await, (1000, 1000));
}

#[tokio::test]
async fn an_abort_ends_the_batch_with_a_clear_refusal() {
    for script in ["abort", "exit"] {
        let (child, exit) = open("m 4").await;
        let mut begun = child.generate(ask("m", "begin")).unwrap();
        soon(begun.next()).await.unwrap();
        let mut fatal = child.generate(ask("m", script)).unwrap();
        let ended = soon(exit.wait()).await;
        assert_eq!(ended.orphans.len(), 2);
        drop(ended);
        for generation in [&mut begun, &mut fatal] {
            let refusal = rest(generation).await.1.unwrap_err();
            assert_eq!(refusal.code, RefusalCode::ProviderFailed);
            assert_eq!(refusal.detail, "the model's process ended; ask again");
        }
        let refusal = child.generate(ask("m", "say 1")).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    }
}

#[tokio::test]
async fn a_killed_child_is_noticed() {
    let (child, exit) = open("m 4").await;
    kill(child.process_id());
    assert_eq!(soon(exit.wait()).await.how, "it was killed, perhaps for its memory");
}

#[tokio::test]
async fn a_child_that_breaks_the_protocol_is_ended() {
    for (script, how) in [
        ("garbage", "it was ended for what it sent: 4294967295 bytes"),
        ("flood 1", "it was ended for sending more than there was room for"),
    ] {
        let (child, exit) = open("m 4").await;
        let mut generation = child.generate(ask("m", script)).unwrap();
        let ended = soon(exit.wait()).await;
        assert!(ended.how.starts_with(how), "{}", ended.how);
        drop(ended);
        assert!(rest(&mut generation).await.1.is_err());
        gone(child.process_id()).await;
    }
    // For a request that never was, any number of replies is nothing.
    let (child, _exit) = open("m 4").await;
    let _silent = child.generate(ask("m", "flood 99")).unwrap();
    let mut generation = child.generate(ask("m", "say 3")).unwrap();
    assert_eq!(rest(&mut generation).await.1, Ok(()));
}

#[tokio::test]
async fn a_float_that_is_no_number_ends_one_request_and_not_the_child() {
    let (child, _exit) = open("m 4").await;
    let mut generation = child.generate(ask("m", "nan")).unwrap();
    let refusal = rest(&mut generation).await.1.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert_eq!(refusal.detail, "the model's answer: a value is not a number");
    let mut generation = child.generate(ask("m", "say 1")).unwrap();
    assert_eq!(rest(&mut generation).await.1, Ok(()));
}

#[tokio::test]
async fn a_child_that_hangs_is_ended() {
    let options = ChildOptions { silence_max: Duration::from_millis(100), ..options() };
    let (child, exit) = soon(Child::open(&options, b"m 4".to_vec())).await.unwrap();
    let mut generation = child.generate(ask("m", "hang")).unwrap();
    let ended = soon(exit.wait()).await;
    assert_eq!(ended.how, "it was ended because it hung");
    drop(ended);
    assert!(rest(&mut generation).await.1.is_err());
}

#[tokio::test]
async fn numbers_are_no_sign_that_a_child_gets_on() {
    let options = ChildOptions { silence_max: Duration::from_millis(100), ..options() };
    let (child, exit) = soon(Child::open(&options, b"m 4".to_vec())).await.unwrap();
    let _waiting = child.generate(ask("m", "hang")).unwrap();
    let asking = async {
        loop {
            child.stats().await;
        }
    };
    let ended = tokio::select! {
        ended = soon(exit.wait()) => ended,
        () = asking => unreachable!(),
    };
    assert_eq!(ended.how, "it was ended because it hung");
}

#[tokio::test]
async fn a_child_that_works_without_a_word_is_left_to_it() {
    let options = ChildOptions { silence_max: Duration::from_millis(300), ..options() };
    let (child, exit) = soon(Child::open(&options, b"m 4 toil".to_vec())).await.unwrap();
    let _waiting = child.generate(ask("m", "hang")).unwrap();
    let patience = tokio::time::timeout(8 * options.silence_max, exit.wait()).await;
    assert!(patience.is_err(), "{patience:?}");
}

#[tokio::test]
async fn a_child_whose_model_has_stopped_is_gone() {
    let (child, exit) = open("m 4").await;
    let mut generation = child.generate(ask("m", "break")).unwrap();
    let ended = soon(exit.wait()).await;
    assert!(ended.how.contains("status"), "{}", ended.how);
    drop(ended);
    assert!(rest(&mut generation).await.1.is_err());
}

#[tokio::test]
async fn a_large_request_goes_through_while_others_are_answered() {
    let (child, _exit) = open("m 4").await;
    let script = format!("say 2 {}", "x".repeat(10 * 1024 * 1024));
    let mut large = child.generate(ask("m", &script)).unwrap();
    let mut small = child.generate(ask("m", "say 2")).unwrap();
    assert_eq!(rest(&mut small).await.1, Ok(()));
    assert_eq!(rest(&mut large).await.1, Ok(()));
}

#[tokio::test]
async fn what_waits_for_a_child_that_does_not_read_is_bounded() {
    let (child, _exit) = open("m 16").await;
    let process = Pid::from_raw(i32::try_from(child.process_id()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let script = format!("say 1 {}", "x".repeat(11 * 1024 * 1024));
    let mut generations: Vec<_> =
        (0..7).map(|_| child.generate(ask("m", &script)).unwrap()).collect();
    let mut last = generations.pop().unwrap();
    let refusal = rest(&mut last).await.1.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Busy);
    kill_process(process, Signal::CONT).unwrap();
    for generation in &mut generations {
        assert_eq!(rest(generation).await.1, Ok(()));
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let error = soon(Child::open(&options(), b"m 4 fail".to_vec())).await.unwrap_err();
    assert_eq!(error.to_string(), "the file is not a model");
    let error = soon(Child::open(&options(), b"m 4 abort".to_vec())).await.unwrap_err();
    assert_eq!(error.to_string(), "the model's process ended while it was loading (it aborted)");
    let short = ChildOptions { open_time_max: Duration::from_millis(50), ..options() };
    let error = soon(Child::open(&short, b"m 4 hang".to_vec())).await.unwrap_err();
    assert!(matches!(error, OpenError::TooSlow(_)), "{error}");
    let nowhere = ChildOptions { program: "/nowhere".into(), ..options() };
    let error = soon(Child::open(&nowhere, vec![])).await.unwrap_err();
    assert!(matches!(error, OpenError::Spawn(_)), "{error}");
    let error = soon(Child::open(&options(), vec![0; 2 << 20])).await.unwrap_err();
    assert!(matches!(error, OpenError::SetupTooLarge(_)), "{error}");
    // A program that is no child at all.
    let other = ChildOptions { program: "/bin/echo".into(), args: vec!["hi".into()], ..options() };
    let error = soon(Child::open(&other, vec![])).await.unwrap_err();
    assert!(matches!(error, OpenError::Protocol | OpenError::Ended(_)), "{error}");
}

#[tokio::test]
async fn a_child_is_gone_when_its_handle_is_and_also_in_the_middle_of_a_step() {
    let (child, exit) = open("m 4").await;
    let mut generation = child.generate(ask("m", "spin")).unwrap();
    soon(generation.next()).await.unwrap();
    let process = child.process_id();
    drop(child);
    soon(exit.wait()).await;
    gone(process).await;
}

#[tokio::test]
async fn a_child_does_not_outlive_a_killed_node() {
    let mut node = tokio::process::Command::new(program());
    let node = node.arg("parent").stdout(Stdio::piped()).kill_on_drop(true);
    let mut node = node.spawn().unwrap();
    let mut line = String::new();
    soon(BufReader::new(node.stdout.take().unwrap()).read_line(&mut line)).await.unwrap();
    let process = line.trim().parse().unwrap();
    node.kill().await.unwrap();
    gone(process).await;
}

#[tokio::test]
async fn a_child_leaves_signals_to_the_node_and_inherits_nothing() {
    let (child, _exit) = open("m 4").await;
    let process = Pid::from_raw(i32::try_from(child.process_id()).unwrap()).unwrap();
    assert_eq!(getpgid(Some(process)).unwrap(), process, "a group of its own");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(process, signal).unwrap();
    }
    let mut generation = child.generate(ask("m", "say 1")).unwrap();
    assert_eq!(rest(&mut generation).await.1, Ok(()));
    if cfg!(target_os = "linux") {
        let of = |what| std::fs::read_to_string(format!("/proc/{}/{what}", child.process_id()));
        assert_eq!(of("oom_score_adj").unwrap().trim(), "900");
        assert_eq!(of("environ").unwrap(), "");
    }
}
