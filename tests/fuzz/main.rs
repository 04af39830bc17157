//! The reader of profiles, fed with mutations of the shipped profiles and of everything that the other tests refuse, for
//! a bounded time.
//!
//! It learns: an input that makes the reader say something that it has not said before, in kind, is kept and mutated
//! further. So it reaches what lies behind the first mistake without instrumentation (`tests/fuzz/guided` has it).
//! `BUNDLE_FUZZ_SECONDS` makes it run longer, `BUNDLE_SEED` draws the same inputs again; what fails is written out whole.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a test may")]

#[allow(clippy::pedantic, reason = "a test may")]
mod drive;
mod mutate;
#[allow(clippy::pedantic, dead_code, reason = "a test may; its target is for the guided driver")]
mod profiles;
#[allow(clippy::pedantic, reason = "a test may")]
mod targets;
#[allow(clippy::pedantic, reason = "a test may")]
mod unpacked;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bundle::artifacts::KINDS;
use bundle::profile::check;
use drive::number;
use mutate::Random;
use profiles::{Input, Said, corpus, judge, sound, sources};

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
