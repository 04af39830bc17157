//! A real registry, Debian's `docker-registry`, on all addresses of this machine: TLS under an authority made for
//! the occasion, one user with a random password. Droplets know it as `registry.test`.

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
    /// Whether it asks for the password.
    closed: bool,
    user: &'static str,
    password: String,
    server: Option<Child>,
}

impl Registry {
    /// Starts a registry that keeps everything under `dir`, which exists, and waits until it answers.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, true)
    }

    /// The same, without a password.
    pub(crate) fn start_open(dir: &Path) -> Self {
        Self::start_with(dir, false)
    }

    fn start_with(dir: &Path, closed: bool) -> Self {
        let port = TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
        let mut registry =
            Self { dir: dir.to_owned(), port, closed, user: USER, password: random_hex(), server: None };
        registry.make_certificates("-1 days");
        let htpasswd = ["-nbB", USER, &registry.password];
        fs::write(dir.join("htpasswd"), stdout(Command::new("htpasswd").args(htpasswd)).trim()).unwrap();
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
        while self.get("/v2/").is_none() {
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

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// What makes Docker in a droplet trust the registry and log in to it: dockerd's certificate directory and
    /// root's `config.json`.
    pub(crate) fn seeds(&self) -> Vec<Seed> {
        let auth = STANDARD.encode(format!("{USER}:{}", self.password));
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.host_port());
        let ca = format!("/etc/docker/certs.d/{}/ca.crt", self.host_port());
        vec![
            Seed { path: ca.into(), mode: 0o644, bytes: self.ca_pem().into() },
            Seed { path: "/root/.docker/config.json".into(), mode: 0o600, bytes: config.into() },
        ]
    }

    /// Pushes the image `tag` of an OCI layout to `repo:tag`, byte for byte, and gives its manifest's digest.
    pub(crate) fn push_image(&self, layout: &Path, tag: &str, repo: &str) -> String {
        let digest = tempfile::NamedTempFile::new().unwrap();
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy", "--preserve-digests", "--dest-cert-dir"]);
        skopeo.arg(self.dir.join("trust")).arg("--dest-creds").arg(format!("{USER}:{}", self.password));
        skopeo.arg("--digestfile").arg(digest.path());
        skopeo.arg(format!("oci:{}:{tag}", layout.display()));
        skopeo.arg(format!("docker://{}/{repo}:{tag}", self.loopback()));
        stdout(&mut skopeo);
        fs::read_to_string(digest.path()).unwrap().trim().to_owned()
    }

    /// The body of the answer to `GET path`, if its status is one of success, whatever the certificate says.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "10", "--insecure"]);
        curl.args(["--user", &format!("{USER}:{}", self.password)]);
        curl.arg(format!("https://{}{path}", self.loopback()));
        let output = crate::slot::output(&mut curl);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The file with that certificate.
    pub(crate) fn ca_path(&self) -> PathBuf {
        self.dir.join("trust/ca.crt")
    }

    /// From now on it asks for the password, or no more.
    pub(crate) fn close(&mut self, closed: bool) {
        self.closed = closed;
        fs::write(self.dir.join("config.yml"), self.config()).unwrap();
        self.start_again();
    }

    /// From now on its certificate is one that was made at another time, such as `+2 years`.
    pub(crate) fn age(&mut self, by: &str) {
        self.make_certificates(by);
        self.start_again();
    }

    /// An authority, and a certificate of it for the names and addresses the registry may be called by: this
    /// machine's end of every wire that a droplet may have.
    fn make_certificates(&self, when: &str) {
        let wires = (1..=254).map(|n| format!("IP:10.213.{n}.1")).collect::<Vec<_>>().join(",");
        let config = format!(
            "[req]\ndistinguished_name = name\n[name]\n\
             [ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier = hash\n\
             [server]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
             extendedKeyUsage = serverAuth\nauthorityKeyIdentifier = keyid\n\
             subjectAltName = DNS:registry.test,DNS:localhost,IP:127.0.0.1,{wires}\n"
        );
        let at = |name: &str| self.dir.join(name).into_os_string().into_string().unwrap();
        fs::create_dir_all(self.dir.join("trust")).unwrap();
        fs::write(at("openssl.cnf"), config).unwrap();
        let make = |days: &str, more: &[&str]| {
            let mut openssl = Command::new("faketime");
            openssl.args([
                when,
                "openssl",
                "req",
                "-x509",
                "-config",
                &at("openssl.cnf"),
                "-days",
                days,
                "-nodes",
            ]);
            openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]).args(more);
            stdout(&mut openssl);
        };
        let (ca, ca_key) = (at("trust/ca.crt"), at("ca.key"));
        // The authority stays the same, and outlives what it signs.
        if !Path::new(&ca).exists() {
            make(
                "3650",
                &["-extensions", "ca", "-subj", "/CN=Test authority", "-keyout", &ca_key, "-out", &ca],
            );
        }
        let signed_by =
            ["-extensions", "server", "-subj", "/CN=registry.test", "-CA", &ca, "-CAkey", &ca_key];
        make("2", &[&signed_by[..], &["-keyout", &at("server.key"), "-out", &at("server.crt")]].concat());
    }

    /// See "Configuring a registry" in the documentation of distribution. Without HTTP/2, so that one
    /// connection is one request at a time.
    fn config(&self) -> String {
        let (dir, port, secret) = (self.dir.display(), self.port, random_hex());
        let auth = format!("auth:\n  htpasswd: {{realm: test, path: {dir}/htpasswd}}\n");
        let auth = if self.closed { auth.as_str() } else { "" };
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
