//! A small archive of our own, made with Debian's own tools: built packages, their index, a release signed by a fresh
//! key, and a server that may cut answers short.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle::debian::{Sources, Suite};
use bundle::model::Digest;
use tempfile::TempDir;

use super::run;

/// A package of the archive: its `control`, its files, its scripts.
#[derive(Default)]
pub(crate) struct Built<'a> {
    pub(crate) name: &'a str,
    /// Further fields, a line each.
    pub(crate) fields: &'a str,
    /// Path and content.
    pub(crate) files: &'a [(&'a str, &'a str)],
    /// A directory of further ones.
    pub(crate) tree: Option<&'a Path>,
    pub(crate) postinst: Option<&'a str>,
}

pub(crate) struct Archive {
    pub(crate) root: TempDir,
    pub(crate) url: String,
    /// What has been asked for, in order.
    cuts: Arc<AtomicUsize>,
}

impl Archive {
    /// An archive with `base-files` and these packages, signed and served.
    pub(crate) fn with(packages: &[Built<'_>]) -> Self {
        let root = tempfile::Builder::new().prefix("deb").tempdir().unwrap();
        let base = Built { name: "base-files", files: &[("etc/debian_version", "13\n")], ..Built::default() };
        for package in [&base].into_iter().chain(packages) {
            build(root.path(), package);
        }
        let home = root.path().join("gpg");
        fs::create_dir(&home).unwrap();
        key(&home, &root.path().join("keys.asc"));
        let cuts = Arc::new(AtomicUsize::new(0));
        let url = serve(root.path().to_owned(), Arc::clone(&cuts));
        let archive = Self { root, url, cuts };
        archive.index();
        // A suite that has neither updates nor security updates.
        std::os::unix::fs::symlink("test", archive.path("dists/testing")).unwrap();
        archive.sign("Valid-Until: Fri, 01 Jan 2100 00:00:00 UTC\n");
        archive
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Cuts the next so many answers short.
    pub(crate) fn cut(&self, answers: usize) {
        self.cuts.store(answers, Ordering::SeqCst);
    }

    pub(crate) fn index(&self) {
        let folder = self.path("dists/test/main/binary-amd64");
        fs::create_dir_all(&folder).unwrap();
        let mut scan = Command::new("dpkg-scanpackages");
        let text = run(scan.current_dir(self.root.path()).args(["-m", "pool"]));
        fs::write(folder.join("Packages"), text).unwrap();
        run(Command::new("xz").args(["-kf"]).arg(folder.join("Packages")));
    }

    /// Writes the release over what is in the index now.
    pub(crate) fn sign(&self, fields: &str) {
        let index = fs::read(self.path("dists/test/main/binary-amd64/Packages.xz")).unwrap();
        let sum = Digest::of(&index).hex();
        let text = format!(
            "Codename: test\nSuite: testing\nArchitectures: amd64\n{fields}SHA256:\n {sum} {} main/binary-amd64/Packages.xz\n",
            index.len()
        );
        let (plain, signed) = (self.path("dists/test/Release"), self.path("dists/test/InRelease"));
        fs::write(&plain, text).unwrap();
        let mut gpg = gpg(&self.path("gpg"));
        run(gpg.args(["--yes", "--clearsign", "--output"]).arg(signed).arg(plain));
    }

    pub(crate) fn sources(&self) -> Sources {
        Sources {
            suites: vec![Suite { url: self.url.clone(), name: "test".to_owned() }],
            components: vec!["main".to_owned()],
            architecture: "amd64".to_owned(),
            keyring: self.path("keys.asc"),
            past: false,
        }
    }

    /// The one package file with that name.
    pub(crate) fn deb(&self, name: &str) -> PathBuf {
        self.path(&format!("pool/{name}_1_amd64.deb"))
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let home = self.path("gpg");
        drop(Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).output());
    }
}

fn gpg(home: &Path) -> Command {
    let mut gpg = Command::new("gpg");
    gpg.arg("--homedir").arg(home).args([
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--pinentry-mode",
        "loopback",
    ]);
    gpg
}

/// A fresh key, and its public half in a file.
pub(crate) fn key(home: &Path, public: &Path) {
    run(Command::new("chmod").arg("700").arg(home));
    run(gpg(home).args(["--quick-gen-key", "Archive <archive@example.com>", "ed25519", "sign", "never"]));
    fs::write(public, run(gpg(home).args(["--armor", "--export"]))).unwrap();
}

fn build(root: &Path, package: &Built<'_>) {
    let tree = root.join("build").join(package.name);
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: {}\nVersion: 1\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.com>\nDescription: a test\n{}",
        package.name, package.fields
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    if let Some(script) = package.postinst {
        fs::write(tree.join("DEBIAN/postinst"), format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        run(Command::new("chmod").arg("755").arg(tree.join("DEBIAN/postinst")));
    }
    for (path, content) in package.files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    if let Some(from) = package.tree {
        run(Command::new("cp").arg("-a").arg(from.join(".")).arg(&tree));
    }
    fs::create_dir_all(root.join("pool")).unwrap();
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(tree).arg(root.join("pool")));
}

/// Serves a directory until the test ends.
fn serve(root: PathBuf, cuts: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { continue };
            let Ok(body) = fs::read(root.join(path.trim_start_matches('/'))) else {
                drop(
                    stream.write_all(
                        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    ),
                );
                continue;
            };
            let from = head.iter().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("range: bytes=")?
                    .trim_end_matches('-')
                    .parse::<usize>()
                    .ok()
            });
            let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
            let body = &body[from.unwrap_or(0).min(body.len())..];
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let cut =
                cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            let sent = if cut { &body[..body.len() / 2] } else { body };
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)));
        }
    });
    url
}
