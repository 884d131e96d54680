//! What to measure: the command line, checked.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum, value_parser};
use hyper::{Uri, header::HeaderValue};
use serde_json::{Map, Value};

/// Workers at once: each takes a connection.
pub(super) const CONCURRENCY_MAX: u32 = 10_000;
/// Requests or conversations of one run.
const REQUESTS_MAX: u32 = 10_000_000;
/// Tokens of one prompt or answer.
const TOKENS_MAX: u32 = 1_000_000;
/// Turns of a conversation, each of which sends all that was said before.
pub(super) const TURNS_MAX: u32 = 1_000;
/// Bytes of a file that should hold a key.
const KEY_BYTES_MAX: usize = 4096;
/// Seconds a request may be given.
const TIMEOUT_SECONDS_MAX: u64 = 24 * 60 * 60;

/// What `arknet bench serve` takes.
#[derive(Args)]
pub(super) struct Serve {
    /// The server, as OpenAI's clients are given it: http://127.0.0.1:4000/v1
    #[arg(long, value_parser = Target::parse)]
    url: Target,
    /// The model [default: the first the server lists]
    #[arg(long, short)]
    model: Option<String>,
    /// A file that holds the API key [default: the variable ARKNET_API_KEY, else no key]
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// Which of the two ways to ask
    #[arg(long, value_enum, default_value_t = Endpoint::Chat)]
    endpoint: Endpoint,
    /// Requests at once
    #[arg(long, short, default_value_t = 1,
        value_parser = value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    concurrency: u32,
    /// Requests in all; with --turns conversations
    #[arg(long, short = 'n', default_value_t = 16,
        value_parser = value_parser!(u32).range(1..=i64::from(REQUESTS_MAX)))]
    requests: u32,
    /// Requests beforehand that do not count
    #[arg(long, default_value_t = 1,
        value_parser = value_parser!(u32).range(0..=i64::from(REQUESTS_MAX)))]
    warmup: u32,
    /// Tokens of a prompt, about: two requests beforehand find out how the model counts
    #[arg(long, default_value_t = 128,
        value_parser = value_parser!(u32).range(1..=i64::from(TOKENS_MAX)))]
    prompt_tokens: u32,
    /// Of these, how many are the same in all prompts
    #[arg(long, default_value_t = 0,
        value_parser = value_parser!(u32).range(0..=i64::from(TOKENS_MAX)))]
    shared_prefix_tokens: u32,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 64,
        value_parser = value_parser!(u32).range(1..=i64::from(TOKENS_MAX)))]
    output_tokens: u32,
    /// Questions of one conversation, one after the other, each with all that was said before
    #[arg(long, default_value_t = 1,
        value_parser = value_parser!(u32).range(1..=i64::from(TURNS_MAX)))]
    turns: u32,
    /// Tokens of each further question of a conversation
    #[arg(long, default_value_t = 32,
        value_parser = value_parser!(u32).range(1..=i64::from(TOKENS_MAX)))]
    turn_tokens: u32,
    /// Stream answers (the default)
    #[arg(long, overrides_with = "no_stream")]
    stream: bool,
    /// Get each answer as a whole: no time to the first token
    #[arg(long, overrides_with = "stream")]
    no_stream: bool,
    /// Ask for answers of full length (llama-server, vLLM and SGLang know it; others refuse it)
    #[arg(long)]
    ignore_eos: bool,
    /// How varied answers are: 0 always takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// A JSON object put over each request; null takes a field out
    #[arg(long, value_name = "JSON", value_parser = object)]
    body: Option<Map<String, Value>>,
    /// Makes the same prompts again [default: others in every run]
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds until a request counts as failed
    #[arg(long, default_value_t = 600,
        value_parser = value_parser!(u64).range(1..=TIMEOUT_SECONDS_MAX))]
    timeout: u64,
}

