//! The program with its scripted machine, on profiles and a root of its own: what a test types and what came of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program, which `cargo test` builds beside the tests.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/scripted");
    assert!(path.exists(), "`{}` is not there: `cargo build --example scripted` makes it", path.display());
    path
}

/// The clone's own directory.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A place for machines. In memory where there is one: nothing here is about power cuts, and a sync costs nothing.
pub fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Run {
    pub command: String,
    /// The exit code; a signal is its negative number.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let words = command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let output = command.stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("`{}`: {error}", command.get_program().display()));
        Self {
            command: words,
            code: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap()),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same, if it ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        let Self { command, stdout, stderr, .. } = &self;
        assert_eq!(self.code, code, "`{command}`\nstdout: {stdout}\nstderr: {stderr}");
        self
    }

    /// The same, if it says all of this on stderr.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "`{}` does not say `{word}` but:\n{}",
                self.command,
                self.stderr
            );
        }
        self
    }

    /// The result of a command that was given `--json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("`{}` printed no JSON ({error}): {}", self.command, self.stdout));
        assert_eq!(value["schema_version"], 1, "`{}`: {value}", self.command);
        value
    }
}

/// A copy of the shipped profiles, in which tests lay their own over them.
pub struct Profiles {
    dir: TempDir,
}

/// A bundle in a layout of its own.
#[derive(Debug, Clone)]
pub struct Built {
    pub digest: String,
    pub layout: PathBuf,
}

impl Built {
    /// As `switch` takes it.
    pub fn reference(&self) -> String {
        format!("oci:{}", self.layout.display())
    }
}

/// All of them are releases of one profile: its name stands in every file.
const HEAD: &str = "extends = \"production.toml\"\nname = \"shop\"\nenvironment = \"test\"\n";
/// Short waits; the scripted machine's clock does not wait anyway.
const WAITS: &str = "\n[switch]\ntrial = \"2s\"\nhealth = \"3s\"\ndrain = \"1s\"\n";

/// More services than the shipped profiles have, another setting of Redis, another firewall, another application: there
/// is nothing that a switch to it, or back, need not touch.
pub const WIDER: &str = r#"
stateful = ["postgres", "redis", "cache"]
singletons = ["worker", "clock"]

[redis]
maxmemory = "200mb"

[firewall]
ssh_from = ["198.51.100.0/24"]

[services.backend.environment]
GREETING = "hello"

[services.cache]
image = "docker.io/library/redis:7-bookworm"
user = "999:999"
read_only = true
secrets = ["redis_password"]
mem_limit = "64m"
memswap_limit = "64m"

[services.extra]
image = "ghcr.io/example/marketplace:1.0.0"
user = "10001:10001"
secrets = ["redis_url"]
mem_limit = "64m"
memswap_limit = "64m"

[services.clock]
image = "ghcr.io/example/marketplace:1.0.0"
user = "10001:10001"
mem_limit = "64m"
memswap_limit = "64m"
"#;

impl Profiles {
    pub fn new() -> Self {
        let dir = temporary();
        fs::create_dir(dir.path().join("profiles")).unwrap();
        for entry in fs::read_dir(repository().join("profiles")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, dir.path().join("profiles").join(path.file_name().unwrap())).unwrap();
            }
        }
        Self { dir }
    }

    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the profile `name`: production with short waits, and with `text` in addition.
    pub fn lay(&self, name: &str, text: &str) {
        // A layout with one bundle needs no name for it.
        drop(fs::remove_dir_all(self.builder(name)));
        fs::write(self.dir.path().join(format!("profiles/{name}.toml")), format!("{HEAD}{text}{WAITS}"))
            .unwrap();
    }

    /// A command of the builder, in the directory of the profiles, with a cache of its own.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.dir.path()).arg("--root").arg(self.builder(name)).args(arguments);
        command
    }

    fn builder(&self, name: &str) -> PathBuf {
        self.dir.path().join("builder").join(name)
    }

    /// Gives addresses to services that have none.
    pub fn lock(&self, name: &str) {
        let run = Run::of(&mut self.command(name, &["lock", name]));
        assert!(matches!(run.code, 0 | 10), "{}", run.stderr);
    }

    /// Builds the profile `name`.
    #[track_caller]
    pub fn build(&self, name: &str) -> Built {
        let run = Run::of(&mut self.command(name, &["build", name])).ends(0);
        let digest = run.stdout.strip_suffix('\n').unwrap().to_owned();
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "stdout of build: {}", run.stdout);
        Built { digest, layout: self.builder(name).join("var/cache/bundle/layout") }
    }

    /// Writes and builds the profile `name`.
    #[track_caller]
    pub fn built(&self, name: &str, text: &str) -> Built {
        self.lay(name, text);
        self.build(name)
    }
}

