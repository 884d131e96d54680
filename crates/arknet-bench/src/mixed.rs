//! The product under a mixed load: short, long, cancelled, constrained and invalid requests at once.
//! Every one must end in a right answer or a right error, memory must stay flat, and all slots must
//! come back.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::load::Connection;

const MODEL: &str = "arknet/tiny";
/// Requests at once.
const WORKERS: usize = 64;
/// How long the slots may take to come back when nothing runs any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// Numbers that decide what is asked next; the same in every run.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The product, started with the model that ships. Killed when dropped.
struct Product {
    child: Child,
    gateway: SocketAddr,
    admin: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Product {
    fn start() -> anyhow::Result<Self> {
        let program = crate::nodes::product().context("build the arknet binary first")?;
        let directory = tempfile::tempdir()?;
        // Conversations are remembered up to a bound; one that is reached before memory is first
        // looked at.
        std::fs::write(
            directory.path().join("arknet.toml"),
            "[compute]\nprefix_cache_bytes_max = 16777216\n",
        )?;
        let mut child = Command::new(program)
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--json", "start", "--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("the child has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        let status: Value = serde_json::from_str(&line).context("the node did not start")?;
        let address = |name: &str| {
            status[name].as_str().and_then(|text| text.parse().ok()).context("no address")
        };
        // The status names its own address where a command looks for it.
        let node = std::fs::read_to_string(directory.path().join("node.json"))?;
        let node: Value = serde_json::from_str(&node)?;
        let admin = node["admin"].as_str().context("no admin address")?.parse()?;
        Ok(Self { child, gateway: address("gateway")?, admin, _directory: directory })
    }

    /// Resident memory of the node and of its models' processes.
    fn resident_bytes(&self) -> anyhow::Result<(u64, u64)> {
        let mut engines = 0;
        // A child belongs to the thread that started it.
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let children = std::fs::read_to_string(thread?.path().join("children"))?;
            for id in children.split_whitespace() {
                engines += resident(id.parse()?)?;
            }
        }
        Ok((resident(self.child.id())?, engines))
    }

    async fn slots_free(&self) -> anyhow::Result<u64> {
        let status = get(self.admin, "/status").await?;
        status["models"][0]["slots_free"].as_u64().context("no model is served")
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resident(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let mut connection = Connection::get(address, path).await?;
    Ok(serde_json::from_slice(&connection.send().await?.body)?)
}

/// How requests ended, by kind.
#[derive(Clone, Copy, Default)]
struct Tally {
    short: u64,
    long: u64,
    cancelled: u64,
    constrained: u64,
    invalid: u64,
}

impl Tally {
    const fn add(&mut self, other: &Self) {
        self.short += other.short;
        self.long += other.long;
        self.cancelled += other.cancelled;
        self.constrained += other.constrained;
        self.invalid += other.invalid;
    }
}

/// Runs for so long.
pub(crate) async fn run(time: Duration) -> anyhow::Result<()> {
    let product = Product::start()?;
    let slots = settled(&product, None).await?;
    // What is asked first loads the model and grows the buffers.
    load(product.gateway, time / 10).await?;
    let before = product.resident_bytes()?;
    let tally = load(product.gateway, time).await?;
    let after = product.resident_bytes()?;
    let free = settled(&product, Some(slots)).await?;
    println!(
        "{WORKERS} requests at once for {} s: {} short, {} long, {} cancelled, {} constrained, {} invalid; \
         every one ended as it should",
        time.as_secs(),
        tally.short,
        tally.long,
        tally.cancelled,
        tally.constrained,
        tally.invalid
    );
    for (name, before, after) in [("node", before.0, after.0), ("model", before.1, after.1)] {
        println!(
            "  {name}: {:.1} MB at the beginning, {:.1} MB at the end ({:.3}x)",
            before as f64 / 1e6,
            after as f64 / 1e6,
            after as f64 / before as f64
        );
    }
    println!("  free slots: {slots} before, {free} after");
    let grown = |before: u64, after: u64| after * 10 > before * 11;
    ensure!(!grown(before.0, after.0) && !grown(before.1, after.1), "memory grows with requests");
    Ok(())
}

/// The free slots when nothing runs: those of the beginning must come back.
async fn settled(product: &Product, expected: Option<u64>) -> anyhow::Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let free = product.slots_free().await?;
        match expected {
            Some(expected) if free != expected => {
                ensure!(Instant::now() < deadline, "{free} of {expected} slots came back");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            _ => return Ok(free),
        }
    }
}

async fn load(gateway: SocketAddr, time: Duration) -> anyhow::Result<Tally> {
    let end = Instant::now() + time;
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        workers.push(tokio::spawn(async move {
            let mut tally = Tally::default();
            let mut state = SEED.wrapping_mul(worker as u64 + 1);
            while Instant::now() < end {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                one(gateway, state, &mut tally).await?;
            }
            anyhow::Ok(tally)
        }));
    }
    let mut tally = Tally::default();
    for worker in workers {
        tally.add(&worker.await.context("a worker failed")??);
    }
    Ok(tally)
}

/// One request and what must come of it.
async fn one(gateway: SocketAddr, random: u64, tally: &mut Tally) -> anyhow::Result<()> {
    let chat = "/v1/chat/completions";
    let message = format!("Question {}: what is arknet?", random % 1000);
    let ask = |more: Value| {
        let mut body =
            json!({ "model": MODEL, "messages": [{ "role": "user", "content": message }] });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    match random % 10 {
        0..=3 => {
            let body = ask(json!({ "max_tokens": 8 }));
            let answer = answered(gateway, chat, &body).await?;
            let tokens = answer["usage"]["completion_tokens"].as_u64();
            ensure!(tokens.is_some_and(|n| n <= 8), "a short answer is long: {answer}");
            tally.short += 1;
        }
        4 | 5 => {
            let body = ask(json!({ "max_tokens": 200, "stream": true }));
            let mut connection = Connection::post(gateway, chat, &body).await?;
            let text = String::from_utf8(connection.send().await?.body)?;
            ensure!(text.contains("[DONE]") && !text.contains("\"error\""), "no end: {text}");
            tally.long += 1;
        }
        6 | 7 => {
            let body = ask(json!({ "max_tokens": 400, "stream": true }));
            let connection = Connection::post(gateway, chat, &body).await?;
            connection.leave_after((random >> 8) as usize % 2000).await?;
            tally.cancelled += 1;
        }
        8 => {
            let schema = json!({
                "type": "object",
                "properties": { "a": { "type": "boolean" }, "b": { "enum": ["x", "y"] } },
                "required": ["a", "b"],
                "additionalProperties": false,
            });
            let format = json!({
                "type": "json_schema",
                "json_schema": { "name": "n", "strict": true, "schema": schema },
            });
            let body = ask(json!({ "max_tokens": 64, "response_format": format }));
            let answer = answered(gateway, chat, &body).await?;
            let content = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
            let value: Value = serde_json::from_str(content).context("no JSON")?;
            ensure!(
                value["a"].is_boolean() && value["b"].is_string(),
                "not of the schema: {value}"
            );
            tally.constrained += 1;
        }
        _ => {
            refused(gateway, random >> 8, &ask).await?;
            tally.invalid += 1;
        }
    }
    Ok(())
}

/// What is wrong must be said in the door's own words.
async fn refused(
    gateway: SocketAddr,
    random: u64,
    ask: &impl Fn(Value) -> String,
) -> anyhow::Result<()> {
    let (status, body) = match random & 3 {
        0 => (400, "{".to_owned()),
        1 => (404, ask(json!({ "model": "no/such" }))),
        2 => (400, ask(json!({ "temperature": 9 }))),
        _ => {
            let long = json!([{ "role": "user", "content": "word ".repeat(20_000) }]);
            (400, ask(json!({ "messages": long })))
        }
    };
    let mut connection = Connection::post(gateway, "/v1/chat/completions", &body).await?;
    let answer = connection.exchange().await?;
    let text = String::from_utf8(answer.body)?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    if answer.status != status || !value["error"]["message"].is_string() {
        bail!("{status} was expected, {} came: {text}", answer.status);
    }
    Ok(())
}

async fn answered(gateway: SocketAddr, path: &str, body: &str) -> anyhow::Result<Value> {
    let mut connection = Connection::post(gateway, path, body).await?;
    Ok(serde_json::from_slice(&connection.send().await?.body)?)
}
