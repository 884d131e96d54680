//! What it costs that a model is in a process of its own: the same provider, which does nothing, in
//! this process and behind the channel, alone and behind a fleet.
//!
//!     cargo run --release -p arknet-provider --example channel_cost

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use arknet_provider::{
    Generation, ModelDetails, ModelInfo, Models, Provider,
    child::{self, Child, ChildOptions},
    fleet::{Fleet, FleetModel, FleetOptions},
};
use arknet_types::{
    Capabilities, FinishReason, InferRequest, Input, ModelName, Refusal, Reply, Usage,
};
use tokio::sync::{mpsc, watch};

const REQUESTS: usize = 40_000;
const STREAMED_TOKENS: u32 = 400_000;
const PACED_TOKENS: u32 = 3_000;
const PACE: Duration = Duration::from_micros(700);

fn main() -> io::Result<()> {
    if std::env::args().nth(1).is_some_and(|arg| arg == "child") {
        return child::run(|_| Ok(Arc::new(Nothing::new())));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // From a worker, as requests come in a node.
        tokio::spawn(measure_all()).await.map_err(io::Error::other)?
    })
}

async fn measure_all() -> io::Result<()> {
    let options = ChildOptions {
        program: std::env::current_exe()?,
        args: vec!["child".into()],
        env: vec![],
        open_time_max: Duration::from_secs(10),
        silence_max: Duration::from_secs(60),
    };
    let (child, _exit) = Child::open(&options, vec![]).await.map_err(io::Error::other)?;
    let mut fleet = FleetOptions::new(options.program.clone(), options.args.clone(), 1);
    fleet.child = options;
    let fleet = Fleet::start(fleet);
    fleet
        .add(FleetModel {
            info: info(),
            memory_bytes: 1,
            resident_bytes_max: None,
            setup: vec![],
            is_pinned: true,
        })
        .map_err(io::Error::other)?;
    let here = Nothing::new();
    let us = std::process::id();
    for _ in 0..2 {
        measure("in process", &[us], |request| here.generate(request)).await?;
        let both = [us, child.process_id()];
        measure("in a child", &both, |request| child.generate(request)).await?;
        let of_fleet = fleet.stats().await.into_iter().filter_map(|stats| stats.process_id);
        let both: Vec<_> = of_fleet.chain([us]).collect();
        measure("in a fleet", &both, |request| fleet.generate(request)).await?;
    }
    fleet.shut_down().await;
    Ok(())
}

async fn measure(
    what: &str,
    processes: &[u32],
    generate: impl Fn(InferRequest) -> Result<Generation, Refusal>,
) -> io::Result<()> {
    let ask = |script: String| generate(InferRequest::new(name(), Input::Text(script)));
    let mut times = Vec::with_capacity(REQUESTS);
    let busy = cpu(processes);
    for round in 0..REQUESTS + REQUESTS / 10 {
        let begin = Instant::now();
        let mut generation = ask("now 1".into()).map_err(io::Error::other)?;
        while generation.next().await.is_some() {}
        // The first are for warming up.
        if round >= REQUESTS / 10 {
            times.push(begin.elapsed());
        }
    }
    let rounds = u32::try_from(REQUESTS + REQUESTS / 10).map_err(io::Error::other)?;
    let request_cpu = (cpu(processes) - busy) / rounds;
    let [request_p50, request_p99] = percentiles(times);

    let busy = cpu(processes);
    let begin = Instant::now();
    let mut generation = ask(format!("now {STREAMED_TOKENS}")).map_err(io::Error::other)?;
    while generation.next().await.is_some() {}
    let each = begin.elapsed() / STREAMED_TOKENS;
    let each_cpu = (cpu(processes) - busy) / STREAMED_TOKENS;

    let busy = cpu(processes);
    let mut delays = vec![];
    let mut generation = ask(format!("paced {PACED_TOKENS}")).map_err(io::Error::other)?;
    while let Some(reply) = generation.next().await {
        if let Reply::Text { text, .. } = reply {
            let sent = Duration::from_nanos(text.parse().map_err(io::Error::other)?);
            delays.push(clock() - sent);
        }
    }
    let token_cpu = (cpu(processes) - busy) / PACED_TOKENS;
    let [token_p50, token_p99] = percentiles(delays);
    writeln!(
        io::stdout(),
        "{what}: request p50 {request_p50:?} p99 {request_p99:?} cpu {request_cpu:?}; \
         token when streaming {each:?} cpu {each_cpu:?}; \
         token when paced p50 {token_p50:?} p99 {token_p99:?} cpu {token_cpu:?}",
    )
}

fn percentiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Processor time these have used, where the system tells.
fn cpu(processes: &[u32]) -> Duration {
    let of_one = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields: Vec<_> = stat.rsplit(") ").next()?.split(' ').collect();
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    };
    processes.iter().filter_map(of_one).sum()
}

/// The same in all processes of this machine.
fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

fn name() -> ModelName {
    "instant".parse().expect("a name")
}

fn info() -> ModelInfo {
    ModelInfo {
        name: name(),
        digest: None,
        projector: None,
        capabilities: Capabilities::GENERATE,
        context_tokens: 4096,
        slots: 4,
        details: ModelDetails::default(),
    }
}

/// Answers at once.
struct Nothing {
    models: watch::Sender<Arc<[ModelInfo]>>,
}

impl Nothing {
    fn new() -> Self {
        Self { models: watch::Sender::new([info()].into()) }
    }
}

impl Provider for Nothing {
    fn models(&self) -> Models {
        self.models.subscribe()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        let (tx, rx) = mpsc::channel(64);
        let script = match request.input {
            Input::Text(script) => script,
            _ => String::new(),
        };
        let is_paced = script.starts_with("paced");
        let count: u32 = script.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
        let done = Reply::Done { finish: FinishReason::Stop, usage: Usage::default() };
        if is_paced {
            // From a thread, as an engine's tokens come.
            std::thread::spawn(move || {
                for _ in 0..count {
                    std::thread::sleep(PACE);
                    let text = clock().as_nanos().to_string();
                    let _ = tx.blocking_send(Reply::Text { text, tokens: 1 });
                }
                let _ = tx.blocking_send(done);
            });
        } else if count == 1 {
            let _ = tx.try_send(Reply::Text { text: "word ".into(), tokens: 1 });
            let _ = tx.try_send(done);
        } else {
            std::thread::spawn(move || {
                for _ in 0..count {
                    let _ = tx.blocking_send(Reply::Text { text: "word ".into(), tokens: 1 });
                }
                let _ = tx.blocking_send(done);
            });
        }
        Ok(Generation::from_channel(rx))
    }
}
