use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    thread,
};

use super::*;

/// Serves `body` for as many connections as given, cutting each after so many bytes. Returns the
/// URL and, through the handle, the range each connection asked for.
fn server(
    body: Vec<u8>,
    cuts: Vec<usize>,
    takes_ranges: bool,
) -> (String, thread::JoinHandle<Vec<Option<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/m.gguf", listener.local_addr().unwrap());
    let handle = thread::spawn(move || {
        let answer = |cut| {
            let (mut stream, _) = listener.accept().unwrap();
            let range = asked_range(&stream);
            let from = range.filter(|_| takes_ranges).unwrap_or(0);
            let rest = &body[from..];
            let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"a\"\r\nconnection: close\r\n\r\n",
                rest.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&rest[..rest.len().min(cut)]).unwrap();
            range
        };
        cuts.into_iter().map(answer).collect()
    });
    (url, handle)
}

fn asked_range(stream: &TcpStream) -> Option<usize> {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = from.trim_end_matches('-').parse().ok();
        }
    }
    range
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (url, handle) = server(body.clone(), vec![30_000, usize::MAX], true);
    let download = Download::new(&url, directory.path());
    let error = download.run(|_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("again to go on"), "{error}");
    let kept = fs::metadata(&download.part).unwrap().len();
    let mut seen = (0, None);
    let path = download
        .run(|done, total| {
            seen = (done, total);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), body);
    assert_eq!(seen, (100_000, Some(100_000)));
    assert_eq!(handle.join().unwrap(), [None, Some(usize::try_from(kept).unwrap())]);
    download.discard();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_server_without_ranges_is_read_from_the_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let body = vec![7; 50_000];
    let (url, handle) = server(body.clone(), vec![10_000, usize::MAX], false);
    let download = Download::new(&url, directory.path());
    download.run(|_, _| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(fs::read(download.run(|_, _| ControlFlow::Continue(())).unwrap()).unwrap(), body);
    handle.join().unwrap();
}
