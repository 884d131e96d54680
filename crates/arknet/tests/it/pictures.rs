//! Pictures through the official clients, for a model of the node itself and one of another peer.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use arknet_node::ModelStore;

use crate::{
    clients::Suite,
    gguf::{Projector, projector},
    network::{
        ANYONE, ASKING_ANYONE, Node, PATIENCE, TINY, ask, flags, get, json_of, question, run, text,
        wait_for_model, wait_for_peer,
    },
};

const MODEL: &str = "looking/tiny";
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");

/// Adds the shipped model twice, once with a projector of random numbers.
fn add(home: &Path) {
    fs::create_dir_all(home).unwrap();
    json_of(home, &["model", "add", SHIPPED, "--name", TINY]);
    let file = home.join("mmproj.gguf");
    projector(&file, Projector::OwnSize);
    let file = file.to_str().unwrap();
    // A model is no projector, and one may be that of another model: nothing is added with those.
    let (other, key) = (home.join("other.gguf"), b"clip.vision.projection_dim");
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    bytes[at] ^= 1;
    fs::write(&other, bytes).unwrap();
    for (projector, words) in [(SHIPPED, "no projector"), (other.to_str().unwrap(), "does not fit")]
    {
        let add = ["model", "add", SHIPPED, "--name", MODEL, "--projector", projector];
        let refused = text(&run(home, &add).stderr);
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(json_of(home, &["model", "list"]).as_array().unwrap().len(), 1);
    let refused = run(home, &["model", "add", file, "--name", MODEL]);
    assert!(text(&refused.stderr).contains("--projector"), "{}", text(&refused.stderr));
    let added = json_of(home, &["model", "add", SHIPPED, "--name", MODEL, "--projector", file]);
    assert_eq!(json_of(home, &["model", "verify", MODEL])[0]["projector"], added["projector"]);
}

#[test]
fn pictures_for_a_model_at_home_and_one_of_another_peer() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("compute");
    add(&home);
    fs::write(home.join("arknet.toml"), ANYONE).unwrap();
    let compute = Node::start(&home, &flags("validator,compute,gateway", None));
    let asking = directory.path().join("gateway");
    fs::create_dir_all(&asking).unwrap();
    fs::write(asking.join("arknet.toml"), ASKING_ANYONE).unwrap();
    let gateway = Node::start(&asking, &flags("gateway", Some(compute.address())));
    wait_for_model(compute.gateway(), MODEL);
    wait_for_peer(gateway.gateway(), MODEL, compute.peer());
    for node in [&compute, &gateway] {
        Suite::new(node.gateway()).with_pictures(MODEL);
    }
    json_of(&home, &["model", "remove", MODEL]);
    let blobs = fs::read_dir(home.join("models/blobs")).unwrap().flatten();
    let names: Vec<_> = blobs.map(|blob| blob.file_name()).collect();
    let files = names.iter().filter(|name| name.to_string_lossy().ends_with(".gguf")).count();
    assert_eq!(files, 1, "the projector went with its model: {names:?}");
    takes_pictures_from_when_it_can(&home, &compute);
}

/// A server of the files in a directory, for as long as the tests run.
fn files_of(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut lines = stream.by_ref().lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let file = fs::read(directory.join(name)).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len());
            let stream = stream.get_mut();
            let _ = stream.write_all(&[head.as_bytes(), &file].concat());
        }
    });
    url
}

