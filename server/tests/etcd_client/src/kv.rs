//! Keys and values: puts, gets of all kinds, deletes, transactions, compaction, and how a refusal is understood.

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, GetResponse, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};

fn pairs(answer: &GetResponse) -> Result<Vec<(&str, &str)>> {
    let pairs = answer.kvs().iter();
    let pairs = pairs.map(|kv| Ok((kv.key_str()?, kv.value_str()?)));
    pairs.collect()
}

pub(crate) async fn work(mut client: Client) -> Result<()> {
    for (key, value) in [("k/a", "1"), ("k/b", "2"), ("k/c", "3")] {
        client.put(key, value, None).await?;
    }
    let options = PutOptions::new().with_prev_key();
    let answer = client.put("k/a", "4", Some(options)).await?;
    let previous = answer.prev_key().context("no previous value")?;
    ensure!(previous.value_str()? == "1" && previous.version() == 1);

    let answer = client.get("k/a", None).await?;
    ensure!(pairs(&answer)? == [("k/a", "4")] && answer.kvs()[0].version() == 2);
    let options = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Value, SortOrder::Descend)
        .with_limit(2);
    let answer = client.get("k/", Some(options)).await?;
    ensure!(pairs(&answer)? == [("k/a", "4"), ("k/c", "3")], "{answer:?}");
    ensure!(answer.count() == 3 && answer.more());
    let past = previous.mod_revision();
    let answer = client
        .get("k/a", Some(GetOptions::new().with_revision(past)))
        .await?;
    ensure!(pairs(&answer)? == [("k/a", "1")]);

    let txn = |value: &str| {
        Txn::new()
            .when([Compare::value("k/b", CompareOp::Equal, "2")])
            .and_then([
                TxnOp::put("k/b", value, None),
                TxnOp::get("k/b", None),
                TxnOp::delete("k/c", None),
            ])
            .or_else([TxnOp::get("k/", Some(GetOptions::new().with_prefix()))])
    };
    let answer = client.txn(txn("5")).await?;
    ensure!(answer.succeeded());
    match &answer.op_responses()[..] {
        [
            TxnOpResponse::Put(_),
            TxnOpResponse::Get(get),
            TxnOpResponse::Delete(delete),
        ] => ensure!(pairs(get)? == [("k/b", "5")] && delete.deleted() == 1),
        other => anyhow::bail!("{other:?}"),
    }
    let answer = client.txn(txn("6")).await?;
    ensure!(!answer.succeeded());
    match &answer.op_responses()[..] {
        [TxnOpResponse::Get(get)] => ensure!(pairs(get)? == [("k/a", "4"), ("k/b", "5")]),
        other => anyhow::bail!("{other:?}"),
    }

    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let answer = client.delete("k/", Some(options)).await?;
    ensure!(answer.deleted() == 2 && answer.prev_kvs().len() == 2);
    let revision = answer.header().context("no header")?.revision();
    client.compact(revision, None).await?;
    let options = GetOptions::new().with_revision(past);
    match client.get("k/a", Some(options)).await {
        Err(Error::GRpcStatus(status)) => ensure!(
            status.message() == "etcdserver: mvcc: required revision has been compacted"
        ),
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}
