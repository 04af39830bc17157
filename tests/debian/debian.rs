//! Debian's own archive and packages: the lock, and entries against dpkg's.

use std::fmt::Write as _;
use std::fs;
use std::io::Cursor;
use std::process::Command;

use bundle::debian::{Cache, Options, entries, layers};
use bundle::image::{Entry, Kind};
use bundle::model::Digest;
use bundle::spec::PackagePin;

use super::{bytes, flat, indexes, locked, options, run, unpack};

/// Some hundred packages of all kinds.
const MANY: [&str; 3] = ["nginx-light", "postgresql", "redis-server"];

#[test]
fn a_lock_is_the_same_from_empty_caches_and_for_packages_in_any_order() {
    let lock = |names: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        indexes(&cache).choose(&names).unwrap()
    };
    let first = lock(&MANY);
    assert_eq!(first, lock(&["redis-server", "postgresql", "nginx-light", "redis-server"]));
    assert!(first.packages.len() >= 100, "only {} packages", first.packages.len());
    assert!(first.indexes.len() == 3 && first.indexes.iter().all(|index| !index.keys.is_empty()));
}

#[test]
fn apt_chooses_the_same_packages() {
    let (lock, cache) = locked(&MANY);
    // apt's own solver over the very same indexes, in a root of its own.
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for path in ["etc/preferences.d", "etc/apt.conf.d", "lists/partial", "cache/archives/partial", "repo"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    fs::write(at("status"), "").unwrap();
    let mut sources = String::new();
    for (number, index) in lock.indexes.iter().enumerate() {
        let repo = at(&format!("repo/{number}"));
        fs::create_dir(&repo).unwrap();
        fs::copy(cache.path(index.digest), repo.join("Packages.xz")).unwrap();
        writeln!(sources, "deb [trusted=yes] file:{} ./", repo.display()).unwrap();
    }
    fs::write(at("etc/sources.list"), sources).unwrap();
    let root = folder.path().display();
    let conf = format!(
        "Dir \"{root}\"; Dir::Etc \"{root}/etc\"; Dir::State \"{root}\"; Dir::State::lists \"{root}/lists\";\n\
         Dir::State::status \"{root}/status\"; Dir::Cache \"{root}/cache\"; APT::Install-Recommends \"false\";\n\
         APT::Architecture \"amd64\"; APT::Architectures {{ \"amd64\"; }}; APT::Sandbox::User \"root\";\n"
    );
    fs::write(at("apt.conf"), conf).unwrap();
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").env("APT_CONFIG", at("apt.conf")).env("LC_ALL", "C").args(arguments))
    };
    apt(&["-q", "update"]);
    let simulated = apt(&["-q", "-s", "install", "base-files", MANY[0], MANY[1], MANY[2]]);
    let simulated = String::from_utf8(simulated).unwrap();
    let mut theirs: Vec<_> =
        simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).collect();
    theirs.sort_unstable();
    let ours: Vec<_> = lock.packages.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(ours, theirs);
}

/// Path, type, mode, owners, link, content.
type Line = (Vec<u8>, char, u32, u64, u64, Vec<u8>, Option<Digest>);

/// What `dpkg-deb --fsys-tarfile` says, read by the `tar` crate's own ways.
fn dpkgs(file: &std::path::Path) -> Vec<Line> {
    let tar = run(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(file));
    let clean = |path: &[u8]| {
        path.strip_prefix(b"./")
            .unwrap_or(path)
            .strip_suffix(b"/")
            .map_or_else(|| path.strip_prefix(b"./").unwrap_or(path).to_vec(), <[u8]>::to_vec)
    };
    let mut archive = tar::Archive::new(Cursor::new(tar));
    let mut lines = Vec::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let path = clean(&member.path_bytes());
        let header = member.header();
        let (mode, uid, gid) =
            (header.mode().unwrap() & 0o7777, header.uid().unwrap(), header.gid().unwrap());
        let link = member.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let (kind, link) = match header.entry_type() {
            tar::EntryType::Directory => ('d', Vec::new()),
            tar::EntryType::Symlink => ('l', link),
            tar::EntryType::Link => ('h', clean(&link)),
            _ => ('f', Vec::new()),
        };
        let content = (kind == 'f').then(|| Digest::of_reader(&mut member).unwrap().0);
        if !path.is_empty() && path != b"." {
            lines.push((path, kind, mode, uid, gid, link, content));
        }
    }
    lines
}

fn ours(pin: &PackagePin, cache: &Cache) -> Vec<Line> {
    let line = |entry: Entry| {
        let (kind, link, content) = match &entry.kind {
            Kind::Directory => ('d', Vec::new(), None),
            Kind::Symlink(target) => ('l', target.clone(), None),
            Kind::HardLink(target) => ('h', target.as_bytes().to_vec(), None),
            Kind::File(content) => ('f', Vec::new(), Some(Digest::of(&bytes(content)))),
        };
        let path = entry.path.as_bytes().to_vec();
        (path, kind, u32::from(entry.mode), u64::from(entry.uid), u64::from(entry.gid), link, content)
    };
    entries(pin, cache).unwrap().into_iter().map(line).collect()
}

#[test]
fn the_entries_of_every_package_are_those_of_dpkg_deb() {
    let (lock, cache) = locked(&MANY);
    for pin in &lock.packages {
        assert_eq!(ours(pin, &cache), dpkgs(&cache.path(pin.digest)), "{}", pin.name);
    }
}

