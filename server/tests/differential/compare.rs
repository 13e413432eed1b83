//! What counts as the same answer.
//!
//! Compared is everything but what names the server (cluster, member, term), what etcd leaves open (the order of what
//! a sort finds equal), and what [`EXCEPTIONS`] lists.

use bytes::Bytes;
use proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use proto::etcd::mvccpb::KeyValue;
use tonic::Code;

use crate::command::{Answer, Command, Streamed};

/// A difference that is meant.
pub(crate) struct Exception {
    /// As `docs/compatibility.md` names it.
    pub(crate) name: &'static str,
    covers: fn(&Command, &Answer, &Answer) -> bool,
}

/// All of them. The reasons are in `docs/compatibility.md`, and a test holds the two lists together.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "`RangeStream` with a sort target but no order",
        // Of Holdfast's answer something else is asked, see `instead`.
        covers: |command, _, _| instead(command).is_some(),
    },
    Exception {
        name: "the previous value of an event at the compacted revision",
        covers: has_more_previous,
    },
    Exception {
        name: "`HashKV` of a revision that was compacted at",
        covers: is_kept_hash,
    },
];

/// What etcd is asked where its answer to a command says nothing of what Holdfast's should be: a stream that etcd sorts
/// piece by piece is to be all of the range, in key order. Its count and `more` go wrong there, too.
pub(crate) fn instead(command: &Command) -> Option<Command> {
    match command {
        Command::RangeStream(request)
            if request.sort_target() != SortTarget::Key
                && request.sort_order() == SortOrder::None =>
        {
            Some(Command::Range(RangeRequest {
                sort_target: SortTarget::Key.into(),
                ..request.clone()
            }))
        }
        _ => None,
    }
}

/// Whether a stream of Holdfast is, put together, what etcd has answered to the command that was sent [`instead`].
pub(crate) fn is_whole(instead: &Command, etcd: &Answer, holdfast: &Answer) -> bool {
    let together = match holdfast {
        Answer::RangeStream(Streamed {
            whole,
            faults,
            refused: None,
        }) if faults.is_empty() => Answer::Range(whole.clone()),
        other => other.clone(),
    };
    matches!(compare(instead, etcd, &together), Verdict::Same)
}

/// Whether Holdfast differs only in previous values at the revision that a watch begins with.
fn has_more_previous(command: &Command, etcd: &Answer, holdfast: &Answer) -> bool {
    let (Command::Watch(request), Answer::Watched(etcd), Answer::Watched(holdfast)) =
        (command, etcd, holdfast)
    else {
        return false;
    };
    let mut without = holdfast.clone();
    for (event, other) in without.events.iter_mut().zip(&etcd.events) {
        let revision = event.kv.as_ref().map(|kv| kv.mod_revision);
        if revision == Some(request.start_revision) && other.prev_kv.is_none() {
            event.prev_kv = None;
        }
    }
    without == *etcd
}

/// Whether etcd answers with a hash that it made at a compaction, of what there was before it.
fn is_kept_hash(command: &Command, etcd: &Answer, holdfast: &Answer) -> bool {
    let (Command::HashKv(request), Answer::HashKv(etcd)) = (command, etcd) else {
        return false;
    };
    if etcd.hash_revision != request.revision {
        return false;
    }
    match holdfast {
        // Of revision 0, which else means the newest, if ever that was compacted at.
        Answer::HashKv(holdfast) => {
            request.revision == 0 || holdfast.compact_revision == request.revision
        }
        Answer::Refused(code, _) => *code == Code::OutOfRange,
        _ => false,
    }
}

/// How two answers compare.
pub(crate) enum Verdict {
    Same,
    Excepted(&'static str),
    Different,
}

/// Compares etcd's answer to a command with Holdfast's.
pub(crate) fn compare(command: &Command, etcd: &Answer, holdfast: &Answer) -> Verdict {
    let (mut left, mut right) = (etcd.clone(), holdfast.clone());
    settle(command, &mut left);
    settle(command, &mut right);
    if left == right {
        return Verdict::Same;
    }
    match EXCEPTIONS
        .iter()
        .find(|exception| (exception.covers)(command, etcd, holdfast))
    {
        Some(exception) => Verdict::Excepted(exception.name),
        None => Verdict::Different,
    }
}

/// Takes out of an answer what may differ.
fn settle(command: &Command, answer: &mut Answer) {
    match (command, answer) {
        (Command::Range(request), Answer::Range(answer)) => settle_range(request, answer),
        (Command::RangeStream(_), Answer::RangeStream(answer)) => {
            settle_header(&mut answer.whole.header);
        }
        (Command::Txn(request), Answer::Txn(answer)) => settle_txn(request, answer),
        (_, Answer::Put(answer)) => settle_header(&mut answer.header),
        (_, Answer::DeleteRange(answer)) => settle_header(&mut answer.header),
        (_, Answer::Compact(answer)) => settle_header(&mut answer.header),
        (_, Answer::HashKv(answer)) => settle_header(&mut answer.header),
        (_, Answer::Alarm(answer)) => settle_header(&mut answer.header),
        _ => {}
    }
}

fn settle_header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        // That they are there at all must not differ.
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

fn settle_txn(request: &TxnRequest, answer: &mut TxnResponse) {
    settle_header(&mut answer.header);
    let branch = if answer.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (op, response) in branch.iter().zip(&mut answer.responses) {
        match (&op.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(answer))) => {
                settle_range(request, answer);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(answer))) => {
                settle_txn(request, answer);
            }
            _ => {}
        }
    }
}

