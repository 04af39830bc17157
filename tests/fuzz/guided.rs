//! The targets of the fuzz tests under libFuzzer, which sees by instrumentation what an input reaches: `tests/fuzz/guided`
//! compiles and runs it. `BUNDLE_FUZZ_TARGET` names the target; with `BUNDLE_FUZZ_SEEDS` its seeds and words are written
//! into that directory, and nothing is run.
#![cfg_attr(fuzzing, no_main)]
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may"
)]
#![allow(dead_code, reason = "the tests use the rest")]

#[cfg(fuzzing)]
mod drive;
#[cfg(fuzzing)]
mod mutate;
#[cfg(fuzzing)]
mod profiles;
#[cfg(fuzzing)]
mod targets;
#[cfg(fuzzing)]
mod unpacked;

#[cfg(fuzzing)]
mod guided {
    use std::path::PathBuf;
    use std::sync::OnceLock;

    use bundle::fuzz::Plain;

    use super::{drive, profiles, targets};

    fn all() -> impl Iterator<Item = Plain> {
        let seen = targets::TARGETS.iter().chain([&profiles::TARGET]);
        seen.map(|target| (target.name, target.seeds, target.words, target.run))
            .chain(bundle::fuzz::targets())
    }

    fn target() -> &'static Plain {
        static TARGET: OnceLock<Plain> = OnceLock::new();
        TARGET.get_or_init(|| {
            let name = std::env::var("BUNDLE_FUZZ_TARGET").unwrap_or_default();
            all().find(|(known, ..)| *known == name).unwrap_or_else(|| {
                let names: Vec<_> = all().map(|(name, ..)| name).collect();
                panic!("`BUNDLE_FUZZ_TARGET` is one of {}", names.join(", "))
            })
        })
    }

    fn write_seeds((name, seeds, words, _): &Plain, folder: &PathBuf) {
        std::fs::create_dir_all(folder.join("seeds")).unwrap();
        for (nth, seed) in [drive::corpus(name), seeds()].concat().iter().enumerate() {
            std::fs::write(folder.join(format!("seeds/{nth}")), seed).unwrap();
        }
        let hex = |word: &str| word.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let words: String =
            words.iter().filter(|word| !word.is_empty()).map(|word| format!("\"{}\"\n", hex(word))).collect();
        std::fs::write(folder.join("words"), words).unwrap();
    }

    libfuzzer_sys::fuzz_target!(
        init: {
            if let Some(folder) = std::env::var_os("BUNDLE_FUZZ_SEEDS") {
                write_seeds(target(), &folder.into());
                std::process::exit(0);
            }
        },
        |bytes: &[u8]| {
            let (.., run) = target();
            std::hint::black_box(run(bytes));
        }
    );
}

#[cfg(not(fuzzing))]
fn main() {
    println!("this runs under libFuzzer: `tests/fuzz/guided SECONDS [TARGET…]` compiles it so");
}
