use std::path::PathBuf;

use arknet_node::DataDir;
use arknet_vpn::{Configuration, Network, Tunnel, TunnelState, UserSpace};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::out::{Out, bytes, table};

#[derive(Args)]
pub(crate) struct Vpn {
    /// The interface of the tunnel; one tunnel has one
    #[arg(long, global = true, default_value = "arknet")]
    interface: String,
    #[command(subcommand)]
    command: VpnCommand,
}

#[derive(Subcommand)]
pub(crate) enum VpnCommand {
    /// Take a tunnel down
    Down,
    /// Make the first end of a tunnel: a key and a configuration
    Init {
        /// The addresses inside
        #[arg(long, default_value = "10.77.0.0/24")]
        subnet: Network,
        /// The port of UDP on which packets arrive; open it in the firewall and the router
        #[arg(long, default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..))]
        listen_port: u16,
    },
    /// Let another machine in: writes a configuration to hand over in secret
    Invite {
        /// What that machine is called here
        name: String,
        /// Where it will find this machine: HOST or HOST:PORT, as seen from outside
        #[arg(long)]
        endpoint: String,
        /// The file to write [default: NAME.invitation in the directory of tunnels]
        #[arg(long, conflicts_with = "show")]
        out: Option<PathBuf>,
        /// Print the configuration, with its secrets, and write no file
        #[arg(long)]
        show: bool,
    },
    /// Take an invitation
    Join {
        /// The file
        invitation: PathBuf,
    },
    /// Show who is connected through a tunnel
    Status,
    /// Bring a tunnel up, with the kernel's WireGuard or, with --foreground, in this process
    Up {
        /// In user space: the tunnel lasts as long as this command
        #[arg(long)]
        foreground: bool,
    },
}

pub(crate) fn run(data: &DataDir, vpn: Vpn, out: &Out) -> anyhow::Result<()> {
    let folder = data.vpn();
    let tunnel = Tunnel::new(&folder, &vpn.interface)?;
    match vpn.command {
        VpnCommand::Down => {
            arknet_vpn::down(tunnel.interface())?;
            let report = json!({ "interface": tunnel.interface(), "up": false });
            out.result(&report, &format!("{} is down", tunnel.interface()))
        }
        VpnCommand::Init { subnet, listen_port } => {
            let made = tunnel.init(subnet, listen_port)?;
            let next = "Next: arknet vpn invite NAME --endpoint HOST, then arknet vpn up";
            described(&tunnel, &made, next, out)
        }
        VpnCommand::Invite { name, endpoint, out: file, show } => {
            let path = file.unwrap_or_else(|| folder.join(format!("{name}.invitation")));
            invite(&tunnel, &name, &endpoint, (!show).then_some(path), out)
        }
        VpnCommand::Join { invitation } => {
            let joined = tunnel.join(&invitation)?;
            described(&tunnel, &joined, "Next: arknet vpn up", out)
        }
        VpnCommand::Status => status(&tunnel, out),
        VpnCommand::Up { foreground } => up(&tunnel, foreground, out),
    }
}

fn described(
    tunnel: &Tunnel,
    configuration: &Configuration,
    next: &str,
    out: &Out,
) -> anyhow::Result<()> {
    let addresses: Vec<_> = configuration.addresses.iter().map(ToString::to_string).collect();
    let key = configuration.key.public().to_string();
    let report = json!({
        "interface": tunnel.interface(),
        "configuration": tunnel.path(),
        "public_key": key,
        "addresses": addresses,
        "listen_port": configuration.listen_port,
    });
    let mut rows = vec![
        vec!["configuration".into(), tunnel.path().display().to_string()],
        vec!["key".into(), key],
        vec!["address".into(), addresses.join(", ")],
    ];
    if let Some(port) = configuration.listen_port {
        rows.push(vec!["port".into(), format!("{port} (UDP)")]);
    }
    out.result(&report, &format!("{}\n\n{next}", table(&rows)))
}

fn invite(
    tunnel: &Tunnel,
    name: &str,
    endpoint: &str,
    file: Option<PathBuf>,
    out: &Out,
) -> anyhow::Result<()> {
    // Looked at first: a key that was given a place in the tunnel must reach somebody.
    if let Some(path) = file.as_ref().filter(|path| path.exists()) {
        anyhow::bail!("{} is there already", path.display());
    }
    let invited = tunnel.invite(name, endpoint)?;
    let mut report = json!({
        "name": invited.name,
        "address": invited.address.to_string(),
        "endpoint": invited.endpoint,
        "public_key": invited.configuration.key.public().to_string(),
    });
    let Some(path) = file else {
        let text = invited.configuration.reveal();
        report["configuration"] = json!(*text);
        out.note("Who has this text can enter the tunnel.");
        return out.result(&report, text.trim_end());
    };
    invited.write(&path)?;
    report["file"] = json!(path);
    let text = format!(
        "{} is {} in the tunnel\ninvitation  {}\n\nHand the file over in secret: who has it can enter. There: arknet vpn join FILE\nA tunnel that is up must be brought down and up to let it in.",
        invited.name,
        invited.address.address,
        path.display()
    );
    out.result(&report, &text)
}

fn up(tunnel: &Tunnel, foreground: bool, out: &Out) -> anyhow::Result<()> {
    let configuration = tunnel.read()?;
    let report = json!({
        "interface": tunnel.interface(),
        "up": true,
        "run_by": if foreground { "user space" } else { "kernel" },
    });
    let text = format!("{} is up", tunnel.interface());
    if !foreground {
        arknet_vpn::kernel_up(tunnel.interface(), &configuration)?;
        return out.result(&report, &text);
    }
    let running = UserSpace::up(tunnel.interface(), &configuration)?;
    out.result(&report, &format!("{text}; interrupt to take it down"))?;
    running.wait();
    Ok(())
}

fn status(tunnel: &Tunnel, out: &Out) -> anyhow::Result<()> {
    let mut state = arknet_vpn::state(tunnel.interface(), arknet_sdk::now().0 / 1000)?;
    // The interface knows keys; what their machines are called, the configuration knows.
    if let Ok(configuration) = tunnel.read() {
        for peer in &mut state.peers {
            let known = configuration.peers.iter();
            let mut known = known.filter(|section| section.key.to_string() == peer.public_key);
            peer.name = known.next().and_then(|section| section.name.clone());
        }
    }
    out.result(&state, &status_text(&state))
}

fn status_text(state: &TunnelState) -> String {
    let port = state.listen_port.map_or_else(String::new, |port| format!(", port {port}"));
    let head = format!("{} is up, run by the {}{port}", state.interface, state.run_by);
    let heads = ["PEER", "ADDRESSES", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(state.peers.iter().map(|peer| {
        let never = "never".to_owned();
        vec![
            peer.name.clone().unwrap_or_else(|| peer.public_key.clone()),
            peer.allowed.join(", "),
            peer.endpoint.clone().unwrap_or_else(|| "-".into()),
            peer.handshake_age_s.map_or(never, |age| format!("{age} s ago")),
            bytes(peer.received_bytes),
            bytes(peer.sent_bytes),
        ]
    }));
    match state.peers.is_empty() {
        true => format!("{head}\nnobody is invited"),
        false => format!("{head}\n{}", table(&rows)),
    }
}
