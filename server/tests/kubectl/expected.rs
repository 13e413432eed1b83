//! Whether output is the expected one, line by line.

use regex::Regex;

/// What is different each time.
const PLACEHOLDERS: [(&str, &str); 8] = [
    ("<age>", r"(\d+y)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?"),
    ("<rv>", r"\d+"),
    ("<uid>", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    ("<time>", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    ("<ip>", r"\d+\.\d+\.\d+\.\d+"),
    ("<port>", r"\d+"),
    ("<random>", "[a-z0-9]{5}"),
    ("<any>", ".*"),
];

/// A line that stands for any number of lines.
const ANY_LINES: &str = "...";

/// Whether all of the output is as expected. Spaces at the ends of lines, and empty lines at the end, do not count.
pub(crate) fn is_so(expected: &str, output: &str) -> bool {
    let expected = lines(expected);
    let output = lines(output);
    let (mut wanted, mut seen) = (0, 0);
    // Where the last `...` is, and the line up to which it stands.
    let mut any: Option<(usize, usize)> = None;
    while seen < output.len() {
        match expected.get(wanted) {
            Some(&ANY_LINES) => {
                any = Some((wanted, seen));
                wanted += 1;
            }
            Some(line) if pattern(line).is_match(output[seen]) => {
                wanted += 1;
                seen += 1;
            }
            // It stands for one line more.
            _ => match any {
                Some((place, upto)) => {
                    any = Some((place, upto + 1));
                    wanted = place + 1;
                    seen = upto + 1;
                }
                None => return false,
            },
        }
    }
    expected[wanted..].iter().all(|line| *line == ANY_LINES)
}

fn lines(text: &str) -> Vec<&str> {
    // An output without a line is not one empty line.
    match text.trim_end() {
        "" => Vec::new(),
        text => text.lines().map(str::trim_end).collect(),
    }
}

fn pattern(line: &str) -> Regex {
    let bare = line
        .strip_prefix('/')
        .and_then(|line| line.strip_suffix('/'));
    let pattern = bare.map_or_else(|| literal(line), str::to_owned);
    Regex::new(&format!("^(?:{pattern})$")).unwrap()
}

/// The pattern of a line that is none itself.
fn literal(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    // Indentation means something, unlike the distance of columns.
    let mut pattern = " ".repeat(line.len() - text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let found = PLACEHOLDERS
            .iter()
            .find_map(|(name, pattern)| Some((rest.strip_prefix(name)?, *pattern)));
        if let Some((after, meaning)) = found {
            pattern += meaning;
            rest = after;
        } else if rest.starts_with("  ") {
            pattern += " {2,}";
            rest = rest.trim_start_matches(' ');
        } else {
            let (letter, after) = rest.split_at(letter.len_utf8());
            pattern += &regex::escape(letter);
            rest = after;
        }
    }
    pattern
}

#[test]
fn lines_are_compared_as_they_are_written() {
    assert!(is_so("", "\n"));
    assert!(!is_so("", "a"));
    assert!(!is_so("a", ""));
    assert!(is_so("a   b\n", "a      b  \n\n"));
    assert!(!is_so("a b", "a  b"));
    assert!(!is_so("  a", "   a"));
    assert!(is_so("x   <age>", "x     3m20s"));
    assert!(is_so(r"/a\d+/", "a12"));
    assert!(!is_so(r"/a\d+/", "a12b"));
    assert!(is_so("a\n...\nb\n...", "a\nx\nb\ny\nb"));
    assert!(is_so("...\nb\nc", "b\nb\nc"));
    assert!(!is_so("...\nb\nc", "b\nb\nc\nd"));
}
