//! nftables scripts, as nft(8) reads them. What comes from a profile stands in sets and nowhere else: the rules are our
//! own text and name the sets.

use std::fmt::{Display, Write as _};

use super::Refused;

/// One table that replaces itself in a single transaction and leaves every other alone.
#[derive(Debug)]
pub(in crate::artifacts) struct Table {
    name: &'static str,
    body: String,
}

/// The longest name of an interface, `IFNAMSIZ` less the terminating NUL (netdevice(7)).
const INTERFACE_LENGTH: usize = 15;

impl Table {
    /// An empty table of family `inet`.
    pub(in crate::artifacts) fn inet(name: &'static str) -> Self {
        Self { name, body: String::new() }
    }

    /// A set. `head` is its type and flags. An empty set matches nothing, which is what an empty list means.
    pub(in crate::artifacts) fn set<T: Display>(
        &mut self,
        name: &'static str,
        head: &'static str,
        elements: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let elements: Vec<String> = elements.into_iter().map(|element| element.to_string()).collect();
        self.push(&format!("\tset {name} {{"));
        self.push(&format!("\t\t{head}"));
        if !elements.is_empty() {
            self.push(&format!("\t\telements = {{ {} }}", elements.join(", ")));
        }
        self.push("\t}\n");
        self
    }

    /// A chain with its rules, word for word.
    pub(in crate::artifacts) fn chain(
        &mut self,
        name: &'static str,
        rules: &'static [&'static str],
    ) -> &mut Self {
        self.push(&format!("\tchain {name} {{"));
        for rule in rules {
            self.push(&format!("\t\t{rule}"));
        }
        self.push("\t}\n");
        self
    }

    /// The script. Declared first, so that deleting works on a machine that does not have the table; `destroy` needs
    /// nft 1.0.7, and `flush ruleset` would take Docker's tables with it.
    pub(in crate::artifacts) fn finish(self) -> Result<String, Refused> {
        let Self { name, body } = self;
        let mut text = String::new();
        write!(
            text,
            "table inet {name}\ndelete table inet {name}\n\ntable inet {name} {{\n{}\n}}\n",
            body.trim_end_matches('\n')
        )
        .map_err(|error| Refused(error.to_string()))?;
        Ok(text)
    }

    fn push(&mut self, line: &str) {
        self.body.push_str(line);
        self.body.push('\n');
    }
}

/// An interface's name as an element of a set of type `ifname`.
pub(in crate::artifacts) fn interface(name: &str) -> Result<String, Refused> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > INTERFACE_LENGTH || !name.chars().all(plain) {
        return Err(Refused(format!(
            "`{name}` is not the name of an interface: letters, digits, `-`, `_` and `.`, at most {INTERFACE_LENGTH}"
        )));
    }
    Ok(format!("\"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_cannot_leave_its_quotes() {
        for wrong in ["", "eth0\" }", "a b", "0123456789abcdef", "eth*"] {
            assert!(interface(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(interface("eth0.100").unwrap(), "\"eth0.100\"");
    }

    #[test]
    fn an_empty_set_has_no_elements_line() {
        let mut table = Table::inet("t");
        table.set("ports", "type inet_service;", Vec::<u16>::new()).chain("c", &["accept"]);
        let text = table.finish().unwrap();
        assert!(!text.contains("elements"), "{text}");
    }
}
