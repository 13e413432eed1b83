//! JSON patch, RFC 6902, with the limits and the few liberties of upstream's library.
//!
//! Liberties: an index below zero counts from the end, `add` and `replace` without a value write null, and a `test` for
//! null holds where there is no such field. One thing is stricter: the empty path, the object as a whole, is refused.

use serde_json::Value;

use super::{MAX_DEPTH, cannot_unmarshal, inapplicable, is_deeper};
use crate::status::{Reason, Status};

/// Most operations that a patch may have.
const MAX_OPERATIONS: usize = 10_000;

/// Most bytes, as JSON, that all `copy` operations of a patch together may add. Without it few operations, each of
/// which copies what those before have made, would fill the memory.
const MAX_COPIED: usize = 3 << 20;

/// Applies a JSON patch: all of it or nothing.
pub(super) fn apply(object: &Value, patch: &Value) -> Result<Value, Status> {
    let operations = read(patch)
        .map_err(|fault| Status::bad_request(format!("error decoding patch: {fault}")))?;
    if operations.len() > MAX_OPERATIONS {
        let message = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(Status::new(Reason::RequestEntityTooLarge, message));
    }
    let mut patched = object.clone();
    let mut copied = 0;
    for operation in &operations {
        operation
            .apply(&mut patched, &mut copied)
            .ok_or_else(inapplicable)?;
    }
    Ok(patched)
}

/// One operation as it is written. What it lacks shows when it is applied, as upstream has it.
struct Operation<'a> {
    op: &'a str,
    path: Option<&'a str>,
    from: Option<&'a str>,
    value: &'a Value,
}

fn read(patch: &Value) -> Result<Vec<Operation<'_>>, String> {
    match patch {
        // To upstream null is an empty list.
        Value::Null => Ok(Vec::new()),
        Value::Array(operations) => operations.iter().map(read_operation).collect(),
        other => Err(cannot_unmarshal(
            other,
            "value of type []handlers.jsonPatchOp",
        )),
    }
}

fn read_operation(written: &Value) -> Result<Operation<'_>, String> {
    if !matches!(written, Value::Object(_) | Value::Null) {
        return Err(cannot_unmarshal(
            written,
            "value of type handlers.jsonPatchOp",
        ));
    }
    let text = |name: &str| match written.get(name) {
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        None | Some(Value::Null) => Ok(None),
        Some(other) => {
            let place = format!("struct field jsonPatchOp.{name} of type string");
            Err(cannot_unmarshal(other, &place))
        }
    };
    Ok(Operation {
        op: text("op")?.unwrap_or_default(),
        path: text("path")?,
        from: text("from")?,
        value: written.get("value").unwrap_or(&Value::Null),
    })
}

impl Operation<'_> {
    /// None if it does not apply.
    fn apply(&self, root: &mut Value, copied: &mut usize) -> Option<()> {
        let path = pointer(self.path?)?;
        match self.op {
            "add" => add(root, &path, self.value.clone()),
            "remove" => remove(root, &path).map(drop),
            "replace" => {
                check_depth(&path, self.value)?;
                *find(root, &path)? = self.value.clone();
                Some(())
            }
            "move" => {
                let moved = remove(root, &pointer(self.from?)?)?;
                add(root, &path, moved)
            }
            "copy" => {
                let copy = find(root, &pointer(self.from?)?)?.clone();
                *copied += copy.to_string().len();
                if *copied > MAX_COPIED {
                    return None;
                }
                add(root, &path, copy)
            }
            "test" => {
                let (container, last) = container(root, &path)?;
                let found = match container {
                    Value::Object(fields) => fields.get(last).unwrap_or(&Value::Null),
                    Value::Array(items) => &items[index(last, items.len())?],
                    _ => return None,
                };
                (found == self.value).then_some(())
            }
            _ => None,
        }
    }
}

/// The parts of a JSON pointer, RFC 6901. None for the empty one.
fn pointer(text: &str) -> Option<Vec<String>> {
    let parts = text.strip_prefix('/')?.split('/');
    // This order matters: `~01` stands for `~1`.
    Some(
        parts
            .map(|part| part.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

/// What the last part of a path is in, and that part.
fn container<'a, 'b>(root: &'a mut Value, path: &'b [String]) -> Option<(&'a mut Value, &'b str)> {
    let (last, above) = path.split_last()?;
    let mut container = root;
    for part in above {
        container = inner(container, part)?;
    }
    Some((container, last))
}

fn inner<'a>(container: &'a mut Value, part: &str) -> Option<&'a mut Value> {
    match container {
        Value::Object(fields) => fields.get_mut(part),
        Value::Array(items) => {
            let place = index(part, items.len())?;
            items.get_mut(place)
        }
        _ => None,
    }
}

/// The place that a part names among so many.
fn index(part: &str, count: usize) -> Option<usize> {
    let place: isize = part.parse().ok()?;
    let place = match usize::try_from(place) {
        Ok(place) => place,
        Err(_) => count.checked_sub(place.unsigned_abs())?,
    };
    (place < count).then_some(place)
}

fn find<'a>(root: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let (container, last) = container(root, path)?;
    inner(container, last)
}

