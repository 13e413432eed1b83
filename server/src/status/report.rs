//! What the answers of all endpoints mean together.

use std::collections::{BTreeMap, BTreeSet};

use proto::etcd::etcdserverpb::{Member, StatusResponse};
use serde_json::{Value, json};

use super::ask::Silence;
use super::bare;
use crate::text::{Align, human, table};

/// One endpoint and its answer.
pub(super) struct Row {
    endpoint: String,
    /// As the table of members has it; empty if nobody told.
    name: String,
    id: Option<u64>,
    answer: Result<StatusResponse, String>,
}

impl Row {
    pub(super) fn new(endpoint: &str, answer: Result<StatusResponse, Silence>) -> Self {
        let id = answer.as_ref().ok().map(id_of);
        Self {
            endpoint: endpoint.to_owned(),
            name: String::new(),
            id,
            answer: answer.map_err(|silence| silence.to_string()),
        }
    }

    /// A member that was added and has not told its addresses yet.
    pub(super) fn never_started(member: &Member) -> Self {
        Self {
            endpoint: String::new(),
            name: member.name.clone(),
            id: Some(member.id),
            answer: Err("has not started yet: its client address is not known".to_owned()),
        }
    }

    fn role(&self) -> &'static str {
        role(self.answer.as_ref().ok())
    }
}

/// What a member is, in a word.
pub(crate) fn role(answer: Option<&StatusResponse>) -> &'static str {
    match answer {
        None => "no answer",
        Some(status) if status.is_learner => "learner",
        Some(status) if status.leader != 0 && status.leader == id_of(status) => "leader",
        Some(_) => "follower",
    }
}

fn id_of(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}

fn cluster_of(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.cluster_id)
}

/// All endpoints that were asked.
pub(super) struct Report {
    rows: Vec<Row>,
    members: Vec<Member>,
    /// Whom more than half of those asked take for the leader.
    leader: Option<u64>,
}

impl Report {
    /// The rows get names from the table of members that those who answer have told.
    pub(super) fn new(mut rows: Vec<Row>, members: Vec<Member>) -> Self {
        for row in &mut rows {
            let member = members.iter().find(|member| match row.id {
                Some(id) => member.id == id,
                None => {
                    let mut urls = member.client_urls.iter();
                    urls.any(|url| bare(url).trim_end_matches('/') == row.endpoint)
                }
            });
            if let Some(member) = member {
                (row.id, row.name) = (Some(member.id), member.name.clone());
            }
        }
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for status in rows.iter().filter_map(|row| row.answer.as_ref().ok()) {
            if status.leader != 0 {
                *votes.entry(status.leader).or_default() += 1;
            }
        }
        let most = votes.into_iter().find(|(_, count)| count * 2 > rows.len());
        Self {
            leader: most.map(|(leader, _)| leader),
            rows,
            members,
        }
    }

    /// Whether all answer, as one cluster, and a majority of them knows the same leader.
    pub(super) fn is_well(&self) -> bool {
        self.answers().count() == self.rows.len()
            && self.leader.is_some()
            && self.clusters().len() == 1
    }

    fn answers(&self) -> impl Iterator<Item = &StatusResponse> {
        self.rows.iter().filter_map(|row| row.answer.as_ref().ok())
    }

    fn clusters(&self) -> BTreeSet<u64> {
        self.answers().map(cluster_of).collect()
    }

    /// How many entries the leader has that a member's database has not, if the leader was asked.
    fn lag(&self, status: &StatusResponse) -> Option<u64> {
        let leader = self.leader?;
        let leader = self.answers().find(|status| id_of(status) == leader)?;
        Some(leader.raft_index.saturating_sub(status.raft_applied_index))
    }

    fn name_of(&self, id: u64) -> String {
        let member = self.members.iter().find(|member| member.id == id);
        match member.filter(|member| !member.name.is_empty()) {
            Some(member) => member.name.clone(),
            None => format!("{id:x}"),
        }
    }

