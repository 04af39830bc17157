//! Assignments that a POSIX shell reads with `.` (POSIX.1-2017, Shell Command Language, §2.2.2).

use super::{Refused, one_line};

/// A file of assignments while it is written.
#[derive(Debug, Default)]
pub(in crate::artifacts) struct Assignments {
    text: String,
}

impl Assignments {
    /// Writes a comment.
    pub(in crate::artifacts) fn comment(&mut self, text: &'static str) -> &mut Self {
        self.push(&format!("# {text}"));
        self
    }

    /// Writes `name='value'`.
    pub(in crate::artifacts) fn set(
        &mut self,
        name: &'static str,
        value: &str,
    ) -> Result<&mut Self, Refused> {
        // Between single quotes nothing but a single quote means anything.
        let value = one_line(value)?.replace('\'', r"'\''");
        self.push(&format!("{name}='{value}'"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reaches_the_shell_as_it_is() {
        let mut file = Assignments::default();
        file.comment("a").set("name", "it's $HOME `x` \\ \"").unwrap();
        assert_eq!(file.finish(), "# a\nname='it'\\''s $HOME `x` \\ \"'\n");
        assert!(Assignments::default().set("name", "a\nb").is_err());
    }
}
