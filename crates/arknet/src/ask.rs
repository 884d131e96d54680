//! Asks: over the running node's gateway where there is one, else over the mesh as a light peer,
//! else of a model on this machine.

use std::{
    io::{BufRead, BufReader, Read},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use arknet_node::{Config, DataDir, RunningNode};
use arknet_sdk::{
    Client, ConnectOptions, InferRequest, Message, Refusal, RefusalCode, Role, Sampling, keyfile,
    seeds,
    session::{Scope, SessionKey},
    wallet::Wallet,
};
use arknet_types::{Atoms, Chat, Input, ModelName, Reply};
use serde_json::{Value, json};

use crate::{cli::Ask, out::Out};

/// How long a light peer waits for offers before it takes what is there.
const DISCOVERY: Duration = Duration::from_secs(5);
const SESSION_LIFETIME: Duration = Duration::from_secs(3600);
/// Largest prompt read from standard input in bytes.
const PROMPT_BYTES_MAX: u64 = 2 << 20;

/// What is said of an answer at its end.
struct Answered {
    text: String,
    peer: String,
    model: String,
    first_token: Option<Duration>,
}

pub(crate) fn run(data: &DataDir, config: &Config, mut ask: Ask, out: &Out) -> anyhow::Result<()> {
    if ask.prompt == "-" {
        ask.prompt.clear();
        std::io::stdin().lock().take(PROMPT_BYTES_MAX).read_to_string(&mut ask.prompt)?;
    }
    let began = Instant::now();
    let answered = match data.running().filter(|node| node.gateway.is_some()) {
        Some(node) => over_gateway(&node, &ask, out, began)?,
        None => {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(without_node(data, config, &ask, out, began))?
        }
    };
    let first_ms = answered.first_token.map(|after| after.as_millis());
    if out.is_json() {
        let report = json!({
            "text": answered.text,
            "model": answered.model,
            "peer": answered.peer,
            "first_token_ms": first_ms,
            "total_ms": began.elapsed().as_millis(),
        });
        return out.result(&report, "");
    }
    out.raw(b"\n")?;
    let first = first_ms.map_or(String::new(), |ms| format!(", first token after {ms} ms"));
    out.note(&format!("[{} on {}{first}]", answered.model, answered.peer));
    Ok(())
}

/// Prints pieces as they come and remembers what the end needs.
struct Printer<'a> {
    out: &'a Out,
    began: Instant,
    text: String,
    first_token: Option<Duration>,
}

impl<'a> Printer<'a> {
    const fn new(out: &'a Out, began: Instant) -> Self {
        Self { out, began, text: String::new(), first_token: None }
    }

    fn piece(&mut self, piece: &str) -> anyhow::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.first_token.get_or_insert_with(|| self.began.elapsed());
        if self.out.is_json() {
            self.text.push_str(piece);
            return Ok(());
        }
        self.out.raw(piece.as_bytes())
    }

    fn end(self, peer: String, model: String) -> Answered {
        Answered { text: self.text, peer, model, first_token: self.first_token }
    }
}

