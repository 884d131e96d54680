//! The door with a scripted dispatch behind it, on the port given as the only argument: for trying
//! clients without a node. The model `arknet/tiny` repeats what it is told.

#[path = "../tests/it/script.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "made for the tests, which look at more of it")]
mod script;

use arknet_gateway::{Options, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn main() -> std::io::Result<()> {
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse::<u16>().ok())
        .ok_or_else(|| std::io::Error::other("the port is missing"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let never = CancellationToken::new();
        serve(listener, script::Script::new(), Options::default(), never).await?;
        Ok(())
    })
}
