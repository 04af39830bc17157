//! Files with one setting on each line, a name and a value: `sshd_config(5)`, `sysctl.d(5)`, `journald.conf(5)`,
//! `modprobe.d(5)`, `apt.conf(5)` in its one-line form.

use super::{Refused, one_line};

/// Such a file while it is written.
#[derive(Debug)]
pub(in crate::artifacts) struct Settings {
    text: String,
    between: &'static str,
    end: &'static str,
}

impl Settings {
    /// `Name value`, as sshd reads it.
    pub(in crate::artifacts) fn spaced() -> Self {
        Self { text: String::new(), between: " ", end: "" }
    }

    /// `name = value`, as systemd-sysctl reads it.
    pub(in crate::artifacts) fn equals() -> Self {
        Self { text: String::new(), between: " = ", end: "" }
    }

    /// `Name=value` below a section, as systemd reads it.
    pub(in crate::artifacts) fn section(name: &'static str) -> Self {
        Self { text: format!("[{name}]\n"), between: "=", end: "" }
    }

    /// `Name "value";`, as apt reads it.
    pub(in crate::artifacts) fn apt() -> Self {
        Self { text: String::new(), between: " \"", end: "\";" }
    }

    /// Writes a comment.
    pub(in crate::artifacts) fn comment(&mut self, text: &'static str) -> &mut Self {
        // apt reads `#clear` and its like as orders: its comments begin with two slashes.
        let sign = if self.end.is_empty() { "#" } else { "//" };
        self.push(&[sign, " ", text])
    }

    /// Writes a line of our own making, word for word.
    pub(in crate::artifacts) fn fixed(&mut self, line: &'static str) -> &mut Self {
        self.push(&[line])
    }

    /// Writes a setting. A value that would end early, or be read as something else, is refused.
    pub(in crate::artifacts) fn set(&mut self, name: &str, value: &str) -> Result<&mut Self, Refused> {
        let (name, value) = (one_line(name)?, one_line(value)?);
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        let odd = |c: char| !plain(c) || "\"#".contains(c);
        if name.is_empty() || name.contains(|c: char| odd(c) || c == ' ' || c == '=') {
            return Err(Refused(format!("{name:?} is not the name of a setting")));
        }
        if value.trim() != value || value.contains(odd) {
            return Err(Refused(format!("{value:?} cannot be the value of `{name}`")));
        }
        let (between, end) = (self.between, self.end);
        Ok(self.push(&[name, between, value, end]))
    }

    fn push(&mut self, line: &[&str]) -> &mut Self {
        self.text.extend(line.iter().copied());
        self.text.push('\n');
        self
    }

    /// The file.
    pub(in crate::artifacts) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_syntax_has_its_own_way_to_put_a_value() {
        let written = |mut settings: Settings| {
            settings.set("A.b", "c d").unwrap();
            settings.finish()
        };
        assert_eq!(written(Settings::spaced()), "A.b c d\n");
        assert_eq!(written(Settings::equals()), "A.b = c d\n");
        assert_eq!(written(Settings::section("S")), "[S]\nA.b=c d\n");
        assert_eq!(written(Settings::apt()), "A.b \"c d\";\n");
    }

    #[test]
    fn no_value_reaches_beyond_its_line() {
        for (name, value) in [
            ("A", "b\nC d"),
            ("A", "b # c"),
            ("A", "b\"; D \"e"),
            ("A b", "c"),
            ("A", " b"),
            ("A=b", "c"),
            ("", "c"),
        ] {
            assert!(Settings::equals().set(name, value).is_err(), "{name:?} {value:?}");
        }
    }
}
