//! Debian's `docker-registry` on a loopback port, with its storage in a temporary directory.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bundle::model::Digest;
use bundle::registry::{Environment, Options};
use tempfile::TempDir;

pub const USER: &str = "ana";
pub const PASSWORD: &str = "correct horse";

/// A running registry; it ends when this is dropped.
pub struct Registry {
    dir: TempDir,
    child: Child,
    host: String,
}

impl Registry {
    /// With TLS by a CA of its own, and one user.
    pub fn with_tls() -> Self {
        Self::start(true)
    }

    /// Plain HTTP, anonymous.
    pub fn plain() -> Self {
        Self::start(false)
    }

    fn start(tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            at("storage")
        );
        if tls {
            certificates(dir.path());
            fs::write(at("htpasswd"), run("htpasswd", &["-Bbn", USER, PASSWORD])).unwrap();
            let (certificate, key, users) = (at("leaf.crt"), at("leaf.key"), at("htpasswd"));
            let tls = format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
            config = config + &tls + &format!("auth:\n  htpasswd:\n    realm: test\n    path: {users}\n");
        }
        fs::write(at("config.yml"), config).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed (apt install docker-registry)");
        let registry = Self { dir, child, host };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not start: {}", registry.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The directory with `ca.crt`, as skopeo's `--cert-dir` wants it.
    pub fn certificates(&self) -> PathBuf {
        self.dir.path().join("trust")
    }

    /// What the registry has logged; one line has one request.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// How many requests have changed something, or tried to.
    pub fn writes(&self) -> usize {
        let log = self.log();
        log.lines()
            .filter(|line| ["\"PUT /", "\"POST /", "\"PATCH /"].iter().any(|verb| line.contains(verb)))
            .count()
    }

    /// How many requests have come in.
    #[allow(dead_code, reason = "not every test program counts")]
    pub fn requests(&self) -> usize {
        let log = self.log();
        let verbs = ["GET", "HEAD", "PUT", "POST", "PATCH"].map(|verb| format!("\"{verb} /"));
        log.lines().filter(|line| verbs.iter().any(|verb| line.contains(verb))).count()
    }

    /// The file in which the registry keeps a blob.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.path().join(format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Has the registry throw away every blob that no manifest names (distribution's documentation, "Garbage collection").
    pub fn collect_garbage(&self) {
        run(
            "docker-registry",
            &["garbage-collect", &self.dir.path().join("config.yml").display().to_string()],
        );
    }

    /// What a client needs that has logged in with this password.
    pub fn options(&self, password: &str) -> Options {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        let file = self.dir.path().join(format!("auth-{}.json", Digest::of(password.as_bytes()).short()));
        fs::write(&file, format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, self.host)).unwrap();
        Options {
            extra_ca: Some(fs::read(self.certificates().join("ca.crt")).unwrap()),
            environment: Environment { registry_auth_file: Some(file), ..Environment::default() },
            ..Options::default()
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn certificates(dir: &Path) {
    let at = |name: &str| dir.join(name).display().to_string();
    fs::create_dir(dir.join("trust")).unwrap();
    fs::write(at("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = [
        "req",
        "-x509",
        "-subj",
        "/CN=test CA",
        "-days",
        "2",
        "-keyout",
        &at("ca.key"),
        "-out",
        &at("trust/ca.crt"),
    ];
    run("openssl", &[&ca[..], &key].concat());
    let leaf = ["req", "-subj", "/CN=127.0.0.1", "-keyout", &at("leaf.key"), "-out", &at("leaf.csr")];
    run("openssl", &[&leaf[..], &key].concat());
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-days",
            "2",
            "-CAcreateserial",
            "-in",
            &at("leaf.csr"),
            "-CA",
            &at("trust/ca.crt"),
            "-CAkey",
            &at("ca.key"),
            "-extfile",
            &at("extensions"),
            "-out",
            &at("leaf.crt"),
        ],
    );
}

/// Runs a program to its end and gives what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
