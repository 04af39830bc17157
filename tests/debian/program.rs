//! The program with images of packages: how much memory a lock takes, what a build reads again, and how its cache is
//! cleared.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::archive::{Archive, Built};
use super::mirror;

/// What a lock may take at most, in KiB: 64 MiB, and 4 MiB for each of two threads, of which 8 MiB are the released
/// program's own pages. Those of the program under test, which is not optimised, are four times as many; so pages of
/// files are left out.
const MOST: u64 = (72 - 8) << 10;

const PROFILE: &str = include_str!("../support/web.toml");

/// A profile with an image of packages.
struct Project(TempDir);

impl Project {
    fn new(image: &str, debian: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let profile = PROFILE.replace("HOST", "localhost:5000");
        let text = format!("{profile}[images.web]\n{image}\n[debian]\n{debian}\n");
        fs::write(folder.path().join("p.toml"), text).unwrap();
        Self(folder)
    }

    /// Of packages of our own archive.
    fn of(archive: &Archive) -> Self {
        let url = &archive.url;
        let debian =
            format!("suite = \"testing\"\nmirror = \"{url}\"\nsecurity = \"{url}\"\nkeyring = \"keys.asc\"");
        let layers = "packages = [\"hello\"]\nlayers = [{ from = \"app\", to = \"/app\" }]";
        let project = Self::new(layers, &debian);
        fs::copy(archive.path("keys.asc"), project.0.path().join("keys.asc")).unwrap();
        fs::create_dir(project.0.path().join("app")).unwrap();
        fs::write(project.0.path().join("app/main"), "1").unwrap();
        assert!(project.run(&["lock", "p.toml"]).status.success());
        project
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.current_dir(self.0.path()).env_clear().env("PATH", "/usr/bin:/bin").arg("--root").arg("root");
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The image's digest, and what is said besides.
    fn image(&self) -> (String, String) {
        let output = self.run(&["image", "p.toml", "web"]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = text(output.stderr);
        assert!(output.status.success(), "{said}");
        (text(output.stdout), said)
    }

    fn cache(&self, path: &str) -> PathBuf {
        self.0.path().join("root/var/cache/bundle").join(path)
    }

    /// Clears the cache; the answer of JSON, and the exit code.
    fn clear(&self, arguments: &[&str]) -> (toml::Table, i32) {
        let output = self.run(&[&["--json", "gc", "--cache"], arguments].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        let code = output.status.code().unwrap();
        // One flat object is a table of TOML, but for its signs.
        (said.trim().trim_matches(['{', '}']).replace(':', "=").replace(',', "\n").parse().unwrap(), code)
    }
}

fn hello() -> Archive {
    Archive::with(&[Built { name: "hello", files: &[("usr/bin/hello", "#!/bin/sh\n")], ..Built::default() }])
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

/// Lets a file have been changed so many days ago.
fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_hours(24 * days);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(then)).unwrap();
}

#[allow(clippy::print_stdout, reason = "what it measured is of interest")]
#[test]
fn a_lock_takes_little_memory_though_debian_has_seventy_thousand_packages() {
    let platforms = "platforms = [\"linux/amd64\", \"linux/arm64\"]";
    let debian = format!("mirror = \"{}\"", mirror());
    let project = Project::new(&format!("packages = [\"postgresql\"]\n{platforms}"), &debian);
    let mut child = project.command(&["lock", "p.toml"]).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // What the kernel says of it again and again (`proc_pid_status(5)`).
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        peak = line.and_then(|line| line.parse().ok()).unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    println!("two locks took at most {} MiB", peak >> 10);
    assert!((1..MOST).contains(&peak), "{peak} KiB");
    let lock = fs::read_to_string(project.0.path().join("bundle.lock")).unwrap();
    assert!(lock.contains("[packages.web.amd64]") && lock.contains("architecture = \"arm64\""));
}

#[test]
fn what_did_not_change_is_not_looked_into_and_what_is_missing_is_made_again() {
    let archive = hello();
    let project = Project::of(&archive);
    let (digest, _) = project.image();
    // What changed a moment ago is not remembered; by now it is long ago.
    std::thread::sleep(Duration::from_millis(300));
    let actions = project.cache("actions");
    drop(fs::remove_dir_all(&actions));
    fs::remove_dir_all(project.cache("layout")).unwrap();
    assert_eq!(project.image().0, digest);
    let fetched = |said: &str| said.contains("packages fetched");
    // With all packages gone, and their mirror, the same is still known.
    let debs = project.cache("debs");
    let aside = project.cache("aside");
    fs::rename(&debs, &aside).unwrap();
    let (again, said) = project.image();
    assert!(again == digest && !fetched(&said), "{said}");
    // Any part of it that is not right is made again from packages.
    for record in names(&actions) {
        fs::write(&record, "[[\"packages\",{\"digest\":\"").unwrap();
    }
    let (again, said) = project.image();
    assert!(again == digest && fetched(&said), "{said}");
    for blob in names(&project.cache("layout/blobs/sha256")) {
        let bytes = fs::read(&blob).unwrap();
        fs::write(&blob, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(project.image().0, digest);
        assert_eq!(fs::read(&blob).unwrap(), bytes);
    }
    // A changed file, a changed recipe, another lock: each is another image.
    fs::write(project.0.path().join("app/main"), "2").unwrap();
    let changed = project.image().0;
    let path = project.0.path().join("p.toml");
    let profile = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        profile.replace("packages =", "exclude = [\"usr/share/**\", \"usr/bin/hello\"]\npackages ="),
    )
    .unwrap();
    let excluded = project.image().0;
    assert!(changed != digest && excluded != changed && excluded != digest);
}

#[test]
fn the_cache_is_cleared_of_what_was_not_used_lately_and_of_nothing_else() {
    let archive = hello();
    let project = Project::of(&archive);
    let (digest, _) = project.image();
    std::thread::sleep(Duration::from_millis(300));
    fs::remove_dir_all(project.cache("actions")).unwrap();
    fs::remove_dir_all(project.cache("layout")).unwrap();
    project.image();
    let debs = project.cache("debs");
    let part = debs.join("x.partial");
    fs::write(&part, "begun").unwrap();
    assert_eq!(project.clear(&[]).1, 10, "all of it is new");
    let scratch = project.cache("dockerfile.begun");
    fs::create_dir_all(scratch.join("layout")).unwrap();
    age(&scratch, 40);
    // Used again after a long time: packages and results are young, and so are the layers that they lead to.
    for folder in ["debs", "actions", "layout/blobs/sha256"] {
        for path in names(&project.cache(folder)) {
            age(&path, 40);
        }
    }
    assert_eq!(project.image().0, digest);
    assert!(!part.exists() && !scratch.exists(), "what nobody goes on with goes by itself");
    let before = names(&project.cache("layout/blobs/sha256"));
    let (freed, code) = project.clear(&["--dry-run"]);
    assert!(code == 0 && freed["packages"].as_integer() == Some(1), "only the index is old: {freed:?}");
    assert_eq!(names(&project.cache("layout/blobs/sha256")), before);
    let (_, said) = project.image();
    assert!(!said.contains("fetched") && !said.contains("layers written"), "{said}");
    project.clear(&[]);
    let (again, said) = project.image();
    assert!(again == digest && !said.contains("layers written"), "{said}");
    // While somebody works with it, nothing goes.
    let lock = File::open(project.cache("lock")).unwrap();
    lock.lock_shared().unwrap();
    assert_eq!(project.run(&["gc", "--cache", "--older-than", "0d"]).status.code(), Some(21));
    drop(lock);
    let (freed, code) = project.clear(&["--older-than", "0h"]);
    assert!(code == 0 && freed["bytes"].as_integer() > Some(1000), "{freed:?}");
    for folder in ["debs", "actions", "layout/blobs/sha256"] {
        assert_eq!(names(&project.cache(folder)), Vec::<PathBuf>::new(), "{folder}");
    }
    assert_eq!(project.image().0, digest);
    assert_eq!(project.run(&["gc", "--cache", "--older-than", "soon"]).status.code(), Some(2));
}
