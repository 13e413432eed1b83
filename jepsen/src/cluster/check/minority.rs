//! A minority that is cut off: it cannot know what the others do, so it must not answer as if it did.

use super::{Findings, describe};
use crate::cluster::conditions::Conditions;
use crate::cluster::history::{Fault, History, Operation, Outcome};

/// From when on no linearizable answer may come out of it.
pub(super) fn silent_from(conditions: &Conditions, fault: &Fault) -> u64 {
    fault.begin + 2 * conditions.election_timeout_ms * 1_000_000
}

/// Operations that a minority was asked while it was cut off and had ended before it was healed, or that still hung then.
pub(super) fn asked<'a>(
    history: &'a History,
    fault: &'a Fault,
) -> impl Iterator<Item = &'a Operation> {
    history.operations.iter().filter(|operation| {
        fault.minority.contains(&operation.node)
            && operation.op.is_linearizable()
            && operation.invoke > fault.begin
            && operation.invoke < fault.end
    })
}

pub(super) fn check(conditions: &Conditions, history: &History, findings: &mut Findings) {
    for fault in history.faults.iter().filter(|fault| fault.happened) {
        let silent = silent_from(conditions, fault);
        for operation in asked(history, fault) {
            let is_answer = operation.outcome == Outcome::Ok;
            if is_answer && operation.returned > silent && operation.returned < fault.end {
                let late = (operation.returned - fault.begin) / 1_000_000;
                findings.add(
                    "minority",
                    format!(
                        "answered {late} ms after it was cut off ({}): {}",
                        fault.kind,
                        describe(operation)
                    ),
                );
            }
        }
    }
}
