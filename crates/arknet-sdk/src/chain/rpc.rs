use arknet_chain::{
    Genesis, Hash, Key, LightBlock, Role, SignedTransaction,
    rpc::{
        AccountAnswer, BlockAnswer, ChannelAnswer, ChannelPage, DEFAULT_PORT, ErrorAnswer,
        HexBytes, LightAnswer, ModelAnswer, ModelPage, NodeAnswer, ParamsAnswer, ProofAnswer,
        ProposalAnswer, ProposalPage, StatusAnswer, SubmitAnswer, SubmitRequest, TransactionAnswer,
        ValidatorsAnswer,
    },
};
use arknet_types::{Address, ModelDigest, encode};
use serde::de::DeserializeOwned;

use super::{
    ChainError,
    limits::{ANSWER_BYTES_MAX, ANSWER_TIME_MAX, BLOCK_ANSWER_BYTES_MAX},
};

/// Asks the chain RPC of a node. Nothing of what it answers is checked here: [`LightChain`] does.
///
/// [`LightChain`]: super::LightChain
#[derive(Clone, Debug)]
pub struct ChainRpc {
    url: String,
    agent: ureq::Agent,
}

impl ChainRpc {
    /// The RPC at `url`.
    pub fn new(url: &str) -> Result<Self, ChainError> {
        let bad = || ChainError::Url(url.to_owned());
        let parsed: ureq::http::Uri = url.parse().map_err(|_| bad())?;
        let scheme = parsed.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https")
            || parsed.host().is_none()
            || parsed.query().is_some()
        {
            return Err(bad());
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME_MAX))
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment does not know this machine's own loopback.
            .proxy(None)
            .build();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), agent: agent.into() })
    }

    /// The RPC of a node on this machine.
    #[must_use]
    pub fn local_url() -> String {
        format!("http://127.0.0.1:{DEFAULT_PORT}")
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The node, its chain and how far it is.
    pub async fn status(&self) -> Result<StatusAnswer, ChainError> {
        self.get("/status".into()).await
    }

    /// What the chain is said to begin with.
    pub async fn genesis(&self) -> Result<Genesis, ChainError> {
        let text = self.text("/genesis".into(), None, ANSWER_BYTES_MAX).await?;
        Ok(Genesis::parse(&text)?)
    }

    /// The parameters.
    pub async fn params(&self) -> Result<ParamsAnswer, ChainError> {
        self.get("/params".into()).await
    }

    /// Those who vote at a height; at the next one where none is given.
    pub async fn validators(&self, height: Option<u64>) -> Result<ValidatorsAnswer, ChainError> {
        let query = height.map_or_else(String::new, |height| format!("?height={height}"));
        self.get(format!("/validators{query}")).await
    }

    /// An account.
    pub async fn account(&self, address: &Address) -> Result<AccountAnswer, ChainError> {
        self.get(format!("/accounts/{address}")).await
    }

    /// A node that has stake.
    pub async fn node(&self, role: Role, operator: &Address) -> Result<NodeAnswer, ChainError> {
        let role = serde_json::to_value(role).unwrap_or_default();
        self.get(format!("/nodes/{}/{operator}", role.as_str().unwrap_or_default())).await
    }

    /// A value of the state with its proof.
    pub async fn proof(&self, key: &Key) -> Result<ProofAnswer, ChainError> {
        let key = String::from(HexBytes(key.bytes()));
        self.get(format!("/proof?key={key}")).await
    }

    /// A header with all that shows it is the chain's.
    pub async fn light(&self, height: Option<u64>) -> Result<LightBlock, ChainError> {
        let height = height.map_or_else(|| "latest".to_owned(), |height| height.to_string());
        let path = format!("/light/{height}");
        let answer: LightAnswer = self.get(path.clone()).await?;
        LightBlock::parse(&answer.bytes.0)
            .map_err(|error| ChainError::Malformed { path, words: error.to_string() })
    }

    /// A block by its height, its name or `latest`.
    pub async fn block(&self, which: &str) -> Result<BlockAnswer, ChainError> {
        let path = format!("/blocks/{which}");
        self.read(path, None, BLOCK_ANSWER_BYTES_MAX).await
    }

    /// A transaction that waits or is in a block.
    pub async fn transaction(&self, id: &Hash) -> Result<TransactionAnswer, ChainError> {
        self.get(format!("/transactions/{id}")).await
    }

    /// Lets a transaction wait for a block.
    pub async fn submit(
        &self,
        transaction: &SignedTransaction,
    ) -> Result<SubmitAnswer, ChainError> {
        let request = SubmitRequest { transaction: HexBytes(encode(transaction)) };
        let body = serde_json::to_string(&request).expect("text");
        self.read("/transactions".into(), Some(body), ANSWER_BYTES_MAX).await
    }

    /// Proposals below a number, the latest first.
    pub async fn proposals(&self, after: Option<u64>) -> Result<ProposalPage, ChainError> {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        self.get(format!("/proposals{query}")).await
    }

    /// A proposal and how it stands.
    pub async fn proposal(&self, id: u64) -> Result<ProposalAnswer, ChainError> {
        self.get(format!("/proposals/{id}")).await
    }

    /// Open channels of an account, as the one who pays or the one who is paid.
    pub async fn channels(
        &self,
        address: &Address,
        is_payer: bool,
        after: Option<Hash>,
    ) -> Result<ChannelPage, ChainError> {
        let side = if is_payer { "payer" } else { "payee" };
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        self.get(format!("/channels?{side}={address}{after}")).await
    }

    /// An open channel.
    pub async fn channel(&self, id: &Hash) -> Result<ChannelAnswer, ChainError> {
        self.get(format!("/channels/{id}")).await
    }

    /// Registered models above a digest.
    pub async fn models(&self, after: Option<ModelDigest>) -> Result<ModelPage, ChainError> {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        self.get(format!("/models{query}")).await
    }

    /// A registered model.
    pub async fn model(&self, digest: &ModelDigest) -> Result<ModelAnswer, ChainError> {
        self.get(format!("/models/{digest}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, ChainError> {
        self.read(path, None, ANSWER_BYTES_MAX).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: String,
        body: Option<String>,
        bytes_max: u64,
    ) -> Result<T, ChainError> {
        let text = self.text(path.clone(), body, bytes_max).await?;
        serde_json::from_str(&text)
            .map_err(|error| ChainError::Malformed { path, words: error.to_string() })
    }

    /// The text of an answer. What the RPC refuses is an error.
    async fn text(
        &self,
        path: String,
        body: Option<String>,
        bytes_max: u64,
    ) -> Result<String, ChainError> {
        let this = self.clone();
        // The socket is read where waiting for it holds up nobody.
        let asked = tokio::task::spawn_blocking(move || this.ask(&path, body, bytes_max)).await;
        match asked {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    fn ask(&self, path: &str, body: Option<String>, bytes_max: u64) -> Result<String, ChainError> {
        let url = format!("{}{path}", self.url);
        let answer = match body {
            None => self.agent.get(&url).call(),
            Some(body) => self.agent.post(&url).content_type("application/json").send(body),
        };
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(bytes_max).read_to_string();
        let text = text.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => ChainError::TooLarge { path: path.to_owned() },
            error => self.unreachable(&error),
        })?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str::<ErrorAnswer>(&text) {
            Ok(answer) => Err(ChainError::Refused(Box::new(answer))),
            Err(_) => {
                let words = format!("{status}, and not in the words of a chain RPC");
                Err(ChainError::Malformed { path: path.to_owned(), words })
            }
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> ChainError {
        ChainError::Unreachable { url: self.url.clone(), words: error.to_string() }
    }
}