/// What to measure.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) key: Option<HeaderValue>,
    pub(super) model: Option<String>,
    pub(super) endpoint: Endpoint,
    pub(super) concurrency: u32,
    pub(super) requests: u32,
    pub(super) warmup: u32,
    pub(super) prompt_tokens: u32,
    pub(super) shared_prefix_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) turns: u32,
    pub(super) turn_tokens: u32,
    pub(super) stream: bool,
    /// Fields of each request that do not depend on it.
    pub(super) fields: Map<String, Value>,
    /// What is put over each request at last.
    pub(super) overlay: Map<String, Value>,
    pub(super) seed: u64,
    pub(super) timeout: Duration,
}

impl Plan {
    /// Checks what only together makes no sense. `key` is the variable's, where it is set.
    pub(super) fn new(serve: Serve, key: Option<OsString>) -> anyhow::Result<Self> {
        ensure!(
            serve.turns == 1 || serve.endpoint == Endpoint::Chat,
            "--turns needs --endpoint chat: a completion has no turns"
        );
        ensure!(
            serve.shared_prefix_tokens < serve.prompt_tokens,
            "--shared-prefix-tokens must be below --prompt-tokens, of which they are a part"
        );
        ensure!((0.0..=2.0).contains(&serve.temperature), "--temperature must lie between 0 and 2");
        let key = match (&serve.key_file, key) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("--key-file {}", path.display()))?;
                Some(bearer(&text).with_context(|| format!("--key-file {}", path.display()))?)
            }
            (None, Some(text)) if !text.is_empty() => {
                let text = text.to_str().context("ARKNET_API_KEY is not a text")?;
                Some(bearer(text).context("ARKNET_API_KEY")?)
            }
            (None, _) => None,
        };
        let mut fields = Map::new();
        fields.insert("max_tokens".into(), serve.output_tokens.into());
        fields.insert("temperature".into(), short(serve.temperature));
        if serve.ignore_eos {
            fields.insert("ignore_eos".into(), true.into());
        }
        let stream = !serve.no_stream;
        if stream {
            fields.insert("stream".into(), true.into());
            fields.insert("stream_options".into(), serde_json::json!({ "include_usage": true }));
        }
        Ok(Self {
            target: serve.url,
            key,
            model: serve.model,
            endpoint: serve.endpoint,
            concurrency: serve.concurrency,
            requests: serve.requests,
            warmup: serve.warmup,
            prompt_tokens: serve.prompt_tokens,
            shared_prefix_tokens: serve.shared_prefix_tokens,
            output_tokens: serve.output_tokens,
            turns: serve.turns,
            turn_tokens: serve.turn_tokens,
            stream,
            fields,
            overlay: serve.body.unwrap_or_default(),
            seed: serve.seed.unwrap_or_else(of_the_clock),
            timeout: Duration::from_secs(serve.timeout),
        })
    }
}

