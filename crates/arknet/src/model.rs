use std::{
    io::{self, BufRead, IsTerminal, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::bail;
use arknet_node::{DataDir, Download, ModelEntry, ModelStore, ModelsError, Status, Taken, models};
use arknet_types::{ModelDigest, ModelName};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Add, ModelCommand},
    ledger::Home,
    node_api::NodeApi,
    out::{Out, bytes, table},
};

pub(crate) fn run(home: Home<'_>, command: ModelCommand, out: &Out) -> anyhow::Result<()> {
    let data = home.data;
    let store = ModelStore::open(data.models())?;
    match command {
        ModelCommand::Add(order) => add(data, &store, order, out),
        ModelCommand::Deregister(order) => crate::ledger::deregister(home, *order, out),
        ModelCommand::List => list(data, &store, out),
        ModelCommand::Pull { name, from } => pull(data, &name, from.as_deref(), out),
        ModelCommand::Register(order) => crate::ledger::register(home, *order, out),
        ModelCommand::Remove { name } => {
            let entry = store.remove(&name)?;
            let served = serve(data, &name, out);
            out.result(&entry, &format!("removed {name}{served}"))
        }
        ModelCommand::Verify { name } => verify(data, &store, name, out),
    }
}

fn add(data: &DataDir, store: &ModelStore, order: Add, out: &Out) -> anyhow::Result<()> {
    let Add { source, name, projector, sha256, projector_sha256, yes } = order;
    let hash = Expected { flag: "--projector-sha256", sha256: projector_sha256 };
    // The small one first: nobody waits for a model whose projector cannot be had.
    let projector = projector.map(|projector| Source::get(store, &projector, hash, yes, out));
    let projector = projector.transpose()?;
    if let Some(projector) = &projector {
        projector.check_hash()?;
    }
    let name = name.or_else(|| if is_url(&source) { models::url_name(&source) } else { None });
    let model = Source::get(store, &source, Expected { flag: "--sha256", sha256 }, yes, out)?;
    if let Some(projector) = &projector {
        projector.check_fit(&model)?;
    }
    let bar_of = |source: &Source, what| {
        bar(out, what, std::fs::metadata(&source.path).ok().map(|metadata| metadata.len()))
    };
    let progress = bar_of(&model, "adding");
    let result = store.add(&model.path, name, model.sha256, |done| progress.set_position(done));
    progress.finish_and_clear();
    let mut entry = model.taken(result)?;
    if let Some(projector) = projector {
        let progress = bar_of(&projector, "adding the projector");
        let result = store.add_projector(&projector.path, &entry.name, |done| {
            progress.set_position(done);
        });
        progress.finish_and_clear();
        entry = projector.taken(result)?;
    }
    let with = if entry.projector.is_some() { ", takes pictures" } else { "" };
    let (size, digest) = (bytes(entry.bytes), entry.digest);
    let served = serve(data, &entry.name, out);
    let text = format!("added {} ({size}, {digest}{with}){served}", entry.name);
    out.result(&entry, &text)
}

/// Has the running node serve a model as it is now, where there is one. Says what became of that.
fn serve(data: &DataDir, name: &ModelName, out: &Out) -> &'static str {
    let Ok(node) = NodeApi::of(data) else {
        return "";
    };
    match node.post::<Taken>("/models/serve", &serde_json::json!({ "name": name })) {
        Ok(Taken::Now) => "; the running node serves it",
        Ok(Taken::Gone) => "; the running node has let it go",
        Ok(Taken::Later) => "; the running node follows when the model's answers have ended",
        Ok(Taken::NotConfigured) => "; the running node serves only what compute.models names",
        Err(error) => {
            out.note(&format!("the running node does not serve {name}: {error:#}"));
            ""
        }
    }
}

