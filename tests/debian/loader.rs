//! The loader's cache, against the `ldconfig` of the image itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use bundle::debian::{Cache, Http, Indexes, Options, fetch, layers};
use bundle::spec::Past;
use tempfile::TempDir;

use super::archive::{Archive, Built};
use super::{chosen, indexes_of, kept, locked, now, options, run, unpack};

const CACHE: &str = "etc/ld.so.cache";

/// All that lies where libraries do, with what links say.
fn listed(root: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.current_dir(root).args(["usr/lib", "usr/local/lib", "-printf", "%p %y %l\n"]);
    String::from_utf8(run(&mut find)).unwrap().lines().map(str::to_owned).collect()
}

/// What we wrote, and what `ldconfig` makes of the same tree, which has to leave the tree as it is.
fn both(root: &Path, ldconfig: &mut Command) -> (Vec<u8>, Vec<u8>) {
    let (ours, before) = (fs::read(root.join(CACHE)).unwrap(), listed(root));
    fs::remove_file(root.join(CACHE)).unwrap();
    run(ldconfig.arg("-r").arg(root));
    assert_eq!(listed(root), before);
    (ours, fs::read(root.join(CACHE)).unwrap())
}

fn unpacked(layers: &[Vec<bundle::image::Entry>]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    unpack(layers, folder.path());
    folder
}

#[test]
fn the_cache_is_the_one_that_ldconfig_writes_and_the_loader_uses_it() {
    let names =
        ["bash", "coreutils", "libblas3", "libc-bin", "libc6-i386", "libfakeroot", "python3", "redis-server"];
    let (lock, cache) = locked(&names);
    let accept = ["libc6-i386".to_owned()];
    let options = Options { accept_scripts: &accept, ..options(&[]) };
    let folder = unpacked(&layers(&lock, &cache, &options).unwrap());
    let root = folder.path();
    let (ours, theirs) = both(root, &mut Command::new(root.join("usr/sbin/ldconfig")));
    assert!(ours == theirs, "{}", root.display());
    // `libfakeroot` is in a directory of its own, which the loader does not look into by itself.
    fs::write(root.join(CACHE), ours).unwrap();
    let found = || {
        let mut bash = Command::new("chroot");
        bash.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin").arg(root);
        // What is loaded is listed, and nothing runs.
        bash.args(["env", "LD_TRACE_LOADED_OBJECTS=1", "LD_PRELOAD=libfakeroot-0.so", "bash"]);
        String::from_utf8(run(&mut bash)).unwrap()
    };
    let path = "/usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-0.so";
    assert!(found().contains(&format!("libfakeroot-0.so => {path}")), "{}", found());
    fs::remove_file(root.join(CACHE)).unwrap();
    assert!(!found().contains(path), "{}", found());
}

#[test]
fn the_cache_of_another_architecture_or_release_is_the_one_that_its_ldconfig_writes() {
    for (suite, architecture, with) in
        [("trixie", "arm64", Some("qemu-aarch64")), ("bookworm", "amd64", None)]
    {
        let indexes = indexes_of(suite, architecture, &kept());
        let (lock, cache) = chosen(&indexes, &["libblas3", "libc-bin", "perl-base"]);
        let folder = unpacked(&layers(&lock, &cache, &options(&[])).unwrap());
        let at = ["usr/sbin/ldconfig", "sbin/ldconfig"].map(|path| folder.path().join(path));
        let program = at.into_iter().find(|path| path.exists()).unwrap();
        let mut ldconfig = Command::new(with.map_or(program.as_os_str(), |with| with.as_ref()));
        ldconfig.args(with.map(|_| &program));
        let (ours, theirs) = both(folder.path(), &mut ldconfig);
        assert!(ours == theirs && ours.len() > 1000, "{suite} {architecture}");
    }
}

/// A library, by its file's name, its own name, and further words to the linker.
fn library(path: &Path, soname: &str, linker: &[&str]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-nostdlib", "-o"]).arg(path).args(["-x", "c", "/dev/null"]).args(linker);
    if !soname.is_empty() {
        gcc.arg(format!("-Wl,-soname,{soname}"));
    }
    run(&mut gcc);
}

