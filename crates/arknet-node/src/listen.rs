//! The ports of a node.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// Listens as tokio does, but for the number of connections that may wait: there it is 128, and who
/// comes beyond that is heard only when it tries again, a second later. Must be called inside of a
/// runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use super::*;

    #[tokio::test]
    async fn many_may_come_at_once() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts them, so one that finds no room waits for ever.
        let patience = Duration::from_secs(3);
        let connect = |_| TcpStream::connect_timeout(&address, patience);
        let waiting: io::Result<Vec<_>> = (0..256).map(connect).collect();
        assert_eq!(waiting.unwrap().len(), 256);
    }
}
