//! What an interface says about its tunnel.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
};

use serde::Serialize;

use crate::{
    DeviceError, Network, PublicKey,
    limits::{ANSWER_TIME_MAX, PEERS_MAX, STATE_BYTES_MAX},
};

/// A tunnel that is up.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TunnelState {
    /// Its interface.
    pub interface: String,
    /// Who runs it: `kernel` or `user space`.
    pub run_by: &'static str,
    /// The key of this machine.
    pub public_key: Option<String>,
    /// The port on which packets arrive.
    pub listen_port: Option<u16>,
    /// The other machines.
    pub peers: Vec<PeerState>,
}

/// Another machine of a tunnel.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct PeerState {
    /// What it is called here.
    pub name: Option<String>,
    /// Its key.
    pub public_key: String,
    /// Where its last packet came from, or where it is looked for.
    pub endpoint: Option<String>,
    /// The addresses behind it.
    pub allowed: Vec<String>,
    /// Seconds since both ends last agreed on a key; none where they never did.
    pub handshake_age_s: Option<u64>,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
}

/// Where a tunnel in user space can be asked.
pub(crate) fn socket(interface: &str) -> PathBuf {
    PathBuf::from("/var/run/wireguard").join(format!("{interface}.sock"))
}

/// What the tunnel on this interface is doing. `now_s` is the time since the Unix epoch.
pub fn state(interface: &str, now_s: u64) -> Result<TunnelState, DeviceError> {
    match UnixStream::connect(socket(interface)) {
        Ok(stream) => {
            let said = ask(stream, "get=1\n\n").map_err(DeviceError::Silent)?;
            Ok(read_answer(interface, &said, now_s))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(DeviceError::Permission)
        }
        Err(_) => of_kernel(interface, now_s),
    }
}

/// Asks a tunnel in user space, in the protocol that all of them share.
pub(crate) fn ask(mut stream: UnixStream, question: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(question.as_bytes())?;
    let mut answer = String::new();
    let mut lines = BufReader::new(stream.take(STATE_BYTES_MAX));
    loop {
        let before = answer.len();
        if lines.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match answer[before..].trim_end().strip_prefix("errno=") {
            None => {}
            Some("0") => return Ok(answer),
            Some(number) => {
                let number = number.parse().unwrap_or_default();
                return Err(io::Error::from_raw_os_error(number));
            }
        }
    }
}

fn read_answer(interface: &str, answer: &str, now_s: u64) -> TunnelState {
    let mut state = TunnelState {
        interface: interface.to_owned(),
        run_by: "user space",
        public_key: None,
        listen_port: None,
        peers: vec![],
    };
    let key = |hex: &str| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hex, &mut bytes).ok()?;
        Some(PublicKey(bytes).to_string())
    };
    for (name, value) in answer.lines().filter_map(|line| line.split_once('=')) {
        if name == "public_key" && state.peers.len() < PEERS_MAX {
            let public_key = key(value).unwrap_or_default();
            state.peers.push(PeerState { public_key, ..PeerState::default() });
        }
        match (name, state.peers.last_mut()) {
            ("own_public_key", _) => state.public_key = key(value),
            ("listen_port", _) => state.listen_port = value.parse().ok(),
            ("endpoint", Some(peer)) => peer.endpoint = Some(value.to_owned()),
            ("allowed_ip", Some(peer)) => peer.allowed.push(value.to_owned()),
            ("last_handshake_time_sec", Some(peer)) => {
                peer.handshake_age_s = value.parse().ok().and_then(|s| age(s, now_s));
            }
            ("rx_bytes", Some(peer)) => peer.received_bytes = value.parse().unwrap_or(0),
            ("tx_bytes", Some(peer)) => peer.sent_bytes = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    state
}

/// Some implementations tell the moment of the handshake, ours tells how long ago it was; none of
/// the moments lies in the first years of the epoch, and no tunnel is that old.
fn age(seconds: u64, now_s: u64) -> Option<u64> {
    const FIRST_MOMENT_S: u64 = 1_000_000_000;
    if seconds < FIRST_MOMENT_S { Some(seconds) } else { Some(now_s.saturating_sub(seconds)) }
}

fn of_kernel(interface: &str, now_s: u64) -> Result<TunnelState, DeviceError> {
    let output = Command::new("wg").args(["show", interface, "dump"]).output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match crate::device::exists(interface)? {
                true => Err(DeviceError::NoProgram("wg (wireguard-tools)")),
                false => Err(DeviceError::Down(interface.to_owned())),
            };
        }
        Err(error) => return Err(DeviceError::Silent(error)),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).to_lowercase();
        return Err(match words.contains("not permitted") {
            true => DeviceError::Permission,
            false => DeviceError::Down(interface.to_owned()),
        });
    }
    Ok(read_dump(interface, &String::from_utf8_lossy(&output.stdout), now_s))
}

