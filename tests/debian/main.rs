//! Images from Debian packages: a small signed archive of our own, honest and tampered with, and Debian's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "a test may")]

mod archive;
mod debian;
mod images;
mod loader;
mod program;
mod tampered;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bundle::debian::{Cache, Http, Indexes, Options, Sources};
use bundle::image::{Content, Entry, Kind};
use bundle::spec::{PackageLock, Past};

/// Runs a command that must succeed, and returns what it wrote.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/setup"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    output.stdout
}

/// The Debian mirror of this machine's own apt sources, else the public one.
fn mirror() -> String {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]);
    let found = String::from_utf8(run(&mut command)).unwrap();
    let found = found.lines().find_map(|line| line.strip_prefix("Debian|Debian|").map(str::to_owned));
    found.unwrap_or_else(|| bundle::spec::DEBIAN_MIRROR.to_owned())
}

/// Where packages are kept between runs.
fn kept() -> Cache {
    let root =
        std::env::var_os("BUNDLE_TEST_CACHE").map_or_else(|| "/var/cache/bundle-tests".into(), PathBuf::from);
    Cache::open(&root.join("debs")).unwrap()
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Debian's indexes, fetched into that cache.
fn indexes(cache: &Cache) -> Indexes {
    indexes_of("trixie", "amd64", cache)
}

fn indexes_of(suite: &str, architecture: &str, cache: &Cache) -> Indexes {
    let sources = Sources::debian(suite, Some(&mirror()), None, None, architecture);
    Indexes::fetch(&sources, &Http::new().unwrap(), cache, now()).unwrap()
}

/// A lock of packages of trixie as it is now, and the cache that has them.
fn locked(packages: &[&str]) -> (PackageLock, Cache) {
    static INDEXES: OnceLock<Indexes> = OnceLock::new();
    chosen(INDEXES.get_or_init(|| indexes(&kept())), packages)
}

fn chosen(indexes: &Indexes, packages: &[&str]) -> (PackageLock, Cache) {
    let cache = kept();
    let names: Vec<_> = packages.iter().map(|&name| name.to_owned()).collect();
    let lock = indexes.choose(&names).unwrap();
    bundle::debian::fetch(&lock, &Http::new().unwrap(), &cache, &Past::default()).unwrap();
    (lock, cache)
}

fn options(exclude: &[String]) -> Options<'_> {
    Options { exclude, threads: 2, ..Options::default() }
}

/// A file's bytes.
pub(crate) fn bytes(content: &Content) -> Vec<u8> {
    match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::File { path, offset, size } => {
            let mut file = File::open(path).unwrap();
            file.seek(SeekFrom::Start(*offset)).unwrap();
            let mut bytes = Vec::new();
            file.take(*size).read_to_end(&mut bytes).unwrap();
            bytes
        }
    }
}

/// All layers as one: the last word on each path.
pub(crate) fn flat(layers: &[Vec<Entry>]) -> BTreeMap<String, Entry> {
    let all = layers.iter().flatten();
    all.map(|entry| (String::from_utf8_lossy(entry.path.as_bytes()).into_owned(), entry.clone())).collect()
}

/// Writes layers into a directory, as root.
fn unpack(layers: &[Vec<Entry>], root: &Path) {
    for entry in layers.iter().flatten() {
        let path = root.join(std::str::from_utf8(entry.path.as_bytes()).unwrap());
        match &entry.kind {
            Kind::Directory => fs::create_dir_all(&path).unwrap(),
            Kind::File(content) => fs::write(&path, bytes(content)).unwrap(),
            Kind::Symlink(target) => symlink(std::str::from_utf8(target).unwrap(), &path).unwrap(),
            Kind::HardLink(other) => {
                fs::hard_link(root.join(std::str::from_utf8(other.as_bytes()).unwrap()), &path).unwrap();
            }
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            chown(&path, Some(entry.uid), Some(entry.gid)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode.into())).unwrap();
        }
    }
}
