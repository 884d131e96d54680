//! Local model first, then the mesh.

use std::collections::BTreeMap;

use arknet_gateway::{Answer, Dispatch, ListedModel};
use arknet_protocol::Asker;
use arknet_sdk::Client;
use arknet_types::{InferRequest, ModelName, PublicKey, Refusal, RefusalCode, Reply};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use crate::serving::{Running, Serving};

/// What stands behind the gateway of a node.
pub(crate) struct NodeDispatch {
    pub(crate) me: PublicKey,
    pub(crate) serving: Serving,
    pub(crate) client: Client,
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
}

impl Dispatch for NodeDispatch {
    fn infer(&self, infer: InferRequest) -> BoxFuture<'_, Result<Answer, Refusal>> {
        async move {
            infer.check()?;
            if self.serving.model(&infer.model).is_none() {
                return self.remote(infer).await;
            }
            match self.local(infer.clone()).await {
                // Busy here may be free elsewhere, if anybody else serves it.
                Err(busy) if busy.code == RefusalCode::Busy => match self.remote(infer).await {
                    Err(refusal) if refusal.code == RefusalCode::UnknownModel => Err(busy),
                    result => result,
                },
                result => result,
            }
        }
        .boxed()
    }

    fn models(&self) -> Vec<ListedModel> {
        let mut models = BTreeMap::<ModelName, ListedModel>::new();
        for served in self.serving.models() {
            let info = &served.info;
            let listed = ListedModel {
                name: info.name.clone(),
                digest: info.digest,
                context_tokens: info.context_tokens,
                local: true,
                peers: vec![],
                slots_free: *served.slots_free().borrow(),
            };
            models.insert(info.name.clone(), listed);
        }
        self.client.mesh().offers().with(|offers| {
            for offer in offers.living(arknet_sdk::now()) {
                for model in &offer.body.models {
                    let listed = models.entry(model.name.clone()).or_insert_with(|| ListedModel {
                        name: model.name.clone(),
                        digest: model.digest,
                        context_tokens: model.context_tokens,
                        local: false,
                        peers: vec![],
                        slots_free: 0,
                    });
                    listed.peers.push(offer.body.peer);
                    listed.slots_free += u32::from(model.slots_free);
                }
            }
        });
        models.into_values().collect()
    }
}
