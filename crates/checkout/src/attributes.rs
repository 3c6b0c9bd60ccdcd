//! Finds the files that `.gitattributes` could convert.
//!
//! Only git decides what an attribute means. This module excludes what certainly needs no git: trees whose attributes convert
//! nothing on Linux, and files that no converting line could match. It may find too many files, which costs time, but never
//! too few.

/// The attributes that change what a checkout writes. `text`, `crlf`, and `eol` do so only if they result in CRLF.
const CONVERTING: [&[u8]; 3] = [b"filter", b"ident", b"working-tree-encoding"];

/// The pattern of a line, reduced to the file names that it could match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    Any,
    /// Files with this name.
    Name(Vec<u8>),
    /// Files whose name ends with this suffix.
    Suffix(Vec<u8>),
}

impl Match {
    /// Returns whether a file with this name could match.
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Name(only) => name == only,
            Self::Suffix(suffix) => name.ends_with(suffix),
        }
    }

    fn of_pattern(pattern: &[u8]) -> Self {
        let is_special = |byte: &u8| b"*?[\\\"".contains(byte);
        let last = pattern.rsplit(|&byte| byte == b'/').next().unwrap_or(pattern);
        match last {
            _ if pattern.starts_with(b"\"") => Self::Any,
            [b'*', suffix @ ..] if !suffix.iter().any(is_special) => Self::Suffix(suffix.to_vec()),
            [] => Self::Any,
            name if name.iter().any(is_special) => Self::Any,
            name => Self::Name(name.to_vec()),
        }
    }
}

/// The macros and settings that decide whether a line converts.
#[derive(Debug, Default)]
pub struct Context {
    /// The names of all macros, `[attr]name`. Each counts as converting: only git evaluates macros.
    pub macros: Vec<Vec<u8>>,
    /// Whether the repository's config converts text to CRLF.
    pub crlf: bool,
    /// Whether names are compared case-insensitively.
    pub ignore_case: bool,
    /// The filter drivers that are defined, once git's settings are read. For other drivers git converts nothing.
    pub drivers: Option<Vec<Vec<u8>>>,
}

impl Context {
    /// Adds the macros that a text defines.
    pub fn learn_macros(&mut self, text: &[u8]) {
        let names = lines(text).filter_map(|line| words(line).next()?.strip_prefix(b"[attr]"));
        self.macros.extend(names.map(<[u8]>::to_vec));
    }

    /// Collects the patterns of the lines that could convert a file.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> Vec<Match> {
        let mut found = Vec::new();
        for line in lines(text).filter(|line| !line.starts_with(b"[attr]")) {
            let (pattern, attributes) = split_pattern(line);
            if words(attributes).any(|attribute| self.converts(attribute)) {
                found.push(if self.ignore_case { Match::Any } else { Match::of_pattern(pattern) });
            }
        }
        found
    }

    /// Returns whether a text may choose a filter driver.
    #[must_use]
    pub fn may_filter(&self, text: &[u8]) -> bool {
        let is_filter =
            |word: &[u8]| word.starts_with(b"filter") && self.converts(word) || self.is_macro(word);
        lines(text).any(|line| words(split_pattern(line).1).any(is_filter))
    }

    fn is_macro(&self, name: &[u8]) -> bool {
        self.macros.iter().any(|known| known == name)
    }

    fn converts(&self, attribute: &[u8]) -> bool {
        // `-name` and `!name` only disable a conversion, and match no name here.
        let mut parts = attribute.splitn(2, |&byte| byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        // A pointer of Git LFS must be found even if its driver is not defined.
        let is_defined = |driver: &[u8]| {
            let drivers = self.drivers.as_ref();
            driver == b"lfs" || drivers.is_none_or(|drivers| drivers.iter().any(|name| name == driver))
        };
        CONVERTING.contains(&name) && (name != b"filter" || value.is_none_or(is_defined))
            || name == b"eol" && value == Some(b"crlf")
            || self.crlf && matches!(name, b"text" | b"crlf")
            || self.is_macro(name)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|&byte| byte == b'\n')
        .map(|line| &line[line.iter().take_while(|&&byte| is_blank(byte)).count()..])
        .filter(|line| !line.starts_with(b"#"))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty())
}

