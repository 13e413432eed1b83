//! Transactions: compares choose the path, checks cover the whole path, then its operations run in order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::etcdserverpb::request_op::Request;
use proto::etcd::etcdserverpb::response_op::Response;
use proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

use super::range::{
    self, Interval, POINT_READS, RangeTotals, Selection, Source, full, paced_versions,
};
use super::writer::{Writer, header};
use crate::answer::Refusal;
use crate::engine::Step;
use crate::error::StoreError;
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::record::{Record, Tags, Tip};

/// The branch that the compares chose, nested transactions included.
pub(super) struct Path<'a> {
    pub(super) succeeded: bool,
    pub(super) steps: Vec<PathStep<'a>>,
}

/// One operation of a path.
pub(super) enum PathStep<'a> {
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    Txn(Path<'a>),
    /// An operation that says nothing.
    Nothing,
}

impl Path<'_> {
    /// Whether the answer holds keys and values.
    fn has_data(&self) -> bool {
        self.steps.iter().any(|step| match step {
            PathStep::Range(_) => true,
            PathStep::Put(request) => request.prev_kv,
            PathStep::DeleteRange(request) => request.prev_kv,
            PathStep::Txn(path) => path.has_data(),
            PathStep::Nothing => false,
        })
    }
}

impl Writer<'_> {
    /// Carries out a transaction, or nothing of it.
    pub(crate) fn txn(
        &mut self,
        request: &TxnRequest,
    ) -> Result<Result<TxnResponse, Refusal>, StoreError> {
        // The whole path is chosen by the state before the transaction.
        let path = choose(&self.source(), request)?;
        if let Err(refusal) = self.check_path(&path) {
            return Ok(Err(refusal));
        }
        // What is read shows what was written before it, so only by carrying it out does one learn how long it is.
        let end = self.batch.end();
        self.formers = path.has_data().then(Vec::new);
        let mut response = self.run(&path)?;
        if self.room.is_over() {
            self.take_back(end);
            return Ok(Err(Refusal::AnswerTooLong));
        }
        self.formers = None;
        self.keep_superseded();
        response.header = self.header();
        Ok(Ok(response))
    }

    /// What must hold before anything of a path is written.
    fn check_path(&self, path: &Path<'_>) -> Result<(), Refusal> {
        for step in &path.steps {
            match step {
                PathStep::Range(request) => check_range(&self.source(), request)?,
                PathStep::Put(request) => self.check_put(request)?,
                PathStep::Txn(path) => self.check_path(path)?,
                PathStep::DeleteRange(_) | PathStep::Nothing => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, path: &Path<'_>) -> Result<TxnResponse, StoreError> {
        let mut responses = Vec::with_capacity(path.steps.len());
        for step in &path.steps {
            if self.room.is_over() {
                break;
            }
            let response = match step {
                PathStep::Range(request) => Some(Response::ResponseRange(self.txn_range(request)?)),
                PathStep::Put(request) => Some(Response::ResponsePut(self.put_checked(request)?)),
                PathStep::DeleteRange(request) => {
                    Some(Response::ResponseDeleteRange(self.delete_range(request)?))
                }
                PathStep::Txn(path) => Some(Response::ResponseTxn(self.run(path)?)),
                PathStep::Nothing => None,
            };
            responses.push(ResponseOp { response });
        }
        // Of a nested transaction the header stays empty.
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse {
            header,
            succeeded: path.succeeded,
            responses,
        })
    }

    /// A range inside a transaction sees the writes before it, unless it names a revision.
    fn txn_range(&mut self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let shown = self.shown_revision();
        let source = Source {
            revision: shown,
            room: Some(&self.room),
            ..self.source()
        };
        let mut kvs = Vec::new();
        let mut visit = |record: &Record| kvs.push(record.to_key_value());
        let asked = request.revision;
        let totals = if asked <= 0 || asked == shown {
            range::range(&source, request, &mut visit)?
        } else if asked <= self.written_revision {
            let index = self.twin.published();
            let revision = self.written_revision;
            let written = Source {
                index,
                revision,
                is_written: true,
                ..source
            };
            range::range(&written, request, &mut visit)?
        } else {
            let tips = self.tips_at(request, asked);
            range::range_of(&source, request, tips, &mut visit)?
        };
        // Revisions were checked before the first write, and what has no room says so there.
        let RangeTotals { count, more } = totals.unwrap_or_default();
        Ok(RangeResponse {
            header: header(shown),
            kvs,
            more,
            count,
        })
    }

    /// The tips of a selection at a revision of this batch, which neither an index nor the engine shows.
    fn tips_at(&self, request: &RangeRequest, revision: i64) -> Vec<Tip> {
        let selection = Selection::new(&request.key, &request.range_end);
        let mut tips: BTreeMap<Vec<u8>, Tip> = BTreeMap::new();
        let mut add = |tip: &Tip| tips.insert(tip.key().to_vec(), tip.clone());
        match selection {
            Selection::Key(key) => {
                self.twin.published().get(key).map(&mut add);
            }
            Selection::Interval(interval) => {
                self.twin.published().range(&interval).for_each(|tip| {
                    add(tip);
                });
            }
        }
        let changes = self.sets.iter().take_while(|set| set.revision <= revision);
        for change in changes.flat_map(|set| &set.changes) {
            let key = change.record.key();
            if !selection.contains(key) {
                continue;
            }
            if change.is_delete {
                tips.remove(key);
            } else {
                tips.insert(key.to_vec(), Tip::from(change.record.clone()));
            }
        }
        tips.into_values().collect()
    }
}