#[test]
fn a_model_and_its_projector_are_fetched_from_urls() {
    let directory = tempfile::tempdir().unwrap();
    let (home, files) = (directory.path().join("home"), directory.path().join("files"));
    fs::create_dir_all(&files).unwrap();
    fs::copy(SHIPPED, files.join("tiny.gguf")).unwrap();
    projector(&files.join("mmproj.gguf"), Projector::OwnSize);
    let hash = |name: &str| ModelStore::digest(&files.join(name)).unwrap().to_string();
    let (model_hash, projector_hash) = (hash("tiny.gguf"), hash("mmproj.gguf"));
    let url = files_of(files.clone());
    let (model, projector) = (format!("{url}/tiny.gguf"), format!("{url}/mmproj.gguf"));
    let ask = ["model", "add", &model, "--sha256", &model_hash, "--projector", &projector];
    let unchecked = run(&home, &ask);
    assert!(text(&unchecked.stderr).contains("--projector-sha256"), "{unchecked:?}");
    let wrong = run(&home, &[&ask[..], &["--projector-sha256", &model_hash]].concat());
    assert!(text(&wrong.stderr).contains(&projector_hash), "{wrong:?}");
    assert_eq!(json_of(&home, &["model", "list"])[0]["name"], TINY, "nothing was added");
    let added = json_of(&home, &[&ask[..], &["--projector-sha256", &projector_hash]].concat());
    assert_eq!((&added["name"], &added["digest"]), (&"tiny".into(), &model_hash.into()));
    assert_eq!(added["projector"]["digest"], projector_hash);
    let left = fs::read_dir(home.join("models/partial")).unwrap().count();
    assert_eq!(left, 0, "what was fetched has moved");
    // What is fetched as a projector and is none is not gone on from.
    let no_projector = ["model", "add", SHIPPED, "--name", "a/b", "--yes", "--projector", &model];
    let refused = run(&home, &no_projector);
    assert!(text(&refused.stderr).contains("no projector"), "{refused:?}");
    assert_eq!(fs::read_dir(home.join("models/partial")).unwrap().count(), 0);
    assert_eq!(json_of(&home, &["model", "list"]).as_array().unwrap().len(), 1);
}

/// A projector that comes later, while the node serves its model.
fn takes_pictures_from_when_it_can(home: &Path, node: &Node) {
    let file = home.join("mmproj.gguf");
    let added = |projector: &[&str]| {
        let arguments = [&["model", "add", SHIPPED, "--name", MODEL], projector].concat();
        let output = run(home, &arguments);
        assert!(text(&output.stdout).contains("the running node serves it"), "{output:?}");
        let models = get(node.gateway(), "/v1/models");
        let model = models["data"].as_array().unwrap().iter().find(|model| model["id"] == MODEL);
        model.unwrap()["arknet"]["capabilities"].to_string().contains("vision")
    };
    assert!(!added(&[]));
    assert!(added(&["--projector", file.to_str().unwrap()]));
}

#[test]
fn a_model_comes_from_a_peer_with_its_projector() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, fetched) = (directory.path().join("sharing"), directory.path().join("fetching"));
    for (home, config) in
        [(&shared, format!("{ANYONE}share_models = true\n")), (&fetched, ASKING_ANYONE.into())]
    {
        fs::create_dir_all(home).unwrap();
        fs::write(home.join("arknet.toml"), config).unwrap();
    }
    json_of(&shared, &["model", "add", SHIPPED, "--name", MODEL]);
    let sharing = Node::start(&shared, &flags("validator,compute,gateway", None));
    let fetching = Node::start(&fetched, &flags("compute,gateway", Some(sharing.address())));
    wait_for_peer(fetching.gateway(), MODEL, sharing.peer());
    let pull = || {
        let output = run(&fetched, &["model", "pull", MODEL]);
        assert!(text(&output.stdout).contains("is here and served"), "{output:?}");
        let status = get(fetching.admin(), "/status");
        let models = status["models"].as_array().unwrap();
        let model = models.iter().find(|model| model["name"] == MODEL).unwrap();
        model["capabilities"].to_string().contains("vision")
    };
    assert!(!pull(), "there is none yet");
    let file = shared.join("mmproj.gguf");
    projector(&file, Projector::OwnSize);
    let with = ["model", "add", SHIPPED, "--name", MODEL, "--projector", file.to_str().unwrap()];
    let added = json_of(&shared, &with);
    // What is offered must not change when the model is loaded.
    let mut body = question("hello", false);
    body["model"] = MODEL.into();
    assert_eq!(ask(sharing.gateway(), body).status, 200);
    // The peer's next offer tells of it.
    let deadline = Instant::now() + PATIENCE;
    while !pull() {
        assert!(Instant::now() < deadline, "the projector is not fetched");
    }
    let has_all = || {
        let verified = &json_of(&fetched, &["model", "verify", MODEL])[0];
        ["digest", "projector"].iter().all(|file| verified[file] == added[file])
    };
    assert!(has_all() && added["projector"].is_object());
    json_of(&fetched, &["model", "remove", MODEL]);
    assert!(pull() && has_all(), "both come at once");
}
