//! The fuzz targets of private parsers, and what drives them: that of the tests in `tests/fuzz/`, taken in.

#[path = "../tests/fuzz/drive.rs"]
#[allow(
    clippy::pedantic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a test may"
)]
pub(crate) mod drive;
#[path = "../tests/fuzz/mutate.rs"]
#[allow(clippy::pedantic, dead_code, reason = "its other half is for texts")]
mod mutate;

/// A target as a driver outside sees it: name, seeds besides the files, words, and what is run.
pub type Plain = (&'static str, fn() -> Vec<Vec<u8>>, &'static [&'static str], fn(&[u8]) -> String);

/// The targets that see private functions.
pub fn targets() -> impl Iterator<Item = Plain> {
    let all = crate::debian::fuzz::TARGETS.iter().chain(crate::registry::fuzz::TARGETS);
    all.map(|target| (target.name, target.seeds, target.words, target.run))
}
