//! Whatever stands between us and the archive changes something: it is refused, and named.

use std::fs;
use std::process::Command;

use bundle::debian::{Cache, DebianError, Http, Indexes, Options, fetch, layers};
use bundle::image::{Entry, Kind};
use bundle::spec::{PackageLock, Past};

use super::archive::{Archive, Built, key};
use super::{bytes, flat, now, run};

const HELLO: Built<'_> = Built {
    name: "hello",
    fields: "Depends: libhello\n",
    files: &[("bin/hello", "#!/bin/sh\n"), ("usr/share/doc/hello/copyright", "free\n")],
    tree: None,
    postinst: None,
};
const LIBRARY: Built<'_> = Built {
    name: "libhello",
    fields: "",
    files: &[("usr/lib/libhello.so.1", "ELF\n")],
    tree: None,
    postinst: None,
};

fn lock(archive: &Archive, cache: &Cache, packages: &[&str]) -> Result<PackageLock, DebianError> {
    let names: Vec<_> = packages.iter().map(|&name| name.to_owned()).collect();
    Indexes::fetch(&archive.sources(), &Http::new()?, cache, now())?.choose(&names)
}

/// From names to layers, with caches that were empty.
fn built(archive: &Archive, packages: &[&str], accept: &[&str]) -> Result<Vec<Vec<Entry>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let accept: Vec<_> = accept.iter().map(|&name| name.to_owned()).collect();
    let all = || {
        let lock = lock(archive, &cache, packages)?;
        fetch(&lock, &Http::new()?, &cache, &Past::default())?;
        let options = Options { accept_scripts: &accept, ..Options::default() };
        let mut made = layers(&lock, &cache, &options)?;
        // The cache goes with this function.
        for entry in made.iter_mut().flatten() {
            if let Kind::File(content) = &mut entry.kind {
                *content = bytes(content).into();
            }
        }
        Ok(made)
    };
    all().map_err(|error: DebianError| error.to_string())
}

fn refused(archive: &Archive, named: &str, why: &str) {
    let said = built(archive, &["hello"], &[]).unwrap_err();
    assert!(said.contains(&format!("{}/{named}", archive.url)) && said.contains(why), "{said}");
}

#[test]
fn an_honest_archive_becomes_a_tree_with_a_merged_usr_and_dpkgs_data() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    let layers = built(&archive, &["hello"], &[]).unwrap();
    let tree = flat(&layers);
    assert!(matches!(&tree["bin"].kind, Kind::Symlink(target) if target == b"usr/bin"));
    assert!(matches!(&tree["usr/bin/hello"].kind, Kind::File(content) if bytes(content) == b"#!/bin/sh\n"));
    let Kind::File(status) = &tree["var/lib/dpkg/status"].kind else { panic!() };
    let status = String::from_utf8(bytes(status)).unwrap();
    assert_eq!(status.matches("Status: install ok installed").count(), 3);
    let Kind::File(passwd) = &tree["etc/passwd"].kind else { panic!() };
    assert!(bytes(passwd).starts_with(b"root:x:0:0:"));
}

#[test]
fn an_answer_that_is_cut_short_is_gone_on_with() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    archive.cut(4);
    let layers = built(&archive, &["hello"], &[]).unwrap();
    assert_eq!(layers, built(&archive, &["hello"], &[]).unwrap());
}

