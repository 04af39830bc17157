//! Images that run: unpacked, in a mount namespace of their own, started as the tests' profiles start them.

use std::fs;
use std::path::Path;
use std::process::Command;

use bundle::debian::{Options, User, layers};

use super::{locked, run, unpack};

const POSTGRES: [&str; 9] = [
    "postgresql-17",
    "locales-all",
    "libc-bin",
    "bash",
    "dash",
    "coreutils",
    "util-linux",
    "base-passwd",
    "sed",
];
const REDIS: [&str; 6] = ["redis-server", "libc-bin", "bash", "coreutils", "util-linux", "grep"];
const PYTHON: [&str; 8] = [
    "python3",
    "python3-psycopg-c",
    "python3-psycopg-pool",
    "python3-redis",
    "python3-uvicorn",
    "python3-websockets",
    "libc-bin",
    "ca-certificates",
];

/// Runs a shell's words in the unpacked image.
fn inside(root: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
    command.arg("mount -t tmpfs none \"$0/tmp\" && mount -t devtmpfs none \"$0/dev\" && mount -t proc none \"$0/proc\" && exec chroot \"$0\" \"$@\"");
    command.arg(root).arg(program).args(arguments);
    command
        .env_clear()
        .env("PATH", "/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    String::from_utf8(run(&mut command)).unwrap()
}

fn made(packages: &[&str], exclude: &[&str], user: (&str, u32)) -> tempfile::TempDir {
    let (lock, cache) = locked(packages);
    let exclude: Vec<_> = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
    let (name, id) = user;
    let user =
        User { name: name.to_owned(), uid: id, gid: id, home: "/".to_owned(), shell: "/bin/sh".to_owned() };
    let users = [user];
    let options = Options { exclude: &exclude, users: &users, threads: 2, ..Options::default() };
    let layers = layers(&lock, &cache, &options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    unpack(&layers, folder.path());
    folder
}

#[test]
fn postgres_initialises_a_cluster_and_answers_a_query() {
    let exclude =
        ["usr/share/doc/**", "usr/share/man/**", "usr/lib/locale/*/**", "!usr/lib/locale/{C,en_US}.utf8/**"];
    let root = made(&POSTGRES, &exclude, ("postgres", 999));
    let script = "set -e; id -un; export LANG=en_US.utf8 PGDATA=/tmp/data; initdb --no-sync -E UTF8 >/dev/null\n\
        echo \"select 6 * 7 as answer, datcollate from pg_database where datname = 'template1'\" |\n\
        postgres --single -D $PGDATA postgres";
    let said = inside(
        root.path(),
        "setpriv",
        &["--reuid=999", "--regid=999", "--clear-groups", "bash", "-c", script],
    );
    assert!(
        said.starts_with("postgres\n") && said.contains("answer = \"42\"") && said.contains("en_US.utf8"),
        "{said}"
    );
    assert!(inside(root.path(), "postgres", &["--version"]).contains("(PostgreSQL) 17."));
}

#[test]
fn redis_answers() {
    let root = made(&REDIS, &["usr/share/doc/**"], ("redis", 999));
    let script = "redis-server --port 0 --unixsocket /tmp/s --save '' --daemonize yes >/dev/null\n\
        for i in $(seq 100); do redis-cli -s /tmp/s ping 2>/dev/null && break; sleep 0.1; done; redis-cli -s /tmp/s shutdown";
    let said = inside(
        root.path(),
        "setpriv",
        &["--reuid=redis", "--regid=redis", "--init-groups", "bash", "-c", script],
    );
    assert!(said.contains("PONG"), "{said}");
}

#[test]
fn python_finds_its_modules_and_its_certificates() {
    let root = made(&PYTHON, &[], ("app", 10001));
    let program = "import psycopg, psycopg_pool, redis, uvicorn, websockets, ssl, pwd\n\
        print(psycopg.pq.__impl__, pwd.getpwuid(10001).pw_name, len(ssl.create_default_context().get_ca_certs()) > 100)";
    assert_eq!(inside(root.path(), "python3", &["-c", program]), "c app True\n");
}
