//! What the health endpoints conclude from a look at the node, in etcd's words.

use proto::etcd::etcdserverpb::AlarmType;

/// What a look at the node found. A read that was not asked for counts as good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// Alarms that are on, by etcd's names.
    pub(super) alarms: Vec<&'static str>,
    /// Whether a leader is known.
    pub(super) has_leader: bool,
    /// Whether this member does not vote.
    pub(super) is_learner: bool,
    /// A read that needs the quorum.
    pub(super) linearizable_read: Result<(), String>,
    /// A read of this member's own state.
    pub(super) serializable_read: Result<(), String>,
}

/// Checks that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Whether the process should be restarted.
    Livez,
    /// Whether it should get requests.
    Readyz,
}

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// No CORRUPT alarm is on.
    DataCorruption,
    /// A read through the quorum works.
    LinearizableRead,
    /// This member votes.
    NonLearner,
    /// A local read works.
    SerializableRead,
}

impl Group {
    /// The group of a path's first part.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "livez" => Some(Self::Livez),
            "readyz" => Some(Self::Readyz),
            _ => None,
        }
    }

    /// Its path's first part.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }

    /// Its checks, in the order of their names.
    pub(super) fn checks(self) -> &'static [Check] {
        match self {
            Self::Livez => &[Check::SerializableRead],
            Self::Readyz => &[
                Check::DataCorruption,
                Check::LinearizableRead,
                Check::NonLearner,
                Check::SerializableRead,
            ],
        }
    }

    /// Its check of a name.
    pub(super) fn check(self, name: &str) -> Option<Check> {
        self.checks()
            .iter()
            .copied()
            .find(|check| check.name() == name)
    }
}

impl Check {
    /// Its name in paths, lines and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::SerializableRead => "serializable_read",
        }
    }

    /// Whether it passes, or why not.
    pub(super) fn judge(self, findings: &Findings) -> Result<(), String> {
        let read = |outcome: &Result<(), String>| {
            outcome
                .clone()
                .map_err(|error| format!("range error: {error}"))
        };
        match self {
            Self::DataCorruption if findings.alarms.contains(&"CORRUPT") => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::NonLearner if findings.is_learner => Err("not supported for learner".to_owned()),
            Self::DataCorruption | Self::NonLearner => Ok(()),
            Self::LinearizableRead => read(&findings.linearizable_read),
            Self::SerializableRead => read(&findings.serializable_read),
        }
    }
}

/// What `/health` calls an alarm.
pub(super) fn alarm_name(alarm: i32) -> &'static str {
    match AlarmType::try_from(alarm) {
        Ok(AlarmType::None) | Err(_) => "UNKNOWN",
        Ok(known) => known.as_str_name(),
    }
}

/// The body of `/health`, as a success or a failure.
pub(super) fn verdict(
    findings: &Findings,
    excluded_alarms: &[&str],
    is_serializable: bool,
) -> Result<String, String> {
    let read = if is_serializable {
        &findings.serializable_read
    } else {
        &findings.linearizable_read
    };
    let alarm = findings
        .alarms
        .iter()
        .find(|alarm| !excluded_alarms.contains(alarm));
    let reason = match (alarm, read) {
        (Some(alarm), _) => format!("ALARM {alarm}"),
        (None, _) if !is_serializable && !findings.has_leader => "RAFT NO LEADER".to_owned(),
        (None, Err(error)) => format!("RANGE ERROR:{error}"),
        (None, Ok(())) => return Ok(r#"{"health":"true","reason":""}"#.to_owned()),
    };
    Err(format!(
        r#"{{"health":"false","reason":{}}}"#,
        serde_json::Value::String(reason)
    ))
}

/// The values of a query parameter. Names of checks and alarms need no escaping, so none is undone.
pub(super) fn parameters<'a>(query: &'a str, name: &str) -> Vec<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
        .collect()
}

/// Whether a query names a parameter, with a value or without.
pub(super) fn has_parameter(query: &str, name: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Findings = Findings {
        alarms: Vec::new(),
        has_leader: true,
        is_learner: false,
        linearizable_read: Ok(()),
        serializable_read: Ok(()),
    };

    #[test]
    fn health_is_true_without_a_reason() {
        let body = r#"{"health":"true","reason":""}"#;
        assert_eq!(verdict(&WELL, &[], false), Ok(body.to_owned()));
    }

    #[test]
    fn health_fails_by_alarm_then_leader_then_read() {
        let mut findings = Findings {
            alarms: vec!["NOSPACE"],
            has_leader: false,
            linearizable_read: Err("etcdserver: request timed out".to_owned()),
            ..WELL
        };
        let fails = |findings: &Findings, reason: &str| {
            let body = format!(r#"{{"health":"false","reason":"{reason}"}}"#);
            assert_eq!(verdict(findings, &[], false), Err(body));
        };
        fails(&findings, "ALARM NOSPACE");
        assert!(
            verdict(&findings, &["NOSPACE"], true).is_ok(),
            "neither leader nor quorum is asked"
        );
        findings.alarms.clear();
        fails(&findings, "RAFT NO LEADER");
        findings.has_leader = true;
        fails(&findings, "RANGE ERROR:etcdserver: request timed out");
    }

    #[test]
    fn readiness_ignores_a_full_disk_but_not_corruption() {
        let full = Findings {
            alarms: vec!["NOSPACE"],
            ..WELL
        };
        assert_eq!(Check::DataCorruption.judge(&full), Ok(()));
        let corrupt = Findings {
            alarms: vec!["CORRUPT"],
            ..WELL
        };
        let reason = "alarm activated: CORRUPT".to_owned();
        assert_eq!(Check::DataCorruption.judge(&corrupt), Err(reason));
    }

    #[test]
    fn a_learner_is_alive_but_not_ready() {
        let learner = Findings {
            is_learner: true,
            ..WELL
        };
        let fails = |group: Group| {
            group
                .checks()
                .iter()
                .any(|check| check.judge(&learner).is_err())
        };
        assert!(!fails(Group::Livez));
        assert!(fails(Group::Readyz));
    }

    #[test]
    fn queries_repeat_and_may_lack_values() {
        let query = "exclude=a&verbose&exclude=b&exclude=&x=exclude";
        assert_eq!(parameters(query, "exclude"), ["a", "b"]);
        assert!(has_parameter(query, "verbose") && !has_parameter(query, "exclud"));
        assert!(parameters("", "exclude").is_empty());
    }
}
