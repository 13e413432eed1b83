//! Which names, keys and values Kubernetes takes, and what it says of others.

use crate::kind::NameRule;

/// The longest name of one part.
const LABEL: usize = 63;
/// The longest name of parts with dots between.
const SUBDOMAIN: usize = 253;
/// The longest a generated name begins with; five characters are added.
const GENERATED: usize = LABEL - 5;

const LABEL_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORM: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SERVICE_LABEL_FORM: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const KEY_FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_FORM: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

const LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
     must start and end with an alphanumeric character";
const SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
     or '.', and must start and end with an alphanumeric character";
const SERVICE_LABEL_WORDS: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
     with an alphabetic character, and end with an alphanumeric character";
const WILDCARD_WORDS: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, \
     which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
const KEY_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character";
const VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character";

/// What is wrong with a name of an object, in upstream's words and order; nothing if it is a good one.
pub fn name_errors(rule: NameRule, name: &str) -> Vec<String> {
    match rule {
        NameRule::Subdomain => subdomain(name),
        NameRule::Label => label(name),
        NameRule::ServiceLabel => service_label(name),
        NameRule::Path => path_part(name),
    }
}

/// What is wrong with what names are to be generated from: the same, but that it may end with a dash.
pub fn generate_name_errors(rule: NameRule, prefix: &str) -> Vec<String> {
    match (rule, prefix.strip_suffix('-')) {
        (NameRule::Path, _) => path_part(prefix)
            .into_iter()
            .filter(|words| words.starts_with("may not contain"))
            .collect(),
        (_, Some(start)) if !start.is_empty() => {
            // Upstream puts a letter in place of the last two characters.
            let end = start
                .char_indices()
                .next_back()
                .map_or(0, |(place, _)| place);
            name_errors(rule, &format!("{}a", &start[..end]))
        }
        _ => name_errors(rule, prefix),
    }
}

/// What a generated name begins with: so much of `generateName` that with five more characters it is a label.
pub fn generate_name_base(prefix: &str) -> &str {
    let mut end = GENERATED.min(prefix.len());
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    &prefix[..end]
}

/// Words, examples and the form, as upstream puts them together.
fn explained(words: &str, form: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|one| format!("'{one}', ")).collect();
    format!(
        "{words} (e.g. {}regex used for validation is '{form}')",
        examples.join(" or ")
    )
}

/// What upstream says of text that is too long.
pub(super) fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

fn is_small(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_small(*first) && is_small(*last) && bytes.iter().all(|byte| is_small(*byte) || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_key(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(is_inner)
}

/// DNS-1123 label.
pub(super) fn label(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > LABEL {
        errors.push(too_long(LABEL));
    }
    if !is_label(name) {
        errors.push(match is_subdomain(name) {
            true => "must not contain dots".to_owned(),
            false => explained(LABEL_WORDS, LABEL_FORM, &["my-name", "123-abc"]),
        });
    }
    errors
}

/// DNS-1123 subdomain.
pub(super) fn subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > SUBDOMAIN {
        errors.push(too_long(SUBDOMAIN));
    }
    if !is_subdomain(name) {
        errors.push(explained(SUBDOMAIN_WORDS, SUBDOMAIN_FORM, &["example.com"]));
    }
    errors
}

/// DNS-1123 subdomain below `*.`.
pub(super) fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > SUBDOMAIN {
        errors.push(too_long(SUBDOMAIN));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        let form = format!(r"\*\.{SUBDOMAIN_FORM}");
        errors.push(explained(WILDCARD_WORDS, &form, &["*.example.com"]));
    }
    errors
}

