use std::path::Path;

use arknet_node::DataDir;
use arknet_sdk::{keyfile, wallet::Wallet};
use serde_json::json;

use crate::out::Out;

/// What a new configuration file says: every default, as a comment.
const INTRODUCTION: &str = "\
# The configuration of this arknet node. Every line that is commented out shows the default.
# See what is in force with: arknet config show
";

pub(crate) fn run(data: &DataDir, config_path: &Path, out: &Out) -> anyhow::Result<()> {
    let peer = keyfile::load_or_create(&data.peer_key())?.public();
    let wallet = Wallet::from_key(keyfile::load_or_create(&data.wallet())?);
    if !config_path.exists() {
        std::fs::write(config_path, commented_defaults())?;
    }
    let report = json!({
        "data_dir": data.root(),
        "config": config_path,
        "peer": peer.to_string(),
        "wallet": wallet.address().to_string(),
    });
    let text = format!(
        "data directory  {}\nconfiguration   {}\npeer            {peer}\nwallet          {}\n\nNext: arknet start",
        data.root().display(),
        config_path.display(),
        wallet.address()
    );
    out.result(&report, &text)
}

fn commented_defaults() -> String {
    let defaults = arknet_node::Config::default().to_toml();
    let comment = |line: &str| match line {
        "" => String::new(),
        // A section must stand for the keys below it to be of use once they are uncommented.
        line if line.starts_with('[') => line.to_owned(),
        line => format!("# {line}"),
    };
    let lines: Vec<String> = defaults.lines().map(comment).collect();
    format!("{INTRODUCTION}\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use arknet_node::{Config, Overrides};

    #[test]
    fn a_new_configuration_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arknet.toml");
        std::fs::write(&path, super::commented_defaults()).unwrap();
        assert_eq!(Config::load(&path, &Overrides::default()).unwrap(), Config::default());
    }
}
