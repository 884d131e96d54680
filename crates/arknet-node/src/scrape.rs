//! Gathers the numbers of this moment for `/metrics`.

use std::collections::BTreeMap;

use arknet_mesh::Mesh;

use crate::{
    admin::resident_bytes,
    engines::Engines,
    metrics::{Metrics, ModelGauges, NodeGauges},
    serving::Serving,
};

/// What is looked at when somebody asks for the metrics.
pub(crate) struct Scrape {
    pub(crate) metrics: Metrics,
    pub(crate) serving: Serving,
    pub(crate) engines: Option<Engines>,
    pub(crate) mesh: Mesh,
}

impl Scrape {
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All of it, in the OpenMetrics text format.
    pub(crate) async fn text(&self) -> String {
        let engines = match &self.engines {
            Some(engines) => engines.gauges().await,
            None => BTreeMap::new(),
        };
        let models = self.serving.models();
        let models = models.values().map(|served| ModelGauges {
            model: served.info.name.to_string(),
            slots: served.info.slots.into(),
            slots_free: *served.slots_free().borrow(),
            waiting: served.waiting(),
            engine: engines.get(&served.info.name).copied(),
        });
        let streams = self.mesh.stream_stats();
        self.metrics.write(&NodeGauges {
            models: models.collect(),
            peers_connected: self.mesh.connected().len(),
            offers: self.mesh.offers().with(|offers| offers.len()),
            remote_requests: self.serving.remote_requests(),
            streams_held: streams.held,
            streams_refused: streams.refused,
            resident_bytes: resident_bytes(),
        })
    }
}
