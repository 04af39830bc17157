//! A droplet as a virtual machine: a stock disk with a kernel of its own, emulated by QEMU, so that it works on a machine
//! without virtualisation. Entered by ssh only, over the same kind of wire as the droplet in namespaces.
//!
//! One test at a time has virtual machines; others wait for it. They occupy slots as other droplets do: QEMU is in
//! the slot's cgroup and the wire has the slot's name, so that the warden clears them away.

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine::{COMPLAINTS, Machine, Snapshot, copy};
use crate::mirror::Mirror;
use crate::seed::{Options, Seed};
use crate::slot::{Slot, cannot_run, describe, output, stdout};
use crate::ssh::{Login, make_key, quoted};
use crate::stock::{Stock, hosts, seed_files};

const ENVIRONMENT: &str =
    "env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8";

/// How long a boot may take, on a busy machine, until sshd answers.
const BOOT_LIMIT: Duration = Duration::from_mins(8);

/// A virtual machine. Dropped, it is gone with all it was made of.
#[derive(Debug)]
pub(crate) struct Vm {
    // In this order: the connection, the machine and the mirror end before the warden clears up after them.
    connection: Mutex<Option<Connection>>,
    machine: Option<Emulator>,
    _mirror: Mirror,
    slot: Slot,
    stock: Stock,
    options: Options,
    took: Duration,
    _turn: Arc<File>,
}

/// A running QEMU.
#[derive(Debug)]
struct Emulator(Child);

/// A login that stays open for all commands: logging in takes an emulated machine a second.
#[derive(Debug)]
struct Connection(Child);

impl Vm {
    /// Boots a fresh machine and waits until commands can be run inside.
    pub(crate) fn boot(options: &Options) -> Self {
        let turn = turn();
        let stock = Stock::of(options.stock.as_deref().unwrap_or("trixie"));
        let slot = Slot::take();
        make_key(&slot.state);
        let began = Instant::now();
        let from = options.snapshot.as_ref().map_or_else(|| stock.disk(), |dir| dir.join("disk.img"));
        copy(&from, &slot.state.join("disk.img"));
        let own = Options::default().seed("/etc/hosts", 0o644, hosts(&slot));
        write_to_disk(&slot.state, own.seeds.iter().chain(&options.seeds));
        make_seed_disk(&slot, &options.user_data);
        println!("vm {}: disk ready after {:.1} s", slot.number, began.elapsed().as_secs_f64());
        lay_wire(&slot);
        let mirror = Mirror::start(slot.host_addr(), &stock.mirror(), &slot.state.join("mirror.log"));
        let mut vm = Self {
            connection: Mutex::new(None),
            machine: None,
            _mirror: mirror,
            slot,
            stock,
            options: options.clone(),
            took: Duration::ZERO,
            _turn: turn,
        };
        vm.start();
        vm
    }

    fn start(&mut self) {
        let began = Instant::now();
        let state = &self.slot.state;
        let file = |name: &str| state.join(name).display().to_string();
        let mut qemu = in_cgroup(&self.slot);
        qemu.args(["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-display", "none"]);
        // Page tables of five levels and virtualisation within only cost an emulator time.
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-cpu", "max,la57=off,svm=off"]);
        qemu.args(["-m", &self.options.memory.to_string()]);
        qemu.arg("-kernel").arg(self.stock.kernel()).arg("-initrd").arg(self.stock.initrd());
        qemu.args(["-append", "root=LABEL=root rw quiet console=ttyS0 net.ifnames=0 panic=-1"]);
        qemu.args(["-drive", &format!("file={},if=virtio,format=raw,cache=unsafe", file("disk.img"))]);
        qemu.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", file("seed.iso"))]);
        let wire = self.slot.wire();
        qemu.args(["-netdev", &format!("tap,id=wire,ifname={wire},script=no,downscript=no")]);
        let mac = format!("52:54:00:62:75:{:02x}", self.slot.number);
        qemu.args(["-device", &format!("virtio-net-pci,netdev=wire,mac={mac}"), "-device", "virtio-rng-pci"]);
        qemu.args(["-serial", &format!("file:{}", file("serial.log"))]);
        qemu.args(["-rtc", &format!("base={}", self.options.clock.as_deref().unwrap_or("utc"))]);
        let log = File::create(state.join("log")).unwrap();
        qemu.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = qemu.spawn().unwrap_or_else(|err| panic!("{}", cannot_run(&qemu, &err)));
        self.machine = Some(Emulator(child));
        self.wait_for_ssh(began + BOOT_LIMIT, "");
        self.took = began.elapsed();
    }

