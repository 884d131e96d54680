//! What the ledger does with consensus: validators in processes of the product on loopback, under
//! transfers that come over their RPC.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use arknet_chain::{Action, Genesis, GenesisValidator, Params, SignedTransaction, TransactionBody};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, encode};
use serde_json::Value;

use crate::{chain::key, load::percentile, nodes};

/// Connections that send, each from accounts of its own.
pub(crate) const SENDERS: usize = 256;
/// Accounts of each.
pub(crate) const ACCOUNTS: usize = 2;
/// Transfers from each account.
const TRANSFERS: u64 = 120;
/// Transfers whose way into a block is timed, while nothing else goes on.
const TIMED: usize = 100;
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A node of the chain. Killed when dropped.
pub(crate) struct Member {
    pub(crate) child: Child,
    pub(crate) rpc: SocketAddr,
    pub(crate) home: PathBuf,
    mesh: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let Some(program) = nodes::product() else {
        println!("validators: the arknet binary is not beside this one, nothing is measured");
        return Ok(());
    };
    for count in [1, 4] {
        measure(&program, count, 0)?;
    }
    measure(&program, 4, 1)
}

/// So many validators, of which some are killed first.
fn measure(program: &Path, count: usize, killed: usize) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let genesis = genesis(count)?;
    let mut members = start(program, directory.path(), &genesis, count)?;
    let without = if killed > 0 { format!(", {killed} of them killed") } else { String::new() };
    println!("{count} validators in processes of their own{without}");
    wait(&members, 2)?;
    members.truncate(count - killed);
    timed(&genesis, &members[0])?;
    throughput(&genesis, &members)?;
    for member in &members {
        let bytes = nodes::resident_bytes(member.child.id())?;
        let disk = fs::metadata(member.home.join("ledger/chain.redb"))?.len();
        let cpu = nodes::cpu_seconds(member.child.id())?;
        println!(
            "  resident {:.0} MB, ledger {:.0} MB, processor {cpu:.1} s",
            bytes as f64 / 1e6,
            disk as f64 / 1e6
        );
    }
    Ok(())
}

fn account(n: usize) -> KeyPair {
    key(n, 4)
}

pub(crate) fn genesis(count: usize) -> anyhow::Result<Genesis> {
    let validators = (0..count).map(|n| GenesisValidator {
        operator: key(n, 2).public().address(),
        key: key(n, 3).public(),
        weight: 100,
        stake: Atoms::ZERO,
    });
    let accounts = 0..=SENDERS * ACCOUNTS;
    Ok(Genesis {
        network: NetworkId::new("arknet-bench-1")?,
        time: arknet_sdk::now(),
        params: Params::default(),
        validators: validators.collect(),
        allocations: accounts
            .map(|n| (account(n).public().address(), Atoms(Atoms::PER_ARK)))
            .collect(),
    })
}

/// The validators of the genesis, connected.
fn start(
    program: &Path,
    directory: &Path,
    genesis: &Genesis,
    count: usize,
) -> anyhow::Result<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..count {
        let member =
            Member::start(program, directory, genesis, &members, "block_interval_ms = 0\n")?;
        members.push(member);
    }
    Ok(members)
}