    /// Members of whom no row tells.
    fn not_asked(&self) -> Vec<String> {
        let asked = |member: &&Member| self.rows.iter().any(|row| row.id == Some(member.id));
        let others = self.members.iter().filter(|member| !asked(member));
        others.map(|member| self.name_of(member.id)).collect()
    }

    /// The state of things in sentences.
    fn summary(&self) -> String {
        let (asked, answering) = (self.rows.len(), self.answers().count());
        let mut text = match (answering, asked) {
            (0, 1) => "It does not answer.".to_owned(),
            (0, _) => format!("None of {asked} answers."),
            (1, 1) => "It answers.".to_owned(),
            _ if answering == asked => format!("All {asked} answer."),
            _ => format!("{answering} of {asked} answer."),
        };
        if self.clusters().len() > 1 {
            text.push_str(" They do not belong to one cluster: look at the addresses.");
        } else if let Some(leader) = self.leader {
            let terms = self
                .answers()
                .filter(|status| status.leader == leader)
                .map(|status| status.raft_term);
            let term = terms.max().unwrap_or_default();
            text.push_str(&format!(
                " The leader is {}, in term {term}.",
                self.name_of(leader)
            ));
        } else if answering > 0 {
            text.push_str(
                " No majority of them knows a leader; without one, nothing can be written.",
            );
        }
        let others = self.not_asked();
        if !others.is_empty() {
            text.push_str(&format!(
                " Not asked: {}; --cluster asks all members.",
                others.join(", ")
            ));
        }
        text
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        use Align::{Left, Right};
        let head = [
            ("NAME", Left),
            ("ID", Left),
            ("ENDPOINT", Left),
            ("ROLE", Left),
            ("TERM", Right),
            ("INDEX", Right),
            ("APPLIED", Right),
            ("LAG", Right),
            ("SIZE", Right),
            ("IN USE", Right),
            ("VERSION", Left),
            ("ERRORS", Left),
        ];
        let rows: Vec<_> = self.rows.iter().map(|row| self.cells(row)).collect();
        format!("{}\n\n{}\n", self.summary(), table(&head, &rows).join("\n"))
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        let mut cells = vec![
            or_dash(&row.name),
            row.id.map_or("-".to_owned(), |id| format!("{id:x}")),
            or_dash(&row.endpoint),
            row.role().to_owned(),
        ];
        match &row.answer {
            Ok(status) => cells.extend([
                status.raft_term.to_string(),
                status.raft_index.to_string(),
                status.raft_applied_index.to_string(),
                self.lag(status)
                    .map_or("-".to_owned(), |lag| lag.to_string()),
                size(status.db_size),
                size(status.db_size_in_use),
                or_dash(&status.version),
                or_dash(&status.errors.join("; ")),
            ]),
            Err(reason) => {
                cells.extend(std::iter::repeat_n("-".to_owned(), 7));
                cells.push(reason.clone());
            }
        }
        cells
    }

    /// For programs. Ids are hexadecimal, as everywhere.
    pub(super) fn json(&self) -> String {
        let mut clusters = self.clusters().into_iter().map(|id| format!("{id:x}"));
        let (cluster, more) = (clusters.next(), clusters.next());
        let report = json!({
            "healthy": self.is_well(),
            "summary": self.summary(),
            "cluster_id": cluster.filter(|_| more.is_none()),
            "leader": self.leader.map(|leader| format!("{leader:x}")),
            "members": self.rows.iter().map(|row| self.object(row)).collect::<Vec<_>>(),
        });
        format!("{report}\n")
    }

    fn object(&self, row: &Row) -> Value {
        let mut object = json!({
            "name": row.name,
            "id": row.id.map(|id| format!("{id:x}")),
            "endpoint": row.endpoint,
            "role": row.role(),
        });
        let more = match &row.answer {
            Ok(status) => json!({
                "leader": format!("{:x}", status.leader),
                "term": status.raft_term,
                "raft_index": status.raft_index,
                "applied_index": status.raft_applied_index,
                "lag": self.lag(status),
                "revision": status.header.as_ref().map_or(0, |header| header.revision),
                "db_size": status.db_size,
                "db_size_in_use": status.db_size_in_use,
                "version": status.version,
                "errors": status.errors,
            }),
            Err(reason) => json!({ "reason": reason }),
        };
        if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
            object.extend(more);
        }
        object
    }
}

