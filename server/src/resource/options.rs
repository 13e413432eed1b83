//! Parameters that come with a request, held against what they may be, before anything else is done.

use machinery::status::{About, Fault, FieldError, Status};
use serde_json::json;

use super::path::Query;

/// The longest name of whoever writes.
const MANAGER: usize = 128;

/// Checks what a verb takes.
pub(super) fn check(verb: &str, query: &Query) -> Result<(), Status> {
    let numbers: &[&str] = match verb {
        "list" | "watch" | "deletecollection" => &["limit", "timeoutSeconds"],
        "delete" => &["gracePeriodSeconds"],
        _ => &[],
    };
    for name in numbers {
        let text = query.text(name);
        if !text.is_empty() && text.parse::<i64>().is_err() {
            return Err(Status::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            )));
        }
    }
    let options = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => return Ok(()),
    };
    let mut errors = Vec::new();
    if verb == "patch" && query.has("force") {
        let detail = "may not be specified for non-apply patch";
        errors.push(FieldError::new("force", Fault::Forbidden, detail));
    }
    check_manager(query.text("fieldManager"), &mut errors);
    errors.extend(check_dry_run(query.all("dryRun")));
    let validation = query.text("fieldValidation");
    if !["", "Ignore", "Strict", "Warn"].contains(&validation) {
        let detail = "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
        let error = FieldError::new("fieldValidation", Fault::NotSupported, detail);
        errors.push(error.of(validation));
    }
    refuse(options, &errors)
}

fn check_manager(manager: &str, errors: &mut Vec<FieldError>) {
    if manager.len() > MANAGER {
        let detail = format!("may not be more than {MANAGER} bytes");
        errors.push(FieldError::new("fieldManager", Fault::TooLong, detail));
    }
    // One is enough: a name may be as long as a path.
    if let Some((place, odd)) = manager.char_indices().find(|(_, one)| one.is_control()) {
        let detail = format!(
            "should only contain printable characters (invalid character U+{:04X} at position {place})",
            u32::from(odd)
        );
        errors.push(FieldError::new("fieldManager", Fault::Invalid, detail).of(manager));
    }
}

/// What is wrong with the stages that a dry run is to be of.
pub(super) fn check_dry_run<'a>(stages: impl Iterator<Item = &'a str>) -> Option<FieldError> {
    let stages: Vec<&str> = stages.filter(|stage| !stage.is_empty()).collect();
    stages.iter().any(|stage| *stage != "All").then(|| {
        let detail = "supported values: \"All\"";
        FieldError::new("dryRun", Fault::NotSupported, detail).of(json!(stages))
    })
}

/// The error of options that do not pass, if any does not.
pub(super) fn refuse(options: &str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let about = About {
        group: "meta.k8s.io".to_owned(),
        kind: options.to_owned(),
        name: String::new(),
    };
    Err(Status::invalid(about, errors))
}
