//! Short ways to write commands and entries down.

use prost::Message;
use proto::command::{Batch, Command, command::Op};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use store::{
    Answer, BATCH_FORMAT, Entry, FEATURE_LEVEL, LogId, Machine, Outcome, Payload, RangeAnswer,
    Refusal,
};

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn compact(revision: i64) -> Op {
    Op::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

pub(crate) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// A transaction without compares, whose operations therefore run.
pub(crate) fn txn(ops: Vec<Request>) -> Op {
    Op::Txn(TxnRequest {
        success: ops.into_iter().map(op).collect(),
        ..Default::default()
    })
}

/// An entry of these commands; their sequence numbers count from 0.
pub(crate) fn entry(index: u64, ops: Vec<Op>) -> Entry {
    let commands = ops.into_iter().enumerate().map(|(sequence, op)| Command {
        member: 1,
        boot: 1,
        sequence: sequence as u64,
        op: Some(op),
        ..Default::default()
    });
    let batch = Batch {
        format: BATCH_FORMAT,
        feature_level: FEATURE_LEVEL,
        leader_time_ms: 0,
        commands: commands.collect(),
    };
    Entry {
        id: LogId { term: 1, index },
        payload: Payload::Commands(batch.encode_to_vec().into()),
    }
}

/// Applies commands as the next entry.
pub(crate) fn apply(machine: &mut Machine, ops: Vec<Op>) -> Outcome {
    let index = machine.applied().map_or(1, |applied| applied.index + 1);
    machine.apply(&[entry(index, ops)]).unwrap()
}

/// Applies one command as the next entry.
pub(crate) fn apply_one(machine: &mut Machine, op: Op) -> Result<Answer, Refusal> {
    apply(machine, vec![op]).answers.remove(0).outcome
}

/// Reads the newest view.
pub(crate) fn read(machine: &Machine, request: &RangeRequest) -> Result<RangeAnswer, Refusal> {
    let reader = machine.reader();
    reader.range(&reader.view(), request).unwrap()
}

/// Keys of an answer, as text.
pub(crate) fn keys(answer: &RangeAnswer) -> Vec<&str> {
    answer
        .records
        .iter()
        .map(|record| std::str::from_utf8(record.key()).unwrap())
        .collect()
}
