use std::{path::PathBuf, time::Duration};

use arknet_provider::{Generation, child::ChildOptions};
use arknet_types::{InferRequest, Input, ModelName, Refusal, Reply};
use tokio::time::timeout;

/// No event that a test waits for takes nearly so long.
const NEVER: Duration = Duration::from_secs(60);

/// The scripted child, which cargo builds beside the tests.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join("examples").join("scripted_child");
    assert!(program.exists(), "cargo test builds examples unless told which target to build");
    program
}

pub(crate) fn options() -> ChildOptions {
    ChildOptions {
        program: program(),
        args: vec![],
        env: vec![],
        open_time_max: NEVER,
        silence_max: NEVER,
    }
}

pub(crate) fn name(name: &str) -> ModelName {
    name.parse().unwrap()
}

pub(crate) fn ask(model: &str, script: &str) -> InferRequest {
    InferRequest::new(name(model), Input::Text(script.into()))
}

/// Waits for what must happen.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(NEVER, event).await.expect("what must happen has not happened")
}

/// The rest of an answer: its text, and its end.
pub(crate) async fn rest(generation: &mut Generation) -> (String, Result<(), Refusal>) {
    let mut answer = String::new();
    loop {
        match soon(generation.next()).await.expect("an answer has an end") {
            Reply::Text { text, .. } => answer.push_str(&text),
            Reply::Done { .. } => return (answer, Ok(())),
            Reply::Refused(refusal) => return (answer, Err(refusal)),
            other => panic!("not asked for: {other:?}"),
        }
    }
}

/// Waits until a process is gone, also where it is not ours to wait for.
pub(crate) async fn gone(process: u32) {
    let is_gone = || match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        // Killed, but its new parent has not looked yet.
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    };
    soon(async {
        while !is_gone() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
