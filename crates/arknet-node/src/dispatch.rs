//! Local model first, then the mesh.

use std::{collections::BTreeMap, sync::Arc};

use arknet_gateway::{
    About, Answer, Ask, Dispatch, KeepAlive, ListedModel, LoadedModel, Observer, Pull,
    RequestRecord,
};
use arknet_protocol::Asker;
use arknet_sdk::Client;
use arknet_types::{InferRequest, ModelName, PublicKey, Refusal, RefusalCode, Reply};
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use crate::{
    engines::Engines,
    pull::Puller,
    scrape::Scrape,
    serving::{Running, Serving},
    wake_latency::WakeLatency,
};

/// When to ask again for a model that is being replaced.
const REPLACED_RETRY_MS: u64 = 1_000;

/// What stands behind the gateway of a node.
pub(crate) struct NodeDispatch {
    pub(crate) me: PublicKey,
    pub(crate) serving: Serving,
    pub(crate) client: Client,
    pub(crate) engines: Option<Engines>,
    pub(crate) puller: Puller,
}

impl NodeDispatch {
    async fn local(&self, infer: InferRequest) -> Result<Answer, Refusal> {
        let mut running = self.serving.run(Asker::Local, infer).await?;
        match running.next().await {
            Some(Reply::Refused(refusal)) => Err(refusal),
            Some(first) => {
                let first = stream::iter([first]);
                let rest = stream::unfold(running, async |mut running: Running| {
                    let reply = running.next().await?;
                    Some((reply, running))
                });
                Ok(Answer { peer: self.me, replies: first.chain(rest).boxed() })
            }
            None => Err(Refusal::new(RefusalCode::ProviderFailed, "the model gave no answer")),
        }
    }

    async fn remote(&self, infer: InferRequest) -> Result<Answer, Refusal> {
        let answer = self.client.request(infer).await?;
        Ok(Answer { peer: answer.peer(), replies: answer.into_stream().boxed() })
    }

    /// What is said of a model that nobody serves: one that is being replaced here comes back.
    fn or_soon(&self, name: &ModelName, refusal: Refusal) -> Refusal {
        let comes_back = self.engines.as_ref().is_some_and(|engines| engines.will_serve(name));
        if refusal.code != RefusalCode::UnknownModel || !comes_back {
            return refusal;
        }
        let words = format!("{name} is being replaced, when its last answers have ended");
        Refusal::new(RefusalCode::Busy, words).retry_after_ms(REPLACED_RETRY_MS)
    }

    fn about(&self, name: &ModelName) -> About {
        self.engines.as_ref().map(|engines| engines.about(name)).unwrap_or_default()
    }
}

/// Whether somebody else may do what is not possible here at this moment.
const fn may_go_elsewhere(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::Busy | RefusalCode::ProviderFailed | RefusalCode::Unsupported)
}

impl Dispatch for NodeDispatch {
    fn infer(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, Refusal>> {
        async move {
            let Ask { infer, keep_alive } = ask;
            infer.check()?;
            let Some(served) = self.serving.model(&infer.model) else {
                let name = infer.model.clone();
                return self.remote(infer).await.map_err(|refusal| self.or_soon(&name, refusal));
            };
            let answer = self.local(infer.clone()).await;
            if let (Some(keep), Some(engines), Ok(_)) = (keep_alive, &self.engines, &answer) {
                engines.touch(served.info.name.clone(), keep);
            }
            match answer {
                // Nothing was answered yet: it may go better elsewhere, if anybody else serves it.
                Err(here) if may_go_elsewhere(here.code) => {
                    self.remote(infer).await.map_err(|_| here)
                }
                result => result,
            }
        }
        .boxed()
    }

    fn models(&self) -> Vec<ListedModel> {
        let mut models = BTreeMap::<ModelName, ListedModel>::new();
        for served in self.serving.models().values() {
            let info = &served.info;
            let listed = ListedModel {
                name: info.name.clone(),
                digest: info.digest,
                capabilities: info.capabilities,
                context_tokens: info.context_tokens,
                local: true,
                peers: vec![],
                slots_free: *served.slots_free().borrow(),
                about: self.about(&info.name),
            };
            models.insert(info.name.clone(), listed);
        }
        self.client.mesh().offers().with(|offers| {
            let living = offers.living(arknet_sdk::now());
            for offer in living.filter(|offer| self.client.may_ask(&offer.body.peer)) {
                for model in &offer.body.models {
                    let listed = models.entry(model.name.clone()).or_insert_with(|| ListedModel {
                        name: model.name.clone(),
                        digest: model.digest,
                        capabilities: model.capabilities,
                        context_tokens: model.context_tokens,
                        local: false,
                        peers: vec![],
                        slots_free: 0,
                        about: About::default(),
                    });
                    listed.peers.push(offer.body.peer);
                    listed.slots_free += u32::from(model.slots_free);
                }
            }
        });
        models.into_values().collect()
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        self.engines.as_ref().map(Engines::loaded).unwrap_or_default()
    }

    fn keep(&self, model: ModelName, keep: KeepAlive) -> BoxFuture<'_, Result<(), Refusal>> {
        async move {
            let served = self.serving.model(&model);
            match (&self.engines, served) {
                (Some(engines), Some(served)) if engines.has(&served.info.name) => {
                    engines.keep(&served.info.name, keep).await
                }
                // A model of another peer, or of a service: nobody here can load or unload it.
                _ if self.models().iter().any(|listed| listed.name == model) => Ok(()),
                _ => {
                    let words = format!("nobody serves {model}");
                    Err(Refusal::new(RefusalCode::UnknownModel, words))
                }
            }
        }
        .boxed()
    }

    fn pull(&self, model: String) -> BoxStream<'static, Pull> {
        self.puller.pull(model, None)
    }
}

/// Tells the metrics how requests went, and the processors that there are some.
pub(crate) struct NodeObserver {
    pub(crate) scrape: Arc<Scrape>,
    pub(crate) wake_latency: Option<WakeLatency>,
}

impl Observer for NodeObserver {
    fn began(&self) {
        if let Some(wake_latency) = &self.wake_latency {
            wake_latency.began();
        }
    }

    fn ended(&self, record: &RequestRecord) {
        if let Some(wake_latency) = &self.wake_latency {
            wake_latency.ended();
        }
        self.scrape.metrics().app_request_ended(record);
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        self.scrape.text().boxed()
    }
}
