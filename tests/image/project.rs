//! A project with an image of its own, and the program that builds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A profile in a directory of its own, beside the tree that goes into its image `web`.
pub struct Project {
    dir: TempDir,
}

/// What the profile says besides its images.
const REST: &str = include_str!("../support/web.toml");

impl Project {
    /// With this table `[images.web]`.
    #[allow(dead_code, reason = "not every test program needs it")]
    pub fn new(image: &str) -> Self {
        Self::at(TempDir::new().unwrap(), image)
    }

    #[allow(dead_code, reason = "not every test program needs it")]
    pub fn at(dir: TempDir, image: &str) -> Self {
        Self::with(dir, "localhost:5000", image)
    }

    /// With a registry at this host.
    pub fn with(dir: TempDir, host: &str, image: &str) -> Self {
        let rest = REST.replace("HOST", host);
        fs::write(dir.path().join("p.toml"), format!("{rest}[images.web]\n{image}\n")).unwrap();
        let project = Self { dir };
        let locked = project.run(&["lock", "p.toml"]);
        assert!(locked.status.success(), "{locked:?}");
        project
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.args(["--root", "cache"]).current_dir(self.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    #[allow(dead_code, reason = "not every test program needs it")]
    /// Builds the image into `layout` beside the profile; its digest, and what was said.
    pub fn build(&self) -> (String, String) {
        let output = self.run(&["image", "p.toml", "web", "--layout", "layout"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap().trim().to_owned(), said)
    }

    #[allow(dead_code, reason = "not every test program needs it")]
    pub fn layout(&self) -> PathBuf {
        self.path().join("layout")
    }
}

/// Runs a shell's words in a directory.
#[allow(dead_code, reason = "not every test program has a tree")]
pub fn shell(dir: &Path, script: &str) {
    let status = Command::new("sh").args(["-euc", script]).current_dir(dir).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Everything that a file system can say and a layer must keep.
#[allow(dead_code, reason = "not every test program has a tree")]
pub const TREE: &str = r#"
    mkdir -p tree/usr/bin tree/usr/lib tree/etc tree/var/empty tree/deep; cd tree
    echo one >usr/bin/one; chmod 4755 usr/bin/one; ln usr/bin/one usr/bin/second; ln usr/bin/one another
    echo secret >etc/shadow; chown 0:42 etc/shadow; chmod 640 etc/shadow
    : >etc/nobody; chmod 0 etc/nobody
    ln -s ../usr/bin/one etc/up; ln -s /etc/shadow etc/absolute; ln -s nowhere etc/dangling
    chmod 1777 var/empty; chown 33:33 var/empty; chmod 2755 usr/lib
    cp usr/bin/one usr/bin/ping; setcap cap_net_raw+ep usr/bin/ping
    printf '\351' >"$(printf 'etc/latin-\351')"
    name=$(printf 'x%.0s' $(seq 200)); mkdir -p "deep/$name"; echo long >"deep/$name/$name"
    ln -s "$name/$name" deep/link; ln "deep/$name/$name" deep/hard
    head -c 3000000 /dev/zero >usr/lib/zeros; seq 400000 >usr/lib/numbers
    echo x >usr/lib/far; chown 4000000:3999999 usr/lib/far
"#;

/// A recipe that takes that tree as it is.
#[allow(dead_code, reason = "not every test program has a tree")]
pub const AS_IT_IS: &str =
    r#"layers = [{ from = "tree", to = "/", owner = "keep", file_mode = "keep", dir_mode = "keep" }]"#;
