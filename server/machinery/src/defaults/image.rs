//! Names of images, as far as the default of a pull policy needs them.

use serde_json::{Map, Value};

use super::text_at;

/// Sets a pull policy if there is none: `Always` for an image that has the tag `latest`, or neither tag nor digest.
pub(super) fn default_pull_policy(object: &mut Map<String, Value>, image: &str, policy: &str) {
    if object.contains_key(policy) {
        return;
    }
    let value = if is_latest(text_at(object, image)) {
        "Always"
    } else {
        "IfNotPresent"
    };
    object.insert(policy.to_owned(), Value::from(value));
}

/// Names that are longer are none.
const LONGEST_NAME: usize = 255;

/// Whether an image is the latest one of its name. A name that is none is not.
fn is_latest(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    if is_hash(image) || !is_repository(repository) || !digest.is_none_or(is_digest) {
        return false;
    }
    match tag {
        Some(tag) => tag == "latest",
        None => digest.is_none(),
    }
}

/// Whether text is the hash of an image, which is no name.
fn is_hash(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(is_digit)
}

/// Whether a name has a path of small letters, with or without a host before it.
fn is_repository(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if is_meant_as_host(host) => {
            if !is_host(host) {
                return false;
            }
            path
        }
        _ => name,
    };
    name.len() <= LONGEST_NAME && path.split('/').all(is_path_component)
}

/// Whether the first part of a name is no directory.
fn is_meant_as_host(part: &str) -> bool {
    let has_capital = part.bytes().any(|byte| byte.is_ascii_uppercase());
    part == "localhost" || part.contains(['.', ':']) || has_capital
}

/// Whether text is a host, with or without a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "0"),
    };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        let is_address = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
        return is_port && !address.is_empty() && address.bytes().all(is_address);
    }
    is_port && host.split('.').all(is_label)
}

/// Whether text is letters and digits, with `-` between them.
fn is_label(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_part) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether text is small letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    for byte in part.bytes() {
        if !is_word(byte) {
            separator.push(char::from(byte));
            continue;
        }
        let is_between = matches!(separator.as_str(), "" | "." | "_" | "__")
            || separator.bytes().all(|one| one == b'-');
        if !is_between {
            return false;
        }
        separator.clear();
    }
    part.bytes().next().is_some_and(is_word) && separator.is_empty()
}

/// Whether text is an algorithm and at least 32 hexadecimal digits.
fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hash)| {
        algorithm
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic())
            && hash.len() >= 32
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_image_is_pulled_always() {
        let digest = "sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a";
        for image in [
            "nginx",
            "nginx:latest",
            "library/nginx",
            "localhost:5000/nginx",
            "registry.example.com:5000/team/nginx:latest",
            "Registry/nginx",
            "[::1]:5000/nginx",
            &format!("nginx:latest@{digest}"),
        ] {
            assert!(is_latest(image), "{image}");
        }
        for image in [
            "",
            "nginx:1.25",
            "registry:5000/nginx:1",
            &format!("nginx@{digest}"),
            &format!("nginx:1@{digest}"),
            "Nginx",
            "nginx@sha256:short",
            "a//b",
            "a_-b",
            "-registry.example.com/a",
            "registry.example.com:port/a",
            &"0".repeat(64),
        ] {
            assert!(!is_latest(image), "{image}");
        }
    }
}
