//! What drives the fuzz targets of private parsers: those of the tests in `tests/fuzz/`, taken in.

#[path = "../tests/fuzz/drive.rs"]
#[allow(clippy::pedantic, clippy::disallowed_methods, clippy::print_stdout, reason = "a test may")]
pub(crate) mod drive;
#[path = "../tests/fuzz/mutate.rs"]
#[allow(clippy::pedantic, dead_code, reason = "its other half is for texts")]
mod mutate;
