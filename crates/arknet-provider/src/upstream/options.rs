use arknet_types::ModelName;
use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::{
    health::HealthPolicy,
    limits::{
        KEY_BYTES_MAX, MODEL_ID_BYTES_MAX, MODELS_MAX, SLOTS_MAX, TIMEOUT_MAX, URL_BYTES_MAX,
    },
    secret::Secret,
    target::{Flavor, UpstreamKind},
};

/// An upstream, as it is configured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamOptions {
    /// What the operator calls it, in logs and metrics.
    pub name: String,
    /// Its language: `openai`, `anthropic` or `ollama`.
    pub kind: UpstreamKind,
    /// Where it is: `http://` or `https://`, a host, perhaps a port and a path. For `openai` and
    /// `anthropic` a path ends with the API's version (`https://openrouter.ai/api/v1`); without a
    /// path it is `/v1`.
    pub url: String,
    /// Sent to that host and to no other. Never part of a configuration file.
    #[serde(skip)]
    pub key: Option<Secret>,
    /// Whose server it is, where the kind is `openai`. Unless set, it is taken from what the server
    /// says of its models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<Flavor>,
    /// Models under names of one's own, and those of which more is known than the upstream says.
    #[serde(default)]
    pub models: Vec<MappedModel>,
    /// Which of the models that the upstream lists are served under their own names too: ids, or
    /// beginnings of ids followed by `*`. Unless set: all where `models` is empty, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<Vec<String>>,
    /// Serve its models to other peers too, at this node's prices. Unless set only to this node's own
    /// apps: what they cost is its operator's.
    #[serde(default)]
    pub share: bool,
    /// Requests it is given at the same time. 1 to 4096; 8 unless set.
    #[serde(default = "slots")]
    pub slots: u16,
    /// Tokens of context where neither the model here nor the upstream says. For `ollama` it is also
    /// the most that is asked for, since it takes memory there. 8192 unless set.
    #[serde(default = "context_tokens")]
    pub context_tokens: u32,
    /// How long it may be silent.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// When it counts as gone.
    #[serde(default)]
    pub health: HealthPolicy,
}

const fn slots() -> u16 {
    8
}

const fn context_tokens() -> u32 {
    8_192
}

/// A model under a name of one's own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MappedModel {
    /// What it is called here.
    pub name: ModelName,
    /// What the upstream calls it; the same unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Its context; as discovered unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// What it can do, by name (`generate`, `tools`, `vision`, `reasoning`, `constrained`,
    /// `logprobs`, `embed`, `rerank`, `tokenize`); as discovered unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Ability>>,
}

impl MappedModel {
    pub(super) fn id(&self) -> &str {
        self.upstream.as_deref().unwrap_or_else(|| self.name.as_str())
    }
}

/// One thing that a model can do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the capabilities")]
pub enum Ability {
    Generate,
    Tools,
    Vision,
    Reasoning,
    Constrained,
    Logprobs,
    Embed,
    Rerank,
    Tokenize,
}

/// How long an upstream may be silent, in seconds, each 1 to 3600.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until a connection stands, TLS included. 5 unless set.
    pub connect_s: u64,
    /// From there to the first piece of an answer, or to an answer that comes as a whole. 300 unless
    /// set: a long prompt on a slow machine takes its time.
    pub first_token_s: u64,
    /// Between two pieces. 60 unless set.
    pub idle_s: u64,
    /// For an answer about itself. 10 unless set.
    pub health_s: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_s: 5, first_token_s: 300, idle_s: 60, health_s: 10 }
    }
}

/// Why an upstream cannot be used as it is configured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// A number out of its bounds.
    #[error("{0} is out of its bounds")]
    Bounds(&'static str),
    /// Not a URL of a server.
    #[error(
        "url must be http:// or https:// with a host, perhaps a port and a path, and nothing else"
    )]
    Url,
    /// Not a key that a header can hold.
    #[error("the key must have 1 to 4096 printable characters")]
    Key,
    /// Too many models, or an id that cannot be.
    #[error("models may be 256 at most, each with an id of 1 to 256 characters, none named twice")]
    Models,
}

