//! A reader of TOML: as much of it as a Cargo.toml can be written with, for the few keys that are looked up there.
//!
//! It reads what cargo has accepted before, so that it need not find what is wrong: where it cannot go on, the document
//! is none.

/// A value that is no table, with the keys on the way to it: `[a] b.c = "d"` is `a`, `b`, `c` with `d`. Arrays have no
/// value, and the tables of an array of tables are as one.
pub type Entry = (Vec<String>, String);

/// The entries of a document in their order; None when it is not TOML.
pub fn entries(text: &str) -> Option<Vec<Entry>> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), found: Vec::new() };
    let mut table = Vec::new();
    loop {
        reader.skip_lines();
        if reader.rest.is_empty() {
            return Some(reader.found);
        }
        if reader.take("[") {
            let of_array = reader.take("[");
            table = reader.key()?;
            reader.expect(if of_array { "]]" } else { "]" })?;
        } else {
            reader.pair(&table)?;
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    found: Vec<Entry>,
}

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => self.rest = rest,
            None => return false,
        }
        true
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        self.take(token).then_some(())
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    /// The longest prefix of such characters.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_string()
    }

    fn skip_blanks(&mut self) {
        self.take_while(|c| c == ' ' || c == '\t');
    }

    /// Skips blanks, line ends and comments.
    fn skip_lines(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// `a."b.c".d`
    fn key(&mut self) -> Option<Vec<String>> {
        let mut key = Vec::new();
        loop {
            self.skip_blanks();
            key.push(match self.rest.chars().next()? {
                '"' | '\'' => self.string()?,
                _ => Some(self.take_while(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
                    .filter(|k| !k.is_empty())?,
            });
            self.skip_blanks();
            if !self.take(".") {
                return Some(key);
            }
        }
    }

    /// `key = value`, in the table with these keys.
    fn pair(&mut self, table: &[String]) -> Option<()> {
        let key = [table, &self.key()?].concat();
        self.expect("=")?;
        self.value(key, false)
    }

    /// The value with this key, or one of the array that has it.
    fn value(&mut self, key: Vec<String>, of_array: bool) -> Option<()> {
        self.skip_blanks();
        let value = match self.rest.chars().next()? {
            '"' | '\'' => self.string()?,
            '[' => return self.list("[", "]", |reader| reader.value(key.clone(), true)),
            '{' => return self.list("{", "}", |reader| reader.pair(&key)),
            _ => self.take_while(|c| !",]}#\n".contains(c)).trim().to_string(),
        };
        if !of_array {
            self.found.push((key, value));
        }
        Some(())
    }

    /// An array or an inline table: items with commas between them.
    fn list(&mut self, open: &str, close: &str, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(open)?;
        loop {
            self.skip_lines();
            if self.take(close) {
                return Some(());
            }
            item(self)?;
            self.skip_lines();
            if !self.take(",") {
                return self.expect(close);
            }
        }
    }

    /// One of the four kinds of strings.
    fn string(&mut self) -> Option<String> {
        for (quote, escapes) in [("\"\"\"", true), ("'''", false), ("\"", true), ("'", false)] {
            if !self.take(quote) {
                continue;
            }
            let long = quote.len() == 3;
            if long && !self.take("\r\n") {
                self.take("\n");
            }
            let mut text = String::new();
            loop {
                if self.take(quote) {
                    // A long string may end in quotes of its own.
                    while long && self.take(&quote[..1]) {
                        text.push_str(&quote[..1]);
                    }
                    return Some(text);
                }
                match self.next()? {
                    '\\' if escapes => text.extend(self.escaped()?),
                    '\n' if !long => return None,
                    other => text.push(other),
                }
            }
        }
        None
    }

    /// What follows a backslash; nothing for a line that goes on.
    fn escaped(&mut self) -> Option<Option<char>> {
        let digits = match self.next()? {
            'b' => return Some(Some('\u{8}')),
            'e' => return Some(Some('\u{1b}')),
            'f' => return Some(Some('\u{c}')),
            'n' => return Some(Some('\n')),
            'r' => return Some(Some('\r')),
            't' => return Some(Some('\t')),
            same @ ('"' | '\\') => return Some(Some(same)),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            blank if blank.is_whitespace() => {
                self.take_while(char::is_whitespace);
                return Some(None);
            }
            _ => return None,
        };
        let code = u32::from_str_radix(self.rest.get(..digits)?, 16).ok()?;
        self.rest = &self.rest[digits..];
        char::from_u32(code).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries by a reader that others have written.
    fn expected(text: &str) -> Vec<Entry> {
        fn flat(key: &[String], value: &toml::Value, found: &mut Vec<Entry>) {
            match value {
                toml::Value::Table(table) => {
                    for (name, value) in table {
                        flat(&[key, std::slice::from_ref(name)].concat(), value, found);
                    }
                }
                toml::Value::Array(values) => {
                    for table in values.iter().filter(|value| value.is_table()) {
                        flat(key, table, found);
                    }
                }
                toml::Value::String(text) => found.push((key.to_vec(), text.clone())),
                other => found.push((key.to_vec(), other.to_string())),
            }
        }
        let mut found = Vec::new();
        flat(&[], &toml::Value::Table(text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"))), &mut found);
        found.sort();
        found
    }

    fn check(text: &str) -> usize {
        let mut found = entries(text).unwrap_or_else(|| panic!("not read:\n{text}"));
        found.sort();
        assert_eq!(found, expected(text), "{text}");
        found.len()
    }

    #[test]
    fn reads_what_another_reader_reads() {
        for text in [
            "",
            "# nothing\n\n",
            "\u{feff}a = 1",
            "a = 1\nb = true # c = 2\n\"c d\" = 'e'\r\n'f' = \"g\"",
            "a.b.c = 1\na . b . d = 2\n\"a\".'e.f' = 3",
            "[a]\nb = 1\n[a.c]\nd = 2\n[ e . \"f.g\" ]\nh = 3\n[empty]",
            "[target.'cfg(all(unix, target_arch = \"x86_64\"))'.dependencies]\na = \"1\"",
            "[[bin]]\nname = \"a\"\n[[bin]]\npath = 'b'\n[bin.c]\nd = 1",
            "a = { b = 1, c.d = \"2\", e = { f = [ { g = 1 }, 2 ] }, h = {} }\ni = 1",
            "a = [\n 1, # one, ]\n \"]\", ['[', \"\\\"]\"],\n]\nb = 2\nc = []",
            "a = \"\\\"\\\\ \\t\\n\\r\\f\\b \\u00e9 \\U0001F600 # no\"\nb = '\\'",
            "a = \"\"\"\nfirst\nsec\\\n   ond \"two\" \\\" \\u0041\"\"\"\"\nb = 1",
            "a = '''\r\nx\\ny 'q' # no\nz'''''\nb = \"\"\nc = ''\nd = \"\"\"\"\"\"\ne = ''''''",
            "a = -1.5\nb = 12\nc = inf",
        ] {
            check(text);
        }
        assert_eq!(
            entries("a = 1979-05-27 07:32:00 # when\n"),
            Some(vec![(vec!["a".into()], "1979-05-27 07:32:00".into())])
        );
    }

    #[test]
    fn reads_the_manifests_of_this_workspace() {
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for name in ["Cargo.toml", "Cargo.lock", "ferrule/Cargo.toml", "ferrule-macros/Cargo.toml", "rustfmt.toml"] {
            assert!(check(&std::fs::read_to_string(workspace.join(name)).unwrap()) > 0, "{name}");
        }
    }

    #[test]
    fn what_is_not_toml_has_no_entries() {
        for text in
            ["a", "a =", "= 1", "[a", "a = \"b", "a = \"b\nc\"", "a = [1", "a = { b = 1", "a = \"\\q\"", "a = '''b''"]
        {
            assert_eq!(entries(text), None, "{text}");
        }
    }
}
