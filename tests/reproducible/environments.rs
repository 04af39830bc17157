//! One digest over every combination of eight differences between two machines: 256 builds by whole processes.
//!
//! The clock is `faketime`'s, which a program without shared libraries does not hear of; so it counts for the
//! development build only, and its own test shows that there it is really another. The order of directories is
//! `disorderfs`', which stands on FUSE.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Place, as_another, open_to_all};

/// A directory through which another one is seen with its entries shuffled.
struct Shuffled {
    path: PathBuf,
}

impl Shuffled {
    fn of(directory: &Path) -> Self {
        let path = directory.with_extension("shuffled");
        fs::create_dir(&path).unwrap();
        let users = if rustix::process::geteuid().is_root() { "--multi-user=yes" } else { "--multi-user=no" };
        let mounted = Command::new("disorderfs")
            .args([users, "--shuffle-dirents=yes", "--reverse-dirents=no", "--quiet"])
            .args([directory, &path])
            .output()
            .expect("disorderfs is installed (apt install disorderfs)");
        let said = String::from_utf8_lossy(&mounted.stderr).into_owned();
        assert!(mounted.status.success(), "disorderfs needs FUSE (`/dev/fuse`, the module `fuse`): {said}");
        Self { path }
    }
}

impl Drop for Shuffled {
    fn drop(&mut self) {
        drop(Command::new("fusermount").args(["-u", "-z"]).arg(&self.path).status());
    }
}

fn order(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_directory_order_of_that_test_is_really_another() {
    let place = Place::new("order");
    let profiles = place.path.join("profiles");
    for nth in 0..50 {
        fs::write(profiles.join(format!("{nth}.toml")), "").unwrap();
    }
    let shuffled = Shuffled::of(&place.path);
    let orders: BTreeSet<Vec<String>> = (0..5).map(|_| order(&shuffled.path.join("profiles"))).collect();
    assert!(orders.len() > 1, "{orders:?}");
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert!(orders.into_iter().all(|names| sorted(names) == sorted(order(&profiles))));
}

/// The eight differences: what each is called, and its two sides.
const DIFFERENCES: [(&str, [&str; 2]); 8] = [
    ("directory", ["here", "elsewhere, with spaces and Ünïcödé"]),
    ("directory order", ["as it is", "shuffled"]),
    ("user", ["this one", "another"]),
    ("umask", ["0022", "0077"]),
    ("time zone, locale and home", ["those of this machine", "of another"]),
    ("clock", ["now", "2099"]),
    ("processors", ["all", "one"]),
    ("program", ["for development", "released"]),
];

/// The words in front of the program, for the sides of the differences.
fn wrap(sides: u8) -> Vec<&'static str> {
    let other = |nth: usize| sides >> nth & 1 == 1;
    let mut words = Vec::new();
    if other(2) {
        words.extend(as_another());
    }
    words.extend(["sh", "-c"]);
    words.push(if other(3) { "umask 0077; exec \"$0\" \"$@\"" } else { "umask 0022; exec \"$0\" \"$@\"" });
    words.push("env");
    if other(4) {
        words.extend([
            "-i",
            "PATH=/usr/bin:/bin",
            "TZ=Pacific/Kiritimati",
            "LC_ALL=tr_TR.UTF-8",
            "LANGUAGE=tr",
        ]);
        words.extend(["HOME=/nonexistent", "SOURCE_DATE_EPOCH=1", "NO_COLOR=1", "RUST_BACKTRACE=full"]);
    }
    if other(5) {
        words.extend(["faketime", "2099-12-31 23:59:59"]);
    }
    if other(6) {
        words.extend(["taskset", "--cpu-list", "0"]);
    }
    words
}

fn released() -> PathBuf {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/x86_64-unknown-linux-gnu/release/bundle");
    assert!(program.is_file(), "there is no `{}`; run `cargo static` first", program.display());
    program
}

#[test]
fn one_digest_over_two_hundred_and_fifty_six_environments() {
    let places = DIFFERENCES[0].1.map(Place::new);
    let shuffled = places.each_ref().map(|place| Shuffled::of(&place.path));
    for place in &places {
        let copied = Command::new("cp").arg(released()).arg(place.path.join("released")).status().unwrap();
        assert!(copied.success());
        open_to_all(&place.path.join("released"));
    }
    let mut digests: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for sides in 0..=u8::MAX {
        let side = |nth: usize| usize::from(sides >> nth & 1);
        let directory = match side(1) {
            0 => &places[side(0)].path,
            _ => &shuffled[side(0)].path,
        };
        let root = directory.join("tmp").join(sides.to_string());
        let words = wrap(sides);
        let program = directory.join(["bundle", "released"][side(7)]);
        let output = Command::new(words[0])
            .args(&words[1..])
            .arg(program)
            .arg("--root")
            .arg(&root)
            .args(["--json", "build", "production"])
            .current_dir(directory)
            .output()
            .unwrap_or_else(|error| panic!("`{}`: {error}", words[0]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", named(sides));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        // The manifest's digest covers every byte that travels, the bundle's what they mean.
        let digest = format!("{} {}", json["bundle"], json["manifest"]);
        digests.entry(digest).or_default().push(sides);
    }
    let told: Vec<_> = digests
        .iter()
        .map(|(digest, all)| format!("{digest}: {} environments, such as {}", all.len(), named(all[0])))
        .collect();
    assert_eq!(digests.len(), 1, "{told:#?}");
    println!("{}", told[0]);
}

fn named(sides: u8) -> String {
    let side = |(nth, (what, sides_of)): (usize, &(&str, [&str; 2]))| {
        format!("{what}: {}", sides_of[usize::from(sides >> nth & 1)])
    };
    DIFFERENCES.iter().enumerate().map(side).collect::<Vec<_>>().join(", ")
}