fn over_gateway(
    node: &RunningNode,
    ask: &Ask,
    out: &Out,
    began: Instant,
) -> anyhow::Result<Answered> {
    let base = format!("http://{}/v1", node.gateway.expect("filtered by the caller"));
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent: ureq::Agent = config.timeout_connect(Some(Duration::from_secs(5))).build().into();
    let model = match &ask.model {
        Some(model) => model.to_string(),
        None => first_model(&agent, &base)?,
    };
    let mut body = json!({
        "model": model,
        "messages": messages(ask).iter().map(|message| json!({
            "role": message.role.as_str(),
            "content": message.text(),
        })).collect::<Vec<_>>(),
        "max_tokens": ask.max_tokens,
        "stream": true,
    });
    if let Some(temperature) = ask.temperature {
        body["temperature"] = temperature.into();
    }
    let request = agent.post(format!("{base}/chat/completions")).content_type("application/json");
    let mut response = request.send(body.to_string()).context("the node's gateway")?;
    if !response.status().is_success() {
        let text = response.body_mut().read_to_string()?;
        return Err(gateway_error(&serde_json::from_str(&text).unwrap_or(Value::Null)));
    }
    let peer = response.headers().get("x-arknet-peer").and_then(|value| value.to_str().ok());
    let peer = peer.unwrap_or("unknown").to_owned();
    let mut printer = Printer::new(out, began);
    for line in BufReader::new(response.body_mut().as_reader()).lines() {
        let line = line.context("the node's gateway")?;
        let Some(event) = line.strip_prefix("data: ") else { continue };
        if event == "[DONE]" {
            return Ok(printer.end(peer, model));
        }
        let event: Value = serde_json::from_str(event).context("the node's gateway")?;
        if event.get("error").is_some() {
            return Err(gateway_error(&event));
        }
        if let Some(piece) = event["choices"][0]["delta"]["content"].as_str() {
            printer.piece(piece)?;
        }
    }
    bail!("the node ended the answer before it was complete")
}

/// The error in a gateway's answer; a refusal where its code is one.
fn gateway_error(answer: &Value) -> anyhow::Error {
    let error = &answer["error"];
    let words = error["message"].as_str().unwrap_or("the node gave no reason");
    let code = match error["code"].as_str() {
        Some("model_not_found") => RefusalCode::UnknownModel,
        Some("context_length_exceeded") => RefusalCode::ContextOverflow,
        _ => RefusalCode::ProviderFailed,
    };
    Refusal::new(code, words).into()
}

/// A model of this node where there is one, else the first of the mesh.
fn first_model(agent: &ureq::Agent, base: &str) -> anyhow::Result<String> {
    let mut response = agent.get(format!("{base}/models")).call().context("the node's gateway")?;
    let list: Value = serde_json::from_str(&response.body_mut().read_to_string()?)?;
    let models = list["data"].as_array().map_or(&[][..], Vec::as_slice);
    let local = models.iter().find(|model| model["arknet"]["local"] == true);
    let model = local.or_else(|| models.first()).and_then(|model| model["id"].as_str());
    Ok(model.context("no model is known yet; see: arknet peers")?.to_owned())
}

async fn without_node(
    data: &DataDir,
    config: &Config,
    ask: &Ask,
    out: &Out,
    began: Instant,
) -> anyhow::Result<Answered> {
    match over_mesh(data, config, ask, out, began).await? {
        Some(answered) => Ok(answered),
        None => on_this_machine(data, config, ask, out, began).await,
    }
}

/// Asks as a light peer. `None` when there is no mesh to be reached and a model here may do.
async fn over_mesh(
    data: &DataDir,
    config: &Config,
    ask: &Ask,
    out: &Out,
    began: Instant,
) -> anyhow::Result<Option<Answered>> {
    let file = seeds::load(Some(data.root()))?;
    let network = config.mesh.network.clone().unwrap_or(file.chain_id);
    let in_file = || file.seeds.into_iter().map(|seed| seed.multiaddr).collect();
    let seeds: Vec<String> = config.mesh.seeds.clone().unwrap_or_else(in_file);
    if seeds.is_empty() {
        return Ok(None);
    }
    let wallet = Wallet::from_key(keyfile::load_or_create(&data.wallet())?);
    let cap = Atoms(config.gateway.spending_cap_atoms);
    let scope = Scope { network: Some(network), ..Scope::default() };
    let session = SessionKey::create_scoped(&wallet, cap, SESSION_LIFETIME, scope)?;
    // Whoever has approved this machine knows its key; a node that runs has it in use.
    let peer_key = match data.running() {
        None => Some(keyfile::load_or_create(&data.peer_key())?),
        Some(_) => None,
    };
    let options = ConnectOptions {
        session: Some(session),
        seeds: Some(seeds),
        peer_key,
        ..Default::default()
    };
    let client = match Client::connect(options).await {
        Ok(client) => client,
        Err(error) => {
            out.note(&format!("{error}; asking a model on this machine"));
            return Ok(None);
        }
    };
    let model = match &ask.model {
        Some(model) => Some(model.clone()),
        None => first_offered(&client).await,
    };
    let Some(model) = model else {
        out.note("no peer offers a model; asking one on this machine");
        return Ok(None);
    };
    let result = stream_over(&client, &model, ask, Printer::new(out, began)).await;
    client.mesh().clone().shutdown().await;
    match result {
        Err(error) if is_unknown_model(&error) => Ok(None),
        result => result.map(Some),
    }
}

