//! A PostgreSQL of one's own, in a directory that goes with it.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use arknet_registry::{Postgres, PostgresOptions};

/// A running server that listens on a socket in its directory and nowhere else.
pub(crate) struct Cluster {
    programs: PathBuf,
    directory: tempfile::TempDir,
    server: Child,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let programs = programs();
        let directory = tempfile::tempdir().unwrap();
        if let Some((user, group)) = owner() {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let data = directory.path().join("data");
        let made = unprivileged(&programs.join("initdb"), directory.path())
            .args(["--no-sync", "--auth=trust", "--username=registry", "--encoding=UTF8", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = serve(&programs, directory.path());
        Self { programs, directory, server }
    }

    /// Ends the server as a crash would, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.server = serve(&self.programs, self.directory.path());
    }

    fn stop(&mut self) {
        let _ = unprivileged(&self.programs.join("pg_ctl"), self.directory.path())
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.directory.path().join("data"))
            .output();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// The connection string of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("host={} user=registry dbname={database}", self.directory.path().display())
    }

    /// A new database.
    pub(crate) async fn store(&self, database: &str) -> Arc<Postgres> {
        let made = unprivileged(&self.programs.join("createdb"), self.directory.path())
            .args(["-U", "registry", "-h"])
            .arg(self.directory.path())
            .arg(database)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.open(database).await
    }

    /// The database, as one more instance sees it.
    pub(crate) async fn open(&self, database: &str) -> Arc<Postgres> {
        let options = PostgresOptions { url: self.url(database), ca: None };
        Arc::new(Postgres::open(&options).await.unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server, when it is ready.
fn serve(programs: &Path, directory: &Path) -> Child {
    let mut server = unprivileged(&programs.join("postgres"), directory)
        .args(["-F", "-c", "listen_addresses=", "-c", "max_connections=40", "-k"])
        .arg(directory)
        .arg("-D")
        .arg(directory.join("data"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(server.stderr.take().unwrap()).lines();
    let is_ready = |line: &str| line.contains("ready to accept connections");
    let found = words.by_ref().map_while(Result::ok).find(|line| is_ready(line));
    assert!(found.is_some(), "PostgreSQL ended before it was ready");
    // What it says later would fill the pipe.
    std::thread::spawn(move || words.for_each(drop));
    server
}

/// Where the programs lie: Debian keeps them off the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    let on_path = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    });
    let found = found.pop().or(on_path);
    found.expect("PostgreSQL is not installed: run make deps, or install the package postgresql")
}

/// A program of PostgreSQL, which refuses to be root.
fn unprivileged(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command
}

/// Whose the server is when the tests are root's.
fn owner() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    is_root.then(|| of("postgres").or_else(|| of("nobody")).expect("a user who is not root"))
}
