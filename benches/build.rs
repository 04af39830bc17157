//! How fast a bundle is built: `cargo bench --bench build`.
//!
//! 1. Against Nix (Debian's `nix-bin`, without daemon and sandbox, a store of its own), as whole processes, in one run
//!    and by turns. Nix is handed the very bytes that `bundle` has to render, each a derivation as nixpkgs' `writeText`
//!    makes one, and one derivation more that lists them; what it does not have to do is to parse a profile, to check it,
//!    or to render anything. A second way of Nix is shown too, which spares it every builder but one:
//!    `builtins.toFile`.
//! 2. How the cost grows: up to 10,000 artifacts in one bundle, and up to as many services as a profile may have.
//!
//! It ends with exit code 1 if a goal is missed. Nothing here runs with the tests.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark may")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bundle::artifacts::{Entry, KINDS, Tree};
use bundle::bundle::{Layout, seal};
use bundle::profile::{Resolved, check, load};
use tempfile::TempDir;

/// How often each process is run.
const RUNS: usize = 15;

/// How many times faster than Nix: full build, change of one file, nothing to do.
const GOALS: [f64; 3] = [5.0, 5.0, 2.0];

/// Wall-clock times of runs, and the processor time of all of them together.
struct Times(Vec<Duration>, f64);

impl Times {
    fn least(&self) -> f64 {
        self.0.iter().min().unwrap().as_secs_f64() * 1e3
    }

    /// Milliseconds of processor time for each run.
    #[allow(clippy::cast_precision_loss, reason = "a few runs")]
    fn processor(&self) -> f64 {
        self.1 * 1e3 / self.0.len() as f64
    }

    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[sorted.len() / 2].as_secs_f64() * 1e3
    }
}

fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let took = began.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

/// Seconds of processor time that the children of this process have taken, as far as they have ended, and their
/// children (`proc_pid_stat(5)`, fields 16 and 17; there are 100 ticks in a second on x86).
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u32>().unwrap());
    f64::from(ticks.sum::<u32>()) / 100.0
}

/// One who builds: from nothing, after a change of one file, and with nothing to do.
trait Builder {
    fn name(&self) -> &str;
    /// Forgets every build.
    fn forget(&mut self);
    /// Changes one file, in a way that was never there.
    fn change(&mut self, nth: usize);
    fn build(&self) -> Command;
}

/// The released program if there is one (`cargo static`), else the one that was compiled with this benchmark.
fn program() -> PathBuf {
    let released =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/x86_64-unknown-linux-gnu/release/bundle");
    if released.is_file() { released } else { env!("CARGO_BIN_EXE_bundle").into() }
}

struct Ours {
    place: TempDir,
    base: String,
}

impl Ours {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        fs::create_dir(place.path().join("profiles")).unwrap();
        for name in ["base.toml", "production.toml", "bundle.lock"] {
            fs::copy(Path::new("profiles").join(name), place.path().join("profiles").join(name)).unwrap();
        }
        let base = fs::read_to_string("profiles/base.toml").unwrap();
        Self { place, base }
    }
}

impl Builder for Ours {
    fn name(&self) -> &'static str {
        "bundle build"
    }

    fn forget(&mut self) {
        drop(fs::remove_dir_all(self.place.path().join("out")));
    }

    fn change(&mut self, nth: usize) {
        let other = self.base.replace("maxmemory = \"256mb\"", &format!("maxmemory = \"{}mb\"", 100 + nth));
        assert_ne!(other, self.base);
        fs::write(self.place.path().join("profiles/base.toml"), other).unwrap();
    }

    fn build(&self) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.place.path()).args(["--root", "out", "build", "production"]);
        command
    }
}

/// How a text becomes a file in Nix's store.
#[derive(Clone, Copy)]
enum Way {
    /// A derivation with a builder, as nixpkgs' `writeText` is one; the shell itself writes the file.
    Derivation,
    /// `builtins.toFile`: written while the expression is evaluated, by no builder.
    ToFile,
}

struct Nix {
    way: Way,
    place: TempDir,
    files: Vec<(String, String)>,
}

