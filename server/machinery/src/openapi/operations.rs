//! What can be asked of a kind: its verbs as operations on paths, with what goes in and out. No format knows more.

use serde_json::{Value, json};

use super::catalogue::Catalogue;
use crate::kind::{Kind, Subresource};
use crate::schema::Schemas;

/// One method on one path.
pub(super) struct Operation {
    /// With the names of parameters in braces.
    pub(super) path: String,
    /// As OpenAPI writes it: `get`.
    pub(super) method: &'static str,
    /// `x-kubernetes-action`; none if it is about no object.
    pub(super) action: Option<&'static str>,
    /// Unique among all.
    pub(super) id: String,
    /// For people.
    pub(super) description: String,
    /// What operations are grouped by: `apps_v1`.
    pub(super) tag: String,
    /// `x-kubernetes-group-version-kind`; null if it is about no object.
    pub(super) about: Value,
    /// Parameters in the path, each with its description.
    pub(super) places: Vec<(&'static str, String)>,
    /// Parameters in the query.
    pub(super) parameters: Vec<&'static Parameter>,
    /// What goes in.
    pub(super) body: Option<Body>,
    /// The definition of what comes out; text if there is none.
    pub(super) answer: Option<String>,
    /// With which codes it comes out.
    pub(super) codes: &'static [(u16, &'static str)],
    /// What comes out may be a stream.
    pub(super) is_watchable: bool,
}

/// What goes in.
pub(super) struct Body {
    /// Name of its definition.
    pub(super) definition: String,
    /// In which forms.
    pub(super) media: &'static [&'static str],
    /// Whether it must be there.
    pub(super) is_required: bool,
}

/// A parameter in the query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// As schemas name it.
    pub(super) shape: &'static str,
    pub(super) description: &'static str,
    /// Actions that have it.
    actions: &'static [&'static str],
}

/// What every path takes.
pub(super) const PRETTY: Parameter = Parameter {
    name: "pretty",
    shape: "string",
    description: "If 'true', then the output is pretty printed.",
    actions: &[],
};

/// All others by name. kubectl looks for `dryRun` and `fieldValidation` on patches, and asks the server to validate only
/// if it finds the latter.
static PARAMETERS: [Parameter; 18] = [
    Parameter {
        name: "allowWatchBookmarks",
        shape: "boolean",
        description: "Whether a watch may send events of type BOOKMARK.",
        actions: &["list"],
    },
    Parameter {
        name: "continue",
        shape: "string",
        description: "The token of an earlier list that was not complete; this one goes on behind it.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "dryRun",
        shape: "string",
        description: "If 'All', everything is done but to keep the result.",
        actions: &["post", "put", "patch", "delete", "deletecollection"],
    },
    Parameter {
        name: "fieldManager",
        shape: "string",
        description: "Name of who makes the change, at most 128 printable characters. Required for apply patches.",
        actions: &["post", "put", "patch"],
    },
    Parameter {
        name: "fieldSelector",
        shape: "string",
        description: "Fields that objects must have to be selected. Defaults to everything.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "fieldValidation",
        shape: "string",
        description: "What to do about unknown and duplicate fields: 'Ignore' drops them, 'Warn' says so in warnings, \
                      'Strict' refuses the request. Defaults to 'Warn'.",
        actions: &["post", "put", "patch"],
    },
    Parameter {
        name: "force",
        shape: "boolean",
        description: "Whether an apply patch takes fields over that others manage. Other patches must not have it.",
        actions: &["patch"],
    },
    Parameter {
        name: "gracePeriodSeconds",
        shape: "integer",
        description: "Seconds until the object is deleted; zero is at once. Defaults to what the object says.",
        actions: &["delete", "deletecollection"],
    },
    Parameter {
        name: "ignoreStoreReadErrorWithClusterBreakingPotential",
        shape: "boolean",
        description: "Whether to delete an object that cannot be read any more.",
        actions: &["delete", "deletecollection"],
    },
    Parameter {
        name: "labelSelector",
        shape: "string",
        description: "Labels that objects must have to be selected. Defaults to everything.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "limit",
        shape: "integer",
        description: "How many objects to answer with at most; the rest follows by 'continue'.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "orphanDependents",
        shape: "boolean",
        description: "Deprecated: use 'propagationPolicy'. Whether dependents stay.",
        actions: &["delete", "deletecollection"],
    },
    Parameter {
        name: "propagationPolicy",
        shape: "string",
        description: "What becomes of dependents: 'Orphan' keeps them, 'Background' deletes them afterwards, \
                      'Foreground' deletes them first.",
        actions: &["delete", "deletecollection"],
    },
    Parameter {
        name: "resourceVersion",
        shape: "string",
        description: "Which version to answer from, or to watch from. Defaults to the newest.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "resourceVersionMatch",
        shape: "string",
        description: "How to take 'resourceVersion': 'Exact' or 'NotOlderThan'.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "sendInitialEvents",
        shape: "boolean",
        description: "Whether a watch begins with what there is, as events of type ADDED, and a bookmark at their end.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "timeoutSeconds",
        shape: "integer",
        description: "Seconds after which a list or watch ends, whatever happens.",
        actions: &["list", "deletecollection"],
    },
    Parameter {
        name: "watch",
        shape: "boolean",
        description: "Whether to answer with changes as they happen.",
        actions: &["list"],
    },
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

const OK: (u16, &str) = (200, "OK");
const CREATED: (u16, &str) = (201, "Created");
const ACCEPTED: (u16, &str) = (202, "Accepted");

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// All operations of a kind.
pub(super) fn of_kind(catalogue: &Catalogue, kind: &Kind) -> Vec<Operation> {
    let builder = Builder { catalogue, kind };
    let mut operations = vec![builder.discovery()];
    // A watch is a list that goes on.
    for verb in kind.verbs.iter().filter(|verb| *verb != "watch") {
        operations.push(builder.operation(verb, None, kind.namespaced));
    }
    if kind.namespaced && kind.offers("list") {
        operations.push(builder.operation("list", None, false));
    }
    for part in &kind.subresources {
        for verb in &part.verbs {
            operations.push(builder.operation(verb, Some(part), kind.namespaced));
        }
    }
    operations
}

/// Makes the operations of a kind.
struct Builder<'a> {
    catalogue: &'a Catalogue,
    kind: &'a Kind,
}