#[test]
fn names_links_and_levels_are_as_ldconfig_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path();
    let lib = tree.join("usr/lib/x86_64-linux-gnu");
    library(&lib.join("liba.so.1.2"), "liba.so.1", &[]);
    library(&lib.join("liba.so.1.10"), "liba.so.1", &[]);
    // It leads to the older one.
    symlink("liba.so.1.2", lib.join("liba.so.1")).unwrap();
    symlink("liba.so.1", lib.join("liba.so")).unwrap();
    library(&lib.join("libnameless.so"), "", &[]);
    library(&lib.join("libother-2.so"), "libother.so.5", &[]);
    library(&lib.join("elsewhere/libfar.so.3.1"), "libfar.so.3", &[]);
    symlink("elsewhere/libfar.so.3.1", lib.join("libfar.so.3")).unwrap();
    symlink("/usr/lib/x86_64-linux-gnu/elsewhere/libfar.so.3.1", lib.join("libalias.so.1")).unwrap();
    symlink("nowhere", lib.join("libstale.so")).unwrap();
    library(&lib.join("libb.so.9.dpkg-new"), "libb.so.9", &[]);
    library(&lib.join("plugin.so"), "plugin.so", &[]);
    fs::write(lib.join("libscript.so"), "/* GNU ld script */ GROUP ( libc.so.6 )").unwrap();
    fs::write(lib.join("libempty.so"), "").unwrap();
    let levels = lib.join("glibc-hwcaps");
    library(&levels.join("x86-64-v3/liba.so.1.10"), "liba.so.1", &["-Wl,-z,x86-64-v3"]);
    library(&levels.join("x86-64-v3/libonly.so.1.2"), "libonly.so.1", &[]);
    library(&levels.join("x86-64-v2/liba.so.1.9"), "liba.so.1", &["-Wl,-z,x86-64-v2"]);
    fs::create_dir_all(levels.join("x86-64-v4")).unwrap();
    library(&tree.join("usr/local/lib/liba.so.1"), "liba.so.1", &[]);
    library(&tree.join("opt/x/libopt.so.0"), "libopt.so.0", &[]);
    library(&tree.join("opt/x/glibc-hwcaps/x86-64-v2/libopt.so.0"), "libopt.so.0", &[]);
    library(&tree.join("usr/lib/libplain.so.1"), "libplain.so.1", &[]);
    fs::create_dir_all(tree.join("etc/ld.so.conf.d")).unwrap();
    fs::write(tree.join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n").unwrap();
    fs::write(tree.join("etc/ld.so.conf.d/b.conf"), "# all\n\n /opt/x/  # why\n/gone\nhwcap 0 x\n").unwrap();
    fs::write(tree.join("etc/ld.so.conf.d/a.conf"), "/usr/local/lib\n/opt/x").unwrap();
    fs::write(tree.join("etc/ld.so.conf.d/.hidden.conf"), "/usr/lib/x86_64-linux-gnu/elsewhere\n").unwrap();

    let built = Built { name: "libc-bin", tree: Some(tree), ..Built::default() };
    let archive = Archive::with(&[built, Built { name: "other", tree: Some(tree), ..Built::default() }]);
    let made = |name: &str| {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let http = Http::new().unwrap();
        let indexes = Indexes::fetch(&archive.sources(), &http, &cache, now()).unwrap();
        let lock = indexes.choose(&[name.to_owned()]).unwrap();
        fetch(&lock, &http, &cache, &Past::default()).unwrap();
        unpacked(&layers(&lock, &cache, &Options::default()).unwrap())
    };
    let root = made("libc-bin");
    let (lock, cache) = locked(&["libc-bin"]);
    let trixie = unpacked(&layers(&lock, &cache, &options(&[])).unwrap());
    let ldconfig = trixie.path().join("usr/sbin/ldconfig");
    let (ours, theirs) = both(root.path(), &mut Command::new(&ldconfig));
    let known = String::from_utf8(run(Command::new(&ldconfig).args(["-p", "-r"]).arg(root.path()))).unwrap();
    assert!(known.contains("libother.so.5 (libc6,x86-64) => /lib/x86_64-linux-gnu/libother.so.5"), "{known}");
    assert!(known.contains(", hwcap: \"x86-64-v3\""), "{known}");
    assert_eq!(
        fs::read_link(root.path().join("lib/x86_64-linux-gnu/liba.so.1")).unwrap(),
        Path::new("liba.so.1.10")
    );
    // Which `ldconfig` it was stands at the end; that one is of another `libc-bin`.
    let without = |bytes: &[u8]| {
        let end = bytes.windows(9).rposition(|part| part == b"ldconfig ").unwrap();
        let mut kept = bytes[..end].to_vec();
        let length = u32::try_from(bytes.len() - end).unwrap().to_le_bytes();
        let at = kept.windows(4).rposition(|part| part == length).unwrap();
        kept.drain(at..at + 4);
        kept
    };
    assert_eq!(without(&ours), without(&theirs));
    assert!(ours.ends_with(b"ldconfig (Debian GLIBC 1) stable release version 1"));
    assert!(!made("other").path().join(CACHE).exists(), "only `libc-bin` runs ldconfig");
}