    /// Waits until a login works, on a boot with another ID than `old`.
    fn wait_for_ssh(&mut self, deadline: Instant, old: &str) {
        loop {
            let machine = self.machine.as_mut().expect("it was started");
            if let Some(status) = machine.0.try_wait().unwrap() {
                panic!("the machine went down while booting: {status}\n{}", self.console());
            }
            if self.connect() {
                let id = self.run(&["cat", "/proc/sys/kernel/random/boot_id"]);
                if id.status.success() && id.stdout != old.as_bytes() {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "no login by ssh after {BOOT_LIMIT:?}\n{}", self.console());
            sleep(Duration::from_millis(500));
        }
    }

    /// Logs in, if the last login is over; says whether that worked.
    fn connect(&self) -> bool {
        let mut connection = self.connection.lock().unwrap();
        if let Some(Connection(ssh)) = connection.as_mut()
            && matches!(ssh.try_wait(), Ok(None))
        {
            return true;
        }
        let socket = self.slot.state.join("ssh/control");
        fs::remove_file(&socket).ok();
        let mut ssh = in_cgroup(&self.slot);
        ssh.arg("ssh").args(self.ssh_options());
        ssh.args(["-oConnectTimeout=20", "-oServerAliveInterval=20", "-N", "-M"]).arg(self.destination());
        ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = ssh.spawn().unwrap_or_else(|err| panic!("{}", cannot_run(&ssh, &err)));
        // The socket appears once the login is through.
        while !socket.exists() {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            sleep(Duration::from_millis(20));
        }
        *connection = Some(Connection(child));
        true
    }

    fn ssh_options(&self) -> Vec<String> {
        let dir = self.slot.state.join("ssh").display().to_string();
        // Who answers on the wire need not be proven here; [`Machine::login`] is for those who want to know.
        [
            "-Fnone",
            "-oBatchMode=yes",
            "-oIdentitiesOnly=yes",
            "-oStrictHostKeyChecking=no",
            "-oLogLevel=ERROR",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([
            "-oUserKnownHostsFile=/dev/null".to_owned(),
            format!("-oIdentityFile={dir}/key"),
            format!("-oControlPath={dir}/control"),
        ])
        .collect()
    }

    fn destination(&self) -> String {
        format!("{}@{}", self.stock.account(), self.slot.addr())
    }

    /// What the machine wrote to its serial console, the end of it, and QEMU's own words.
    fn console(&self) -> String {
        let read = |name: &str| {
            let bytes = fs::read(self.slot.state.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(8000)..]).into_owned()
        };
        format!("{}\n{}", read("log"), read("serial.log"))
    }

    fn down(&mut self) {
        drop(self.connection.lock().unwrap().take());
        drop(self.machine.take());
    }
}

impl Machine for Vm {
    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn command(&self, argv: &[&str]) -> Command {
        self.connect();
        let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
        let line = format!("sudo -n -- {ENVIRONMENT} timeout --kill-after=5 300 {}", words.join(" "));
        let mut ssh = Command::new("ssh");
        // Where the connection is gone, ssh makes one of its own, which fails in time.
        ssh.args(self.ssh_options()).args(["-oConnectTimeout=20", "-oServerAliveInterval=20"]);
        ssh.arg(self.destination()).arg("--").arg(line);
        ssh
    }

    fn boot_time(&self) -> Duration {
        self.took
    }

    fn patience(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds * 8)
    }

    fn account(&self) -> &str {
        self.stock.account()
    }

    fn power_off(&mut self) {
        if self.machine.is_some() {
            self.run(&["systemctl", "poweroff"]);
        }
        let deadline = Instant::now() + BOOT_LIMIT;
        while let Some(machine) = &mut self.machine {
            if machine.0.try_wait().unwrap().is_some() {
                break;
            }
            assert!(Instant::now() < deadline, "the machine does not go down\n{}", self.console());
            sleep(Duration::from_millis(100));
        }
        self.down();
    }

    fn reboot(&mut self) {
        let began = Instant::now();
        let old = self.run_ok(&["cat", "/proc/sys/kernel/random/boot_id"]);
        self.run(&["systemctl", "reboot"]);
        self.wait_for_ssh(began + BOOT_LIMIT, &old);
        self.took = began.elapsed();
    }