impl Builder<'_> {
    fn root(&self) -> String {
        match self.kind.group.as_str() {
            "" => format!("/api/{}/", self.kind.version),
            group => format!("/apis/{group}/{}/", self.kind.version),
        }
    }

    /// `apps`, `core`, `rbacAuthorization`.
    fn group(&self) -> String {
        let group = match self.kind.group.as_str() {
            "" => "core",
            group => group.strip_suffix(".k8s.io").unwrap_or(group),
        };
        let mut parts = group.split(['.', '-']);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |name, part| name + &capitalised(part))
    }

    fn tag(&self) -> String {
        format!("{}_{}", self.group(), self.kind.version)
    }

    /// `AppsV1`.
    fn group_version(&self) -> String {
        capitalised(&self.group()) + &capitalised(&self.kind.version)
    }

    /// What kinds are there. Each kind has it once more, all the same.
    fn discovery(&self) -> Operation {
        Operation {
            path: self.root(),
            method: "get",
            action: None,
            id: format!("get{}APIResources", self.group_version()),
            description: "get available resources".to_owned(),
            tag: self.tag(),
            about: Value::Null,
            places: Vec::new(),
            parameters: Vec::new(),
            body: None,
            answer: Some(format!("{META}APIResourceList")),
            codes: &[OK],
            is_watchable: false,
        }
    }

    fn operation(
        &self,
        verb: &str,
        part: Option<&Subresource>,
        is_in_namespace: bool,
    ) -> Operation {
        let kind = self.kind;
        let is_of_one = part.is_some() || matches!(verb, "get" | "update" | "patch" | "delete");
        let mut path = self.root();
        let mut places = Vec::new();
        if is_in_namespace {
            path += "namespaces/{namespace}/";
            places.push((
                "namespace",
                "object name and auth scope, such as for teams and projects".to_owned(),
            ));
        }
        path += &kind.plural;
        if is_of_one {
            path += "/{name}";
            places.push(("name", format!("name of the {}", kind.kind)));
        }
        if let Some(part) = part {
            path += "/";
            path += &part.name;
        }

        let (group, version, name) = match part {
            Some(part) => (
                part.group.as_deref().unwrap_or(&kind.group),
                part.version.as_deref().unwrap_or(&kind.version),
                part.kind.as_deref().unwrap_or(&kind.kind),
            ),
            None => (
                kind.group.as_str(),
                kind.version.as_str(),
                kind.kind.as_str(),
            ),
        };
        let definition = self.catalogue.name(group, version, name).map(str::to_owned);
        // Options of a connection are in the query and are no kind of object.
        let is_connection = definition.is_none();
        let (method, mut action, word) = match verb {
            "create" => ("post", "post", "create"),
            "update" => ("put", "put", "replace"),
            "patch" => ("patch", "patch", "patch"),
            "delete" => ("delete", "delete", "delete"),
            "deletecollection" => ("delete", "deletecollection", "delete"),
            "list" => ("get", "list", "list"),
            _ => ("get", "get", "read"),
        };
        if is_connection {
            action = "connect";
        }
        let status = || Some(format!("{META}Status"));
        let (answer, codes): (_, &[_]) = match action {
            "connect" => (None, &[OK]),
            "post" => (definition.clone(), &[OK, CREATED, ACCEPTED]),
            "put" | "patch" => (definition.clone(), &[OK, CREATED]),
            "delete" if kind.returns_deleted => (definition.clone(), &[OK, ACCEPTED]),
            "delete" => (status(), &[OK, ACCEPTED]),
            "deletecollection" => (status(), &[OK]),
            "list" => {
                let list = self.catalogue.name(group, version, &kind.list_kind());
                (list.map(str::to_owned), &[OK])
            }
            _ => (definition.clone(), &[OK]),
        };
        Operation {
            path,
            method,
            action: Some(action),
            id: self.id(verb, word, method, part, is_in_namespace, is_connection),
            description: describe(action, &kind.kind, part),
            tag: self.tag(),
            about: json!({ "group": group, "version": version, "kind": name }),
            places,
            parameters: parameters(action),
            body: self.body(action, definition),
            answer,
            codes,
            is_watchable: action == "list",
        }
    }

    fn body(&self, action: &str, definition: Option<String>) -> Option<Body> {
        let of_meta = |name: &str| format!("{META}{name}");
        match action {
            "post" | "put" => Some(Body {
                definition: definition?,
                media: &["*/*"],
                is_required: true,
            }),
            "patch" => Some(Body {
                definition: of_meta("Patch"),
                media: self.patches(),
                is_required: true,
            }),
            "delete" | "deletecollection" => Some(Body {
                definition: of_meta("DeleteOptions"),
                media: &["*/*"],
                is_required: false,
            }),
            _ => None,
        }
    }

    /// Strategic patches need to know which lists merge; of custom kinds nobody does.
    fn patches(&self) -> &'static [&'static str] {
        let kind = self.kind;
        let is_known = Schemas::builtin()
            .of_kind(&kind.group, &kind.version, &kind.kind)
            .is_some();
        if is_known { &PATCHES } else { &PATCHES[..3] }
    }

    /// `readAppsV1NamespacedDeploymentScale`, `listAppsV1DeploymentForAllNamespaces`,
    /// `deleteAppsV1CollectionNamespacedDeployment`, `connectCoreV1PostNamespacedPodExec`.
    fn id(
        &self,
        verb: &str,
        word: &str,
        method: &str,
        part: Option<&Subresource>,
        is_in_namespace: bool,
        is_connection: bool,
    ) -> String {
        let kind = self.kind;
        let mut id = if is_connection {
            format!("connect{}{}", self.group_version(), capitalised(method))
        } else {
            word.to_owned() + &self.group_version()
        };
        if verb == "deletecollection" {
            id += "Collection";
        }
        if is_in_namespace {
            id += "Namespaced";
        }
        id += &kind.kind;
        if let Some(part) = part {
            id += &capitalised(&part.name);
        } else if kind.namespaced && !is_in_namespace {
            id += "ForAllNamespaces";
        }
        id
    }
}

fn describe(action: &str, kind: &str, part: Option<&Subresource>) -> String {
    let what = match part {
        Some(part) => format!("{} of the specified {kind}", part.name),
        None => format!("the specified {kind}"),
    };
    match (action, part) {
        ("post", Some(part)) => format!("create {} of a {kind}", part.name),
        ("post", None) => format!("create a {kind}"),
        ("put", _) => format!("replace {what}"),
        ("patch", _) => format!("partially update {what}"),
        ("delete", _) => format!("delete {what}"),
        ("deletecollection", _) => format!("delete collection of {kind}"),
        ("list", _) => format!("list or watch objects of kind {kind}"),
        ("connect", _) => format!("connect to {what}"),
        _ => format!("read {what}"),
    }
}

/// Connections have none here: without nodes there is nothing to connect to, and all of them are refused.
pub(super) fn parameters(action: &str) -> Vec<&'static Parameter> {
    let all = PARAMETERS.iter();
    all.filter(|parameter| parameter.actions.contains(&action))
        .collect()
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.as_str()
    })
}
