//! The swarm: transports, encryption, multiplexing.

use std::num::{NonZeroU8, NonZeroUsize};

use libp2p::{Swarm, SwarmBuilder, identity::Keypair, noise, quic, swarm, tcp};

use crate::{
    MeshError, MeshOptions,
    behaviour::Behaviour,
    limits::{
        CONNECTION_WINDOW_BYTES, IDLE_CONNECTION_TIMEOUT, QUIC_IDLE_MS_MAX, QUIC_KEEP_ALIVE,
        STREAM_WINDOW_BYTES, STREAMS_NEGOTIATING_MAX, STREAMS_PER_CONNECTION_MAX,
    },
    streams::StreamsBehaviour,
    yamux_upgrade::YamuxUpgrade,
};

/// Builds the swarm: TCP with Noise and Yamux, QUIC, names by DNS, circuits through relays.
pub(crate) fn build(
    options: &MeshOptions,
    keypair: Keypair,
    streams: StreamsBehaviour,
) -> Result<Swarm<Behaviour>, MeshError> {
    // Without TCP_NODELAY the tail of every answer waits 40 ms for an acknowledgement.
    let tcp = tcp::Config::default().nodelay(true);
    let builder = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp, noise::Config::new, YamuxUpgrade::new)
        .map_err(MeshError::Noise)?
        .with_quic_config(quic_config)
        .with_dns()
        .map_err(MeshError::Dns)?
        .with_relay_client(noise::Config::new, YamuxUpgrade::new)
        .map_err(MeshError::Noise)?;
    let swarm = builder
        .with_behaviour(|key, relay| Ok(Behaviour::new(options, key, relay, streams)?))
        .map_err(|error| MeshError::Behaviour(error.to_string()))?
        .with_swarm_config(swarm_config)
        .build();
    Ok(swarm)
}

fn quic_config(mut config: quic::Config) -> quic::Config {
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_idle_timeout = QUIC_IDLE_MS_MAX;
    config.max_concurrent_stream_limit = STREAMS_PER_CONNECTION_MAX;
    config.max_stream_data = STREAM_WINDOW_BYTES;
    config.max_connection_data = CONNECTION_WINDOW_BYTES;
    config
}

fn swarm_config(config: swarm::Config) -> swarm::Config {
    config
        .with_idle_connection_timeout(IDLE_CONNECTION_TIMEOUT)
        .with_max_negotiating_inbound_streams(STREAMS_NEGOTIATING_MAX)
        .with_notify_handler_buffer_size(NonZeroUsize::new(32).expect("32 is not 0"))
        .with_per_connection_event_buffer_size(32)
        .with_dial_concurrency_factor(NonZeroU8::new(8).expect("8 is not 0"))
}