#[test]
fn layers_are_the_same_from_an_empty_cache_and_with_any_number_of_threads() {
    let (lock, cache) = locked(&["libc-bin", "python3", "python3-redis", "redis-server"]);
    let digests = |cache: &Cache, threads| {
        let made = layers(&lock, cache, &Options { threads, ..Options::default() }).unwrap();
        let digest = |entries: &Vec<Entry>| {
            let mut text = String::new();
            for entry in entries {
                let content = match &entry.kind {
                    Kind::File(content) => Digest::of(&bytes(content)).hex(),
                    other => format!("{other:?}"),
                };
                let Entry { path, mode, uid, gid, .. } = entry;
                writeln!(text, "{path} {mode} {uid} {gid} {content}").unwrap();
            }
            Digest::of(text.as_bytes())
        };
        made.iter().map(digest).collect::<Vec<_>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let other = Cache::open(folder.path()).unwrap();
    for pin in &lock.packages {
        fs::copy(cache.path(pin.digest), other.path(pin.digest)).unwrap();
    }
    let first = digests(&cache, 1);
    assert_eq!(first, digests(&other, 8));
    assert!(first.len() >= 3, "{} layers", first.len());
}

#[test]
fn dpkg_lists_what_an_image_has_and_finds_nothing_wrong() {
    let (lock, cache) = locked(&["ca-certificates", "redis-server"]);
    let folder = tempfile::tempdir().unwrap();
    unpack(&layers(&lock, &cache, &options(&[])).unwrap(), folder.path());
    let root = folder.path().to_str().unwrap();
    let admin = format!("--admindir={root}/var/lib/dpkg");
    let list = run(Command::new("dpkg-query").args([
        &admin,
        "-W",
        "-f=${binary:Package} ${Version} ${db:Status-Abbrev}\n",
    ]));
    let list = String::from_utf8(list).unwrap();
    assert_eq!(list.lines().filter(|line| line.ends_with(" ii ")).count(), lock.packages.len(), "{list}");
    let verified = run(Command::new("dpkg").args(["--root", root, "--verify"]));
    // A configuration file that a script gives to its user is the same file.
    assert_eq!(String::from_utf8_lossy(&verified), "");
    let changed = "etc/default/redis-server";
    fs::write(folder.path().join(changed), "# changed\n").unwrap();
    let verified = run(Command::new("dpkg").args(["--root", root, "--verify"]));
    assert_eq!(String::from_utf8_lossy(&verified), format!("??5?????? c /{changed}\n"));
}

#[test]
fn certificates_are_linked_as_openssl_links_them() {
    let (lock, cache) = locked(&["ca-certificates"]);
    let folder = tempfile::tempdir().unwrap();
    let made = layers(&lock, &cache, &options(&[])).unwrap();
    unpack(&made, folder.path());
    let certs = folder.path().join("etc/ssl/certs");
    let links = || {
        let all = fs::read_dir(&certs).unwrap().map(Result::unwrap);
        let hashed = all.filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let hash = name
                .split_once('.')
                .filter(|(hash, number)| hash.len() == 8 && number.parse::<u32>().is_ok());
            hash.is_some_and(|(hash, _)| u32::from_str_radix(hash, 16).is_ok())
        });
        let mut links: Vec<_> =
            hashed.map(|entry| (entry.file_name(), fs::read_link(entry.path()).unwrap())).collect();
        links.sort();
        links
    };
    let ours = links();
    assert!(ours.len() > 100, "{}", ours.len());
    // Its links are relative to a root that is not ours.
    let tree = flat(&made);
    for (path, entry) in tree
        .iter()
        .filter(|(path, _)| path.starts_with("etc/ssl/certs/") && path.strip_suffix(".pem").is_some())
    {
        let Kind::Symlink(target) = &entry.kind else { panic!("{path}") };
        let target = folder.path().join(std::str::from_utf8(target).unwrap().trim_start_matches('/'));
        fs::remove_file(folder.path().join(path)).unwrap();
        fs::copy(target, folder.path().join(path)).unwrap();
    }
    run(Command::new("openssl").arg("rehash").arg(&certs));
    assert_eq!(ours, links());
    let bundle = fs::read_to_string(certs.join("ca-certificates.crt")).unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), ours.len());
}

#[allow(clippy::print_stdout, reason = "what it measured is of interest")]
#[test]
fn a_hundred_packages_become_layers_and_how_long_that_takes_is_shown() {
    let (lock, cache) = locked(&MANY);
    let folder = tempfile::tempdir().unwrap();
    let empty = Cache::open(&folder.path().join("debs")).unwrap();
    for pin in &lock.packages {
        fs::copy(cache.path(pin.digest), empty.path(pin.digest)).unwrap();
    }
    let layout = bundle::bundle::Layout::create(&folder.path().join("layout")).unwrap();
    let threads = std::thread::available_parallelism().unwrap();
    let mut written = Vec::new();
    for what in ["from packages", "from decoded packages"] {
        let began = std::time::Instant::now();
        let options = Options { threads: threads.get(), ..Options::default() };
        let made = layers(&lock, &empty, &options).unwrap();
        let merged = began.elapsed();
        let count: usize = made.iter().map(Vec::len).sum();
        let all = made.into_iter().map(|entries| {
            let arranged = bundle::image::layer::arrange(entries, None).unwrap();
            bundle::image::write::write(&arranged, &layout, threads).unwrap()
        });
        let all: Vec<_> = all.collect();
        let sizes: Vec<_> = all.iter().map(|layer| layer.blob.size >> 10).collect();
        println!(
            "{} packages, {what}: {count} entries after {:.1} s, layers of {sizes:?} KiB after {:.1} s",
            lock.packages.len(),
            merged.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        written.push(all);
    }
    assert_eq!(written[0], written[1]);
    assert!((3..=8).contains(&written[0].len()), "{} layers", written[0].len());
}