impl Member {
    /// The next node: a validator as long as the genesis names one more. `ledger` is more of its
    /// configuration.
    pub(crate) fn start(
        program: &Path,
        directory: &Path,
        genesis: &Genesis,
        others: &[Self],
        ledger: &str,
    ) -> anyhow::Result<Self> {
        let n = others.len();
        let home = directory.join(format!("node-{n}"));
        fs::create_dir_all(&home)?;
        fs::write(home.join("genesis.json"), genesis.to_json())?;
        arknet_sdk::keyfile::create(&home.join("consensus.key"), &key(n, 3))?;
        arknet_sdk::keyfile::create(&home.join("wallet.key"), &key(n, 2))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = format!(
            "[ledger]\nrpc = \"127.0.0.1:{port}\"\nrpc_requests_per_second = 1000000\n\
             {ledger}[grid]\nmdns = false\n"
        );
        fs::write(home.join("arknet.toml"), config)?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&home).args(["--json", "start"]);
        command
            .args(["--role", if n < genesis.validators.len() { "validator" } else { "gateway" }]);
        command.args(["--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(others.iter().flat_map(|other| ["--seed", &other.mesh]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("the child has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        let status: Value = serde_json::from_str(&line).context("the node did not start")?;
        let mesh = status["addresses"][0].as_str().unwrap_or_default().to_owned();
        Ok(Self { child, rpc: SocketAddr::from(([127, 0, 0, 1], port)), home, mesh })
    }
}

/// One connection to an RPC.
pub(crate) struct Rpc {
    stream: TcpStream,
    address: SocketAddr,
}

impl Rpc {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address })
    }

    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<(u16, Value)> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.exchange(head.as_bytes())
    }

    pub(crate) fn submit(
        &mut self,
        transaction: &SignedTransaction,
    ) -> anyhow::Result<(u16, Value)> {
        let body = format!("{{\"transaction\":\"{}\"}}", hex::encode(encode(transaction)));
        let request = format!(
            "POST /transactions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        self.exchange(request.as_bytes())
    }

    /// Sends it until it is taken.
    pub(crate) fn submit_patiently(
        &mut self,
        transaction: &SignedTransaction,
        refused: &AtomicU64,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let (status, answer) = self.submit(transaction)?;
            if status < 300 {
                return Ok(());
            }
            // Full, or too many at once.
            ensure!(began.elapsed() < PATIENCE && matches!(status, 409 | 429 | 503), "{answer}");
            refused.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, Value)> {
        self.stream.write_all(request)?;
        let mut arrived = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let bytes = self.stream.read(&mut chunk)?;
            ensure!(bytes > 0, "the RPC closed the connection");
            arrived.extend_from_slice(&chunk[..bytes]);
            let Some(head) = arrived.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&arrived[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.context("a length")?.parse()?;
            if arrived.len() >= head + 4 + length {
                let status = text.get(9..12).context("a status")?.parse()?;
                return Ok((status, serde_json::from_slice(&arrived[head + 4..])?));
            }
        }
    }
}

