//! The part of the lock that says what Dockerfiles came to: `[dockerfiles.IMAGE]`.

use std::fmt::Write as _;

use toml_writer::{ToTomlKey as _, ToTomlValue as _};

use super::super::diagnostics::Diagnostics;
use super::super::read::{Fields, as_table};
use super::super::source::Value;
use crate::model::Digest;
use crate::spec::DockerfileLock;

/// The text of one image's entry.
pub(super) fn write(text: &mut String, image: &str, lock: &DockerfileLock) {
    let DockerfileLock { inputs, digest, builder } = lock;
    let (image, builder) = (image.to_toml_key(), builder.to_toml_value());
    let _ = write!(
        text,
        "\n[dockerfiles.{image}]\ninputs = \"{inputs}\"\ndigest = \"{digest}\"\nbuilder = {builder}\n"
    );
}

/// Reads one image's entry; what is wrong is reported, and nothing is taken then.
pub(super) fn read(faults: &mut Diagnostics, image: &str, value: &Value<'_>) -> Option<DockerfileLock> {
    let what = format!("`dockerfiles.{image}`");
    let table = as_table(faults, &what, value)?;
    let mut fields = Fields::new(what, table, faults);
    for key in ["inputs", "digest", "builder"] {
        fields.require(key, Some(value.span()), "what `bundle lock` writes");
    }
    let (inputs, digest) = (fields.parsed::<Digest>("inputs"), fields.parsed::<Digest>("digest"));
    let builder = fields.string("builder");
    fields.finish();
    Some(DockerfileLock {
        inputs: inputs?.into_inner(),
        digest: digest?.into_inner(),
        builder: builder?.into_inner(),
    })
}
