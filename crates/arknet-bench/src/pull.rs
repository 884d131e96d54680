//! One large model from two peers at once, against `curl` from a local server with TLS.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::nodes;

/// Bytes of the model.
const MODEL_BYTES: u64 = 640 << 20;
const NAME: &str = "bench/large";
const PATIENCE: Duration = Duration::from_secs(60);

/// A node of the product in a process of its own. Killed when dropped.
struct Product {
    child: Child,
    status: Value,
}

impl Product {
    fn start(program: &Path, home: &Path, role: &str, seed: Option<&str>) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(home).args(["--json", "start", "--role", role]);
        command.args(["--admin", "127.0.0.1:0", "--gateway", "127.0.0.1:0"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
        command.args(seed.into_iter().flat_map(|seed| ["--seed", seed]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("the child has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        let status = serde_json::from_str(&line).context("the node did not start")?;
        Ok(Self { child, status })
    }

    fn address(&self) -> &str {
        self.status["addresses"][0].as_str().unwrap_or_default()
    }

    fn peer(&self) -> &str {
        self.status["peer"].as_str().unwrap_or_default()
    }

    fn gateway(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.status["gateway"].as_str().context("it has a gateway")?.parse()?)
    }

    fn resident_bytes(&self) -> anyhow::Result<u64> {
        nodes::resident_bytes(self.child.id())
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        nodes::cpu_seconds(self.child.id())
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let Some(program) = nodes::product() else {
        println!("pulling a model: the arknet binary is not beside this one, nothing is measured");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let model = directory.path().join("large.gguf");
    make_model(&program, directory.path(), &model)?;
    let seed = Product::start(&program, &directory.path().join("seed"), "validator", None)?;
    let mut sources = Vec::new();
    for name in ["one", "two"] {
        let home = directory.path().join(name);
        add(&program, &home, &model)?;
        let config =
            "[compute]\ndanger_serve_anyone = true\nshare_models = true\nthreads = 1\nslots = 1\n";
        fs::write(home.join("arknet.toml"), config)?;
        sources.push(Product::start(&program, &home, "compute", Some(seed.address()))?);
    }
    let home = directory.path().join("pulling");
    println!("a model of {} MiB from two peers over loopback", MODEL_BYTES >> 20);
    // The first pull has the sources hash their files, which they do once.
    for round in ["first, sources hash their files", "again"] {
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        fs::write(home.join("arknet.toml"), "[gateway]\nask = \"anyone\"\n")?;
        let node = Product::start(&program, &home, "compute,gateway", Some(seed.address()))?;
        for source in &sources {
            wait_for(node.gateway()?, source.peer())?;
        }
        let idle = node.resident_bytes()?;
        let pull = Pull { began: Instant::now(), ..Pull::default() };
        measure(round, &node, &sources, pull, idle)?;
    }
    interrupted(&program, &home, &seed, &sources)?;
    curl(directory.path(), &model)
}

/// The same where one of the two hands over damaged bytes, and the node that pulls is killed twice.
fn interrupted(
    program: &Path,
    home: &Path,
    seed: &Product,
    sources: &[Product],
) -> anyhow::Result<()> {
    let liar = home.with_file_name("two");
    let damaged = fs::OpenOptions::new().write(true).open(large_blob(&liar)?)?;
    for at in (1..MODEL_BYTES >> 20).step_by(16) {
        damaged.write_all_at(b"!", (at << 20) + 300_000)?;
    }
    fs::remove_dir_all(home)?;
    fs::create_dir_all(home)?;
    fs::write(home.join("arknet.toml"), "[gateway]\nask = \"anyone\"\n")?;
    let mut pull = Pull::default();
    for part in [1, 2] {
        let node = Product::start(program, home, "compute,gateway", Some(seed.address()))?;
        for source in sources {
            wait_for(node.gateway()?, source.peer())?;
        }
        let began = Instant::now();
        pull.follow(&node, MODEL_BYTES / 3 * part)?;
        pull.earlier += began.elapsed();
        // Dropping it kills it.
    }
    let node = Product::start(program, home, "compute,gateway", Some(seed.address()))?;
    wait_for(node.gateway()?, sources[0].peer())?;
    let idle = node.resident_bytes()?;
    pull.began = Instant::now();
    measure("killed twice, one of the two lies", &node, sources, pull, idle)
}

fn large_blob(home: &Path) -> anyhow::Result<PathBuf> {
    let mut files = fs::read_dir(home.join("models/blobs"))?.flatten().map(|entry| entry.path());
    let is_large = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() >= MODEL_BYTES);
    files.find(is_large).context("the source has the model's file")
}

/// The model that ships, with bytes behind it that do not matter to it.
fn make_model(program: &Path, directory: &Path, path: &Path) -> anyhow::Result<()> {
    let home = directory.join("embedded");
    let node = Product::start(program, &home, "compute", None)?;
    drop(node);
    let blob = fs::read_dir(home.join("models/blobs"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "gguf"))
        .context("the node has put its model on the disk")?;
    fs::copy(blob, path)?;
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    let mut state = 1_u64;
    let mut chunk = Vec::with_capacity(1 << 20);
    while file.metadata()?.len() < MODEL_BYTES {
        chunk.clear();
        while chunk.len() < 1 << 20 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chunk.extend(state.to_le_bytes());
        }
        file.write_all(&chunk)?;
    }
    Ok(())
}

fn add(program: &Path, home: &Path, model: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(home).args(["model", "add"]).arg(model).args(["--name", NAME]);
    let added = command.stdout(Stdio::null()).status()?;
    ensure!(added.success(), "the model was not added");
    Ok(())
}

/// Waits until a gateway has heard that `peer` has the model.
fn wait_for(gateway: SocketAddr, peer: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(gateway)?;
        write!(stream, "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let json = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if json.contains(NAME) && json.contains(peer) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the model of {peer} is not known");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a pull said of itself.
struct Pull {
    began: Instant,
    /// How long it ran before it was killed.
    earlier: Duration,
    most: u64,
    arrived: Option<Instant>,
    was_dropped: bool,
    last: String,
}

impl Default for Pull {
    fn default() -> Self {
        let (began, earlier) = (Instant::now(), Duration::ZERO);
        Self { began, earlier, most: 0, arrived: None, was_dropped: false, last: String::new() }
    }
}

impl Pull {
    /// Has `node` pull the model, until so many bytes are there.
    fn follow(&mut self, node: &Product, until: u64) -> anyhow::Result<()> {
        let body = json!({ "model": NAME }).to_string();
        let mut stream = TcpStream::connect(node.gateway()?)?;
        write!(
            stream,
            "POST /api/pull HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            self.most = self.most.max(node.resident_bytes()?);
            self.was_dropped |= line.contains("dropped");
            if line.contains("verifying") {
                self.arrived = Some(Instant::now());
            }
            let report: Value = serde_json::from_str(&line).unwrap_or_default();
            if report["completed"].as_u64().is_some_and(|bytes| bytes >= until) {
                return Ok(());
            }
            if line.contains("status") || line.contains("error") {
                self.last = line;
            }
        }
        Ok(())
    }
}

fn measure(
    round: &str,
    node: &Product,
    sources: &[Product],
    mut pull: Pull,
    idle: u64,
) -> anyhow::Result<()> {
    let cpu = |node: &Product| node.cpu_seconds();
    let before = (cpu(node)?, sources.iter().map(cpu).sum::<anyhow::Result<f64>>()?);
    pull.follow(node, u64::MAX)?;
    let now = Instant::now();
    ensure!(pull.last.contains("success"), "the pull failed: {}", pull.last);
    ensure!(pull.earlier.is_zero() || pull.was_dropped, "the liar was not noticed");
    let rate = |end: Instant| {
        let time = end.duration_since(pull.began) + pull.earlier;
        (MODEL_BYTES >> 20) as f64 / time.as_secs_f64()
    };
    println!(
        "  {round}: {:.0} MiB/s as it comes, {:.0} MiB/s with the check of the whole; \
         {:.1} MB above idle; processor pulling {:.1} s, sources {:.1} s",
        rate(pull.arrived.unwrap_or(now)),
        rate(now),
        pull.most.saturating_sub(idle) as f64 / 1e6,
        cpu(node)? - before.0,
        sources.iter().map(cpu).sum::<anyhow::Result<f64>>()? - before.1
    );
    Ok(())
}

/// The same bytes by `curl` from `openssl s_server`, where both are there.
fn curl(directory: &Path, model: &Path) -> anyhow::Result<()> {
    let is_there = |program| Command::new(program).arg("--version").output().is_ok();
    if !is_there("curl") || !is_there("openssl") {
        println!("  curl over TLS: curl or openssl is not there");
        return Ok(());
    }
    let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "no certificate");
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-WWW", "-accept", &format!("127.0.0.1:{port}"), "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let copy: PathBuf = directory.join("copy");
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let began = Instant::now();
    let fetched = Command::new("curl")
        .args(["-sSk", &format!("https://127.0.0.1:{port}/{name}"), "-o"])
        .arg(&copy)
        .status();
    let took = began.elapsed();
    let _ = server.kill();
    let _ = server.wait();
    let bytes = fs::metadata(&copy).map_or(0, |metadata| metadata.len());
    ensure!(fetched?.success() && bytes >= MODEL_BYTES, "curl fetched {bytes} bytes");
    let rate = (MODEL_BYTES >> 20) as f64 / took.as_secs_f64();
    println!("  curl over TLS from one local server, nothing checked: {rate:.0} MiB/s");
    Ok(())
}