impl Nix {
    fn new(way: Way, files: &[(String, String)]) -> Self {
        let nix = Self { way, place: TempDir::new().unwrap(), files: files.to_vec() };
        // Making its database is no part of a build: it is made once and put back each time.
        timed(nix.tool("nix-store").arg("--init"));
        timed(Command::new("cp").arg("-a").arg(nix.at("nix")).arg(nix.at("empty")));
        nix.write("");
        nix
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.place.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.place.path());
        for (name, path) in
            [("STORE", "store"), ("STATE", "var"), ("LOG", "log"), ("CONF", "etc"), ("DATA", "share")]
        {
            command.env(format!("NIX_{name}_DIR"), self.at("nix").join(path));
        }
        let config =
            "sandbox = false\nbuild-users-group =\nsubstitute = false\nsubstituters =\nmax-jobs = auto\n";
        command.env("NIX_CONFIG", config);
        command
    }

    fn write(&self, more: &str) {
        let mut text = "let\n  system = builtins.currentSystem;\n".to_owned();
        text.push_str(match self.way {
            Way::Derivation => {
                "  file = name: text: derivation { inherit name text system; builder = \"/bin/sh\"; \
                 args = [ \"-c\" \"printf %s \\\"$text\\\" > $out\" ]; };\n"
            }
            Way::ToFile => "  file = builtins.toFile;\n",
        });
        text.push_str(
            "in derivation {\n  name = \"bundle\"; inherit system; builder = \"/bin/sh\";\n  \
             args = [ \"-c\" \"for file in $files; do echo $file; done > $out\" ];\n  files = [\n",
        );
        for (nth, (name, content)) in self.files.iter().enumerate() {
            let more = if nth == 0 { more } else { "" };
            writeln!(text, "    (file {} {})", quoted(name), quoted(&format!("{content}{more}"))).unwrap();
        }
        text.push_str("  ];\n}\n");
        fs::write(self.at("bundle.nix"), text).unwrap();
    }
}

/// A string of Nix's language (Nix manual, "Data Types").
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

impl Builder for Nix {
    fn name(&self) -> &'static str {
        match self.way {
            Way::Derivation => "nix-build, a derivation each",
            Way::ToFile => "nix-build, builtins.toFile",
        }
    }

    fn forget(&mut self) {
        timed(Command::new("chmod").args(["-R", "u+w"]).arg(self.at("nix")));
        fs::remove_dir_all(self.at("nix")).unwrap();
        timed(Command::new("cp").arg("-a").arg(self.at("empty")).arg(self.at("nix")));
    }

    fn change(&mut self, nth: usize) {
        self.write(&format!("# {nth}\n"));
    }

    fn build(&self) -> Command {
        let mut command = self.tool("nix-build");
        command.args(["bundle.nix", "--no-out-link", "--quiet"]);
        command
    }
}

/// By turns, so that what else the machine does meets everybody.
fn measure(
    builders: &mut [Box<dyn Builder>],
    mut prepare: impl FnMut(&mut dyn Builder, usize),
) -> Vec<Times> {
    let mut times: Vec<Times> = builders.iter().map(|_| Times(Vec::new(), 0.0)).collect();
    for nth in 0..RUNS {
        for (builder, times) in builders.iter_mut().zip(&mut times) {
            prepare(builder.as_mut(), nth);
            let before = children();
            times.0.push(timed(&mut builder.build()));
            times.1 += children() - before;
        }
    }
    times
}

