//! A real registry, Debian's `docker-registry`, on all addresses of this machine: TLS under an authority made for
//! the occasion, one user with a random password, or open to all. Droplets know it as `registry.test`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::seed::Seed;
use crate::slot::{cannot_run, script, stdout};

const USER: &str = "tester";

/// A running registry. Dropped, it ends; what it stored stays in the directory it was given.
#[derive(Debug)]
pub(crate) struct Registry {
    dir: PathBuf,
    port: u16,
    user: &'static str,
    /// None where no password is asked for.
    password: Option<String>,
    server: Option<Child>,
}

impl Registry {
    /// Starts a registry that keeps everything under `dir`, which exists, and waits until it answers.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, Some(random_hex()))
    }

    /// Starts a registry where anybody may read and write without a password.
    pub(crate) fn public(dir: &Path) -> Self {
        Self::start_with(dir, None)
    }

    fn start_with(dir: &Path, password: Option<String>) -> Self {
        let port = TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
        let mut registry = Self { dir: dir.to_owned(), port, user: USER, password, server: None };
        registry.make_authority();
        registry.make_certificate(0);
        if let Some(password) = &registry.password {
            let htpasswd = stdout(Command::new("htpasswd").args(["-nbB", USER, password]));
            fs::write(dir.join("htpasswd"), htpasswd.trim()).unwrap();
        }
        fs::write(dir.join("config.yml"), registry.config()).unwrap();
        registry.start_again();
        registry
    }

    /// Ends it: connections are refused from then on.
    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.stdin.take());
            server.wait().unwrap();
        }
    }

    /// Starts it again with a certificate that is valid for two days from so many days after today: 730 is what a
    /// client sees whose clock is two years slow.
    pub(crate) fn renew(&mut self, in_days: i32) {
        self.stop();
        self.make_certificate(in_days);
        self.start_again();
    }

    /// Starts it again on the same port, with what it has stored.
    pub(crate) fn start_again(&mut self) {
        self.stop();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new("setsid");
        command.arg("sh").arg(script("tether.sh")).args(["docker-registry", "serve"]);
        command.arg(self.dir.join("config.yml")).stdin(Stdio::piped());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap_or_else(|err| panic!("{}", cannot_run(&command, &err))));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap();
            let gone = log.contains("not found") || log.contains("level=fatal");
            assert!(!gone, "docker-registry does not start: run `tests/setup` first\n{log}");
            assert!(Instant::now() < deadline, "docker-registry does not answer\n{log}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Its name and port as a droplet sees it: `registry.test:PORT`.
    pub(crate) fn host_port(&self) -> String {
        format!("registry.test:{}", self.port)
    }

    /// The same registry as this machine sees it: `127.0.0.1:PORT`.
    pub(crate) fn loopback(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of the authority that signed the registry's.
    pub(crate) fn ca_pem(&self) -> String {
        fs::read_to_string(self.ca_path()).unwrap()
    }

    pub(crate) fn user(&self) -> &'static str {
        self.user
    }

    /// Empty where none is asked for.
    pub(crate) fn password(&self) -> &str {
        self.password.as_deref().unwrap_or_default()
    }

    /// What makes Docker in a droplet trust the registry and log in to it: dockerd's certificate directory and
    /// root's `config.json`.
    pub(crate) fn seeds(&self) -> Vec<Seed> {
        let ca = format!("/etc/docker/certs.d/{}/ca.crt", self.host_port());
        let mut seeds = vec![Seed { path: ca.into(), mode: 0o644, bytes: self.ca_pem().into() }];
        if let Some(password) = &self.password {
            let auth = STANDARD.encode(format!("{USER}:{password}"));
            let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.host_port());
            seeds.push(Seed { path: "/root/.docker/config.json".into(), mode: 0o600, bytes: config.into() });
        }
        seeds
    }

    /// Pushes the image `tag` of an OCI layout to `repo:tag`, byte for byte, and gives its manifest's digest.
    pub(crate) fn push_image(&self, layout: &Path, tag: &str, repo: &str) -> String {
        let digest = tempfile::NamedTempFile::new().unwrap();
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy", "--preserve-digests", "--dest-cert-dir"]);
        skopeo.arg(self.dir.join("trust"));
        if let Some(password) = &self.password {
            skopeo.arg("--dest-creds").arg(format!("{USER}:{password}"));
        }
        skopeo.arg("--digestfile").arg(digest.path());
        skopeo.arg(format!("oci:{}:{tag}", layout.display()));
        skopeo.arg(format!("docker://{}/{repo}:{tag}", self.loopback()));
        stdout(&mut skopeo);
        fs::read_to_string(digest.path()).unwrap().trim().to_owned()
    }

    /// The body of the answer to `GET path`, if its status is one of success.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "10", "--cacert"]).arg(self.ca_path());
        if let Some(password) = &self.password {
            curl.args(["--user", &format!("{USER}:{password}")]);
        }
        curl.arg(format!("https://{}{path}", self.loopback()));
        let output = crate::slot::output(&mut curl);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether anything answers, whatever its certificate and its answer.
    fn answers(&self) -> bool {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--max-time",
            "10",
            &format!("https://{}/v2/", self.loopback()),
        ]);
        crate::slot::output(&mut curl).status.success()
    }

    fn ca_path(&self) -> PathBuf {
        self.dir.join("trust/ca.crt")
    }

    /// An authority of the registry's own.
    fn make_authority(&self) {
        let wires = (1..=254).map(|n| format!("IP:10.213.{n}.1")).collect::<Vec<_>>().join(",");
        let config = format!(
            "[req]\ndistinguished_name = name\n[name]\n\
             [ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier = hash\n\
             [server]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
             extendedKeyUsage = serverAuth\nauthorityKeyIdentifier = keyid\n\
             subjectAltName = DNS:registry.test,DNS:localhost,IP:127.0.0.1,{wires}\n"
        );
        fs::create_dir(self.dir.join("trust")).unwrap();
        fs::write(self.at("openssl.cnf"), config).unwrap();
        let (key, certificate) = (self.at("ca.key"), self.at("trust/ca.crt"));
        let files = ["-keyout", &key, "-out", &certificate];
        self.make(0, 3650, &[&["-extensions", "ca", "-subj", "/CN=Test authority"][..], &files].concat());
    }

    /// A certificate of the authority for the names and addresses the registry may be called by: this machine's end of
    /// every wire that a droplet may have.
    fn make_certificate(&self, in_days: i32) {
        let (ca, ca_key) = (self.at("trust/ca.crt"), self.at("ca.key"));
        let (key, certificate) = (self.at("server.key"), self.at("server.crt"));
        let subject = ["-extensions", "server", "-subj", "/CN=registry.test", "-CA", &ca, "-CAkey", &ca_key];
        self.make(in_days, 2, &[&subject[..], &["-keyout", &key, "-out", &certificate]].concat());
    }

    /// `openssl req` for a key and a certificate, valid from so many days from now and for so many.
    fn make(&self, in_days: i32, days: u32, more: &[&str]) {
        let mut openssl = Command::new("faketime");
        openssl.args([
            "-f",
            &format!("{in_days:+}d"),
            "openssl",
            "req",
            "-x509",
            "-days",
            &days.to_string(),
            "-nodes",
        ]);
        openssl.args(["-config", &self.at("openssl.cnf")]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]).args(more);
        stdout(&mut openssl);
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).into_os_string().into_string().unwrap()
    }

    /// See "Configuring a registry" in the documentation of distribution. Without HTTP/2, so that one
    /// connection is one request at a time.
    fn config(&self) -> String {
        let (dir, port, secret) = (self.dir.display(), self.port, random_hex());
        let auth = if self.password.is_some() {
            format!("auth:\n  htpasswd: {{realm: test, path: {dir}/htpasswd}}\n")
        } else {
            String::new()
        };
        format!(
            "version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: {dir}/storage}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http:
  addr: :{port}
  secret: {secret}
  http2: {{disabled: true}}
  tls: {{certificate: {dir}/server.crt, key: {dir}/server.key}}
{auth}"
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// 128 random bits.
fn random_hex() -> String {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    format!("{:032x}", u128::from_be_bytes(bytes))
}
