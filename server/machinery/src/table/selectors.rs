//! Labels and selectors as text.

use serde_json::Value;

use super::expression::Call;
use super::tree::{items, printed, sorted_fields, text};

/// Labels with `,` between them; `<none>` if there are none.
pub(super) fn labels(call: &Call<'_>) -> Option<Value> {
    let fields = sorted_fields(call.tree(0)).into_iter();
    let mut lines: Vec<String> = fields
        .map(|(name, value)| format!("{name}={}", printed(value)))
        .collect();
    if lines.is_empty() {
        return Some("<none>".into());
    }
    // As upstream sorts the lines, not the names, `a.b=1` comes before `a=1`.
    lines.sort_unstable();
    Some(lines.join(",").into())
}

/// A label selector in one line; `<error>` if it is none.
pub(super) fn selector(call: &Call<'_>) -> Option<Value> {
    let selector = call.value(0)?;
    let mut requirements: Vec<(&str, String)> = Vec::new();
    for (name, value) in sorted_fields(&selector["matchLabels"]) {
        requirements.push((name.as_str(), format!("{name}={}", printed(value))));
    }
    for requirement in items(&selector["matchExpressions"]) {
        let name = text(&requirement["key"]);
        let mut values: Vec<&str> = items(&requirement["values"]).iter().map(text).collect();
        values.sort_unstable();
        let values = values.join(",");
        let line = match text(&requirement["operator"]) {
            "In" => format!("{name} in ({values})"),
            "NotIn" => format!("{name} notin ({values})"),
            "Exists" => name.to_owned(),
            "DoesNotExist" => format!("!{name}"),
            _ => return Some("<error>".into()),
        };
        requirements.push((name, line));
    }
    requirements.sort_by_key(|(name, _)| *name);
    let lines: Vec<String> = requirements.into_iter().map(|(_, line)| line).collect();
    Some(lines.join(",").into())
}

/// The parameters that a binding of an admission policy gives: by name, or by selector in the way in which Go prints
/// one.
pub(super) fn parameters(call: &Call<'_>) -> Option<Value> {
    let reference = call.value(0)?;
    match (text(&reference["namespace"]), text(&reference["name"])) {
        (_, "") => {}
        // Whether parameters are in namespaces cannot be told from here.
        ("", name) => return Some(format!("*/{name}").into()),
        (namespace, name) => return Some(format!("{namespace}/{name}").into()),
    }
    let selector = reference.get("selector")?;
    let mut labels = String::new();
    for (name, value) in sorted_fields(&selector["matchLabels"]) {
        labels.push_str(&format!("{name}: {},", printed(value)));
    }
    let mut expressions = String::new();
    for requirement in items(&selector["matchExpressions"]) {
        let values: Vec<&str> = items(&requirement["values"]).iter().map(text).collect();
        expressions.push_str(&format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text(&requirement["key"]),
            text(&requirement["operator"]),
            values.join(" ")
        ));
    }
    let text = format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    );
    Some(text.into())
}