/// A size as a member reports it.
pub(crate) fn size(bytes: i64) -> String {
    human(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::ResponseHeader;

    use super::*;

    fn status(id: u64, leader: u64, index: u64, applied: u64) -> StatusResponse {
        StatusResponse {
            header: Some(ResponseHeader {
                cluster_id: 9,
                member_id: id,
                ..ResponseHeader::default()
            }),
            leader,
            raft_term: 2,
            raft_index: index,
            raft_applied_index: applied,
            db_size: 20_480,
            version: "3.7.1".to_owned(),
            ..StatusResponse::default()
        }
    }

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member {
            id,
            name: name.to_owned(),
            client_urls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    fn members() -> Vec<Member> {
        vec![
            member(0xa, "n1", "http://h:1"),
            member(0xb, "n2", "http://h:2"),
            member(0xc, "n3", "http://h:3"),
        ]
    }

    #[test]
    fn a_row_for_each_with_the_lag_behind_the_leader() {
        let rows = vec![
            Row::new("h:1", Ok(status(0xa, 0xa, 12, 12))),
            Row::new("h:2", Ok(status(0xb, 0xa, 12, 10))),
            Row::new("h:3", Err(Silence::Refused)),
        ];
        let report = Report::new(rows, members());
        assert_eq!(
            report.text(),
            "\
2 of 3 answer. The leader is n1, in term 2.

NAME  ID  ENDPOINT  ROLE       TERM  INDEX  APPLIED  LAG   SIZE  IN USE  VERSION  ERRORS
n1    a   h:1       leader        2     12       12    0  20 kB     0 B  3.7.1    -
n2    b   h:2       follower      2     12       10    2  20 kB     0 B  3.7.1    -
n3    c   h:3       no answer     -      -        -    -      -       -  -        nobody listens there (connection refused)
"
        );
        assert!(!report.is_well());
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["leader"], "a");
        assert_eq!(json["members"][1]["lag"], 2);
        assert_eq!(json["members"][2]["id"], "c");
    }

    #[test]
    fn well_is_when_all_answer_and_most_know_the_same_leader() {
        let report = |leaders: &[u64]| {
            let rows = leaders.iter().zip(1..);
            let rows = rows.map(|(leader, id)| Row::new("h:1", Ok(status(id, *leader, 5, 5))));
            Report::new(rows.collect(), Vec::new())
        };
        assert!(report(&[1]).is_well());
        assert!(report(&[1, 1, 0]).is_well());
        assert!(!report(&[1, 0, 0]).is_well());
        assert!(!report(&[1, 2]).is_well());
        assert!(!report(&[0]).is_well());
        let mut other = status(2, 1, 5, 5);
        other.header.as_mut().unwrap().cluster_id = 8;
        let rows = vec![
            Row::new("h:1", Ok(status(1, 1, 5, 5))),
            Row::new("h:2", Ok(other)),
        ];
        let report = Report::new(rows, Vec::new());
        assert!(!report.is_well() && report.summary().contains("one cluster"));
    }

    #[test]
    fn who_asks_one_hears_that_there_are_others() {
        let rows = vec![Row::new("h:1", Ok(status(0xa, 0xa, 5, 5)))];
        let report = Report::new(rows, members());
        assert!(report.is_well());
        assert_eq!(
            report.summary(),
            "It answers. The leader is n1, in term 2. Not asked: n2, n3; --cluster asks all members."
        );
    }

    #[test]
    fn a_learner_and_a_member_that_never_started_are_told_apart() {
        let mut learner = status(0xb, 0xa, 5, 5);
        learner.is_learner = true;
        assert_eq!(role(Some(&learner)), "learner");
        let row = Row::never_started(&members()[2]);
        let report = Report::new(vec![row], Vec::new());
        assert!(report.text().contains("has not started yet"));
        assert_eq!(report.summary(), "It does not answer.");
    }
}