#[test]
fn a_release_that_nobody_trusted_signed_is_refused() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    let path = archive.path("dists/test/InRelease");
    let honest = fs::read_to_string(&path).unwrap();
    for (broken, why) in [
        (honest.replace("Codename: test", "Codename: tesT"), "is bad"),
        (honest.replace("Valid-Until: Fri, 01 Jan 2100", "Valid-Until: Fri, 01 Jan 2101"), "is bad"),
        (fs::read_to_string(archive.path("dists/test/Release")).unwrap(), "0 signed parts"),
        (format!("{honest}{honest}"), "2 signed parts"),
        (honest.split("-----BEGIN PGP SIGNATURE").next().unwrap().to_owned(), "not to be trusted"),
    ] {
        fs::write(&path, broken).unwrap();
        refused(&archive, "dists/test/InRelease", why);
    }
    fs::write(&path, &honest).unwrap();
    built(&archive, &["hello"], &[]).unwrap();
    // The same text, signed by somebody else.
    let home = archive.path("other");
    fs::create_dir(&home).unwrap();
    key(&home, &archive.path("other.asc"));
    fs::copy(archive.path("other.asc"), archive.path("keys.asc")).unwrap();
    drop(run(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"])));
    refused(&archive, "dists/test/InRelease", "not in the keyring");
}

#[test]
fn a_release_of_another_time_or_suite_is_refused() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    archive.sign("Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n");
    refused(&archive, "dists/test/InRelease", "valid until Sat, 01 Jan 2022");
    let mut past = archive.sources();
    past.past = true;
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    Indexes::fetch(&past, &Http::new().unwrap(), &cache, now()).unwrap();
    fs::rename(archive.path("dists/test"), archive.path("dists/newer")).unwrap();
    past.suites[0].name = "newer".to_owned();
    let said = Indexes::fetch(&past, &Http::new().unwrap(), &cache, now()).unwrap_err().to_string();
    assert!(said.contains("dists/newer/InRelease") && said.contains("`newer` was asked for"), "{said}");
}

#[test]
fn an_index_that_was_not_signed_is_refused() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    let path = archive.path("dists/test/main/binary-amd64/Packages.xz");
    let honest = fs::read(&path).unwrap();
    let mut flipped = honest.clone();
    flipped[40] ^= 1;
    let longer = [&honest[..], b"x"].concat();
    let shorter = honest[..honest.len() - 1].to_vec();
    for (bytes, why) in [(flipped, "was signed"), (longer, "as was signed"), (shorter, "as was signed")] {
        fs::write(&path, bytes).unwrap();
        refused(&archive, "dists/test/main/binary-amd64/Packages.xz", why);
    }
    // Another sum for a package, in an index that is right in itself.
    let plain = archive.path("dists/test/main/binary-amd64/Packages");
    let text = fs::read_to_string(&plain).unwrap();
    fs::write(&plain, text.replace("Version: 1", "Version: 2")).unwrap();
    run(Command::new("xz").arg("-kf").arg(&plain));
    refused(&archive, "dists/test/main/binary-amd64/Packages.xz", "was signed");
}

#[test]
fn a_package_that_the_index_does_not_speak_of_is_refused() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    let path = archive.deb("libhello");
    let honest = fs::read(&path).unwrap();
    let mut flipped = honest.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let other = fs::read(archive.deb("hello")).unwrap();
    for bytes in [flipped, [&honest[..], b"x"].concat(), honest[..honest.len() / 2].to_vec(), other] {
        fs::write(&path, bytes).unwrap();
        refused(&archive, "pool/libhello_1_amd64.deb", "signed");
    }
    fs::remove_file(&path).unwrap();
    refused(&archive, "pool/libhello_1_amd64.deb", "404");
}

