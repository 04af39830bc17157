//! One question to the network: from where, to where, does it pass? Asked by a thread that has moved into a namespace.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, recv, send, socket, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_uid};

use crate::wires::Namespace;

/// How long a packet may take from one namespace to the next. What is dropped costs all of it.
const LIMIT: Duration = Duration::from_millis(700);

/// Runs something in a thread of this namespace.
fn within<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let moved = scope.spawn(|| {
            let fd = namespace.open();
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&fd), Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        });
        moved.join().unwrap()
    })
}

/// Answers on these TCP ports, with one letter, and on these UDP ports, with what was sent, as long as the test runs.
pub(crate) fn serve(namespace: &Namespace, tcp: &[u16], udp: &[u16]) {
    within(namespace, || {
        for port in tcp {
            // Both protocols: `[::]` takes IPv4 too (ipv6(7), `IPV6_V6ONLY`).
            let listener = TcpListener::bind(("::", *port)).unwrap();
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    // Then it gives back what it gets, as long as the connection lasts.
                    std::thread::spawn(move || {
                        let mut connection = connection.unwrap();
                        drop(connection.write_all(b"+"));
                        let mut writer = connection.try_clone().unwrap();
                        drop(std::io::copy(&mut connection, &mut writer));
                    });
                }
            });
        }
        for port in udp {
            let socket = UdpSocket::bind(("::", *port)).unwrap();
            std::thread::spawn(move || {
                let mut letter = [0];
                while let Ok((_, from)) = socket.recv_from(&mut letter) {
                    drop(socket.send_to(&letter, from));
                }
            });
        }
    });
}

/// Whether a TCP connection from this address (any, if unspecified) to that one is answered.
pub(crate) fn tcp(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> bool {
    within(namespace, || answered(from, to))
}

/// The same, as a user that is not root.
pub(crate) fn tcp_as(namespace: &Namespace, uid: u32, to: SocketAddr) -> bool {
    within(namespace, || {
        set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
        answered(unspecified(to), to)
    })
}

/// A connection that stays.
pub(crate) fn stay(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> TcpStream {
    within(namespace, || connected(from, to).unwrap())
}

fn answered(from: IpAddr, to: SocketAddr) -> bool {
    connected(from, to).is_some()
}

fn connected(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None).unwrap();
    for timeout in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, timeout, Some(LIMIT)).unwrap();
    }
    bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    connect(&socket, &to).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.read_exact(&mut [0]).ok()?;
    Some(stream)
}

/// Whether a datagram comes back.
pub(crate) fn udp(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> bool {
    within(namespace, || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut letter = [0];
        socket.send_to(b"x", to).is_ok() && socket.recv_from(&mut letter).is_ok()
    })
}

/// Whether an echo request is answered (RFC 792, RFC 4443).
pub(crate) fn ping(namespace: &Namespace, from: IpAddr, to: IpAddr) -> bool {
    within(namespace, || {
        let (family, protocol, kind) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128),
        };
        let socket = socket(family, SocketType::DGRAM, Some(protocol)).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LIMIT)).unwrap();
        bind(&socket, &SocketAddr::new(from, 0)).unwrap();
        connect(&socket, &SocketAddr::new(to, 0)).unwrap();
        let mut answer = [0_u8; 64];
        send(&socket, &[kind, 0, 0, 0, 0, 0, 0, 1], rustix::net::SendFlags::empty()).is_ok()
            && recv(&socket, &mut answer, rustix::net::RecvFlags::empty()).is_ok()
    })
}

/// No address in particular, of the same protocol.
pub(crate) fn unspecified(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0_u16; 8]) }
}
