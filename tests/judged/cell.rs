//! A service of a compose file as a process on this machine, under what its container would be under.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::laid::Laid;

/// Generous: what is waited for takes seconds.
const LIMIT: Duration = Duration::from_mins(2);

/// Who runs, and with what.
pub(crate) struct Cell {
    holder: Child,
    /// The holder's child, which is the first process inside.
    inside: u32,
    root: PathBuf,
    user: (u32, u32),
    environment: Vec<(String, String)>,
    service: Map<String, Value>,
    log: PathBuf,
    server: Option<Child>,
    _dir: TempDir,
}

impl Cell {
    /// Makes the place where `service` will run: on the programs below `lower`, as `user` where the programs know another
    /// one than the image does, with these addresses, and with further files mounted.
    pub(crate) fn new(
        laid: &Laid,
        service: Map<String, Value>,
        lower: &Path,
        user: Option<(u32, u32)>,
        addresses: &[String],
        more: &[(PathBuf, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let user = user.unwrap_or_else(|| {
            let (uid, gid) = service["user"].as_str().unwrap().split_once(':').unwrap();
            (uid.parse().unwrap(), gid.parse().unwrap())
        });
        let place = dir.path().join("cell");
        std::fs::create_dir(&place).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-eu"]);
        unshare.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judged/cell.sh")).arg(lower).arg(&place);
        unshare.args(addresses).arg("--").args(mounts(laid, &service, user));
        unshare.args(more.iter().map(|(source, target)| format!("bind:{}:{target}", source.display())));
        let mut holder = unshare.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the cell was not made");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let inside = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
        let environment = service.get("environment").and_then(Value::as_object).into_iter().flatten();
        let environment = environment
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().replace("$$", "$")))
            .collect();
        let log = dir.path().join("log");
        Self {
            holder,
            inside,
            root: place.join("root"),
            user,
            environment,
            service,
            log,
            server: None,
            _dir: dir,
        }
    }

    /// Sets a variable that the image would have.
    pub(crate) fn variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A command inside: the service's user, no capability and no way to one.
    pub(crate) fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--pid", "--ipc", "--target", &self.inside.to_string(), "chroot"]);
        command.arg(&self.root).args(["setpriv", "--clear-groups", "--no-new-privs"]);
        command.args(["--inh-caps=-all", "--bounding-set=-all"]);
        command.args([format!("--reuid={}", self.user.0), format!("--regid={}", self.user.1)]);
        command.args(argv).env_clear().stdin(Stdio::null());
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, argv: &[&str]) -> Output {
        self.command(argv).output().unwrap()
    }

    /// Runs it; it must succeed.
    pub(crate) fn ok(&self, argv: &[&str]) -> String {
        let said = self.run(argv);
        let err = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{argv:?}: {err}\n{}", self.log());
        String::from_utf8(said.stdout).unwrap().trim_end().to_owned()
    }

    /// Starts the service's command behind `entrypoint`.
    pub(crate) fn start(&mut self, entrypoint: &[&str]) {
        let words = self.service["command"].as_array().unwrap().clone();
        let argv: Vec<&str> =
            entrypoint.iter().copied().chain(words.iter().map(|word| word.as_str().unwrap())).collect();
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        // As Docker does: who opens `/dev/stdout` opens this.
        std::os::unix::fs::chown(&self.log, Some(self.user.0), Some(self.user.1)).unwrap();
        let mut command = self.command(&argv);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
    }

    /// Waits until the service's own health check passes.
    pub(crate) fn await_healthy(&mut self) {
        let test = self.service["healthcheck"]["test"].as_array().unwrap().clone();
        let words: Vec<String> = test.iter().map(|word| word.as_str().unwrap().replace("$$", "$")).collect();
        let argv: Vec<&str> = match words[0].as_str() {
            "CMD-SHELL" => vec!["sh", "-c", &words[1]],
            "CMD" => words[1..].iter().map(String::as_str).collect(),
            other => panic!("a health check of {other}"),
        };
        let started = Instant::now();
        loop {
            let last = self.run(&argv);
            if last.status.success() {
                return;
            }
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            let late = started.elapsed() > LIMIT || ended.is_some();
            assert!(!late, "{argv:?}: {last:?}; the server {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server with the signal that its container is stopped with.
    pub(crate) fn stop(&mut self) {
        let signal = self.service.get("stop_signal").and_then(Value::as_str).unwrap_or("SIGTERM");
        let pid = self.server_pid();
        self.ok(&["sh", "-c", &format!("kill -{} {pid}", signal.trim_start_matches("SIG"))]);
        let status = self.server.take().unwrap().wait().unwrap();
        assert!(status.success(), "stopped with {status}\n{}", self.log());
    }

    /// The server's process, as it is called inside: the oldest one after the holder.
    pub(crate) fn server_pid(&self) -> u32 {
        let pids = self.ok(&["sh", "-c", "cd /proc && echo [0-9]*"]);
        pids.split(' ').filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != 1).min().unwrap()
    }

    /// What the server has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The server has nothing that its service does not give it.
    pub(crate) fn is_confined(&self) {
        let status = self.ok(&["cat", &format!("/proc/{}/status", self.server_pid())]);
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{line:?} is not in {status}");
        }
        assert_eq!(self.service["cap_drop"], serde_json::json!(["ALL"]));
        assert_eq!(self.service["read_only"], true);
        let written = self.run(&["sh", "-c", ": >/written || : >/etc/written"]);
        assert!(!written.status.success(), "the root can be written");
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // The first process inside takes all others along.
        drop(self.holder.kill());
        drop(self.holder.wait());
        if let Some(mut server) = self.server.take() {
            drop(server.wait());
        }
    }
}

/// The address that a service has on a network of the profile.
pub(crate) fn address(service: &Map<String, Value>, network: &str) -> String {
    service["networks"][network]["ipv4_address"].as_str().unwrap().to_owned()
}

/// What the service has mounted.
fn mounts(laid: &Laid, service: &Map<String, Value>, user: (u32, u32)) -> Vec<String> {
    let list = |key: &str| service.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let volumes = list("volumes").into_iter().map(|volume| {
        let (source, target) = (volume["source"].as_str().unwrap(), volume["target"].as_str().unwrap());
        if volume["type"] == "volume" {
            format!("state:{}:{}:{target}", user.0, user.1)
        } else {
            let source = laid.at(source);
            // Owned by the image's user; here it may be another one.
            if source.starts_with(laid.at("/run/bundle/secrets")) {
                std::os::unix::fs::chown(&source, Some(user.0), Some(user.1)).unwrap();
            }
            format!("bind:{}:{target}", source.display())
        }
    });
    let tmpfs = list("tmpfs").into_iter().map(|mount| {
        let mount = mount.as_str().unwrap();
        let (target, options) = mount.split_once(':').unwrap_or((mount, "mode=1777"));
        // The owner that the profile names is the image's, too.
        let options: Vec<String> = options
            .split(',')
            .map(|option| match option.split_once('=') {
                Some(("uid", _)) => format!("uid={}", user.0),
                Some(("gid", _)) => format!("gid={}", user.1),
                _ => option.to_owned(),
            })
            .collect();
        format!("tmpfs:{target}:{}", options.join(","))
    });
    volumes.chain(tmpfs).collect()
}

/// The user and group of this machine's account `name`.
pub(crate) fn account(name: &str) -> (u32, u32) {
    let id = |option: &str| {
        let said = Command::new("id").args([option, name]).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().parse().unwrap_or_else(|_| {
            panic!("this machine has no account `{name}`: `tests/setup` installs the program that brings it")
        })
    };
    (id("-u"), id("-g"))
}
