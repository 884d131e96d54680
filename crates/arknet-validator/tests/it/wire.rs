//! The plainest transport there can be: TCP on loopback, frames, and who speaks is believed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use arknet_consensus::{Message, Misdeed, Peer, Verdict};
use arknet_types::{decode, encode};
use arknet_validator::{Event, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::network::peer;

const QUEUE_MAX: usize = 4_096;
/// Between two attempts to reach a process that is being started again.
const AGAIN: Duration = Duration::from_millis(20);

type Links = Arc<Mutex<BTreeMap<Peer, mpsc::Sender<Arc<[u8]>>>>>;

/// Ports that nobody has, and that no connection is given while who has them is down: the kernel
/// takes those for connections from 32768 on.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    // Another run of the tests at the same time begins elsewhere.
    let first = 10_000 + (std::process::id() % 9_000) as u16;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..20_000).filter(free).take(count).collect()
}

#[derive(Debug)]
pub(crate) struct TcpWire {
    me: Peer,
    links: Links,
}

impl TcpWire {
    /// Listens on the own one of the ports of nodes 1, 2 and so on, and dials those before it.
    pub(crate) async fn start(n: u8, ports: &[u16]) -> (Self, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel(QUEUE_MAX);
        let links = Links::default();
        let port = ports[usize::from(n - 1)];
        let listener = loop {
            // The one that was killed may not be gone yet.
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let (these, all) = (Arc::clone(&links), sender.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, n, Arc::clone(&these), all.clone()));
            }
        });
        for (other, port) in (1..n).zip(ports.to_vec()) {
            assert_ne!(other, n);
            let (these, all) = (Arc::clone(&links), sender.clone());
            tokio::spawn(async move {
                loop {
                    if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                        speak(stream, n, Arc::clone(&these), all.clone()).await;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        (Self { me: peer(n), links }, events)
    }

    fn others(&self, but: &[&Peer]) -> Vec<Peer> {
        let links = self.links.lock().unwrap();
        links.keys().filter(|peer| !but.contains(peer)).copied().collect()
    }

    fn say(&self, to: &[Peer], message: &Message) {
        let bytes: Arc<[u8]> = encode(message).into();
        let links = self.links.lock().unwrap();
        for link in to.iter().filter_map(|peer| links.get(peer)) {
            let _ = link.try_send(Arc::clone(&bytes));
        }
    }
}

/// Both sides say who they are, and then whatever they like, until one is gone.
async fn speak(mut stream: TcpStream, me: u8, links: Links, events: mpsc::Sender<Event>) {
    let other = async {
        stream.set_nodelay(true)?;
        stream.write_u8(me).await?;
        stream.read_u8().await
    };
    let Ok(other) = other.await.map(peer) else { return };
    let (mut reader, mut writer) = stream.into_split();
    let (link, mut queue) = mpsc::channel::<Arc<[u8]>>(QUEUE_MAX);
    links.lock().unwrap().insert(other, link.clone());
    let _ = events.send(Event::Joined(other)).await;
    let writing = async {
        while let Some(bytes) = queue.recv().await {
            writer.write_u32_le(u32::try_from(bytes.len()).unwrap()).await?;
            writer.write_all(&bytes).await?;
        }
        std::io::Result::Ok(())
    };
    let reading = async {
        loop {
            let length = reader.read_u32_le().await?;
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            reader.read_exact(&mut bytes).await?;
            let message = Box::new(decode::<Message>(&bytes).unwrap());
            let event = Event::Message { from: other, message, tag: None };
            if events.send(event).await.is_err() {
                return std::io::Result::Ok(());
            }
        }
    };
    tokio::select! {
        _ = writing => {}
        _ = reading => {}
    }
    let is_this = {
        let mut links = links.lock().unwrap();
        let is_this = links.get(&other).is_some_and(|now| now.same_channel(&link));
        if is_this {
            links.remove(&other);
        }
        is_this
    };
    if is_this {
        let _ = events.send(Event::Gone(other)).await;
    }
}

impl Transport for TcpWire {
    fn broadcast(&self, message: Message) {
        self.say(&self.others(&[]), &message);
    }

    fn send(&self, peer: &Peer, message: Message) {
        self.say(&[*peer], &message);
    }

    fn forward(&self, from: &Peer, message: Message) {
        self.say(&self.others(&[&self.me, from]), &message);
    }

    fn judge(&self, _: u64, _: Verdict) {}

    fn misbehaved(&self, peer: &Peer, misdeed: &Misdeed) {
        // Whoever sees this ends, and the test with it.
        panic!("{peer}: {misdeed}");
    }
}
