//! After each fault: everybody answers, and everybody holds the same, soon.

use super::{Findings, seconds};
use crate::cluster::conditions::Conditions;
use crate::cluster::history::History;

pub(super) fn check(conditions: &Conditions, history: &History, findings: &mut Findings) {
    for fault in &history.faults {
        let when = format!("{} at {:.1} s", fault.kind, seconds(fault.begin));
        if let Some(damage) = &fault.damage {
            findings.add("converge", format!("after {when}: {damage}"));
        } else if let Some(converged) = fault.converged {
            let took = converged.saturating_sub(fault.end);
            if took > conditions.converge_ms * 1_000_000 {
                let took = seconds(took);
                findings.add(
                    "converge",
                    format!("{took:.1} s from the end of {when} to one hash on all"),
                );
            }
        }
    }
    let revisions = &history.ending.revisions;
    if revisions.windows(2).any(|pair| pair[0] != pair[1]) {
        let text = format!("nobody asks any more, and members answer at revisions {revisions:?}");
        findings.add("converge", text);
    }
}
