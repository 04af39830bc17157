//! HAProxy's Runtime API (HAProxy management guide, section 9.3): requests move from one slot to the other without a
//! reload, and no connection of a client is touched.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::activate::HostError;
use crate::model::{RouteName, Slot};

/// Named in `haproxy.cfg`, too.
const SOCKET: &str = "/run/bundle-haproxy/admin.sock";

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
    let said = ask(&line).map_err(|error| fail(error.to_string()))?;
    // It answers a command of this kind with an empty line, and with words when it refuses.
    let said = said.trim();
    if said.is_empty() { Ok(()) } else { Err(fail(said.to_owned())) }
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
