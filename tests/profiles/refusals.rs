//! Profiles that are malformed or dangerous, as whole processes: each is refused with exit code 1, in the right line,
//! and nothing is printed on stdout or left on the disk.
//!
//! A case is a profile that is laid over the sound one. The line at fault ends in `#!`; the diagnostics of a group stand
//! in one snapshot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The groups: each a file of cases, which begin with `=== name`.
const GROUPS: &[(&str, &str)] = &[
    ("toml", include_str!("refusals/toml.txt")),
    ("top", include_str!("refusals/top.txt")),
    ("services", include_str!("refusals/services.txt")),
    ("danger", include_str!("refusals/danger.txt")),
    ("ambiguous", include_str!("refusals/ambiguous.txt")),
    ("kinds", include_str!("refusals/kinds.txt")),
    ("between", include_str!("refusals/between.txt")),
];

/// A directory with the sound profile, its lock, and `p.toml`.
fn place(profile: &[u8]) -> TempDir {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("sound.toml"), include_str!("malformed/parts/sound.toml")).unwrap();
    fs::write(place.path().join("bundle.lock"), include_str!("malformed/bundle.lock")).unwrap();
    fs::write(place.path().join("key.pem"), include_str!("malformed/parts/key.pem")).unwrap();
    fs::write(place.path().join("bundle.lock.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let private = "[firewall.vpc]\ninterface = \"eth1\"\nsubnet = \"10.110.0.0/20\"\ntcp = [9100]\n";
    fs::write(place.path().join("private.toml"), private).unwrap();
    fs::write(place.path().join("p.toml"), profile).unwrap();
    place
}

fn build(place: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
    command.current_dir(place).args(["--root", "out", "build", "./p.toml"]);
    command.env_clear().output().unwrap()
}

/// What is said on stderr, after everything that holds for each refusal.
#[track_caller]
fn refused(name: &str, place: &Path) -> String {
    let output = build(place);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{name}: {:?}\n{said}", output.status);
    assert!(output.stdout.is_empty(), "{name}: something was printed");
    assert!(!place.join("out").exists(), "{name}: something was written");
    assert!(said.starts_with("error") || said.contains("\nerror"), "{name}: {said}");
    assert!(!said.contains("panicked"), "{name}: {said}");
    let odd = said.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(odd, None, "{name}: a control character reaches the terminal");
    said
}

/// The cases of a group: name and profile.
fn cases(group: &str) -> Vec<(&str, String)> {
    let cases = group.split("=== ").skip(1).map(|case| case.split_once('\n').unwrap());
    cases.map(|(name, text)| (name.trim(), text.to_owned())).collect()
}

#[test]
fn each_is_refused_in_the_right_line_and_leaves_nothing() {
    for (group, text) in GROUPS {
        let mut all = String::new();
        for (name, case) in cases(text) {
            let profile =
                if case.contains("extends") { case } else { format!("extends = \"sound.toml\"\n{case}") };
            let place = place(profile.as_bytes());
            let said = refused(name, place.path());
            let marked: Vec<usize> = (1..)
                .zip(profile.lines())
                .filter(|(_, line)| line.ends_with("#!"))
                .map(|(nth, _)| nth)
                .collect();
            for line in &marked {
                assert!(
                    said.contains(&format!("p.toml:{line}:")),
                    "{name}: nothing about line {line}\n{said}"
                );
            }
            // Only errors: what else is worth saying is another test's.
            let errors = said.split("\n\n").filter(|finding| finding.starts_with("error"));
            write!(all, "=== {name}\n{}\n\n", errors.collect::<Vec<_>>().join("\n\n").trim_end()).unwrap();
        }
        insta::assert_snapshot!(*group, all);
    }
}

#[test]
fn there_are_eighty_of_them_and_each_has_a_name_of_its_own() {
    let mut names: Vec<&str> =
        GROUPS.iter().flat_map(|(_, text)| cases(text)).map(|(name, _)| name).collect();
    let count = names.len();
    assert!(count >= 80, "{count}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Profiles that are bytes rather than text, or too much of something.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let over = |more: &str| format!("extends = \"sound.toml\"\n{more}").into_bytes();
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    vec![
        ("not UTF-8", [&over("# ")[..], b"\xff\xfe\n"].concat()),
        ("UTF-16", "extends = 'sound.toml'".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("half a letter", [&over("domain = \"")[..], b"\xc3"].concat()),
        ("a NUL in a string", over("domain = \"a\0b\"")),
        ("a NUL in a remark", over("# \0")),
        ("nothing but NULs", vec![0; 4096]),
        ("nothing", Vec::new()),
        ("a lone carriage return", over("domain = \"a.example.com\"\rstateful = []")),
        ("a surrogate by escape", over("domain = \"\\ud800\"")),
        ("beyond Unicode by escape", over("domain = \"\\U00110000\"")),
        ("half an escape", over("domain = \"\\u12\"")),
        ("ten megabytes", over(&"# nothing but a remark\n".repeat(10_000_000 / 23))),
        ("just over the limit", over(&" ".repeat(1 << 20))),
        (
            "ten thousand services",
            over(&many(10_000, &|nth| format!("[services.s{nth}]\nimage = \"ghcr.io/example/web:1\"\n"))),
        ),
        ("twenty thousand secrets", over(&many(20_000, &|nth| format!("[secrets.s{nth}]\n")))),
        ("eighty thousand unknown keys", over(&many(80_000, &|nth| format!("k{nth} = 1\n")))),
        (
            "a table of a kind with unknown keys without end",
            over(&format!("[firewall]\n{}", many(50_000, &|nth| format!("k{nth} = 1\n")))),
        ),
        (
            "a service with unknown keys without end",
            over(&format!("[services.web]\n{}", many(50_000, &|nth| format!("imag{nth} = 1\n")))),
        ),
        (
            "a list without end",
            over(&format!("stateful = [{}]", many(100_000, &|nth| format!("\"s{nth}\",")))),
        ),
        ("a list of one name", over(&format!("stateful = [{}]", "\"db\",".repeat(100_000)))),
        (
            "an environment without end",
            over(&format!("[services.web]\nenvironment = [{}]", "\"A=1\",".repeat(100_000))),
        ),
        (
            "volumes without end",
            over(&format!("[services.web]\nvolumes = [{}]", "\"a:/a\",".repeat(100_000))),
        ),
        ("a thousand syntax errors", over(&"= = =\n".repeat(1000))),
        ("a hundred thousand syntax errors", over(&"]\n".repeat(100_000))),
        ("deep brackets", over(&format!("stateful = {}", "[".repeat(100_000)))),
        ("deep brackets that close", over(&format!("x-a = {}{}", "[".repeat(5000), "]".repeat(5000)))),
        ("deep tables", over(&format!("x = {}1{}", "{a = ".repeat(5000), "}".repeat(5000)))),
        ("a deep header", over(&format!("[{}a]\n", "a.".repeat(100_000)))),
        ("a deep key", over(&format!("{}a = 1\n", "a.".repeat(100_000)))),
        (
            "a header for each depth",
            over(&many(300, &|depth| format!("[{}]\n", vec!["a"; depth + 1].join(".")))),
        ),
        ("a long key", over(&format!("{} = 1\n", "k".repeat(500_000)))),
        ("a long string", over(&format!("domain = \"{}\"\n", "d".repeat(500_000)))),
        ("a long line", over(&format!("stateful = [\"db\"{}, 1]\n", " ".repeat(500_000)))),
        ("a number without end", over(&format!("[routes.web]\nport = {}\n", "9".repeat(100_000)))),
        (
            "templates without end",
            over(&format!("[secrets.x]\ntemplate = \"{}\"\n", "{{ y }}".repeat(50_000))),
        ),
        (
            "exceptions without end",
            over(&format!("allow = [{}]", "{ lint = \"x\", reason = \"y\" },".repeat(20_000))),
        ),
    ]
}

/// Generous: what is squared in the length of its input takes minutes.
const SECONDS: Duration = Duration::from_secs(20);

#[test]
fn hostile_bytes_are_answered_within_seconds() {
    let mut all = String::new();
    let mut slowest = (Duration::ZERO, "");
    for (name, profile) in hostile() {
        let place = place(&profile);
        let began = Instant::now();
        let said = refused(name, place.path());
        let took = began.elapsed();
        slowest = slowest.max((took, name));
        assert!(took < SECONDS, "{name}: {took:?}");
        assert!(said.len() < 100_000, "{name}: an answer of {} bytes", said.len());
        // The first finding, cut where a line is without end.
        let first = said.split("\n\n").find(|finding| finding.starts_with("error")).unwrap();
        let lines = first.lines().map(|line| line.chars().take(160).collect::<String>());
        write!(all, "=== {name}\n{}\n\n", lines.collect::<Vec<_>>().join("\n").trim_end()).unwrap();
    }
    println!("the slowest answer took {:?}: {}", slowest.0, slowest.1);
    insta::assert_snapshot!(all);
}

/// What stands where a profile should.
#[test]
fn what_is_no_file_is_refused() {
    let at = |name: &str, make: &dyn Fn(&Path)| {
        let place = place(b"");
        let path = place.path().join("p.toml");
        fs::remove_file(&path).unwrap();
        make(&path);
        format!("=== {name}\n{}\n", refused(name, place.path()))
    };
    let run = |program: &str, arguments: &[&str], path: &Path| {
        assert!(Command::new(program).args(arguments).arg(path).status().unwrap().success());
    };
    let link = |target: &'static str| move |path: &Path| std::os::unix::fs::symlink(target, path).unwrap();
    insta::assert_snapshot!(
        [
            at("nothing there", &|_| ()),
            at("a directory", &|path| fs::create_dir(path).unwrap()),
            at("a pipe", &|path| run("mkfifo", &[], path)),
            at("a device without end", &link("/dev/zero")),
            at("a link to itself", &link("p.toml")),
            at("a link to nowhere", &link("nowhere.toml")),
        ]
        .concat()
    );
}

/// Windows' line ends and byte order mark are not malformed: they mean the same profile.
#[test]
fn line_ends_and_a_byte_order_mark_change_nothing() {
    let text = "extends = \"sound.toml\"\n[routes.web]\nport = 9000\n";
    let digest = |profile: &str| {
        let place = place(profile.as_bytes());
        let output = build(place.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = digest(text);
    assert_eq!(digest(&text.replace('\n', "\r\n")), plain);
    assert_eq!(digest(&format!("\u{feff}{text}")), plain);
}

/// Strings that a YAML reader takes for something else stay the strings that they are.
#[test]
fn what_looks_like_something_else_in_yaml_stays_a_string() {
    let odd = [
        "on",
        "off",
        "yes",
        "NO",
        "1e3",
        "0o17",
        "017",
        "12:30:00",
        "null",
        "~",
        "",
        "0x1f",
        "1_000",
        ".inf",
        "2001-01-01",
        "<<",
        "=",
        "- a",
        "a: b",
        "# a",
        "!!str",
        "*a",
        "&a",
        "%a",
        "@a",
        "`a",
        "{a",
        "[a",
        "\"",
        "'",
        "a\nb",
        " a ",
        "\u{85}",
        "\u{feff}",
    ];
    let mut text = "extends = \"sound.toml\"\n[services.web.environment]\n".to_owned();
    for (nth, value) in odd.iter().enumerate() {
        writeln!(text, "V{nth} = {}", serde_json::to_string(value).unwrap()).unwrap();
    }
    let place = place(text.as_bytes());
    let mut sources = bundle::profile::load(place.path().join("p.toml").to_str().unwrap());
    sources.add("unused", "");
    let tree = bundle::profile::check(&sources, bundle::artifacts::KINDS).unwrap().render().unwrap();
    let yaml = &tree.get("compose/blue.yaml", bundle::model::Slot::Blue).unwrap().content;
    fs::write(place.path().join("blue.yaml"), yaml).unwrap();
    // PyYAML is a reader of YAML 1.1, in which all of this means something.
    let script = "import json, sys, yaml\nservices = yaml.safe_load(open(sys.argv[1], encoding='utf-8'))['services']\n\
                  print(json.dumps([s['environment'] for s in services.values() if 'V0' in s.get('environment', {})][0]))";
    let read =
        Command::new("python3").args(["-c", script]).arg(place.path().join("blue.yaml")).output().unwrap();
    assert!(read.status.success(), "{} (apt install python3-yaml)", String::from_utf8_lossy(&read.stderr));
    let read: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    for (nth, value) in odd.iter().enumerate() {
        assert_eq!(read[format!("V{nth}")], **value, "{value:?}");
    }
}