/// The addresses of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Base {
    /// What the paths with the API's version follow.
    pub(super) versioned: String,
    /// What all others follow.
    pub(super) root: String,
}

impl UpstreamOptions {
    /// An upstream with all else as it is unless set.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: UpstreamKind, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            url: url.into(),
            key: None,
            flavor: None,
            models: vec![],
            discover: None,
            share: false,
            slots: slots(),
            context_tokens: context_tokens(),
            timeouts: Timeouts::default(),
            health: HealthPolicy::default(),
        }
    }

    /// Holds everything against its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        let Timeouts { connect_s, first_token_s, idle_s, health_s } = self.timeouts;
        let seconds = 1..=TIMEOUT_MAX.as_secs();
        for (name, is_right) in [
            ("slots", (1..=SLOTS_MAX).contains(&self.slots)),
            ("context_tokens", self.context_tokens > 0),
            ("timeouts.connect_s", seconds.contains(&connect_s)),
            ("timeouts.first_token_s", seconds.contains(&first_token_s)),
            ("timeouts.idle_s", seconds.contains(&idle_s)),
            ("timeouts.health_s", seconds.contains(&health_s)),
        ] {
            if !is_right {
                return Err(OptionsError::Bounds(name));
            }
        }
        if let Some(field) = self.health.wrong_field() {
            return Err(OptionsError::Bounds(field));
        }
        let is_key = |key: &str| {
            (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        if self.key.as_ref().is_some_and(|key| !is_key(key.expose())) {
            return Err(OptionsError::Key);
        }
        self.check_models()?;
        self.base().map(|_| ())
    }

    fn check_models(&self) -> Result<(), OptionsError> {
        let patterns = self.discover.iter().flatten().map(String::as_str);
        let mut ids = self.models.iter().map(MappedModel::id).chain(patterns);
        let mut names: Vec<_> = self.models.iter().map(|model| &model.name).collect();
        names.sort_unstable();
        names.dedup();
        let is_id = |id: &str| (1..=MODEL_ID_BYTES_MAX).contains(&id.len());
        let contexts = self.models.iter().all(|model| model.context_tokens != Some(0));
        let is_right = self.models.len() <= MODELS_MAX
            && names.len() == self.models.len()
            && contexts
            && ids.all(is_id);
        is_right.then_some(()).ok_or(OptionsError::Models)
    }

    pub(super) fn base(&self) -> Result<Base, OptionsError> {
        let url = self.url.as_str();
        if url.len() > URL_BYTES_MAX || url.contains(['#', '?', '@', '\\']) || url.contains("/..") {
            return Err(OptionsError::Url);
        }
        let uri: Uri = url.parse().map_err(|_| OptionsError::Url)?;
        let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https"));
        let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
            return Err(OptionsError::Url);
        };
        if authority.host().is_empty() {
            return Err(OptionsError::Url);
        }
        let path = uri.path().trim_end_matches('/');
        let versioned = match self.kind {
            UpstreamKind::OpenAi | UpstreamKind::Anthropic if path.is_empty() => "/v1",
            _ => path,
        };
        let root = match self.kind {
            UpstreamKind::Ollama => path,
            _ => path.strip_suffix("/v1").unwrap_or(path),
        };
        let with = |path: &str| format!("{scheme}://{authority}{path}");
        Ok(Base { versioned: with(versioned), root: with(root) })
    }

    /// Whether a model that the upstream lists is served under its own name.
    pub(super) fn takes(&self, id: &str) -> bool {
        match &self.discover {
            None => self.models.is_empty(),
            Some(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => id.starts_with(start),
                None => pattern == id,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: UpstreamKind, url: &str) -> UpstreamOptions {
        UpstreamOptions::new("x", kind, url)
    }

    #[test]
    fn where_a_server_is() {
        use UpstreamKind::{Anthropic, Ollama, OpenAi};
        for (kind, url, versioned, root) in [
            (OpenAi, "http://h:1", "http://h:1/v1", "http://h:1"),
            (OpenAi, "https://h/api/v1/", "https://h/api/v1", "https://h/api"),
            (
                OpenAi,
                "https://h/v1beta/openai/",
                "https://h/v1beta/openai",
                "https://h/v1beta/openai",
            ),
            (Anthropic, "https://h", "https://h/v1", "https://h"),
            (Ollama, "http://[::1]:11434/", "http://[::1]:11434", "http://[::1]:11434"),
        ] {
            let base = Base { versioned: versioned.into(), root: root.into() };
            assert_eq!(options(kind, url).base(), Ok(base));
        }
        for url in [
            "",
            "h",
            "h:1",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h/?a",
            "http://h/#a",
            "http://h/../x",
            "http://h/a b",
            "/v1",
            "http://h\\x",
        ] {
            assert_eq!(options(OpenAi, url).check(), Err(OptionsError::Url), "{url}");
        }
    }

    #[test]
    fn bounds() {
        type Change = fn(&mut UpstreamOptions);
        let changes: [(Change, OptionsError); 9] = [
            (|o| o.slots = 0, OptionsError::Bounds("slots")),
            (|o| o.slots = SLOTS_MAX + 1, OptionsError::Bounds("slots")),
            (|o| o.timeouts.idle_s = 0, OptionsError::Bounds("timeouts.idle_s")),
            (|o| o.timeouts.connect_s = 3601, OptionsError::Bounds("timeouts.connect_s")),
            (|o| o.health.failures = 0, OptionsError::Bounds("health.failures")),
            (|o| o.key = Some(Secret::new(String::new())), OptionsError::Key),
            (|o| o.key = Some(Secret::new("a\nb".into())), OptionsError::Key),
            (|o| o.discover = Some(vec![String::new()]), OptionsError::Models),
            (|o| o.models = vec![mapped("a"), mapped("a")], OptionsError::Models),
        ];
        assert_eq!(options(UpstreamKind::OpenAi, "http://h").check(), Ok(()));
        for (change, error) in changes {
            let mut options = options(UpstreamKind::OpenAi, "http://h");
            change(&mut options);
            assert_eq!(options.check(), Err(error));
        }
    }

    fn mapped(name: &str) -> MappedModel {
        MappedModel {
            name: ModelName::new(name).unwrap(),
            upstream: None,
            context_tokens: None,
            capabilities: None,
        }
    }

    #[test]
    fn the_configuration_says_only_what_it_must_and_no_key() {
        let text = r#"{"name":"a","kind":"openai","url":"http://h"}"#;
        let mut options: UpstreamOptions = serde_json::from_str(text).unwrap();
        assert_eq!((options.slots, options.timeouts), (8, Timeouts::default()));
        options.key = Some(Secret::new("sk-secret".into()));
        let written = serde_json::to_string(&options).unwrap();
        assert!(!written.contains("secret") && !format!("{options:?}").contains("sk-secret"));
        for text in [
            r#"{"name":"a","kind":"openai","url":"http://h","key":"k"}"#,
            r#"{"name":"a","kind":"other","url":"http://h"}"#,
            r#"{"name":"a","kind":"openai","url":"http://h","timeouts":{"idle":1}}"#,
        ] {
            assert!(serde_json::from_str::<UpstreamOptions>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn which_models_are_taken() {
        let mut options = options(UpstreamKind::Ollama, "http://h");
        assert!(options.takes("any"));
        options.models = vec![mapped("a")];
        assert!(!options.takes("any"));
        options.discover = Some(vec!["gpt-*".into(), "x".into()]);
        assert!(options.takes("gpt-5") && options.takes("x") && !options.takes("xy"));
    }
}
