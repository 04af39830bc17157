//! Paths and unit names that renderers spell out, and the questions that several of them ask of a spec.

use super::{Problem, RenderError};
use crate::model::{ServiceName, TreePath, UnitName, User};
use crate::spec::{Service, Spec};

/// A path in the tree.
pub(super) fn path(text: &str) -> Result<TreePath, RenderError> {
    text.parse().map_err(|error| fault(text, &error))
}

/// A unit's name.
pub(super) fn unit(text: &str) -> Result<UnitName, RenderError> {
    text.parse().map_err(|error| fault(text, &error))
}

fn fault(text: &str, error: &dyn std::fmt::Display) -> RenderError {
    RenderError::Format { path: text.to_owned(), reason: error.to_string() }
}

/// The service that a kind's table names.
pub(super) fn service<'a>(
    spec: &'a Spec,
    kind: &'static str,
    name: &ServiceName,
) -> Result<&'a Service, RenderError> {
    spec.services.get(name).ok_or_else(|| RenderError::NoService { kind, service: name.to_string() })
}

/// Who reads a service's secret files. An image without `user` runs as root.
pub(super) fn owner(service: &Service) -> User {
    service.user.unwrap_or(User { uid: 0, gid: 0 })
}

/// A finding about the value at `key` of the kind's table.
pub(super) fn problem(key: &str, message: String, hint: Option<String>) -> Problem {
    Problem { at: vec![key.to_owned()], message, hint }
}

/// What is wrong with a table that names `name` as its stateful service.
pub(super) fn check_service(spec: &Spec, name: &ServiceName) -> Option<Problem> {
    let Some(service) = spec.services.get(name) else {
        let names: Vec<&str> = spec.services.keys().map(ServiceName::as_str).collect();
        let hint = format!("the services are: {}", names.join(", "));
        return Some(problem("service", format!("there is no service `{name}`"), Some(hint)));
    };
    (service.placement != crate::spec::Placement::Data).then(|| {
        let hint = Some(format!("add `{name}` to `stateful`"));
        problem("service", format!("service `{name}` would be replaced by every release"), hint)
    })
}