/// Has the running node fetch a model, and shows how far it is.
fn pull(data: &DataDir, name: &str, from: Option<&str>, out: &Out) -> anyhow::Result<()> {
    let node = NodeApi::of(data)?;
    let body = serde_json::json!({ "model": name, "from": from });
    let progress = bar(out, "fetching", None);
    let mut last = Value::Null;
    node.order("/models/pull", &body, |step| {
        match step["status"].as_str() {
            Some("progress") => {
                if let Some(total) = step["total_bytes"].as_u64() {
                    progress.set_length(total);
                }
                progress.set_position(step["done_bytes"].as_u64().unwrap_or(0));
            }
            Some("dropped") => out.note(&format!(
                "{} is dropped: {}",
                step["peer"].as_str().unwrap_or_default(),
                step["words"].as_str().unwrap_or_default()
            )),
            _ => {}
        }
        // A program sees every step, a person the last one.
        if out.is_json() {
            out.raw(format!("{step}\n").as_bytes())?;
        }
        last = step;
        Ok(())
    })?;
    progress.finish_and_clear();
    match last["status"].as_str() {
        Some("ready") if out.is_json() => Ok(()),
        Some("ready") => out.result(&last, &format!("{name} is here and served")),
        _ => bail!("{name}: {}", last["error"].as_str().unwrap_or("the node ended the transfer")),
    }
}

/// A model as it is listed.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: ModelEntry,
    /// Whether the ledger that the running node follows has accepted this file under this name.
    vouched_for: bool,
}

