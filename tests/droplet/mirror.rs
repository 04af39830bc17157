//! The package mirror: a directory on this machine's end of a droplet's wire, port 80, where the droplet's
//! `/etc/hosts` puts the archives of Debian and Ubuntu.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::slot::{cannot_run, script};

/// A running server. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Mirror {
    server: Child,
}

impl Mirror {
    /// Serves `dir` on an address of this machine and waits until it answers. The log gets one line per request.
    pub(crate) fn start(addr: Ipv4Addr, dir: &Path, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new("setsid");
        command.arg("sh").arg(script("tether.sh")).args(["busybox", "httpd", "-f", "-v"]);
        command.args(["-p", &format!("{addr}:80"), "-h"]).arg(dir);
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = command.spawn().unwrap_or_else(|err| panic!("{}", cannot_run(&command, &err)));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(SocketAddr::from((addr, 80))).is_err() {
            assert!(Instant::now() < deadline, "the package mirror does not answer on {addr}");
            sleep(Duration::from_millis(20));
        }
        Self { server }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        self.server.wait().ok();
    }
}
