//! Logging in to a droplet with a real `ssh`, as a person would: a key of the droplet's own slot, and the host keys as
//! the droplet showed them first.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::slot::{Slot, output, stdout};

/// What it takes to log in to a droplet.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) addr: IpAddr,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// The private key's file.
    pub(crate) key: PathBuf,
    /// The file with the droplet's host keys.
    pub(crate) known_hosts: PathBuf,
}

impl Login {
    /// A login at `addr`, whose host keys are asked for if they are not known; waits up to `limit` for an answer.
    pub(crate) fn new(slot: &Slot, user: &str, addr: IpAddr, limit: Duration) -> Self {
        let login = Self {
            addr,
            port: 22,
            user: user.to_owned(),
            key: slot.state.join("ssh/key"),
            known_hosts: slot.state.join("ssh/known_hosts"),
        };
        let deadline = Instant::now() + limit;
        let name = addr.to_string();
        let known = |path: &Path| fs::read_to_string(path).unwrap_or_default().contains(&format!("{name} "));
        while !known(&login.known_hosts) {
            let keys = output(Command::new("ssh-keyscan").args(["-T", "10", &name])).stdout;
            let mut all = fs::read(&login.known_hosts).unwrap_or_default();
            all.extend(keys);
            fs::write(&login.known_hosts, all).unwrap();
            assert!(Instant::now() < deadline, "nothing answers on {name}, port 22");
        }
        login
    }

    /// `USER@ADDRESS`.
    pub(crate) fn destination(&self) -> String {
        format!("{}@{}", self.user, self.addr)
    }

    /// Options for `ssh`, `scp` and `rsync -e`, before the destination: nothing of this machine's own settings counts.
    pub(crate) fn options(&self) -> Vec<String> {
        let file = |name: &str, path: &Path| format!("-o{name}={}", path.display());
        let mut options = vec![
            "-Fnone".to_owned(),
            "-oBatchMode=yes".to_owned(),
            "-oIdentitiesOnly=yes".to_owned(),
            "-oStrictHostKeyChecking=yes".to_owned(),
            format!("-oPort={}", self.port),
        ];
        options.push(file("IdentityFile", &self.key));
        options.push(file("UserKnownHostsFile", &self.known_hosts));
        options
    }

    /// The same as a file for `ssh -F`, in which the droplet is called `alias`.
    pub(crate) fn config(&self, alias: &str) -> String {
        format!(
            "Host {alias}\n  HostName {}\n  Port {}\n  User {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n  \
             IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking yes\n",
            self.addr,
            self.port,
            self.user,
            self.key.display(),
            self.known_hosts.display()
        )
    }

    /// `ssh` with a command for the shell of the account, ready to be given its standard streams.
    pub(crate) fn command(&self, shell_command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).arg(self.destination()).arg("--").arg(shell_command);
        ssh
    }
}

/// Makes the key pair of a slot.
pub(crate) fn make_key(state: &Path) {
    let dir = state.join("ssh");
    fs::create_dir(&dir).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "tester", "-f"]).arg(dir.join("key"));
    stdout(&mut keygen);
}

/// `word` as one word of a POSIX shell.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