fn list(data: &DataDir, store: &ModelStore, out: &Out) -> anyhow::Result<()> {
    let mut entries = store.list()?;
    // What is served when nothing was added belongs into the list of what can be served.
    if entries.is_empty() {
        entries.push(store.embedded()?);
    }
    // Without a running node nobody knows what the ledger says.
    let status = NodeApi::of(data).and_then(|node| node.get::<Status>("/status"));
    let served = status.map(|status| status.models).unwrap_or_default();
    let vouched_for = |entry: &ModelEntry| {
        let digest = entry.digest.to_string();
        served.iter().any(|model| {
            model.vouched_for
                && model.name == entry.name.as_str()
                && model.digest.as_ref() == Some(&digest)
        })
    };
    let listed = entries.into_iter().map(|entry| {
        let vouched_for = vouched_for(&entry);
        Listed { entry, vouched_for }
    });
    let listed: Vec<_> = listed.collect();
    let heads = ["NAME", "SIZE", "ARCHITECTURE", "PICTURES", "LEDGER", "SHA-256"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(listed.iter().map(|Listed { entry, vouched_for }| {
        let ModelEntry { name, digest, bytes: size, architecture, projector } = entry;
        let pictures = if projector.is_some() { "yes" } else { "-" };
        let ledger = if *vouched_for { "vouches" } else { "-" };
        let (name, digest) = (name.to_string(), digest.to_string());
        let (pictures, ledger) = (pictures.to_owned(), ledger.to_owned());
        vec![name, bytes(*size), architecture.clone(), pictures, ledger, digest]
    }));
    out.result(&listed, &table(&rows))
}

fn verify(
    data: &DataDir,
    store: &ModelStore,
    name: Option<ModelName>,
    out: &Out,
) -> anyhow::Result<()> {
    let names = match name {
        Some(name) => vec![name],
        None => store.list()?.into_iter().map(|entry| entry.name).collect(),
    };
    // Without a running node nobody knows what the ledger says.
    let node = NodeApi::of(data).ok();
    let mut verified = Vec::new();
    for name in names {
        let bar = bar(out, "hashing", store.get(&name).ok().map(|entry| entry.bytes));
        let entry = store.verify(&name, |done| bar.set_position(done))?;
        bar.finish_and_clear();
        let vouched_for = match &node {
            Some(node) => is_vouched_for(node, &entry)?,
            None => false,
        };
        verified.push(Listed { entry, vouched_for });
    }
    let line = |Listed { entry, vouched_for }: &Listed| {
        let vouches = if *vouched_for { ", and the ledger vouches for it" } else { "" };
        format!("{} is {}{vouches}", entry.name, entry.digest)
    };
    let lines: Vec<String> = verified.iter().map(line).collect();
    let text = if lines.is_empty() { "no models were added".into() } else { lines.join("\n") };
    out.result(&verified, &text)
}

/// Asks what the ledger has accepted under a name; another file under it is an error.
fn is_vouched_for(node: &NodeApi, entry: &ModelEntry) -> anyhow::Result<bool> {
    let ModelEntry { name, digest, .. } = entry;
    let accepted: Vec<ModelDigest> =
        node.post("/models/accepted", &serde_json::json!({ "name": name }))?;
    match accepted.first() {
        Some(other) if !accepted.contains(digest) => {
            bail!(
                "{name} is whole, but it is {digest}, and the ledger has accepted {other} as {name}"
            )
        }
        first => Ok(first.is_some()),
    }
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// The hash that a file must have, and the flag that says so.
struct Expected {
    flag: &'static str,
    sha256: Option<ModelDigest>,
}

/// A file that is to be added.
struct Source {
    path: PathBuf,
    sha256: Option<ModelDigest>,
    /// Where it came from a URL.
    download: Option<Download>,
}

impl Source {
    /// A path as it is; what a URL names is fetched first.
    fn get(
        store: &ModelStore,
        source: &str,
        Expected { flag, sha256 }: Expected,
        yes: bool,
        out: &Out,
    ) -> anyhow::Result<Self> {
        if !is_url(source) {
            return Ok(Self { path: source.into(), sha256, download: None });
        }
        if sha256.is_none() && !yes && !io::stdin().is_terminal() {
            bail!("give {flag} so that the download can be checked, or --yes to accept what comes");
        }
        let download = Download::new(source, &store.partial());
        let progress = bar(out, "fetching", None);
        let path = download.run(|done, total| {
            if let Some(total) = total {
                progress.set_length(total);
            }
            progress.set_position(done);
            ControlFlow::Continue(())
        })?;
        progress.finish_and_clear();
        let path = path.to_owned();
        let sha256 = match sha256 {
            Some(digest) => digest,
            None => confirm(source, &path, yes, out)?,
        };
        Ok(Self { path, sha256: Some(sha256), download: Some(download) })
    }

    /// Before anything else is done with it.
    fn check_hash(&self) -> anyhow::Result<()> {
        let Some(expected) = self.sha256 else {
            return Ok(());
        };
        let found = ModelStore::digest(&self.path)?;
        if found != expected {
            self.discard();
            return Err(ModelsError::Digest { expected, found }.into());
        }
        Ok(())
    }

    /// Whether this is the projector of a model. The one that is at fault is not kept.
    fn check_fit(&self, model: &Self) -> Result<(), ModelsError> {
        models::check_projector(&self.path, &model.path).inspect_err(|error| match error {
            ModelsError::Gguf { path, .. } if *path == model.path => model.discard(),
            ModelsError::Io { .. } => {}
            _ => self.discard(),
        })
    }

    /// Lets a download go that has been added, or will never be: going on from a file with another
    /// hash would fail again.
    fn taken(self, result: Result<ModelEntry, ModelsError>) -> anyhow::Result<ModelEntry> {
        if !matches!(result, Err(ModelsError::Io { .. })) {
            self.discard();
        }
        Ok(result?)
    }

    /// Removes what was fetched; another's file is left alone.
    fn discard(&self) {
        if let Some(download) = &self.download {
            download.discard();
        }
    }
}

/// Shows the hash of what came and asks whether it is the right one.
fn confirm(url: &str, path: &Path, yes: bool, out: &Out) -> anyhow::Result<ModelDigest> {
    let digest = ModelStore::digest(path)?;
    if yes {
        out.note(&format!("accepted {digest}"));
        return Ok(digest);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{url}\nhas the hash {digest}\nIs this the one you expect? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("not added");
    }
    Ok(digest)
}

fn bar(out: &Out, what: &'static str, total: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::new(total.unwrap_or(0));
    if out.is_json() || !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    bar.set_message(what);
    bar
}
