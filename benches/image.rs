//! How fast images are built, pushed and unpacked: `cargo bench --bench image`, after `cargo static`, as root.
//!
//! Everything is measured side by side in one run, by turns, as whole processes, and judged by ratios of the least times:
//! against umoci 0.6 and skopeo 1.22 of Debian unstable (fetched once into the test cache with `mmdebstrap`), curl, and
//! `mmdebstrap` itself. The tree is the one of 110 Debian packages, and the registry Debian's `docker-registry` on tmpfs.
//!
//! It ends with exit code 1 if a goal is missed. Nothing here runs with the tests.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark may")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// How often each process is run.
const RUNS: usize = 5;
/// How long a byte is under way to the far registry, in either direction.
const WAY: Duration = Duration::from_millis(20);

fn cache() -> PathBuf {
    std::env::var_os("BUNDLE_TEST_CACHE").map_or_else(|| "/var/cache/bundle-tests".into(), PathBuf::from)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn program() -> PathBuf {
    let program = root().join("target/x86_64-unknown-linux-gnu/release/bundle");
    assert!(program.is_file(), "run `cargo static` first");
    program
}

/// Runs a command to its end; how long it took, in seconds.
fn timed(command: &mut Command) -> f64 {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let took = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

/// A program of Debian unstable, with its own libraries.
fn newer(program: &str) -> Command {
    let tools = cache().join("tools-sid");
    if !tools.is_dir() {
        let beside = cache().join("tools-sid.new");
        drop(fs::remove_dir_all(&beside));
        println!("fetching umoci and skopeo of Debian unstable into {}", tools.display());
        timed(
            Command::new("mmdebstrap")
                .args(["--variant=extract", "--include=umoci,skopeo,libc6", "--format=directory"])
                .args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "sid"])
                .arg(&beside),
        );
        fs::rename(beside, &tools).unwrap();
    }
    let mut command = Command::new(tools.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(tools.join("usr/lib/x86_64-linux-gnu"))
        .arg(tools.join("usr/bin").join(program));
    command
}

/// What two ways took, by turns.
struct Race {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn race(mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) -> Race {
    let mut race = Race { ours: Vec::new(), theirs: Vec::new() };
    for _ in 0..RUNS {
        race.ours.push(ours());
        race.theirs.push(theirs());
    }
    race
}

/// The goals that were missed.
#[derive(Default)]
struct Judge(Vec<String>);

impl Judge {
    fn ratio(&mut self, what: &str, race: &Race, goal: f64) {
        let (ours, theirs) = (least(&race.ours), least(&race.theirs));
        let ratio = ours / theirs;
        println!("{what:<58} {ours:8.3} s  {theirs:8.3} s   ratio {ratio:5.2}, goal {goal}");
        self.hold(what, ratio <= goal);
    }

    fn hold(&mut self, what: &str, held: bool) {
        if !held {
            self.0.push(what.to_owned());
        }
    }
}

/// Debian's registry, on tmpfs, without credentials.
struct Registry {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            dir.path().join("data").display()
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, dir }
    }

    /// Forgets everything that was pushed; it keeps nothing in memory but the config.
    fn forget(&self) {
        drop(fs::remove_dir_all(self.dir.path().join("data")));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port from which everything goes to `to` and back, each piece [`WAY`] later.
fn far(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let there = TcpStream::connect(("127.0.0.1", to)).unwrap();
            for (from, to) in [(&near, &there), (&there, &near)] {
                later(from.try_clone().unwrap(), to.try_clone().unwrap());
            }
        }
    });
    port
}

fn later(mut from: TcpStream, mut to: TcpStream) {
    let (put, take) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in take {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if put.send((Instant::now() + WAY, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    });
}

/// A project whose image is made of packages or of a tree, and the program that builds it.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new(image: &str, port: u16) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let text = format!(
            "environment = 'test'\ndomain = 'www.example.com'\n[registry]\nrepository = 'localhost:{port}/team/app'\n\
             [droplet]\nsize = 's-1vcpu-2gb'\nregion = 'fra1'\nimage = 'debian-13-x64'\n[firewall]\nssh_from = ['10.0.0.0/8']\n\
             [services.web]\nimage = 'web'\nuser = '1:1'\nhealthcheck = {{ test = ['CMD', 'true'] }}\nmem_limit = '64m'\n\
             cpus = '0.5'\npids_limit = 32\n[routes.web]\nservice = 'web'\nport = 80\nhealth = '/'\n[images.web]\n{image}\n"
        );
        fs::write(dir.path().join("p.toml"), text).unwrap();
        let project = Self { dir };
        timed(&mut project.bundle(&["lock", "p.toml"]));
        project
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn bundle(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.path()).args(["--root", "root"]).args(arguments);
        command
    }

    fn forget(&self, what: &str) {
        drop(fs::remove_dir_all(self.path().join("root/var/cache/bundle").join(what)));
    }
}