/// A machine: a root and what stands below it.
pub struct Machine {
    root: PathBuf,
    _dir: Option<TempDir>,
}

impl Machine {
    /// One that was never switched.
    pub fn new() -> Self {
        let dir = temporary();
        Self { root: dir.path().join("root"), _dir: Some(dir) }
    }

    /// One that has the secret which the shipped profiles want.
    pub fn with_secrets() -> Self {
        let machine = Self::new();
        machine.set_secret("telegram_bot_token", "123:abc").ends(0);
        machine
    }

    /// Another with the same disk and state.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        let run = Command::new("cp").arg("-a").arg(&self.root).arg(&copy.root).status().unwrap();
        assert!(run.success(), "cp -a");
        copy
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--root").arg(&self.root).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }

    /// A switch to a bundle in a layout, by somebody who has another way in: nobody is there to confirm.
    pub fn switch(&self, to: &Built) -> Run {
        self.run(&["switch", "--confirmed", &to.reference()])
    }

    pub fn set_secret(&self, name: &str, value: &str) -> Run {
        let file = self.root.with_extension("value");
        fs::write(&file, value).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" < \"$0\""]).arg(&file).arg(program());
        command.arg("--root").arg(&self.root).args(["secrets", "set", name]);
        Run::of(&mut command)
    }

    /// What the scripted machine is now.
    pub fn state(&self) -> Value {
        let text =
            fs::read_to_string(self.path("run/scripted/machine.json")).unwrap_or_else(|_| "{}".to_owned());
        serde_json::from_str(&text).unwrap()
    }

    pub fn set_state(&self, state: &Value) {
        fs::write(self.path("run/scripted/machine.json"), state.to_string()).unwrap();
    }

    /// What will go wrong from now on.
    pub fn script(&self, script: &Value) {
        fs::create_dir_all(self.path("run/scripted")).unwrap();
        fs::write(self.path("run/scripted/script.json"), script.to_string()).unwrap();
    }

    /// Nothing will.
    pub fn mend(&self) {
        self.script(&serde_json::json!({}));
    }

    pub fn status(&self) -> Value {
        self.run(&["status", "--json"]).ends(0).json()
    }

    /// `<generation>/<slot>` of a link of ours, `current` or `last-good`.
    pub fn link(&self, name: &str) -> String {
        let target = fs::read_link(self.path("var/lib/bundle").join(name)).unwrap();
        target.strip_prefix("generations").unwrap().display().to_string()
    }

    pub fn current(&self) -> String {
        self.link("current")
    }

    /// The record of a generation.
    pub fn record(&self, number: u64) -> Value {
        let path = self.path(&format!("var/lib/bundle/generations/{number}/record.json"));
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
    }

    /// The digest of the current bundle; none on the bare machine.
    pub fn bundle(&self) -> Option<String> {
        let number = self.current().split_once('/').unwrap().0.parse().unwrap();
        self.record(number)["bundle"].as_str().map(str::to_owned)
    }

    /// Everything below the root by path: kind, mode, owner, content. Without times, the lock's holder (which is for
    /// the living), and the scripted machine's clock.
    pub fn snapshot(&self) -> BTreeMap<String, String> {
        use std::os::unix::fs::MetadataExt;
        let mut snapshot = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.root).sort_by_file_name() {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(&self.root).unwrap().display().to_string();
            let meta = entry.metadata().unwrap();
            let what = match (path.as_str(), meta.is_symlink(), meta.is_file()) {
                ("var/lib/bundle/lock" | "run/scripted/script.json", ..) => continue,
                ("run/scripted/machine.json", ..) => {
                    let mut state = self.state();
                    state["clock"] = Value::Null;
                    state.to_string()
                }
                (_, true, _) => fs::read_link(entry.path()).unwrap().display().to_string(),
                (_, _, true) => bundle::model::Digest::of(&fs::read(entry.path()).unwrap()).to_string(),
                _ => String::new(),
            };
            snapshot.insert(path, format!("{:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid()));
        }
        snapshot
    }
}

/// What differs between two snapshots, by path.
pub fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    differ.map(|path| format!("{path}: {:?} -> {:?}", before.get(path), after.get(path))).collect()
}
