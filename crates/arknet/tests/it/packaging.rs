//! What lies in `packaging`, with the programs it is for.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use ureq::{Body, http::Response};

use crate::{
    clients::check,
    network::{Node, PATIENCE, TINY, endless, flags, free_port, get, json_of},
};

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name)
}

/// The name under which nginx serves.
const NAME: &str = "ark.example";

/// nginx with the packaged snippets, in front of a node. Killed when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(directory: &Path, node: &Node) -> Self {
        for (snippet, fixed, real) in [
            ("nginx-arknet.conf", "127.0.0.1:8910", node.admin()),
            ("nginx-gateway.conf", "127.0.0.1:4000", node.gateway()),
        ] {
            let text = fs::read_to_string(packaging(snippet)).unwrap();
            let proxied = format!("proxy_pass http://{fixed}");
            assert_eq!(text.matches(&proxied).count(), 1, "{snippet}");
            let text = text.replace(&proxied, &format!("proxy_pass http://{real}"));
            fs::write(directory.join(snippet), text).unwrap();
        }
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "daemon off;\nmaster_process off;\npid pid;\nerror_log stderr crit;\nevents {{}}\n\
             http {{\n  access_log off;\n  client_body_temp_path b;\n  proxy_temp_path p;\n  \
             fastcgi_temp_path f;\n  uwsgi_temp_path u;\n  scgi_temp_path s;\n  server {{\n    \
             listen {address};\n    server_name {NAME};\n    include nginx-arknet.conf;\n    \
             include nginx-gateway.conf;\n  }}\n}}\n"
        );
        let path = directory.join("nginx.conf");
        fs::write(&path, config).unwrap();
        // Debian keeps it where only administrators look.
        let program = ["/usr/sbin/nginx"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("nginx"));
        command.arg("-p").arg(directory).arg("-c").arg(&path).stdin(Stdio::null());
        let mut nginx = Self { child: command.spawn().unwrap(), address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(nginx.child.try_wait().unwrap().is_none(), "nginx does not start");
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::yield_now();
        }
        nginx
    }

    /// A request under the server's name, as it comes from another machine.
    fn send(&self, path: &str, secret: Option<&str>, body: Option<&Value>) -> Response<Body> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://{}{path}", self.address);
        let bearer = secret.map(|secret| format!("Bearer {secret}"));
        let answer = match body {
            None => {
                let mut request = agent.get(&url).header("host", NAME);
                if let Some(bearer) = &bearer {
                    request = request.header("authorization", bearer);
                }
                request.call()
            }
            Some(body) => {
                let mut request = agent.post(&url).header("host", NAME);
                if let Some(bearer) = &bearer {
                    request = request.header("authorization", bearer);
                }
                request.content_type("application/json").send(body.to_string())
            }
        };
        answer.unwrap()
    }

    fn ask(&self, path: &str, secret: Option<&str>, body: Option<&Value>) -> (u16, String) {
        let mut response = self.send(path, secret, body);
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node that asks for its token and for keys, and the key of an app.
fn node_behind_a_proxy(home: &Path) -> (Node, String) {
    let created = json_of(home, &["key", "create", "--name", "laptop"]);
    let config = format!(
        "[admin]\nallowed_hosts = [\"{NAME}\"]\n\
         [gateway]\nrequire_key = true\nallowed_hosts = [\"{NAME}\"]\n"
    );
    fs::write(home.join("arknet.toml"), config).unwrap();
    let node = Node::start(home, &flags("compute,gateway", None));
    (node, created["key"].as_str().unwrap().to_owned())
}

#[test]
fn nginx_serves_the_node_api_to_whoever_has_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = node_behind_a_proxy(directory.path());
    let token = fs::read_to_string(directory.path().join("admin.token")).unwrap();
    let token = Some(token.trim());
    let nginx = Nginx::start(directory.path(), &node);

    let (status, body) = nginx.ask("/arknet/health", None, None);
    assert_eq!((status, body.contains("ok")), (200, true), "{body}");
    let (status, page) = nginx.ask("/arknet/", None, None);
    assert_eq!((status, page.contains("<title>arknet grid</title>")), (200, true), "{page}");
    assert_eq!(nginx.ask("/arknet/web/console.js", None, None).0, 200);
    for path in ["/arknet/peers/discovered", "/arknet/peers/status", "/arknet/status"] {
        assert_eq!(nginx.ask(path, None, None).0, 401, "{path}");
        assert_eq!(nginx.ask(path, Some("wrong"), None).0, 401, "{path}");
        assert_eq!(nginx.ask(path, token, None).0, 200, "{path}");
    }

    let peer = json!({
        "node_id": "ark-new-peer-003",
        "public_key": "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "permissions": {
            "can_request_inference": true,
            "can_pull_models": false,
            "models_shared": ["llama3.1:8b"],
            "max_concurrent_requests": 1,
        },
    });
    assert_eq!(nginx.ask("/arknet/peers/approve", None, Some(&peer)).0, 401);
    assert_eq!(get(node.admin(), "/peers/status")["peers"], json!([]));
    let (status, body) = nginx.ask("/arknet/peers/approve", token, Some(&peer));
    assert_eq!(status, 200, "{body}");
    let peers = get(node.admin(), "/peers/status")["peers"].clone();
    assert_eq!(peers[0]["node_id"], "ark-new-peer-003", "{peers}");
    let revoked = json!({ "node_id": "ark-new-peer-003" });
    assert_eq!(nginx.ask("/arknet/peers/revoke", None, Some(&revoked)).0, 401);
    assert_eq!(nginx.ask("/arknet/peers/revoke", token, Some(&revoked)).0, 200);
}

#[test]
fn nginx_serves_the_gateway_to_whoever_has_a_key_and_holds_no_stream_back() {
    let directory = tempfile::tempdir().unwrap();
    let (node, key) = node_behind_a_proxy(directory.path());
    let key = Some(key.as_str());
    let nginx = Nginx::start(directory.path(), &node);

    assert_eq!(nginx.ask("/v1/models", None, None).0, 401);
    let (status, body) = nginx.ask("/v1/models", key, None);
    assert_eq!((status, body.contains(TINY)), (200, true), "{body}");
    assert_eq!(nginx.ask("/api/tags", key, None).0, 200);
    assert_eq!(nginx.ask("/metrics", key, None).0, 404, "only what apps need");

    // Were nginx to take all before it gave some, the answer would have ended.
    let answer = nginx.send("/v1/chat/completions", key, Some(&endless()));
    assert_eq!(answer.status().as_u16(), 200);
    let mut events = BufReader::new(answer.into_body().into_reader());
    let mut event = String::new();
    events.read_line(&mut event).unwrap();
    assert!(event.starts_with("data: "), "{event}");
    let status = get(node.admin(), "/status");
    let model = &status["models"][0];
    assert_eq!(model["slots_free"].as_u64().unwrap() + 1, model["slots"].as_u64().unwrap());
}

#[test]
fn the_service_is_a_valid_unit_that_exposes_little() {
    // Where there is no systemd there is no service.
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(packaging("arknet.service")).unwrap();
    let text = text.replace("/usr/bin/arknet", env!("CARGO_BIN_EXE_arknet"));
    let unit = directory.path().join("arknet.service");
    fs::write(&unit, text).unwrap();
    check(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    let mut security = Command::new("systemd-analyze");
    // Of 10.0; what is rated is the unit, not the machine.
    check(security.args(["security", "--offline=true", "--threshold=20"]).arg(&unit));
}
