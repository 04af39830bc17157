//! Current + target → plan → applied under the journal, or back.
//!
//! [`plan`] decides and touches nothing; [`transaction`] does what was decided, writing each intent before its effect;
//! [`recover`] settles what a crash left. All three see the machine only through [`Store`](crate::store::Store) and the
//! one trait [`Host`].

pub mod health;
pub mod host;
pub mod links;
pub mod plan;
pub mod prepare;
pub mod recover;
pub mod side;
pub mod step;
pub mod transaction;
pub mod undo;

pub use host::{Host, HostError, Probe};
pub use plan::Plan;
pub use prepare::Refusal;
pub use recover::Recovery;
pub use side::{Side, Way};
pub use step::{Effect, Step, UnitVerb};
pub use transaction::{Activator, SwitchError};
