//! What the lints see: the profile as it was read, and the merged table for places and for the tables of artifact kinds.

use toml::Spanned;
use toml::de::DeValue;

use crate::model::ServiceName;

use super::super::schema::Profile;
use super::super::service::Service;
use super::super::source::{Span, Table, Value};
use super::super::units::ImageReference;

/// What resolving has at hand.
#[derive(Debug)]
pub(crate) struct Seen<'p> {
    pub(crate) profile: &'p Profile,
    pub(crate) table: &'p Table<'p>,
    /// The images whose pin is a placeholder, where each is named first.
    pub(crate) placeholders: &'p [Spanned<ImageReference>],
}

/// The same, with ways to ask.
#[derive(Debug)]
pub(super) struct View<'p> {
    pub(super) profile: &'p Profile,
    pub(super) placeholders: &'p [Spanned<ImageReference>],
    table: &'p Table<'p>,
}

/// A text of a service, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Word<'p> {
    /// What it is, as `at` names it: `services.web.environment.TOKEN`.
    pub(super) subject: String,
    pub(super) span: Span,
    /// The variable's name; `None` for a piece of a command.
    pub(super) key: Option<&'p str>,
    pub(super) text: &'p str,
}

impl<'p> View<'p> {
    pub(super) fn new(seen: &Seen<'p>) -> Self {
        Self { profile: seen.profile, placeholders: seen.placeholders, table: seen.table }
    }

    /// Whether this build knows the artifact kind with this table.
    pub(super) fn knows(&self, table: &str) -> bool {
        self.profile.kinds.iter().any(|kind| kind.table == Some(table))
    }

    /// The value that `keys` lead to.
    pub(super) fn value(&self, keys: &[&str]) -> Option<&'p Value<'p>> {
        let (first, rest) = keys.split_first()?;
        let mut value = self.table.get(*first)?;
        for key in rest {
            value = value.get_ref().as_table()?.get(*key)?;
        }
        Some(value)
    }

    /// The text that `keys` lead to.
    pub(super) fn text(&self, keys: &[&str]) -> Option<(Span, &'p str)> {
        let value = self.value(keys)?;
        Some((value.span(), value.get_ref().as_str()?))
    }

    /// The texts that `keys` lead to: one, or those of a list.
    pub(super) fn texts(&self, keys: &[&str]) -> Vec<(Span, &'p str)> {
        let Some(value) = self.value(keys) else { return Vec::new() };
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        items.into_iter().filter_map(|item| Some((item.span(), item.get_ref().as_str()?))).collect()
    }

    /// The names of the tables below `keys`.
    pub(super) fn names(&self, keys: &[&str]) -> Vec<&'p str> {
        let table = self.value(keys).and_then(|value| value.get_ref().as_table());
        table.into_iter().flat_map(|table| table.keys()).map(|key| &**key.get_ref()).collect()
    }

    /// The whole number that `keys` lead to.
    pub(super) fn numbers(&self, keys: &[&str]) -> Vec<(Span, i64)> {
        let items = self.value(keys).and_then(|value| value.get_ref().as_array());
        let number = |item: &Value<'_>| {
            let integer = item.get_ref().as_integer()?;
            Some((item.span(), i64::from_str_radix(integer.as_str(), integer.radix()).ok()?))
        };
        items.into_iter().flat_map(|items| items.iter()).filter_map(number).collect()
    }

    /// Where a key of a service stands; the service's name if it has no such key.
    pub(super) fn place(&self, name: &ServiceName, service: &Service, key: &str) -> Span {
        let value = self.value(&["services", name.as_str(), key]);
        value.map_or_else(|| service.span.clone(), Spanned::span)
    }

    pub(super) fn is_singleton(&self, name: &ServiceName) -> bool {
        self.profile.singletons.iter().any(|singleton| singleton.get_ref() == name)
    }

    pub(super) fn is_migration(&self, name: &ServiceName) -> bool {
        self.profile.migrations.as_ref().is_some_and(|migrations| migrations.get_ref() == name)
    }

    /// The last part of the image's repository, and its host and path.
    pub(super) fn image(service: &Service) -> Option<(&str, &str)> {
        let image = service.image.as_ref()?.get_ref();
        Some((image.name.as_str(), image.repository.as_str()))
    }

    /// Everything that a service is told in words: its commands, its environment, its env files.
    pub(super) fn words(&self, name: &ServiceName) -> Vec<Word<'p>> {
        let mut words = Vec::new();
        for key in ["command", "entrypoint"] {
            for (span, text) in self.texts(&["services", name.as_str(), key]) {
                words.push(Word { subject: format!("services.{name}.{key}"), span, key: None, text });
            }
        }
        words.extend(self.told(name));
        words
    }

    /// The environment of a service, as a table or as a list of `KEY=VALUE`.
    pub(super) fn environment(&self, name: &ServiceName) -> Vec<Word<'p>> {
        self.variables(&["services", name.as_str(), "environment"])
    }

    /// What a service is told: its environment, and the env files that it reads.
    pub(super) fn told(&self, name: &ServiceName) -> Vec<Word<'p>> {
        let files =
            self.profile.services.get(name).map(|service| service.env_files.as_slice()).unwrap_or_default();
        let files = files.iter().flat_map(|file| self.env_file(file.get_ref()));
        self.environment(name).into_iter().chain(files).collect()
    }

    /// Every variable of every service and env file.
    pub(super) fn all_variables(&self) -> Vec<Word<'p>> {
        let services = self.profile.services.keys().flat_map(|name| self.environment(name));
        services.chain(self.profile.env_files.keys().flat_map(|name| self.env_file(name))).collect()
    }

    /// The variables of an env file, templates and all.
    pub(super) fn env_file(&self, name: &str) -> Vec<Word<'p>> {
        self.variables(&["env_files", name, "values"])
    }

    fn variables(&self, path: &[&str]) -> Vec<Word<'p>> {
        let Some(value) = self.value(path) else { return Vec::new() };
        let pairs: Vec<(Span, &str, &str)> = match value.get_ref() {
            DeValue::Table(table) => table
                .iter()
                .filter_map(|(key, value)| Some((value.span(), &**key.get_ref(), value.get_ref().as_str()?)))
                .collect(),
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| {
                    let (key, text) = item.get_ref().as_str()?.split_once('=')?;
                    Some((item.span(), key, text))
                })
                .collect(),
            _ => Vec::new(),
        };
        let word = |(span, key, text)| Word {
            subject: format!("{}.{key}", path.join(".")),
            span,
            key: Some(key),
            text,
        };
        pairs.into_iter().map(word).collect()
    }
}

impl Word<'_> {
    /// Whether its name or its text contains one of these, in whatever case.
    pub(super) fn says(&self, any: &[&str]) -> bool {
        let text = self.text.to_ascii_lowercase();
        let key = self.key.unwrap_or_default().to_ascii_lowercase();
        any.iter().any(|word| text.contains(word) || key.contains(word))
    }
}
