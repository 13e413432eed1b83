//! What keys and values of labels may look like, and what is wrong with those that do not.

/// Most bytes of a value, and of a key without its prefix.
const MAX_LABEL: usize = 63;
/// Most bytes of a key's prefix.
const MAX_PREFIX: usize = 253;

const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
    '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
    used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// What is wrong with the key of a label: nothing, if it is a name, or a DNS subdomain, a slash and a name.
pub(super) fn key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > MAX_PREFIX {
                    faults.push(format!(
                        "prefix part must be no more than {MAX_PREFIX} bytes"
                    ));
                }
                if !is_subdomain(prefix) {
                    faults.push(format!("prefix part {PREFIX_RULE}"));
                }
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {KEY_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL {
        faults.push(format!("name part must be no more than {MAX_LABEL} bytes"));
    }
    if !is_name(name) {
        faults.push(format!("name part {KEY_RULE}"));
    }
    faults
}

/// What is wrong with the value of a label: nothing, if it is empty or a name.
pub(super) fn value_faults(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > MAX_LABEL {
        faults.push(format!("must be no more than {MAX_LABEL} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        faults.push(VALUE_RULE.to_owned());
    }
    faults
}

fn is_name(text: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_alphanumeric();
    let is_inner = |byte: &u8| is_edge(byte) || b"-_.".contains(byte);
    has_edges(text, is_edge) && text.as_bytes().iter().all(is_inner)
}

fn is_subdomain(text: &str) -> bool {
    let is_edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inner = |byte: &u8| is_edge(byte) || *byte == b'-';
    text.split('.')
        .all(|label| has_edges(label, is_edge) && label.as_bytes().iter().all(is_inner))
}

fn has_edges(text: &str, is_edge: impl Fn(&u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(&is_edge) && bytes.last().is_some_and(&is_edge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_names_with_or_without_a_prefix() {
        let longest = format!("{}/{}", "a".repeat(MAX_PREFIX), "b".repeat(MAX_LABEL));
        for key in [
            "a",
            "App",
            "a.b-c_d",
            "1",
            "example.com/a",
            "a-b.c1/X",
            &longest,
        ] {
            assert_eq!(key_faults(key), Vec::<String>::new(), "{key}");
        }
        for (key, starts) in [
            (
                "",
                vec!["name part must be non-empty", "name part must consist of"],
            ),
            ("-a", vec!["name part must consist of"]),
            ("a_", vec!["name part must consist of"]),
            ("ä", vec!["name part must consist of"]),
            (
                &"a".repeat(64),
                vec!["name part must be no more than 63 bytes"],
            ),
            ("/a", vec!["prefix part must be non-empty"]),
            (
                "A.b/a",
                vec!["prefix part a lowercase RFC 1123 subdomain must consist of"],
            ),
            (
                "a..b/a",
                vec!["prefix part a lowercase RFC 1123 subdomain must consist of"],
            ),
            (
                &format!("{}/a", "a".repeat(254)),
                vec!["prefix part must be no more than 253 bytes"],
            ),
            ("a/b/c", vec!["a valid label key must consist of"]),
        ] {
            let faults = key_faults(key);
            assert_eq!(faults.len(), starts.len(), "{key}: {faults:?}");
            for (fault, start) in faults.iter().zip(starts) {
                assert!(fault.starts_with(start), "{key}: {fault}");
            }
        }
    }

    #[test]
    fn values_are_empty_or_names() {
        for value in ["", "a", "A.b-c_1", &"a".repeat(63)] {
            assert_eq!(value_faults(value), Vec::<String>::new(), "{value}");
        }
        assert_eq!(
            value_faults(&"a".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        for value in ["a/b", "-a", "a-", ".", "a b"] {
            assert_eq!(value_faults(value), [VALUE_RULE], "{value}");
        }
    }
}