/// Returns whether a byte separates words. As in git's attr.c, a form feed does not.
fn is_blank(byte: u8) -> bool {
    b" \t\r\n".contains(&byte)
}

/// Splits a line into its pattern and its attributes. Returns a line with a quoted pattern, which is rare, as both. It matches
/// any file.
fn split_pattern(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|&byte| is_blank(byte)).unwrap_or(line.len());
    if line.starts_with(b"\"") { (line, line) } else { line.split_at(end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str) -> Vec<Match> {
        let mut context = Context::default();
        context.learn_macros(text.as_bytes());
        context.matches(text.as_bytes())
    }

    #[test]
    fn attributes_that_convert_nothing_on_linux_are_skipped() {
        let text = "* text=auto\n*.sh text eol=lf\n*.png binary\n*.x -filter !ident -text\n# * ident\n\
                    *.md diff=markdown merge=union linguist-generated export-ignore crlf=input\n";
        assert_eq!(matches(text), []);
        let context = Context { crlf: true, ..Context::default() };
        assert_eq!(context.matches(b"*.x text\n"), [Match::Suffix(b".x".into())]);
    }

    #[test]
    fn a_filter_converts_only_with_a_driver() {
        let context = Context { drivers: Some(vec![b"sops".into()]), ..Context::default() };
        let may_filter = |text: &str| context.may_filter(text.as_bytes());
        assert!(may_filter("*.key filter=sops") && may_filter("\"a b\" filter=lfs"));
        assert!(!may_filter("*.po filter=gettext\n*.bat text eol=crlf ident -filter"));
        let macros = Context { macros: vec![b"secret".into()], ..Context::default() };
        assert!(macros.may_filter(b"*.key secret"));
        let text = b"*.po filter=gettext\n*.key filter=sops\n*.psd filter=lfs\n*.x filter\n";
        let suffixes = [".key", ".psd", ".x"].map(|suffix| Match::Suffix(suffix.into()));
        assert_eq!(context.matches(text), suffixes);
    }

    #[test]
    fn patterns_are_reduced_to_names_and_suffixes() {
        let suffix = |text: &str| vec![Match::Suffix(text.into())];
        assert_eq!(matches("*.psd filter=lfs -text"), suffix(".psd"));
        assert_eq!(matches("\u{feff}  /a/**/*.c\tident"), suffix(".c"));
        assert_eq!(matches("dir/name.txt working-tree-encoding=UTF-16"), [Match::Name("name.txt".into())]);
        assert_eq!(matches("x working-tree-encoding"), [Match::Name("x".into())]);
        assert_eq!(matches("* eol=crlf\r\n"), suffix(""));
        for any in ["a?c ident", "dir/ ident", "\"a \\\" b\" ident", "[ab] filter=x", "a*b eol=crlf"] {
            assert_eq!(matches(any), [Match::Any], "{any}");
        }
    }

    #[test]
    fn macros_count_as_converting() {
        assert_eq!(matches("[attr]big filter=lfs\n*.iso big\n*.txt text"), [Match::Suffix(".iso".into())]);
        assert_eq!(matches("[attr]binary ident\n*.png binary"), [Match::Suffix(".png".into())]);
        assert_eq!(matches("*.iso big"), []);
    }

    #[test]
    fn names_fit_by_their_end() {
        assert!(Match::Suffix(b".c".into()).fits(b"a.c") && !Match::Suffix(b".c".into()).fits(b"a.cc"));
        assert!(Match::Name(b"a".into()).fits(b"a") && !Match::Name(b"a".into()).fits(b"ba"));
        assert!(Match::Any.fits(b"\n"));
    }
}
