use std::{net::SocketAddr, sync::Arc};

use arknet_gateway::{Limits, Options, serve};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Client, PATIENCE},
    script::Script,
};

/// A running door.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<std::io::Result<usize>>,
}

impl Door {
    pub(crate) async fn open() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::opened(Options { limits, ..Options::default() }).await
    }

    pub(crate) async fn opened(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script::new();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, script.clone(), options, shutdown.clone()));
        Self { address, script, shutdown, served }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Waits until one more answer was dropped.
    pub(crate) async fn dropped(&self) {
        let permit = timeout(PATIENCE, self.script.dropped.acquire()).await;
        permit.expect("the answer is dropped in time").unwrap().forget();
    }

    /// Asks for shutdown and waits for its end.
    pub(crate) async fn close(self) -> usize {
        self.shutdown.cancel();
        let served = timeout(PATIENCE, self.served).await;
        served.expect("the door closes in time").unwrap().unwrap()
    }
}
