//! Packages, indexes and signed texts as nobody would write them.
#![expect(clippy::disallowed_methods, reason = "packages are files")]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;

use super::cache::Cache;
use super::control::Relation;
use super::deb::{self, Decoded};
use super::package::{self, Package};
use super::release::Release;
use super::solve::solve;
use super::universe::Universe;
use crate::fuzz::drive::{Target, in_kind, kind_of};
use crate::image::{Content, Kind};
use crate::model::Digest;
use crate::spec::PackagePin;

const DEB: &[&str] = &[
    "!<arch>\n",
    "debian-binary",
    "2.0\n",
    "control.tar",
    "control.tar.gz",
    "data.tar.xz",
    "data.tar.zst",
    "_x",
    "`\n",
    "4096      ",
    "99999999999",
    "-1        ",
    "./control",
    "./postinst",
    "Package: p\n",
    "../",
    "30 SCHILY.xattr.a=b\n",
    "12 path=a/b\n",
    "ustar  ",
];
const FIELDS: &[&str] = &[
    "Package: ",
    "Version: ",
    "Architecture: all\n",
    "Depends: ",
    "Provides: c (= 1)\n",
    "Conflicts: b\n",
    "Filename: pool/x.deb\n",
    "Size: 1\n",
    "SHA256:",
    "\n\n",
    "\n ",
    "\n#",
    " | ",
    ", ",
    " (>= ",
    " (<< 0)",
    "~",
    ":",
    "-",
    "base-files",
    "Priority: required\n",
    "99999999999999999999",
    "Valid-Until: ",
    "Acquire-By-Hash: yes\n",
    "Architectures: amd64\n",
    "\u{e9}",
    "Size: -1\n",
];

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "deb", seeds: Vec::new, words: DEB, run: package, least: 12 },
    Target { name: "packages", seeds: with_base, words: FIELDS, run: packages, least: 6 },
    Target { name: "release", seeds: Vec::new, words: FIELDS, run: release, least: 10 },
];

/// Sets the checksum of everything that looks like the header of a tar, so that a mutation is not lost on it.
fn sealed(bytes: &mut [u8]) {
    for at in 257..bytes.len().saturating_sub(254) {
        if bytes[at..at + 5] == *b"ustar" {
            let block = &mut bytes[at - 257..at + 255];
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Every file of a package lies in its data, or it is refused when it is read.
fn package(bytes: &[u8]) -> String {
    thread_local! {
        static DISK: OnceCell<(tempfile::TempDir, Cache)> = const { OnceCell::new() };
    }
    let mut bytes = bytes.to_vec();
    sealed(&mut bytes);
    DISK.with(|disk| {
        let (folder, cache) = disk.get_or_init(|| {
            let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let cache = Cache::open(folder.path()).unwrap();
            (folder, cache)
        });
        let path = folder.path().join("deb");
        fs::write(&path, &bytes).unwrap();
        let pin = PackagePin {
            name: "p".to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            suite: "s".to_owned(),
            path: "pool/p.deb".to_owned(),
            size: bytes.len() as u64,
            digest: Digest::of(b"p"),
        };
        let to = Decoded { control: folder.path().join("control"), data: folder.path().join("data") };
        let read = deb::unpack(fs::File::open(&path).unwrap(), "p", cache, &to)
            .and_then(|()| Package::read(&pin, &to));
        // Nothing half done stays: the two tars, the package, and what the cache itself has.
        assert!(fs::read_dir(folder.path()).unwrap().count() <= 5, "files are left");
        let package = match read {
            Ok(package) => package,
            Err(error) => return kind_of(&error),
        };
        let mut said = "read".to_owned();
        for entry in &package.entries {
            let parts = entry.path.as_bytes().split(|&byte| byte == b'/');
            assert!(parts.clone().all(|part| !part.is_empty() && part != b"." && part != b".."));
            if let Kind::File(content @ Content::File { size, .. }) = &entry.kind {
                match package::bytes(content) {
                    Ok(bytes) => assert_eq!(bytes.len() as u64, *size),
                    Err(error) => said = kind_of(&error),
                }
            }
        }
        let _names = (package.source(), package.qualified());
        said
    })
}

/// An index is read or refused; of what is read, packages are chosen or it is said why not, in the same way twice.
fn packages(bytes: &[u8]) -> String {
    let mut universe = Universe::default();
    if let Err(error) = universe.read(bytes, "s", "u") {
        let (said, kind) = (error.to_string(), kind_of(&error));
        let fields = ["package", "version", "architecture", "filename", "size", "sha256"];
        let field = fields.iter().find(|field| said.ends_with(&format!("`{field}`")));
        return format!("{kind} {field:?}");
    }
    let universe = universe.complete();
    let names: BTreeSet<&str> = universe.names().collect();
    let mut said = BTreeSet::new();
    for &name in &names {
        let candidate = universe.get(name).unwrap();
        let path = &candidate.pin.path;
        assert!(
            !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{path}"
        );
        for group in Relation::parse(&candidate.depends) {
            for relation in &group {
                assert!(
                    universe.fulfilling(relation).len()
                        <= names.len() + universe.providers(relation.name).len()
                );
            }
        }
        let choose = || {
            let chosen = solve(&universe, &BTreeSet::from([name]), "s", "amd64");
            chosen.map(|all| all.iter().map(|one| one.pin.name.clone()).collect::<Vec<_>>())
        };
        match (choose(), choose()) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one, other);
                assert!(one.iter().any(|chosen| chosen == name));
                said.insert("chosen".to_owned());
            }
            (Err(one), Err(other)) => {
                assert_eq!(one.to_string(), other.to_string());
                said.insert(kind_of(&one));
            }
            (one, other) => panic!("{one:?} and {other:?}"),
        }
    }
    said.into_iter().collect::<Vec<_>>().join("; ")
}

/// A signed text says which indexes there are, below the suite, or why not.
fn release(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let release = match Release::parse("u", text) {
        Ok(release) => release,
        Err(error) => return kind_of(&error),
    };
    let late = release.check("u", "trixie-updates", Some(4_000_000_000));
    let early = release.check("u", "trixie-updates", Some(0));
    assert!(early.is_ok() || late.is_err(), "it is valid only later");
    let found = match release.indexes("main", "amd64") {
        Ok(files) => {
            for file in &files {
                assert!(file.path.starts_with("main/binary-") && file.fetch.starts_with("main/binary-"));
            }
            format!("{} indexes", files.len())
        }
        Err(reason) => in_kind(reason.split(", only").next().unwrap_or_default()),
    };
    let judged = |checked: Result<(), super::DebianError>| checked.err().map(|error| kind_of(&error));
    format!("{found}; {:?}; {:?}", judged(early), judged(late))
}

#[test]
fn whatever_a_package_has_in_it_it_is_read_or_refused() {
    TARGETS[0].drive();
}

#[test]
fn whatever_an_index_has_in_it_packages_are_chosen_or_it_is_said_why_not() {
    TARGETS[1].drive();
}

#[test]
fn whatever_is_signed_it_is_read_or_refused() {
    TARGETS[2].drive();
}

/// With a package that is always chosen.
fn with_base() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"x").hex();
    let base = format!(
        "\nPackage: base-files\nVersion: 1\nArchitecture: all\nFilename: b.deb\nSize: 1\nSHA256: {digest}\n"
    );
    let all = crate::fuzz::drive::corpus("packages");
    all.into_iter().map(|text| [text.as_slice(), base.as_bytes()].concat()).collect()
}