    fn cut_power(&mut self) {
        self.down();
    }

    fn boot_again(&mut self) {
        self.down();
        self.start();
    }

    fn snapshot(&mut self) -> Snapshot {
        self.power_off();
        Snapshot::of(&self.slot.state, &["disk.img"])
    }

    fn complaints(&self) -> String {
        let output = self.run(&["sh", "-c", COMPLAINTS]);
        format!("{}{}", self.console(), String::from_utf8_lossy(&output.stdout))
    }

    fn login(&self, user: &str) -> Login {
        Login::new(&self.slot, user, IpAddr::V4(self.addr()), BOOT_LIMIT)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() && self.machine.is_some() {
            eprintln!("vm {} says:\n{}", self.slot.number, self.complaints());
        }
        self.down();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The right to have virtual machines, shared by those of one test, which is one thread.
fn turn() -> Arc<File> {
    thread_local! {
        static TURN: RefCell<Weak<File>> = const { RefCell::new(Weak::new()) };
    }
    TURN.with_borrow_mut(|turn| {
        turn.upgrade().unwrap_or_else(|| {
            fs::create_dir_all("/run/bundle-tests").unwrap();
            let lock = File::create("/run/bundle-tests/vm.lock").unwrap();
            lock.lock().unwrap();
            let lock = Arc::new(lock);
            *turn = Arc::downgrade(&lock);
            lock
        })
    })
}

/// A command whose process, from the first moment, is one that the slot's warden ends.
fn in_cgroup(slot: &Slot) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", r#"echo $$ >"$1/cgroup.procs"; shift; exec "$@""#, "sh"]).arg(&slot.cgroup);
    command
}

/// Lays the wire: a tap device with this machine's addresses, for QEMU to hold the other end of.
fn lay_wire(slot: &Slot) {
    let wire = slot.wire();
    let ip = |args: &[&str]| stdout(Command::new("ip").args(args));
    ip(&["tuntap", "add", "dev", &wire, "mode", "tap"]);
    ip(&["address", "add", &format!("{}/24", slot.host_addr()), "dev", &wire]);
    ip(&["address", "add", &format!("{}/64", slot.host_addr6()), "dev", &wire, "nodad"]);
    ip(&["link", "set", &wire, "up"]);
}

/// The `NoCloud` source as a disk of its own.
fn make_seed_disk(slot: &Slot, user_data: &str) {
    let dir = slot.state.join("seed");
    fs::create_dir(&dir).unwrap();
    for (name, text) in seed_files(slot, user_data, true) {
        fs::write(dir.join(name), text).unwrap();
    }
    let mut make = Command::new("genisoimage");
    make.args(["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output"]);
    stdout(make.arg(slot.state.join("seed.iso")).arg(&dir));
}

/// Lays files down on the disk of a machine that is down, owned by root, with the means of the file system's own
/// debugger: nothing is mounted here.
fn write_to_disk<'a>(state: &Path, seeds: impl Iterator<Item = &'a Seed>) {
    let disk = state.join("disk.img");
    // A disk that lost its power has a journal to be played first. 1: errors were corrected.
    let checked = output(Command::new("e2fsck").arg("-fp").arg(&disk));
    assert!(matches!(checked.status.code(), Some(0 | 1)), "{}", describe("e2fsck", &checked));
    let source = state.join("seed-file");
    for seed in seeds {
        fs::write(&source, &seed.bytes).unwrap();
        let path = seed.path.display();
        let mut script: Vec<String> =
            seed.path.parent().unwrap().ancestors().map(|dir| format!("mkdir {}", dir.display())).collect();
        script.pop();
        script.reverse();
        script.push(format!("rm {path}\nwrite {} {path}", source.display()));
        script.push(format!(
            "sif {path} mode 0{:o}\nsif {path} uid 0\nsif {path} gid 0\n",
            0o100_000 | seed.mode
        ));
        let commands = state.join("seed-commands");
        fs::write(&commands, script.join("\n")).unwrap();
        let said = output(Command::new("debugfs").arg("-w").arg("-f").arg(&commands).arg(&disk));
        // Its exit status says nothing.
        let there = output(Command::new("debugfs").args(["-R", &format!("cat {path}")]).arg(&disk));
        assert!(there.stdout == seed.bytes, "{}", describe("debugfs", &said));
    }
}
