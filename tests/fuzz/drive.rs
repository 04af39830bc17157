//! Drives a parser of foreign bytes: mutates a seed corpus, and keeps what makes the parser answer in a way in which it
//! has not answered before. So it reaches what lies behind the first check without instrumentation, in seconds;
//! `tests/fuzz/guided` is for hours, and has it.
//!
//! The targets that see public functions are in `tests/fuzz/targets.rs`, those of private ones in the library's own
//! tests, which take this file in. `BUNDLE_FUZZ_SECONDS` is the time for each target, `BUNDLE_SEED` draws the same inputs
//! again; an input that breaks a promise is written out whole.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::mutate::Random;

/// Seconds for each target where nothing else is asked for.
const SECONDS: u64 = 4;
/// The longest input, in bytes.
const MAX_INPUT: usize = 64 << 10;

/// A parser of foreign bytes. It says in kind what it made of them, and panics where a promise is broken.
pub(crate) struct Target {
    /// Its name, and that of its directory of seeds below `tests/fuzz/corpus/`.
    pub(crate) name: &'static str,
    /// Seeds besides the files: such as are made better than kept.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// What the language has of words; a mutation puts them in.
    pub(crate) words: &'static [&'static str],
    pub(crate) run: fn(&[u8]) -> String,
    /// In how many kinds it must have answered, or it did not get anywhere.
    pub(crate) least: usize,
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("`{name}` is a number")))
}

/// How long each target runs.
pub(crate) fn time() -> Duration {
    Duration::from_secs(number("BUNDLE_FUZZ_SECONDS").unwrap_or(SECONDS))
}

/// Another one in every run; every failure names its own.
pub(crate) fn seed() -> u64 {
    number("BUNDLE_SEED").unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

/// The files of a corpus, in the order of their names.
pub(crate) fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A message without names and numbers: of what stands between quotes, whatever it has of them itself, nothing is
/// left, and of the rest only words, of which none is a digest.
pub(crate) fn in_kind(message: &str) -> String {
    let mut plain = message.to_owned();
    for quote in ['`', '"'] {
        if let (Some(first), Some(last)) = (plain.find(quote), plain.rfind(quote))
            && first < last
        {
            plain.replace_range(first + 1..=last, "");
        }
    }
    let words = plain
        .split_whitespace()
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic() || b"`'.,:-".contains(&byte)));
    words.take(14).collect::<Vec<_>>().join(" ")
}

/// An error with its causes, without names and numbers.
pub(crate) fn kind_of(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(|error| in_kind(&error.to_string())).collect::<Vec<_>>().join(": ")
}

fn mutated(bytes: &[u8], donor: &[u8], words: &[&str], random: &mut Random) -> Vec<u8> {
    const ODD: &[&[u8]] = &[
        b"\0", b"\xff", b"/", b"..", b".", b"7777777", b"-1", b"\"", b"{", b"[", b"\n", b" ", b"=", b".wh.",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(5) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(40).min(bytes.len() - at);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap_or_default(),
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            // Where tar keeps its fields, aligned.
            4 if bytes.len() >= 512 => {
                let field = [0, 100, 108, 124, 136, 156, 157, 257, 345][random.below(9)];
                let at = random.below(bytes.len() / 512) * 512 + field;
                let odd = if words.is_empty() || random.one_in(2) {
                    ODD[random.below(ODD.len())]
                } else {
                    words[random.below(words.len())].as_bytes()
                };
                let end = (at + odd.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&odd[..end - at]);
            }
            5 if !donor.is_empty() => {
                let from = random.below(donor.len());
                let to = (from + 1 + random.below(600)).min(donor.len());
                bytes.splice(at..at, donor[from..to].iter().copied());
            }
            6 if !words.is_empty() => {
                // In place of something, or between.
                let word = words[random.below(words.len())].as_bytes();
                let length = if random.one_in(2) { length } else { 0 };
                bytes.splice(at..at + length, word.iter().copied());
            }
            // A whole record of another input, in the order of blocks.
            7 if bytes.len() >= 512 && donor.len() >= 512 => {
                let from = random.below(donor.len() / 512) * 512;
                let to = (from + 512 * (1 + random.below(3))).min(donor.len());
                let at = random.below(bytes.len() / 512) * 512;
                bytes.splice(at..at, donor[from..to].iter().copied());
            }
            _ => {
                let odd = ODD[random.below(ODD.len())];
                bytes.splice(at..at, odd.iter().copied());
            }
        }
        bytes.truncate(MAX_INPUT);
    }
    bytes
}

/// What came of a hunt.
pub(crate) struct Outcome {
    pub(crate) tried: usize,
    pub(crate) kinds: BTreeSet<String>,
}

impl Target {
    pub(crate) fn hunt(&self, seed: u64, time: Duration) -> Outcome {
        let until = Instant::now() + time;
        let mut random = Random::new(seed);
        let mut corpus = [corpus(self.name), (self.seeds)()].concat();
        let started = corpus.len();
        assert!(started > 0, "`{}` has no seeds", self.name);
        let mut outcome = Outcome { tried: 0, kinds: BTreeSet::new() };
        while Instant::now() < until || outcome.tried < 2 * started {
            let input = if outcome.tried < started {
                corpus[outcome.tried].clone()
            } else {
                let (nth, other) = (random.below(corpus.len()), random.below(corpus.len()));
                mutated(&corpus[nth], &corpus[other], self.words, &mut random)
            };
            outcome.tried += 1;
            let said = catch_unwind(AssertUnwindSafe(|| (self.run)(&input))).unwrap_or_else(|_| {
                panic!("`{}` with seed {seed}, input {}: {}", self.name, outcome.tried, input.escape_ascii())
            });
            if outcome.kinds.insert(said) && corpus.len() < 1000 {
                corpus.push(input);
            }
        }
        outcome
    }

    /// Hunts as long as the environment says, and says what came of it.
    pub(crate) fn drive(&self) {
        let outcome = self.hunt(seed(), time());
        println!("{}: {} inputs, {} kinds of answer", self.name, outcome.tried, outcome.kinds.len());
        if number("BUNDLE_FUZZ_SHOW").is_some() {
            println!("{:#?}", outcome.kinds);
        }
        assert!(outcome.kinds.len() >= self.least, "{}: {:#?}", self.name, outcome.kinds);
    }
}