/// DNS-1035 label.
pub(super) fn service_label(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > LABEL {
        errors.push(too_long(LABEL));
    }
    if !is_label(name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        errors.push(explained(
            SERVICE_LABEL_WORDS,
            SERVICE_LABEL_FORM,
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// One part of a path.
pub(super) fn path_part(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    let bad = ["/", "%"].into_iter().filter(|bad| name.contains(bad));
    bad.map(|bad| format!("may not contain '{bad}'")).collect()
}

/// A qualified name: a key of labels, a finalizer, and the like.
pub(crate) fn qualified(key: &str) -> Vec<String> {
    let explain = |words: &str| explained(words, KEY_FORM, &["MyName", "my.name", "123-abc"]);
    let mut errors = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            let words = explain(&format!("a valid label key {KEY_WORDS}"));
            return vec![format!(
                "{words} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            errors.extend(
                subdomain(prefix)
                    .into_iter()
                    .map(|words| format!("prefix part {words}")),
            );
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL {
        errors.push(format!("name part {}", too_long(LABEL)));
    }
    if !is_key(name) {
        errors.push(explain(&format!("name part {KEY_WORDS}")));
    }
    errors
}

/// A value of a label.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL {
        errors.push(too_long(LABEL));
    }
    if !value.is_empty() && !is_key(value) {
        errors.push(explained(
            VALUE_WORDS,
            VALUE_FORM,
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub(super) fn config_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > SUBDOMAIN {
        errors.push(too_long(SUBDOMAIN));
    }
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_inner) {
        errors.push(explained(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// A variable of the environment: anything that can be printed, but `=`.
pub(super) fn variable(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if name
        .bytes()
        .any(|byte| !(b' '..=b'~').contains(&byte) || byte == b'=')
    {
        let words = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(words.to_owned());
    }
    errors
}

/// A name of a port, as the registry of services has them.
pub(super) fn port_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push(too_long(15));
    }
    if name.is_empty() || !name.bytes().all(|byte| is_small(byte) || byte == b'-') {
        errors.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A percentage.
pub(super) fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let words = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![explained(words, "[0-9]+%", &["1%", "93%"])]
}

/// A name of a header of HTTP.
pub(super) fn header(name: &str) -> Vec<String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_inner) {
        return Vec::new();
    }
    let words = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![explained(words, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_explained_as_upstream_does() {
        assert_eq!(
            name_errors(NameRule::Subdomain, "Web"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
              start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            name_errors(NameRule::Label, "Web"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
              end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            name_errors(NameRule::ServiceLabel, "1a"),
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
              character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
              validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            name_errors(NameRule::Label, "a.b"),
            ["must not contain dots"]
        );
        assert_eq!(
            name_errors(NameRule::Label, &"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        assert_eq!(
            name_errors(NameRule::Path, "a/b%"),
            ["may not contain '/'", "may not contain '%'"]
        );
        assert_eq!(name_errors(NameRule::Path, ".."), ["may not be '..'"]);
        assert!(name_errors(NameRule::Path, "system:node").is_empty());
    }

    #[test]
    fn good_names_are_taken() {
        for name in ["a", "a-b", "0", "a.b-c.d", &"a".repeat(253)] {
            assert!(name_errors(NameRule::Subdomain, name).is_empty(), "{name}");
        }
        for name in ["", "-", "a-", ".a", "a..b", "a_b", "ä", &"a".repeat(254)] {
            assert!(!name_errors(NameRule::Subdomain, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn what_names_are_generated_from_may_end_with_a_dash() {
        assert!(generate_name_errors(NameRule::Subdomain, "web-").is_empty());
        assert!(generate_name_errors(NameRule::ServiceLabel, "web-").is_empty());
        assert!(!generate_name_errors(NameRule::Subdomain, "-").is_empty());
        assert!(!generate_name_errors(NameRule::Subdomain, "Web-").is_empty());
        assert!(generate_name_errors(NameRule::Path, "..").is_empty());
        assert_eq!(generate_name_base(&"a".repeat(70)).len(), 58);
        assert_eq!(generate_name_base(&"ä".repeat(40)).len(), 58);
        assert_eq!(
            generate_name_base(&format!("a{}", "ä".repeat(40))).len(),
            57
        );
        assert_eq!(generate_name_base("web-"), "web-");
    }

    #[test]
    fn keys_of_labels_have_an_optional_domain() {
        for key in ["a", "A_b.c", "example.com/a"] {
            assert!(qualified(key).is_empty(), "{key}");
        }
        assert_eq!(
            qualified(""),
            [
                "name part must be non-empty",
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(qualified("/a"), ["prefix part must be non-empty"]);
        assert!(qualified("a/b/c")[0].starts_with("a valid label key must consist of"));
        assert!(qualified("A/b")[0].starts_with("prefix part a lowercase RFC 1123 subdomain"));
        assert_eq!(
            qualified(&"a".repeat(64)),
            ["name part must be no more than 63 bytes"]
        );
    }

    #[test]
    fn values_of_labels_may_be_empty() {
        assert!(label_value("").is_empty());
        assert!(label_value("a_B.c").is_empty());
        assert!(
            label_value("a b")[0]
                .starts_with("a valid label must be an empty string or consist of")
        );
        assert_eq!(
            label_value(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
    }

    #[test]
    fn other_names_have_their_rules() {
        assert!(config_key("a.b_C-1").is_empty());
        assert!(!config_key("a b").is_empty());
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
        assert!(variable("A b").is_empty());
        assert!(!variable("A=b").is_empty());
        assert!(port_name("http-1").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
        assert!(percent("10%").is_empty());
        assert!(!percent("%").is_empty());
        assert!(wildcard_subdomain("*.a.b").is_empty());
        assert!(!wildcard_subdomain("a.*.b").is_empty());
    }
}
