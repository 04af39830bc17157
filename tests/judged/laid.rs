//! A profile as it lies on a machine: built, switched to and laid down by `bundle` itself, secrets and all, below a root
//! of the test's own where nothing is started.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::model;

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The machine's disk.
pub(crate) struct Laid {
    dir: TempDir,
}

impl Laid {
    /// Lays down the profile `name` among the files of `profiles`, with `more` laid over it.
    pub(crate) fn over(profiles: &Path, name: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("profiles");
        let copied = Command::new("cp").arg("-r").arg(profiles).arg(&own).status().unwrap();
        assert!(copied.success(), "cp {}: {copied}", profiles.display());
        let profile = own.join(name).with_file_name("judged.toml");
        let extended = name.rsplit('/').next().unwrap();
        fs::write(&profile, format!("extends = \"{extended}.toml\"\n{more}")).unwrap();
        let laid = Self { dir };
        laid.bundle(&["build", profile.to_str().unwrap()], "");
        let layout = format!("oci:{}/var/cache/bundle/layout", laid.root().display());
        let shown: Value = serde_json::from_str(&laid.bundle(&["show", &layout, "--json"], "")).unwrap();
        let secrets = shown["manifest"]["secrets"].as_object().unwrap();
        for (name, _) in secrets.iter().filter(|(_, origin)| *origin == "operator") {
            laid.bundle(&["secrets", "set", name], "12345:what-an-operator-sends");
        }
        laid.bundle(&["switch", &layout], "");
        laid
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn bundle(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.arg("--root").arg(self.root()).args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "bundle {arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    /// Where a path of the machine really is.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// A file of the bundle, by its place in a view.
    pub(crate) fn text(&self, path: &str) -> String {
        let file = self.at("/var/lib/bundle/current").join(path);
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// A service of one of the compose files.
    pub(crate) fn service(&self, file: &str, name: &str) -> Map<String, Value> {
        let services = model::services(&self.text(&format!("compose/{file}.yaml")));
        services[name].as_object().unwrap().clone()
    }

    /// The value of a secret, as a consumer reads it.
    pub(crate) fn secret(&self, consumer: &str, name: &str) -> String {
        let path = self.at(&format!("/run/bundle/secrets/{consumer}/{name}"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