/// etcd's sort is not stable: keys that it finds equal come in any order, and at the limit any of them may be left
/// out. So each group of equals is put in the order of keys, and of the last one before a cut only the size counts.
fn settle_range(request: &RangeRequest, answer: &mut RangeResponse) {
    settle_header(&mut answer.header);
    let target = request.sort_target();
    if target == SortTarget::Key {
        return;
    }
    // The value that was sorted by may be stripped: then all are one group.
    let is_hidden = target == SortTarget::Value && request.keys_only;
    let sorted_by = |kv: &KeyValue| match target {
        _ if is_hidden => (0, Bytes::new()),
        SortTarget::Version => (kv.version, Bytes::new()),
        SortTarget::Create => (kv.create_revision, Bytes::new()),
        SortTarget::Mod => (kv.mod_revision, Bytes::new()),
        SortTarget::Value | SortTarget::Key => (0, kv.value.clone()),
    };
    let mut settled = Vec::with_capacity(answer.kvs.len());
    let groups: Vec<_> = answer
        .kvs
        .chunk_by(|left, right| sorted_by(left) == sorted_by(right))
        .collect();
    let last = groups.len();
    for (place, group) in groups.into_iter().enumerate() {
        let mut group = group.to_vec();
        if answer.more && place + 1 == last {
            for kv in &mut group {
                let (number, value) = sorted_by(kv);
                *kv = KeyValue {
                    version: number,
                    value,
                    ..KeyValue::default()
                };
            }
        }
        group.sort_by(|left, right| left.key.cmp(&right.key));
        settled.extend(group);
    }
    answer.kvs = settled;
}

#[test]
fn every_exception_is_in_the_docs() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for exception in EXCEPTIONS {
        assert!(docs.contains(exception.name), "{}", exception.name);
    }
}

#[test]
fn a_stream_whose_pieces_etcd_sorts_has_to_be_the_whole_range() {
    let sorted = RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        sort_target: SortTarget::Mod.into(),
        ..RangeRequest::default()
    };
    let command = Command::RangeStream(sorted);
    let instead = instead(&command).unwrap();
    let kv = |key: &'static str| KeyValue {
        key: key.into(),
        ..KeyValue::default()
    };
    let whole = RangeResponse {
        header: Some(ResponseHeader {
            revision: 7,
            ..ResponseHeader::default()
        }),
        kvs: vec![kv("a"), kv("b"), kv("c")],
        more: true,
        count: 5,
    };
    let etcd = Answer::Range(whole.clone());
    let is_right = |streamed: Streamed| is_whole(&instead, &etcd, &Answer::RangeStream(streamed));
    let streamed = |whole: RangeResponse| Streamed {
        whole,
        ..Streamed::default()
    };
    assert!(is_right(streamed(whole.clone())));
    let wrong: [fn(&mut RangeResponse); 6] = [
        |whole| drop(whole.kvs.remove(1)),
        |whole| whole.kvs.swap(0, 1),
        |whole| whole.kvs[2].version = 1,
        |whole| whole.count = 3,
        |whole| whole.more = false,
        |whole| whole.header.as_mut().unwrap().revision = 8,
    ];
    for make_wrong in wrong {
        let mut other = whole.clone();
        make_wrong(&mut other);
        assert!(!is_right(streamed(other.clone())), "{other:?}");
    }
    let refusal = || (Code::OutOfRange, "compacted".to_owned());
    assert!(!is_right(Streamed {
        refused: Some(refusal()),
        ..streamed(whole.clone())
    }));
    assert!(!is_right(Streamed {
        faults: vec!["an empty piece"],
        ..streamed(whole)
    }));
    let (code, text) = refusal();
    let refused = Answer::Refused(code, text);
    assert!(!is_whole(&instead, &etcd, &refused));
    assert!(is_whole(&instead, &refused, &refused));
}