/// What `wg show INTERFACE dump` prints: a line for the interface (its secret key first, which is
/// not looked at), then one for each peer, with tabs between.
fn read_dump(interface: &str, dump: &str, now_s: u64) -> TunnelState {
    let some = |text: &str| Some(text.to_owned()).filter(|text| text != "(none)");
    let mut lines = dump.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let own = lines.next().unwrap_or_default();
    let peers = lines.filter(|fields| fields.len() >= 8).take(PEERS_MAX).map(|fields| PeerState {
        name: None,
        public_key: fields[0].to_owned(),
        endpoint: some(fields[2]),
        allowed: fields[3]
            .split(',')
            .filter(|one| one.parse::<Network>().is_ok())
            .map(Into::into)
            .collect(),
        handshake_age_s: fields[4].parse().ok().filter(|s| *s > 0).and_then(|s| age(s, now_s)),
        received_bytes: fields[5].parse().unwrap_or(0),
        sent_bytes: fields[6].parse().unwrap_or(0),
    });
    TunnelState {
        interface: interface.to_owned(),
        run_by: "kernel",
        public_key: own.get(1).and_then(|key| some(key)),
        listen_port: own.get(2).and_then(|port| port.parse().ok()),
        peers: peers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_user_space_is_read() {
        let key = PublicKey([7; 32]);
        let hex = "07".repeat(32);
        let answer = format!(
            "own_public_key={hex}\nlisten_port=51820\npublic_key={hex}\npreshared_key={hex}\n\
             endpoint=192.0.2.1:9\nallowed_ip=10.77.0.2/32\nlast_handshake_time_sec=12\n\
             last_handshake_time_nsec=5\nrx_bytes=100\ntx_bytes=200\npublic_key={hex}\n\
             last_handshake_time_sec=1700000000\nrx_bytes=x\nnonsense\nerrno=0\n"
        );
        let state = read_answer("arknet", &answer, 1_700_000_030);
        assert_eq!(state.public_key, Some(key.to_string()));
        assert_eq!(state.listen_port, Some(51820));
        let [first, second] = &state.peers[..] else { panic!("{state:?}") };
        assert_eq!(first.endpoint.as_deref(), Some("192.0.2.1:9"));
        assert_eq!(first.allowed, ["10.77.0.2/32"]);
        assert_eq!(
            (first.handshake_age_s, first.received_bytes, first.sent_bytes),
            (Some(12), 100, 200)
        );
        assert_eq!((second.handshake_age_s, second.received_bytes), (Some(30), 0));
    }

    #[test]
    fn the_dump_of_the_kernels_tool_is_read_without_its_secrets() {
        let dump = "SECRET\tOWN\t51820\toff\n\
                    PEER\tSHARED\t192.0.2.1:9\t10.77.0.2/32,fd00::2/128\t1700000000\t5\t6\t25\n\
                    NEW\t(none)\t(none)\t(none)\t0\t0\t0\toff\nbroken\n";
        let state = read_dump("arknet", dump, 1_700_000_010);
        assert_eq!((state.public_key.as_deref(), state.listen_port), (Some("OWN"), Some(51820)));
        let [peer, new] = &state.peers[..] else { panic!("{state:?}") };
        assert_eq!(peer.allowed, ["10.77.0.2/32", "fd00::2/128"]);
        assert_eq!((peer.handshake_age_s, peer.received_bytes, peer.sent_bytes), (Some(10), 5, 6));
        assert_eq!((&new.endpoint, new.handshake_age_s), (&None, None));
        assert!(
            !format!("{state:?}").contains("SECRET") && !format!("{state:?}").contains("SHARED")
        );
    }
}
