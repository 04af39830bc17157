//! Profiles from outside: the shipped ones resolve, malformed ones are refused with everything that is wrong at once,
//! and no text makes the reader panic.

mod accepted;
mod kinds;
mod malformed;
mod mutated;
mod shipped;