#[test]
fn a_package_that_the_mirror_has_dropped_comes_from_the_archives_past() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    archive.sign("Date: Fri, 20 Nov 2026 14:18:11 UTC\nValid-Until: Fri, 01 Jan 2100 00:00:00 UTC\n");
    let snapshot = Archive::with(&[]);
    let past = Past { url: snapshot.url.clone(), archives: vec![(archive.url.clone(), "debian")] };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let lock = lock(&archive, &cache, &["hello"]).unwrap();
    assert_eq!(lock.indexes[0].date.as_deref(), Some("2026-11-20T14:18:11Z"));
    let fetched = |past: &Past| fetch(&lock, &Http::new().unwrap(), &cache, past);
    let honest = fs::read(archive.deb("libhello")).unwrap();
    fs::remove_file(archive.deb("libhello")).unwrap();
    // A mirror of somebody else's has no past there.
    let said = fetched(&Past::default()).unwrap_err().to_string();
    assert!(said.contains("pool/libhello_1_amd64.deb` is not there (404)"), "{said}");
    let said = fetched(&past).unwrap_err();
    let cause = std::error::Error::source(&said).unwrap().to_string();
    let said = said.to_string();
    for url in [&archive.url, &snapshot.url] {
        assert!(said.contains(url.as_str()), "{said}");
    }
    assert!(cause.contains("404"), "{cause}");
    // A day after the index was made, when the archive's past has it for sure.
    let there = snapshot.path("debian/20261121T141811Z/pool");
    fs::create_dir_all(&there).unwrap();
    fs::write(there.join("libhello_1_amd64.deb"), [&honest[1..], b"!"].concat()).unwrap();
    let said = std::error::Error::source(&fetched(&past).unwrap_err()).unwrap().to_string();
    assert!(said.contains("was signed") && said.contains(&snapshot.url), "{said}");
    fs::write(there.join("libhello_1_amd64.deb"), honest).unwrap();
    let fetched = fetched(&past).unwrap();
    assert_eq!(fetched.past, 1);
    layers(&lock, &cache, &Options::default()).unwrap();
}

#[test]
fn what_lies_in_the_cache_is_looked_at_before_it_is_decoded() {
    let archive = Archive::with(&[HELLO, LIBRARY]);
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let lock = lock(&archive, &cache, &["hello"]).unwrap();
    let fetched = fetch(&lock, &Http::new().unwrap(), &cache, &Past::default()).unwrap();
    assert_eq!((fetched.all, fetched.past), (3, 0));
    let pin = lock.packages.iter().find(|pin| pin.name == "libhello").unwrap();
    let mut bytes = fs::read(cache.path(pin.digest)).unwrap();
    bytes[100] ^= 1;
    fs::write(cache.path(pin.digest), bytes).unwrap();
    let said = layers(&lock, &cache, &Options::default()).unwrap_err().to_string();
    assert!(said.contains(&pin.digest.hex()), "{said}");
}

#[test]
fn a_maintainer_script_that_nobody_knows_is_refused_unless_it_is_accepted() {
    let script = Some("if [ \"$1\" = configure ]; then\n  adduser --system hello\nfi");
    let archive = Archive::with(&[Built { postinst: script, ..HELLO }, LIBRARY]);
    let said = built(&archive, &["hello"], &[]).unwrap_err();
    assert!(said.contains("`hello`: `postinst`, at `adduser --system hello`"), "{said}");
    built(&archive, &["hello"], &["hello"]).unwrap();
}

#[test]
fn a_package_that_is_not_there_is_named_with_where_it_was_looked_for() {
    let archive = Archive::with(&[HELLO]);
    let said = built(&archive, &["helo"], &[]).unwrap_err();
    assert!(said.contains("no package `helo` for `amd64` in `test`; did you mean `hello`?"), "{said}");
    let said = built(&archive, &["hello"], &[]).unwrap_err();
    assert!(said.contains("`hello` needs `libhello`, which is not in `test`"), "{said}");
}

#[test]
fn a_file_of_two_packages_is_an_error_unless_one_replaces_the_other() {
    let files = &[("usr/bin/hello", "other\n")];
    let rival = Built { name: "rival", fields: "", files, ..Built::default() };
    let said = built(&Archive::with(&[HELLO, LIBRARY, rival]), &["hello", "rival"], &[]).unwrap_err();
    assert!(said.contains("`hello` and `rival` both have `/usr/bin/hello`"), "{said}");
    let rival = Built { name: "rival", fields: "Replaces: hello (<< 2)\n", files, ..Built::default() };
    let layers = built(&Archive::with(&[HELLO, LIBRARY, rival]), &["hello", "rival"], &[]).unwrap();
    assert!(
        matches!(&flat(&layers)["usr/bin/hello"].kind, Kind::File(content) if bytes(content) == b"other\n")
    );
}
