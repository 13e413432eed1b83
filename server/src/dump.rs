//! `holdfast dump log`: prints the raft log of a node that is not running, one JSON object per line.
//!
//! It reads whatever is there, damage included, and changes nothing. Values are told by their length alone: a log is
//! passed around for support, and values may be secrets.

#[cfg(feature = "rocksdb")]
mod items;
pub mod state;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use proto::command::member_change::Change;
use proto::command::{self, Command, MemberChange, command::Op};
use proto::etcd::etcdserverpb::{Member, RequestOp, TxnRequest, request_op::Request};
use serde_json::{Value, json};
use store::fs::{RealFs, WalFs};
use store::log::LogError;
use store::log::dump::{Content, EntryKind, Item};
use store::{LogId, Membership, Vote};

use crate::config::DumpOptions;
use crate::data_dir;

/// Prints a log to standard output. Fails if it cannot be read or is damaged.
pub fn run(options: &DumpOptions) -> ExitCode {
    let say = |text: &str| drop(writeln!(io::stderr(), "holdfast dump: {text}"));
    let wal = match data_dir::existing_wal(&options.data_dir, options.wal_dir.as_deref()) {
        Ok(wal) => wal,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    if let Some(holder) = data_dir::holder(&options.data_dir) {
        say(&format!(
            "{holder} is using this folder: what it is writing just now may look unfinished"
        ));
    }
    let mut output = BufWriter::new(io::stdout().lock());
    let printed = print(&RealFs::new(wal), options.from..=options.to, &mut output);
    match printed.and_then(|damages| Ok(output.flush().map(|()| damages)?)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(damages) => {
            say(&format!(
                "{damages} damaged places; the lines with \"kind\":\"damage\" say where"
            ));
            ExitCode::FAILURE
        }
        // The reader has seen enough.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Why a log was not printed to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The folder cannot be read.
    #[error("cannot read the log: {0}")]
    Log(#[from] LogError),
    /// The output takes no more.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Prints the entries with these indexes and, if all are asked for, everything else in the log. Damage and a torn tail
/// are always printed. Returns how many damaged places there are.
pub fn print(
    folder: &dyn WalFs,
    indexes: std::ops::RangeInclusive<u64>,
    output: &mut impl Write,
) -> Result<usize, DumpError> {
    let is_whole =
        *indexes.start() == 0 && i64::try_from(*indexes.end()).map_or(true, |end| end == i64::MAX);
    let mut damages = 0;
    for item in store::log::dump::read(folder)? {
        let is_shown = match &item.content {
            Content::Entry { id, .. } => indexes.contains(&id.index),
            Content::Damage { .. } | Content::Missing | Content::Unreadable(_) => {
                damages += 1;
                true
            }
            Content::TornTail { .. } => true,
            _ => is_whole,
        };
        if is_shown {
            output.write_all(line(item).as_bytes())?;
        }
    }
    Ok(damages)
}

/// Where it lies and what it is come first, for people who read along.
fn line(item: Item) -> String {
    let (kind, fields) = describe(item.content);
    let (segment, offset) = (Value::from(item.segment), item.offset);
    let mut line = format!(r#"{{"segment":{segment},"offset":{offset},"kind":"{kind}""#);
    for (name, field) in fields.as_object().into_iter().flatten() {
        line.push_str(&format!(",{}:{field}", Value::from(name.as_str())));
    }
    line.push_str("}\n");
    line
}

fn describe(content: Content) -> (&'static str, Value) {
    match content {
        Content::Segment {
            format,
            cluster_id,
            member_id,
            last,
            committed,
            purged,
            vote,
        } => (
            "segment",
            json!({
                "format": format,
                "cluster_id": format!("{cluster_id:x}"),
                "member_id": format!("{member_id:x}"),
                "last": last.map(id),
                "committed": committed.map(id),
                "purged": purged.map(id),
                "vote": vote.map(ballot),
            }),
        ),
        Content::Batch { synced } => ("batch", json!({ "synced": synced })),
        Content::Entry {
            id: LogId { term, index },
            kind,
            payload,
        } => {
            let (name, mut fields) = match kind {
                EntryKind::Blank => ("blank", json!({})),
                EntryKind::Commands => ("commands", batch(&payload)),
                EntryKind::Membership => ("membership", membership(&payload)),
            };
            fields["index"] = index.into();
            fields["term"] = term.into();
            (name, fields)
        }
        Content::Vote(vote) => ("vote", ballot(vote)),
        Content::Truncate(after) => ("truncate", json!({ "after": after.map(id) })),
        Content::Purge(upto) => ("purge", json!({ "upto": id(upto) })),
        Content::Committed(upto) => ("committed", json!({ "upto": upto.map(id) })),
        Content::Seal => ("seal", json!({})),
        Content::Damage { bytes, what } => ("damage", json!({ "bytes": bytes, "what": what })),
        Content::TornTail { bytes, what } => ("torn tail", json!({ "bytes": bytes, "what": what })),
        Content::Missing => ("damage", json!({ "what": "this segment is missing" })),
        Content::Unreadable(error) => (
            "damage",
            json!({ "what": format!("cannot be read: {error}") }),
        ),
    }
}

fn id(id: LogId) -> Value {
    json!({ "term": id.term, "index": id.index })
}

fn ballot(vote: Vote) -> Value {
    json!({
        "term": vote.term,
        "voted_for": vote.voted_for.map(|member| format!("{member:x}")),
        "is_committed": vote.committed,
    })
}

fn batch(payload: &[u8]) -> Value {
    match command::Batch::decode(payload) {
        Ok(batch) => json!({
            "format": batch.format,
            "feature_level": batch.feature_level,
            "leader_time_ms": batch.leader_time_ms,
            "commands": batch.commands.iter().map(command).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "undecodable": error.to_string() }),
    }
}

fn membership(payload: &[u8]) -> Value {
    let hex =
        |ids: &mut dyn Iterator<Item = &u64>| ids.map(|id| format!("{id:x}")).collect::<Vec<_>>();
    match Membership::decode(payload) {
        Ok(membership) => json!({
            "voters": membership.voters.iter().map(|set| hex(&mut set.iter())).collect::<Vec<_>>(),
            "members": hex(&mut membership.members.iter()),
        }),
        Err(error) => json!({ "undecodable": error.to_string() }),
    }
}

fn command(command: &Command) -> Value {
    let mut line = json!({
        "member": format!("{:x}", command.member),
        "boot": command.boot,
        "sequence": command.sequence,
    });
    if !command.user.is_empty() {
        line["user"] = command.user.clone().into();
        line["auth_revision"] = command.auth_revision.into();
    }
    if command.trace_id != 0 {
        line["trace_id"] = format!("{:x}", command.trace_id).into();
    }
    match &command.op {
        Some(Op::Put(request)) => line["put"] = operation(&Request::RequestPut(request.clone())),
        Some(Op::DeleteRange(request)) => {
            line["delete_range"] = operation(&Request::RequestDeleteRange(request.clone()));
        }
        Some(Op::Txn(request)) => line["txn"] = transaction(request),
        Some(Op::Compact(request)) => {
            line["compact"] = json!({ "revision": request.revision, "physical": request.physical });
        }
        Some(Op::Alarm(request)) => {
            line["alarm"] = json!({
                "action": request.action().as_str_name(),
                "alarm": request.alarm().as_str_name(),
                "member": format!("{:x}", request.member_id),
            });
        }
        Some(Op::LeaseGrant(request)) => {
            line["lease_grant"] = json!({ "id": request.id, "ttl": request.ttl });
        }
        Some(Op::LeaseRevoke(request)) => line["lease_revoke"] = json!({ "id": request.id }),
        Some(Op::LeaseExpiry(expiry)) => {
            line["lease_expiry"] = json!({ "id": expiry.id, "term": expiry.term });
        }
        Some(Op::LeaseCheckpoints(noted)) => {
            let checkpoints = noted.checkpoints.iter();
            let left = checkpoints.map(|one| json!({ "id": one.id, "left": one.remaining_ttl }));
            line["lease_checkpoints"] =
                json!({ "term": noted.term, "leases": left.collect::<Vec<_>>() });
        }
        Some(Op::MemberChange(MemberChange {
            change: Some(change),
        })) => line["member_change"] = member_change(change),
        Some(Op::MemberChange(MemberChange { change: None })) | None => {
            line["unknown"] = true.into();
        }
    }
    line
}

fn member_change(change: &Change) -> Value {
    let id = |id: u64| format!("{id:x}");
    match change {
        Change::Bootstrap(change) => {
            json!({ "bootstrap": change.members.iter().map(member).collect::<Vec<_>>() })
        }
        Change::Add(change) => json!({
            "add": change.member.as_ref().map(member),
            "max_learners": change.max_learners,
        }),
        Change::Remove(change) => json!({ "remove": id(change.id) }),
        Change::Update(change) => {
            json!({ "update": id(change.id), "peer_urls": change.peer_urls })
        }
        Change::Promote(change) => json!({ "promote": id(change.id) }),
        Change::Publish(change) => json!({
            "publish": id(change.id),
            "name": change.name,
            "client_urls": change.client_urls,
        }),
    }
}

/// A member of the cluster.
fn member(member: &Member) -> Value {
    json!({
        "id": format!("{:x}", member.id),
        "name": member.name,
        "peer_urls": member.peer_urls,
        "client_urls": member.client_urls,
        "is_learner": member.is_learner,
    })
}

fn operation(request: &Request) -> Value {
    let mut line = json!({});
    match request {
        Request::RequestRange(request) => {
            add_interval(&mut line, &request.key, &request.range_end);
            line["revision"] = request.revision.into();
            line["limit"] = request.limit.into();
        }
        Request::RequestPut(request) => {
            add_bytes(&mut line, "key", &request.key);
            line["value_bytes"] = request.value.len().into();
            line["lease"] = format!("{:x}", request.lease).into();
            line["ignore_value"] = request.ignore_value.into();
            line["ignore_lease"] = request.ignore_lease.into();
        }
        Request::RequestDeleteRange(request) => {
            add_interval(&mut line, &request.key, &request.range_end);
        }
        Request::RequestTxn(request) => return transaction(request),
    }
    line
}

fn transaction(request: &TxnRequest) -> Value {
    let operations = |operations: &[RequestOp]| {
        let line = |request: &Request| {
            let name = match request {
                Request::RequestRange(_) => "range",
                Request::RequestPut(_) => "put",
                Request::RequestDeleteRange(_) => "delete_range",
                Request::RequestTxn(_) => "txn",
            };
            json!({ name: operation(request) })
        };
        operations
            .iter()
            .filter_map(|operation| operation.request.as_ref())
            .map(line)
            .collect::<Vec<_>>()
    };
    let compares = request.compare.iter().map(|compare| {
        let mut line = json!({});
        add_interval(&mut line, &compare.key, &compare.range_end);
        // What a value is compared with may be as secret as the value.
        line["target"] = compare.target().as_str_name().into();
        line["result"] = compare.result().as_str_name().into();
        line
    });
    json!({
        "compare": compares.collect::<Vec<_>>(),
        "success": operations(&request.success),
        "failure": operations(&request.failure),
    })
}

fn add_interval(line: &mut Value, key: &[u8], range_end: &[u8]) {
    add_bytes(line, "key", key);
    if !range_end.is_empty() {
        add_bytes(line, "range_end", range_end);
    }
}

/// As text if it is text, else in base64 under a name that says so.
fn add_bytes(line: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => line[name] = text.into(),
        _ => line[format!("{name}_base64")] = STANDARD.encode(bytes).into(),
    }
}

#[cfg(test)]
mod tests {
    use proto::etcd::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest};
    use store::log::{Log, LogOptions};
    use store::{Entry, Payload};

    use super::*;

    #[test]
    fn keys_are_text_where_they_can_be_and_values_are_never_shown() {
        let put = |key: &'static [u8]| PutRequest {
            key: key.into(),
            value: "secret".into(),
            ..PutRequest::default()
        };
        let nested = RequestOp {
            request: Some(Request::RequestPut(put(b"\0\xff"))),
        };
        let txn = TxnRequest {
            compare: vec![Compare {
                key: "a".into(),
                ..Compare::default()
            }],
            success: vec![nested],
            failure: vec![RequestOp {
                request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                    key: "b".into(),
                    range_end: "\0".into(),
                    ..DeleteRangeRequest::default()
                })),
            }],
        };
        let line = command(&Command {
            member: 0xab,
            boot: 2,
            sequence: 7,
            op: Some(Op::Txn(txn)),
            ..Command::default()
        });
        assert_eq!(line["member"], "ab");
        assert_eq!(line["txn"]["compare"][0]["target"], "VERSION");
        assert_eq!(line["txn"]["success"][0]["put"]["key_base64"], "AP8=");
        assert_eq!(line["txn"]["success"][0]["put"]["value_bytes"], 6);
        assert_eq!(
            line["txn"]["failure"][0]["delete_range"]["range_end_base64"],
            "AA=="
        );
        assert!(!line.to_string().contains("secret"));
    }

    fn written(folder: &std::path::Path, count: u64) {
        let fs = std::sync::Arc::new(RealFs::new(folder));
        let (log, mut worker, _) = Log::open(
            fs,
            LogOptions {
                segment_bytes: 1 << 16,
                ..LogOptions::new(1, 2)
            },
        )
        .unwrap();
        for index in 1..=count {
            let batch = command::Batch {
                format: 1,
                commands: vec![Command {
                    sequence: index,
                    op: Some(Op::Put(PutRequest {
                        key: "k".into(),
                        ..PutRequest::default()
                    })),
                    ..Command::default()
                }],
                ..command::Batch::default()
            };
            let payload = Payload::Commands(batch.encode_to_vec().into());
            log.append(
                vec![Entry {
                    id: LogId { term: 1, index },
                    payload,
                }],
                Box::new(|result| result.unwrap()),
            );
            worker.run_once();
        }
    }

    fn lines(
        folder: &std::path::Path,
        indexes: std::ops::RangeInclusive<u64>,
    ) -> (usize, Vec<Value>) {
        let mut output = Vec::new();
        let damages = print(&RealFs::new(folder), indexes, &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        (
            damages,
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        )
    }

    #[test]
    fn a_log_is_printed_record_by_record_and_a_part_of_it_entry_by_entry() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), 3);
        let (damages, all) = lines(folder.path(), 0..=u64::MAX >> 1);
        assert_eq!(damages, 0);
        assert_eq!(all[0]["kind"], "segment");
        assert_eq!(
            (all[0]["cluster_id"].as_str(), all[0]["member_id"].as_str()),
            (Some("1"), Some("2"))
        );
        let commands = |lines: &[Value]| {
            let entries = lines.iter().filter(|line| line["kind"] == "commands");
            entries
                .map(|line| line["commands"][0]["sequence"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(commands(&all), [1, 2, 3]);

        let (_, part) = lines(folder.path(), 2..=2);
        assert_eq!(part.len(), 1);
        assert_eq!(
            (part[0]["index"].as_u64(), part[0]["term"].as_u64()),
            (Some(2), Some(1))
        );
        assert_eq!(part[0]["commands"][0]["put"]["key"], "k");
    }

    #[test]
    fn damage_is_a_line_of_its_own_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path(), 3);
        let (_, all) = lines(folder.path(), 0..=u64::MAX >> 1);
        let first = all.iter().find(|line| line["index"] == 1).unwrap();
        let path = folder.path().join(first["segment"].as_str().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[usize::try_from(first["offset"].as_u64().unwrap()).unwrap() + 20] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let (damages, after) = lines(folder.path(), 0..=u64::MAX >> 1);
        assert_eq!(damages, 1);
        assert!(
            after
                .iter()
                .any(|line| line["kind"] == "damage" && line["offset"] == first["offset"])
        );
        assert!(
            after.iter().any(|line| line["index"] == 3),
            "what lies behind is still shown"
        );
    }
}
