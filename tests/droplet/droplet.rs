//! A droplet: the Debian tree under a directory of its own, in namespaces of its own, with systemd as PID 1.
//!
//! It has the kernel of this machine: it can load no module and set no clock, has the cgroup controllers that the
//! unified hierarchy offers here, and of the sysctls can write those under `net`. It reaches this machine and
//! nothing else (unless this machine forwards packets). A [`Droplet::kill`] loses every process at once, but not the page cache.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::machine::{COMPLAINTS, Machine, Snapshot, copy};
use crate::mirror::Mirror;
use crate::seed::{Options, remove_if_there};
use crate::slot::{Slot, output, script, stdout, tree};
use crate::ssh::make_key;
use crate::stock::{Stock, hosts, seed_files, seed_path};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a boot may take, on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// How long a command inside may take, in seconds; after that it is ended, and 124 is its exit status.
const COMMAND_LIMIT: &str = "300";

/// What of a droplet's state is its disk: the overlay's upper directory, and what cannot be on an overlay.
const DISK: [&str; 3] = ["upper", "docker", "containerd"];

/// A running droplet. Dropped, it is gone with all it was made of.
#[derive(Debug)]
pub(crate) struct Droplet {
    // Before the slot: the machine ends before the warden clears up after it.
    machine: Option<Boot>,
    mirror: Option<Mirror>,
    slot: Slot,
    tree: PathBuf,
    stock: Option<Stock>,
}

/// One boot of a droplet.
#[derive(Debug)]
struct Boot {
    /// `unshare`, the parent of PID 1: it dies with it, and it takes it along.
    parent: Child,
    init: OwnedFd,
    /// PID 1 as this machine numbers it.
    pid: u32,
    took: Duration,
}

