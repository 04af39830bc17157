//! What a droplet occupies on this machine: a number, and by it a directory, a cgroup, the name of its wire and
//! its addresses. A slot is taken by locking a file, so that its owner's death frees it, and is emptied by a
//! warden: a process of its own that outlives its owner for as long as the cleaning takes. Should the warden
//! have been killed too, whoever next takes any slot empties the abandoned ones first.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Where the locks of the slots are.
const LOCKS: &str = "/run/bundle-tests";

/// A number that one running droplet has to itself, and the warden that watches over it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) number: u8,
    /// The overlay's upper directory, Docker's directories, the log of PID 1.
    pub(crate) state: PathBuf,
    pub(crate) cgroup: PathBuf,
    warden: Child,
    _lock: File,
}

impl Slot {
    /// Takes the first free number, after emptying the slots whose owners are gone.
    pub(crate) fn take() -> Self {
        sweep();
        for number in 1..=254 {
            if let Some(lock) = try_lock(number) {
                let (state, cgroup) = (state_dir(number), cgroup_dir(number));
                let mut owner = &lock;
                owner.set_len(0).unwrap();
                // The last line tells apart those who have had the slot from one process.
                let nonce = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
                write!(owner, "{}\n{}\n{nonce}", state.display(), std::process::id()).unwrap();
                let warden = warden(number, &state, &lock).stdin(Stdio::piped()).spawn().unwrap();
                fs::create_dir_all(&state).unwrap();
                fs::create_dir(&cgroup).unwrap();
                return Self { number, state, cgroup, warden, _lock: lock };
            }
        }
        panic!("254 droplets are running already: see {}", slots_dir().display());
    }

    pub(crate) fn warden_pid(&self) -> u32 {
        self.warden.id()
    }

    /// The public half of the slot's ssh key, as it stands in `authorized_keys`.
    pub(crate) fn public_key(&self) -> String {
        fs::read_to_string(self.state.join("ssh/key.pub")).unwrap().trim().to_owned()
    }

    /// The name of this machine's end of the wire.
    pub(crate) fn wire(&self) -> String {
        wire(self.number)
    }

    /// This machine's address on the wire.
    pub(crate) fn host_addr(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 1)
    }

    /// The droplet's address on the wire.
    pub(crate) fn addr(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 2)
    }

    /// This machine's unique local address (RFC 4193) on the wire.
    pub(crate) fn host_addr6(&self) -> Ipv6Addr {
        // The digits of the number are read as hexadecimal ones, as `init.sh` writes them.
        format!("fd62:756e:646c:{}::1", self.number).parse().unwrap()
    }

    /// The droplet's unique local address on the wire.
    pub(crate) fn addr6(&self) -> Ipv6Addr {
        format!("fd62:756e:646c:{}::2", self.number).parse().unwrap()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        let ended = self.warden.wait();
        if !std::thread::panicking() {
            let status = ended.unwrap();
            assert!(status.success(), "the warden of droplet {} ended with {status}", self.number);
        }
    }
}

/// Empties every slot whose owner and warden are both gone.
pub(crate) fn sweep() {
    for number in 1..=254 {
        // The lock does not survive a restart of this machine, the directory does.
        if !lock_path(number).exists() && !state_dir(number).exists() {
            continue;
        }
        let Some(lock) = try_lock(number) else { continue };
        // The owner's cache need not have been ours.
        let recorded = fs::read_to_string(lock_path(number)).unwrap();
        let recorded = recorded.lines().next().map_or_else(|| state_dir(number), PathBuf::from);
        for state in BTreeSet::from([recorded, state_dir(number)]) {
            if state.exists() || cgroup_dir(number).exists() {
                let status = warden(number, &state, &lock).stdin(Stdio::null()).status().unwrap();
                assert!(status.success(), "cleaning up after droplet {number}, whose test is gone: {status}");
            }
        }
    }
}

/// The path of a script that stands next to this file.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/droplet").join(name)
}

/// The stock Debian tree, where `tests/setup` says it is.
pub(crate) fn tree() -> PathBuf {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup");
    let tree = PathBuf::from(stdout(Command::new(setup).arg("--tree")).trim());
    assert!(tree.is_dir(), "there is no Debian tree at {}: run `tests/setup` first", tree.display());
    tree
}

/// Runs `command` to its end. A program that is not there is named in the panic.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|err| panic!("{}", cannot_run(command, &err)))
}

/// Runs `command`, which must succeed, and gives its standard output.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{}", describe(&format!("{command:?}"), &output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Why `command` could not be started, and what to do about it.
pub(crate) fn cannot_run(command: &Command, err: &std::io::Error) -> String {
    format!("cannot run {}: {err}; run `tests/setup` first", command.get_program().display())
}

/// A failed command with all that it said.
pub(crate) fn describe(what: &str, output: &Output) -> String {
    format!(
        "{what}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn slots_dir() -> PathBuf {
    let cache = std::env::var_os("BUNDLE_TEST_CACHE").unwrap_or_else(|| "/var/cache/bundle-tests".into());
    PathBuf::from(cache).join("droplets")
}

fn state_dir(number: u8) -> PathBuf {
    slots_dir().join(number.to_string())
}

/// Who has a slot, or had it last, as it stands in its lock.
pub(crate) fn owner(number: u8) -> String {
    fs::read_to_string(lock_path(number)).unwrap_or_default()
}

/// The directory and the cgroup of a slot, taken or not.
pub(crate) fn places(number: u8) -> (PathBuf, PathBuf) {
    (state_dir(number), cgroup_dir(number))
}

/// Numbers are the machine's, whatever the cache: they name links, addresses and cgroups.
fn lock_path(number: u8) -> PathBuf {
    Path::new(LOCKS).join(format!("{number}.lock"))
}

fn wire(number: u8) -> String {
    format!("bundle{number}")
}

fn cgroup_dir(number: u8) -> PathBuf {
    cgroup_root().join(format!("bundle-test-{number}"))
}

/// Where this machine has mounted the unified hierarchy: `/sys/fs/cgroup`, or `unified` below it where version 1
/// is mounted beside it.
fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.find(|mount| mount.get(2) == Some(&"cgroup2"));
    let Some(mount) = found else { panic!("no cgroup2 hierarchy is mounted on this machine") };
    PathBuf::from(mount[1])
}

/// The lock of a slot, if nobody has it. It stays where it is for good: a lock file that is removed can be held
/// twice.
fn try_lock(number: u8) -> Option<File> {
    assert!(rustix::process::geteuid().is_root(), "droplets are booted by root: run this test as root");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(LOCKS).unwrap();
    let path = lock_path(number);
    let file = File::options().create(true).truncate(false).write(true).open(&path).unwrap();
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(err)) => panic!("locking {}: {err}", path.display()),
    }
}

/// The warden's command. It shares the lock through its standard output, so that the slot is not free before it
/// has cleaned up; it has a session of its own, so that no Ctrl-C reaches it.
fn warden(number: u8, state: &Path, lock: &File) -> Command {
    let mut command = Command::new("setsid");
    command.arg("sh").arg(script("warden.sh"));
    command.arg(state).arg(cgroup_dir(number)).arg(wire(number));
    command.stdout(lock.try_clone().unwrap());
    command
}