/// A number as a person writes it: 0.7 and not 0.699999988079071.
fn short(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// Prompts that no server has seen in an earlier run.
fn of_the_clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // What JSON's readers hold as a number: 53 bits.
    now.map_or(0, |now| (now.as_micros() & 0x1f_ffff_ffff_ffff).try_into().unwrap_or(0))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("not a JSON object".into()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn bearer(key: &str) -> anyhow::Result<HeaderValue> {
    let key = key.trim();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        bail!("holds no API key");
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| anyhow::anyhow!("holds no API key, but characters no key has"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Which of the two ways to ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Endpoint {
    /// Chat completions
    Chat,
    /// Completions of a plain text
    Completions,
}

impl Endpoint {
    /// Below the server's URL.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
        }
    }
}

/// Where a server is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    uri: Uri,
    /// What the header `Host` says.
    pub(super) authority: HeaderValue,
    /// The path that all others are below, without a slash at its end.
    base: String,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("must begin with http:// or https://".into());
        }
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a name or password; give a key by --key-file".into());
        }
        if uri.query().is_some() {
            return Err("must not hold a query".into());
        }
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?;
        let base = uri.path().trim_end_matches('/');
        let base = if base.is_empty() { "/v1".into() } else { base.into() };
        Ok(Self { uri, authority, base })
    }

    /// What to connect to.
    pub(super) fn uri(&self) -> Uri {
        self.uri.clone()
    }

    /// A path of this server, `below` its base.
    pub(super) fn path(&self, below: &str) -> String {
        format!("{}{below}", self.base)
    }

    /// As people write it.
    pub(super) fn url(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        format!("{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.base)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn plan(line: &[&str]) -> Result<Plan, String> {
        let line = ["serve"].iter().chain(line);
        let parsed = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        Plan::new(parsed.serve, None).map_err(|error| format!("{error:#}"))
    }

    /// A plan as the command line gives it.
    pub(in crate::bench) fn of(line: &str) -> Plan {
        plan(&line.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let url = "--url=http://a/v1";
        for (line, reason) in [
            (&[][..], "--url"),
            (&["--url=a:4000"], "http://"),
            (&["--url=ftp://a"], "must begin with http:// or https://"),
            (&["--url=http://me:secret@a/v1"], "give a key by --key-file"),
            (&["--url=http://a/v1?key=1"], "query"),
            (&[url, "--concurrency=0"], "1..=10000"),
            (&[url, "--concurrency=10001"], "1..=10000"),
            (&[url, "--requests=none"], "invalid digit"),
            (&[url, "--turns=2", "--endpoint=completions"], "--endpoint chat"),
            (&[url, "--shared-prefix-tokens=128"], "below --prompt-tokens"),
            (&[url, "--temperature=NaN"], "between 0 and 2"),
            (&[url, "--temperature=3"], "between 0 and 2"),
            (&[url, "--body=[]"], "not a JSON object"),
            (&[url, "--body={"], "not JSON"),
            (&[url, "--key-file=/nowhere/at/all"], "/nowhere/at/all"),
        ] {
            let error = plan(line).err().unwrap_or_default();
            assert!(error.contains(reason), "{line:?}: {error}");
        }
    }

    #[test]
    fn a_server_is_named_as_for_openais_clients() {
        for (url, whole, path) in [
            ("http://127.0.0.1:4000/v1", "http://127.0.0.1:4000/v1", "/v1/models"),
            ("http://127.0.0.1:4000", "http://127.0.0.1:4000/v1", "/v1/models"),
            ("https://example.com/api/v1/", "https://example.com/api/v1", "/api/v1/models"),
            ("http://[::1]:80/v1", "http://[::1]:80/v1", "/v1/models"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.url(), target.path("/models")), (whole.into(), path.into()));
        }
    }

    #[test]
    fn a_stream_can_be_switched_off() {
        assert!(of("--url http://a").stream);
        assert!(of("--url http://a --no-stream --stream").stream);
        let whole = of("--url http://a --no-stream");
        assert!(!whole.stream && !whole.fields.contains_key("stream_options"));
    }

    #[test]
    fn a_key_comes_from_a_file_or_the_variable_and_is_never_shown() {
        let plan = |file: Option<&std::path::Path>, variable: Option<&str>| {
            let mut line = vec!["serve".to_owned(), "--url=http://a".to_owned()];
            line.extend(file.map(|path| format!("--key-file={}", path.display())));
            let serve = Line::try_parse_from(line).unwrap().serve;
            Plan::new(serve, variable.map(OsString::from)).map(|plan| plan.key)
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-ark-file\n").unwrap();
        let key = plan(Some(file.path()), Some("sk-ark-variable")).unwrap().unwrap();
        assert_eq!(key, "Bearer sk-ark-file");
        assert_eq!(format!("{key:?}"), "Sensitive");
        assert_eq!(plan(None, Some("sk-ark-variable")).unwrap().unwrap(), "Bearer sk-ark-variable");
        assert_eq!(plan(None, Some("")).unwrap(), None);
        assert_eq!(plan(None, None).unwrap(), None);
        assert!(plan(None, Some("a\nb")).is_err());
        std::fs::write(file.path(), " \n").unwrap();
        assert!(plan(Some(file.path()), None).is_err());
    }

    #[test]
    fn numbers_are_sent_as_they_were_written() {
        let fields = of("--url http://a --temperature 0.7 --ignore-eos --output-tokens 9").fields;
        // As text, so that 0.7 is not sent as the nearest number of another width.
        let text = serde_json::to_string(&fields).unwrap();
        for part in [
            r#""ignore_eos":true"#,
            r#""max_tokens":9"#,
            r#""stream":true"#,
            r#""stream_options":{"include_usage":true}"#,
            r#""temperature":0.7"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
