//! What an env file holds is what a container gets: Compose's own reader of such files says so, whatever stands in it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::process::Command;

use bundle::model::{SecretName, Template};
use serde_json::Value;

use crate::project::plugin;

/// What env files, Compose, shells and templates would each like to read, beside what they would not.
const SIGNS: &[char] = &[
    'a', 'Z', '0', ' ', '\t', '\n', '\r', '"', '\'', '\\', '$', '`', '{', '}', '#', '=', '%', '&', ':', '!',
    'é', '☃',
];

/// Texts of the signs, always the same ones.
fn texts() -> Vec<String> {
    let mut state = 1_u64;
    let mut next = |below: usize| {
        // Knuth's constants (The Art of Computer Programming, volume 2, 3.3.4).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    (0..400).map(|_| (0..next(14)).map(|_| SIGNS[next(SIGNS.len())]).collect()).collect()
}

#[test]
fn compose_reads_from_an_env_file_what_was_written_into_it() {
    let texts = texts();
    let mut lines = String::new();
    for (nth, text) in texts.iter().enumerate() {
        // As a secret, and, where it is no template itself, as text of the profile.
        let secret = Template::parse("{{ x }}").unwrap().in_env_file();
        let filled =
            Template::parse(&secret).unwrap().render(|_: &SecretName| Ok::<_, Infallible>(text.clone()));
        writeln!(lines, "SECRET_{nth}=\"{}\"", filled.unwrap()).unwrap();
        if !text.contains("{{") {
            writeln!(lines, "TEXT_{nth}=\"{}\"", Template::parse(text).unwrap().in_env_file()).unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("x.env"), lines).unwrap();
    let file = "services: {x: {image: busybox, env_file: [{path: x.env, required: false}]}}\n";
    std::fs::write(directory.path().join("compose.yaml"), file).unwrap();
    let words = plugin();
    let output = Command::new(&words[0])
        .args(&words[1..])
        .args(["config", "--format", "json"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let model: Value = serde_json::from_slice(&output.stdout).unwrap();
    let environment = model["services"]["x"]["environment"].as_object().unwrap();
    assert!(environment.len() > texts.len());
    for (name, value) in environment {
        let nth: usize = name.rsplit('_').next().unwrap().parse().unwrap();
        // `config` writes Compose files, in which a dollar sign is written twice.
        assert_eq!(value.as_str().unwrap().replace("$$", "$"), texts[nth], "{name}");
    }
}