/// What was pushed: the manifest's digest, as skopeo sees it.
fn bytes_below(dir: &Path) -> u64 {
    let files = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    files.filter(|entry| entry.file_type().is_file()).map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The peak of a command's memory in kilobytes, as GNU time says.
fn peak(command: &Command) -> u64 {
    let mut measured = Command::new("/usr/bin/time");
    measured.args(["--format", "%M"]).arg(command.get_program()).args(command.get_args());
    measured.current_dir(command.get_current_dir().unwrap());
    let output =
        measured.output().unwrap_or_else(|error| panic!("GNU time (Debian's package `time`): {error}"));
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap().lines().last().unwrap().trim().parse().unwrap()
}

#[allow(clippy::too_many_lines, reason = "one measurement after the other")]
fn main() -> ExitCode {
    let mut judge = Judge::default();
    let registry = Registry::start();
    println!("{:<58} {:>10}  {:>10}", "least of five", "ours", "theirs");

    let packages = Project::new("packages = ['nginx-light', 'redis-server', 'postgresql']", registry.port);
    timed(&mut packages.bundle(&["image", "p.toml", "web", "--layout", "out"]));
    let build = race(
        || {
            packages.forget("layout");
            packages.forget("actions");
            timed(&mut packages.bundle(&["image", "p.toml", "web"]))
        },
        || {
            let mut theirs = Command::new("mmdebstrap");
            theirs.args(["--variant=minbase", "trixie", "/dev/null"]);
            timed(&mut theirs)
        },
    );
    judge.ratio("110 cached packages to layers, against minbase", &build, 0.5);
    println!(
        "{:<58} {:8.3} s",
        "the same with nothing to do",
        timed(&mut packages.bundle(&["image", "p.toml", "web"]))
    );

    let keep = "owner = 'keep', file_mode = 'keep', dir_mode = 'keep'";
    let project = Project::new(&format!("layers = [{{ from = 'tree', to = '/', {keep} }}]"), registry.port);
    let tree = project.path().join("tree");
    let image = format!("oci:{}:web", packages.path().join("out").display());
    timed(&mut packages.bundle(&["unpack", &image, tree.to_str().unwrap()]));
    let at = |name: &str| project.path().join(name).display().to_string();
    let theirs = |script: &dyn Fn()| {
        drop(fs::remove_dir_all(at("umoci")));
        timed(newer("umoci").args(["init", "--layout", &at("umoci")]));
        timed(newer("umoci").args(["new", "--image", &format!("{}:a", at("umoci"))]));
        script();
    };
    let layer = race(
        || {
            project.forget("layout");
            project.forget("actions");
            timed(&mut project.bundle(&["image", "p.toml", "web"]))
        },
        || {
            theirs(&|| {});
            timed(newer("umoci").args(["insert", "--image", &format!("{}:a", at("umoci")), &at("tree"), "/"]))
        },
    );
    judge.ratio("tree to layers, against umoci insert", &layer, 0.7);
    let (ours, umoci) = (
        bytes_below(&project.path().join("root/var/cache/bundle/layout/blobs")),
        bytes_below(&project.path().join("umoci/blobs")),
    );
    println!("{:<58} {ours:>8} B  {umoci:>8} B", "their size");
    judge.hold("size", ours <= umoci);
    project.forget("layout");
    project.forget("actions");
    let kilobytes = peak(&project.bundle(&["image", "p.toml", "web"]));
    println!("{:<58} {kilobytes:>8} KB", "peak of memory");
    let threads = thread::available_parallelism().unwrap().get() as u64;
    judge.hold("memory", kilobytes <= (64 + 4 * threads) << 10);

    let mut nth = 0;
    let repack = race(
        || {
            nth += 1;
            fs::write(tree.join("etc/changed"), format!("{nth}")).unwrap();
            timed(&mut project.bundle(&["image", "p.toml", "web"]))
        },
        || {
            drop(fs::remove_dir_all(at("bundle")));
            timed(newer("umoci").args(["unpack", "--image", &format!("{}:a", at("umoci")), &at("bundle")]));
            fs::write(project.path().join("bundle/rootfs/etc/changed"), "x").unwrap();
            timed(newer("umoci").args(["repack", "--image", &format!("{}:b", at("umoci")), &at("bundle")]))
        },
    );
    judge.ratio("one file changed, against umoci repack", &repack, 0.25);

    // The same blobs for everybody: the image as it is in a layout.
    timed(&mut project.bundle(&["image", "p.toml", "web", "--layout", "out"]));
    let image = format!("oci:{}:web", at("out"));
    let push = |port: u16| {
        registry.forget();
        timed(&mut Project::push(&project, port))
    };
    let raw = || {
        registry.forget();
        let blobs = fs::read_dir(project.path().join("out/blobs/sha256")).unwrap();
        let began = Instant::now();
        for blob in blobs.map(|blob| blob.unwrap().path()) {
            put(registry.port, &blob);
        }
        began.elapsed().as_secs_f64()
    };
    let cold = race(|| push(registry.port), raw);
    judge.ratio("cold push, against POST and PUT by curl", &cold, 1.15);
    let far_away = far(registry.port);
    let skopeo = |port: u16| {
        registry.forget();
        timed(
            newer("skopeo")
                .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", &image])
                .arg(format!("docker://localhost:{port}/team/app:x")),
        )
    };
    let latency = race(|| push(far_away), || skopeo(far_away));
    judge.ratio("cold push with 40 ms, against skopeo", &latency, 0.75);
    registry.forget();
    drop(project.push(far_away));
    let whole = timed(&mut project.bundle(&["push", "p.toml"]));
    println!("{:<58} {whole:8.3} s", "the same with SBOM and provenance");
    push(registry.port);
    let nothing: Vec<f64> = (0..RUNS).map(|_| timed(&mut project.bundle(&["push", "p.toml"]))).collect();
    println!("{:<58} {:8.3} s, goal 0.15", "build and push with nothing to do", least(&nothing));
    judge.hold("nothing to do", least(&nothing) <= 0.15);

    skopeo(registry.port);
    let pull = race(
        || {
            drop(fs::remove_dir_all(at("pulled")));
            timed(&mut project.bundle(&[
                "unpack",
                &format!("localhost:{}/team/app:x", registry.port),
                &at("pulled"),
            ]))
        },
        || {
            drop(fs::remove_dir_all(at("copied")));
            drop(fs::remove_dir_all(at("theirs")));
            let from = format!("docker://localhost:{}/team/app:x", registry.port);
            let to = format!("oci:{}:x", at("copied"));
            let words = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", &from, &to];
            timed(newer("skopeo").args(words))
                + timed(newer("umoci").args([
                    "unpack",
                    "--image",
                    &format!("{}:x", at("copied")),
                    &at("theirs"),
                ]))
        },
    );
    judge.ratio("pull, verify and unpack, against skopeo and umoci", &pull, 0.6);

    if judge.0.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("missed: {}", judge.0.join("; "));
    ExitCode::FAILURE
}

impl Project {
    /// Pushes the bundle, its image first, through another port.
    fn push(&self, port: u16) -> Command {
        let text = fs::read_to_string(self.path().join("p.toml")).unwrap();
        let (before, rest) = text.split_once("localhost:").unwrap();
        let (_, after) = rest.split_once('/').unwrap();
        fs::write(self.path().join("p.toml"), format!("{before}localhost:{port}/{after}")).unwrap();
        // Nobody else here sends what an image is made of.
        self.bundle(&["push", "p.toml", "--no-provenance"])
    }
}

/// Sends a blob as plainly as it can be done.
fn put(port: u16, blob: &Path) {
    let hex = blob.file_name().unwrap().to_str().unwrap();
    let url = format!("http://localhost:{port}/v2/team/raw/blobs/uploads/");
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--include", "--request", "POST", &url])
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    let location = answer.lines().find_map(|line| {
        line.split_once(": ")
            .filter(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| value.trim().to_owned())
    });
    let url = format!("{}&digest=sha256:{hex}", location.unwrap());
    timed(Command::new("curl").args(["--silent", "--fail", "--upload-file"]).arg(blob).arg(&url));
}