fn against_nix() -> bool {
    let resolved = check(&load("profiles/production.toml"), KINDS).unwrap();
    let tree = resolved.render().unwrap();
    let name = |(nth, entry): (usize, &Entry)| {
        // A store's name has no other characters.
        let name = format!("{nth}-{}", entry.path.name().replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        (name, String::from_utf8(entry.content.clone()).unwrap())
    };
    let files: Vec<(String, String)> = tree.entries().enumerate().map(name).collect();
    println!(
        "{} generated files, {RUNS} runs each; milliseconds: least / median, and processor time\n",
        files.len()
    );
    let mut builders: Vec<Box<dyn Builder>> = vec![
        Box::new(Ours::new()),
        Box::new(Nix::new(Way::Derivation, &files)),
        Box::new(Nix::new(Way::ToFile, &files)),
    ];
    println!("{:30}{:>24}{:>24}{:>24}", "", "full build", "one file changed", "nothing to do");
    let full = measure(&mut builders, |builder, _| builder.forget());
    let changed = measure(&mut builders, |builder, nth| builder.change(nth));
    let nothing = measure(&mut builders, |_, _| ());
    let rows = [full, changed, nothing];
    for (nth, builder) in builders.iter().enumerate() {
        let cell =
            |times: &Times| format!("{:.1} / {:.1}, {:.0}", times.least(), times.median(), times.processor());
        let cells = rows.each_ref().map(|row| cell(&row[nth]));
        println!("{:30}{:>24}{:>24}{:>24}", builder.name(), cells[0], cells[1], cells[2]);
    }
    let mut reached = true;
    for (which, measure) in [("least", Times::least as fn(&Times) -> f64), ("median", Times::median)] {
        println!("\nhow many times faster, by the {which}:");
        for (nth, builder) in builders.iter().enumerate().skip(1) {
            let ratios = rows.each_ref().map(|row| measure(&row[nth]) / measure(&row[0]));
            let cells = ratios.map(|ratio| format!("{ratio:.1}"));
            println!("{:30}{:>24}{:>24}{:>24}", builder.name(), cells[0], cells[1], cells[2]);
            // The goals are for the way in which Nix' own library makes a file. They are judged by the least, because
            // the rest is what other programs make a build wait for, mostly at the disk.
            let judged = nth == 1 && which == "least";
            reached &= !judged || ratios.iter().zip(GOALS).all(|(ratio, goal)| *ratio >= goal);
        }
    }
    println!("{:30}{:>24}{:>24}{:>24}", "goal", GOALS[0], GOALS[1], GOALS[2]);
    reached
}

/// A tree of the shipped profile with more files, each of about a kilobyte.
fn tree(resolved: &Resolved, artifacts: usize) -> Tree {
    let mut tree = resolved.render().unwrap();
    let have = tree.entries().count();
    for nth in have..artifacts {
        let mut content = String::new();
        for line in 0..40 {
            writeln!(content, "key_{line} = {}", nth * 7919 + line * 104_729).unwrap();
        }
        tree.insert(Entry::text("bench", format!("bench/{nth}.conf").parse().unwrap(), content)).unwrap();
    }
    tree
}

/// The least of a few: what the machine does besides only makes it longer.
fn least(mut run: impl FnMut()) -> f64 {
    let times = (0..5).map(|_| {
        let began = Instant::now();
        run();
        began.elapsed()
    });
    times.min().unwrap().as_secs_f64() * 1e3
}

/// Whether ten times as many cost at most this many times as much for each: caches end somewhere.
const LINEAR: f64 = 3.0;

fn by_artifacts() -> bool {
    let resolved = check(&load("profiles/production.toml"), KINDS).unwrap();
    println!(
        "\nartifacts in a bundle: milliseconds to render and seal, and to write the layout; microseconds for each\n"
    );
    println!("{:>10}{:>14}{:>14}{:>14}", "artifacts", "render, seal", "write", "for each");
    let mut each = Vec::new();
    for artifacts in [100, 300, 1000, 3000, 10_000] {
        let sealing = least(|| drop(seal(&resolved.spec, &tree(&resolved, artifacts)).unwrap()));
        let bundle = seal(&resolved.spec, &tree(&resolved, artifacts)).unwrap();
        assert_eq!(bundle.manifest().artifacts.len(), artifacts);
        let writing = least(|| {
            let place = TempDir::new().unwrap();
            Layout::create(place.path()).unwrap().add(&bundle).unwrap();
        });
        let cost = (sealing + writing) * 1e3 / f64::from(u32::try_from(artifacts).unwrap());
        println!("{artifacts:>10}{sealing:>14.1}{writing:>14.1}{cost:>14.1}");
        each.push(cost);
    }
    let linear = each[4] <= each[2] * LINEAR;
    println!("{:>10}{:>42}", "", format!("10,000 : 1000 for each = {:.2}", each[4] / each[2]));
    linear
}

fn by_services() -> bool {
    println!(
        "\nservices in a profile: milliseconds of a whole process, least of {RUNS}; microseconds for each\n"
    );
    println!("{:>10}{:>14}{:>14}", "services", "build", "for each");
    let mut each = Vec::new();
    for services in [5_u32, 20, 50, 100, 200] {
        let place = TempDir::new().unwrap();
        let mut profile = fs::read_to_string("tests/profiles/malformed/parts/sound.toml").unwrap();
        let mut lock = fs::read_to_string("tests/profiles/malformed/bundle.lock").unwrap();
        profile.push_str("\n[networks]\ndata = \"10.90.0.0/16\"\n");
        // The sound profile has two.
        for nth in 0..services - 2 {
            write!(
                profile,
                "\n[services.more-{nth}]\nimage = \"ghcr.io/example/web:1\"\nuser = \"10001:10001\"\n\
                 secrets = [\"db_url\"]\nmem_limit = \"4m\"\nmemswap_limit = \"4m\"\ncpus = \"0.1\"\npids_limit = 64\n\
                 read_only = true\ncap_drop = [\"ALL\"]\n[services.more-{nth}.environment]\nPORT = {nth}\n\
                 [services.more-{nth}.healthcheck]\ntest = [\"CMD\", \"health\"]\ninterval = \"10s\"\n"
            )
            .unwrap();
            let (data, slot) = (300 + 2 * nth, 20 + nth);
            writeln!(lock, "more-{nth} = {{ data_blue = {data}, data_green = {}, slot = {slot} }}", data + 1)
                .unwrap();
        }
        fs::write(place.path().join("p.toml"), profile).unwrap();
        fs::write(place.path().join("bundle.lock"), lock).unwrap();
        let run = |_| {
            let mut command = Command::new(program());
            timed(command.current_dir(place.path()).args(["--root", "out", "build", "./p.toml"]))
        };
        let least = Times((0..RUNS).map(run).collect(), 0.0).least();
        println!("{services:>10}{least:>14.1}{:>14.1}", least * 1e3 / f64::from(services));
        each.push(least / f64::from(services));
    }
    each[4] <= each[2] * LINEAR
}

fn main() -> ExitCode {
    println!("the program is `{}`", program().display());
    if Command::new("nix-build").arg("--version").output().is_err() {
        println!("`nix-build` is missing: apt install nix-bin");
        return ExitCode::FAILURE;
    }
    let reached = [
        ("faster than Nix by what was promised", against_nix()),
        ("linear in artifacts", by_artifacts()),
        ("linear in services", by_services()),
    ];
    println!();
    for (goal, reached) in reached {
        println!("{goal}: {}", if reached { "yes" } else { "NO" });
    }
    if reached.iter().all(|(_, reached)| *reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
