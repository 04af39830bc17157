//! The reader of profiles: what it is given, and what it promises whatever that is.

use std::collections::BTreeSet;

use bundle::artifacts::KINDS;
use bundle::bundle::seal;
use bundle::profile::{Diagnostics, Severity, Sources, check};

use super::drive::Target;

/// A profile and what it extends: path and text. The first is the profile.
pub(crate) type Input = Vec<(String, String)>;

/// What the reader said, in kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    /// The digest of the bundle is another matter; that there is one is what counts here.
    Built,
    /// It was refused only when it was rendered or sealed.
    Late(String),
    /// A finding: its message without what stands in backticks.
    Found(String),
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// What is mutated at first.
pub(crate) fn corpus() -> Vec<Input> {
    let file = |name: &str| (format!("profiles/{name}"), read(&format!("profiles/{name}")));
    let shipped = |name: &str| vec![file(name), file("base.toml"), file("bundle.lock")];
    let sound = ("profiles/sound.toml".to_owned(), read("tests/profiles/malformed/parts/sound.toml"));
    let lock = ("profiles/bundle.lock".to_owned(), read("tests/profiles/malformed/bundle.lock"));
    let mut corpus = vec![shipped("production.toml"), shipped("staging.toml"), shipped("development.toml")];
    let mut cases: Vec<_> =
        std::fs::read_dir("tests/profiles/refusals").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    for path in cases {
        for case in read(path.to_str().unwrap()).split("=== ").skip(1) {
            let (_, text) = case.split_once('\n').unwrap();
            let text = format!("extends = \"sound.toml\"\n{text}").replace(" #!", "");
            corpus.push(vec![("profiles/p.toml".to_owned(), text), sound.clone(), lock.clone()]);
        }
    }
    corpus
}

pub(crate) fn sources<'i>(files: impl Iterator<Item = &'i (String, String)>, root: &str) -> Sources {
    let mut sources = Sources::new(root);
    for (path, text) in files {
        sources.add(path, text);
    }
    sources
}

/// Every finding leads into a file, shows nothing that a terminal obeys, and is said the same way twice.
pub(crate) fn sound(found: &Diagnostics, input: &Input) -> Result<(), String> {
    for item in found.iter() {
        let Some(place) = found.place(item) else { return Err(format!("no place: {}", item.message())) };
        let Some(line) = place.line else { continue };
        let Some((_, text)) = input.iter().find(|(path, _)| *path == place.path) else {
            return Err(format!("a place in no file: {place:?}"));
        };
        // Behind the last line feed there is one more line, where what is missing at the end is missed.
        let Some(shown) = text.split('\n').nth(line - 1) else {
            return Err(format!("no such line: {place:?}"));
        };
        if place.column.unwrap() > shown.chars().count() + 1 {
            return Err(format!("no such column: {place:?}"));
        }
    }
    let text = found.render(false);
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(odd) => Err(format!("{odd:?} reaches the terminal")),
        None if text != found.render(false) => Err("said in two ways".to_owned()),
        None => Ok(()),
    }
}

/// The findings of a refusal, and the error if it was refused only when it was rendered or sealed.
type Refused = Box<(Diagnostics, Option<String>)>;

/// The digest, and what is worth saying.
fn build(sources: &Sources) -> Result<(String, Diagnostics), Refused> {
    let resolved = check(sources, KINDS).map_err(|faults| Box::new((faults, None)))?;
    let late = |error: String| Box::new((resolved.warnings.clone(), Some(error)));
    let tree = resolved.render().map_err(|error| late(error.to_string()))?;
    let warnings = resolved.judge(&tree).map_err(|faults| Box::new((faults, None)))?;
    let bundle = seal(&resolved.spec, &tree).map_err(|error| late(error.to_string()))?;
    Ok((bundle.digest().to_string(), warnings))
}

/// What is said about an input, or which promise it breaks.
pub(crate) fn judge(input: &Input) -> Result<BTreeSet<Said>, String> {
    let root = &input[0].0;
    let first = build(&sources(input.iter(), root));
    // The order in which files were read is no input.
    let again = build(&sources(input.iter().rev(), root));
    let apart = |refused: Refused| *refused;
    let (found, mut said) = match (first.map_err(apart), again.map_err(apart)) {
        (Ok((digest, found)), Ok((other, _))) if digest == other => (found, BTreeSet::from([Said::Built])),
        (Ok((digest, _)), Ok((other, _))) => return Err(format!("two digests: {digest} and {other}")),
        (Err((found, late)), Err((_, other))) if late == other => {
            if late.is_none() && !found.has_errors() {
                return Err("refused without an error".to_owned());
            }
            let late = late.map(|error| Said::Late(in_kind(&error)));
            (found, late.into_iter().collect())
        }
        (first, again) => return Err(format!("built and refused: {first:?} {again:?}")),
    };
    if said.contains(&Said::Built) && found.iter().any(|item| item.severity() == Severity::Error) {
        return Err("built with an error".to_owned());
    }
    sound(&found, input)?;
    said.extend(found.iter().map(|item| Said::Found(in_kind(item.message()))));
    Ok(said)
}

/// A message without names and numbers.
fn in_kind(message: &str) -> String {
    let plain = message.split('`').step_by(2).collect::<Vec<_>>().join("`");
    plain.chars().filter(|c| !c.is_ascii_digit()).take(120).collect()
}

/// One profile beside a sound one that it may extend, as bytes for a driver that knows nothing of files.
pub(crate) const TARGET: Target = Target { name: "profile", seeds: texts, words: WORDS, run, least: 20 };

const WORDS: &[&str] = &[
    "[services.web]\n",
    "[images.web]\n",
    "[routes.web]\n",
    "[firewall]\n",
    "extends = \"sound.toml\"\n",
    "image = \"",
    "secrets = [",
    "environment = {",
    "healthcheck = {",
    "${secret:",
    "{{",
    "0s",
    "sha256:",
    "\\u",
    "= 1\n",
];

fn sound_files() -> [(String, String); 2] {
    let sound = ("profiles/sound.toml".to_owned(), read("tests/profiles/malformed/parts/sound.toml"));
    [sound, ("profiles/bundle.lock".to_owned(), read("tests/profiles/malformed/bundle.lock"))]
}

fn texts() -> Vec<Vec<u8>> {
    corpus().into_iter().map(|input| input[0].1.clone().into_bytes()).collect()
}

fn run(bytes: &[u8]) -> String {
    thread_local! {
        static SOUND: [(String, String); 2] = sound_files();
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
    let mut input = vec![("profiles/p.toml".to_owned(), text.to_owned())];
    SOUND.with(|sound| input.extend(sound.iter().cloned()));
    match judge(&input) {
        Ok(said) => format!("{:?}", said.first()),
        Err(broken) => panic!("{broken}"),
    }
}
