//! The reader of profiles, fed with mutations of the shipped profiles and of everything that the other tests refuse, for
//! a bounded time.
//!
//! It learns: an input that makes the reader say something that it has not said before, in kind, is kept and mutated
//! further. So it reaches what lies behind the first mistake without a compiler's instrumentation, which only nightly
//! Rust has. `BUNDLE_FUZZ_SECONDS` makes it run longer, `BUNDLE_SEED` draws the same inputs again; what fails is written
//! out whole.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a test may")]

#[allow(clippy::pedantic, reason = "a test may")]
mod drive;
mod mutate;
#[allow(clippy::pedantic, reason = "a test may")]
mod targets;
#[allow(clippy::pedantic, reason = "a test may")]
mod unpacked;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bundle::artifacts::KINDS;
use bundle::bundle::seal;
use bundle::profile::{Diagnostics, Severity, Sources, check};
use drive::number;
use mutate::Random;

/// A profile and what it extends: path and text. The first is the profile.
type Input = Vec<(String, String)>;

/// What the reader said, in kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    /// The digest of the bundle is another matter; that there is one is what counts here.
    Built,
    /// It was refused only when it was rendered or sealed.
    Late(String),
    /// A finding: its message without what stands in backticks.
    Found(String),
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// What is mutated at first.
fn corpus() -> Vec<Input> {
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

fn sources<'i>(files: impl Iterator<Item = &'i (String, String)>, root: &str) -> Sources {
    let mut sources = Sources::new(root);
    for (path, text) in files {
        sources.add(path, text);
    }
    sources
}

/// Every finding leads into a file, shows nothing that a terminal obeys, and is said the same way twice.
fn sound(found: &Diagnostics, input: &Input) -> Result<(), String> {
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
fn judge(input: &Input) -> Result<BTreeSet<Said>, String> {
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

struct Outcome {
    tried: usize,
    kinds: BTreeMap<Said, usize>,
    kept: usize,
}

fn hunt(seed: u64, until: Instant) -> Outcome {
    let mut random = Random::new(seed);
    let mut corpus = corpus();
    let shipped = 3;
    let mut outcome = Outcome { tried: 0, kinds: BTreeMap::new(), kept: 0 };
    let started = corpus.len();
    while Instant::now() < until {
        // Each of the corpus once as it is, then mutations; the large ones less often, because they take longer.
        let input = if outcome.tried < started {
            corpus[outcome.tried].clone()
        } else {
            let nth = if random.one_in(5) { random.below(shipped) } else { random.below(corpus.len()) };
            let mut input = corpus[nth].clone();
            let other = random.below(corpus.len());
            let file = if random.one_in(4) { random.below(input.len()) } else { 0 };
            let donor = corpus[other][random.below(corpus[other].len())].1.clone();
            input[file].1 = mutate::text(&input[file].1, &donor, &mut random);
            input
        };
        outcome.tried += 1;
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&input)));
        let judged = judged.unwrap_or_else(|_| Err("it panicked".to_owned()));
        let said = judged.unwrap_or_else(|broken| {
            panic!("seed {seed}, input {}: {broken}\n{}", outcome.tried, shown(&input))
        });
        let mut new = false;
        for kind in said {
            let times = outcome.kinds.entry(kind).or_default();
            new |= *times == 0;
            *times += 1;
        }
        let size: usize = input.iter().map(|(_, text)| text.len()).sum();
        if new && outcome.tried > started && size < 100_000 {
            corpus.push(input);
            outcome.kept += 1;
        }
    }
    outcome
}

fn shown(input: &Input) -> String {
    input.iter().flat_map(|(path, text)| ["--- ", path, "\n", text, "\n"]).collect()
}

#[test]
fn whatever_is_written_the_reader_keeps_its_promises() {
    let began = Instant::now();
    let until = began + Duration::from_secs(number("BUNDLE_FUZZ_SECONDS").unwrap_or(15));
    // Another one in every run; every failure names its own.
    let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let seed = number("BUNDLE_SEED").unwrap_or_else(clock);
    let hunters = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4) as u64;
    println!("BUNDLE_SEED={seed}");
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let run = |nth: u64| move || hunt(seed.wrapping_add(nth), until);
        let running: Vec<_> = (0..hunters).map(|nth| scope.spawn(run(nth))).collect();
        running
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let tried: usize = outcomes.iter().map(|outcome| outcome.tried).sum();
    let kept: usize = outcomes.iter().map(|outcome| outcome.kept).sum();
    let kinds: BTreeSet<&Said> = outcomes.iter().flat_map(|outcome| outcome.kinds.keys()).collect();
    let late: Vec<_> = kinds.iter().filter(|said| matches!(said, Said::Late(_))).collect();
    println!(
        "{tried} inputs in {:.0?}, {} kinds of answer, {kept} inputs kept, refused only when rendered: {late:#?}",
        began.elapsed(),
        kinds.len()
    );
    // It must really reach both ends: bundles, and far more answers than the mistakes of one file have.
    assert!(kinds.contains(&Said::Built));
    assert!(kinds.len() > 100, "{kinds:#?}");
    assert!(kept > 10, "{kept}");
}

#[test]
fn whatever_bytes_come_from_elsewhere_are_answered_and_not_fallen_over() {
    println!("BUNDLE_SEED={}", drive::seed());
    // Each for its time, as many at once as there are processors.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(target) =
                    targets::TARGETS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    target.drive();
                }
            });
        }
    });
}

#[test]
fn a_broken_promise_would_be_seen() {
    let input: Input = vec![("p.toml".to_owned(), "domain = 5\n".to_owned())];
    let other: Input = vec![("p.toml".to_owned(), String::new())];
    let found = check(&sources(input.iter(), "p.toml"), KINDS).unwrap_err();
    assert_eq!(sound(&found, &input), Ok(()));
    assert!(sound(&found, &other).unwrap_err().contains("no such column"));
    assert!(sound(&found, &Vec::new()).unwrap_err().contains("no file"));
}