fn add(root: &mut Value, path: &[String], value: Value) -> Option<()> {
    check_depth(path, &value)?;
    let (container, last) = container(root, path)?;
    match container {
        Value::Object(fields) => {
            fields.insert(last.to_owned(), value);
        }
        Value::Array(items) => {
            let place = match last {
                "-" => items.len(),
                _ => index(last, items.len() + 1)?,
            };
            items.insert(place, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(root: &mut Value, path: &[String]) -> Option<Value> {
    let (container, last) = container(root, path)?;
    match container {
        Value::Object(fields) => fields.remove(last),
        Value::Array(items) => {
            let place = index(last, items.len())?;
            Some(items.remove(place))
        }
        _ => None,
    }
}

/// Operations that build on each other must not make a tree that is too deep to be walked.
fn check_depth(path: &[String], value: &Value) -> Option<()> {
    let levels = MAX_DEPTH.checked_sub(path.len())?;
    (!is_deeper(value, levels)).then_some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn patched(object: Value, patch: Value, expected: Value) {
        assert_eq!(apply(&object, &patch), Ok(expected), "{object} {patch}");
    }

    #[track_caller]
    fn refused(object: Value, patch: Value) -> Status {
        apply(&object, &patch).unwrap_err()
    }

    #[track_caller]
    fn does_not_apply(object: Value, patch: Value) {
        let status = refused(object, patch);
        assert_eq!(status.reason, Reason::Invalid);
        assert_eq!(
            status.message,
            "the server rejected our request due to an error in our request"
        );
        assert_eq!(status.details.causes, []);
    }

    #[test]
    fn add_puts_into_maps_and_lists() {
        patched(
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": {"c": 2}}]),
            json!({"a": 1, "b": {"c": 2}}),
        );
        patched(
            json!({"a": 1}),
            json!([{"op": "add", "path": "/a", "value": 2}]),
            json!({"a": 2}),
        );
        for (place, expected) in [
            ("0", json!([9, 1, 2])),
            ("1", json!([1, 9, 2])),
            ("2", json!([1, 2, 9])),
            ("-", json!([1, 2, 9])),
            ("-1", json!([1, 2, 9])),
        ] {
            patched(
                json!({"a": [1, 2]}),
                json!([{"op": "add", "path": format!("/a/{place}"), "value": 9}]),
                json!({ "a": expected }),
            );
        }
        does_not_apply(
            json!({"a": [1, 2]}),
            json!([{"op": "add", "path": "/a/3", "value": 9}]),
        );
        does_not_apply(
            json!({}),
            json!([{"op": "add", "path": "/a/b", "value": 9}]),
        );
        does_not_apply(
            json!({"a": 1}),
            json!([{"op": "add", "path": "/a/b", "value": 9}]),
        );
    }

    #[test]
    fn remove_and_replace_need_what_they_name() {
        patched(
            json!({"a": [1, 2, 3], "b": 1}),
            json!([
                {"op": "remove", "path": "/a/1"},
                {"op": "remove", "path": "/a/-1"},
                {"op": "remove", "path": "/b"},
            ]),
            json!({"a": [1]}),
        );
        patched(
            json!({"a": [1, 2]}),
            json!([{"op": "replace", "path": "/a/0", "value": {}}]),
            json!({"a": [{}, 2]}),
        );
        for op in ["remove", "replace"] {
            for path in ["/b", "/a/2", "/a/x", "/a/-", "/b/c", "", "a"] {
                does_not_apply(
                    json!({"a": [1, 2]}),
                    json!([{"op": op, "path": path, "value": 1}]),
                );
            }
        }
    }

    #[test]
    fn move_and_copy_take_from_elsewhere() {
        patched(
            json!({"a": {"b": 1}, "c": [2]}),
            json!([{"op": "move", "from": "/a/b", "path": "/c/0"}]),
            json!({"a": {}, "c": [1, 2]}),
        );
        patched(
            json!({"a": {"b": 1}}),
            json!([{"op": "copy", "from": "/a", "path": "/a/c"}]),
            json!({"a": {"b": 1, "c": {"b": 1}}}),
        );
        does_not_apply(
            json!({"a": {"b": 1}}),
            json!([{"op": "move", "from": "/a", "path": "/a/b/c"}]),
        );
        does_not_apply(json!({"a": 1}), json!([{"op": "move", "path": "/b"}]));
        does_not_apply(
            json!({"a": 1}),
            json!([{"op": "copy", "from": "/x", "path": "/b"}]),
        );
    }

    #[test]
    fn a_test_that_fails_refuses_the_patch() {
        let object =
            json!({"metadata": {"resourceVersion": "7"}, "list": [1], "map": {"a": 1, "b": null}});
        for (path, value) in [
            ("/metadata/resourceVersion", json!("7")),
            ("/list/0", json!(1)),
            ("/list", json!([1])),
            ("/map", json!({"b": null, "a": 1})),
            ("/map/b", json!(null)),
            // As upstream: there is none, and none is wanted.
            ("/map/c", json!(null)),
        ] {
            let patch = json!([{"op": "test", "path": path, "value": value}]);
            patched(object.clone(), patch, object.clone());
        }
        for (path, value) in [
            ("/metadata/resourceVersion", json!("8")),
            ("/metadata/resourceVersion", json!(7)),
            ("/list/1", json!(null)),
            ("/map", json!({"a": 1})),
            ("/map/c", json!(1)),
            ("/none/c", json!(null)),
        ] {
            let patch = json!([{"op": "test", "path": path, "value": value}]);
            does_not_apply(object.clone(), patch);
        }
        does_not_apply(
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": 1}, {"op": "test", "path": "/a", "value": 2}]),
        );
    }

    #[test]
    fn pointers_are_unescaped() {
        patched(
            json!({"metadata": {"labels": {}}}),
            json!([
                {"op": "add", "path": "/metadata/labels/example.com~1name", "value": "a"},
                {"op": "add", "path": "/metadata/labels/~01", "value": "b"},
            ]),
            json!({"metadata": {"labels": {"example.com/name": "a", "~1": "b"}}}),
        );
    }

    #[test]
    fn what_is_no_patch_is_told_from_what_does_not_apply() {
        for (patch, message) in [
            (
                json!({"op": "add"}),
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            ),
            (
                json!([1]),
                "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
            ),
            (
                json!([{"op": "add", "path": 1}]),
                "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.path of type \
                 string",
            ),
        ] {
            let status = refused(json!({}), patch);
            assert_eq!(status.reason, Reason::BadRequest);
            assert_eq!(status.message, message);
        }
        does_not_apply(json!({}), json!([{"op": "mend", "path": "/a"}]));
        does_not_apply(json!({}), json!([{"op": "add", "value": 1}]));
        patched(json!({"a": 1}), json!([]), json!({"a": 1}));
        patched(json!({"a": 1}), json!(null), json!({"a": 1}));
    }

    #[test]
    fn a_patch_has_ten_thousand_operations_at_most() {
        let patch =
            |count| Value::Array(vec![json!({"op": "add", "path": "/a", "value": 1}); count]);
        patched(json!({}), patch(10_000), json!({"a": 1}));
        let status = refused(json!({}), patch(10_001));
        assert_eq!(status.reason.code(), 413);
        assert_eq!(
            status.message,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
        );
    }

    #[test]
    fn copies_cannot_grow_without_end() {
        let doubled = |count| {
            Value::Array(vec![
                json!({"op": "copy", "from": "/a", "path": "/a/-"});
                count
            ])
        };
        assert!(apply(&json!({"a": ["0123456789"]}), &doubled(10)).is_ok());
        does_not_apply(json!({"a": ["0123456789"]}), doubled(60));
    }

    #[test]
    fn what_is_made_is_never_too_deep() {
        let deeper = |count| {
            Value::Array(vec![
                json!({"op": "copy", "from": "/a", "path": "/a/b/b"});
                count
            ])
        };
        does_not_apply(json!({"a": {"b": {}}}), deeper(1_000));
        let moved: Vec<Value> = (0..200)
            .flat_map(|_| {
                [
                    json!({"op": "add", "path": "/b", "value": {}}),
                    json!({"op": "move", "from": "/a", "path": "/b/a"}),
                    json!({"op": "move", "from": "/b", "path": "/a"}),
                ]
            })
            .collect();
        does_not_apply(json!({"a": {}}), Value::Array(moved));
    }
}
