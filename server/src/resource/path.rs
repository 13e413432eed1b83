//! Which resource a path names, as Kubernetes' API has them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// `/`.
    Root,
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz`, with the check that is asked for.
    Health(String),
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`.
    Resources(String, String),
    /// `/openapi/v2`.
    OpenApi2,
    /// `/openapi/v3`.
    OpenApi3,
    /// `/openapi/v3/<name>`.
    OpenApi3Document(String),
    /// An object, a collection, or a part of an object.
    Objects(Target),
    /// Nothing that is served.
    Unknown,
}

/// Which objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    /// Empty for all namespaces, or none.
    pub(super) namespace: String,
    /// Empty for a collection.
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Path {
    pub(super) fn read(path: &str) -> Self {
        let trimmed = path.trim_matches('/');
        if trimmed.is_empty() {
            return Self::Root;
        }
        let parts: Option<Vec<String>> = trimmed
            .split('/')
            .map(|part| {
                let decoded: Cow<'_, str> = percent_decode_str(part).decode_utf8().ok()?;
                (!decoded.is_empty()).then(|| decoded.into_owned())
            })
            .collect();
        let Some(parts) = parts else {
            return Self::Unknown;
        };
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let text = str::to_owned;
        match parts.as_slice() {
            ["version"] => Self::Version,
            ["healthz" | "livez" | "readyz", ..] if parts.len() <= 3 => {
                Self::Health(trimmed.into())
            }
            ["openapi", "v2"] => Self::OpenApi2,
            ["openapi", "v3"] => Self::OpenApi3,
            ["openapi", "v3", rest @ ..] => Self::OpenApi3Document(rest.join("/")),
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["api", version] => Self::Resources(String::new(), text(version)),
            ["apis", group] => Self::Group(text(group)),
            ["apis", group, version] => Self::Resources(text(group), text(version)),
            ["api", version, rest @ ..] => target("", version, rest),
            ["apis", group, version, rest @ ..] => target(group, version, rest),
            _ => Self::Unknown,
        }
    }
}

fn target(group: &str, version: &str, rest: &[&str]) -> Path {
    let at = |namespace: &str, plural: &str, name: &str, subresource: &str| {
        Path::Objects(Target {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    };
    match *rest {
        // Of namespaces themselves, not of what is in them.
        ["namespaces", name, "status" | "finalize"] => at("", "namespaces", name, rest[2]),
        ["namespaces", namespace, plural] => at(namespace, plural, "", ""),
        ["namespaces", namespace, plural, name] => at(namespace, plural, name, ""),
        ["namespaces", namespace, plural, name, subresource] => {
            at(namespace, plural, name, subresource)
        }
        [plural] => at("", plural, "", ""),
        [plural, name] => at("", plural, name, ""),
        [plural, name, subresource] => at("", plural, name, subresource),
        _ => Path::Unknown,
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first value of a name; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(one, _)| one == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Every value of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(one, _)| one == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Whether a name is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(one, _)| one == name)
    }

    /// Whether a name is there and does not say no: as upstream, anything but `false` and `0` says yes.
    pub(super) fn is_set(&self, name: &str) -> bool {
        let value = self.text(name);
        self.has(name) && !value.eq_ignore_ascii_case("false") && value != "0"
    }

    /// A number; none if there is none that can be read.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_objects_collections_and_parts() {
        let read = |path: &str| match Path::read(path) {
            Path::Objects(target) => format!(
                "{}|{}|{}|{}|{}|{}",
                target.group,
                target.version,
                target.plural,
                target.namespace,
                target.name,
                target.subresource
            ),
            other => format!("{other:?}"),
        };
        assert_eq!(read("/api/v1/pods"), "|v1|pods|||");
        assert_eq!(read("/api/v1/namespaces"), "|v1|namespaces|||");
        assert_eq!(read("/api/v1/namespaces/a"), "|v1|namespaces||a|");
        assert_eq!(
            read("/api/v1/namespaces/a/status"),
            "|v1|namespaces||a|status"
        );
        assert_eq!(
            read("/api/v1/namespaces/a/finalize"),
            "|v1|namespaces||a|finalize"
        );
        assert_eq!(read("/api/v1/namespaces/a/pods"), "|v1|pods|a||");
        assert_eq!(read("/api/v1/nodes/n/status"), "|v1|nodes||n|status");
        assert_eq!(
            read("/apis/apps/v1/namespaces/a/deployments/web/scale"),
            "apps|v1|deployments|a|web|scale"
        );
        assert_eq!(
            read("/api/v1/namespaces/a/configmaps/x%2Fy"),
            "|v1|configmaps|a|x/y|"
        );
        assert_eq!(read("/apis"), "Groups");
        assert_eq!(
            read("/openapi/v3/apis/apps/v1"),
            "OpenApi3Document(\"apis/apps/v1\")"
        );
        assert_eq!(read("/else"), "Unknown");
    }
}
