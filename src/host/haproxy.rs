//! HAProxy's Runtime API (HAProxy management guide, section 9.3): requests move from one slot to the other without a
//! reload, and no connection of a client is touched.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::activate::HostError;
use crate::model::{RouteName, Slot};

/// Named in `haproxy.cfg`, too.
const SOCKET: &str = "/run/bundle-haproxy/admin.sock";

/// How long a start or reload may take until the socket knows the new configuration.
const RELOAD: Duration = Duration::from_secs(15);

/// New requests of these backends go to `to`; those under way on the other slot come to their end there.
pub(super) fn route(routes: &[RouteName], to: Slot) -> Result<(), HostError> {
    let from = to.other();
    let mut commands = Vec::new();
    for route in routes {
        // Ready before drain: there is no moment without a server. `health up` spares it the first check.
        commands.push(format!("set server {route}/{to} state ready"));
        commands.push(format!("set server {route}/{to} health up"));
        commands.push(format!("set server {route}/{from} state drain"));
    }
    let line = commands.join(";");
    let fail = |cause: String| HostError::new(format!("routing to {to} through `{SOCKET}`"), cause);
    let end = Instant::now() + RELOAD;
    loop {
        // It answers a command of this kind with an empty line, and with words when it refuses.
        let why = match ask(&line) {
            Ok(said) if said.trim().is_empty() => return Ok(()),
            Ok(said) => said.trim().to_owned(),
            Err(error) => error.to_string(),
        };
        // While it reloads, the old worker still answers on the socket, and does not know new backends.
        if Instant::now() >= end {
            return Err(fail(why));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until no request is under way on `slot`, at most `limit`. A long poll or a web socket may outlive it; it is
/// then cut when its container stops, within that container's grace period.
pub(super) fn drain(routes: &[RouteName], slot: Slot, limit: Duration) -> Result<(), HostError> {
    let end = Instant::now() + limit;
    loop {
        let said = ask("show stat").map_err(|error| {
            HostError::new(format!("asking `{SOCKET}` what is under way on {slot}"), error.to_string())
        })?;
        if under_way(&said, routes, slot) == 0 || Instant::now() >= end {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Current sessions of these backends' servers in `show stat`: CSV with `pxname`, `svname`, `qcur`, `qmax`, `scur` as
/// its first columns (HAProxy management guide, section 9.1).
fn under_way(csv: &str, routes: &[RouteName], slot: Slot) -> u64 {
    let lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let servers = lines.filter(|columns| {
        matches!(columns[..], [backend, server, ..] if server == slot.as_str() && routes.iter().any(|r| r.as_str() == backend))
    });
    servers.filter_map(|columns| columns.get(4)?.parse::<u64>().ok()).sum()
}

/// Where a new certificate is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Clients meet it.
    Now,
    /// On the disk; HAProxy does not run, or does not know the name yet, and will read it when it does.
    OnceItIsRead,
}

/// Has HAProxy show `pem` instead of what it has read from `path` (HAProxy management guide, section 9.3, `set ssl cert`),
/// without a reload. `keep` puts it on the disk, after HAProxy has found it good and before anybody sees it.
pub fn show_certificate(
    path: &str,
    pem: &str,
    keep: impl FnOnce() -> Result<(), HostError>,
) -> Result<Shown, HostError> {
    let fail = |cause: &str| {
        HostError::new(format!("having HAProxy show another `{path}`"), cause.trim().replace('\n', "; "))
    };
    let said = ask(&format!("set ssl cert {path} <<\n{pem}"));
    let Some(said) = said.ok().filter(|said| !said.contains("not referenced by the configuration")) else {
        // Nobody there, or nobody who knows the name.
        return keep().map(|()| Shown::OnceItIsRead);
    };
    if !said.contains("Transaction") {
        return Err(fail(&said));
    }
    if let Err(error) = keep() {
        drop(ask(&format!("abort ssl cert {path}")));
        return Err(error);
    }
    match ask(&format!("commit ssl cert {path}")) {
        Ok(said) if said.contains("Success") => Ok(Shown::Now),
        Ok(said) => Err(fail(&said)),
        Err(error) => Err(fail(&error.to_string())),
    }
}

fn ask(line: &str) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(SOCKET)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.set_write_timeout(Some(Duration::from_secs(10)))?;
    writeln!(socket, "{line}")?;
    let mut said = String::new();
    socket.take(64 * 1024).read_to_string(&mut said)?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_of_the_drained_servers_count() {
        let csv = "# pxname,svname,qcur,qmax,scur,smax\nhttps,FRONTEND,,,9,12\nweb,blue,0,0,3,9\nweb,green,0,0,5,9\n\
                   api,blue,0,0,1,9\nweb,BACKEND,0,0,8,9\n";
        let routes = ["web", "api"].map(|name| name.parse().unwrap());
        assert_eq!(under_way(csv, &routes, Slot::Blue), 4);
        assert_eq!(under_way(csv, &routes[..1], Slot::Green), 5);
    }
}