impl Droplet {
    /// Boots a fresh droplet and waits until systemd says `running` or `degraded`; with a stock tree, only until
    /// commands can be run inside. `/etc/hosts` names the droplet itself, and this machine's end of the wire
    /// `registry.test` and, for the package mirror, as the distribution's archive.
    pub(crate) fn boot(options: &Options) -> Self {
        let stock = options.stock.as_deref().map(Stock::of);
        let tree = stock.as_ref().map_or_else(tree, Stock::tree);
        let slot = Slot::take();
        make_key(&slot.state);
        for dir in DISK.iter().chain(&["root", "work"]) {
            let made = slot.state.join(dir);
            if let Some(from) = options.snapshot.as_ref().filter(|_| DISK.contains(dir)) {
                copy(&from.join(dir), &made);
            } else {
                fs::create_dir(&made).unwrap();
                // The upper directory becomes the droplet's `/`, whatever this test's umask.
                fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let mut own = Options::default()
            .seed("/etc/hostname", 0o644, format!("droplet-{}\n", slot.number))
            .seed("/etc/hosts", 0o644, hosts(&slot));
        if stock.is_some() {
            for (name, text) in seed_files(&slot, &options.user_data, false) {
                own = own.seed(seed_path(name), 0o600, text);
            }
        } else {
            own = own.seed("/root/.ssh/authorized_keys", 0o600, slot.public_key() + "\n");
        }
        for seed in own.seeds.iter().chain(&options.seeds) {
            seed.write(&tree, &slot.state.join("upper"));
        }
        let mut droplet = Self { machine: None, mirror: None, slot, tree, stock };
        droplet.start();
        droplet
    }

    /// Boots again from the same disk, after a [`kill`](Self::kill) or after the droplet went down by itself. One
    /// that still runs loses its power first.
    pub(crate) fn boot_again(&mut self) {
        self.kill();
        self.start();
    }

    /// Loss of power, as far as processes go: PID 1 is killed, and the kernel kills all others with it.
    pub(crate) fn kill(&mut self) {
        drop(self.machine.take());
    }

    /// Waits until the droplet has gone down by itself, after a `systemctl reboot` or `poweroff` inside.
    pub(crate) fn wait_down(&mut self) {
        let Some(machine) = &mut self.machine else { return };
        let deadline = Instant::now() + BOOT_LIMIT;
        while machine.parent.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the droplet does not go down\n{}", self.complaints());
            sleep(Duration::from_millis(20));
        }
        self.machine = None;
    }

    /// The droplet's address on the wire.
    pub(crate) fn addr(&self) -> Ipv4Addr {
        self.slot.addr()
    }

    /// The droplet's unique local address on the wire.
    pub(crate) fn addr6(&self) -> Ipv6Addr {
        self.slot.addr6()
    }

    /// What the droplet occupies on this machine.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// PID 1 as this machine numbers it.
    pub(crate) fn pid(&self) -> u32 {
        self.machine().pid
    }

    /// How long the last boot took, from nothing to `systemctl is-system-running`.
    pub(crate) fn boot_time(&self) -> Duration {
        self.machine().took
    }

    /// A command inside, as root with an empty environment but for `PATH`, `HOME` and `LANG`, ready to be given
    /// its standard streams and spawned.
    pub(crate) fn command(&self, argv: &[&str]) -> Command {
        enter(self.machine().pid, argv)
    }

    /// See [`Machine::run`].
    pub(crate) fn run(&self, argv: &[&str]) -> Output {
        Machine::run(self, argv)
    }

    /// See [`Machine::run_ok`].
    pub(crate) fn run_ok(&self, argv: &[&str]) -> String {
        Machine::run_ok(self, argv)
    }

    /// See [`Machine::sh`].
    pub(crate) fn sh(&self, script: &str) -> String {
        Machine::sh(self, script)
    }

    /// See [`Machine::feed`].
    pub(crate) fn feed(&self, argv: &[&str], input: &[u8]) -> String {
        Machine::feed(self, argv, input)
    }

    /// See [`Machine::write_file`].
    pub(crate) fn write_file(&self, path: &str, bytes: &[u8], mode: u32) {
        Machine::write_file(self, path, bytes, mode);
    }

    /// See [`Machine::copy_in`].
    pub(crate) fn copy_in(&self, from: &Path, to: &str) {
        Machine::copy_in(self, from, to);
    }

    fn machine(&self) -> &Boot {
        self.machine.as_ref().expect("the droplet is down")
    }

    fn start(&mut self) {
        let began = Instant::now();
        let (parent, pid) = self.spawn();
        let init = pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
        self.machine = Some(Boot { parent, init, pid, took: Duration::ZERO });
        self.wire();
        let state = self.wait_up(began + BOOT_LIMIT);
        if state == "degraded" {
            eprintln!("droplet {}: {state}\n{}", self.slot.number, self.complaints());
        }
        if let Some(machine) = &mut self.machine {
            machine.took = began.elapsed();
        }
    }

    /// Starts `init.sh` in new namespaces and in the slot's cgroup; gives its parent and its process id.
    fn spawn(&self) -> (Child, u32) {
        let state = &self.slot.state;
        let pid_file = state.join("pid");
        for name in ["pid", "wired"] {
            remove_if_there(&state.join(name));
        }
        let log = OpenOptions::new().create(true).append(true).open(state.join("log")).unwrap();
        let mut command = Command::new("sh");
        // Into the cgroup before the namespaces are made: it is to be the root of the new cgroup namespace.
        command.args(["-euc", r#"echo $$ >"$1/cgroup.procs"; shift; exec "$@""#, "sh"]);
        command.arg(&self.slot.cgroup);
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net"]);
        command.args(["--cgroup", "sh"]).arg(script("init.sh")).arg(&self.tree).arg(state);
        command.arg(self.slot.number.to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let mut parent = command.spawn().unwrap();
        loop {
            if let Ok(pid) = fs::read_to_string(&pid_file) {
                return (parent, pid.trim().parse().unwrap());
            }
            if let Some(status) = parent.try_wait().unwrap() {
                panic!("cannot make namespaces: {status}\n{}", self.log());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Lays the wire: one end here, the other as `eth0` in the droplet.
    fn wire(&mut self) {
        let (slot, wire) = (&self.slot, self.slot.wire());
        // What was left by the boot before; the kernel takes its time with a dead namespace.
        drop(output(Command::new("ip").args(["link", "delete", &wire])));
        let pid = self.machine().pid.to_string();
        let ip = |args: &[&str]| stdout(Command::new("ip").args(args));
        ip(&["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        ip(&["address", "add", &format!("{}/24", slot.host_addr()), "dev", &wire]);
        ip(&["address", "add", &format!("{}/64", slot.host_addr6()), "dev", &wire, "nodad"]);
        ip(&["link", "set", &wire, "up"]);
        if let Some(stock) = &self.stock
            && self.mirror.is_none()
        {
            self.mirror =
                Some(Mirror::start(slot.host_addr(), &stock.mirror(), &slot.state.join("mirror.log")));
        }
        File::create(slot.state.join("wired")).unwrap();
    }

    /// Waits for systemd to have finished its boot; gives its own word for how that went.
    fn wait_up(&mut self, deadline: Instant) -> String {
        loop {
            let machine = self.machine.as_mut().expect("it was started");
            if let Some(status) = machine.parent.try_wait().unwrap() {
                panic!("the droplet went down while booting: {status}\n{}", self.log());
            }
            let pid = machine.pid;
            let said = output(enter(pid, &["systemctl", "is-system-running"]).stdin(Stdio::null()));
            let state = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            let answers = ["initializing", "starting"].contains(&&*state) && self.stock.is_some();
            if state == "running" || state == "degraded" || answers {
                return state;
            }
            assert!(
                Instant::now() < deadline,
                "the droplet is still `{state}` after {BOOT_LIMIT:?}\n{}",
                self.complaints()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// See [`COMPLAINTS`], and what the log has.
    fn complaints(&self) -> String {
        let output = self.run(&["sh", "-c", COMPLAINTS]);
        format!(
            "{}{}{}",
            self.log(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// What came from `init.sh` and from PID 1 itself.
    fn log(&self) -> String {
        let bytes = fs::read(self.slot.state.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Machine for Droplet {
    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn command(&self, argv: &[&str]) -> Command {
        Self::command(self, argv)
    }

    fn boot_time(&self) -> Duration {
        Self::boot_time(self)
    }

    fn patience(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn account(&self) -> &str {
        self.stock.as_ref().map_or("root", Stock::account)
    }

    fn power_off(&mut self) {
        if self.machine.is_some() {
            // The command may go down with its machine.
            self.run(&["systemctl", "poweroff"]);
            self.wait_down();
        }
    }

    fn reboot(&mut self) {
        self.run(&["systemctl", "reboot"]);
        self.wait_down();
        self.start();
    }

    fn cut_power(&mut self) {
        self.kill();
    }

    fn boot_again(&mut self) {
        Self::boot_again(self);
    }

    fn snapshot(&mut self) -> Snapshot {
        self.power_off();
        Snapshot::of(&self.slot.state, &DISK)
    }

    fn complaints(&self) -> String {
        Self::complaints(self)
    }
}

impl Drop for Droplet {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(machine) = &mut self.machine
            && matches!(machine.parent.try_wait(), Ok(None))
        {
            eprintln!("droplet {} says:\n{}", self.slot.number, self.complaints());
        }
        self.kill();
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        // Errors mean that it is gone already. The parent's end comes after the last process of the namespace.
        pidfd_send_signal(&self.init, Signal::KILL).ok();
        self.parent.wait().ok();
    }
}

/// `nsenter` into all namespaces of process `pid`.
fn enter(pid: u32, argv: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &pid.to_string(),
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--net",
        "--cgroup",
        "--",
    ]);
    command.args(["env", "-i", PATH, "HOME=/root", "LANG=C.UTF-8"]);
    // As PID 1 itself: the modules, the clock and the hardware are this machine's.
    command.args(["setpriv", "--bounding-set=-sys_module,-sys_time,-sys_rawio", "--"]);
    command.args(["timeout", "--kill-after=5", COMMAND_LIMIT]).args(argv);
    command
}
