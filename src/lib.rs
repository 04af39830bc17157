//! One digest is the whole machine.
