//! The words of the project as types: no I/O, no policy, nothing that knows a stage of the data flow.

pub mod certificate;
pub mod contract;
pub mod digest;
pub mod generation;
pub mod json;
pub mod mode;
pub mod name;
pub mod path;
pub mod pattern;
pub mod slot;
pub mod store_path;
pub mod template;

pub use certificate::{Certificate, ParseCertificateError};
pub use contract::{
    Check, Dump, Generator, Mask, OnChange, PROGRAM, REGISTRY_LOGINS, SecretFile, SecretOrigin, SecretSource,
    Slots, Unit, User,
};
pub use digest::{Digest, ParseDigestError};
pub use generation::GenerationNumber;
pub use mode::Mode;
pub use name::{
    ImageName, NetworkName, ParseNameError, ProfileName, RouteName, SecretName, ServiceName, UnitName,
};
pub use path::{ParsePathError, TreePath};
pub use pattern::{ParsePatternError, Pattern};
pub use slot::Slot;
pub use store_path::StorePath;
pub use template::{ParseTemplateError, Template};
