//! Lists that a strategic merge patch merges: which items go together, and in which order they end up.

use std::collections::{HashMap, HashSet};
use std::mem::discriminant;

use serde_json::Value;

use super::{
    Known, PATCH, go_list, go_map, inapplicable, merge_map, plain_item, unknown_directive,
};
use crate::status::Status;

/// Merges the items of a patch into those of a list. Gives what comes of it, new items last, and the items of the patch
/// without those that are directives.
pub(super) fn merge(
    known: Known<'_>,
    live: &[Value],
    patch: &[Value],
) -> Result<(Vec<Value>, Vec<Value>), Status> {
    match element(live, patch)? {
        None => Ok((Vec::new(), Vec::new())),
        Some(Value::Object(_)) => {
            let key = known.merge_key().ok_or_else(|| {
                Status::bad_request("cannot merge lists without merge key for type struct")
            })?;
            merge_maps(known.items(), live, patch, key)
        }
        Some(_) => {
            let mut seen = HashSet::new();
            let both = live.iter().chain(patch);
            let merged = both.filter(|value| seen.insert(*value)).cloned();
            Ok((merged.collect(), patch.to_vec()))
        }
    }
}

/// One value of the lists, whose values must all be of one type.
fn element<'a>(live: &'a [Value], patch: &'a [Value]) -> Result<Option<&'a Value>, Status> {
    let Some(first) = live.iter().chain(patch).next() else {
        return Ok(None);
    };
    if first.is_array() {
        // Lists of lists are not supported.
        return Err(inapplicable());
    }
    let is_other = |value: &Value| discriminant(value) != discriminant(first);
    if live.iter().chain(patch).any(is_other) {
        return Err(Status::bad_request(format!(
            "list element types are not identical: [{} {}]",
            go_list(live),
            go_list(patch)
        )));
    }
    Ok(Some(first))
}

fn merge_maps(
    items: Known<'_>,
    live: &[Value],
    patch: &[Value],
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Status> {
    let mut deleted = HashSet::new();
    let mut is_replaced = false;
    let mut changes = Vec::new();
    for item in patch {
        match item.get(PATCH).map(Value::as_str) {
            None | Some(Some("merge")) => changes.push(item),
            Some(Some("delete")) => {
                deleted.insert(identity(item, Some(key))?);
            }
            Some(Some("replace")) => is_replaced = true,
            Some(_) => {
                return Err(item
                    .as_object()
                    .map_or_else(inapplicable, unknown_directive));
            }
        }
    }
    if is_replaced {
        let replaced: Vec<Value> = changes.into_iter().filter_map(plain_item).collect();
        return Ok((replaced.clone(), replaced));
    }
    let is_deleted = |item: &Value| item.get(key).is_some_and(|value| deleted.contains(value));
    let mut merged: Vec<Value> = live
        .iter()
        .filter(|item| !is_deleted(item))
        .cloned()
        .collect();
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (place, item) in merged.iter().enumerate() {
        if let Some(value) = item.get(key) {
            // Of two live items with one key the patch is about the first: ports of a service that differ in their
            // protocol only.
            places.entry(value.clone()).or_insert(place);
        }
    }
    for change in &changes {
        let value = identity(change, Some(key))?;
        match (places.get(value).map(|place| &mut merged[*place]), change) {
            (Some(Value::Object(live)), Value::Object(change)) => merge_map(items, live, change)?,
            _ => {
                if let Value::Object(change) = change {
                    places.insert(value.clone(), merged.len());
                    merged.push(Value::Object(super::plain_map(change)));
                }
            }
        }
    }
    Ok((merged, changes.into_iter().cloned().collect()))
}

/// What tells an item from others: the value of its merge key, or all of it if there is no such key.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> Result<&'a Value, Status> {
    let (Some(key), Value::Object(fields)) = (key, item) else {
        return Ok(item);
    };
    fields.get(key).ok_or_else(|| {
        Status::bad_request(format!(
            "map: {} does not contain declared merge key: {key}",
            go_map(fields)
        ))
    })
}

/// Sorts a merged list, in which the live items are in their order and new ones come last. The items that are `wanted`
/// come in that order. All others, which only the live list has, stay in theirs, each before the first wanted item that
/// the live list has after it. A wanted item that is new goes as far to the front as its order allows, which upstream's
/// tutorial shows: a container added by a patch is the first.
pub(super) fn in_order(
    merged: Vec<Value>,
    wanted: &[Value],
    live: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let wanted = places(wanted, key)?;
    let live = places(live, key)?;
    let mut chosen = Vec::new();
    let mut others = Vec::new();
    for item in merged {
        let identity = identity(&item, key)?;
        let in_live = live.get(identity).copied();
        match wanted.get(identity).copied() {
            Some(place) => chosen.push((place, in_live, item)),
            None => others.push((in_live.unwrap_or(usize::MAX), item)),
        }
    }
    chosen.sort_by_key(|(place, _, _)| *place);
    let mut sorted = Vec::with_capacity(chosen.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, in_live, item) in chosen {
        if let Some(place) = in_live {
            while let Some((_, other)) = others.next_if(|(other, _)| *other < place) {
                sorted.push(other);
            }
        }
        sorted.push(item);
    }
    sorted.extend(others.map(|(_, item)| item));
    Ok(sorted)
}

/// Where each item is first.
fn places<'a>(items: &'a [Value], key: Option<&str>) -> Result<HashMap<&'a Value, usize>, Status> {
    let mut places = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        places.entry(identity(item, key)?).or_insert(place);
    }
    Ok(places)
}

/// Refuses an order that does not name each item of the patch, in the order of the patch.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Result<(), Status> {
    if order.is_empty() {
        return Ok(());
    }
    let mut ordered = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = identity(item, key)?;
        loop {
            match ordered.next() {
                Some(next) if identity(next, key)? == wanted => break,
                Some(_) => {}
                None => {
                    return Err(Status::bad_request(format!(
                        "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                        go_list(patch),
                        go_list(order)
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Removes values from a list.
pub(super) fn remove_values(items: &mut Vec<Value>, values: &[Value]) {
    let values: HashSet<&Value> = values.iter().collect();
    items.retain(|item| !values.contains(item));
}
