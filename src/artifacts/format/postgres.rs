//! PostgreSQL's two file syntaxes: parameters (PostgreSQL documentation, section 20.1.2) and host-based authentication
//! (section 21.1).

use super::{Refused, one_line};

/// `postgresql.conf` or `pg_hba.conf` while it is written.
#[derive(Debug, Default)]
pub(in crate::artifacts) struct Conf {
    text: String,
}

impl Conf {
    /// Writes a comment, with an empty line above it.
    pub(in crate::artifacts) fn comment(&mut self, text: &'static str) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str("# ");
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// Writes a parameter. Every value is quoted: PostgreSQL reads numbers and units from a string as well.
    pub(in crate::artifacts) fn set(&mut self, key: &str, value: &str) -> Result<&mut Self, Refused> {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
        if key.is_empty() || !key.chars().all(named) {
            return Err(Refused(format!("{key:?} is not the name of a setting")));
        }
        let value = one_line(value)?.replace('\\', "\\\\").replace('\'', "''");
        self.push(&[key, " = '", &value, "'"]);
        Ok(self)
    }

    /// Writes our own line of `pg_hba.conf`.
    pub(in crate::artifacts) fn fixed(&mut self, line: &'static str) -> &mut Self {
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    /// Writes a `host` line of `pg_hba.conf`.
    pub(in crate::artifacts) fn host(
        &mut self,
        database: &str,
        user: &str,
        network: ipnet::Ipv4Net,
        method: &'static str,
    ) -> Result<&mut Self, Refused> {
        let (database, user) = (hba_name(database)?, hba_name(user)?);
        self.push(&["host ", &database, " ", &user, " ", &network.trunc().to_string(), " ", method]);
        Ok(self)
    }

    fn push(&mut self, parts: &[&str]) {
        self.text.extend(parts.iter().copied());
        self.text.push('\n');
    }

    /// The file.
    pub(in crate::artifacts) fn finish(self) -> String {
        self.text
    }
}

/// In quotes a name is a name, whatever it spells: `"all"` is a database, not every one. Quotes cannot be escaped in
/// the versions before 17, and a slash or a plus sign still means a pattern or a group.
fn hba_name(name: &str) -> Result<String, Refused> {
    if one_line(name)?.is_empty() || name.contains('"') || name.starts_with(['/', '+', '@']) {
        return Err(Refused(format!("`{name}` cannot stand as a name in pg_hba.conf")));
    }
    Ok(format!("\"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_inside_its_quotes() {
        let mut conf = Conf::default();
        conf.set("a", r"it's \n").unwrap();
        assert_eq!(conf.finish(), "a = 'it''s \\\\n'\n");
        assert!(Conf::default().set("a", "x\nfsync = off").is_err());
        assert!(Conf::default().set("a = 1\nfsync", "off").is_err());
    }

    #[test]
    fn a_name_in_pg_hba_is_never_a_keyword() {
        let mut conf = Conf::default();
        conf.host("all", "app", "10.0.0.9/24".parse().unwrap(), "scram-sha-256").unwrap();
        assert_eq!(conf.finish(), "host \"all\" \"app\" 10.0.0.0/24 scram-sha-256\n");
        for wrong in ["", "a\"b", "/x", "+x", "@x", "a\nb"] {
            assert!(hba_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
