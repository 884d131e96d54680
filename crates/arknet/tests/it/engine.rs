//! The processes in which models run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;

use crate::{
    gguf::{Projector, projector},
    network::{Node, PATIENCE, TINY, ask, flags, get, json_of, question, run, text},
};

/// A node alone, with the shipped model under two names.
fn alone(home: &Path) -> Node {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    for name in [TINY, "other/tiny"] {
        json_of(home, &["model", "add", model, "--name", name]);
    }
    fs::write(home.join("arknet.toml"), "[compute]\nthreads = 1\nslots = 2\n").unwrap();
    Node::start(home, &flags("compute,gateway", None))
}

/// The processes that this one has started.
fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task");
    let threads = fs::read_dir(path).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.filter_map(of_thread).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn signal(process: u32, signal: &str) {
    let status = Command::new("kill").arg(signal).arg(process.to_string()).status().unwrap();
    assert!(status.success());
}

fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(PathBuf::from(format!("/proc/{process}/stat")));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("Z").starts_with('Z'))
}

fn is_answered(node: &Node, model: &str) -> bool {
    let mut body = question("What is arknet?", false);
    body["model"] = model.into();
    ask(node.gateway(), body).status == 200
}

#[test]
fn a_model_that_is_killed_costs_its_batch_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let node = alone(directory.path());
    assert!(is_answered(&node, TINY) && is_answered(&node, "other/tiny"));
    let both = children(node.id());
    assert_eq!(both.len(), 2, "a process for each model");
    let mut endless = question("Tell me a story", true);
    endless["max_tokens"] = 4000.into();
    endless["logit_bias"] = serde_json::json!({});
    let mut running = ask(node.gateway(), endless);
    assert!(running.event().is_some());
    for process in &both {
        signal(*process, "-KILL");
    }
    // The answer under way ends, in an error or because it was complete before.
    while running.event().is_some_and(|event| event != "[DONE]" && event["error"].is_null()) {}
    assert!(is_answered(&node, TINY) && is_answered(&node, "other/tiny"), "by itself");
    assert!(children(node.id()).iter().all(|process| !both.contains(process)));
}

#[test]
fn a_model_that_is_added_to_a_running_node_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let node = alone(home);
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    assert!(!is_answered(&node, "later/tiny"));
    let add = |name: &str| {
        let output = run(home, &["model", "add", model, "--name", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(add("later/tiny").contains("the running node serves it\n"));
    assert!(is_answered(&node, "later/tiny"));
    assert!(add("later/tiny").contains("the running node serves it\n"), "again is no change");
    let output = run(home, &["model", "remove", "later/tiny"]);
    assert!(text(&output.stdout).contains("has let it go"), "{}", text(&output.stderr));
    assert!(!is_answered(&node, "later/tiny"));
    assert!(add("later/tiny").contains("the running node serves it\n"));
    assert!(is_answered(&node, "later/tiny"));
    drop(node);
    fs::write(home.join("arknet.toml"), "[compute]\nmodels = [\"later/tiny\"]\n").unwrap();
    let node = Node::start(home, &flags("compute,gateway", None));
    assert!(add("last/tiny").contains("only what compute.models names"));
    assert!(is_answered(&node, "later/tiny") && !is_answered(&node, "last/tiny"));
}

#[test]
fn a_model_that_is_replaced_while_it_answers_is_back_when_that_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let node = alone(home);
    assert!(is_answered(&node, TINY));
    let processes = children(node.id());
    assert_eq!(processes.len(), 1, "of the model that was asked");
    // Its answer takes as long as this test likes.
    signal(processes[0], "-STOP");
    let gateway = node.gateway();
    let asked = std::thread::spawn(move || ask(gateway, question("What is arknet?", false)).status);
    let model = || {
        let status = get(node.admin(), "/status");
        let models = status["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == TINY).cloned()
    };
    wait_until("it answers", || model().is_some_and(|model| model["slots_free"] == 1));
    let file = home.join("mmproj.gguf");
    projector(&file, Projector::OwnSize);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    let with = ["--name", TINY, "--projector", file.to_str().unwrap()];
    let output = run(home, &[&["model", "add", shipped], &with[..]].concat());
    assert!(text(&output.stdout).contains("when the model's answers have ended"), "{output:?}");
    let response = ureq::post(format!("http://{gateway}/v1/chat/completions"))
        .config()
        .http_status_as_error(false)
        .build()
        .content_type("application/json")
        .send(question("Who is there?", false).to_string());
    let mut response = response.unwrap();
    let words = response.body_mut().read_to_string().unwrap();
    assert!(response.status() == 429 && words.contains("is being replaced"), "{words}");
    assert_eq!(response.headers()["retry-after"], "1");
    signal(processes[0], "-CONT");
    assert_eq!(asked.join().unwrap(), 200, "nothing is cut");
    let takes_pictures = |model: Value| model["capabilities"].to_string().contains("vision");
    wait_until("it is back", || model().is_some_and(takes_pictures));
    assert!(is_answered(&node, TINY));
}

/// What a node says decides the bits of its answers, after it has given one.
fn build_class(compute: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("arknet.toml"), format!("[compute]\n{compute}")).unwrap();
    let node = Node::start(directory.path(), &flags("compute,gateway", None));
    assert!(is_answered(&node, TINY));
    let models = get(node.gateway(), "/v1/models");
    models["data"][0]["arknet"]["build_class"].as_str().unwrap().to_owned()
}

#[test]
fn a_node_computes_as_well_as_its_processor_can_or_like_any_other() {
    let portable = build_class("portable_kernels = true\n");
    assert!(!portable.contains("q8_0"), "{portable}");
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        use std::arch::is_x86_feature_detected as knows;
        let best = build_class("");
        let is_new = knows!("avx512vnni") && knows!("avx512bw") && knows!("avx512vl");
        assert_eq!(best.contains("avx512+vnni"), is_new, "{best}");
        assert_eq!(best == portable, !is_new, "{best} and {portable}");
    }
}

#[test]
fn no_model_outlives_its_node() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = alone(directory.path());
    assert!(is_answered(&node, TINY));
    let models = children(node.id());
    assert!(!models.is_empty());
    node.signal("-KILL");
    node.wait();
    wait_until("the model's process is still there", || models.iter().all(|id| !is_alive(*id)));
}

#[test]
fn memory_for_one_model_serves_two_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let node = alone(home);
    assert!(is_answered(&node, TINY));
    let stats = get(node.gateway(), "/api/ps");
    let bytes = stats["models"][0]["size"].as_u64().unwrap();
    drop(node);
    let config = format!(
        "[compute]\nthreads = 1\nslots = 2\ncontext_tokens = 512\nmemory_bytes_max = {}\n",
        bytes + bytes / 2
    );
    fs::write(home.join("arknet.toml"), config).unwrap();
    let node = Node::start(home, &flags("compute,gateway", None));
    for model in [TINY, "other/tiny", TINY] {
        assert!(is_answered(&node, model), "{model}");
        let loaded = get(node.gateway(), "/api/ps");
        let names: Vec<_> =
            loaded["models"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
        assert!(names.iter().any(|name| name.as_str().unwrap().starts_with(model)), "{names:?}");
    }
}
