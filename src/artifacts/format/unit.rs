//! systemd units: systemd.syntax(7), and the quoting of command lines in systemd.service(5).

use std::fmt::Write as _;

use super::Refused;

/// A unit file while it is written. Sections and settings stand in the order in which they are given.
#[derive(Debug, Default)]
pub(in crate::artifacts) struct UnitFile {
    text: String,
}

/// A part of a command line.
#[derive(Debug, Clone, Copy)]
pub(in crate::artifacts) enum Arg<'a> {
    /// Reaches the program exactly as it is.
    Literal(&'a str),
    /// Our own text, for systemd to expand: `$MAINPID`.
    Expanded(&'static str),
}

impl UnitFile {
    /// Starts a section.
    pub(in crate::artifacts) fn section(&mut self, name: &'static str) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.push(&format!("[{name}]"));
        self
    }

    /// Writes a comment.
    pub(in crate::artifacts) fn comment(&mut self, text: &'static str) -> &mut Self {
        self.push(&format!("# {text}"));
        self
    }

    /// Writes settings of our own making, word for word.
    pub(in crate::artifacts) fn fixed(&mut self, lines: &'static [&'static str]) -> &mut Self {
        for line in lines {
            self.push(line);
        }
        self
    }

    /// Writes a setting with a value that is not of our own making; `%` is doubled (systemd.unit(5), "Specifiers").
    pub(in crate::artifacts) fn set(&mut self, key: &'static str, value: &str) -> Result<&mut Self, Refused> {
        let value = super::one_line(value)?;
        if value.trim() != value || value.ends_with('\\') {
            return Err(Refused(format!("{value:?} cannot be the value of `{key}=`")));
        }
        self.push(&format!("{key}={}", value.replace('%', "%%")));
        Ok(self)
    }

    /// Writes a command line, such as `ExecStart=`.
    pub(in crate::artifacts) fn exec(
        &mut self,
        key: &'static str,
        args: &[Arg<'_>],
    ) -> Result<&mut Self, Refused> {
        let Some(Arg::Literal(program)) = args.first() else {
            return Err(Refused(format!("`{key}=` has no program")));
        };
        if !program.starts_with('/') {
            return Err(Refused(format!("the program `{program}` is not an absolute path")));
        }
        let words: Result<Vec<String>, Refused> = args.iter().map(|arg| arg.quoted()).collect();
        self.push(&format!("{key}={}", words?.join(" ")));
        Ok(self)
    }

    /// The file.
    pub(in crate::artifacts) fn finish(self) -> String {
        self.text
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

impl Arg<'_> {
    /// As a word of a command line: `%` and `$` doubled, C escapes inside double quotes.
    fn quoted(self) -> Result<String, Refused> {
        let text = match self {
            Self::Expanded(text) => return Ok(text.to_owned()),
            Self::Literal(text) => text,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            return Ok(text.to_owned());
        }
        let mut word = String::from("\"");
        for char in text.chars() {
            match char {
                '\0' => return Err(Refused("an argument cannot have a NUL byte".to_owned())),
                '"' | '\\' => word.extend(['\\', char]),
                '%' | '$' => word.extend([char, char]),
                control if control.is_ascii_control() => {
                    write!(word, "\\x{:02x}", u32::from(control))
                        .map_err(|error| Refused(error.to_string()))?;
                }
                other => word.push(other),
            }
        }
        word.push('"');
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(args: &[Arg<'_>]) -> Result<String, Refused> {
        let mut unit = UnitFile::default();
        unit.exec("ExecStart", args)?;
        Ok(unit.finish())
    }

    #[test]
    fn an_argument_reaches_the_program_as_it_is() {
        let args = ["/bin/echo", "a b", "50%", "$HOME", "q\"\\", "", ";", "a\nb"].map(Arg::Literal);
        let line = "ExecStart=/bin/echo \"a b\" \"50%%\" \"$$HOME\" \"q\\\"\\\\\" \"\" \";\" \"a\\x0ab\"\n";
        assert_eq!(exec(&args).unwrap(), line);
    }

    #[test]
    fn what_systemd_would_expand_is_written_only_on_request() {
        let line = exec(&[Arg::Literal("/bin/kill"), Arg::Literal("-USR2"), Arg::Expanded("$MAINPID")]);
        assert_eq!(line.unwrap(), "ExecStart=/bin/kill -USR2 $MAINPID\n");
    }

    #[test]
    fn a_value_stays_on_its_line() {
        let mut unit = UnitFile::default();
        unit.set("What", "/dev/50%").unwrap();
        assert!(unit.set("What", "a\nExecStart=/bin/sh").is_err() && unit.set("What", "a\\").is_err());
        assert_eq!(unit.finish(), "What=/dev/50%%\n");
    }

    #[test]
    fn a_program_is_an_absolute_path() {
        assert!(exec(&[Arg::Literal("true")]).is_err());
        assert!(exec(&[]).is_err());
        assert!(exec(&[Arg::Literal("/bin/true"), Arg::Literal("\0")]).is_err());
    }
}