async fn stream_over(
    client: &Client,
    model: &ModelName,
    ask: &Ask,
    mut printer: Printer<'_>,
) -> anyhow::Result<Answered> {
    let request = InferRequest {
        model: model.to_string(),
        messages: messages(ask),
        max_tokens: ask.max_tokens,
        sampling: sampling(ask),
        ..InferRequest::default()
    };
    let mut stream = client.infer_stream(request).await.map_err(refusal_of)?;
    while let Some(piece) = stream.next().await {
        printer.piece(&piece.map_err(refusal_of)?)?;
    }
    Ok(printer.end(stream.peer().to_string(), model.to_string()))
}

fn refusal_of(error: arknet_sdk::InferError) -> anyhow::Error {
    match error {
        arknet_sdk::InferError::Refused(refusal) => refusal.into(),
        error => error.into(),
    }
}

fn is_unknown_model(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|r| r.code == RefusalCode::UnknownModel)
}

async fn first_offered(client: &Client) -> Option<ModelName> {
    let mut changes = client.mesh().offers().changed();
    let wait = async {
        loop {
            if let Some((name, _)) = client.models().into_iter().next() {
                return Some(name);
            }
            if changes.changed().await.is_err() {
                return None;
            }
        }
    };
    tokio::time::timeout(DISCOVERY, wait).await.unwrap_or(None)
}

async fn on_this_machine(
    data: &DataDir,
    config: &Config,
    ask: &Ask,
    out: &Out,
    began: Instant,
) -> anyhow::Result<Answered> {
    let mut config = config.clone();
    if let Some(model) = &ask.model {
        config.compute.models = vec![model.clone()];
    }
    let serving = arknet_node::serve_locally(data, &config).map_err(|error| match error {
        arknet_node::NodeError::Models(arknet_node::ModelsError::Unknown { name }) => {
            let words = format!("{name} is neither on this machine nor offered by a peer");
            Refusal::new(RefusalCode::UnknownModel, words).into()
        }
        error => anyhow::Error::from(error),
    })?;
    let model = serving.models().keys().next().context("no model on this machine")?.clone();
    let input = Input::Chat(Chat::new(messages(ask)));
    let request = arknet_types::InferRequest {
        max_tokens: Some(ask.max_tokens),
        sampling: sampling(ask),
        ..arknet_types::InferRequest::new(model.clone(), input)
    };
    request.check()?;
    let mut running = serving.run(arknet_node::serving::LOCAL, request).await?;
    let mut printer = Printer::new(out, began);
    while let Some(reply) = running.next().await {
        match reply {
            Reply::Text { text, .. } => printer.piece(&text)?,
            Reply::Refused(refusal) => return Err(refusal.into()),
            _ => {}
        }
    }
    Ok(printer.end("this machine".into(), model.to_string()))
}

fn messages(ask: &Ask) -> Vec<Message> {
    let system = ask.system.clone().map(|text| Message::new(Role::System, text));
    let user = Message::new(Role::User, ask.prompt.clone());
    system.into_iter().chain([user]).collect()
}

fn sampling(ask: &Ask) -> Sampling {
    let mut sampling = Sampling::default();
    if let Some(temperature) = ask.temperature {
        sampling.temperature = temperature;
    }
    sampling
}
