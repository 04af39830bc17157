//! What both sizes of droplet have in common: a machine that is booted, entered, reached by ssh, rebooted, robbed of
//! its power, copied. [`Size::Namespaces`] is a [`Droplet`](crate::droplet::Droplet), ready in seconds on this machine's kernel;
//! [`Size::Virtual`] is a [`Vm`](crate::vm::Vm), minutes slower, with a kernel, cgroup controllers and a disk of its own.
//!
//! Every machine has a wire of its own to this one, where registry and package mirror listen on all ends; of each other
//! machines see nothing, and of the world neither.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::droplet::Droplet;
use crate::seed::Options;
use crate::slot::{Slot, cannot_run, describe, output, stdout};
use crate::ssh::Login;
use crate::vm::Vm;

/// Which of the two kinds of machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Size {
    Namespaces,
    Virtual,
}

/// Boots a machine: with a user-data until commands can be run inside, else until systemd is done.
pub(crate) fn boot(size: Size, options: &Options) -> Box<dyn Machine> {
    match size {
        Size::Namespaces => Box::new(Droplet::boot(options)),
        Size::Virtual => Box::new(Vm::boot(options)),
    }
}

pub(crate) trait Machine {
    /// What the machine occupies on this one.
    fn slot(&self) -> &Slot;

    /// A command inside, as root with an empty environment but for `PATH`, `HOME` and `LANG`, ready to be given its
    /// standard streams and spawned. It is ended after five minutes, with exit status 124.
    fn command(&self, argv: &[&str]) -> Command;

    /// How long the last boot took, from nothing to when [`boot`] returned.
    fn boot_time(&self) -> Duration;

    /// How long what a machine does may take here before it counts as stuck, in seconds of a machine at full speed.
    fn patience(&self, seconds: u64) -> Duration;

    /// The machine's own account that ssh opens and that may use `sudo` without a password, beside root's.
    fn account(&self) -> &str;

    /// Goes down in order, and stays down.
    fn power_off(&mut self);

    /// Goes down in order and comes up again.
    fn reboot(&mut self);

    /// Every process is gone at once. A [`Size::Virtual`] machine loses, too, what it had not yet written to its disk.
    fn cut_power(&mut self);

    /// Boots from the machine's own disk. One that still runs loses its power first.
    fn boot_again(&mut self);

    /// A copy of the disk; a machine that still runs goes down in order first, and stays down.
    fn snapshot(&mut self) -> Snapshot;

    /// What a person wants to read when something is wrong.
    fn complaints(&self) -> String;

    /// The machine's address on its wire.
    fn addr(&self) -> Ipv4Addr {
        self.slot().addr()
    }

    /// The machine's unique local address on its wire.
    fn addr6(&self) -> Ipv6Addr {
        self.slot().addr6()
    }

    /// Waits until cloud-init has ended its work of a first boot; gives what `cloud-init status --long` says then. Its
    /// exit status is 0 if all went well, 1 after an error, 2 after one that was got over.
    fn first_boot(&self, limit: Duration) -> Output {
        let deadline = Instant::now() + limit;
        loop {
            let said = self.run(&["timeout", "60", "cloud-init", "status", "--wait", "--long"]);
            // 124 is the time limit's; 255 is ssh's, when the connection is lost.
            if !matches!(said.status.code(), Some(124 | 255)) {
                return said;
            }
            assert!(
                Instant::now() < deadline,
                "cloud-init is not done after {limit:?}\n{}",
                self.complaints()
            );
        }
    }

    /// A login by ssh as root or [`account`](Self::account), as soon as sshd answers.
    fn login(&self, user: &str) -> Login {
        Login::new(self.slot(), user, IpAddr::V4(self.addr()), self.patience(60))
    }

    /// Runs a command inside to its end, without input.
    fn run(&self, argv: &[&str]) -> Output {
        output(self.command(argv).stdin(Stdio::null()))
    }

    /// Runs a command inside, which must succeed, and gives its standard output.
    fn run_ok(&self, argv: &[&str]) -> String {
        let output = self.run(argv);
        assert!(output.status.success(), "in the droplet, {}", describe(&format!("{argv:?}"), &output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script of `sh -eu` inside, which must succeed, and gives its standard output.
    fn sh(&self, script: &str) -> String {
        self.run_ok(&["sh", "-euc", script])
    }

    /// Runs a command inside with `input` on its standard input; it must succeed. Gives its standard output.
    fn feed(&self, argv: &[&str], input: &[u8]) -> String {
        let mut command = self.command(argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|err| panic!("{}", cannot_run(&command, &err)));
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // A command that does not read to the end says why on its own.
            let writer = scope.spawn(move || stdin.write_all(input).is_ok());
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap();
            output
        });
        assert!(output.status.success(), "in the droplet, {}", describe(&format!("{argv:?}"), &output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes a file inside, owned by root, and makes the directories above it.
    fn write_file(&self, path: &str, bytes: &[u8], mode: u32) {
        self.feed(&["install", "-D", "-m", &format!("{mode:o}"), "/dev/stdin", path], bytes);
    }

    /// Copies a file or a directory of this machine to `to` inside, with its modes, owned by root. `to` names the
    /// copy itself and does not exist yet if `from` is a directory.
    fn copy_in(&self, from: &Path, to: &str) {
        if from.is_dir() {
            let archive = output(Command::new("tar").arg("-C").arg(from).args(["-c", "."]));
            assert!(archive.status.success(), "{}", describe("tar", &archive));
            self.run_ok(&["mkdir", "-p", to]);
            self.feed(&["tar", "-C", to, "--no-same-owner", "-xp"], &archive.stdout);
        } else {
            let mode = fs::metadata(from).unwrap().permissions().mode() & 0o7777;
            self.write_file(to, &fs::read(from).unwrap(), mode);
        }
    }
}

/// A script for `sh` that says what a person wants to read when something is wrong: failed units, waiting jobs, warnings.
pub(crate) const COMPLAINTS: &str =
    "systemctl --failed --no-legend --plain; systemctl list-jobs --no-legend --plain
journalctl --boot --no-pager --quiet --priority=warning --lines=40
if [ -e /var/log/cloud-init.log ]; then
  grep -aE -A20 'WARNING|ERROR|Traceback' /var/log/cloud-init.log | tail -n 60
  tail -n 20 /var/log/cloud-init-output.log
fi";

/// The disk of a machine that was down, for machines of the same size to start from. It occupies a slot, whose warden
/// removes it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    slot: Slot,
}

impl Snapshot {
    /// Copies `names`, files or directories, from the state of a machine.
    pub(crate) fn of(state: &Path, names: &[&str]) -> Self {
        let slot = Slot::take();
        for name in names {
            copy(&state.join(name), &slot.state.join(name));
        }
        Self { slot }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.slot.state.clone()
    }
}

/// Copies a file or directory with all that belongs to it, sharing blocks and leaving holes where that can be.
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    stdout(cp.args(["--archive", "--reflink=auto", "--sparse=always", "-T"]).arg(from).arg(to));
}
