//! A Compose project in a directory of its own, the program that imports it, and Compose.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The Compose plugin as words: `BUNDLE_COMPOSE`, Docker's own, or the one in the tests' Debian tree.
pub(crate) fn plugin() -> &'static [String] {
    static PLUGIN: OnceLock<Vec<String>> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let named = std::env::var("BUNDLE_COMPOSE").ok();
        let tree = Command::new(repository().join("tests/setup")).arg("--tree").output().unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        let in_tree = format!("{}/usr/libexec/docker/cli-plugins/docker-compose", tree.trim());
        let candidates = named.into_iter().chain(["docker compose".to_owned(), in_tree.clone()]);
        for candidate in candidates {
            let words: Vec<String> = candidate.split_whitespace().map(str::to_owned).collect();
            let version = Command::new(&words[0]).args(&words[1..]).args(["version", "--short"]).output();
            if version.is_ok_and(|output| output.status.success()) {
                return words;
            }
        }
        panic!("no Compose plugin: neither `docker compose` nor `{in_tree}` runs; run tests/setup as root")
    })
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory with a project in it.
pub(crate) struct Project {
    directory: tempfile::TempDir,
    pub(crate) files: Vec<String>,
    pub(crate) arguments: Vec<String>,
}

impl Project {
    /// A copy of one of the projects beside this file.
    pub(crate) fn shipped(name: &str) -> Self {
        let from = repository().join("tests/adoption/projects").join(name);
        let directory = tempfile::Builder::new().prefix("adopted").tempdir().unwrap();
        // The directory's name is the Compose project's.
        let to = directory.path().join(name);
        let copied = Command::new("cp").arg("-a").arg(&from).arg(&to).status().unwrap();
        assert!(copied.success());
        let mut files: Vec<String> = std::fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("compose.") || name.starts_with("docker-compose."))
            .collect();
        // An override is laid over the file itself.
        files.sort_by_key(|name| name.contains("override"));
        Self { directory, files, arguments: Vec::new() }
    }

    /// A project of one file.
    pub(crate) fn of(text: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("adopted").tempdir().unwrap();
        std::fs::create_dir(directory.path().join("own")).unwrap();
        let project = Self { directory, files: vec!["compose.yaml".to_owned()], arguments: Vec::new() };
        project.write("compose.yaml", text);
        project
    }

    pub(crate) fn path(&self) -> PathBuf {
        let mut entries =
            std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| !path.ends_with("root")).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// `bundle …` in the project's directory. Nothing of this shell gets into it.
    pub(crate) fn bundle(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.current_dir(self.path()).env("BUNDLE_COMPOSE", plugin().join(" "));
        command
            .args(["--root", self.directory.path().join("root").to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `bundle --json init --from-compose …`.
    pub(crate) fn import(&self) -> Output {
        let mut arguments = vec!["--json", "init", "--from-compose"];
        arguments.extend(self.files.iter().map(String::as_str));
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.bundle(&arguments)
    }

    /// The same, which has to succeed; what it printed.
    pub(crate) fn imported(&self) -> Value {
        let output = self.import();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Compose's normalized model of files in the project's directory. Variables that must have a value get one.
    pub(crate) fn model(&self, files: &[&str], variables: &BTreeMap<String, String>) -> Value {
        let mut variables = variables.clone();
        loop {
            let mut command = Command::new(&plugin()[0]);
            command.args(&plugin()[1..]).current_dir(self.path()).env_clear();
            for name in ["PATH", "HOME"] {
                command.env(name, std::env::var_os(name).unwrap_or_default());
            }
            for file in files {
                command.args(["-f", file]);
            }
            let directory = self.path();
            command.arg("--project-directory").arg(directory);
            command.args(["--profile", "*", "config", "--format", "json"]);
            let output = command.envs(&variables).output().unwrap();
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            let said = String::from_utf8(output.stderr).unwrap();
            let name = said
                .split_once("required variable ")
                .and_then(|(_, rest)| rest.split_once(" is missing"))
                .unwrap_or_else(|| panic!("{files:?}: {said}"))
                .0;
            let known = variables.insert(name.to_owned(), "8080".to_owned());
            assert_eq!(known, None, "{said}");
        }
    }
}
