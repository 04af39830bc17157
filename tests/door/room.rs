//! A room of a test's own: the test starts itself again in fresh mount, network and process namespaces, so that it can have
//! the machine's own paths, ports and addresses, and nothing that it starts outlives it.

use std::env;
use std::process::{Command, Stdio};

/// In the environment of a test that is inside.
const INSIDE: &str = "BUNDLE_DOOR_INSIDE";

/// A test whose body runs in a room.
macro_rules! in_a_room {
    ($(#[$about:meta])* fn $name:ident() $body:block) => {
        $(#[$about])*
        #[test]
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            $crate::room::run(path, || $body);
        }
    };
}

/// Runs `body` inside; `path` is the test's own, with the crate's name before it.
pub(crate) fn run(path: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        furnish();
        return body();
    }
    assert!(rustix::process::geteuid().is_root(), "these tests run as root");
    let name = path.split_once("::").unwrap().1;
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // By way of the test harness, which shows it if it is wanted.
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} failed in its room: {}", output.status);
}

/// The directories of a droplet that are ours, empty, and addresses for everybody.
fn furnish() {
    for directory in ["/var/lib/bundle", "/run/bundle-haproxy"] {
        std::fs::create_dir_all(directory).unwrap();
        sh(&format!("mount -t tmpfs -o mode=755 none {directory}"));
    }
    sh("chown haproxy:haproxy /run/bundle-haproxy && ip link set lo up");
}

/// An address that this room's machine has: who connects to it comes from it.
pub(crate) fn address(address: &str) {
    let bits = if address.contains(':') { 128 } else { 32 };
    sh(&format!("ip address add {address}/{bits} dev lo"));
}

/// Runs a script of the shell and gives what it printed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "`{script}`: {}: {out}{err}", output.status);
    out.into_owned()
}

/// Fails with a clear sentence where a program of Debian is missing.
pub(crate) fn needs(program: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    assert!(found.status.success(), "there is no `{program}` on this machine: run tests/setup as root");
}
