//! What a workload keeps in every state, whoever wrote it: a second look, which does not need to know the operations.

use std::collections::BTreeSet;

use super::Findings;
use crate::cluster::model::{Change, State};
use crate::cluster::workload::{ACCOUNTS, DEPOSIT, number};

/// Looks only at what has changed.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// The number of each counter that was there last.
    counted: std::collections::BTreeMap<String, i64>,
}

impl Invariants {
    pub(super) fn check(&mut self, state: &State, changes: &[Change], findings: &mut Findings) {
        let revision = state.revision();
        if changes
            .iter()
            .any(|change| change.key.starts_with("account/"))
        {
            let sum: i64 = state
                .list("account/")
                .filter_map(|kv| number(&kv.value))
                .sum();
            let expected = DEPOSIT * i64::try_from(ACCOUNTS).unwrap_or(0);
            if sum != expected {
                let text =
                    format!("at revision {revision} all accounts hold {sum}, not {expected}");
                findings.add("invariant", text);
            }
        }
        let groups: BTreeSet<&str> = changes
            .iter()
            .filter(|change| change.key.starts_with("group/"))
            .filter_map(|change| change.key.rsplit_once('/'))
            .map(|(group, _)| group)
            .collect();
        for group in groups {
            let values: BTreeSet<&str> = state
                .list(&format!("{group}/"))
                .map(|kv| kv.value.as_str())
                .collect();
            if values.len() > 1 {
                let text = format!("at revision {revision} the keys of {group} differ: {values:?}");
                findings.add("invariant", text);
            }
        }
        for change in changes
            .iter()
            .filter(|change| change.key.starts_with("counter/"))
        {
            let count = change
                .after
                .as_ref()
                .and_then(|kv| number(&kv.value))
                .unwrap_or(0);
            let before = self.counted.insert(change.key.clone(), count).unwrap_or(0);
            if count != before + 1 {
                let text = format!(
                    "at revision {revision} {} goes from {before} to {count}",
                    change.key
                );
                findings.add("invariant", text);
            }
        }
    }
}