/// Chooses the path by what `source` shows.
pub(super) fn choose<'r>(
    source: &Source<'_>,
    request: &'r TxnRequest,
) -> Result<Path<'r>, StoreError> {
    choose_at(source, request, false)
}

fn choose_at<'r>(
    source: &Source<'_>,
    request: &'r TxnRequest,
    is_nested: bool,
) -> Result<Path<'r>, StoreError> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    let takes_other = is_nested && mutant::is_on(Mutant::WrongNestedBranch);
    let ops = if succeeded != takes_other {
        &request.success
    } else {
        &request.failure
    };
    let step = |op: &'r RequestOp| {
        Ok(match &op.request {
            Some(Request::RequestRange(request)) => PathStep::Range(request),
            Some(Request::RequestPut(request)) => PathStep::Put(request),
            Some(Request::RequestDeleteRange(request)) => PathStep::DeleteRange(request),
            Some(Request::RequestTxn(request)) => PathStep::Txn(choose_at(source, request, true)?),
            None => PathStep::Nothing,
        })
    };
    let steps = ops.iter().map(step).collect::<Result<_, StoreError>>()?;
    Ok(Path { succeeded, steps })
}

/// Whether every key of a compare satisfies it; no key at all is one missing key. False as well once the pace is over.
fn holds(source: &Source<'_>, compare: &Compare) -> Result<bool, StoreError> {
    let interval = match Selection::new(&compare.key, &compare.range_end) {
        Selection::Key(key) => return tip_holds(source, compare, source.index.get(key)),
        Selection::Interval(interval) => interval,
    };
    let tips = source.index.range(&interval);
    if tips.len() == 0 {
        return tip_holds(source, compare, None);
    }
    let is_of_values = compare.target == CompareTarget::Value as i32;
    let mut point_reads = 0;
    for tip in tips {
        if is_of_values && tip.record().is_none() {
            if point_reads == POINT_READS {
                let start = tip.key();
                return values_hold(source, compare, Interval { start, ..interval });
            }
            point_reads += 1;
        }
        if !tip_holds(source, compare, Some(tip))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// [`holds`] of values of which many are not in memory: one scan reads them.
fn values_hold(
    source: &Source<'_>,
    compare: &Compare,
    interval: Interval<'_>,
) -> Result<bool, StoreError> {
    let check = |tip: &Tip, stored: Option<&Record>| {
        if !source.spend(1) {
            return Ok(false);
        }
        // What a batch has written is in the index and in memory, and not in the engine yet.
        let stored = stored.filter(|stored| stored.key() == tip.key());
        let record = tip.record().or(stored);
        let missing = || StoreError::damaged("a key of the index has no version in family kv");
        let value = record.ok_or_else(missing)?.value();
        Ok(satisfies(compare, value.cmp(wanted_value(compare))))
    };
    let mut tips = source.index.range(&interval).peekable();
    let mut holds = true;
    paced_versions(
        source.engine,
        &Selection::Interval(interval),
        source.revision,
        source.pace,
        &mut |stored| {
            let record = layout::kv_value(stored)?.2;
            // Of a key that the batch has deleted there is no tip.
            while holds && let Some(tip) = tips.next_if(|tip| tip.key() <= record.key()) {
                holds = check(tip, Some(&record))?;
            }
            Ok(if holds { Step::Next } else { Step::Stop })
        },
    )?;
    while holds && let Some(tip) = tips.next() {
        holds = check(tip, None)?;
    }
    Ok(holds)
}

fn tip_holds(
    source: &Source<'_>,
    compare: &Compare,
    tip: Option<&Tip>,
) -> Result<bool, StoreError> {
    if !source.spend(1) {
        return Ok(false);
    }
    let tags = tip.map_or(Tags::default(), Tip::tags);
    let union = compare.target_union.as_ref();
    let number = |found: i64, wanted: Option<i64>| found.cmp(&wanted.unwrap_or(0));
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(
            tags.version,
            union.and_then(|union| match union {
                TargetUnion::Version(version) => Some(*version),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Create) => number(
            tags.create_revision,
            union.and_then(|union| match union {
                TargetUnion::CreateRevision(revision) => Some(*revision),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Mod) => number(
            tags.mod_revision,
            union.and_then(|union| match union {
                TargetUnion::ModRevision(revision) => Some(*revision),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Lease) => number(
            tags.lease,
            union.and_then(|union| match union {
                TargetUnion::Lease(lease) => Some(*lease),
                _ => None,
            }),
        ),
        Ok(CompareTarget::Value) => {
            // A missing key has no value that could equal or differ.
            let Some(tip) = tip else { return Ok(false) };
            if tip.record().is_none() && !source.reads(tip.encoded_len()) {
                return Ok(false);
            }
            full(source.engine, tip)?.value().cmp(wanted_value(compare))
        }
        // As etcd does with numbers that it does not know.
        Err(_) => Ordering::Equal,
    };
    Ok(satisfies(compare, order))
}

/// What a compare of values compares to.
fn wanted_value(compare: &Compare) -> &[u8] {
    match &compare.target_union {
        Some(TargetUnion::Value(value)) => value,
        _ => &[],
    }
}

/// Whether a compare is content with how what was found compares to what it wants.
fn satisfies(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

/// Whether a range of a transaction may be read at the revision it names.
pub(super) fn check_range(source: &Source<'_>, request: &RangeRequest) -> Result<(), Refusal> {
    let requested = request.revision;
    if requested > source.revision {
        return Err(Refusal::FutureRevision {
            requested,
            current: source.revision,
        });
    }
    // Here, and not outside transactions, a negative revision counts as one.
    if requested != 0 && requested < source.compact_revision {
        return Err(Refusal::Compacted {
            requested,
            compacted: source.compact_revision,
        });
    }
    Ok(())
}