/// Waits until all have this height.
fn wait(members: &[Member], height: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for member in members {
        let mut rpc = Rpc::open(member.rpc)?;
        while rpc.get("/status")?.1["height"].as_u64() < Some(height) {
            ensure!(Instant::now() < deadline, "the validators decide nothing");
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn transfer(genesis: &Genesis, from: usize, nonce: u64) -> SignedTransaction {
    transfer_to(genesis, from, nonce, account(from / 2).public().address())
}

pub(crate) fn transfer_to(
    genesis: &Genesis,
    from: usize,
    nonce: u64,
    to: Address,
) -> SignedTransaction {
    let body = TransactionBody {
        network: genesis.network.clone(),
        signer: account(from).public(),
        nonce,
        gas_limit: 21_000,
        fee_max: Atoms(10),
        tip: Atoms::ZERO,
        action: Action::Transfer { to, amount: Atoms(7) },
    };
    SignedTransaction::sign(body, &account(from))
}

/// Sends one transfer of the account that nobody else sends from, and waits until it is in a block.
fn until_committed(genesis: &Genesis, rpc: &mut Rpc, nonce: u64) -> anyhow::Result<Duration> {
    let transaction = transfer(genesis, SENDERS * ACCOUNTS, nonce);
    let began = Instant::now();
    let (status, answer) = rpc.submit(&transaction)?;
    ensure!(status < 300, "{answer}");
    let path = format!("/transactions/{}", answer["id"].as_str().context("a name")?);
    while rpc.get(&path)?.1["state"] != "committed" {
        ensure!(began.elapsed() < PATIENCE, "a transfer gets into no block");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(began.elapsed())
}

/// One transfer after the other: from sending it to seeing it in a block.
fn timed(genesis: &Genesis, member: &Member) -> anyhow::Result<()> {
    let mut rpc = Rpc::open(member.rpc)?;
    let mut times = Vec::new();
    for nonce in 0..TIMED as u64 {
        times.push(until_committed(genesis, &mut rpc, nonce)?);
    }
    times.sort_unstable();
    let ms = |percent| percentile(&times, percent).as_secs_f64() * 1e3;
    println!("  alone, until it is in a block: p50 {:.1} ms, p99 {:.1} ms", ms(50.0), ms(99.0));
    Ok(())
}

/// All senders at once, over all members; and how long single transfers take meanwhile.
fn throughput(genesis: &Genesis, members: &[Member]) -> anyhow::Result<()> {
    let prepared: Vec<Vec<SignedTransaction>> = (0..SENDERS)
        .map(|sender| {
            let accounts = sender * ACCOUNTS..(sender + 1) * ACCOUNTS;
            let nonces = 0..TRANSFERS;
            nonces
                .flat_map(|nonce| accounts.clone().map(move |from| (from, nonce)))
                .map(|(from, nonce)| transfer(genesis, from, nonce))
                .collect()
        })
        .collect();
    let before = Rpc::open(members[0].rpc)?.get("/status")?;
    let before = before.1["height"].as_u64().context("a height")?;
    let (refused, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let meanwhile = thread::scope(|scope| {
        let probe = scope.spawn(|| probe(genesis, &members[0], &is_over));
        let senders: Vec<_> = prepared
            .iter()
            .enumerate()
            .map(|(n, list)| {
                let (address, refused) = (members[n % members.len()].rpc, &refused);
                scope.spawn(move || send(address, list, refused))
            })
            .collect();
        let sent: Result<Vec<()>, _> =
            senders.into_iter().map(|one| one.join().expect("no panic")).collect();
        is_over.store(true, Ordering::SeqCst);
        sent.and_then(|_| probe.join().expect("no panic"))
    })?;
    let total = SENDERS * ACCOUNTS * TRANSFERS as usize;
    // A connection that had waited until now would be closed.
    let mut rpc = Rpc::open(members[0].rpc)?;
    let (count, took, blocks) = committed(&mut rpc, before, total, began)?;
    println!(
        "  {count} transfers in {blocks} blocks: {:.0} a second; refused and sent again {}",
        count as f64 / took.as_secs_f64(),
        refused.load(Ordering::SeqCst)
    );
    let ms = |percent| percentile(&meanwhile, percent).as_secs_f64() * 1e3;
    println!(
        "  one among them, until it is in a block: p50 {:.0} ms, p99 {:.0} ms",
        ms(50.0),
        ms(99.0)
    );
    Ok(())
}

fn send(
    address: SocketAddr,
    list: &[SignedTransaction],
    refused: &AtomicU64,
) -> anyhow::Result<()> {
    let mut rpc = Rpc::open(address)?;
    list.iter().try_for_each(|transaction| rpc.submit_patiently(transaction, refused))
}

/// Single transfers while the others send.
fn probe(
    genesis: &Genesis,
    member: &Member,
    is_over: &AtomicBool,
) -> anyhow::Result<Vec<Duration>> {
    let mut rpc = Rpc::open(member.rpc)?;
    let (mut times, mut nonce) = (Vec::new(), TIMED as u64);
    while !is_over.load(Ordering::SeqCst) {
        times.push(until_committed(genesis, &mut rpc, nonce)?);
        nonce += 1;
    }
    times.sort_unstable();
    Ok(times)
}

/// Waits until as many are in blocks as were sent. Returns how many, when, and in how many blocks.
fn committed(
    rpc: &mut Rpc,
    before: u64,
    total: usize,
    began: Instant,
) -> anyhow::Result<(usize, Duration, u64)> {
    let (mut count, mut height, mut blocks) = (0, before + 1, 0);
    loop {
        let (status, block) = rpc.get(&format!("/blocks/{height}"))?;
        if status != 200 {
            ensure!(began.elapsed() < PATIENCE, "{count} of {total} are in blocks");
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let here = block["transactions"].as_array().map_or(0, Vec::len);
        (count, height, blocks) = (count + here, height + 1, blocks + u64::from(here > 0));
        if count >= total {
            return Ok((count, began.elapsed(), blocks));
        }
    }
}
