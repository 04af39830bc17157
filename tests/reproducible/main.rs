//! The same profile, lock and files give the same digest: in another directory, for another user, with another umask,
//! time zone, locale, clock, environment and number of processors; and today as on the day `golden.tsv` was written.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests may")]

mod encoder;
mod environments;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const PROFILES: [&str; 3] = ["development", "production", "staging"];

/// A copy of the program and of the shipped profiles that everybody may read.
struct Place {
    _dir: TempDir,
    path: PathBuf,
}

fn open_to_all(path: &Path) {
    let program = path.ends_with("bundle") || path.ends_with("released");
    let mode = if path.is_dir() || program { 0o777 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        open_to_all(dir.path());
        let path = dir.path().join(name);
        let profiles = path.join("profiles");
        for directory in [&path, &profiles, &path.join("tmp")] {
            fs::create_dir(directory).unwrap();
            open_to_all(directory);
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
        let files: Vec<_> = fs::read_dir(shipped).unwrap().map(|entry| entry.unwrap().path()).collect();
        for file in files.iter().filter(|file| file.is_file()) {
            let copy = profiles.join(file.file_name().unwrap());
            fs::copy(file, &copy).unwrap();
            open_to_all(&copy);
        }
        let program = path.join("bundle");
        // By another process: what this one has open for writing, a child that another test forks has open too, and a
        // program that is open for writing cannot be run (execve(2), ETXTBSY).
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_bundle")).arg(&program).status().unwrap();
        assert!(copied.success());
        open_to_all(&program);
        Self { _dir: dir, path }
    }

    /// The bundle's digest, its OCI manifest's, and the layout's files with their content, after a build of `profile`
    /// by `wrap` followed by the program. Nothing else may be on stdout.
    fn build(&self, wrap: &[&str], profile: &str, adjust: impl Fn(&mut Command)) -> Built {
        let root = TempDir::new_in(self.path.join("tmp")).unwrap();
        open_to_all(root.path());
        let program = self.path.join("bundle").display().to_string();
        let words = [wrap, &[&program]].concat();
        let run = |more: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg("--root").arg(root.path()).args(["build", profile]).args(more);
            command.current_dir(&self.path).env("TMPDIR", self.path.join("tmp"));
            adjust(&mut command);
            let output = command.output().unwrap_or_else(|error| panic!("`{}`: {error}", words[0]));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{wrap:?}: {said}");
            String::from_utf8(output.stdout).unwrap()
        };
        let printed = run(&[]);
        let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
        let bundle = json["bundle"].as_str().unwrap().to_owned();
        assert_eq!(printed, format!("{bundle}\n"), "the digest on stdout, and nothing else");
        let mut files = BTreeMap::new();
        let layout = root.path().join("var/cache/bundle/layout");
        for entry in walkdir::WalkDir::new(&layout).into_iter().map(Result::unwrap) {
            if entry.file_type().is_file() {
                let path = entry.path().strip_prefix(&layout).unwrap().display().to_string();
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
        assert!(files.len() >= 4, "{:?}", files.keys());
        Built { bundle, manifest: json["manifest"].as_str().unwrap().to_owned(), files }
    }
}

#[derive(PartialEq, Eq)]
struct Built {
    bundle: String,
    manifest: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Built {
    #[track_caller]
    fn is(&self, other: &Self, how: &str) {
        assert_eq!(self.bundle, other.bundle, "{how}: another bundle");
        assert_eq!(self.manifest, other.manifest, "{how}: the same bundle in other layers");
        assert!(self.files == other.files, "{how}: another layout");
    }
}

/// Another user than this one: nobody for root, and root (of a namespace) for everybody else.
fn as_another() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        &["unshare", "--user", "--map-root-user"]
    }
}

#[test]
fn the_digest_does_not_depend_on_who_builds_where_and_when() {
    let here = Place::new("here");
    let there = Place::new("elsewhere, with spaces and Ünïcödé");
    let ways: [(&str, &[&str]); 10] = [
        ("another user", as_another()),
        ("no permissions for others", &["sh", "-c", "umask 0077; exec \"$0\" \"$@\""]),
        ("all permissions for others", &["sh", "-c", "umask 0000; exec \"$0\" \"$@\""]),
        ("a time zone in the east", &["env", "TZ=Pacific/Kiritimati"]),
        ("a time zone in the west", &["env", "TZ=Etc/GMT+12", "SOURCE_DATE_EPOCH=1"]),
        ("another locale", &["env", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "LANGUAGE=tr"]),
        ("no environment", &["env", "-i"]),
        ("long ago", &["faketime", "1971-01-01 00:00:00"]),
        ("far ahead", &["faketime", "2099-12-31 23:59:59"]),
        ("one processor", &["taskset", "--cpu-list", "0"]),
    ];
    for profile in PROFILES {
        let reference = here.build(&["env"], profile, |_| ());
        there.build(&["env"], profile, |_| ()).is(&reference, "another directory");
        let path = there.path.join(format!("profiles/{profile}.toml")).display().to_string();
        here.build(&["env"], &path, |command| {
            command.current_dir("/");
        })
        .is(&reference, "by an absolute path");
        let path = format!("./profiles/../profiles/{profile}.toml");
        here.build(&["env"], &path, |_| ()).is(&reference, "by a winding path");
        for (how, wrap) in ways {
            there.build(wrap, profile, |_| ()).is(&reference, how);
        }
    }
}

#[test]
fn the_clock_of_that_test_is_really_another() {
    let place = Place::new("clock");
    let root = place.path.join("machine");
    let run = Command::new("faketime")
        .arg("2099-12-31 23:59:59")
        .arg(place.path.join("bundle"))
        .arg("--root")
        .arg(&root)
        .args(["switch", "--generation", "0"])
        .output()
        .expect("faketime is installed (apt install faketime)");
    assert_eq!(run.status.code(), Some(10), "{}", String::from_utf8_lossy(&run.stderr));
    let record = fs::read_to_string(root.join("var/lib/bundle/generations/0/record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert!(record["created"].as_u64().unwrap() > 4_000_000_000, "{record}");
}

#[test]
fn a_build_can_check_itself() {
    let place = Place::new("check");
    for profile in PROFILES {
        let run = Command::new(place.path.join("bundle"))
            .current_dir(&place.path)
            .args(["--root", "builder", "build", "--check", profile])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("built twice"), "{said}");
    }
}

#[test]
fn what_means_nothing_changes_nothing_and_what_means_something_does() {
    let place = Place::new("meaning");
    let before = place.build(&["env"], "production", |_| ());
    let path = place.path.join("profiles/production.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("# A remark.\n\n{}", text.replace(" = ", "   =   "))).unwrap();
    place.build(&["env"], "production", |_| ()).is(&before, "remarks and blanks");
    let other = text.replace("requests_per_minute = 1000", "requests_per_minute = 999");
    assert_ne!(other, text);
    fs::write(&path, other).unwrap();
    assert_ne!(place.build(&["env"], "production", |_| ()).bundle, before.bundle);
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reproducible/golden.tsv");

#[test]
fn the_shipped_profiles_have_their_golden_digests() {
    let place = Place::new("golden");
    let lines: Vec<_> = PROFILES
        .iter()
        .map(|profile| {
            let built = place.build(&["env"], profile, |_| ());
            format!("{profile}\t{}\t{}", built.bundle, built.manifest)
        })
        .collect();
    let golden = fs::read_to_string(GOLDEN).unwrap();
    let is_remark = |line: &&str| line.starts_with('#');
    if std::env::var_os("BLESS").is_some() {
        let remarks = golden.lines().filter(is_remark).map(str::to_owned);
        let text: Vec<_> = remarks.chain(lines).collect();
        fs::write(GOLDEN, text.join("\n") + "\n").unwrap();
        return;
    }
    let written: Vec<_> = golden.lines().filter(|line| !is_remark(line)).collect();
    assert_eq!(lines, written, "what that means and what to do stands at the head of `{GOLDEN}`");
}
