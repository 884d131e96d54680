//! Asks the running node over its API.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context;
use arknet_node::{DataDir, RunningNode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API of the node that runs on a data directory.
pub(crate) struct NodeApi {
    node: RunningNode,
    token: Option<String>,
    agent: ureq::Agent,
}

/// What the node says when it does not do what was asked.
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("{error}")]
pub(crate) struct NodeRefusal {
    pub(crate) code: String,
    error: String,
}

/// The node that runs on a data directory.
pub(crate) fn running(data: &DataDir) -> anyhow::Result<RunningNode> {
    data.running().with_context(|| {
        format!("no node is running on {}; start one with: arknet start", data.root().display())
    })
}

impl NodeApi {
    pub(crate) fn of(data: &DataDir) -> anyhow::Result<Self> {
        let node = running(data)?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .into();
        // Needed where the node listens on another address than loopback.
        let token = std::fs::read_to_string(data.admin_token()).ok();
        Ok(Self { node, token: token.map(|token| token.trim().to_owned()), agent })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut request = self.agent.get(self.url(path));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.call())
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let mut request = self.agent.post(self.url(path)).content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.read(request.send(serde_json::to_string(body)?))
    }

    /// Sends an order whose answer comes line by line, for as long as it takes.
    pub(crate) fn order(
        &self,
        path: &str,
        body: &impl Serialize,
        mut line: impl FnMut(serde_json::Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = agent.post(self.url(path)).content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.send(serde_json::to_string(body)?);
        if response.as_ref().is_ok_and(|response| !response.status().is_success()) {
            return self.read::<serde_json::Value>(response).map(|_| ());
        }
        let response = response.with_context(|| {
            let RunningNode { pid, admin, .. } = &self.node;
            format!("the node (process {pid}) does not answer at {admin}")
        })?;
        for text in BufReader::new(response.into_body().into_reader()).lines() {
            line(serde_json::from_str(&text?)?)?;
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        let mut address: SocketAddr = self.node.admin;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
            address.set_ip(loopback.parse().expect("the loopback address"));
        }
        format!("http://{address}{path}")
    }

    fn read<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<T> {
        let mut response = response.with_context(|| {
            let RunningNode { pid, admin, .. } = &self.node;
            format!("the node (process {pid}) does not answer at {admin}")
        })?;
        let text = response.body_mut().read_to_string()?;
        if !response.status().is_success() {
            let refusal: NodeRefusal = serde_json::from_str(&text)
                .with_context(|| format!("the node answered {}", response.status()))?;
            return Err(refusal.into());
        }
        Ok(serde_json::from_str(&text)?)
    }
}
